//! Memory.

use std::ffi::c_void;

use cudarc::driver::sys::{CUdeviceptr, CUpointer_attribute_enum as Attr};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, In, Out, exports, major};
use crate::driver::Opaque;
use crate::runtime::enter;
use crate::types::{Extent, PitchedPtr, PointerAttributes};

/// What kernels may read at once from a pitched allocation, in bytes.
const ELEMENT_BYTES: u32 = 4;
/// `cudaMemoryType`: unregistered, device and managed; the driver's host and device are 1 and 2.
const UNREGISTERED: i32 = 0;
const DEVICE: i32 = 2;
const MANAGED: i32 = 3;
/// What `cudaPointerAttributes` of CUDA 13 has more, in bytes.
pub const RESERVED_13: usize = 64;

/// The place for a device pointer, as the driver takes it.
pub fn device_place(out: Out<Opaque>) -> Out<CUdeviceptr> {
    out.cast()
}

fn alloc_pitch(out: Out<Opaque>, pitch: Out<usize>, width: usize, height: usize) -> Done {
    let runtime = enter()?;
    out.check()?;
    pitch.check()?;
    if width == 0 || height == 0 {
        out.set(std::ptr::null_mut())?;
        return pitch.set(0);
    }
    runtime
        .driver
        .cuMemAllocPitch_v2(device_place(out), pitch, width, height, ELEMENT_BYTES)
}

fn host_alloc(out: Out<Opaque>, bytes: usize, flags: u32) -> Done {
    let runtime = enter()?;
    out.check()?;
    if bytes == 0 {
        return out.set(std::ptr::null_mut());
    }
    runtime.driver.cuMemHostAlloc(out, bytes, flags)
}

fn attributes(at: *const c_void) -> Done<PointerAttributes> {
    let runtime = enter()?;
    let (mut kind, mut device, mut managed) = (0i32, -1i32, 0u32);
    let (mut on_device, mut on_host) = (0u64, 0u64);
    let names = [
        Attr::CU_POINTER_ATTRIBUTE_MEMORY_TYPE as i32,
        Attr::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL as i32,
        Attr::CU_POINTER_ATTRIBUTE_IS_MANAGED as i32,
        Attr::CU_POINTER_ATTRIBUTE_DEVICE_POINTER as i32,
        Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER as i32,
    ];
    let values: [Opaque; 5] = [
        (&raw mut kind).cast(),
        (&raw mut device).cast(),
        (&raw mut managed).cast(),
        (&raw mut on_device).cast(),
        (&raw mut on_host).cast(),
    ];
    runtime
        .driver
        .cuPointerGetAttributes(5, In::to(&names), In::to(&values), at as CUdeviceptr)?;
    // "cudaMemoryTypeUnregistered for unregistered host memory": its host pointer is the address.
    let unknown = kind == UNREGISTERED;
    Ok(PointerAttributes {
        kind: if managed != 0 { MANAGED } else { kind },
        device: if unknown {
            -2
        } else {
            runtime.ordinal(device).unwrap_or(device)
        },
        device_pointer: on_device as Opaque,
        host_pointer: match kind {
            UNREGISTERED => at.cast_mut(),
            DEVICE if managed == 0 => std::ptr::null_mut(),
            _ => on_host as Opaque,
        },
    })
}

exports! {
    /// Allocates device memory.
    fn cudaMalloc(out: Out<Opaque>, bytes: usize) {
        let runtime = enter()?;
        out.check()?;
        if bytes == 0 {
            return out.set(std::ptr::null_mut());
        }
        runtime.driver.cuMemAlloc_v2(device_place(out), bytes)
    }

    /// Allocates rows with a pitch that suits the device.
    fn cudaMallocPitch(out: Out<Opaque>, pitch: Out<usize>, width: usize, height: usize) {
        alloc_pitch(out, pitch, width, height)
    }

    /// Allocates slices of rows.
    fn cudaMalloc3D(out: Out<PitchedPtr>, extent: Extent) {
        out.check()?;
        let rows = extent.height.checked_mul(extent.depth).ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let mut pitch = 0;
        let ptr = crate::abi::handle(|at| alloc_pitch(at, Out::to(&mut pitch), extent.width, rows))?;
        out.set(PitchedPtr { ptr, pitch, xsize: extent.width, ysize: extent.height })
    }

    /// Frees device memory. Without any it initialises the device, which programs rely on.
    fn cudaFree(at: Opaque) {
        let runtime = enter()?;
        if at.is_null() {
            return Ok(());
        }
        runtime.driver.cuMemFree_v2(at as CUdeviceptr)
    }

    /// Allocates memory that the program and the device share.
    fn cudaMallocManaged(out: Out<Opaque>, bytes: usize, flags: u32) {
        let runtime = enter()?;
        out.check()?;
        runtime.driver.cuMemAllocManaged(device_place(out), bytes, flags)
    }

    /// Allocates page-locked host memory.
    fn cudaMallocHost(out: Out<Opaque>, bytes: usize) {
        host_alloc(out, bytes, 0)
    }

    /// Allocates page-locked host memory; the flags are the driver's.
    fn cudaHostAlloc(out: Out<Opaque>, bytes: usize, flags: u32) {
        host_alloc(out, bytes, flags)
    }

    /// Frees page-locked host memory.
    fn cudaFreeHost(at: Opaque) {
        let runtime = enter()?;
        if at.is_null() {
            return Ok(());
        }
        runtime.driver.cuMemFreeHost(at)
    }

    /// Page-locks memory of the program; the flags are the driver's.
    fn cudaHostRegister(at: Opaque, bytes: usize, flags: u32) {
        enter()?.driver.cuMemHostRegister_v2(at, bytes, flags)
    }

    /// Ends what cudaHostRegister began.
    fn cudaHostUnregister(at: Opaque) {
        enter()?.driver.cuMemHostUnregister(at)
    }

    /// The device's address of page-locked host memory.
    fn cudaHostGetDevicePointer(out: Out<Opaque>, at: Opaque, flags: u32) {
        let runtime = enter()?;
        out.check()?;
        runtime.driver.cuMemHostGetDevicePointer_v2(device_place(out), at, flags)
    }

    /// The flags that page-locked host memory was allocated with.
    fn cudaHostGetFlags(flags: Out<u32>, at: Opaque) {
        let runtime = enter()?;
        flags.check()?;
        runtime.driver.cuMemHostGetFlags(flags, at)
    }

    /// Free and total device memory, in bytes.
    fn cudaMemGetInfo(free: Out<usize>, total: Out<usize>) {
        enter()?.driver.cuMemGetInfo_v2(free, total)
    }

    /// What is known of an address.
    fn cudaPointerGetAttributes(out: Out<PointerAttributes>, at: *const c_void) {
        out.check()?;
        let found = attributes(at)?;
        out.set(found)?;
        if major() >= 13 {
            // The structure is longer, and its rest reserved.
            let rest = Host(out.address() as Opaque).offset(size_of::<PointerAttributes>());
            rest.out().set([0u8; RESERVED_13])?;
        }
        Ok(())
    }
}
