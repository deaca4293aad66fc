# Sourced by init for the kexec modes. The first kernel gets mode kexec_exec, kexec_crash or kexec_adopt, the second
# one after_kexec_*.
#
#   exec   the kernel starts the next one: kexec -e
#   crash  it panics, and the crash kernel starts in its reserved memory
#   adopt  as crash, but the next kernel has no driver for the SMMU: root makes the register accesses of a kernel
#          that takes over a running SMMU with its tables
#
# The first kernel donates pages and never reclaims them. portcullis.target= passes their address to the second,
# portcullis.target_kind= is as for attacks.

# Loaded above the memory that the first kernel allocates early. Linux 6.12 booted with a device tree reuses and writes
# the previous kernel's LPI tables, even inside its own image.
NEXT_KERNEL=0x50000000
# After exec, the second kernel's memory ends below the donated pages. A crash kernel has only its reserved memory.
KEPT_FROM=0x70000000
NEXT_MEMORY=704M

smmu=0x9050000
CR0=0x20 CR0ACK=0x24 GERROR=0x60 GERRORN=0x64
CMDQ_BASE=0x90 CMDQ_PROD=0x98 CMDQ_CONS=0x9c STRTAB_BASE=0x80
SMMUEN=0x1 CMDQEN=0x8 EVENTQEN=0x4
# The size of the adopted command queue: a page.
QUEUE_LOG2=8

first_kernel() {
    how=$1
    wait_for 20 test -b /dev/nvme0n1 || bad nvme "no /dev/nvme0n1"
    check module "$(uname -r)" insmod /modules/portcullis_test.ko "hypervisor=$(option hypervisor)"
    edu=$(echo /sys/bus/pci/drivers/portcullis_test/0000:*)
    echo 5 >"$edu/churn"
    check transitions "$(sed -n 's/^VALUE transitions //p' "$edu/churn") before the pages that are kept" \
        grep -q '^VALUE transition_failures 0' "$edu/churn"
    [ "$how" = exec ] || KEPT_FROM=0
    echo $KEPT_FROM >"$edu/keep" || bad keep "$(dmesg | tail -n 3 | tr '\n' ' ')"
    cat "$edu/keep"
    kept=$(sed -n 's/^VALUE kept_page //p' "$edu/keep")

    line="console=ttyAMA0 panic=-1 portcullis.mode=after_$how portcullis.target=$kept"
    line="$line portcullis.target_kind=$(option target_kind)"
    case $how in
    exec) set -- -l --mem-min=$NEXT_KERNEL --command-line="$line mem=$NEXT_MEMORY" ;;
    crash) set -- -p --command-line="$line" ;;
    adopt) set -- -p --command-line="$line initcall_blacklist=arm_smmu_driver_init fw_devlink=off deferred_probe_timeout=1" ;;
    esac
    # -i: do not hash the next kernel before it starts, which takes a minute under emulation.
    kexec -i -c "$@" --initrd=/kexec/initrd --dtb=/sys/firmware/fdt /kexec/Image ||
        bad kexec_load "$(dmesg | tail -n 3 | tr '\n' ' ')"

    # Disk I/O and ownership changes continue until the end.
    : >/tmp/rounds
    read_rounds "$(md5_of /dev/nvme0n1 0 4)" &
    more_rounds || bad load "the reader does not start"
    if [ "$how" = exec ]; then
        check kexec_loaded "" grep -q 1 /sys/kernel/kexec_loaded
        kexec -e
    else
        check kexec_loaded "" grep -q 1 /sys/kernel/kexec_crash_loaded
        while :; do echo 10 >"$edu/churn"; done &
        echo 1 >/proc/sys/kernel/sysrq
        # On the last CPU, so that the next kernel starts on another CPU than this one.
        taskset "$(printf '%x' $((1 << ($(nproc) - 1))))" sh -c "echo >$edu/crash"
    fi
    bad "$how" "no other kernel took over"
}

smmu_read() { devmem $((smmu + $1)) 32; }
smmu_write() { devmem $((smmu + $1)) 32 $(($2)); }
smmu_reads() { [ $(($(smmu_read "$1"))) -eq $(($2)) ]; }

