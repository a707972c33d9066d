//! Copies of boxes in streams, between contexts, and of many pieces at once.

use std::mem::offset_of;
use std::sync::Arc;

use cudarc::driver::sys::{
    CUDA_MEMCPY3D_BATCH_OP_st as BatchOp, CUDA_MEMCPY3D_st as Raw, CUcontext, CUdeviceptr,
    CUmemcpy3DOperand_st as Operand, CUmemcpyAttributes_st as Attributes, CUstream,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, StreamId, stubs};
use vgpu_transport::copy::Place;
use vgpu_transport::user::{Source, Target as Into};

use crate::abi::{Done, Host, INVALID, In, Out, Zero, exports};
use crate::capture::Target;
use crate::copy::{When, copy};
use crate::copy3d::{Copy3d, Side};
use crate::ctx::{Ctx, enter};
use crate::graph::Work;
use crate::init::{Driver, driver};
use crate::stream::Queue;

const DEFAULT: CUstream = std::ptr::null_mut();
/// `CUmemorytype`.
const DEVICE: u32 = 2;
const UNIFIED: u32 = 4;
/// How much of a copy between contexts is here at a time, in bytes.
const STEP: usize = 1 << 20;

impl Driver {
    /// The context of device memory at an address, where that is another one than `ctx`.
    pub fn foreign(&self, address: u64, ctx: &Arc<Ctx>) -> Option<Arc<Ctx>> {
        let (_, alloc) = self.alloc_at(address)?;
        (!Arc::ptr_eq(&alloc.ctx, ctx)).then_some(alloc.ctx)
    }

    /// Copies from one context's memory to another one's. "Serialized with respect to all pending and
    /// future asynchronous work" of both (cuMemcpyPeer): the bytes come through here.
    pub fn copy_across(&self, dst: (u64, &Ctx), src: (u64, &Ctx), bytes: usize) -> Done {
        let place = |ctx: &Ctx| {
            Ok(Place {
                ctx: ctx.id()?,
                stream: StreamId(0),
            })
        };
        let (to, from) = (place(dst.1)?, place(src.1)?);
        self.check_range(dst.0, bytes as u64)?;
        self.check_range(src.0, bytes as u64)?;
        for ctx in [to.ctx, from.ctx] {
            stubs::ctx_synchronize(self.channel, ctx)?;
        }
        let mut buffer = vec![0; STEP.min(bytes)];
        let mut at = 0;
        while at < bytes {
            let piece = STEP.min(bytes - at);
            let part = buffer.get_mut(..piece).ok_or(INVALID)?;
            let source = self.check_range(src.0 + at as u64, piece as u64)?;
            self.channel
                .copy_from_device(from, source, Into::of(part))?;
            let target = self.check_range(dst.0 + at as u64, piece as u64)?;
            self.channel.copy_to_device(to, target, Source::of(part))?;
            at += piece;
        }
        stubs::ctx_synchronize(self.channel, to.ctx)
    }
}

fn copy_peer(
    dst: (CUdeviceptr, CUcontext),
    src: (CUdeviceptr, CUcontext),
    bytes: usize,
    of: (CUstream, Zero),
    when: When,
) -> Done {
    let driver = driver()?;
    for ctx in [dst.1, src.1] {
        driver.context(ctx)?.id()?;
    }
    for at in [dst.0, src.0] {
        if bytes > 0 {
            driver.check_range(at, bytes as u64)?;
        }
    }
    if let Target::Capture(capture) = driver.target(of.0, of.1)? {
        return capture.add(Work::Copy(Copy3d {
            ctx: Arc::clone(&capture.queue.ctx),
            src: Side::flat(src.0, true),
            dst: Side::flat(dst.0, true),
            width: bytes as u64,
            height: 1,
            depth: 1,
        }));
    }
    copy(dst.0, src.0, bytes, of, when)
}

