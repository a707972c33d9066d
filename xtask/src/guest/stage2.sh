# First process of the guest, in its root: makes the shims and the device usable, runs the command with its
# streams on virtio ports, and tells its exit status to the host.
/run/vgpu/bin/busybox --install -s /run/vgpu/bin
export PATH=/run/vgpu/bin
cd /
. /run/vgpu/config
exec </dev/console >/dev/console 2>&1
hostname vgpu-guest
ip link set lo up

port() { # NAME: the device node of the virtio port of that name
    for tries in 1 2 3 4 5 6 7 8 9 10; do
        for candidate in /sys/class/virtio-ports/*; do
            if [ "$(cat "$candidate/name" 2>/dev/null)" = "$1" ]; then
                echo "/dev/${candidate##*/}"
                return
            fi
        done
        sleep 0.1
    done
    echo "vgpu-guest: no virtio port $1" >&2
    poweroff -f
}

exec 9>"$(port status)"
tell() { echo "$*" >&9; }
finish() { # STATUS
    sync
    tell "exit $1"
    exec 9>&-
    poweroff -f
}

# The shims come first in the loader's list. Where our package is installed, its libraries are used as they are.
if [ -f /var/lib/dpkg/info/vgpu-stub-guest.list ]; then
    SHIMS_INSTALLED=1
else
    mkdir -p /etc/ld.so.conf.d
    echo /opt/vgpu-stub/lib >/etc/ld.so.conf.d/000-vgpu-stub.conf
fi
if [ -n "$SHIMS_INSTALLED" ]; then
    : # dpkg's trigger has run ldconfig.
elif [ -f /run/vgpu/ld.so.cache ]; then
    base64 -d /run/vgpu/ld.so.cache >/etc/ld.so.cache
elif /sbin/ldconfig; then
    # It reads every library of the root: the host keeps the result for the next boot.
    tell "loader-cache $(base64 -w 0 /etc/ld.so.cache)"
else
    echo "vgpu-guest: ldconfig failed" >&2
fi

for module in $MODULES; do
    insmod "/run/vgpu/modules/$module.ko" || echo "vgpu-guest: module $module was not loaded" >&2
done

# The addresses are those of QEMU's user network.
if [ -n "$NETWORK" ]; then
    ip link set eth0 up && ip addr add 10.0.2.15/24 dev eth0 || echo "vgpu-guest: no network card" >&2
fi

# What the udev rule of the package does: every user may map the registers and the window, as every user may
# open /dev/nvidia0 on a machine with NVIDIA's driver.
for function in /sys/bus/pci/devices/*; do
    case " $DEVICE_IDS " in
    *" $(cat "$function/vendor"):$(cat "$function/device") "*)
        echo 1 >"$function/enable"
        chmod 0666 "$function/resource0" "$function/resource1"
        tell "device ${function##*/}"
        ;;
    esac
done
tell "up $(cut -d ' ' -f 1 /proc/uptime)"

if [ -n "$INTERACTIVE" ]; then
    stty $INTERACTIVE 2>/dev/null
    setsid cttyhack /bin/sh /run/vgpu/command
    finish $?
fi

mkfifo /run/vgpu/in /run/vgpu/out /run/vgpu/err
chmod 0666 /run/vgpu/in /run/vgpu/out /run/vgpu/err
cat <"$(port stdin)" >/run/vgpu/in &
cat </run/vgpu/out >"$(port stdout)" &
out=$!
cat </run/vgpu/err >"$(port stderr)" &
err=$!
# Held open, so that the streams end with the command and not with its first writer.
exec 7>/run/vgpu/out 8>/run/vgpu/err
if [ -n "$SHOW_LOG" ]; then
    dmesg | grep -i -E "$SHOW_LOG" >&8
fi
$AS_USER /bin/sh /run/vgpu/command </run/vgpu/in >&7 2>&8 7>&- 8>&- 9>&-
status=$?
exec 7>&- 8>&-
# A process that the command left behind may hold the streams open: it does not hold up the end.
(sleep 5; kill $out $err) 2>/dev/null &
wait $out $err
finish $status
