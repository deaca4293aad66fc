#!/bin/sh
# The guest's user space: loads the drivers, runs the mode in the command line, prints results as lines that
# xtask parses, and powers off.
#
#   CHECK <name>: ok|FAIL <detail>     VALUE <name> <value>
#   ATTACK <name>: landed|blocked      CONTROL <name>: ok|FAIL <detail>
#   GUEST: done
#
# portcullis.mode= selects check (default), attack_passthrough, attack_runtime, attack_unbound,
# devices, module, hand_over, load, shell, or a kexec_ mode; the second kernel gets an after_ mode.

. /common.sh

value() { echo "VALUE $*"; }
ok() { echo "CHECK $1: ok $2"; }

# check NAME DETAIL COMMAND...: ok if the command succeeds.
check() {
    name=$1 detail=$2
    shift 2
    if "$@"; then ok "$name" "$detail"; else bad "$name" "$detail"; fi
}

leave() {
    # Kernel warnings are printed for information only.
    dmesg | grep -E -i 'arm-smmu-v3|BUG:|WARNING:|Oops|Call trace|nvme.*(timeout|abort)' | tail -n 25
    echo "GUEST: done"
    sync
    poweroff -f
    # If power-off fails, only wait: the run then times out.
    sleep 60
}

drop_caches() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

# md5_of DEVICE SKIP_MIB COUNT_MIB
md5_of() { dd if="$1" bs=1M skip="$2" count="$3" 2>/dev/null | md5sum | cut -d' ' -f1; }

# smmu_of DEVICE: the SMMU that the PCI function in sysfs is behind.
smmu_of() { basename "$(readlink -f "$1/iommu")"; }

check_boot() {
    check el1 "$(dmesg | grep -o 'CPU: All CPU(s) started at .*' | head -n 1)" \
        sh -c "dmesg | grep -q 'started at EL1'"
    features=$(dmesg | grep -o 'arm-smmu-v3 .*features 0x[0-9a-f]*' | grep -o '0x[0-9a-f]*$' | head -n 1)
    value smmu_features "${features:-none}"
    # Bit 9 of the driver's feature word: stage 1 is supported.
    check smmu "$(dmesg | grep -o 'arm-smmu-v3 .*ias .*' | head -n 1)" \
        test $((${features:-0} & 0x200)) -ne 0
    value smmus "$(dmesg | grep -c 'arm-smmu-v3 .*: ias .*')"
    value kernel "$(uname -r)"
    value cpus "$(nproc)"
}

# Tests the firmware's runtime services: they run at EL1 and need memory and flash that EL2 gives to the host.
check_firmware() {
    [ -d /sys/firmware/efi ] || return
    [ -e /sys/firmware/acpi/tables/IORT ] && [ ! -e /proc/device-tree/chosen/stdout-path ] && value description acpi
    variables=/sys/firmware/efi/efivars
    mount -t efivarfs none $variables || bad firmware_variable "no efivarfs"
    variable=$variables/Portcullis-5a1f0c3e-7c1b-4c55-9d3e-0b8d2f6f3a41
    printf '\007\000\000\000written' >$variable
    check firmware_variable "written and read back" test "$(tail -c +5 $variable)" = written
    check firmware_clock "$(cat /sys/class/rtc/rtc0/name)" grep -q 20 /sys/class/rtc/rtc0/date
}

check_disks() {
    if [ ! -e /sys/block/nvme0n1 ] && [ "$(option devices)" = none ]; then return; fi
    wait_for 20 test -b /dev/nvme0n1 || bad nvme "no /dev/nvme0n1"
    wait_for 20 test -b /dev/vda || bad virtio_blk "no /dev/vda"
    value nvme_domain "$(cat /sys/class/nvme/nvme0/device/iommu_group/type)"
    value virtio_blk_domain "$(cat "$(readlink -f /sys/block/vda/device/..)/iommu_group/type")"
    value nvme_smmu "$(smmu_of /sys/class/nvme/nvme0/device)"
    value virtio_blk_smmu "$(smmu_of "$(readlink -f /sys/block/vda/device/..)")"
    value nvme_md5 "$(md5_of /dev/nvme0n1 0 16)"
    value virtio_blk_md5 "$(md5_of /dev/vda 0 16)"

    dd if=/dev/urandom of=/tmp/written bs=1M count=16 2>/dev/null
    written=$(md5sum </tmp/written | cut -d' ' -f1)
    dd if=/tmp/written of=/dev/nvme0n1 bs=1M seek=32 conv=fsync 2>/dev/null
    rm /tmp/written
    drop_caches
    read_back=$(md5_of /dev/nvme0n1 32 16)
    check nvme_write "16 MiB read back" test "$written" = "$read_back"
}

