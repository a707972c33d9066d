//! Stream capture: calls that a capturing stream would execute become nodes of a graph. All of it
//! happens here; no message is sent.

pub mod calls;

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::{self, ThreadId};

use cudarc::driver::sys::{CUgraphEdgeData, CUstream};
use vgpu_protocol::Status;

use crate::abi::{Done, Zero};
use crate::ctx::Ctx;
use crate::graph::{Graph, Work};
use crate::init::Driver;
use crate::stream::{Queue, Stream};

/// `CUstreamCaptureMode`.
const GLOBAL: u32 = 0;
const THREAD_LOCAL: u32 = 1;
const RELAXED: u32 = 2;
/// `CUstreamCaptureStatus`.
const NONE: i32 = 0;
const ACTIVE: i32 = 1;
const INVALIDATED: i32 = 2;
/// `CU_STREAM_ADD_CAPTURE_DEPENDENCIES` and `CU_STREAM_SET_CAPTURE_DEPENDENCIES`.
const ADD: u32 = 0;
const SET: u32 = 1;

const UNSUPPORTED: Status = Status::ERROR_STREAM_CAPTURE_UNSUPPORTED;

thread_local! {
    /// What `cuThreadExchangeStreamCaptureMode` has set.
    static MODE: Cell<u32> = const { Cell::new(GLOBAL) };
}

/// One capture, from its beginning to its end, over all its streams.
#[derive(Debug)]
pub struct Sequence {
    /// A number that no other capture has.
    pub id: u64,
    graph: Arc<Graph>,
    mode: u32,
    thread: ThreadId,
    origin: Weak<Stream>,
    streams: Mutex<Vec<Weak<Stream>>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    invalid: bool,
    ended: bool,
}

/// A stream's part in a capture.
#[derive(Clone, Debug)]
pub struct Capturing {
    sequence: Arc<Sequence>,
    /// Handles of the nodes that the next one follows.
    after: Vec<u64>,
    edges: Vec<CUgraphEdgeData>,
}

/// What an event that was recorded in a capture stands for.
#[derive(Clone, Debug)]
pub struct Captured {
    sequence: Arc<Sequence>,
    nodes: Vec<u64>,
}

/// Where work goes.
pub enum Target {
    /// To the host.
    Queue(Queue),
    /// Into a graph.
    Capture(Capture),
}

/// A stream that captures.
pub struct Capture {
    driver: &'static Driver,
    stream: Arc<Stream>,
    /// Its queue, for what a node has to know.
    pub queue: Queue,
    sequence: Arc<Sequence>,
}

/// Captures of the process.
#[derive(Debug, Default)]
pub struct Captures(Mutex<Vec<Arc<Sequence>>>);

impl Captures {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Sequence>>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Driver {
    /// Refuses what no stream of a context may capture: each capture that has one is invalidated.
    pub fn refuse_captures_of(&self, ctx: &Arc<Ctx>) -> Done {
        let mut found = false;
        for sequence in self.captures.lock().iter() {
            let members = sequence.members();
            if members.iter().any(|stream| Arc::ptr_eq(&stream.ctx, ctx)) {
                sequence.invalidate(UNSUPPORTED);
                found = true;
            }
        }
        if found { Err(UNSUPPORTED) } else { Ok(()) }
    }
}

impl Sequence {
    fn is_valid(&self) -> bool {
        !lock(&self.state).invalid
    }

    fn invalidate(&self, why: Status) -> Status {
        lock(&self.state).invalid = true;
        why
    }

