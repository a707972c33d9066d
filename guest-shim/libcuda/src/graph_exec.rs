//! Executable graphs: a graph as the host keeps it, in one list of nodes, with the graphs inside of
//! nodes laid open.

pub mod calls;

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use cudarc::driver::sys::{CUgraphExec, CUgraphNode, CUstream};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    DevPtr, GraphChange, GraphId, GraphNode, Opcode, StreamId, request, stubs,
};
use vgpu_protocol::wire::{Blob, Value, Writer};

use crate::abi::{Done, INVALID, Zero};
use crate::capture::Target;
use crate::ctx::{Ctx, current};
use crate::graph::{Graph, Work};
use crate::hostfn::Call;
use crate::init::Driver;
use crate::launch::listed;

/// Flags: `CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH`, `_UPLOAD`, `_DEVICE_LAUNCH`,
/// `_USE_NODE_PRIORITY`.
const AUTO_FREE: u64 = 1;
const UPLOAD: u64 = 2;
const DEVICE_LAUNCH: u64 = 4;
const KNOWN_FLAGS: u64 = 15;

/// `CUgraphExecUpdateResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    Success = 0,
    TopologyChanged = 2,
    NodeTypeChanged = 3,
    ParametersChanged = 5,
    NotSupported = 6,
    UnsupportedFunctionChange = 7,
}

/// A node of the list.
#[derive(Clone)]
struct Flat {
    work: Arc<Work>,
    after: Vec<u32>,
    /// The node that it was made from.
    node: u64,
    enabled: bool,
    /// Number of the function that the host asks for.
    function: Option<u64>,
}

/// An executable graph.
pub struct Exec {
    id: GraphId,
    ctx: Arc<Ctx>,
    /// `cuGraphExecGetFlags`.
    pub flags: u64,
    unique: u64,
    /// What it was made from, for a capture of its launch.
    source: Arc<Graph>,
    nodes: Mutex<Vec<Flat>>,
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "executable graph {}", self.id.0)
    }
}

/// Appends the nodes of a graph, of which those that follow nothing follow `before`; gives the
/// positions of those that nothing follows.
fn lay_open(graph: &Graph, before: &[u32], into: &mut Vec<Flat>) -> Done<Vec<u32>> {
    let state = graph.state();
    let order = state.order()?;
    // Positions at which each node is done.
    let mut ends: HashMap<usize, Vec<u32>> = HashMap::new();
    let mut last: Vec<usize> = Vec::new();
    for index in order {
        let node = state
            .nodes
            .get(index)
            .and_then(Option::as_ref)
            .ok_or(INVALID)?;
        let mut after: Vec<u32> = Vec::new();
        for (earlier, _) in &node.after {
            for end in ends.get(earlier).into_iter().flatten() {
                if !after.contains(end) {
                    after.push(*end);
                }
            }
            last.retain(|l| l != earlier);
        }
        if node.after.is_empty() {
            after.extend_from_slice(before);
        }
        last.push(index);
        let mut done = Vec::new();
        if let Work::Child(inner) = &*node.work {
            done = lay_open(inner, &after, into)?;
        }
        if done.is_empty() {
            done.push(into.len() as u32);
            into.push(Flat {
                work: Arc::clone(&node.work),
                after,
                node: node.handle,
                enabled: true,
                function: None,
            });
        }
        ends.insert(index, done);
    }
    Ok(last
        .iter()
        .flat_map(|i| ends.remove(i).unwrap_or_default())
        .collect())
}

