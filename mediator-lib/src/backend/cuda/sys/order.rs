//! Functions and words of memory in stream order, captures and graphs.

use std::ffi::c_void;
use std::ptr::{null, null_mut, without_provenance_mut};
use std::sync::Arc;

use cudarc::driver::sys;
use vgpu_protocol::Status;

use super::super::host_call;
use super::super::mem::DeviceRange;
use super::object::{Context, NON_BLOCKING, Stream};
use super::{check, need};

/// A checked operation of `cuStreamBatchMemOp`.
#[derive(Debug)]
pub enum CheckedWord {
    /// Order alone.
    Barrier(u32),
    /// See `Word::Write`.
    Write {
        at: DeviceRange,
        bytes: u8,
        value: u64,
        flags: u32,
    },
    /// See `Word::Wait`.
    Wait {
        at: DeviceRange,
        bytes: u8,
        value: u64,
        until: u32,
    },
}

/// `CUstreamBatchMemOpParams` as the driver reads it, with its enumerations as numbers.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawWord {
    kind: u32,
    padding: u32,
    address: u64,
    value: u64,
    flags: u32,
    padding_2: u32,
    alias: u64,
    rest: u64,
}

const _: () = assert!(size_of::<RawWord>() == size_of::<sys::CUstreamBatchMemOpParams>());

impl CheckedWord {
    fn raw(&self) -> RawWord {
        let (kind, address, value, flags) = match self {
            CheckedWord::Barrier(flags) => {
                // memoryBarrier.flags follows the kind.
                return RawWord {
                    kind: 6,
                    padding: *flags,
                    address: 0,
                    value: 0,
                    flags: 0,
                    padding_2: 0,
                    alias: 0,
                    rest: 0,
                };
            }
            CheckedWord::Write {
                at,
                bytes,
                value,
                flags,
            } => (
                if *bytes == 4 { 2 } else { 5 },
                at.address(),
                *value,
                *flags,
            ),
            CheckedWord::Wait {
                at,
                bytes,
                value,
                until,
            } => (
                if *bytes == 4 { 1 } else { 4 },
                at.address(),
                *value,
                *until,
            ),
        };
        RawWord {
            kind,
            padding: 0,
            address,
            value,
            flags,
            padding_2: 0,
            alias: 0,
            rest: 0,
        }
    }
}

/// What the driver calls. It runs no CUDA call, as the driver demands.
unsafe extern "C" fn on_host(key: *mut c_void) {
    let key = key.addr() as u64;
    // A panic must not reach the driver.
    if std::panic::catch_unwind(|| host_call::run(key)).is_err() {
        tracing::error!("internal error in a host function");
    }
}

impl Stream {
    /// `cuLaunchHostFunc` of the function with this key.
    pub fn call(&self, key: u64) -> Result<(), Status> {
        let _alive = self.context().enter()?;
        let f = need(self.context().functions().cuLaunchHostFunc)?;
        let key = usize::try_from(key).map_err(|_| Status::ERROR_OUT_OF_MEMORY)?;
        // SAFETY: a stream of a context that is alive; the function takes a number in the form of a
        // pointer, which it does not follow.
        check(unsafe { f(self.raw, Some(on_host), without_provenance_mut(key)) })
    }

    /// `cuStreamBatchMemOp`.
    pub fn batch_mem_op(&self, words: &[CheckedWord]) -> Result<(), Status> {
        let _alive = self.context().enter()?;
        let f = need(self.context().functions().cuStreamBatchMemOp_v2)?;
        let mut raw: Vec<RawWord> = words.iter().map(CheckedWord::raw).collect();
        let count = u32::try_from(raw.len()).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        // SAFETY: a stream of a context that is alive; `count` structs of the driver's layout, whose
        // addresses are ranges of the context's allocations.
        check(unsafe { f(self.raw, count, raw.as_mut_ptr().cast(), 0) })
    }
}

