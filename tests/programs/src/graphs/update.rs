//! Updates of executable graphs: which succeed, and how the others fail.

use std::ffi::c_void;
use std::mem::zeroed;
use std::ptr;

use anyhow::{Result, ensure};

use super::raw::{Bench, Event, Exec, Graph, Mode, N, Stream, begin, code, end, expect};
use crate::call;
use crate::cuda::sys;

fn captured(stream: &Stream, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
    begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
    work()?;
    Ok(end(stream.0)?)
}

/// Result of `cuGraphExecUpdate`, and what it tells.
fn update(exec: &Exec, graph: &Graph) -> (u32, u32) {
    // SAFETY: live objects; all zeros is a value of the struct.
    unsafe {
        let mut info: sys::CUgraphExecUpdateResultInfo = zeroed();
        let result = code(&call!(cuGraphExecUpdate_v2(exec.0, graph.0, &mut info)));
        (result, info.result as u32)
    }
}

pub fn table() -> Result<String> {
    let b = Bench::new(3)?;
    let stream = Stream::new(0)?;
    let event = Event::new()?;
    let s = stream.0;
    let words = N as usize;
    let copy = |to: usize, from: usize, bytes: usize| {
        // SAFETY: arrays of as many bytes.
        unsafe { call!(cuMemcpyDtoDAsync_v2(b.at(to), b.at(from), bytes, s)) }
    };
    // SAFETY: as above.
    let set = |i: usize, value: u32, count: usize| unsafe {
        call!(cuMemsetD32Async(b.at(i), value, count, s))
    };
    let base = || -> Result<()> {
        set(0, 1, words)?;
        b.step(0, 1, s)?;
        copy(1, 0, words * 4)?;
        Ok(())
    };
    let exec = captured(&stream, base)?.exec()?;
    type Work<'a> = Box<dyn Fn() -> Result<()> + 'a>;
    let rows: Vec<(&str, u32, u32, Work<'_>)> = vec![
        ("the same", 0, 0, Box::new(base)),
        (
            "other parameters",
            0,
            0,
            Box::new(|| {
                set(0, 2, words)?;
                b.step(0, 9, s)?;
                copy(1, 0, words * 4)?;
                Ok(())
            }),
        ),
        (
            "another kernel",
            0,
            0,
            Box::new(|| {
                set(0, 2, words)?;
                b.mix(0, 2, 1, s)?;
                copy(1, 0, words * 4)?;
                Ok(())
            }),
        ),
        (
            "other memory",
            0,
            0,
            Box::new(|| {
                set(2, 3, words)?;
                b.step(2, 1, s)?;
                copy(0, 2, words * 4)?;
                Ok(())
            }),
        ),
        (
            "another length",
            0,
            0,
            Box::new(|| {
                set(0, 3, words / 2)?;
                b.step(0, 1, s)?;
                copy(1, 0, words * 2)?;
                Ok(())
            }),
        ),
        (
            "one node more",
            910,
            2,
            Box::new(|| {
                base()?;
                b.step(0, 1, s)?;
                Ok(())
            }),
        ),
        (
            "one node less",
            910,
            2,
            Box::new(|| {
                set(0, 2, words)?;
                b.step(0, 1, s)?;
                Ok(())
            }),
        ),
        (
            "another kind",
            910,
            3,
            Box::new(|| {
                set(0, 1, words)?;
                set(0, 1, words)?;
                copy(1, 0, words * 4)?;
                Ok(())
            }),
        ),
        (
            "rows",
            910,
            5,
            Box::new(|| {
                // SAFETY: four rows of an array.
                unsafe { call!(cuMemsetD2D32Async(b.at(0), 16, 1, 2, 4, s)) }?;
                b.step(0, 1, s)?;
                copy(1, 0, words * 4)?;
                Ok(())
            }),
        ),
        (
            "memory of the program",
            910,
            5,
            Box::new(|| {
                static WORDS: [u32; N as usize] = [1; N as usize];
                set(0, 1, words)?;
                b.step(0, 1, s)?;
                // SAFETY: constant memory of as many bytes.
                unsafe {
                    call!(cuMemcpyHtoDAsync_v2(
                        b.at(1),
                        WORDS.as_ptr().cast(),
                        words * 4,
                        s
                    ))
                }?;
                Ok(())
            }),
        ),
        (
            "an event",
            910,
            3,
            Box::new(|| {
                set(0, 1, words)?;
                // SAFETY: a live event.
                unsafe { call!(cuEventRecordWithFlags(event.0, s, 1)) }?;
                copy(1, 0, words * 4)?;
                Ok(())
            }),
        ),
    ];
    let count = rows.len();
    for (what, result, told, work) in rows {
        let graph = captured(&stream, work)?;
        let found = update(&exec, &graph);
        ensure!(
            found == (result, told),
            "{what}: {found:?}, expected {:?}",
            (result, told)
        );
        if result == 0 {
            b.clear()?;
            exec.launch(s)?;
            stream.wait()?;
            let by_graph = (b.read_first(0)?, b.read_first(1)?, b.read_first(2)?);
            b.clear()?;
            let fresh = graph.exec()?;
            fresh.launch(s)?;
            stream.wait()?;
            let by_new = (b.read_first(0)?, b.read_first(1)?, b.read_first(2)?);
            ensure!(
                by_graph == by_new,
                "{what}: {by_graph:?}, a new graph gives {by_new:?}"
            );
        }
    }
    // A failed update changes nothing.
    b.clear()?;
    let good = captured(&stream, base)?;
    ensure!(update(&exec, &good) == (0, 0), "it still can");
    exec.launch(s)?;
    stream.wait()?;
    ensure!(b.read(1)? == 4, "the first graph's work");
    Ok(format!("{count} rows"))
}

