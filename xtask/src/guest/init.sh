#!/bin/busybox sh
# First process of the guest, in the initramfs: loads the modules, makes the root out of a read-only 9p
# share and a tmpfs over it, and goes on in stage2.sh there. /vgpu/config comes from the command.
/bin/busybox mkdir -p /bin /proc /sys /dev /lower /upper /newroot
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/console >/dev/console 2>&1

fail() {
    echo "vgpu-guest: $*"
    poweroff -f
}

for module in $(cat /modules/boot); do
    insmod "/modules/$module.ko" || fail "cannot load module $module"
done

. /vgpu/config
if [ -n "$PROBE" ]; then
    echo "$PROBE"
    poweroff -f
fi

OPTIONS=trans=virtio,version=9p2000.L,msize=524288
mount -t 9p -o $OPTIONS,cache=loose,ro root /lower || fail "cannot mount the root share"
mount -t tmpfs tmpfs /upper || fail "cannot mount a tmpfs"
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /newroot ||
    fail "cannot mount the overlay"

cd /newroot || fail "no root"
mkdir -p proc sys dev run tmp root opt/vgpu-stub share
mount --move /proc proc
mount --move /sys sys
mount --move /dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs run
ln -sf /proc/self/fd dev/fd
ln -sf /proc/self/fd/0 dev/stdin
ln -sf /proc/self/fd/1 dev/stdout
ln -sf /proc/self/fd/2 dev/stderr
mount -t 9p -o $OPTIONS,cache=loose,ro shims opt/vgpu-stub || fail "cannot mount the shims"
if [ -n "$SHARE" ]; then
    mount -t 9p -o $OPTIONS,cache=none,rw share share || fail "cannot mount /share"
fi

mkdir -p run/vgpu/bin run/lock
cp /bin/busybox run/vgpu/bin/busybox
cp -r /vgpu/. run/vgpu/
if [ -d /modules/extra ]; then cp -r /modules/extra run/vgpu/modules; fi
exec switch_root /newroot /run/vgpu/bin/busybox sh /run/vgpu/stage2.sh
fail "cannot enter the root"
