//! Scalars: host or device memory, as the handle's pointer mode says.

use vgpu_protocol::blas::type_bytes;
use vgpu_protocol::calls::{BlasScalar, DevPtr};

use crate::abi::{Done, INVALID, In};

/// A scalar of `ty`: read now where it lies in host memory, so that the program may change it after
/// the call.
pub fn read(device: bool, at: In<u8>, ty: u32) -> Done<BlasScalar> {
    if at.is_null() {
        return Err(INVALID);
    }
    if device {
        return Ok(BlasScalar {
            device: at.device(),
            value: [0; 16],
        });
    }
    let bytes = type_bytes(ty).ok_or(INVALID)?;
    Ok(BlasScalar {
        device: DevPtr(0),
        value: at.bytes(bytes as usize)?,
    })
}
