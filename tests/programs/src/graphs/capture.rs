//! Captures, legal and not.

use std::ptr;

use anyhow::{Result, ensure};

use super::raw::{Bench, Event, Graph, Mode, N, Stream, begin, code, end, expect, status};
use crate::call;
use crate::cuda::sys;

const GLOBAL: Mode = Mode::CU_STREAM_CAPTURE_MODE_GLOBAL;
const THREAD_LOCAL: Mode = Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const RELAXED: Mode = Mode::CU_STREAM_CAPTURE_MODE_RELAXED;
const UNSUPPORTED: u32 = 900;
const INVALIDATED: u32 = 901;

pub fn linear() -> Result<String> {
    let b = Bench::new(2)?;
    let stream = Stream::new(0)?;
    begin(stream.0, GLOBAL)?;
    ensure!(status(stream.0)? == 1, "it captures");
    b.step(0, 1, stream.0)?;
    b.step(0, 2, stream.0)?;
    // SAFETY: both arrays have as many bytes.
    unsafe {
        call!(cuMemcpyDtoDAsync_v2(
            b.at(1),
            b.at(0),
            N as usize * 4,
            stream.0
        ))?;
        call!(cuMemsetD32Async(b.at(0), 7, N as usize, stream.0))?;
    }
    b.mix(0, 1, 1, stream.0)?;
    let graph = end(stream.0)?;
    ensure!(
        status(stream.0)? == 0 && b.read(0)? == 0,
        "nothing was executed"
    );
    ensure!(
        graph.nodes()?.len() == 5 && graph.edges()? == 4,
        "five nodes in a row"
    );
    let exec = graph.exec()?;
    drop(graph);
    exec.launch(stream.0)?;
    stream.wait()?;
    // (0·3+1)·3+2 = 5; 7·3+5+1 = 27.
    ensure!(
        (b.read(1)?, b.read(0)?) == (5, 27),
        "first launch: {} {}",
        b.read(1)?,
        b.read(0)?
    );
    for _ in 0..3 {
        exec.launch(stream.0)?;
    }
    stream.wait()?;
    let mut word = 27u32;
    let mut copy = 5;
    for _ in 0..3 {
        copy = (word * 3 + 1) * 3 + 2;
        word = 7 * 3 + copy + 1;
    }
    ensure!(
        (b.read(1)?, b.read(0)?) == (copy, word),
        "three more launches"
    );
    Ok("5 nodes, 4 launches".to_owned())
}

pub fn forked() -> Result<String> {
    let b = Bench::new(3)?;
    let streams = [Stream::new(1)?, Stream::new(1)?, Stream::new(0)?];
    let events = [Event::new()?, Event::new()?, Event::new()?];
    begin(streams[0].0, THREAD_LOCAL)?;
    b.step(0, 1, streams[0].0)?;
    events[0].record(streams[0].0)?;
    for (i, stream) in streams.iter().enumerate().skip(1) {
        events[0].awaited_by(stream.0)?;
        ensure!(status(stream.0)? == 1, "a forked stream captures");
        b.mix(i, 0, i as u32, stream.0)?;
        events[i].record(stream.0)?;
    }
    b.step(0, 5, streams[0].0)?;
    events[1].awaited_by(streams[0].0)?;
    events[2].awaited_by(streams[0].0)?;
    b.mix(0, 1, 0, streams[0].0)?;
    let graph = end(streams[0].0)?;
    ensure!(
        streams.iter().all(|s| status(s.0).is_ok_and(|s| s == 0)),
        "all have ended"
    );
    // 0 → 1, 2, 3; all → 4. It is not launched: 3 writes what 1 and 2 read.
    ensure!(graph.nodes()?.len() == 5, "five nodes");
    ensure!(graph.edges()? == 6, "{} edges", graph.edges()?);
    let mut root = 0;
    // SAFETY: only the length is asked.
    unsafe { call!(cuGraphGetRootNodes(graph.0, ptr::null_mut(), &mut root)) }?;
    ensure!(root == 1, "one root");
    Ok("3 streams, 5 nodes, 6 edges".to_owned())
}

