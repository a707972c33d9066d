//! Copies of boxes, of many pieces, and between contexts.

use std::ptr;

use anyhow::{Result, ensure};

use super::{Pinned, code, mixed};
use crate::call;
use crate::cuda::{Buffer, Context, Stream, sys};

/// Rows and slices of the arrays, in words.
const ROW: usize = 24;
const ROWS: usize = 10;
const SLICES: usize = 6;
const WORDS: usize = ROW * ROWS * SLICES;

#[derive(Clone, Copy)]
enum At {
    Device(u64),
    Host(*mut u32),
}

/// A copy of nothing within the device.
fn nothing() -> sys::CUDA_MEMCPY3D {
    let kind = sys::CUmemorytype_enum::CU_MEMORYTYPE_DEVICE;
    sys::CUDA_MEMCPY3D {
        srcXInBytes: 0,
        srcY: 0,
        srcZ: 0,
        srcLOD: 0,
        srcMemoryType: kind,
        srcHost: ptr::null(),
        srcDevice: 0,
        srcArray: ptr::null_mut(),
        reserved0: ptr::null_mut(),
        srcPitch: 0,
        srcHeight: 0,
        dstXInBytes: 0,
        dstY: 0,
        dstZ: 0,
        dstLOD: 0,
        dstMemoryType: kind,
        dstHost: ptr::null_mut(),
        dstDevice: 0,
        dstArray: ptr::null_mut(),
        reserved1: ptr::null_mut(),
        dstPitch: 0,
        dstHeight: 0,
        WidthInBytes: 0,
        Height: 0,
        Depth: 0,
    }
}

/// A box of 5 × 4 × 3 words, from (2, 3, 1) to (7, 1, 2).
fn copy_box(dst: At, src: At, stream: Option<&Stream>) -> Result<()> {
    use sys::CUmemorytype_enum::CU_MEMORYTYPE_HOST;
    let mut copy = nothing();
    match src {
        At::Device(at) => copy.srcDevice = at,
        At::Host(at) => (copy.srcMemoryType, copy.srcHost) = (CU_MEMORYTYPE_HOST, at.cast()),
    }
    match dst {
        At::Device(at) => copy.dstDevice = at,
        At::Host(at) => (copy.dstMemoryType, copy.dstHost) = (CU_MEMORYTYPE_HOST, at.cast()),
    }
    (copy.srcXInBytes, copy.srcY, copy.srcZ) = (8, 3, 1);
    (copy.dstXInBytes, copy.dstY, copy.dstZ) = (28, 1, 2);
    (copy.srcPitch, copy.srcHeight) = (4 * ROW, ROWS);
    (copy.dstPitch, copy.dstHeight) = (4 * ROW, ROWS);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (20, 4, 3);
    // SAFETY: the box lies inside of both arrays, which the caller waits for.
    unsafe {
        match stream {
            None => call!(cuMemcpy3D_v2(&copy))?,
            Some(stream) => call!(cuMemcpy3DAsync_v2(&copy, stream.raw()))?,
        }
    }
    Ok(())
}

/// What the copy makes of zeros.
fn wanted(i: usize) -> u32 {
    let (x, y, z) = (i % ROW, i / ROW % ROWS, i / ROW / ROWS);
    if (7..12).contains(&x) && (1..5).contains(&y) && (2..5).contains(&z) {
        mixed((x - 5) + ROW * ((y + 2) + ROWS * (z - 1)))
    } else {
        0
    }
}

pub fn boxes() -> Result<String> {
    let stream = Stream::new()?;
    let mut source: Vec<u32> = (0..WORDS).map(mixed).collect();
    let device = Buffer::from(&source)?;
    let pinned = Pinned::new(WORDS, 0)?;
    pinned.fill(mixed);
    let sources = [
        At::Device(device.address()),
        At::Host(source.as_mut_ptr()),
        At::Host(pinned.at.cast()),
    ];
    let mut compared = 0;
    for src in sources {
        for in_stream in [None, Some(&stream)] {
            let target = Buffer::<u32>::zeros(WORDS)?;
            copy_box(At::Device(target.address()), src, in_stream)?;
            stream.synchronize()?;
            for (i, found) in target.read()?.into_iter().enumerate() {
                ensure!(found == wanted(i), "word {i} is {found:#x}");
                compared += 1;
            }
            let mut target = vec![0u32; WORDS];
            copy_box(At::Host(target.as_mut_ptr()), src, in_stream)?;
            stream.synchronize()?;
            for (i, found) in target.into_iter().enumerate() {
                ensure!(found == wanted(i), "word {i} of host memory is {found:#x}");
                compared += 1;
            }
            let target = Pinned::new(WORDS, 0)?;
            target.fill(|_| 0);
            copy_box(At::Host(target.at.cast()), src, in_stream)?;
            stream.synchronize()?;
            compared += target.compare(wanted)?;
        }
    }
    let mut copy = nothing();
    (copy.srcDevice, copy.dstDevice) = (device.address(), device.address());
    (copy.srcPitch, copy.dstPitch) = (8, 8);
    (copy.WidthInBytes, copy.Height, copy.Depth) = (16, 2, 1);
    // SAFETY: the copy is refused.
    let array = unsafe { call!(cuMemcpy3D_v2(&copy)) };
    ensure!(
        code(array) == 1,
        "a pitch below the width returned {}",
        code(array)
    );
    Ok(format!("{compared} words"))
}