/// A node of a graph that is being captured.
#[derive(Clone, Copy, Debug)]
pub struct Node(sys::CUgraphNode);

// SAFETY: a handle of the driver's, valid as long as its graph; used by `Capture` alone.
unsafe impl Send for Node {}

/// A graph that is built by capturing a stream of its own, each node with its dependencies.
#[derive(Debug)]
pub struct Capture {
    stream: Stream,
    begun: bool,
}

/// `CU_STREAM_CAPTURE_MODE_RELAXED`: what other threads of the process do does not matter.
const RELAXED: u32 = 2;
/// `CU_STREAM_SET_CAPTURE_DEPENDENCIES`.
const SET_DEPENDENCIES: u32 = 1;
/// `CU_STREAM_CAPTURE_STATUS_ACTIVE`.
const ACTIVE: u32 = 1;

impl Capture {
    /// `cuStreamBeginCapture` in a new stream.
    pub fn begin(ctx: &Arc<Context>) -> Result<Capture, Status> {
        let stream = Stream::create(ctx, NON_BLOCKING, 0)?;
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuStreamBeginCapture_v2)?;
        // SAFETY: a stream of a context that is alive.
        check(unsafe { f(stream.raw, RELAXED) })?;
        drop(_alive);
        Ok(Capture {
            stream,
            begun: true,
        })
    }

    /// The stream whose work is captured.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The graph, and the nodes that the next one would follow.
    fn info(&self) -> Result<(sys::CUgraph, Vec<Node>), Status> {
        let ctx = self.stream.context();
        let f = need(ctx.functions().cuStreamGetCaptureInfo_v3)?;
        let (mut status, mut id, mut graph) = (0u32, 0u64, null_mut());
        let (mut nodes, mut edges, mut count) = (null(), null(), 0usize);
        // SAFETY: a stream of a context that the caller holds alive; writes one value each.
        check(unsafe {
            f(
                self.stream.raw,
                &mut status,
                &mut id,
                &mut graph,
                &mut nodes,
                &mut edges,
                &mut count,
            )
        })?;
        if status != ACTIVE {
            return Err(Status::ERROR_UNKNOWN);
        }
        // SAFETY: the driver's array of so many handles, valid until the next call that changes the
        // capture, which only this thread makes.
        let nodes = (0..count).map(|i| Node(unsafe { *nodes.add(i) })).collect();
        Ok((graph, nodes))
    }

    /// Has the next captured node follow these.
    pub fn follow(&self, nodes: &[Node]) -> Result<(), Status> {
        let ctx = self.stream.context();
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuStreamUpdateCaptureDependencies_v2)?;
        let mut raw: Vec<sys::CUgraphNode> = nodes.iter().map(|n| n.0).collect();
        // SAFETY: a capturing stream, nodes of its graph; no edge data.
        check(unsafe {
            f(
                self.stream.raw,
                raw.as_mut_ptr(),
                null(),
                raw.len(),
                SET_DEPENDENCIES,
            )
        })
    }

    /// The node that was captured last.
    pub fn last(&self) -> Result<Node, Status> {
        let _alive = self.stream.context().enter()?;
        match self.info()?.1.as_slice() {
            [node] => Ok(*node),
            _ => Err(Status::ERROR_UNKNOWN),
        }
    }

    /// Adds a node that does nothing.
    pub fn empty_node(&self, after: &[Node]) -> Result<Node, Status> {
        let ctx = self.stream.context();
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuGraphAddEmptyNode)?;
        let (graph, _) = self.info()?;
        let raw: Vec<sys::CUgraphNode> = after.iter().map(|n| n.0).collect();
        let mut node = null_mut();
        // SAFETY: the graph of a capture in progress, nodes of it; writes one handle.
        check(unsafe { f(&mut node, graph, raw.as_ptr(), raw.len()) })?;
        Ok(Node(node))
    }

    /// `cuStreamEndCapture`.
    pub fn end(mut self) -> Result<Graph, Status> {
        self.begun = false;
        let ctx = Arc::clone(self.stream.context());
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuStreamEndCapture)?;
        let mut raw = null_mut();
        // SAFETY: a capturing stream; writes one handle.
        check(unsafe { f(self.stream.raw, &mut raw) })?;
        Ok(Graph {
            ctx: Arc::clone(&ctx),
            raw,
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        let ctx = Arc::clone(self.stream.context());
        let Ok(_alive) = ctx.enter() else { return };
        let mut raw = null_mut();
        if let Some(f) = ctx.functions().cuStreamEndCapture {
            // SAFETY: a capturing stream; writes one handle, or null where the capture failed.
            let _ = unsafe { f(self.stream.raw, &mut raw) };
        }
        if !raw.is_null()
            && let Some(f) = ctx.functions().cuGraphDestroy
        {
            // SAFETY: a graph that nobody else knows.
            let _ = unsafe { f(raw) };
        }
    }
}

