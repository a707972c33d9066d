//! Functions and words in stream order, captures and graphs.

use std::ffi::{c_uint, c_void};

use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphNode, CUstream};

use crate::state::{Graph, Handle, INVALID_VALUE, Op, State, call, die};

#[unsafe(no_mangle)]
pub extern "C" fn cuLaunchHostFunc(
    stream: CUstream,
    function: *const c_void,
    data: *mut c_void,
) -> u32 {
    call("cuLaunchHostFunc", |s| {
        s.submit(
            stream as usize,
            Op::Call {
                function: function as usize,
                data: data as usize,
            },
        )
    })
}

/// `CUstreamBatchMemOpParams`: kind, address, value, flags.
#[repr(C)]
struct Word {
    kind: u32,
    address: u64,
    value: u64,
    flags: u32,
    rest: [u64; 2],
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamBatchMemOp_v2(
    stream: CUstream,
    count: c_uint,
    words: *const c_void,
    flags: c_uint,
) -> u32 {
    call("cuStreamBatchMemOp_v2", |s| {
        if flags != 0 || count == 0 || count > 255 {
            return Err(INVALID_VALUE);
        }
        for i in 0..count as usize {
            // SAFETY: NVIDIA's contract.
            let word = unsafe { words.cast::<Word>().add(i).read() };
            let bytes = if matches!(word.kind, 1 | 2) { 4 } else { 8 };
            let op = match word.kind {
                1 | 4 => Op::WaitWord {
                    at: word.address,
                    value: word.value,
                    bytes,
                    flags: word.flags,
                },
                2 | 5 => Op::WriteWord {
                    to: word.address,
                    value: word.value,
                    bytes,
                },
                6 => continue,
                _ => return Err(INVALID_VALUE),
            };
            if s.find(word.address, bytes as u64).is_none() {
                die("a word that is no device memory: an unchecked address");
            }
            s.submit(stream as usize, op)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamBeginCapture_v2(stream: CUstream, mode: c_uint) -> u32 {
    call("cuStreamBeginCapture_v2", |s| {
        if mode > 2 || stream.is_null() {
            return Err(INVALID_VALUE);
        }
        let ctx = s.current()?;
        let graph = s.handle();
        let nodes = Vec::new();
        s.graphs.insert(graph, Graph { ctx, nodes });
        s.stream(stream as usize)?.capture = Some((graph, Vec::new()));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamEndCapture(stream: CUstream, graph: *mut CUgraph) -> u32 {
    call("cuStreamEndCapture", |s| {
        let Some((handle, _)) = s.stream(stream as usize)?.capture.take() else {
            die("no capture to end")
        };
        // SAFETY: NVIDIA's contract.
        unsafe { *graph = handle as CUgraph };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamGetCaptureInfo_v3(
    stream: CUstream,
    status: *mut c_uint,
    id: *mut u64,
    graph: *mut CUgraph,
    nodes: *mut *const CUgraphNode,
    edges: *mut *const c_void,
    count: *mut usize,
) -> u32 {
    call("cuStreamGetCaptureInfo_v3", |s| {
        let Some((handle, after)) = &s.stream(stream as usize)?.capture else {
            // SAFETY: NVIDIA's contract.
            unsafe { *status = 0 };
            return Ok(());
        };
        // SAFETY: NVIDIA's contract; handles are numbers.
        unsafe {
            *status = 1;
            *id = *handle as u64;
            *graph = *handle as CUgraph;
            *nodes = after.as_ptr().cast();
            *edges = std::ptr::null();
            *count = after.len();
        }
        Ok(())
    })
}

/// Nodes that a call names: they must be the graph's.
unsafe fn nodes_of(
    s: &State,
    graph: Handle,
    nodes: *const CUgraphNode,
    count: usize,
) -> Vec<Handle> {
    let Some(graph) = s.graphs.get(&graph) else {
        die("no graph")
    };
    let list: Vec<Handle> = (0..count)
        // SAFETY: NVIDIA's contract.
        .map(|i| unsafe { *nodes.add(i) } as Handle)
        .collect();
    if list
        .iter()
        .any(|node| !graph.nodes.iter().any(|(n, ..)| n == node))
    {
        die("a node of another graph");
    }
    list
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamUpdateCaptureDependencies_v2(
    stream: CUstream,
    nodes: *mut CUgraphNode,
    _edges: *const c_void,
    count: usize,
    flags: c_uint,
) -> u32 {
    call("cuStreamUpdateCaptureDependencies_v2", |s| {
        if flags != 1 {
            return Err(INVALID_VALUE);
        }
        let Some((graph, _)) = s.stream(stream as usize)?.capture.clone() else {
            die("no capture")
        };
        // SAFETY: NVIDIA's contract.
        let after = unsafe { nodes_of(s, graph, nodes, count) };
        s.stream(stream as usize)?.capture = Some((graph, after));
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphAddEmptyNode(
    node: *mut CUgraphNode,
    graph: CUgraph,
    after: *const CUgraphNode,
    count: usize,
) -> u32 {
    call("cuGraphAddEmptyNode", |s| {
        // SAFETY: NVIDIA's contract.
        let after = unsafe { nodes_of(s, graph as usize, after, count) };
        let handle = s.handle();
        if let Some(graph) = s.graphs.get_mut(&(graph as usize)) {
            graph.nodes.push((handle, None, after));
        }
        // SAFETY: NVIDIA's contract.
        unsafe { *node = handle as CUgraphNode };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphDestroy(graph: CUgraph) -> u32 {
    call("cuGraphDestroy", |s| {
        if s.graphs.remove(&(graph as usize)).is_none() {
            die("no graph to destroy");
        }
        Ok(())
    })
}

fn work(s: &State, graph: CUgraph) -> (Handle, Vec<Op>) {
    let Some(graph) = s.graphs.get(&(graph as usize)) else {
        die("no graph")
    };
    // In the order in which they were made each comes after those that it follows.
    let work = graph.nodes.iter().filter_map(|(_, op, _)| op.clone());
    (graph.ctx, work.collect())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGraphInstantiateWithFlags(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    _flags: u64,
) -> u32 {
    call("cuGraphInstantiateWithFlags", |s| {
        let work = work(s, graph);
        let handle = s.handle();
        s.execs.insert(handle, work);
        // SAFETY: NVIDIA's contract.
        unsafe { *exec = handle as CUgraphExec };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecUpdate_v2(
    exec: CUgraphExec,
    graph: CUgraph,
    _info: *mut c_void,
) -> u32 {
    call("cuGraphExecUpdate_v2", |s| {
        let new = work(s, graph);
        match s.execs.get_mut(&(exec as usize)) {
            None => die("no executable graph"),
            // As the driver does where the kinds of nodes differ.
            Some(old) if old.1.len() != new.1.len() => return Err(910),
            Some(old) => *old = new,
        }
        Ok(())
    })
}

fn exec_of(s: &State, exec: CUgraphExec) -> Vec<Op> {
    match s.execs.get(&(exec as usize)) {
        None => die("no executable graph"),
        Some((_, work)) => work.clone(),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphLaunch(exec: CUgraphExec, stream: CUstream) -> u32 {
    call("cuGraphLaunch", |s| {
        for op in exec_of(s, exec) {
            let op = match op {
                Op::RecordNode(event) => {
                    let recorded = s.event(event)?;
                    recorded.recorded += 1;
                    let generation = recorded.recorded;
                    Op::Record { event, generation }
                }
                Op::WaitNode(event) => {
                    let generation = s.event(event)?.recorded;
                    Op::Wait { event, generation }
                }
                other => other,
            };
            s.submit(stream as usize, op)?;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphUpload(exec: CUgraphExec, stream: CUstream) -> u32 {
    call("cuGraphUpload", |s| {
        exec_of(s, exec);
        s.stream(stream as usize).map(|_| ())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuGraphExecDestroy(exec: CUgraphExec) -> u32 {
    call("cuGraphExecDestroy", |s| {
        if s.execs.remove(&(exec as usize)).is_none() {
            die("no executable graph to destroy");
        }
        Ok(())
    })
}