/// What cannot be captured, and what becomes of the capture.
pub fn illegal() -> Result<String> {
    let b = Bench::new(1)?;
    let (stream, blocking, other) = (Stream::new(1)?, Stream::new(0)?, Stream::new(1)?);
    let event = Event::new()?;
    let mut rows = 0;
    let mut row = |what: &str, wanted: u32, ends: u32, act: &dyn Fn() -> u32| -> Result<()> {
        begin(blocking.0, RELAXED)?;
        b.step(0, 1, blocking.0)?;
        let found = act();
        ensure!(found == wanted, "{what}: {found}, expected {wanted}");
        let ended = code(&end(blocking.0));
        ensure!(
            ended == ends,
            "{what}: then cuStreamEndCapture {ended}, expected {ends}"
        );
        ensure!(status(blocking.0)? == 0, "{what}: it has ended");
        rows += 1;
        Ok(())
    };
    // SAFETY: live objects; memory as long as the calls say.
    unsafe {
        row("synchronize", UNSUPPORTED, INVALIDATED, &|| {
            code(&call!(cuStreamSynchronize(blocking.0)))
        })?;
        row("query", UNSUPPORTED, INVALIDATED, &|| {
            code(&call!(cuStreamQuery(blocking.0)))
        })?;
        row("legacy launch", 906, INVALIDATED, &|| {
            code(&b.step(0, 1, ptr::null_mut()))
        })?;
        row("legacy copy", 906, INVALIDATED, &|| {
            let mut word = 0u32;
            code(&call!(cuMemcpyDtoH_v2((&raw mut word).cast(), b.at(0), 4)))
        })?;
        row("uncaptured event", 905, INVALIDATED, &|| {
            code(&event.record(other.0)) + code(&event.awaited_by(blocking.0))
        })?;
        row("captured event, query", 907, INVALIDATED, &|| {
            code(&event.record(blocking.0)) + code(&call!(cuEventQuery(event.0)))
        })?;
        row("captured event, synchronize", 907, INVALIDATED, &|| {
            code(&event.record(blocking.0)) + code(&call!(cuEventSynchronize(event.0)))
        })?;
        row("unjoined", 0, 904, &|| {
            code(&event.record(blocking.0))
                + code(&event.awaited_by(other.0))
                + code(&b.step(0, 1, other.0))
        })?;
        row("end in a forked stream", 903, INVALIDATED, &|| {
            code(&event.record(blocking.0)) + code(&event.awaited_by(other.0)) + code(&end(other.0))
        })?;
        row("merge", 902, INVALIDATED, &|| {
            let begun = code(&begin(stream.0, RELAXED));
            let merged = code(&event.record(stream.0)) + code(&event.awaited_by(blocking.0));
            let ended = code(&end(stream.0));
            begun
                + merged
                + if ended == INVALIDATED {
                    0
                } else {
                    10_000 + ended
                }
        })?;
        row("begin twice", 401, INVALIDATED, &|| {
            code(&begin(blocking.0, RELAXED))
        })?;
        row("a forked stream without work", 0, 0, &|| {
            code(&event.record(blocking.0)) + code(&event.awaited_by(other.0))
        })?;
        row("work after an error", INVALIDATED, INVALIDATED, &|| {
            let _ = call!(cuStreamQuery(blocking.0));
            code(&b.step(0, 1, blocking.0))
        })?;
        expect("end without a capture", end(stream.0), 401)?;
        expect(
            "capture of the legacy stream",
            begin(ptr::null_mut(), GLOBAL),
            UNSUPPORTED,
        )?;
        begin(blocking.0, RELAXED)?;
        let mut status = sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE;
        expect(
            "status of the legacy stream",
            call!(cuStreamIsCapturing(ptr::null_mut(), &mut status)),
            906,
        )?;
        expect("which changes nothing", end(blocking.0), 0)?;
    }
    b.clear()?;
    b.step(0, 1, blocking.0)?;
    blocking.wait()?;
    ensure!(b.read(0)? == 1, "streams work on after failed captures");
    Ok(format!("{rows} rows"))
}

