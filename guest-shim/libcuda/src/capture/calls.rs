//! The calls that begin and end a capture, and ask about one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;

use cudarc::driver::sys::{CUgraph, CUgraphEdgeData, CUgraphNode, CUstream};
use vgpu_protocol::Status;

use super::*;
use crate::abi::{Done, INVALID, In, Out, Zero, exports, nothing};
use crate::graph::{Edge, Graph};
use crate::graph_edges::edges;
use crate::init::{Driver, driver};
use crate::stream::Stream;

fn begin(
    stream: CUstream,
    mode: u32,
    graph: Option<Arc<Graph>>,
    after: Vec<(u64, Edge)>,
    zero: Zero,
) -> Done {
    let driver = driver()?;
    if mode > RELAXED {
        return Err(INVALID);
    }
    let queue = driver.any_queue(stream, zero)?;
    let stream = queue.stream.ok_or(UNSUPPORTED)?;
    if lock(&stream.capture).is_some() {
        // "The stream is already capturing": it is not, afterwards.
        driver
            .end_of(&stream)?
            .invalidate(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        return Err(Status::ERROR_ILLEGAL_STATE);
    }
    let graph = match graph {
        Some(graph) => graph,
        None => driver.new_graph()?,
    };
    let sequence = Arc::new(Sequence {
        id: driver.unique_id(),
        graph,
        mode,
        thread: thread::current().id(),
        origin: Arc::downgrade(&stream),
        streams: Mutex::default(),
        state: Mutex::default(),
    });
    driver.captures.lock().push(Arc::clone(&sequence));
    let (after, edges) = after.into_iter().map(|(n, e)| (n, edge_data(e))).unzip();
    enter(driver, &stream, &sequence, after, edges);
    Ok(())
}

fn edge_data(edge: Edge) -> CUgraphEdgeData {
    CUgraphEdgeData {
        from_port: edge[0],
        to_port: edge[1],
        type_: edge[2],
        reserved: [0; 5],
    }
}

impl Driver {
    fn end_of(&self, stream: &Stream) -> Done<Arc<Sequence>> {
        let capturing = lock(&stream.capture);
        let sequence = capturing.as_ref().map(|c| Arc::clone(&c.sequence));
        sequence.ok_or(Status::ERROR_ILLEGAL_STATE)
    }
}

fn end(stream: CUstream, out: Out<CUgraph>, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = driver.any_queue(stream, zero)?;
    out.check()?;
    let stream = queue.stream.ok_or(Status::ERROR_ILLEGAL_STATE)?;
    let sequence = driver.end_of(&stream)?;
    if sequence.mode != RELAXED && sequence.thread != thread::current().id() {
        return Err(Status::ERROR_STREAM_CAPTURE_WRONG_THREAD);
    }
    out.set(std::ptr::null_mut())?;
    let is_origin = sequence
        .origin
        .upgrade()
        .is_some_and(|o| Arc::ptr_eq(&o, &stream));
    if !is_origin {
        return Err(sequence.invalidate(Status::ERROR_STREAM_CAPTURE_UNMATCHED));
    }
    let members = sequence.members();
    let joined = all_joined(driver, &sequence, &stream, &members);
    for member in &members {
        leave(driver, member);
    }
    driver
        .captures
        .lock()
        .retain(|s| !Arc::ptr_eq(s, &sequence));
    lock(&sequence.state).ended = true;
    if !sequence.is_valid() {
        return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    if !joined {
        return Err(Status::ERROR_STREAM_CAPTURE_UNJOINED);
    }
    out.set(sequence.graph.handle as CUgraph)
}

/// True where all work of other streams is followed by the origin's.
fn all_joined(
    driver: &Driver,
    sequence: &Sequence,
    origin: &Arc<Stream>,
    members: &[Arc<Stream>],
) -> bool {
    let after = |stream: &Stream| {
        let capturing = lock(&stream.capture);
        let nodes = capturing
            .as_ref()
            .map(|c| c.after.clone())
            .unwrap_or_default();
        let index = |n: u64| Some(driver.node(n as CUgraphNode).ok()?.1);
        nodes.into_iter().filter_map(index).collect::<Vec<_>>()
    };
    let reached = {
        let of = after(origin);
        sequence.graph.state().ancestors(of)
    };
    members
        .iter()
        .filter(|m| !Arc::ptr_eq(m, origin))
        .all(|m| after(m).iter().all(|node| reached.contains(node)))
}

/// Status, number of the capture, graph, and the nodes that the next one follows.
struct Info {
    status: i32,
    id: u64,
    graph: u64,
    nodes: (*const CUgraphNode, *const CUgraphEdgeData, usize),
}

fn info(stream: CUstream, zero: Zero) -> Done<Info> {
    let driver = driver()?;
    let queue = driver.any_queue(stream, zero)?;
    let none = Info {
        status: NONE,
        id: 0,
        graph: 0,
        nodes: (std::ptr::null(), std::ptr::null(), 0),
    };
    let Some(stream) = queue.stream.clone() else {
        // "If called on the legacy stream while a blocking stream is capturing …".
        return match driver.captured_blocking(&queue) {
            Some(_) => Err(Status::ERROR_STREAM_CAPTURE_IMPLICIT),
            None => Ok(none),
        };
    };
    let capturing = lock(&stream.capture);
    let Some(capturing) = &*capturing else {
        return Ok(none);
    };
    let sequence = &capturing.sequence;
    // Without nodes there are no edges, and nothing about them.
    let whole = capturing.edges.len() == capturing.after.len();
    let edges = match whole && !capturing.edges.is_empty() {
        true => capturing.edges.as_ptr(),
        false => std::ptr::null(),
    };
    // Valid "until the next API call which operates on the stream": the vectors stay till then.
    Ok(Info {
        status: if sequence.is_valid() {
            ACTIVE
        } else {
            INVALIDATED
        },
        id: sequence.id,
        graph: sequence.graph.handle,
        nodes: (
            capturing.after.as_ptr().cast(),
            edges,
            capturing.after.len(),
        ),
    })
}

fn get_info(
    info: &Info,
    status: Out<i32>,
    id: Out<u64>,
    graph: Out<CUgraph>,
    nodes: Out<*const CUgraphNode>,
    count: Out<usize>,
) -> Done {
    status.check()?;
    status.set(info.status)?;
    if info.status == ACTIVE {
        id.set_if_given(info.id);
        graph.set_if_given(info.graph as CUgraph);
        nodes.set_if_given(info.nodes.0);
        count.set_if_given(info.nodes.2);
    }
    Ok(())
}

fn update(stream: CUstream, nodes: Vec<(u64, Edge)>, flags: u32, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = driver.any_queue(stream, zero)?;
    if flags > SET {
        return Err(INVALID);
    }
    let stream = queue.stream.ok_or(Status::ERROR_ILLEGAL_STATE)?;
    let mut capturing = lock(&stream.capture);
    let capturing = capturing.as_mut().ok_or(Status::ERROR_ILLEGAL_STATE)?;
    if !capturing.sequence.is_valid() {
        return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    driver.indices(&capturing.sequence.graph, nodes.iter().copied().map(Ok))?;
    if flags == SET {
        capturing.after.clear();
        capturing.edges.clear();
    }
    debug_assert!(flags == SET || flags == ADD);
    let given: HashMap<u64, Edge> = nodes.iter().copied().collect();
    let handles: Vec<u64> = nodes.iter().map(|(n, _)| *n).collect();
    capturing.follow(&handles);
    if !given.values().all(|e| *e == [0; 3]) {
        let edge = |n: &u64| edge_data(given.get(n).copied().unwrap_or_default());
        capturing.edges = capturing.after.iter().map(edge).collect();
    }
    Ok(())
}

exports! {
    /// Begins a capture (ABI of CUDA 10.0: the mode is global).
    fn cuStreamBeginCapture | cuStreamBeginCapture_ptsz [zero] (stream: CUstream) {
        begin(stream, GLOBAL, None, Vec::new(), zero)
    }

    /// Begins a capture.
    fn cuStreamBeginCapture_v2 | cuStreamBeginCapture_v2_ptsz [zero] (stream: CUstream, mode: u32) {
        begin(stream, mode, None, Vec::new(), zero)
    }

    /// Begins a capture into a graph that there is.
    fn cuStreamBeginCaptureToGraph | cuStreamBeginCaptureToGraph_ptsz [zero] (
        stream: CUstream,
        graph: CUgraph,
        nodes: In<CUgraphNode>,
        edge_data: In<CUgraphEdgeData>,
        count: usize,
        mode: u32,
    ) {
        let driver = driver()?;
        let graph = driver.graph(graph)?;
        let after: Vec<(u64, Edge)> = edges(nodes, edge_data, count).collect::<Done<_>>()?;
        driver.indices(&graph, after.iter().copied().map(Ok))?;
        begin(stream, mode, Some(graph), after, zero)
    }

    /// Ends a capture; the graph is null where it failed.
    fn cuStreamEndCapture | cuStreamEndCapture_ptsz [zero] (stream: CUstream, out: Out<CUgraph>) {
        end(stream, out, zero)
    }

    /// Whether a stream captures.
    fn cuStreamIsCapturing | cuStreamIsCapturing_ptsz [zero] (stream: CUstream, status: Out<i32>) {
        let info = info(stream, zero)?;
        status.set(info.status)
    }

    /// What a stream captures (ABI of CUDA 10.1).
    fn cuStreamGetCaptureInfo | cuStreamGetCaptureInfo_ptsz [zero] (
        stream: CUstream, status: Out<i32>, id: Out<u64>,
    ) {
        let info = info(stream, zero)?;
        status.set(info.status)?;
        if info.status == ACTIVE {
            id.set_if_given(info.id);
        }
        Ok(())
    }

    /// What a stream captures (ABI of CUDA 11.3).
    fn cuStreamGetCaptureInfo_v2 | cuStreamGetCaptureInfo_v2_ptsz [zero] (
        stream: CUstream, status: Out<i32>, id: Out<u64>, graph: Out<CUgraph>,
        nodes: Out<*const CUgraphNode>, count: Out<usize>,
    ) {
        let info = info(stream, zero)?;
        // "LOSSY_QUERY": this ABI cannot tell edge data.
        if !info.nodes.1.is_null() && !nodes.is_null() {
            return Err(Status(402));
        }
        get_info(&info, status, id, graph, nodes, count)
    }

    /// What a stream captures.
    fn cuStreamGetCaptureInfo_v3 | cuStreamGetCaptureInfo_v3_ptsz [zero] (
        stream: CUstream, status: Out<i32>, id: Out<u64>, graph: Out<CUgraph>,
        nodes: Out<*const CUgraphNode>, edge_data: Out<*const CUgraphEdgeData>, count: Out<usize>,
    ) {
        let info = info(stream, zero)?;
        if !info.nodes.1.is_null() && !nodes.is_null() && edge_data.is_null() {
            return Err(Status(402));
        }
        get_info(&info, status, id, graph, nodes, count)?;
        if info.status == ACTIVE {
            edge_data.set_if_given(info.nodes.1);
        }
        Ok(())
    }

    /// Adds to the nodes that the next captured one follows, or replaces them (ABI of CUDA 11.3).
    fn cuStreamUpdateCaptureDependencies | cuStreamUpdateCaptureDependencies_ptsz [zero] (
        stream: CUstream, nodes: In<CUgraphNode>, count: usize, flags: u32,
    ) {
        let nodes = edges(nodes, nothing(), count).collect::<Done<_>>()?;
        update(stream, nodes, flags, zero)
    }

    /// Adds to the nodes that the next captured one follows, or replaces them.
    fn cuStreamUpdateCaptureDependencies_v2 | cuStreamUpdateCaptureDependencies_v2_ptsz [zero] (
        stream: CUstream, nodes: In<CUgraphNode>, edge_data: In<CUgraphEdgeData>, count: usize, flags: u32,
    ) {
        let nodes = edges(nodes, edge_data, count).collect::<Done<_>>()?;
        update(stream, nodes, flags, zero)
    }

    /// Exchanges this thread's mode.
    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        let new = mode.get_at(0)?;
        if new > RELAXED {
            return Err(INVALID);
        }
        debug_assert!([GLOBAL, THREAD_LOCAL, RELAXED].contains(&new));
        mode.set(MODE.replace(new))
    }
}
