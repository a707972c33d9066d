#!/bin/busybox sh
# The only process of the bundle's guest: runs the tests, tells their results on the console, and ends.
/bin/busybox mkdir -p /bin /usr/sbin
/bin/busybox --install -s /bin
export PATH=/usr/bin:/bin LD_LIBRARY_PATH=/usr/lib HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1
MARK=VGPU-CHECK

finish() {
    echo "$MARK DONE"
    poweroff -f
}

try() {
    name=$1
    shift
    if "$@"; then
        echo "$MARK PASS $name"
    else
        echo "$MARK FAIL $name"
    fi
}

case $(cat /proc/cmdline) in
*vgpu.task=probe*) finish ;;
*vgpu.task=measure*)
    for section in call launches chain; do
        echo "$MARK VALUES $(cuda-measure $section --small)"
    done
    finish
    ;;
esac
try "the device answers" vgpu-ctl hello
try "vector addition" vgpu-ctl run vector_add
try "cuda-kernels" cuda-kernels /ptx
try "cuda-errors" cuda-errors /ptx
try "two processes at once" cuda-kernels --processes 2 /ptx
finish