impl Bench {
    fn read_first(&self, i: usize) -> Result<u32> {
        let mut word = 0u32;
        // SAFETY: one word of an array.
        unsafe { call!(cuMemcpyDtoH_v2((&raw mut word).cast(), self.at(i), 4)) }?;
        Ok(word)
    }
}

/// Nodes of an executable graph get other work one by one.
pub fn nodes() -> Result<String> {
    let b = Bench::new(2)?;
    let stream = Stream::new(0)?;
    let graph = captured(&stream, || Ok(b.step(0, 1, stream.0)?))?;
    let exec = graph.exec()?;
    let node = graph.nodes()?[0];
    let (mut p, mut n, mut k) = (b.at(1), N, 7u32);
    let mut params: [*mut c_void; 3] = [
        (&raw mut p).cast(),
        (&raw mut n).cast(),
        (&raw mut k).cast(),
    ];
    // SAFETY: live objects; a kernel with these parameters.
    unsafe {
        let mut of: sys::CUDA_KERNEL_NODE_PARAMS = zeroed();
        of.func = b.step;
        (of.gridDimX, of.gridDimY, of.gridDimZ) = (1, 1, 1);
        (of.blockDimX, of.blockDimY, of.blockDimZ) = (N, 1, 1);
        of.kernelParams = params.as_mut_ptr();
        call!(cuGraphExecKernelNodeSetParams_v2(exec.0, node, &of))?;
        exec.launch(stream.0)?;
        stream.wait()?;
        ensure!(
            (b.read(0)?, b.read(1)?) == (0, 7),
            "the executable graph's node alone"
        );
        let old = graph.exec()?;
        old.launch(stream.0)?;
        stream.wait()?;
        ensure!(b.read(0)? == 1, "the graph's own stays");
        call!(cuGraphKernelNodeSetParams_v2(node, &of))?;
        let mut asked: sys::CUDA_KERNEL_NODE_PARAMS = zeroed();
        call!(cuGraphKernelNodeGetParams_v2(node, &mut asked))?;
        ensure!(asked.func == b.step && asked.blockDimX == N, "as set");
        ensure!(
            *(*asked.kernelParams.add(2)).cast::<u32>() == 7,
            "its parameters too"
        );
        of.blockDimX = 0;
        expect(
            "no threads",
            call!(cuGraphKernelNodeSetParams_v2(node, &of)),
            1,
        )?;
        expect(
            "another kind",
            call!(cuGraphHostNodeSetParams(node, ptr::null())),
            1,
        )?;
    }
    Ok("kernel nodes".to_owned())
}

pub fn switched_off() -> Result<String> {
    let b = Bench::new(1)?;
    let stream = Stream::new(0)?;
    let graph = captured(&stream, || {
        b.step(0, 1, stream.0)?;
        b.step(0, 2, stream.0)?;
        Ok(())
    })?;
    let exec = graph.exec()?;
    let nodes = graph.nodes()?;
    let launched = || -> Result<u32> {
        b.clear()?;
        exec.launch(stream.0)?;
        stream.wait()?;
        b.read(0)
    };
    // SAFETY: live objects.
    unsafe {
        ensure!(launched()? == 5, "both");
        call!(cuGraphNodeSetEnabled(exec.0, nodes[0], 0))?;
        let mut on = 7;
        call!(cuGraphNodeGetEnabled(exec.0, nodes[0], &mut on))?;
        ensure!(on == 0 && launched()? == 2, "the second alone");
        call!(cuGraphNodeSetEnabled(exec.0, nodes[0], 1))?;
        ensure!(launched()? == 5, "both again");
    }
    Ok("on and off".to_owned())
}