impl Copy3d {
    /// Copies in a stream's order.
    fn submit(
        &self,
        driver: &'static Driver,
        queue: &Queue,
        of: (CUstream, Zero),
        when: When,
    ) -> Done {
        if self.is_nothing() {
            return Ok(());
        }
        let (from, to) = (self.src.is_device(driver), self.dst.is_device(driver));
        if !from && !to {
            crate::stream::wait(of.0, of.1)?;
        }
        self.joined().rows(driver, queue.ctx_id, queue.id)?;
        let host = |side: &Side| driver.is_host(side.base());
        if when == When::Now && (host(&self.src) || host(&self.dst)) {
            stubs::stream_synchronize(driver.channel, queue.ctx_id, queue.id)?;
        }
        Ok(())
    }
}

fn copy_3d(params: Host, of: (CUstream, Zero), when: When) -> Done {
    let driver = driver()?;
    match driver.target(of.0, of.1)? {
        Target::Queue(queue) => {
            let copy = Copy3d::read(params, &queue.ctx, driver)?;
            copy.submit(driver, &queue, of, when)
        }
        Target::Capture(capture) => {
            let copy = Copy3d::read(params, &capture.queue.ctx, driver)?;
            capture.add(Work::Copy(copy))
        }
    }
}

/// `CUDA_MEMCPY3D_PEER` is `CUDA_MEMCPY3D` with contexts in its reserved fields.
fn copy_3d_peer(params: Host, of: (CUstream, Zero), when: When) -> Done {
    let driver = driver()?;
    for (kind, ctx) in [
        (offset_of!(Raw, srcMemoryType), offset_of!(Raw, reserved0)),
        (offset_of!(Raw, dstMemoryType), offset_of!(Raw, reserved1)),
    ] {
        let kind: u32 = params.offset(kind).values().get()?;
        let ctx: u64 = params.offset(ctx).values().get()?;
        if kind == DEVICE || ctx != 0 {
            driver.context(ctx as CUcontext)?.id()?;
        }
    }
    copy_3d(params, of, when)
}

/// `CUmemcpySrcAccessOrder`: in the stream's order, within the call, at any time.
const ORDER_STREAM: u32 = 1;
const ORDER_ANY: u32 = 3;

/// A stream for a batch: "must not be legacy NULL stream".
fn batch_stream(driver: &'static Driver, stream: CUstream, zero: Zero) -> Done<Queue> {
    let queue = driver.queue(stream, zero)?;
    if queue.stream.is_none() {
        return Err(INVALID);
    }
    Ok(queue)
}

/// One copy of a batch. Memory of the program that the device does not reach is read in this call:
/// where its turn is the stream's, the stream is waited for.
fn copy_one(
    driver: &'static Driver,
    (dst, src, bytes): (u64, u64, usize),
    order: u32,
    of: (CUstream, Zero),
) -> Done {
    if !(ORDER_STREAM..=ORDER_ANY).contains(&order) {
        return Err(INVALID);
    }
    if order == ORDER_STREAM && !driver.is_device(src) && !driver.is_host(src) {
        crate::stream::wait(of.0, of.1)?;
    }
    copy(dst, src, bytes, of, When::InOrder)
}

/// The arrays of a batch of copies.
struct Batch {
    dsts: In<CUdeviceptr>,
    srcs: In<CUdeviceptr>,
    sizes: In<usize>,
    count: usize,
    attributes: Host,
    indices: In<usize>,
    attribute_count: usize,
}

impl Batch {
    fn order(&self, attribute: usize) -> Done<u32> {
        let at = attribute
            .checked_mul(size_of::<Attributes>())
            .and_then(|at| at.checked_add(offset_of!(Attributes, srcAccessOrder)));
        self.attributes.offset(at.ok_or(INVALID)?).values().get()
    }

