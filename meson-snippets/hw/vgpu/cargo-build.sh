#!/bin/sh
# Builds the device's static library and copies it to OUTPUT if it changed.
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: cargo-build.sh CARGO CHECKOUT QEMU_SRC QEMU_BUILD TARGET_DIR OUTPUT
set -e
cargo=$1 checkout=$2 target=$5 output=$6
# meson hands over paths relative to the build directory.
target=$(mkdir -p "$target" && cd "$target" && pwd)
output=$(cd "$(dirname "$output")" && pwd)/$(basename "$output")
VGPU_QEMU_SRC=$(cd "$3" && pwd)
VGPU_QEMU_BUILD=$(cd "$4" && pwd)
export VGPU_QEMU_SRC VGPU_QEMU_BUILD
unset CARGO_BUILD_TARGET CARGO_TARGET_DIR
PATH=$(dirname "$cargo"):$PATH
cd "$checkout"
"$cargo" rustc --package vgpu-stub --lib --crate-type staticlib \
    --release --features qemu --target-dir "$target"
cmp -s "$target/release/libvgpu_stub.a" "$output" ||
    cp "$target/release/libvgpu_stub.a" "$output"
