//! What `cuStreamBatchMemOp` documents of its operations, the same on every backend.

use cudarc::driver::sys::{
    CUstreamBatchMemOpType_enum as Type, CUstreamWaitValue_flags_enum as WaitFlags,
    CUstreamWriteValue_flags_enum as WriteFlags,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{DevPtr, MemOp};

/// A checked operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing but order.
    Barrier,
    /// Write 4 or 8 bytes.
    Write {
        /// Where.
        at: DevPtr,
        /// How many bytes.
        bytes: u8,
        /// What.
        value: u64,
    },
    /// Wait for 4 or 8 bytes.
    Wait {
        /// Where.
        at: DevPtr,
        /// How many bytes.
        bytes: u8,
        /// What they are compared with.
        value: u64,
        /// `CU_STREAM_WAIT_VALUE_GEQ`, `_EQ`, `_AND` or `_NOR`: 0 to 3.
        until: u32,
    },
}

/// Checks kind, flags and alignment of an operation.
///
/// # Errors
/// `ERROR_INVALID_VALUE`; `ERROR_NOT_SUPPORTED` for flushes of remote writes, which the device says
/// that it cannot do (`CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES`).
pub fn check(operation: &MemOp) -> Result<Word, Status> {
    const WAIT_32: u32 = Type::CU_STREAM_MEM_OP_WAIT_VALUE_32 as u32;
    const WAIT_64: u32 = Type::CU_STREAM_MEM_OP_WAIT_VALUE_64 as u32;
    const WRITE_32: u32 = Type::CU_STREAM_MEM_OP_WRITE_VALUE_32 as u32;
    const WRITE_64: u32 = Type::CU_STREAM_MEM_OP_WRITE_VALUE_64 as u32;
    const BARRIER: u32 = Type::CU_STREAM_MEM_OP_BARRIER as u32;
    const FLUSH: u32 = Type::CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES as u32;
    const WAIT_FLUSH: u32 = WaitFlags::CU_STREAM_WAIT_VALUE_FLUSH as u32;
    const NO_BARRIER: u32 = WriteFlags::CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER as u32;
    let MemOp {
        kind,
        address: at,
        value,
        flags,
    } = *operation;
    let bytes = match kind {
        // CU_STREAM_MEMORY_BARRIER_TYPE_SYS and _GPU.
        BARRIER if flags <= 1 => return Ok(Word::Barrier),
        FLUSH => return Err(Status::ERROR_NOT_SUPPORTED),
        WAIT_32 | WRITE_32 => 4,
        WAIT_64 | WRITE_64 => 8,
        _ => return Err(Status::ERROR_INVALID_VALUE),
    };
    let value = if bytes == 4 {
        value & 0xffff_ffff
    } else {
        value
    };
    if !at.0.is_multiple_of(bytes.into()) {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    if kind == WRITE_32 || kind == WRITE_64 {
        return if flags & !NO_BARRIER == 0 {
            Ok(Word::Write { at, bytes, value })
        } else {
            Err(Status::ERROR_INVALID_VALUE)
        };
    }
    if flags & WAIT_FLUSH != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    if flags > WaitFlags::CU_STREAM_WAIT_VALUE_NOR as u32 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    Ok(Word::Wait {
        at,
        bytes,
        value,
        until: flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_are_none_are_refused() {
        let op = |kind, address, flags| MemOp {
            kind,
            address: DevPtr(address),
            value: u64::MAX,
            flags,
        };
        let refused = |kind, address, flags| check(&op(kind, address, flags)).err();
        let (at, bytes, value) = (DevPtr(12), 4, 0xffff_ffff);
        assert_eq!(check(&op(2, 12, 0)), Ok(Word::Write { at, bytes, value }));
        assert_eq!(check(&op(2, 12, 1)), Ok(Word::Write { at, bytes, value }));
        assert_eq!(
            check(&op(4, 16, 3)),
            Ok(Word::Wait {
                at: DevPtr(16),
                bytes: 8,
                value: u64::MAX,
                until: 3
            })
        );
        assert_eq!(check(&op(6, 0, 0)), Ok(Word::Barrier));
        for (kind, address, flags) in [
            (2, 13, 0),
            (5, 12, 0),
            (1, 12, 4),
            (2, 12, 2),
            (7, 0, 0),
            (0, 0, 0),
            (6, 0, 2),
        ] {
            assert_eq!(
                refused(kind, address, flags),
                Some(Status::ERROR_INVALID_VALUE),
                "{kind} {address} {flags}"
            );
        }
        assert_eq!(refused(3, 0, 0), Some(Status::ERROR_NOT_SUPPORTED));
        assert_eq!(refused(1, 12, 1 << 30), Some(Status::ERROR_NOT_SUPPORTED));
    }
}
