#!/bin/sh
# The guest of the benchmark: loads the disks' drivers, runs the reads in portcullis.job=, prints the time, powers off.
# It does nothing else, so that two boots with different jobs differ only in their I/O.
#
#   portcullis.job=DEVICE,BLOCK_SIZE,COUNT,READERS,PASSES     portcullis.io_ratio=1

. /common.sh

# read_direct DEVICE BLOCK_SIZE COUNT READERS PASSES: every reader has its own part of the disk.
read_direct() {
    pass=0
    while [ $pass -lt "$5" ]; do
        reader=0
        while [ $reader -lt "$4" ]; do
            dd if="/dev/$1" of=/dev/null bs="$2" count="$3" skip=$((reader * $3)) iflag=direct 2>/tmp/dd.$reader &
            reader=$((reader + 1))
        done
        wait
        pass=$((pass + 1))
    done
    grep -h 'records in' /tmp/dd.* | sort | uniq -c | while read -r line; do echo "VALUE records $line"; done
}

# Hundredths of a second since boot.
now() { read -r up rest </proc/uptime; echo "${up%.*}${up#*.}"; }

# timed NAME DEVICE BLOCK_SIZE COUNT PASSES
timed() {
    begin=$(now)
    read_direct "$2" "$3" "$4" 1 "$5" >/dev/null
    echo "VALUE $1 $(($(now) - begin))"
}

# timed_random NAME DEVICE READS BLOCKS: single blocks of 4 KiB in pseudo-random order.
timed_random() {
    begin=$(now)
    at=1 left=$3
    while [ "$left" -gt 0 ]; do
        dd if="/dev/$2" of=/dev/null bs=4k count=1 skip=$at iflag=direct 2>/dev/null
        at=$(((at * 1103 + 12347) % $4)) left=$((left - 1))
    done
    echo "VALUE $1 $(($(now) - begin))"
}

load_drivers
for disk in nvme0n1 vda; do
    wait_for 20 test -b "/dev/$disk" || bad "$disk" "no such device"
done
echo "VALUE nvme_domain $(cat /sys/class/nvme/nvme0/device/iommu_group/type)"
job=$(option job)
if [ -n "$job" ]; then
    read_direct $(echo "$job" | tr , ' ')
fi
if [ -n "$(option io_ratio)" ]; then
    timed nvme_seq nvme0n1 128k 512 8
    timed virtio_seq vda 128k 128 8
    timed_random nvme_rand4k nvme0n1 400 16384
    timed_random virtio_rand4k vda 400 4096
fi
echo "GUEST: done"
sync
poweroff -f
sleep 60
