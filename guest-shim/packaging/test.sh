#!/bin/sh
# Checks a finished package and archive: sh test.sh DEB ARCHIVE
set -eu

deb=$1
archive=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "test.sh: $*" >&2
    exit 1
}

# The package: files where NVIDIA's driver has them, nobody's but root's, scripts that a shell can read.
dpkg-deb --fsys-tarfile "$deb" >"$work/files.tar"
dpkg-deb --control "$deb" "$work/control"
tar -tvf "$work/files.tar" | awk '$2 != "root/root" { exit 1 }' || fail "a file does not belong to root"
for file in ./usr/lib/x86_64-linux-gnu/libcuda.so.1 ./usr/bin/vgpu-ctl \
    ./usr/lib/udev/rules.d/60-vgpu-stub.rules ./usr/share/doc/vgpu-stub-guest/copyright; do
    tar -tf "$work/files.tar" "$file" >/dev/null || fail "no $file in the package"
done
mkdir "$work/root"
tar -xf "$work/files.tar" -C "$work/root"
(cd "$work/root" && md5sum --quiet --check "$work/control/md5sums") || fail "md5sums is wrong"
for script in postinst postrm; do
    sh -n "$work/control/$script"
done
# Maintainer scripts do nothing where no udev runs, however often they are called.
for times in 1 2; do
    sh "$work/control/postinst" abort-upgrade 1.0
    sh "$work/control/postrm" upgrade 1.0
done
! sh "$work/control/postinst" nonsense 2>/dev/null || fail "postinst takes an unknown argument"

# Every library is found under its soname.
for library in "$work"/root/usr/lib/x86_64-linux-gnu/*.so.*; do
    soname=$(objdump -p "$library" | awk '$1 == "SONAME" { print $2 }')
    [ "$soname" = "${library##*/}" ] || fail "${library##*/} has the soname '$soname'"
done

# The archive: installed twice, then removed, it leaves nothing behind.
tar -xJf "$archive" -C "$work"
set -- "$work"/vgpu-stub-guest-*
mkdir "$work/destination"
for times in 1 2; do
    DESTDIR=$work/destination LIBDIR=/usr/lib64 sh "$1/install.sh" >/dev/null
done
[ -L "$work/destination/usr/lib64/libcuda.so" ] || fail "install.sh made no link libcuda.so"
DESTDIR=$work/destination sh "$work/destination/usr/lib/vgpu-stub-guest/uninstall.sh" >/dev/null
left=$(find "$work/destination" ! -type d)
[ -z "$left" ] || fail "uninstall.sh left: $left"

# Somebody else's library is not overwritten.
echo other >"$work/destination/usr/lib64/libcuda.so.1"
if DESTDIR=$work/destination LIBDIR=/usr/lib64 sh "$1/install.sh" >/dev/null 2>"$work/error"; then
    fail "install.sh overwrote another libcuda.so.1"
fi
grep -q "libcuda.so.1 exists and is not ours" "$work/error" || fail "unclear: $(cat "$work/error")"
[ "$(cat "$work/destination/usr/lib64/libcuda.so.1")" = other ] || fail "it was overwritten"
[ ! -e "$work/destination/usr/bin/vgpu-ctl" ] || fail "install.sh went on after the error"