    fn run(&self, fail: Out<usize>, stream: CUstream, zero: Zero) -> Done {
        let driver = driver()?;
        // "SIZE_MAX, if the error doesn't pertain to any specific copy."
        fail.set_if_given(usize::MAX);
        batch_stream(driver, stream, zero)?;
        let most = self.attribute_count;
        if self.count == 0 || most == 0 || most > self.count || self.indices.at(0)? != 0 {
            return Err(INVALID);
        }
        for i in 1..most {
            let (before, this) = (self.indices.at(i - 1)?, self.indices.at(i)?);
            if this <= before || this >= self.count {
                return Err(INVALID);
            }
        }
        let mut attribute = 0;
        for i in 0..self.count {
            if attribute + 1 < most && self.indices.at(attribute + 1)? == i {
                attribute += 1;
            }
            let piece = (self.dsts.at(i)?, self.srcs.at(i)?, self.sizes.at(i)?);
            let copied = self
                .order(attribute)
                .and_then(|order| copy_one(driver, piece, order, (stream, zero)));
            if let Err(status) = copied {
                fail.set_if_given(i);
                return Err(status);
            }
        }
        Ok(())
    }
}

/// One side of a copy of a batch of boxes. Between pointers, elements are bytes.
fn side(operand: Host, width: u64, height: u64) -> Done<Side> {
    /// `CU_MEMCPY_OPERAND_TYPE_POINTER` and `…_ARRAY`.
    const POINTER: u32 = 1;
    const ARRAY: u32 = 2;
    let kind: u32 = operand.offset(offset_of!(Operand, type_)).values().get()?;
    match kind {
        POINTER => {}
        ARRAY => return Err(Status::ERROR_NOT_SUPPORTED),
        _ => return Err(INVALID),
    }
    let at = operand.offset(offset_of!(Operand, op));
    let word = |i: usize| at.offset(8 * i).values::<u64>().get();
    let (row, layer) = (word(1)?, word(2)?);
    if row != 0 && row < width || layer != 0 && layer < height {
        return Err(INVALID);
    }
    Ok(Side {
        kind: UNIFIED,
        device: word(0)?,
        pitch: if row == 0 { width } else { row },
        height: if layer == 0 { height } else { layer },
        ..Side::default()
    })
}

fn copy_boxes(
    count: usize,
    list: Host,
    fail: Out<usize>,
    flags: u64,
    of: (CUstream, Zero),
) -> Done {
    let driver = driver()?;
    fail.set_if_given(usize::MAX);
    let queue = batch_stream(driver, of.0, of.1)?;
    if count == 0 || flags != 0 {
        return Err(INVALID);
    }
    let one = |i: usize| -> Done {
        let op = list.offset(i.checked_mul(size_of::<BatchOp>()).ok_or(INVALID)?);
        let extent = op.offset(offset_of!(BatchOp, extent));
        let word = |i: usize| extent.offset(8 * i).values::<u64>().get();
        let (width, height, depth) = (word(0)?, word(1)?, word(2)?);
        let order: u32 = op
            .offset(offset_of!(BatchOp, srcAccessOrder))
            .values()
            .get()?;
        if !(ORDER_STREAM..=ORDER_ANY).contains(&order) {
            return Err(INVALID);
        }
        let copy = Copy3d {
            ctx: Arc::clone(&queue.ctx),
            src: side(op.offset(offset_of!(BatchOp, src)), width, height)?,
            dst: side(op.offset(offset_of!(BatchOp, dst)), width, height)?,
            width,
            height,
            depth,
        };
        copy.check(driver)?;
        if order == ORDER_STREAM && !copy.src.is_device(driver) {
            crate::stream::wait(of.0, of.1)?;
        }
        copy.submit(driver, &queue, of, When::InOrder)
    };
    for i in 0..count {
        one(i).inspect_err(|_| fail.set_if_given(i))?;
    }
    Ok(())
}

