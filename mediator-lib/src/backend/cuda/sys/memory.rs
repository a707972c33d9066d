//! Device memory, copies, sets, and host memory that the GPU reaches directly.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::window::Window;

use super::object::{Context, Stream};
use super::{check, need};
use crate::backend::cuda::mem::DeviceRange;

/// An allocation; freed on drop.
#[derive(Debug)]
pub struct Memory {
    ctx: Arc<Context>,
    address: u64,
}

impl Memory {
    /// `cuMemAlloc`. The memory holds what it held before.
    pub fn alloc(ctx: &Arc<Context>, bytes: u64) -> Result<Memory, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuMemAlloc_v2)?;
        let mut address = 0;
        // SAFETY: writes one number.
        check(unsafe { f(&mut address, size(bytes)?) })?;
        Ok(Memory {
            ctx: Arc::clone(ctx),
            address,
        })
    }

    /// `cuMemAllocPitch`: the memory and the pitch in bytes.
    pub fn alloc_pitch(
        ctx: &Arc<Context>,
        width: u64,
        height: u64,
        element: u32,
    ) -> Result<(Memory, u64), Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuMemAllocPitch_v2)?;
        let (mut address, mut pitch) = (0, 0);
        // SAFETY: writes two numbers.
        check(unsafe {
            f(
                &mut address,
                &mut pitch,
                size(width)?,
                size(height)?,
                element,
            )
        })?;
        Ok((
            Memory {
                ctx: Arc::clone(ctx),
                address,
            },
            pitch as u64,
        ))
    }

    /// Its first byte's address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// `cuMemFree`. It waits for work in flight.
    pub fn free(mut self) -> Result<(), Status> {
        self.release()
    }

    fn release(&mut self) -> Result<(), Status> {
        let address = std::mem::take(&mut self.address);
        if address == 0 {
            return Ok(());
        }
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuMemFree_v2)?;
        // SAFETY: allocated by `alloc` or `alloc_pitch` and freed once: the address is taken.
        check(unsafe { f(address) })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Nobody is left to tell; a destroyed context has freed it.
        let _ = self.release();
    }
}

/// `cuMemGetInfo`: free and total bytes of the GPU.
pub fn info(ctx: &Context) -> Result<(u64, u64), Status> {
    let _alive = ctx.enter()?;
    let f = need(ctx.functions().cuMemGetInfo_v2)?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: writes two numbers.
    check(unsafe { f(&mut free, &mut total) })?;
    Ok((free as u64, total as u64))
}

impl Stream {
    /// `cuMemcpyHtoDAsync` of all of `from`. The caller keeps the window, and what it shows, until
    /// the stream has come past the copy.
    pub fn copy_from_window(&self, to: DeviceRange, from: &Window) -> Result<(), Status> {
        if to.bytes() != from.len() as u64 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let _alive = self.context().enter()?;
        let f = need(self.context().functions().cuMemcpyHtoDAsync_v2)?;
        // SAFETY:
        // - the source is valid for its length as long as a copy of the window lives (contract of
        //   `Window::new`), and the caller keeps one; the other side may change it meanwhile, which
        //   a copy of bytes tolerates;
        // - the destination lies inside one allocation of this context (`DeviceRange`).
        check(unsafe {
            f(
                to.address(),
                from.base().cast_const().cast(),
                from.len(),
                self.raw,
            )
        })
    }

    /// `cuMemcpyHtoDAsync` of bytes that the caller may reuse at once: pageable memory "is copied
    /// to a staging buffer immediately" (CUDA Driver API, "API synchronization behavior").
    pub fn copy_from_bytes(&self, to: DeviceRange, from: &[u8]) -> Result<(), Status> {
        if to.bytes() != from.len() as u64 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let _alive = self.context().enter()?;
        let f = need(self.context().functions().cuMemcpyHtoDAsync_v2)?;
        // SAFETY:
        // - the source is a slice; it is not registered memory, so the driver has read it when the
        //   call returns;
        // - the destination lies inside one allocation of this context (`DeviceRange`).
        check(unsafe { f(to.address(), from.as_ptr().cast(), from.len(), self.raw) })
    }