    fn members(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

impl Captured {
    /// True while the capture goes on.
    pub fn is_live(&self) -> bool {
        !lock(&self.sequence.state).ended
    }

    /// What a query of such an event comes to: the capture is invalidated.
    pub fn refuse(&self) -> Status {
        self.sequence.invalidate(Status::ERROR_CAPTURED_EVENT)
    }
}

impl Capture {
    /// Adds a node to the graph; the stream's next one follows it.
    pub fn add(&self, work: Work) -> Done {
        if !self.sequence.is_valid() {
            return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        let mut capturing = lock(&self.stream.capture);
        let capturing = capturing.as_mut().ok_or(UNSUPPORTED)?;
        let graph = &self.sequence.graph;
        let after = capturing.after.iter().map(|node| Ok((*node, [0; 3])));
        let after = self.driver.indices(graph, after)?;
        let node = self.driver.add_node(graph, after, Arc::new(work), 0)?;
        capturing.after = vec![node];
        capturing.edges.clear();
        Ok(())
    }

    /// Ends the hope for a graph; gives the error back.
    pub fn invalidate(&self, why: Status) -> Status {
        self.sequence.invalidate(why)
    }

    /// What an event recorded now stands for.
    pub fn record(&self) -> Done<Captured> {
        if !self.sequence.is_valid() {
            return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        let capturing = lock(&self.stream.capture);
        let capturing = capturing.as_ref().ok_or(UNSUPPORTED)?;
        Ok(Captured {
            sequence: Arc::clone(&self.sequence),
            nodes: capturing.after.clone(),
        })
    }

    /// Has the stream's next node follow what an event stands for.
    pub fn wait(&self, event: Option<&Captured>) -> Done {
        let Some(event) = event.filter(|e| e.is_live()) else {
            // "A dependency would have been created on uncaptured work."
            return Err(self.invalidate(Status::ERROR_STREAM_CAPTURE_ISOLATION));
        };
        if !Arc::ptr_eq(&event.sequence, &self.sequence) {
            event
                .sequence
                .invalidate(Status::ERROR_STREAM_CAPTURE_MERGE);
            return Err(self.invalidate(Status::ERROR_STREAM_CAPTURE_MERGE));
        }
        if !self.sequence.is_valid() {
            return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        if let Some(capturing) = lock(&self.stream.capture).as_mut() {
            capturing.follow(&event.nodes);
        }
        Ok(())
    }
}

impl Capturing {
    fn follow(&mut self, nodes: &[u64]) {
        for node in nodes {
            if !self.after.contains(node) {
                self.after.push(*node);
            }
        }
    }
}

/// Lets a stream that does not capture join the capture that an event was recorded in.
pub fn join(driver: &Driver, queue: &Queue, event: &Captured) -> Done {
    let sequence = &event.sequence;
    let Some(stream) = &queue.stream else {
        // The default stream cannot be captured, and must not wait for what is not executed.
        return Err(sequence.invalidate(Status::ERROR_STREAM_CAPTURE_IMPLICIT));
    };
    if !sequence.is_valid() {
        return Err(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
    }
    enter(driver, stream, sequence, event.nodes.clone(), Vec::new());
    Ok(())
}

fn enter(
    driver: &Driver,
    stream: &Arc<Stream>,
    sequence: &Arc<Sequence>,
    after: Vec<u64>,
    edges: Vec<CUgraphEdgeData>,
) {
    lock(&sequence.streams).push(Arc::downgrade(stream));
    *lock(&stream.capture) = Some(Capturing {
        sequence: Arc::clone(sequence),
        after,
        edges,
    });
    stream.captures.store(true, Ordering::Release);
    driver.capturing.fetch_add(1, Ordering::AcqRel);
}

fn leave(driver: &Driver, stream: &Stream) {
    if lock(&stream.capture).take().is_some() {
        stream.captures.store(false, Ordering::Release);
        driver.capturing.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Driver {
    /// Where work for a stream goes.
    pub fn target(&'static self, stream: CUstream, zero: Zero) -> Done<Target> {
        let queue = self.any_queue(stream, zero)?;
        if self.capturing.load(Ordering::Relaxed) == 0 {
            return Ok(Target::Queue(queue));
        }
        let Some(stream) = queue.stream.clone() else {
            self.check_legacy(&queue)?;
            return Ok(Target::Queue(queue));
        };
        let sequence = lock(&stream.capture)
            .as_ref()
            .map(|c| Arc::clone(&c.sequence));
        Ok(match sequence {
            None => Target::Queue(queue),
            Some(sequence) => Target::Capture(Capture {
                driver: self,
                stream,
                queue,
                sequence,
            }),
        })
    }

    /// A stream for a call that cannot be captured: a capture that it belongs to is invalidated.
    pub fn queue(&'static self, stream: CUstream, zero: Zero) -> Done<Queue> {
        match self.target(stream, zero)? {
            Target::Queue(queue) => Ok(queue),
            Target::Capture(capture) => Err(capture.invalidate(UNSUPPORTED)),
        }
    }

    /// "The operation would have resulted in a disallowed implicit dependency on a current capture
    /// sequence from cudaStreamLegacy."
    fn check_legacy(&self, queue: &Queue) -> Done {
        match self.captured_blocking(queue) {
            None => Ok(()),
            Some(sequence) => Err(sequence.invalidate(Status::ERROR_STREAM_CAPTURE_IMPLICIT)),
        }
    }

    /// A capture of a stream that the default stream is ordered with.
    fn captured_blocking(&self, queue: &Queue) -> Option<Arc<Sequence>> {
        let blocking = |s: &Arc<Stream>| s.is_blocking() && Arc::ptr_eq(&s.ctx, &queue.ctx);
        let all = self.captures.lock();
        all.iter()
            .find(|s| s.members().iter().any(blocking))
            .cloned()
    }

    /// Called by what is unsafe while a capture goes on (`cuThreadExchangeStreamCaptureMode`).
    pub fn check_unsafe(&self) -> Done {
        if self.capturing.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let (mode, own) = (MODE.get(), thread::current().id());
        if mode == RELAXED {
            return Ok(());
        }
        let prohibits = |s: &&Arc<Sequence>| {
            s.thread == own && s.mode != RELAXED || mode == GLOBAL && s.mode == GLOBAL
        };
        let all: Vec<Arc<Sequence>> = self
            .captures
            .lock()
            .iter()
            .filter(prohibits)
            .cloned()
            .collect();
        for sequence in &all {
            sequence.invalidate(UNSUPPORTED);
        }
        if all.is_empty() {
            Ok(())
        } else {
            Err(UNSUPPORTED)
        }
    }

    /// Called when a stream is destroyed.
    pub fn end_capture_of(&self, stream: &Stream) {
        if let Some(capturing) = lock(&stream.capture).as_ref() {
            capturing
                .sequence
                .invalidate(Status::ERROR_STREAM_CAPTURE_INVALIDATED);
        }
        leave(self, stream);
    }
}