/// Which thread may do what while another captures.
pub fn modes() -> Result<String> {
    let b = Bench::new(1)?;
    let stream = Stream::new(1)?;
    let allocate = || {
        let mut address = 0;
        // SAFETY: one place to write; the memory is freed at once.
        unsafe {
            let made = code(&call!(cuMemAlloc_v2(&mut address, 4)));
            if made == 0 {
                let _ = call!(cuMemFree_v2(address));
            }
            made
        }
    };
    let mut ctx = ptr::null_mut();
    // SAFETY: one place to write.
    unsafe { call!(cuCtxGetCurrent(&mut ctx)) }?;
    let ctx = ctx as usize;
    let elsewhere = |act: &(dyn Fn() -> u32 + Sync)| {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the context lives as long as the test.
                let _ = unsafe { call!(cuCtxSetCurrent(ctx as sys::CUcontext)) };
                act()
            });
            thread.join().expect("no panic")
        })
    };
    for (mode, own, others, ends) in [
        (GLOBAL, UNSUPPORTED, 0, INVALIDATED),
        (THREAD_LOCAL, UNSUPPORTED, 0, INVALIDATED),
        (RELAXED, 0, 0, 0),
    ] {
        begin(stream.0, mode)?;
        b.step(0, 1, stream.0)?;
        let found = allocate();
        ensure!(found == own, "{mode:?}: own allocation {found}");
        let _ = others;
        let ended = code(&end(stream.0));
        ensure!(ended == ends, "{mode:?}: end {ended}");
    }
    for (mode, found, ends) in [
        (GLOBAL, UNSUPPORTED, INVALIDATED),
        (THREAD_LOCAL, 0, 0),
        (RELAXED, 0, 0),
    ] {
        begin(stream.0, mode)?;
        let other = elsewhere(&allocate);
        ensure!(
            other == found,
            "{mode:?}: another thread's allocation {other}"
        );
        let ended = code(&end(stream.0));
        ensure!(ended == ends, "{mode:?}: end {ended}");
    }
    // A thread that has asked for it is not held back.
    begin(stream.0, GLOBAL)?;
    let other = elsewhere(&|| {
        let mut mode = THREAD_LOCAL;
        // SAFETY: one place to read and write.
        unsafe {
            code(&call!(cuThreadExchangeStreamCaptureMode(&mut mode))) + allocate() + mode as u32
        }
    });
    ensure!(other == 0, "thread-local thread: {other}");
    let raw = stream.0 as usize;
    let wrong = elsewhere(&move || code(&end(raw as sys::CUstream)));
    ensure!(wrong == 908, "end in another thread: {wrong}");
    expect("end", end(stream.0), 0)?;
    begin(stream.0, RELAXED)?;
    let relaxed = elsewhere(&move || code(&end(raw as sys::CUstream)));
    ensure!(
        relaxed == 0,
        "a relaxed capture ends in another thread: {relaxed}"
    );
    Ok("3 modes".to_owned())
}

/// The nodes that the next one follows, asked and replaced.
pub fn dependencies() -> Result<String> {
    let b = Bench::new(3)?;
    let stream = Stream::new(1)?;
    begin(stream.0, RELAXED)?;
    b.step(0, 1, stream.0)?;
    let info = || -> Result<(u64, sys::CUgraph, Vec<sys::CUgraphNode>)> {
        let mut status = sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE;
        let (mut id, mut graph, mut nodes, mut edges, mut count) =
            (0, ptr::null_mut(), ptr::null(), ptr::null(), 0);
        // SAFETY: places to write; the list is read before the next call.
        unsafe {
            call!(cuStreamGetCaptureInfo_v3(
                stream.0,
                &mut status,
                &mut id,
                &mut graph,
                &mut nodes,
                &mut edges,
                &mut count
            ))?;
            let list = (0..count).map(|i| *nodes.add(i)).collect();
            Ok((id, graph, list))
        }
    };
    let (id, graph, first) = info()?;
    ensure!(id != 0 && !graph.is_null() && first.len() == 1, "one node");
    // A second root.
    // SAFETY: a capturing stream; an empty list.
    unsafe {
        call!(cuStreamUpdateCaptureDependencies_v2(
            stream.0,
            ptr::null_mut(),
            ptr::null(),
            0,
            1
        ))
    }?;
    ensure!(info()?.2.is_empty(), "none");
    b.step(1, 2, stream.0)?;
    let mut add = first.clone();
    // SAFETY: nodes of the capture's graph.
    unsafe {
        call!(cuStreamUpdateCaptureDependencies_v2(
            stream.0,
            add.as_mut_ptr(),
            ptr::null(),
            1,
            0
        ))
    }?;
    ensure!(info()?.2.len() == 2, "both");
    b.mix(0, 1, 0, stream.0)?;
    let graph = end(stream.0)?;
    ensure!(
        graph.nodes()?.len() == 3 && graph.edges()? == 2,
        "two roots, joined"
    );
    let exec = graph.exec()?;
    exec.launch(stream.0)?;
    stream.wait()?;
    ensure!(b.read(0)? == 5, "the join came last");
    Ok("2 roots".to_owned())
}

/// A capture that goes on with a graph.
pub fn to_graph() -> Result<String> {
    let b = Bench::new(1)?;
    let stream = Stream::new(0)?;
    begin(stream.0, GLOBAL)?;
    b.step(0, 1, stream.0)?;
    let graph = end(stream.0)?;
    let nodes = graph.nodes()?;
    // SAFETY: a live graph and its nodes.
    unsafe {
        call!(cuStreamBeginCaptureToGraph(
            stream.0,
            graph.0,
            nodes.as_ptr(),
            ptr::null(),
            1,
            RELAXED
        ))?;
    }
    b.step(0, 2, stream.0)?;
    let same: Graph = end(stream.0)?;
    ensure!(same.0 == graph.0, "the same graph");
    std::mem::forget(same);
    ensure!(
        graph.nodes()?.len() == 2 && graph.edges()? == 1,
        "one more node"
    );
    let exec = graph.exec()?;
    exec.launch(stream.0)?;
    stream.wait()?;
    ensure!(b.read(0)? == 5, "in order");
    Ok("1 + 1 nodes".to_owned())
}
