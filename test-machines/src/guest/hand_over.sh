# Sourced by init, after devices.sh, for the mode `hand_over`: the NVMe is assigned to a guest and returned; then Linux
# binds the driver and reads the disk.

HAND_OVERS=4

# reaches_config, reaches_registers: whether the kernel can read the function's configuration space, and root its BAR.
reaches_config() { [ "$(dd if="$pci/devices/$nvme/config" bs=4 count=1 2>/dev/null | hexdump -v -e '4/1 "%02x"')" != ffffffff ]; }
reaches_registers() { devmem "$bar" 32 >/dev/null 2>&1; }

# Without a driver, root can map the BAR. Memory decoding is enabled while the function is the host's.
control_hand_over() {
    if reaches_config && reaches_registers; then
        echo "CONTROL hand_over_$1: ok"
    else
        echo "CONTROL hand_over_$1: FAIL the kernel does not reach its own function"
    fi
}

# Meanwhile the other disk is read and pages change owner.
others() {
    while [ ! -e /tmp/stop ]; do
        use_virtio_blk || echo "virtio-blk" >>/tmp/wrong.others_meanwhile
        echo 5 >"$edu/churn" || echo "pages" >>/tmp/wrong.others_meanwhile
        echo . >>/tmp/rounds.others
    done
    touch /tmp/ended.others
}

note() { echo "round $round: $2" >>"/tmp/wrong.$1"; }

# One assignment and return. Errors are written to the files.
hand_over() {
    echo "$nvme" >$pci/drivers/nvme/unbind || note given "unbind"
    if ! echo "$nvme" >"$edu/assign"; then
        note given "$(dmesg | tail -n 2 | tr '\n' ' ')"
        return
    fi
    reaches_config && echo . >>/tmp/landed.config
    reaches_registers && echo . >>/tmp/landed.registers
    echo back >"$edu/back" || note given "back: $(dmesg | tail -n 2 | tr '\n' ' ')"
    echo "$nvme" >$pci/drivers/nvme/bind || note driver_after_return "bind"
    use_nvme || note disk_after_return "another digest, or no disk"
    each_cpu_interrupted || note interrupts_after_return "no interrupt"
    given=$((given + 1))
}

verdict() { check "$1" "$2$(head -n 3 "/tmp/wrong.$1" 2>/dev/null | tr '\n' ' ')" test ! -e "/tmp/wrong.$1"; }
attack() { [ -e "/tmp/landed.$1" ] && echo "ATTACK function_$1: landed" || echo "ATTACK function_$1: blocked"; }

hand_over_test() {
    check_boot
    check_disks
    check_network
    check module "$(uname -r)" insmod /modules/portcullis_test.ko "hypervisor=$(option hypervisor)"
    edu=$(echo $pci/drivers/portcullis_test/0000:*)
    name_devices
    bar=$(head -n 1 "$pci/devices/$nvme/resource" | cut -d' ' -f1)
    echo "$nvme" >$pci/drivers/nvme/unbind
    control_hand_over before
    echo "$nvme" >$pci/drivers/nvme/bind
    use_nvme || bad disk "not there after bind"

    others &
    given=0
    for round in $(seq $HAND_OVERS); do hand_over; done
    touch /tmp/stop
    wait_for 60 test -e /tmp/ended.others || bad others "stuck"
    rm /tmp/stop

    value hand_overs $given
    attack config
    attack registers
    verdict given "$given times"
    verdict driver_after_return "bound each time"
    verdict disk_after_return "the same digest each time"
    verdict interrupts_after_return "each CPU's queue each time"
    verdict others_meanwhile "$(wc -l </tmp/rounds.others) rounds of the other disk and of pages"
    cat "$edu/churn"
    echo "$nvme" >$pci/drivers/nvme/unbind
    control_hand_over after
    echo "$nvme" >$pci/drivers/nvme/bind
    use_nvme || bad disk "not there after bind"
    check rescan_after_return "three functions, $ROUNDS times" rescanned
    check module_out "unloaded" rmmod portcullis_test
    check_disks
    check_hotplug
}