# command LOW HIGH: writes the next entry of the queue, each word in byte order.
command() {
    for word in "$1" "$2"; do
        bytes=
        for shift in 0 8 16 24 32 40 48 56; do
            bytes="$bytes\\$(printf '%03o' $(((word >> shift) & 0xff)))"
        done
        printf "$bytes" | dd of=/proc/$sleeper/mem bs=8 seek=$((own_va / 8 + at)) conv=notrunc 2>/dev/null
        at=$((at + 1))
    done
}

# Makes the register accesses of a kernel that takes over a running SMMU and keeps its tables.
adopt() {
    value adopted_cr0 "$(smmu_read $CR0)"
    check adopt_enabled "the SMMU was left on" smmu_reads $CR0 $((SMMUEN | CMDQEN | EVENTQEN))
    table=$(devmem $((smmu + STRTAB_BASE)) 64)
    old_queue=$(($(devmem $((smmu + CMDQ_BASE)) 64) & 0xffffffffff000))
    if [ "$(option target_kind)" = el2 ]; then
        insmod /modules/portcullis_test.ko || bad insmod portcullis_test
        edu=$(echo /sys/bus/pci/drivers/portcullis_test/0000:*)
        check adopt_old_queue_kept "cannot be donated" sh -c "! echo $old_queue >$edu/give"
    fi
    smmu_write $CR0 $SMMUEN
    check adopt_queues_off "SMMUEN alone" wait_for 5 smmu_reads $CR0ACK $SMMUEN
    smmu_write $GERRORN "$(smmu_read $GERROR)"

    take_own_page
    queue=$((own_page | QUEUE_LOG2))
    devmem $((smmu + CMDQ_BASE)) 64 $queue
    smmu_write $CMDQ_PROD 0
    smmu_write $CMDQ_CONS 0
    check adopt_queue_base "reads back" test $(($(devmem $((smmu + CMDQ_BASE)) 64))) -eq $queue
    smmu_write $CR0 $((SMMUEN | CMDQEN))
    check adopt_queue_on "a queue of this kernel's" wait_for 5 smmu_reads $CR0ACK $((SMMUEN | CMDQEN))
    at=0
    # CFGI_ALL, TLBI_NSNH_ALL, CMD_SYNC (IHI 0070 4.3.3, 4.4.4, 4.7.3)
    command 0x4 31
    command 0x30 0
    command 0x46 0
    smmu_write $CMDQ_PROD 3
    check adopt_commands "three commands done" wait_for 5 smmu_reads $CMDQ_CONS 3
    if [ "$(option target_kind)" = el2 ]; then
        check adopt_old_queue_free "can be donated" sh -c "echo $old_queue >$edu/give"
        rmmod portcullis_test
    fi
    check adopt_no_error "GERROR and GERRORN agree" smmu_reads $GERRORN "$(smmu_read $GERROR)"
    check adopt_table "the table of the kernel before" \
        test "$(devmem $((smmu + STRTAB_BASE)) 64)" = "$table"
}

# Attacks of the second kernel on the pages that the first one donated.
attack_kept() {
    prepare
    if [ "$kind" = scratch ] && [ "$1" != exec ]; then
        # The transfer that the first kernel had started.
        case $(devmem $((read_at + 0x2000)) 64) in
        0x6E6F73696F70203A | 0x6e6f73696f70203a) echo "ATTACK flight: landed" ;;
        *) echo "ATTACK flight: blocked" ;;
        esac
    fi
    if devmem $((read_at)) 64 >/dev/null 2>&1; then
        echo "ATTACK kept_cpu: landed"
    else
        echo "ATTACK kept_cpu: blocked"
    fi
    bind_edu
    [ "$1" = adopt ] || set_domain identity
    control kept_before
    read_attack kept_read
    write_attack kept_write
    control kept_after
}

second_kernel() {
    check second_kernel "$(cut -d' ' -f1 /proc/uptime) s after its start" test -n "$(option target)"
    if [ "$1" != exec ]; then
        check vmcore "the memory of the kernel before" sh -c 'head -c 4 /proc/vmcore | grep -q ELF'
    fi
    check_disks
    attack_kept "$1"
}
