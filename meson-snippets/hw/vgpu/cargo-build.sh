#!/bin/sh
# Builds the device's static library and the program of its worker processes, and copies
# them to OUTPUT and WORKER if they changed; the program lies beside QEMU's as well.
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: cargo-build.sh CARGO CHECKOUT QEMU_SRC QEMU_BUILD TARGET_DIR OUTPUT WORKER
set -e
cargo=$1 checkout=$2 target=$5 output=$6 worker=$7
# meson hands over paths relative to the build directory.
target=$(mkdir -p "$target" && cd "$target" && pwd)
output=$(cd "$(dirname "$output")" && pwd)/$(basename "$output")
worker=$(cd "$(dirname "$worker")" && pwd)/$(basename "$worker")
VGPU_QEMU_SRC=$(cd "$3" && pwd)
VGPU_QEMU_BUILD=$(cd "$4" && pwd)
export VGPU_QEMU_SRC VGPU_QEMU_BUILD
unset CARGO_BUILD_TARGET CARGO_TARGET_DIR
PATH=$(dirname "$cargo"):$PATH
cd "$checkout"
"$cargo" rustc --package vgpu-stub --lib --crate-type staticlib \
    --release --features qemu --target-dir "$target"
"$cargo" build --package vgpu-stub --bin vgpu-worker \
    --release --target-dir "$target"
update() {
    cmp -s "$target/release/$1" "$2" || cp "$target/release/$1" "$2"
}
update libvgpu_stub.a "$output"
update vgpu-worker "$worker"
update vgpu-worker "$VGPU_QEMU_BUILD/vgpu-worker"
