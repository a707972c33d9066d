#!/bin/sh
# Removes what install.sh installed; DESTDIR=DIR as there.
set -eu

destination=${DESTDIR:-}
state=/usr/lib/vgpu-stub-guest
list=$destination$state/installed-files

fail() {
    echo "uninstall.sh: $*" >&2
    exit 1
}

[ -n "$destination" ] || [ "$(id -u)" = 0 ] || fail "must run as root"
[ -f "$list" ] || fail "nothing was installed by install.sh: there is no $list"

while read -r target; do
    rm -f "$destination$target"
done <"$list"
rm -f "$list"
rmdir "$destination$state" 2>/dev/null || true

if [ -z "$destination" ]; then
    ldconfig
    if [ -S /run/udev/control ] && command -v udevadm >/dev/null; then
        udevadm control --reload || true
    fi
fi
echo "removed"
