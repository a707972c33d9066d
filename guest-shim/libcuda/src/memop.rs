//! Words of memory that streams write and wait for.

use std::mem::offset_of;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUdeviceptr, CUstream, CUstreamBatchMemOpParams_union as Raw,
    CUstreamBatchMemOpParams_union_CUstreamMemOpMemoryBarrierParams_st as Barrier,
    CUstreamBatchMemOpParams_union_CUstreamMemOpWaitValueParams_st as Word,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{DevPtr, MemOp, stubs};
use vgpu_protocol::limits::MAX_MEM_OPS;

use crate::abi::{Done, Host, INVALID, Zero, exports};
use crate::capture::Target;
use crate::graph::Work;
use crate::init::{Driver, driver};

/// `CUstreamBatchMemOpType`.
const WAIT_32: u32 = 1;
const WRITE_32: u32 = 2;
const WAIT_64: u32 = 4;
const WRITE_64: u32 = 5;
const BARRIER: u32 = 6;
const FLUSH: u32 = 3;
/// `CU_STREAM_WAIT_VALUE_FLUSH`.
const WAIT_FLUSH: u32 = 1 << 30;

/// Checks an operation.
fn check(driver: &Driver, op: &MemOp) -> Done {
    let bytes = match op.kind {
        BARRIER if op.flags <= 1 => return Ok(()),
        FLUSH => return Err(Status::ERROR_NOT_SUPPORTED),
        WAIT_32 | WRITE_32 => 4,
        WAIT_64 | WRITE_64 => 8,
        _ => return Err(INVALID),
    };
    let waits = matches!(op.kind, WAIT_32 | WAIT_64);
    if waits && op.flags & WAIT_FLUSH != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    if op.flags > if waits { 3 } else { 1 } || !op.address.0.is_multiple_of(bytes) {
        return Err(INVALID);
    }
    driver.check_range(op.address.0, bytes).map(drop)
}

/// The operations that a call gives.
pub fn read(driver: &Driver, list: Host, count: u32) -> Done<Vec<MemOp>> {
    if count > MAX_MEM_OPS || (count > 0 && list.is_null()) {
        return Err(INVALID);
    }
    let mut all = Vec::new();
    for i in 0..count as usize {
        let at = list.offset(i * size_of::<Raw>());
        let kind: u32 = at.values().get()?;
        let op = if kind == BARRIER {
            MemOp {
                kind,
                address: DevPtr(0),
                value: 0,
                flags: at.offset(offset_of!(Barrier, flags)).values().get()?,
            }
        } else {
            MemOp {
                kind,
                address: DevPtr(at.offset(offset_of!(Word, address)).values().get()?),
                value: at
                    .offset(offset_of!(Word, __bindgen_anon_1))
                    .values()
                    .get()?,
                flags: at.offset(offset_of!(Word, flags)).values().get()?,
            }
        };
        check(driver, &op)?;
        all.push(op);
    }
    Ok(all)
}

fn submit(stream: CUstream, operations: Vec<MemOp>, zero: Zero) -> Done {
    let driver = driver()?;
    match driver.target(stream, zero)? {
        Target::Queue(queue) => {
            stubs::stream_batch_mem_op(driver.channel, queue.ctx_id, queue.id, operations)
        }
        Target::Capture(capture) => capture.add(Work::MemOps {
            ctx: Arc::clone(&capture.queue.ctx),
            operations,
        }),
    }
}

fn one(
    stream: CUstream,
    kind: u32,
    address: CUdeviceptr,
    value: u64,
    flags: u32,
    zero: Zero,
) -> Done {
    let op = MemOp {
        kind,
        address: DevPtr(address),
        value,
        flags,
    };
    check(driver()?, &op)?;
    submit(stream, vec![op], zero)
}

fn batch(stream: CUstream, count: u32, list: Host, flags: u32, zero: Zero) -> Done {
    if flags != 0 {
        return Err(INVALID);
    }
    let operations = read(driver()?, list, count)?;
    submit(stream, operations, zero)
}

exports! {
    /// Has a stream wait for a word.
    fn cuStreamWaitValue32 | cuStreamWaitValue32_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u32, flags: u32) {
        one(stream, WAIT_32, at, value.into(), flags, zero)
    }

    /// Has a stream wait for a word.
    fn cuStreamWaitValue32_v2 | cuStreamWaitValue32_v2_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u32, flags: u32) {
        one(stream, WAIT_32, at, value.into(), flags, zero)
    }

    /// Has a stream wait for a long word.
    fn cuStreamWaitValue64 | cuStreamWaitValue64_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u64, flags: u32) {
        one(stream, WAIT_64, at, value, flags, zero)
    }

    /// Has a stream wait for a long word.
    fn cuStreamWaitValue64_v2 | cuStreamWaitValue64_v2_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u64, flags: u32) {
        one(stream, WAIT_64, at, value, flags, zero)
    }

    /// Has a stream write a word.
    fn cuStreamWriteValue32 | cuStreamWriteValue32_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u32, flags: u32) {
        one(stream, WRITE_32, at, value.into(), flags, zero)
    }

    /// Has a stream write a word.
    fn cuStreamWriteValue32_v2 | cuStreamWriteValue32_v2_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u32, flags: u32) {
        one(stream, WRITE_32, at, value.into(), flags, zero)
    }

    /// Has a stream write a long word.
    fn cuStreamWriteValue64 | cuStreamWriteValue64_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u64, flags: u32) {
        one(stream, WRITE_64, at, value, flags, zero)
    }

    /// Has a stream write a long word.
    fn cuStreamWriteValue64_v2 | cuStreamWriteValue64_v2_ptsz [zero] (stream: CUstream, at: CUdeviceptr, value: u64, flags: u32) {
        one(stream, WRITE_64, at, value, flags, zero)
    }

    /// Several such operations.
    fn cuStreamBatchMemOp | cuStreamBatchMemOp_ptsz [zero] (stream: CUstream, count: u32, list: Host, flags: u32) {
        batch(stream, count, list, flags, zero)
    }

    /// Several such operations.
    fn cuStreamBatchMemOp_v2 | cuStreamBatchMemOp_v2_ptsz [zero] (stream: CUstream, count: u32, list: Host, flags: u32) {
        batch(stream, count, list, flags, zero)
    }
}