impl Driver {
    /// The call that a node is for the host: opcode, arguments, and the number of its function.
    fn encode(&'static self, flat: &Flat) -> Done<(u32, Vec<u8>, Option<u64>)> {
        const STREAM: StreamId = StreamId(0);
        let nothing = Ok((0, Vec::new(), None));
        if !flat.enabled {
            return nothing;
        }
        let mut w = Writer::new();
        let mut number = None;
        let opcode: Opcode = match &*flat.work {
            Work::Empty | Work::Child(_) | Work::Alloc(_) | Work::Free(_) => return nothing,
            Work::Kernel(launch) if !launch.attributes.is_empty() => request::launch_kernel_ex(
                &mut w,
                launch.function.id,
                launch.shape.grid,
                launch.shape.block,
                launch.shape.shared,
                STREAM,
                listed(&launch.attributes),
                &launch.block.bytes,
            ),
            Work::Kernel(launch) => request::launch_kernel(
                &mut w,
                launch.function.id,
                launch.shape.grid,
                launch.shape.block,
                launch.shape.shared,
                STREAM,
                &launch.block.bytes,
            ),
            Work::Set(set) => {
                let (dst, width) = (DevPtr(set.dst), set.element as u8);
                if set.height == 1 {
                    request::memset(&mut w, dst, width, set.value, set.width, STREAM)
                } else {
                    let (count, rows) = (set.width, set.height);
                    request::memset_2d(
                        &mut w, dst, set.pitch, width, set.value, count, rows, STREAM,
                    )
                }
            }
            Work::Copy(copy) if copy.is_nothing() => return nothing,
            Work::Copy(copy) => match copy.flat_within_device(self) {
                Some((from, to, bytes)) => {
                    request::memcpy_dtod(&mut w, DevPtr(to), DevPtr(from), bytes, STREAM)
                }
                None => {
                    // It touches the program's memory: this library copies, when its turn comes.
                    let (copy, ctx) = (copy.clone(), copy.ctx.id()?);
                    let stream = self.copy_stream(&copy.ctx)?;
                    let own = move || copy.run(self, ctx, stream);
                    let call = self.host_functions.add(Call::Own(Arc::new(own)));
                    number = Some(call);
                    request::launch_host_func(&mut w, STREAM, call)
                }
            },
            Work::Host { function, data } => {
                let call = self.host_functions.add(Call::Host(*function, *data));
                number = Some(call);
                request::launch_host_func(&mut w, STREAM, call)
            }
            // CU_EVENT_RECORD_EXTERNAL and CU_EVENT_WAIT_EXTERNAL.
            Work::Record { event, .. } => request::event_record(&mut w, event.id, STREAM, 1),
            Work::Wait { event, .. } => request::stream_wait_event(&mut w, STREAM, event.id, 1),
            Work::MemOps { operations, .. } => {
                request::stream_batch_mem_op(&mut w, STREAM, operations.clone())
            }
            Work::Library {
                opcode, request, ..
            } => {
                w.raw(request);
                *opcode
            }
        };
        Ok((opcode as u32, w.parts().concat(), number))
    }

    /// A stream for copies of graphs.
    fn copy_stream(&self, ctx: &Arc<Ctx>) -> Done<StreamId> {
        let mut all = self.copy_streams.lock().unwrap_or_else(|e| e.into_inner());
        let ctx = ctx.id()?;
        if let Some(stream) = all.get(&ctx.0) {
            return Ok(*stream);
        }
        let stream = StreamId(self.new_stream_id());
        // CU_STREAM_NON_BLOCKING.
        stubs::stream_create(self.channel, ctx, stream, 1, 0)?;
        all.insert(ctx.0, stream);
        Ok(stream)
    }

    /// The executable graph of a handle.
    pub fn exec(&self, exec: CUgraphExec) -> Done<Arc<Exec>> {
        self.graph_execs.get(exec as u64).ok_or(INVALID)
    }

    fn instantiate(&'static self, graph: &Arc<Graph>, flags: u64) -> Done<u64> {
        if flags & !KNOWN_FLAGS != 0 {
            return Err(INVALID);
        }
        if flags & DEVICE_LAUNCH != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let mut nodes = Vec::new();
        lay_open(graph, &[], &mut nodes)?;
        let mut own = nodes.iter().filter_map(|n| n.work.ctx());
        let ctx = match own.next() {
            Some(ctx) => Arc::clone(ctx),
            None => current()?,
        };
        if own.any(|other| !Arc::ptr_eq(other, &ctx)) {
            // One graph over several contexts.
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        let id = GraphId(self.new_graph_id());
        let mut w = Writer::new();
        (nodes.len() as u64).put(&mut w);
        for node in &mut nodes {
            let (opcode, request, function) = self.encode(node)?;
            node.function = function;
            let after = node.after.clone();
            let request = Blob(request);
            GraphNode {
                opcode,
                request,
                after,
            }
            .put(&mut w);
        }
        let bytes = w.into_buffer();
        let made = stubs::graph_instantiate(self.channel, ctx.id()?, id, &bytes);
        if let Err(status) = made {
            self.release_functions(&nodes);
            return Err(status);
        }
        let unique = self.unique_id();
        let made = self.graph_execs.insert(|_| Exec {
            id,
            ctx,
            flags,
            unique,
            source: Arc::clone(graph),
            nodes: Mutex::new(nodes),
        });
        made.map(|(handle, _)| handle)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)
    }