check_network() {
    ip=10.0.2.15
    link=$(ls /sys/class/net | grep -v lo | head -n 1)
    if [ -z "$link" ]; then
        [ "$(option devices)" = none ] || bad network "no network device"
        return
    fi
    ifconfig lo 127.0.0.1 up
    ifconfig "$link" $ip netmask 255.255.255.0 up
    wait_for 20 grep -q 1 "/sys/class/net/$link/carrier" || bad link "no carrier"
    check ping "$(basename "$(readlink "/sys/class/net/$link/device/driver")")" \
        wait_for 10 sh -c 'ping -c 1 -W 2 10.0.2.2 >/dev/null'
    tftp -g -r packets.bin -l /tmp/packets.bin 10.0.2.2 || bad tftp "no answer"
    value net_md5 "$(md5sum </tmp/packets.bin | cut -d' ' -f1)"
    value net_rx_packets "$(cat "/sys/class/net/$link/statistics/rx_packets")"
    value net_tx_packets "$(cat "/sys/class/net/$link/statistics/tx_packets")"
}

# Reads the NVMe disk without the page cache until it is stopped, and compares the data of every round.
read_rounds() {
    while [ ! -e /tmp/stop ]; do
        drop_caches
        [ "$(md5_of /dev/nvme0n1 0 4)" = "$1" ] || echo wrong >>/tmp/wrong
        echo . >>/tmp/rounds
    done
    touch /tmp/stopped
}

# Waits for the end of two more rounds of the reader; the second one started after this call.
more_rounds() {
    until=$(($(wc -l </tmp/rounds) + 2))
    wait_for 30 sh -c "[ \$(wc -l </tmp/rounds) -ge $until ]"
}

check_hotplug() {
    last=$(($(nproc) - 1))
    value hotplug_cpus $last
    [ $last -gt 0 ] && [ -b /dev/nvme0n1 ] || return
    : >/tmp/rounds
    read_rounds "$(md5_of /dev/nvme0n1 0 4)" &
    more_rounds || bad hotplug "the reader does not start"
    for cpu in $(seq 1 $last); do
        echo 0 >/sys/devices/system/cpu/cpu$cpu/online || bad hotplug "cpu$cpu off"
    done
    check hotplug_off "one CPU left" test "$(nproc)" -eq 1
    more_rounds || bad hotplug "no reading with one CPU"
    for cpu in $(seq 1 $last); do
        echo 1 >/sys/devices/system/cpu/cpu$cpu/online || bad hotplug "cpu$cpu on"
    done
    check hotplug_on "all CPUs back" test "$(nproc)" -eq $((last + 1))
    more_rounds || bad hotplug "no reading afterwards"
    touch /tmp/stop
    wait_for 20 test -e /tmp/stopped || bad hotplug "the reader is stuck"
    check hotplug_io "$(wc -l </tmp/rounds) rounds of reading" test ! -e /tmp/wrong
}

case "$(option mode)" in
after_adopt)
    . /attack.sh
    . /kexec.sh
    # Before any driver makes DMA through the SMMU.
    adopt
    load_drivers
    second_kernel adopt
    leave
    ;;
esac
load_drivers
case "$(option mode)" in
shell)
    echo "Leave the shell to power off."
    # With a fixed size the shell does not query the terminal; a query would consume input.
    stty rows 24 cols 80 </dev/ttyAMA0
    setsid cttyhack sh
    ;;
module)
    . /module.sh
    check_boot
    module_test
    ;;
hand_over)
    . /devices.sh
    . /hand_over.sh
    hand_over_test
    ;;
load)
    . /load.sh
    check_boot
    load_test
    ;;
devices)
    . /devices.sh
    devices_test first
    ;;
kexec_devices)
    . /devices.sh
    devices_test first
    next_kernel
    ;;
after_devices)
    . /devices.sh
    devices_test second
    ;;
kexec_*)
    . /kexec.sh
    check_boot
    mode=$(option mode)
    first_kernel "${mode#kexec_}"
    ;;
after_*)
    . /attack.sh
    . /kexec.sh
    check_boot
    mode=$(option mode)
    second_kernel "${mode#after_}"
    ;;
attack_*)
    . /attack.sh
    check_boot
    "$(option mode)"
    ;;
*)
    check_boot
    check_firmware
    check_disks
    check_network
    check_hotplug
    ;;
esac
leave
