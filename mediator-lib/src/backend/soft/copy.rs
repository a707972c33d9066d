//! Raw copies between the staging arena and device memory, without a buffer between them.
#![allow(unsafe_code)]

use vgpu_protocol::Status;
use vgpu_protocol::window::Window;
use vgpu_soft_gpu::AddressSpace;

/// Copies all of `from` to device memory at `dst`.
///
/// # Errors
/// `ERROR_INVALID_VALUE` where the destination is not inside one allocation.
pub fn to_device(space: &AddressSpace, dst: u64, from: &Window) -> Result<(), Status> {
    let (to, bytes) = space
        .host_range(dst, from.len() as u64)
        .map_err(|_| Status::ERROR_INVALID_VALUE)?;
    // SAFETY:
    // - `host_range` checked that `to` is valid for `bytes` bytes inside one live allocation, and
    //   the session frees allocations only from the thread that copies (see `engine`);
    // - the arena lies in BAR1, which is another mapping than device memory.
    let copied = unsafe { from.read_to(0, to, bytes) };
    copied.map_err(|_| Status::ERROR_INVALID_VALUE)
}

/// Fills all of `to` from device memory at `src`.
///
/// # Errors
/// As [`to_device`].
pub fn from_device(space: &AddressSpace, src: u64, to: &Window) -> Result<(), Status> {
    let (from, bytes) = space
        .reach(src, to.len() as u64, false)
        .map_err(|_| Status::ERROR_INVALID_VALUE)?;
    // SAFETY: as in `to_device`, in the other direction.
    let copied = unsafe { to.write_from(0, from, bytes) };
    copied.map_err(|_| Status::ERROR_INVALID_VALUE)
}
