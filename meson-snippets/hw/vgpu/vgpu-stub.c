/*
 * vgpu-stub: a PCI device that carries CUDA calls of a guest to the host
 *
 * The device is written in Rust. This file only hooks its registration into
 * QEMU's start, and pulls the static library into the link.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/module.h"

void vgpu_stub_register_types(void);

type_init(vgpu_stub_register_types)
