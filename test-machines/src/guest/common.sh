# Sourced by the guest's scripts: mounts file systems, silences the console, and defines common functions.

/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mount -t tmpfs tmpfs /tmp
# After this line the console contains only results; the kernel's log is read with dmesg.
dmesg -n 1
echo

option() {
    for word in $(cat /proc/cmdline); do
        case "$word" in "portcullis.$1="*) echo "${word#*=}"; return ;; esac
    done
}

bad() { echo "CHECK $1: FAIL $2"; }

# wait_for SECONDS COMMAND...
wait_for() {
    left=$(($1 * 10))
    shift
    until "$@" 2>/dev/null; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        usleep 100000
    done
}

load_drivers() {
    for module in $(cat /modules/order); do
        # It can be loaded only on a machine with EFI.
        if [ "$module" = efivarfs ] && [ ! -d /sys/firmware/efi ]; then continue; fi
        insmod "/modules/$module.ko" || bad insmod "$module"
    done
}
