# Sourced by init for the modes `devices`, `kexec_devices`, `after_devices` and `hand_over`: interrupts are moved
# between CPUs, drivers are unbound and bound, functions are removed and found by a rescan. After each step the devices
# must work: the disks have the same digest, and the network transfers the same file. Names of checks begin with the
# name of the kernel: first_ or second_.

pci=/sys/bus/pci
DISK_MIB=2
ROUNDS=2

slot_of() { basename "$(readlink -f "$1/device")"; }
driver_of() { basename "$(readlink "$pci/devices/$1/driver")"; }
the_link() { ls /sys/class/net | grep -v lo | head -n 1; }

# interrupts SLOT CPU: the number of the function's MSIs that this CPU has taken.
interrupts() {
    for irq in "$pci/devices/$1/msi_irqs/"*; do
        awk -v irq="$(basename "$irq"):" -v column=$(($2 + 2)) '$1 == irq { print $column }' /proc/interrupts
    done | awk '{ sum += $1 } END { print sum + 0 }'
}

# use_disk NODE MD5: reads the disk, which must have this digest.
use_disk() {
    wait_for 20 test -b "/dev/$1" || return 1
    drop_caches
    [ "$(md5_of "/dev/$1" 0 $DISK_MIB)" = "$2" ]
}

use_nvme() { use_disk nvme0n1 "$nvme_before"; }
use_virtio_blk() { use_disk vda "$virtio_blk_before"; }

# An Identify command of the admin queue.
use_nvme_admin() {
    echo 1 >/sys/class/nvme/nvme0/rescan_controller
    sleep 1
}

use_network() {
    wait_for 20 sh -c '[ -n "$(ls /sys/class/net | grep -v lo)" ]' || return 1
    link=$(the_link)
    ifconfig "$link" 10.0.2.15 netmask 255.255.255.0 up
    wait_for 20 grep -q 1 "/sys/class/net/$link/carrier" || return 1
    wait_for 10 sh -c 'ping -c 1 -W 2 10.0.2.2 >/dev/null' || return 1
    rm -f /tmp/again.bin
    tftp -g -r packets.bin -l /tmp/again.bin 10.0.2.2 || return 1
    [ "$(md5sum </tmp/again.bin | cut -d' ' -f1)" = "$network_before" ]
}

# A few packets.
ping_gateway() { ping -c 2 -W 2 10.0.2.2 >/dev/null; }

# moved SLOT USE: sets the affinity of each MSI of the function to each CPU in turn; the CPU must take the MSIs that USE
# causes. The affinity of a queue's interrupt cannot be set.
moved() {
    for cpu in $(seq $(($(nproc) - 1)) -1 0); do
        accepted=0
        for irq in "$pci/devices/$1/msi_irqs/"*; do
            irq=/proc/irq/$(basename "$irq")
            echo "$cpu" 2>/dev/null >"$irq/smp_affinity_list" || continue
            accepted=$((accepted + 1))
            # The new affinity takes effect immediately, or when the interrupt is next taken.
            [ "$(cat "$irq/smp_affinity_list")" = "$cpu" ] || return 1
        done
        [ $accepted -gt 0 ] || return 1
        "$2" || return 1
        before=$(interrupts "$1" "$cpu")
        "$2" || return 1
        [ "$(interrupts "$1" "$cpu")" -gt "$before" ] || return 1
    done
}

# Every CPU reads the NVMe through its own queue and must take that queue's interrupt.
each_cpu_interrupted() {
    for cpu in $(seq 0 $(($(nproc) - 1))); do
        before=$(interrupts "$nvme" "$cpu")
        taskset "$(printf '%x' $((1 << cpu)))" dd if=/dev/nvme0n1 of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null
        [ "$(interrupts "$nvme" "$cpu")" -gt "$before" ] || return 1
    done
}

# rebound SLOT USE
rebound() {
    driver=$(driver_of "$1")
    for _ in $(seq $ROUNDS); do
        echo "$1" >"$pci/drivers/$driver/unbind" || return 1
        [ ! -e "$pci/devices/$1/driver" ] || return 1
        echo "$1" >"$pci/drivers/$driver/bind" || return 1
        "$2" || return 1
    done
}

# Removes all three functions and rescans.
rescanned() {
    for _ in $(seq $ROUNDS); do
        for slot in "$nvme" "$virtio_blk" "$network"; do
            echo 1 >"$pci/devices/$slot/remove" || return 1
            [ ! -e "$pci/devices/$slot" ] || return 1
        done
        echo 1 >$pci/rescan
        use_nvme && use_virtio_blk && use_network || return 1
    done
}

# The functions, and the expected digests.
name_devices() {
    nvme=$(slot_of /sys/class/nvme/nvme0)
    network=$(slot_of "/sys/class/net/$(the_link)")
    virtio_blk=$(readlink -f /sys/block/vda | grep -o '0000:[0-9a-f:.]*/virtio' | cut -d/ -f1)
    nvme_before=$(md5_of /dev/nvme0n1 0 $DISK_MIB)
    virtio_blk_before=$(md5_of /dev/vda 0 $DISK_MIB)
    network_before=$(md5sum </tmp/packets.bin | cut -d' ' -f1)
}

# check_devices KERNEL: runs after the checks of the disks and the network, which set the digests.
check_devices() {
    begin=$(cut -d. -f1 /proc/uptime)
    name_devices

    check "$1_interrupt_per_cpu" "each CPU's queue of the NVMe" each_cpu_interrupted
    check "$1_network_affinity" "MSI-X of $(driver_of "$network") on each CPU" moved "$network" ping_gateway
    check "$1_nvme_affinity" "the admin queue's on each CPU" moved "$nvme" use_nvme_admin
    check "$1_rebind_nvme" "$ROUNDS times" rebound "$nvme" use_nvme
    check "$1_rebind_virtio_blk" "$ROUNDS times" rebound "$virtio_blk" use_virtio_blk
    check "$1_rebind_network" "$ROUNDS times" rebound "$network" use_network
    check "$1_rescan" "three functions, $ROUNDS times" rescanned
    check "$1_interrupt_per_cpu_again" "each CPU's queue of the NVMe" each_cpu_interrupted
    drop_caches
    value nvme_md5 "$(md5_of /dev/nvme0n1 0 16)"
    value virtio_blk_md5 "$(md5_of /dev/vda 0 16)"
    value "$1_devices_seconds" $(($(cut -d. -f1 /proc/uptime) - begin))
}

# Starts the next kernel, which runs the same checks.
next_kernel() {
    . /kexec.sh
    kexec -i -c -l --mem-min=$NEXT_KERNEL --initrd=/kexec/initrd --dtb=/sys/firmware/fdt \
        --command-line="console=ttyAMA0 panic=-1 portcullis.mode=after_devices" /kexec/Image ||
        bad kexec_load "$(dmesg | tail -n 3 | tr '\n' ' ')"
    check kexec_loaded "" grep -q 1 /sys/kernel/kexec_loaded
    kexec -e
    bad kexec "no other kernel took over"
}

devices_test() {
    check_boot
    check_disks
    check_network
    check_devices "$1"
    check_hotplug
}