    fn release_functions(&self, nodes: &[Flat]) {
        for function in nodes.iter().filter_map(|n| n.function) {
            self.host_functions.release(function);
        }
    }
}

impl Exec {
    fn nodes(&self) -> MutexGuard<'_, Vec<Flat>> {
        self.nodes.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Sends what has become different.
    fn send(&self, driver: &'static Driver, nodes: &mut [Flat], changed: &[usize]) -> Done {
        if changed.is_empty() {
            return Ok(());
        }
        let mut w = Writer::new();
        (changed.len() as u64).put(&mut w);
        for i in changed {
            let node = nodes.get_mut(*i).ok_or(INVALID)?;
            let (opcode, request, function) = driver.encode(node)?;
            let old = std::mem::replace(&mut node.function, function);
            if let Some(old) = old {
                driver.host_functions.release(old);
            }
            let (node, request) = (*i as u32, Blob(request));
            GraphChange {
                node,
                opcode,
                request,
            }
            .put(&mut w);
        }
        stubs::graph_update(driver.channel, self.ctx.id()?, self.id, &w.into_buffer())
    }

    /// Gives a node other work of the same kind.
    pub fn set_work(&self, driver: &'static Driver, node: CUgraphNode, work: Work) -> Done {
        let mut nodes = self.nodes();
        let index = nodes
            .iter()
            .position(|n| n.node == node as u64)
            .ok_or(INVALID)?;
        let old = &nodes[index];
        if compare(driver, &old.work, &work) != Outcome::Success {
            return Err(INVALID);
        }
        nodes[index].work = Arc::new(work);
        self.send(driver, &mut nodes, &[index])
    }

    /// Work of a node.
    pub fn work(&self, node: CUgraphNode) -> Done<Arc<Work>> {
        let nodes = self.nodes();
        let found = nodes.iter().find(|n| n.node == node as u64);
        Ok(Arc::clone(&found.ok_or(INVALID)?.work))
    }

    /// Replaces the graph inside of a node.
    pub fn set_child(&self, driver: &'static Driver, node: CUgraphNode, child: &Graph) -> Done {
        let work = driver.work_of(node)?;
        let Work::Child(inner) = &*work else {
            return Err(INVALID);
        };
        let (mut mine, mut theirs) = (Vec::new(), Vec::new());
        lay_open(inner, &[], &mut mine)?;
        lay_open(child, &[], &mut theirs)?;
        let mut nodes = self.nodes();
        let positions: Vec<usize> = mine
            .iter()
            .filter_map(|m| nodes.iter().position(|n| n.node == m.node))
            .collect();
        if positions.len() != theirs.len() || mine.len() != theirs.len() {
            return Err(INVALID);
        }
        for ((position, mine), theirs) in positions.iter().zip(&mine).zip(&theirs) {
            let same = compare(driver, &nodes[*position].work, &theirs.work) == Outcome::Success;
            if mine.after != theirs.after || !same {
                return Err(INVALID);
            }
        }
        for (position, theirs) in positions.iter().zip(theirs) {
            nodes[*position].work = theirs.work;
        }
        self.send(driver, &mut nodes, &positions)
    }

    fn update(&self, driver: &'static Driver, graph: &Graph) -> Done<(Outcome, u64, u64)> {
        let mut new = Vec::new();
        lay_open(graph, &[], &mut new)?;
        let mut nodes = self.nodes();
        // "The nodes are paired up in the order in which they were added", which both lists keep.
        let mut changed = Vec::new();
        for (i, (old, new)) in nodes.iter().zip(&new).enumerate() {
            let outcome = if old.work.kind() != new.work.kind() {
                Outcome::NodeTypeChanged
            } else if old.after != new.after {
                Outcome::TopologyChanged
            } else if Arc::ptr_eq(&old.work, &new.work) {
                continue;
            } else {
                compare(driver, &old.work, &new.work)
            };
            if outcome != Outcome::Success {
                return Ok((outcome, new.node, old.node));
            }
            if !same(&old.work, &new.work) {
                changed.push(i);
            }
        }
        if nodes.len() != new.len() {
            let extra = new.get(nodes.len()).map_or(0, |n| n.node);
            return Ok((Outcome::TopologyChanged, extra, 0));
        }
        for (old, new) in nodes.iter_mut().zip(new) {
            old.work = new.work;
        }
        self.send(driver, &mut nodes, &changed)?;
        Ok((Outcome::Success, 0, 0))
    }