    /// `cuMemcpyDtoHAsync` that fills all of `to`, and the wait for it.
    pub fn copy_to_window(&self, to: &Window, from: DeviceRange) -> Result<(), Status> {
        if from.bytes() != to.len() as u64 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let alive = self.context().enter()?;
        let f = need(self.context().functions().cuMemcpyDtoHAsync_v2)?;
        // SAFETY:
        // - the destination is valid for its length while the caller's window lives, which is
        //   longer than this function, and no Rust reference to it exists (`Window::new`);
        // - the source lies inside one allocation of this context (`DeviceRange`).
        check(unsafe { f(to.base().cast(), from.address(), to.len(), self.raw) })?;
        drop(alive);
        self.synchronize()
    }

    /// As [`copy_to_window`](Stream::copy_to_window), to private memory.
    pub fn copy_to_bytes(&self, to: &mut [u8], from: DeviceRange) -> Result<(), Status> {
        if from.bytes() != to.len() as u64 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let alive = self.context().enter()?;
        let f = need(self.context().functions().cuMemcpyDtoHAsync_v2)?;
        // SAFETY:
        // - the destination is borrowed until this function returns, and the driver writes to it
        //   no later: pageable memory has been written when the call returns ("API synchronization
        //   behavior"), and the stream is waited for besides;
        // - the source lies inside one allocation of this context (`DeviceRange`).
        check(unsafe { f(to.as_mut_ptr().cast(), from.address(), to.len(), self.raw) })?;
        drop(alive);
        self.synchronize()
    }