pub fn batches() -> Result<String> {
    let stream = Stream::new()?;
    let source: Vec<u32> = (0..1000).map(mixed).collect();
    let device = Buffer::<u32>::zeros(1000)?;
    let back = Pinned::new(1000, 0)?;
    back.fill(|_| 0);
    let at = |i: usize| device.address() + 4 * i as u64;
    let host = source.as_ptr() as u64;
    let mut dsts = [at(0), at(300), at(800)];
    let mut srcs = [host, host + 1200, host + 3200];
    let mut sizes = [1200usize, 2000, 800];
    // SAFETY: all zeros are a value of the struct.
    let mut attributes: sys::CUmemcpyAttributes = unsafe { std::mem::zeroed() };
    attributes.srcAccessOrder =
        sys::CUmemcpySrcAccessOrder::CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL;
    let mut indices = [0usize];
    let mut batch = |dsts: &mut [u64; 3], srcs: &mut [u64; 3], stream| {
        // SAFETY: lists of three pieces of memory of ours, and of one attribute.
        unsafe {
            call!(cuMemcpyBatchAsync_v2(
                dsts.as_mut_ptr(),
                srcs.as_mut_ptr(),
                sizes.as_mut_ptr(),
                3,
                &mut attributes,
                indices.as_mut_ptr(),
                1,
                stream,
            ))
        }
    };
    batch(&mut dsts, &mut srcs, stream.raw())?;
    let mut targets = [0, 300, 800].map(|i: u64| back.at as u64 + 4 * i);
    batch(&mut targets, &mut dsts, stream.raw())?;
    stream.synchronize()?;
    let compared = back.compare(mixed)?;
    let legacy = batch(&mut targets, &mut dsts, ptr::null_mut());
    ensure!(
        code(legacy) == 1,
        "the default stream returned {}",
        code(legacy)
    );
    Ok(format!("{compared} words"))
}

/// Memory of two contexts of the device.
pub fn contexts() -> Result<String> {
    let words = 300_000;
    let mut primary = ptr::null_mut();
    // SAFETY: a place for the handle.
    unsafe { call!(cuCtxGetCurrent(&mut primary)) }?;
    let data: Vec<u32> = (0..words).map(mixed).collect();
    let source = Buffer::from(&data)?;
    let other = Context::create()?;
    let mut second = ptr::null_mut();
    // SAFETY: a place for the handle.
    unsafe { call!(cuCtxGetCurrent(&mut second)) }?;
    let target = Buffer::<u32>::zeros(words)?;
    // SAFETY: both ranges and contexts are ours.
    unsafe {
        call!(cuMemcpyPeer(
            target.address(),
            second,
            source.address(),
            primary,
            4 * words
        ))?;
        ensure!(target.read()? == data, "the peer copy differs");
        call!(cuMemsetD32_v2(target.address(), 0, words))?;
        let stream = Stream::new()?;
        call!(cuMemcpyPeerAsync(
            target.address(),
            second,
            source.address(),
            primary,
            4 * words,
            stream.raw()
        ))?;
        stream.synchronize()?;
        ensure!(target.read()? == data, "the peer copy in a stream differs");
        let wrong = call!(cuMemcpyPeer(
            target.address(),
            ptr::null_mut(),
            source.address(),
            primary,
            4
        ));
        ensure!(code(wrong) == 201, "no context returned {}", code(wrong));
    }
    drop(target);
    drop(other);
    // SAFETY: the context that was current.
    unsafe { call!(cuCtxSetCurrent(primary)) }?;
    Ok(format!("{words} words, twice"))
}

/// What would share memory with another process says that it cannot, or does it.
pub fn sharing() -> Result<String> {
    let buffer = Buffer::<u32>::zeros(16)?;
    // SAFETY: all zeros are a value of the struct.
    let mut handle: sys::CUipcMemHandle = unsafe { std::mem::zeroed() };
    // SAFETY: a place for the handle; the memory is ours.
    let got = unsafe { call!(cuIpcGetMemHandle(&mut handle, buffer.address())) };
    ensure!(
        [0, 801].contains(&code(got)),
        "cuIpcGetMemHandle returned {}",
        code(got)
    );
    Ok("1 call".to_owned())
}
