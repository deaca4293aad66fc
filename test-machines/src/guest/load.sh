# Sourced by init for the mode `load`: every CPU reads both disks without the page cache, so
# that all of them write commands to the SMMU's queue at the same time.
#
# portcullis.load= is the time in seconds.

# reader NAME DEVICE CPU: reads of 128 KiB, each mapped for the device and unmapped again.
reader() {
    while [ ! -e /tmp/stop ]; do
        dd if="$2" of=/dev/null bs=128k count=32 iflag=direct 2>/dev/null || echo "$1" >>/tmp/failed
        echo . >>"/tmp/rounds.$1.$3"
    done
    touch "/tmp/ended.$1.$3"
}

pinned() { taskset "$(printf '%x' $((1 << $3)))" sh -c ". /load.sh; reader $1 $2 $3" & }

all_ended() { [ "$(ls /tmp/ended.* 2>/dev/null | wc -l)" -eq $((2 * cpus)) ]; }

# min_rounds NAME: the smallest number of rounds of any CPU.
min_rounds() {
    lowest=
    for cpu in $(seq 0 $((cpus - 1))); do
        rounds=$(cat "/tmp/rounds.$1.$cpu" 2>/dev/null | wc -l)
        [ -n "$lowest" ] && [ "$lowest" -le "$rounds" ] || lowest=$rounds
    done
    echo "$lowest"
}

kernel_errors() {
    dmesg | grep -E -i 'soft lockup|hard lockup|rcu.*stall|hung task|blocked for more than|BUG:|Oops|(CMD_SYNC|CMDQ) timeout|CMDQ error|GERROR|nvme.*timeout|I/O error'
}

load_test() {
    wait_for 20 test -b /dev/nvme0n1 || bad nvme "no /dev/nvme0n1"
    wait_for 20 test -b /dev/vda || bad virtio_blk "no /dev/vda"
    cpus=$(nproc)
    value nvme_domain "$(cat /sys/class/nvme/nvme0/device/iommu_group/type)"
    value cmdq_entries "$(dmesg | sed -n 's/.*allocated \([0-9]*\) entries for cmdq/\1/p' | head -n 1)"
    for cpu in $(seq 0 $((cpus - 1))); do
        pinned nvme /dev/nvme0n1 "$cpu"
        pinned virtio_blk /dev/vda "$cpu"
    done
    sleep "$(option load)"
    touch /tmp/stop
    wait_for 120 all_ended || bad load "a reader is stuck"
    value load_nvme_rounds "$(min_rounds nvme)"
    value load_virtio_blk_rounds "$(min_rounds virtio_blk)"
    check load_reads "none failed" test ! -e /tmp/failed
    check load_log "nothing locked up or timed out $(kernel_errors | head -n 3 | tr '\n' ' ')" sh -c ". /load.sh; ! kernel_errors >/dev/null"
    drop_caches
    value nvme_md5 "$(md5_of /dev/nvme0n1 0 16)"
    value virtio_blk_md5 "$(md5_of /dev/vda 0 16)"
}
