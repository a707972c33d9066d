//! What is known about an address.

use std::ffi::c_void;
use std::sync::Arc;

use cudarc::driver::sys::{CUcontext, CUdeviceptr, CUpointer_attribute_enum as Attr};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, INVALID, In, exports};
use crate::host::Kind;
use crate::init::{Driver, driver};

/// `CU_MEMORYTYPE_HOST` and `CU_MEMORYTYPE_DEVICE`.
const MEMORYTYPE_HOST: u32 = 1;
const MEMORYTYPE_DEVICE: u32 = 2;

/// `CUDA_POINTER_ATTRIBUTE_P2P_TOKENS` and others that have no meaning here.
const NOT_SUPPORTED: [i32; 3] = [
    Attr::CU_POINTER_ATTRIBUTE_P2P_TOKENS as i32,
    Attr::CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES as i32,
    Attr::CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE as i32,
];

/// Stores an attribute of device memory; `Err(INVALID)` for one that it does not have.
fn store(driver: &Driver, value: Host, attribute: i32, at: CUdeviceptr) -> Done {
    let is = |a: Attr| attribute == a as i32;
    let host = driver.host_at(at);
    // Mapped memory belongs to no context.
    let (base, bytes, unique, ctx) = match (driver.alloc_at(at), &host) {
        (Some((base, alloc)), _) => (base, alloc.bytes, alloc.unique, Some(alloc.ctx)),
        (None, Some(found)) => {
            let ctx = Some(Arc::clone(&found.ctx));
            (found.base, found.bytes, found.unique, ctx)
        }
        (None, None) => {
            let (base, bytes, unique) = driver.mapping_at(at).ok_or(INVALID)?;
            (base, bytes, unique, None)
        }
    };
    if NOT_SUPPORTED.contains(&attribute) {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    if is(Attr::CU_POINTER_ATTRIBUTE_CONTEXT) {
        value.out().set(ctx.map_or(0, |c| c.handle) as CUcontext)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
        let pinned = host.is_some_and(|f| f.kind == Kind::Pinned);
        value.out().set(if pinned {
            MEMORYTYPE_HOST
        } else {
            MEMORYTYPE_DEVICE
        })
    } else if is(Attr::CU_POINTER_ATTRIBUTE_DEVICE_POINTER) {
        value.out().set(host.map_or(at, |f| f.device_address()))
    } else if is(Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER) {
        value.out().set(host.ok_or(INVALID)?.address)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_IS_MANAGED) {
        value
            .out()
            .set(u32::from(host.is_some_and(|f| f.kind == Kind::Managed)))
    } else if is(Attr::CU_POINTER_ATTRIBUTE_BUFFER_ID) {
        value.out().set(unique)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
        value.out().set(ctx.map_or(0, |c| c.device))
    } else if is(Attr::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR) {
        value.out().set(base)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_RANGE_SIZE) {
        value.out().set(bytes as usize)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
        || is(Attr::CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE)
        || is(Attr::CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE)
    {
        // Booleans of which none holds for memory in a VM's device.
        value.out().set(0u32)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_MAPPED) {
        value.out().set(1u32)
    } else {
        Err(INVALID)
    }
}

exports! {
    /// An attribute of the memory at an address.
    fn cuPointerGetAttribute(value: Host, attribute: i32, at: CUdeviceptr) {
        let driver = driver()?;
        if value.is_null() {
            return Err(INVALID);
        }
        store(driver, value, attribute, at)
    }

    /// Several attributes. What is not device memory has attributes that are 0.
    fn cuPointerGetAttributes(count: u32, attributes: In<i32>, values: In<*mut c_void>, at: CUdeviceptr) {
        let driver = driver()?;
        if count == 0 {
            return Err(INVALID);
        }
        for i in 0..count as usize {
            let (attribute, value) = (attributes.at(i)?, Host(values.at(i)?));
            if value.is_null() {
                return Err(INVALID);
            }
            match store(driver, value, attribute, at) {
                Err(INVALID) => zero(value, attribute)?,
                done => done?,
            }
        }
        Ok(())
    }
}

/// Stores the value that an attribute has where it does not apply.
fn zero(value: Host, attribute: i32) -> Done {
    let is = |a: Attr| attribute == a as i32;
    if is(Attr::CU_POINTER_ATTRIBUTE_CONTEXT)
        || is(Attr::CU_POINTER_ATTRIBUTE_DEVICE_POINTER)
        || is(Attr::CU_POINTER_ATTRIBUTE_HOST_POINTER)
        || is(Attr::CU_POINTER_ATTRIBUTE_BUFFER_ID)
        || is(Attr::CU_POINTER_ATTRIBUTE_RANGE_START_ADDR)
        || is(Attr::CU_POINTER_ATTRIBUTE_RANGE_SIZE)
    {
        value.out().set(0u64)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
        // "CU_DEVICE_INVALID".
        value.out().set(-2i32)
    } else if is(Attr::CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
        || is(Attr::CU_POINTER_ATTRIBUTE_IS_MANAGED)
        || is(Attr::CU_POINTER_ATTRIBUTE_MAPPED)
    {
        value.out().set(0u32)
    } else {
        Err(INVALID)
    }
}
