//! Executable graphs: what their nodes do, kept until they are launched.

use std::sync::{Arc, OnceLock};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    CtxId, DispatchError, EventId, GraphChange, GraphId, GraphNode, Opcode, StreamId, dispatch,
};
use vgpu_protocol::limits::{MAX_GRAPH_BYTES, MAX_GRAPH_NODES};
use vgpu_protocol::wire::Writer;

use super::op::{Op, Work};
use super::order::Place;
use super::session::{Record, SoftSession};
use crate::backend::list;

/// An executable graph as the session's table holds it.
pub(super) struct GraphEntry {
    pub ctx: CtxId,
    nodes: Vec<Node>,
    /// Positions of the nodes that nothing follows.
    leaves: Vec<usize>,
    bytes: usize,
    /// Last operation of its last launch: launches of one graph do not overlap.
    last: u64,
}

struct Node {
    after: Vec<usize>,
    steps: Vec<Step>,
}

/// What a node does, in order.
pub(super) enum Step {
    Work(Work),
    Record(EventId),
    Wait(EventId),
}

impl SoftSession {
    /// What a node's call does. Nothing is done: [`place`](SoftSession::place) and the bodies for
    /// events add to the list instead.
    fn record(&mut self, ctx: CtxId, opcode: u32, request: &[u8]) -> Result<Vec<Step>, Status> {
        if opcode == 0 {
            return Ok(Vec::new());
        }
        let opcode = u16::try_from(opcode)
            .ok()
            .and_then(Opcode::from_wire)
            .filter(|opcode| opcode.in_graphs())
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        self.recording = Some(Vec::new());
        let done = dispatch(self, opcode, ctx, request, &mut Writer::new());
        let steps = self.recording.take().unwrap_or_default();
        match done {
            Ok(()) => Ok(steps),
            Err(DispatchError::Failed(status)) => Err(status),
            Err(DispatchError::Malformed(_)) => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    pub(super) fn instantiate(
        &mut self,
        ctx: CtxId,
        graph: GraphId,
        bytes: &[u8],
    ) -> Result<(), Status> {
        self.current(ctx)?;
        let used: usize = self.graphs.iter().map(|(_, g)| g.bytes).sum();
        if used + bytes.len() > MAX_GRAPH_BYTES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let given: Vec<GraphNode> = list(bytes)?;
        if given.len() > MAX_GRAPH_NODES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let mut nodes: Vec<Node> = Vec::new();
        let mut is_leaf = vec![true; given.len()];
        for node in given {
            let mut after = Vec::new();
            for earlier in node.after {
                let earlier = earlier as usize;
                if earlier >= nodes.len() {
                    return Err(Status::ERROR_INVALID_VALUE);
                }
                is_leaf[earlier] = false;
                after.push(earlier);
            }
            let steps = self.record(ctx, node.opcode, &node.request.0)?;
            nodes.push(Node { after, steps });
        }
        let leaves = (0..nodes.len()).filter(|i| is_leaf[*i]).collect();
        let entry = GraphEntry {
            ctx,
            nodes,
            leaves,
            bytes: bytes.len(),
            last: 0,
        };
        self.graphs.add_as(graph, entry)
    }

    pub(super) fn update_graph(&mut self, graph: GraphId, bytes: &[u8]) -> Result<(), Status> {
        let entry = self.graphs.get(graph)?;
        let (ctx, count) = (entry.ctx, entry.nodes.len());
        self.current(ctx)?;
        // All are checked before the first one is changed.
        let mut changes = Vec::new();
        for change in list::<GraphChange>(bytes)? {
            let node = change.node as usize;
            if node >= count {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            changes.push((node, self.record(ctx, change.opcode, &change.request.0)?));
        }
        let entry = self.graphs.get_mut(graph)?;
        for (node, steps) in changes {
            if let Some(node) = entry.nodes.get_mut(node) {
                node.steps = steps;
            }
        }
        Ok(())
    }

    pub(super) fn launch_graph(
        &mut self,
        ctx: CtxId,
        graph: GraphId,
        stream: StreamId,
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        let mut entry = self.graphs.remove(graph)?;
        let launched = if entry.ctx == owner {
            self.submit_graph(owner, stream, &entry)
        } else {
            Err(Status::ERROR_INVALID_CONTEXT)
        };
        if let Ok(last) = launched {
            entry.last = last;
        }
        self.graphs.add_as(graph, entry)?;
        launched.map(|_| ())
    }

    fn submit_graph(
        &mut self,
        owner: CtxId,
        stream: StreamId,
        graph: &GraphEntry,
    ) -> Result<u64, Status> {
        let place = Place::Stream(stream);
        let priority = match stream.0 {
            0 => 0,
            _ => self.streams.get(stream)?.priority,
        };
        // One operation stands for all that the graph follows, one for all that it does.
        let start = self.place(owner, place, Work::Nothing, true, &[graph.last])?;
        let shared = Arc::clone(&self.contexts.get(owner)?.shared);
        let mut numbers = Vec::with_capacity(graph.nodes.len());
        let mut before = Vec::new();
        for node in &graph.nodes {
            before.clear();
            before.extend(node.after.iter().filter_map(|i| numbers.get(*i)));
            if before.is_empty() {
                before.push(start);
            }
            let mut last = None;
            for step in &node.steps {
                if let Some(last) = last {
                    before.clear();
                    before.push(last);
                }
                let work = match step {
                    Step::Work(work) => work.again().ok_or(Status::ERROR_NOT_SUPPORTED)?,
                    Step::Record(event) => self.stamp_of(*event),
                    Step::Wait(event) => {
                        let record = self.events.get(*event).ok().and_then(|e| e.record.as_ref());
                        before.extend(record.map(|r| r.op));
                        Work::Nothing
                    }
                };
                let op = Op {
                    ctx: Arc::clone(&shared),
                    work,
                };
                let number = self.engine.submit(op, &before, priority, false);
                if let Step::Record(event) = step
                    && let Ok(entry) = self.events.get_mut(*event)
                    && let Some(record) = &mut entry.record
                {
                    record.op = number;
                }
                last = Some(number);
            }
            // A node without steps is an order alone.
            let number = match (last, before.as_slice()) {
                (Some(last), _) => last,
                (None, [one]) => *one,
                (None, _) => {
                    let op = Op {
                        ctx: Arc::clone(&shared),
                        work: Work::Nothing,
                    };
                    self.engine.submit(op, &before, priority, true)
                }
            };
            numbers.push(number);
        }
        let leaves: Vec<u64> = graph
            .leaves
            .iter()
            .filter_map(|i| numbers.get(*i).copied())
            .collect();
        self.place(owner, place, Work::Nothing, true, &leaves)
    }

    /// Work that notes the time of an event, which is from now on the event's record.
    fn stamp_of(&mut self, event: EventId) -> Work {
        let Ok(entry) = self.events.get_mut(event) else {
            // Destroyed meanwhile: nobody can ask for it.
            return Work::Nothing;
        };
        let time = Arc::new(OnceLock::new());
        entry.record = Some(Record {
            op: u64::MAX,
            time: Arc::clone(&time),
        });
        Work::Stamp(time)
    }
}