    fn launch(&self, driver: &'static Driver, stream: CUstream, zero: Zero) -> Done {
        let queue = match driver.target(stream, zero)? {
            Target::Queue(queue) => queue,
            Target::Capture(capture) => {
                let inner = driver.clone_graph(&self.source, true)?;
                return capture.add(Work::Child(inner));
            }
        };
        let nodes = self.nodes();
        let memory = |n: &Flat| match &*n.work {
            Work::Alloc(memory) => Some(Arc::clone(memory)),
            _ => None,
        };
        let freed = |address| {
            nodes
                .iter()
                .any(|n| matches!(&*n.work, Work::Free(a) if *a == address))
        };
        for memory in nodes.iter().filter_map(memory) {
            // "… launching it again without freeing it first is an error", but for AUTO_FREE.
            if memory.is_allocated() && self.flags & AUTO_FREE == 0 {
                return Err(INVALID);
            }
            let stays = !freed(memory.address);
            memory.allocated.store(stays, Ordering::Release);
        }
        for function in nodes.iter().filter_map(|n| n.function) {
            driver
                .host_functions
                .expect(driver.channel, function, false)?;
        }
        for node in nodes.iter().filter(|n| n.enabled) {
            if let Work::Record { event, .. } = &*node.work {
                event.will_be_recorded();
            }
        }
        stubs::graph_launch(driver.channel, queue.ctx_id, self.id, queue.id)
    }
}

/// Whether a node may get other work ("Graph Update Limitations" of the CUDA C++ Programming
/// Guide, and the documentation of `cuGraphExecUpdate`).
fn compare(driver: &Driver, old: &Work, new: &Work) -> Outcome {
    match (old, new) {
        // "The owning context of the function cannot change."
        (Work::Kernel(a), Work::Kernel(b)) if !Arc::ptr_eq(&a.function.ctx, &b.function.ctx) => {
            Outcome::UnsupportedFunctionChange
        }
        (Work::Kernel(_), Work::Kernel(_)) => Outcome::Success,
        // "The CUDA device(s) to which the operand(s) was allocated cannot change"; one-dimensional
        // ones alone may change.
        (Work::Set(a), Work::Set(b)) => {
            let flat = a.height == 1 && b.height == 1;
            let shape = (a.element, a.width, a.height) == (b.element, b.width, b.height);
            if Arc::ptr_eq(&a.ctx, &b.ctx) && (flat || shape) {
                Outcome::Success
            } else {
                Outcome::ParametersChanged
            }
        }
        (Work::Copy(a), Work::Copy(b)) => match a.can_become(b, driver) {
            true => Outcome::Success,
            false => Outcome::ParametersChanged,
        },
        // "Memory allocation and free nodes cannot be updated."
        (Work::Alloc(_), Work::Alloc(_)) | (Work::Free(_), Work::Free(_)) => Outcome::NotSupported,
        (Work::MemOps { operations: a, .. }, Work::MemOps { operations: b, .. }) => {
            let kinds = a.iter().map(|o| o.kind).eq(b.iter().map(|o| o.kind));
            if kinds {
                Outcome::Success
            } else {
                Outcome::ParametersChanged
            }
        }
        _ if old.kind() == new.kind() => Outcome::Success,
        _ => Outcome::NodeTypeChanged,
    }
}

/// Whether two pieces of work are the same for the host.
fn same(old: &Work, new: &Work) -> bool {
    match (old, new) {
        (Work::Empty, Work::Empty) => true,
        (
            Work::Library {
                opcode: a,
                request: old,
                ..
            },
            Work::Library {
                opcode: b,
                request: new,
                ..
            },
        ) => a == b && old == new,
        (Work::Kernel(a), Work::Kernel(b)) => {
            Arc::ptr_eq(&a.function, &b.function)
                && (a.shape.grid, a.shape.block, a.shape.shared)
                    == (b.shape.grid, b.shape.block, b.shape.shared)
                && a.block.bytes == b.block.bytes
                && a.attributes == b.attributes
        }
        (Work::Set(a), Work::Set(b)) => {
            (a.dst, a.pitch, a.value, a.element, a.width, a.height)
                == (b.dst, b.pitch, b.value, b.element, b.width, b.height)
        }
        (Work::Copy(a), Work::Copy(b)) => {
            (a.src, a.dst, a.width, a.height, a.depth) == (b.src, b.dst, b.width, b.height, b.depth)
        }
        _ => false,
    }
}