    /// `cuMemcpyDtoDAsync`.
    pub fn copy_device(&self, to: DeviceRange, from: DeviceRange) -> Result<(), Status> {
        if to.bytes() != from.bytes() {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let _alive = self.context().enter()?;
        let f = need(self.context().functions().cuMemcpyDtoDAsync_v2)?;
        // SAFETY: both ranges lie inside allocations of this context (`DeviceRange`).
        check(unsafe { f(to.address(), from.address(), size(to.bytes())?, self.raw) })
    }

    /// `cuMemsetD{8,16,32}Async`: `to` is filled with elements of `width` bytes.
    pub fn set(&self, to: DeviceRange, width: u8, value: u32) -> Result<(), Status> {
        let _alive = self.context().enter()?;
        let functions = self.context().functions();
        if !to.bytes().is_multiple_of(u64::from(width.max(1))) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let count = size(to.bytes() / u64::from(width.max(1)))?;
        // SAFETY, of the three calls: `count` elements of the width fill exactly the range, which
        // lies inside one allocation of this context (`DeviceRange`).
        match width {
            1 => {
                let f = need(functions.cuMemsetD8Async)?;
                // SAFETY: above.
                check(unsafe { f(to.address(), value as u8, count, self.raw) })
            }
            2 => {
                let f = need(functions.cuMemsetD16Async)?;
                // SAFETY: above.
                check(unsafe { f(to.address(), value as u16, count, self.raw) })
            }
            4 => {
                let f = need(functions.cuMemsetD32Async)?;
                // SAFETY: above.
                check(unsafe { f(to.address(), value, count, self.raw) })
            }
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    /// `cuMemsetD2D{8,16,32}Async`: the first `count` elements of each row.
    pub fn set_2d(&self, to: DeviceRows, width: u8, value: u32) -> Result<(), Status> {
        let _alive = self.context().enter()?;
        let functions = self.context().functions();
        let (pitch, count, rows) = (size(to.pitch)?, size(to.count)?, size(to.rows)?);
        if width != to.width {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        // SAFETY, of the three calls: `DeviceRows` covers what they write.
        match width {
            1 => {
                let f = need(functions.cuMemsetD2D8Async)?;
                // SAFETY: above.
                check(unsafe {
                    f(
                        to.range.address(),
                        pitch,
                        value as u8,
                        count,
                        rows,
                        self.raw,
                    )
                })
            }
            2 => {
                let f = need(functions.cuMemsetD2D16Async)?;
                // SAFETY: above.
                check(unsafe {
                    f(
                        to.range.address(),
                        pitch,
                        value as u16,
                        count,
                        rows,
                        self.raw,
                    )
                })
            }
            4 => {
                let f = need(functions.cuMemsetD2D32Async)?;
                // SAFETY: above.
                check(unsafe { f(to.range.address(), pitch, value, count, rows, self.raw) })
            }
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }
}

/// Rows of device memory: the range reaches from the first row's first byte to the last row's
/// last.
#[derive(Clone, Copy, Debug)]
pub struct DeviceRows {
    range: DeviceRange,
    pitch: u64,
    width: u8,
    count: u64,
    rows: u64,
}

impl DeviceRows {
    /// Bytes from the first row's first byte to the last row's last, for `count` elements of
    /// `width` bytes in each of `rows` rows; `None` where that is no number or the rows overlap.
    pub fn span_bytes(pitch: u64, width: u8, count: u64, rows: u64) -> Option<u64> {
        let row = count.checked_mul(u64::from(width))?;
        if row > pitch {
            return None;
        }
        rows.checked_sub(1)?.checked_mul(pitch)?.checked_add(row)
    }

    /// Rows in a range of [`span_bytes`](DeviceRows::span_bytes).
    pub fn new(
        range: DeviceRange,
        pitch: u64,
        width: u8,
        count: u64,
        rows: u64,
    ) -> Result<DeviceRows, Status> {
        if DeviceRows::span_bytes(pitch, width, count, rows) != Some(range.bytes()) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        Ok(DeviceRows {
            range,
            pitch,
            width,
            count,
            rows,
        })
    }
}

/// Host memory that the GPU reads and writes without the driver's staging copies.
#[derive(Debug)]
pub struct HostPin {
    ctx: Arc<Context>,
    window: Window,
}

/// `CU_MEMHOSTREGISTER_PORTABLE`: pinned for every context of the process.
const PORTABLE: u32 = 1;

impl HostPin {
    /// `cuMemHostRegister`.
    pub fn register(ctx: &Arc<Context>, window: &Window) -> Result<HostPin, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuMemHostRegister_v2)?;
        // There must be a way back.
        need(ctx.functions().cuMemHostUnregister)?;
        // SAFETY: the window is a mapping of that length, and a copy of it is kept until it is
        // unregistered, or until the context is destroyed, which unregisters it.
        check(unsafe { f(window.base().cast(), window.len(), PORTABLE) })?;
        Ok(HostPin {
            ctx: Arc::clone(ctx),
            window: *window,
        })
    }
}

/// `CU_MEMHOSTREGISTER_DEVICEMAP`: mapped into the address space of the GPU.
const DEVICEMAP: u32 = 2;

impl HostPin {
    /// `cuMemHostRegister` of memory that the GPU is to reach under its address here.
    ///
    /// # Errors
    /// `ERROR_NOT_SUPPORTED` where the GPU would have another address for it
    /// (`CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM` is 0).
    pub fn register_mapped(ctx: &Arc<Context>, window: &Window) -> Result<HostPin, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuMemHostRegister_v2)?;
        let address_of = need(ctx.functions().cuMemHostGetDevicePointer_v2)?;
        need(ctx.functions().cuMemHostUnregister)?;
        // SAFETY: as in `register`.
        check(unsafe { f(window.base().cast(), window.len(), PORTABLE | DEVICEMAP) })?;
        let pin = HostPin {
            ctx: Arc::clone(ctx),
            window: *window,
        };
        let mut address = 0;
        // SAFETY: writes one number; the memory was just registered.
        check(unsafe { address_of(&mut address, window.base().cast(), 0) })?;
        if address != window.base() as u64 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        Ok(pin)
    }
}

impl Drop for HostPin {
    fn drop(&mut self) {
        let Ok(_alive) = self.ctx.enter() else { return };
        if let Some(f) = self.ctx.functions().cuMemHostUnregister {
            // SAFETY: registered by `register`, unregistered once.
            let _ = unsafe { f(self.window.base().cast()) };
        }
    }
}

/// A number of bytes as the driver takes it.
pub fn size(bytes: u64) -> Result<usize, Status> {
    usize::try_from(bytes).map_err(|_| Status::ERROR_INVALID_VALUE)
}
