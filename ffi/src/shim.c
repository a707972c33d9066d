/*
 * C side of vgpu-ffi: what QEMU offers only as a macro or an inline function.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "../wrapper.h"

#include "qemu/log.h"
#include "trace/trace-hw_vgpu.h"

void vgpu_shim_error_set(Error **errp, const char *message)
{
    error_setg(errp, "%s", message);
}

bool vgpu_shim_guest_errors_enabled(void)
{
    return qemu_loglevel_mask(LOG_GUEST_ERROR);
}

void vgpu_shim_log_guest_error(const char *message)
{
    qemu_log_mask(LOG_GUEST_ERROR, "vgpu-stub: %s\n", message);
}

void vgpu_shim_error_report(const char *message)
{
    error_report("%s", message);
}

void vgpu_shim_warn_report(const char *message)
{
    warn_report("%s", message);
}

bool vgpu_shim_bus_is_express(PCIDevice *dev)
{
    return pci_bus_is_express(pci_get_bus(dev));
}

bool vgpu_shim_trace_call_enabled(void)
{
    return trace_event_get_state_backends(TRACE_VGPU_STUB_CALL);
}

void vgpu_shim_trace_call(const char *text)
{
    trace_vgpu_stub_call(text);
}

void vgpu_shim_trace_realize(const char *device, uint16_t vendor_id,
                             uint16_t device_id)
{
    trace_vgpu_stub_realize(device, vendor_id, device_id);
}

void vgpu_shim_trace_unrealize(const char *device)
{
    trace_vgpu_stub_unrealize(device);
}

void vgpu_shim_trace_reset(void)
{
    trace_vgpu_stub_reset();
}

void vgpu_shim_trace_mmio_read(uint64_t offset, unsigned size, uint64_t value)
{
    trace_vgpu_stub_mmio_read(offset, size, value);
}

void vgpu_shim_trace_mmio_write(uint64_t offset, unsigned size, uint64_t value)
{
    trace_vgpu_stub_mmio_write(offset, size, value);
}

void vgpu_shim_trace_irq(unsigned vector, bool msix)
{
    trace_vgpu_stub_irq(vector, msix);
}