exports! {
    /// Copies between contexts.
    fn cuMemcpyPeer | cuMemcpyPeer_ptds [zero] (
        dst: CUdeviceptr, dst_ctx: CUcontext, src: CUdeviceptr, src_ctx: CUcontext, bytes: usize,
    ) {
        copy_peer((dst, dst_ctx), (src, src_ctx), bytes, (DEFAULT, zero), When::Now)
    }

    /// Copies between contexts in a stream's order.
    fn cuMemcpyPeerAsync | cuMemcpyPeerAsync_ptsz [zero] (
        dst: CUdeviceptr, dst_ctx: CUcontext, src: CUdeviceptr, src_ctx: CUcontext, bytes: usize,
        stream: CUstream,
    ) {
        copy_peer((dst, dst_ctx), (src, src_ctx), bytes, (stream, zero), When::InOrder)
    }

    /// Copies a box.
    fn cuMemcpy3D_v2 | cuMemcpy3D_v2_ptds [zero] (params: Host) {
        enter()?;
        copy_3d(params, (DEFAULT, zero), When::Now)
    }

    /// Copies a box in a stream's order.
    fn cuMemcpy3DAsync_v2 | cuMemcpy3DAsync_v2_ptsz [zero] (params: Host, stream: CUstream) {
        copy_3d(params, (stream, zero), When::InOrder)
    }

    /// Copies a box between contexts.
    fn cuMemcpy3DPeer | cuMemcpy3DPeer_ptds [zero] (params: Host) {
        copy_3d_peer(params, (DEFAULT, zero), When::Now)
    }

    /// Copies a box between contexts in a stream's order.
    fn cuMemcpy3DPeerAsync | cuMemcpy3DPeerAsync_ptsz [zero] (params: Host, stream: CUstream) {
        copy_3d_peer(params, (stream, zero), When::InOrder)
    }

    /// Copies many pieces (ABI of CUDA 12.8).
    fn cuMemcpyBatchAsync | cuMemcpyBatchAsync_ptsz [zero] (
        dsts: In<CUdeviceptr>, srcs: In<CUdeviceptr>, sizes: In<usize>, count: usize,
        attributes: Host, indices: In<usize>, attribute_count: usize, fail: Out<usize>,
        stream: CUstream,
    ) {
        Batch { dsts, srcs, sizes, count, attributes, indices, attribute_count }.run(fail, stream, zero)
    }

    /// Copies many pieces.
    fn cuMemcpyBatchAsync_v2 | cuMemcpyBatchAsync_v2_ptsz [zero] (
        dsts: In<CUdeviceptr>, srcs: In<CUdeviceptr>, sizes: In<usize>, count: usize,
        attributes: Host, indices: In<usize>, attribute_count: usize, stream: CUstream,
    ) {
        let batch = Batch { dsts, srcs, sizes, count, attributes, indices, attribute_count };
        batch.run(crate::abi::nowhere(), stream, zero)
    }

    /// Copies many boxes (ABI of CUDA 12.8).
    fn cuMemcpy3DBatchAsync | cuMemcpy3DBatchAsync_ptsz [zero] (
        count: usize, list: Host, fail: Out<usize>, flags: u64, stream: CUstream,
    ) {
        copy_boxes(count, list, fail, flags, (stream, zero))
    }

    /// Copies many boxes.
    fn cuMemcpy3DBatchAsync_v2 | cuMemcpy3DBatchAsync_v2_ptsz [zero] (
        count: usize, list: Host, flags: u64, stream: CUstream,
    ) {
        copy_boxes(count, list, crate::abi::nowhere(), flags, (stream, zero))
    }
}

/// Where a row of a copy goes that is within the device: both contexts are the stream's, or it goes
/// between contexts.
pub fn row_within(
    driver: &Driver,
    (to, from): (u64, u64),
    bytes: u64,
    ctx: &Arc<Ctx>,
    (id, stream): (CtxId, StreamId),
) -> Done {
    let (dst, src) = (driver.foreign(to, ctx), driver.foreign(from, ctx));
    if dst.is_some() || src.is_some() {
        let bytes = usize::try_from(bytes).map_err(|_| INVALID)?;
        stubs::stream_synchronize(driver.channel, id, stream)?;
        let (dst, src) = (dst.as_ref().unwrap_or(ctx), src.as_ref().unwrap_or(ctx));
        return driver.copy_across((to, dst), (from, src), bytes);
    }
    let (to, from) = (
        driver.check_range(to, bytes)?,
        driver.check_range(from, bytes)?,
    );
    stubs::memcpy_dtod(driver.channel, id, to, from, bytes, stream)
}
