# Sourced by init for the mode `module`: pages change owner under disk load, and a device that has them mapped accesses
# them.
#
# portcullis.hypervisor= Y or N: whether EL2 implements the hypercalls.

# Minimum number of transitions, and of rounds of each worker.
TRANSITIONS=200
ROUNDS=4
CHUNK_MIB=1

# md5_direct DEVICE SKIP_MIB: the digest of one chunk, read without the page cache.
md5_direct() {
    dd if="$1" bs=256k skip=$(($2 * 4)) count=$((CHUNK_MIB * 4)) iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1
}

wrong() { echo "$2" >>"/tmp/wrong.$1"; }
rounds() { [ -e "/tmp/rounds.$1" ] && wc -l <"/tmp/rounds.$1" || echo 0; }

# compare NAME DEVICE AT_MIB EXPECTED: ends a round by reading the chunk.
compare() {
    seen=$(md5_direct "$2" "$3")
    [ "$seen" = "$4" ] || wrong "$1" "round $(rounds "$1"): $seen, not $4"
    echo . >>"/tmp/rounds.$1"
}

# reader NAME DEVICE AT_MIB: reads the same data repeatedly.
reader() {
    before=$(md5_direct "$2" "$3")
    while [ ! -e /tmp/stop ]; do
        compare "$1" "$2" "$3" "$before"
    done
    touch "/tmp/ended.$1"
}

# writer NAME DEVICE AT_MIB: writes different data each time, and reads them back.
writer() {
    data=/tmp/data.$1
    dd if=/dev/urandom of="$data" bs=1M count=$CHUNK_MIB 2>/dev/null
    while [ ! -e /tmp/stop ]; do
        rounds "$1" | dd of="$data" conv=notrunc 2>/dev/null
        written=$(md5sum <"$data" | cut -d' ' -f1)
        dd if="$data" of="$2" bs=256k seek=$(($3 * 4)) oflag=direct conv=notrunc 2>/dev/null ||
            wrong "$1" "round $(rounds "$1"): not written"
        compare "$1" "$2" "$3" "$written"
    done
    touch "/tmp/ended.$1"
}

churner() {
    while [ ! -e /tmp/stop ]; do
        echo 10 >"$edu/churn" || break
    done
    touch "/tmp/ended.$1"
}

transitions() { sed -n 's/^VALUE transitions //p' "$edu/churn"; }

enough() {
    [ "$(transitions)" -ge $TRANSITIONS ] || return 1
    for worker in $workers; do
        [ "$(rounds "$worker")" -ge $ROUNDS ] || return 1
    done
}

all_ended() {
    for worker in $workers churn1 churn2; do
        [ -e "/tmp/ended.$worker" ] || return 1
    done
}

# attack RECEIVER: prints the module's lines, or the reason why there are none.
attack() {
    if echo "$1" >"$edu/attack"; then
        cat "$edu/attack"
    else
        bad "attack_$1" "$(dmesg | tail -n 3 | tr '\n' ' ')"
    fi
}

module_test() {
    wait_for 20 test -b /dev/nvme0n1 || bad nvme "no /dev/nvme0n1"
    wait_for 20 test -b /dev/vda || bad virtio_blk "no /dev/vda"
    check module "$(uname -r)" insmod /modules/portcullis_test.ko "hypervisor=$(option hypervisor)"
    edu=$(echo /sys/bus/pci/drivers/portcullis_test/0000:*)
    if [ ! -e "$edu/churn" ]; then
        bad edu "the module has no device: $(dmesg | tail -n 3 | tr '\n' ' ')"
        return
    fi
    value edu_domain "$(cat "$edu/iommu_group/type")"
    value nvme_md5 "$(md5_of /dev/nvme0n1 0 16)"
    value virtio_blk_md5 "$(md5_of /dev/vda 0 16)"

    workers="nvme_read nvme_write virtio_blk_read virtio_blk_write"
    reader nvme_read /dev/nvme0n1 0 &
    writer nvme_write /dev/nvme0n1 32 &
    reader virtio_blk_read /dev/vda 0 &
    writer virtio_blk_write /dev/vda 20 &
    churner churn1 &
    churner churn2 &
    attack hyp
    attack guest
    attack nvme
    attack cpu
    wait_for 120 enough || bad load "only $(transitions) transitions, or too few rounds"
    touch /tmp/stop
    wait_for 60 all_ended || bad load "a worker is stuck"

    cat "$edu/churn"
    for worker in $workers; do
        check "io_$worker" "$(rounds "$worker") rounds of $CHUNK_MIB MiB$(cat "/tmp/wrong.$worker" 2>/dev/null | head -n 3)" \
            test ! -e "/tmp/wrong.$worker"
    done
    drop_caches
    value nvme_md5 "$(md5_of /dev/nvme0n1 0 16)"
    value virtio_blk_md5 "$(md5_of /dev/vda 0 16)"
    check module_out "unloaded" rmmod portcullis_test
    dmesg | grep portcullis_test | tail -n 5
}
