//! Checks of arguments that CUDA documents, the same on every backend.

use cudarc::driver::sys::{
    CUctx_flags_enum as CtxFlags, CUevent_flags_enum as EventFlags, CUstream_flags_enum,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::DevPtr;

/// Flags of `cuCtxCreate`.
///
/// # Errors
/// `ERROR_NOT_SUPPORTED` for core dumps, which a driver would write to the host's files, and for
/// `CU_CTX_SYNC_MEMOPS`, because posted calls do not wait; `ERROR_INVALID_VALUE` for unknown flags.
pub fn ctx_flags(flags: u32) -> Result<u32, Status> {
    const NOT_CARRIED: u32 = CtxFlags::CU_CTX_COREDUMP_ENABLE as u32
        | CtxFlags::CU_CTX_USER_COREDUMP_ENABLE as u32
        | CtxFlags::CU_CTX_SYNC_MEMOPS as u32;
    const KNOWN: u32 = CtxFlags::CU_CTX_SCHED_MASK as u32
        | CtxFlags::CU_CTX_MAP_HOST as u32
        | CtxFlags::CU_CTX_LMEM_RESIZE_TO_MAX as u32;
    if flags & NOT_CARRIED != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    known(flags, KNOWN)
}

/// Flags of `cuStreamCreate`.
///
/// # Errors
/// `ERROR_INVALID_VALUE` for all but `CU_STREAM_NON_BLOCKING`.
pub fn stream_flags(flags: u32) -> Result<u32, Status> {
    known(flags, CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32)
}

/// `CU_EVENT_DISABLE_TIMING`.
pub const NO_TIMING: u32 = EventFlags::CU_EVENT_DISABLE_TIMING as u32;

/// Flags of `cuEventCreate`.
///
/// # Errors
/// `ERROR_INVALID_VALUE` for unknown ones, and for `CU_EVENT_INTERPROCESS`: there is no call that
/// would hand such an event to another process.
pub fn event_flags(flags: u32) -> Result<u32, Status> {
    known(flags, EventFlags::CU_EVENT_BLOCKING_SYNC as u32 | NO_TIMING)
}

/// Element size and address of a memory set.
///
/// # Errors
/// `ERROR_INVALID_VALUE` unless elements are 1, 2 or 4 bytes and the address is aligned to them.
pub fn set_elements(dst: DevPtr, width: u8) -> Result<(), Status> {
    if matches!(width, 1 | 2 | 4) && dst.0.is_multiple_of(u64::from(width)) {
        Ok(())
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

/// Size and alignment of reserved addresses.
///
/// # Errors
/// `ERROR_INVALID_VALUE` unless the size is a multiple of the granularity, and the alignment 0 or a
/// power of two.
pub fn reservation(bytes: u64, align: u64, granularity: u64) -> Result<(), Status> {
    physical(bytes, granularity)?;
    if align == 0 || align.is_power_of_two() {
        Ok(())
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

/// Size of physical memory.
///
/// # Errors
/// `ERROR_INVALID_VALUE` unless it is a multiple of the granularity.
pub fn physical(bytes: u64, granularity: u64) -> Result<(), Status> {
    if bytes > 0 && bytes.is_multiple_of(granularity) {
        Ok(())
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

fn known(flags: u32, known: u32) -> Result<u32, Status> {
    if flags & !known == 0 {
        Ok(flags)
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn context_flags_that_nothing_carries_out_are_refused() {
        for flags in [0, 1, 2, 4, 8, 0x10, 0x1f] {
            assert_eq!(ctx_flags(flags), Ok(flags));
        }
        for flags in [0x20, 0x40, 0x80, 0x9f] {
            assert_eq!(
                ctx_flags(flags),
                Err(Status::ERROR_NOT_SUPPORTED),
                "{flags:#x}"
            );
        }
        assert_eq!(ctx_flags(0x100), Err(Status::ERROR_INVALID_VALUE));
    }

    #[test]
    fn only_stream_and_event_flags_that_mean_something_here_pass() {
        for flags in 0..=3 {
            assert_eq!(event_flags(flags), Ok(flags));
        }
        for flags in [4, 8, u32::MAX] {
            assert_eq!(event_flags(flags), Err(Status::ERROR_INVALID_VALUE));
        }
        assert_eq!(stream_flags(1), Ok(1));
        assert_eq!(stream_flags(2), Err(Status::ERROR_INVALID_VALUE));
    }

    #[test]
    fn elements_have_a_size_of_cuda_and_are_aligned() {
        assert_eq!(set_elements(DevPtr(6), 2), Ok(()));
        assert_eq!(set_elements(DevPtr(6), 4), Err(Status::ERROR_INVALID_VALUE));
        assert_eq!(set_elements(DevPtr(0), 3), Err(Status::ERROR_INVALID_VALUE));
        assert_eq!(set_elements(DevPtr(0), 0), Err(Status::ERROR_INVALID_VALUE));
    }
}
