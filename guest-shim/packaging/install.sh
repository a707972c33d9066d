#!/bin/sh
# Installs the guest's libraries, programs and udev rule where NVIDIA's driver puts its own.
#   ./install.sh              as root
#   DESTDIR=DIR ./install.sh  below DIR, for packagers: neither ldconfig nor udev is run
# Debian and Ubuntu: better install the .deb.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
destination=${DESTDIR:-}
state=/usr/lib/vgpu-stub-guest
list=$destination$state/installed-files

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

if [ -z "$destination" ]; then
    [ "$(id -u)" = 0 ] || fail "must run as root (or with DESTDIR=DIRECTORY)"
    if command -v dpkg-query >/dev/null &&
        dpkg-query -W -f='${db:Status-Status}' vgpu-stub-guest 2>/dev/null | grep -qx installed; then
        fail "the package vgpu-stub-guest is installed: upgrade it, or remove it first"
    fi
fi

# Where this distribution has the libraries of 64-bit programs.
libraries=${LIBDIR:-}
for candidate in /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib; do
    if [ -z "$libraries" ] && [ -d "$candidate" ] && [ ! -L "$candidate" ]; then
        libraries=$candidate
    fi
done
[ -n "$libraries" ] || fail "found no directory for libraries: name it with LIBDIR=DIRECTORY"

# SOURCE TARGET, one per line.
plan() {
    for file in "$here"/lib/*; do echo "$file $libraries/${file##*/}"; done
    for file in "$here"/bin/*; do echo "$file /usr/bin/${file##*/}"; done
    echo "$here/60-vgpu-stub.rules /usr/lib/udev/rules.d/60-vgpu-stub.rules"
    echo "$here/uninstall.sh $state/uninstall.sh"
    echo "$here/LICENSE $state/LICENSE"
}

case $here in *[[:space:]]*) fail "unpack the archive in a directory without blanks in its name, not in '$here'" ;; esac

ours() { # TARGET: whether an earlier run installed it
    [ -f "$list" ] && grep -qxF "$1" "$list"
}

plan | while read -r source target; do
    if { [ -e "$destination$target" ] || [ -L "$destination$target" ]; } && ! ours "$target"; then
        fail "$target exists and is not ours. Remove NVIDIA's driver and CUDA libraries from this machine first"
    fi
done || exit 1

mkdir -p "$destination$state"
# The list grows before the files, so that an interrupted run can be undone.
{
    [ ! -f "$list" ] || cat "$list"
    plan | cut -d ' ' -f 2
} | sort -u >"$list.new"
mv "$list.new" "$list"

plan | while read -r source target; do
    mkdir -p "$destination$(dirname "$target")"
    # Under another name first: a program may have the old file mapped.
    cp -P "$source" "$destination$target.vgpu-new"
    mv -T "$destination$target.vgpu-new" "$destination$target"
done

if [ -z "$destination" ]; then
    ldconfig
    if [ -S /run/udev/control ] && command -v udevadm >/dev/null; then
        udevadm control --reload || true
        udevadm trigger --action=change --subsystem-match=pci || true
    fi
fi
echo "installed in $libraries and /usr/bin; undo with: sh $state/uninstall.sh"