/// A graph of the driver.
#[derive(Debug)]
pub struct Graph {
    ctx: Arc<Context>,
    raw: sys::CUgraph,
}

// SAFETY: as for `Context`; used by one thread at a time.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        let Ok(_alive) = self.ctx.enter() else { return };
        if let Some(f) = self.ctx.functions().cuGraphDestroy {
            // SAFETY: made by `Capture::end`, destroyed once.
            let _ = unsafe { f(self.raw) };
        }
    }
}

/// An executable graph of the driver.
#[derive(Debug)]
pub struct Exec {
    ctx: Arc<Context>,
    raw: sys::CUgraphExec,
}

// SAFETY: as for `Graph`.
unsafe impl Send for Exec {}

impl Exec {
    /// `cuGraphInstantiateWithFlags`.
    pub fn new(graph: &Graph) -> Result<Exec, Status> {
        let ctx = &graph.ctx;
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuGraphInstantiateWithFlags)?;
        let mut raw = null_mut();
        // SAFETY: a graph of the driver; writes one handle.
        check(unsafe { f(&mut raw, graph.raw, 0) })?;
        Ok(Exec {
            ctx: Arc::clone(ctx),
            raw,
        })
    }

    /// `cuGraphExecUpdate`.
    pub fn update(&self, graph: &Graph) -> Result<(), Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuGraphExecUpdate_v2)?;
        // `CUgraphExecUpdateResultInfo`: a number and two handles.
        let mut info = [0u64; 3];
        const _: () =
            assert!(size_of::<[u64; 3]>() == size_of::<sys::CUgraphExecUpdateResultInfo>());
        // SAFETY: an executable graph and a graph; writes one struct of this size.
        check(unsafe { f(self.raw, graph.raw, info.as_mut_ptr().cast()) })
    }

    /// `cuGraphLaunch`.
    pub fn launch(&self, stream: &Stream) -> Result<(), Status> {
        let _alive = stream.context().enter()?;
        let f = need(self.ctx.functions().cuGraphLaunch)?;
        if !Arc::ptr_eq(&self.ctx, stream.context()) {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        // SAFETY: an executable graph and a stream of one context, which is alive.
        check(unsafe { f(self.raw, stream.raw) })
    }

    /// `cuGraphUpload`.
    pub fn upload(&self, stream: &Stream) -> Result<(), Status> {
        let _alive = stream.context().enter()?;
        let f = need(self.ctx.functions().cuGraphUpload)?;
        if !Arc::ptr_eq(&self.ctx, stream.context()) {
            return Err(Status::ERROR_INVALID_CONTEXT);
        }
        // SAFETY: as in `launch`.
        check(unsafe { f(self.raw, stream.raw) })
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        let Ok(_alive) = self.ctx.enter() else { return };
        if let Some(f) = self.ctx.functions().cuGraphExecDestroy {
            // SAFETY: made by `new`, destroyed once; launches in flight go on (CUDA Driver API,
            // cuGraphExecDestroy).
            let _ = unsafe { f(self.raw) };
        }
    }
}
