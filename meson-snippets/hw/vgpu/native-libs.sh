#!/bin/sh
# Prints the link arguments that a Rust static library needs.
# SPDX-License-Identifier: GPL-2.0-or-later
# usage: native-libs.sh CARGO
set -e
PATH=$(dirname "$1"):$PATH
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo | rustc --crate-type staticlib --print native-static-libs \
    -o "$dir/empty.a" - 2>&1 | sed -n 's/^note: native-static-libs: //p'
