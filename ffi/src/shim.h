/*
 * C side of vgpu-ffi: what QEMU offers only as a macro or an inline function.
 */
#ifndef VGPU_FFI_SHIM_H
#define VGPU_FFI_SHIM_H

/* error_setg() with a finished message. */
void vgpu_shim_error_set(Error **errp, const char *message);

/* qemu_log_mask(LOG_GUEST_ERROR, ...): shown with -d guest_errors. */
bool vgpu_shim_guest_errors_enabled(void);
void vgpu_shim_log_guest_error(const char *message);

/* error_report() and warn_report() with a finished message. */
void vgpu_shim_error_report(const char *message);
void vgpu_shim_warn_report(const char *message);

/* Whether the device sits on a PCI Express bus. */
bool vgpu_shim_bus_is_express(PCIDevice *dev);

/* The trace events of hw/vgpu/trace-events. */
bool vgpu_shim_trace_call_enabled(void);
void vgpu_shim_trace_call(const char *text);
void vgpu_shim_trace_realize(const char *device, uint16_t vendor_id,
                             uint16_t device_id);
void vgpu_shim_trace_unrealize(const char *device);
void vgpu_shim_trace_reset(void);
void vgpu_shim_trace_mmio_read(uint64_t offset, unsigned size, uint64_t value);
void vgpu_shim_trace_mmio_write(uint64_t offset, unsigned size, uint64_t value);
void vgpu_shim_trace_irq(unsigned vector, bool msix);

#endif
