#!/bin/sh
# Tests and measures on this machine: ./check.sh [--out DIR] [--only machine|conformance|measure|vm] [--quick]
here=$(cd "$(dirname "$0")" && pwd) || exit 2
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "check: this bundle is for x86-64 Linux, this machine is $(uname -sm)" >&2
    exit 2
fi
exec "$here/bin/vgpu-check" "$here" "$@"
