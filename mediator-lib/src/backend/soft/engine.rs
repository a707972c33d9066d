//! The scheduler of a session's work, beside the worker that reads the ring.
//!
//! Each operation knows the earlier ones that it has to follow; streams are nothing but such
//! orders ([`order`](super::order)). One thread takes whatever is ready, the highest priority first
//! and then in the order of submission, so that a stream which waits holds up no other. Kernels use
//! all cores, so one thread is enough. Operations are numbered; a stream remembers its last one.
//!
//! Short operations that follow one another, such as a stream of small kernels, are taken out
//! together ([`Chain`]): the lock is taken once for all of them.

use std::cell::Cell;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use vgpu_protocol::Status;
use vgpu_protocol::limits::{MAX_QUEUED_BYTES, MAX_QUEUED_OPERATIONS};
use vgpu_soft_gpu::{Abort, Gpu};

use super::ctx::Context;
use super::op::{Op, Ran, Work};
use crate::backend::Wait;
use crate::callbacks::{Callbacks, Turn};
use crate::cancel::Cancel;
use crate::waker::Waker;

/// How often a waiter looks before it sleeps: about the time that waking it would take.
const SPINS: u32 = 2000;

/// Shortest and longest time between two looks at memory that a stream waits for. The guest may
/// write it without a message.
const LOOK: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// Most operations of a chain, and how long one may last before what is left goes back: what else
/// has become ready, or is more urgent, waits no longer than that.
const CHAIN: (usize, Duration) = (32, Duration::from_micros(20));

/// Host memory that one order between two operations takes, in bytes: it counts as queued.
const ORDER_BYTES: usize = 8;

/// See the module's documentation.
pub struct Engine {
    shared: Arc<Shared>,
    /// The number of the last operation. Only one thread submits.
    last: Cell<u64>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when there is work for a thread that sleeps, or the engine is to end.
    work: Condvar,
    /// Signalled when work has been done and somebody waits.
    done: Condvar,
    /// All operations up to this number are done.
    floor: AtomicU64,
    /// Of the operations of the chain that is being done, those up to this number are done.
    chain_floor: AtomicU64,
    /// No more work may be queued.
    full: AtomicBool,
    gpu: Arc<Gpu>,
    abort: Abort,
    waker: Arc<Waker>,
    callbacks: Arc<Callbacks>,
}

#[derive(Default)]
struct State {
    /// Operations that were submitted and are not done.
    pending: BTreeMap<u64, Node>,
    ready: BinaryHeap<Ready>,
    /// Operations whose turn has come and that look at memory until it changes.
    looking: Vec<u64>,
    /// Bytes that the operations hold.
    bytes: usize,
    /// The last operation that was not [`Engine::run_here`]'s from its beginning to its end.
    submitted: u64,
    /// The engine's thread has nothing to do.
    sleeping: bool,
    waiters: u32,
    ended: bool,
}

struct Node {
    /// `None` while it is done by somebody.
    op: Option<Op>,
    /// It is part of the chain that is being done.
    chained: bool,
    /// Earlier operations that are not done.
    before: u32,
    after: After,
    priority: i32,
    bytes: usize,
}

/// What follows an operation: nearly always one, the next of its stream.
#[derive(Default)]
struct After {
    first: Option<u64>,
    more: Vec<u64>,
}

impl After {
    fn last(&self) -> Option<u64> {
        self.more.last().copied().or(self.first)
    }

    fn push(&mut self, number: u64) {
        match self.first {
            None => self.first = Some(number),
            Some(_) => self.more.push(number),
        }
    }

    /// The one that follows, where it is the only one.
    fn only(&self) -> Option<u64> {
        self.first.filter(|_| self.more.is_empty())
    }
}

/// Operations of which each has to follow the one before it and nothing else.
type Chain = Vec<(u64, Op)>;

/// What is ready, greatest first: smaller numbers of priority, then of submission.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ready(std::cmp::Reverse<(i32, u64)>);

impl State {
    /// True where no more work may be queued.
    fn is_full(&self) -> bool {
        self.pending.len() >= MAX_QUEUED_OPERATIONS || self.bytes >= MAX_QUEUED_BYTES
    }

    /// Takes a finished operation out and sets free what waited for it alone.
    fn finish(&mut self, number: u64) {
        let Some(node) = self.pending.remove(&number) else {
            return;
        };
        self.bytes -= node.bytes;
        for after in node.after.first.into_iter().chain(node.after.more) {
            if let Some(waiting) = self.pending.get_mut(&after) {
                waiting.before -= 1;
                // One without work has been done already, in the same chain.
                if waiting.before == 0 && waiting.op.is_some() {
                    let priority = waiting.priority;
                    self.push_ready(priority, after);
                }
            }
        }
    }

    fn push_ready(&mut self, priority: i32, number: u64) {
        self.ready
            .push(Ready(std::cmp::Reverse((priority, number))));
    }

    /// Takes the next operation, and those that can be done right after it.
    fn take(&mut self, chain: &mut Chain, longest: usize) {
        let Some(Ready(std::cmp::Reverse((_, mut number)))) = self.ready.pop() else {
            return;
        };
        loop {
            let alone = !self.ready.is_empty() || chain.len() + 1 >= longest;
            let Some(node) = self.pending.get_mut(&number) else {
                return;
            };
            let Some(op) = node.op.take() else {
                return;
            };
            node.chained = true;
            let next = node.after.only().filter(|_| !alone && op.ends());
            chain.push((number, op));
            let Some(next) = next else {
                return;
            };
            let follows = |n: &Node| n.before == 1 && n.op.as_ref().is_some_and(Op::ends);
            if !self.pending.get(&next).is_some_and(follows) {
                return;
            }
            number = next;
        }
    }

    fn floor(&self) -> u64 {
        let first = self.pending.first_key_value();
        first.map_or(self.submitted, |(number, _)| number - 1)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self, number: u64) -> bool {
        number <= self.floor.load(Ordering::Acquire) || {
            let state = self.lock();
            number <= state.submitted
                && state.pending.get(&number).is_none_or(|node| {
                    node.chained && number <= self.chain_floor.load(Ordering::Acquire)
                })
        }
    }

    /// An operation is done, whoever did it.
    fn complete(&self, number: u64) {
        let mut state = self.lock();
        self.complete_locked(&mut state, number);
        if state.sleeping && !state.ready.is_empty() {
            state.sleeping = false;
            self.work.notify_one();
        }
        drop(state);
        self.waker.wake();
    }

    fn complete_locked(&self, state: &mut State, number: u64) {
        state.finish(number);
        // What was run beside the queue may have later numbers than anything that was in it.
        self.floor.fetch_max(state.floor(), Ordering::Release);
        self.full.store(state.is_full(), Ordering::Release);
        if state.waiters > 0 {
            self.done.notify_all();
        }
    }

    /// Does one operation. A panic in it is a defect of ours; it must not leave a guest waiting.
    fn run(&self, op: Op) -> Ran {
        let ctx = Arc::clone(&op.ctx);
        let ran = catch_unwind(AssertUnwindSafe(|| op.run(&self.gpu, &self.abort)));
        ran.unwrap_or_else(|_| {
            panicked(&ctx);
            Ran::Done
        })
    }
}

fn panicked(ctx: &Context) {
    tracing::error!("internal error of the software GPU: the work in progress was dropped");
    ctx.fail(Status::ERROR_LAUNCH_FAILED);
}

impl Engine {
    /// Ends what runs when the session ends.
    pub fn abort(&self) -> &Abort {
        &self.shared.abort
    }

    /// Starts an engine. `cancel` ends it, and the kernel that it runs.
    pub fn new(
        gpu: Arc<Gpu>,
        cancel: &Cancel,
        waker: Arc<Waker>,
        callbacks: Arc<Callbacks>,
        name: String,
    ) -> io::Result<Engine> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            floor: AtomicU64::new(0),
            chain_floor: AtomicU64::new(0),
            full: AtomicBool::new(false),
            gpu,
            abort: Abort::default(),
            waker,
            callbacks,
        });
        let thread = {
            let shared = Arc::clone(&shared);
            Builder::new().name(name).spawn(move || run(&shared))?
        };
        cancel.on_set({
            let shared = Arc::clone(&shared);
            move || end(&shared)
        });
        Ok(Engine {
            shared,
            last: Cell::new(0),
            thread: Some(thread),
        })
    }

    /// Adds work that follows the operations with the numbers `after`; gives its own. `short` work
    /// is done at once where it need not wait, which saves waking a thread.
    ///
    /// Only one thread may submit.
    pub fn submit(&self, op: Op, after: &[u64], priority: i32, short: bool) -> u64 {
        let shared = &self.shared;
        let mut state = shared.lock();
        // A worker that suspends calls looks for room before it takes a message.
        while state.is_full() && !state.ended && !shared.waker.is_on() {
            state = self.sleep(state);
        }
        let number = self.next(&mut state);
        let mut before = 0;
        for earlier in after {
            if *earlier != number
                && let Some(node) = state.pending.get_mut(earlier)
                && node.after.last() != Some(number)
            {
                node.after.push(number);
                before += 1;
            }
        }
        if before == 0 && short && !state.ended {
            // It is done before anybody can ask for it: only this thread does.
            shared.floor.store(state.floor(), Ordering::Release);
            drop(state);
            shared.run(op);
            return number;
        }
        self.enqueue(state, number, op, before, priority);
        number
    }

    /// The number of an operation that is being submitted.
    fn next(&self, state: &mut State) -> u64 {
        let number = self.last.get() + 1;
        self.last.set(number);
        state.submitted = number;
        number
    }

    /// True where nothing is queued and nothing runs. Only the thread that submits can change that.
    pub fn is_idle(&self) -> bool {
        let shared = &self.shared;
        // Without the lock, which takes as long as much of a small launch.
        shared.floor.load(Ordering::Acquire) == self.last.get() && !shared.abort.is_set()
    }

    /// Does work in the calling thread, which is the one that submits; the engine is idle, so that nothing runs
    /// that memory could be taken from, or that this could overtake. What the work leaves is done by the
    /// engine's thread: so work that waits for what the calling thread does next, as a kernel may that
    /// looks at memory, does not keep it. Gives the work's number, and whether something is left.
    pub fn run_here(
        &self,
        ctx: &Arc<Context>,
        priority: i32,
        work: impl FnOnce(&Gpu, &Abort) -> Option<Work>,
    ) -> (u64, bool) {
        let shared = &self.shared;
        let ran = catch_unwind(AssertUnwindSafe(|| work(&shared.gpu, &shared.abort)));
        let rest = ran.unwrap_or_else(|_| {
            panicked(ctx);
            None
        });
        let Some(work) = rest else {
            let number = self.last.get() + 1;
            self.last.set(number);
            // The engine's thread stores it when it has done what is queued: nothing is.
            shared.floor.store(number, Ordering::Release);
            return (number, false);
        };
        let mut state = shared.lock();
        let number = self.next(&mut state);
        let op = Op {
            ctx: Arc::clone(ctx),
            work,
        };
        self.enqueue(state, number, op, 0, priority);
        (number, true)
    }

    fn enqueue(
        &self,
        mut state: MutexGuard<'_, State>,
        number: u64,
        op: Op,
        before: u32,
        priority: i32,
    ) {
        let shared = &self.shared;
        let bytes = op.bytes() + before as usize * ORDER_BYTES;
        state.bytes += bytes;
        state.pending.insert(
            number,
            Node {
                op: Some(op),
                chained: false,
                before,
                after: After::default(),
                priority,
                bytes,
            },
        );
        shared.full.store(state.is_full(), Ordering::Release);
        if before == 0 {
            state.push_ready(priority, number);
            if state.sleeping {
                state.sleeping = false;
                drop(state);
                shared.work.notify_one();
            }
        }
    }

    /// True where the worker should take no message that may add work.
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Acquire)
    }

    /// True when the work with this number has been done.
    pub fn is_done(&self, number: u64) -> bool {
        self.shared.is_done(number)
    }

    /// What a suspended call waits for.
    pub fn waiting_for(&self, number: u64) -> Wait {
        let shared = Arc::clone(&self.shared);
        Box::new(move || shared.is_done(number).then_some(Ok(())))
    }

    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiters += 1;
        let mut state = self
            .shared
            .done
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        state
    }

    /// Waits for the work with this number.
    ///
    /// # Errors
    /// `ERROR_DEINITIALIZED` when the session is ended first.
    pub fn wait(&self, number: u64) -> Result<(), Status> {
        for _ in 0..SPINS {
            if number <= self.shared.floor.load(Ordering::Acquire) {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let mut state = self.shared.lock();
        loop {
            if !state.pending.contains_key(&number) {
                return Ok(());
            }
            if state.ended {
                return Err(Status::ERROR_DEINITIALIZED);
            }
            state = self.sleep(state);
        }
    }
}

fn end(shared: &Shared) {
    shared.abort.set();
    shared.lock().ended = true;
    shared.work.notify_all();
    shared.done.notify_all();
}

/// The engine's thread.
fn run(shared: &Arc<Shared>) {
    let mut pause = LOOK.0;
    let mut chain = Chain::new();
    let mut state = shared.lock();
    loop {
        // Who waits in a call is told of operations only when their chain is done.
        let longest = if shared.waker.is_on() { CHAIN.0 } else { 1 };
        if state.ended {
            // What is left frees its memory when it is dropped with the session.
            return;
        }
        shared.chain_floor.store(0, Ordering::Release);
        state.take(&mut chain, longest);
        if !chain.is_empty() {
            pause = LOOK.0;
            drop(state);
            state = work(shared, &mut chain);
            look(shared, &mut state);
            if !shared.waker.is_on() {
                continue;
            }
            drop(state);
            shared.waker.advance();
            state = shared.lock();
            continue;
        }
        if look(shared, &mut state) {
            shared.waker.wake();
            continue;
        }
        state.sleeping = true;
        if state.looking.is_empty() {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        } else {
            let waited = shared.work.wait_timeout(state, pause);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            pause = (pause * 2).min(LOOK.1);
        }
        state.sleeping = false;
    }
}

/// Does the operations of a chain, or as many of them as there is time for.
fn work<'a>(shared: &'a Arc<Shared>, chain: &mut Chain) -> MutexGuard<'a, State> {
    let began = (chain.len() > 1).then(Instant::now);
    let mut done = Vec::with_capacity(chain.len());
    let mut left = chain.drain(..);
    for (number, op) in left.by_ref() {
        let ran = shared.run(op);
        if began.is_some() {
            // Who waits for this one need not wait for the others.
            shared.chain_floor.store(number, Ordering::Release);
            shared.waker.advance();
        }
        done.push((number, ran));
        if began.is_none_or(|began| began.elapsed() >= CHAIN.1) {
            break;
        }
    }
    let mut state = shared.lock();
    for (number, op) in left {
        if let Some(node) = state.pending.get_mut(&number) {
            node.op = Some(op);
            node.chained = false;
        }
    }
    for (number, ran) in done {
        settle(shared, &mut state, number, ran);
    }
    state
}

/// Keeps what an operation has come to.
fn settle(shared: &Arc<Shared>, state: &mut State, number: u64, ran: Ran) {
    if let Some(node) = state.pending.get_mut(&number) {
        node.chained = false;
    }
    match ran {
        Ran::Done => shared.complete_locked(state, number),
        Ran::Looks(op) => {
            if let Some(node) = state.pending.get_mut(&number) {
                node.op = Some(op);
                state.looking.push(number);
            }
        }
        Ran::Calls(turn) => call(shared, turn, number),
    }
}

fn call(shared: &Arc<Shared>, turn: Turn, number: u64) {
    // Weak: the queue of functions is the session's, which may outlive its engine.
    let done = Arc::downgrade(shared);
    shared.callbacks.ready(turn, move || {
        if let Some(shared) = done.upgrade() {
            shared.complete(number);
        }
    });
}

/// Looks at the memory that streams wait for. True where one of them may go on.
fn look(shared: &Arc<Shared>, state: &mut State) -> bool {
    let mut looking = std::mem::take(&mut state.looking);
    let before = looking.len();
    looking.retain(|number| {
        let still = state
            .pending
            .get(number)
            .and_then(|node| node.op.as_ref())
            .is_some_and(Op::must_wait);
        if !still {
            shared.complete_locked(state, *number);
        }
        still
    });
    let went_on = looking.len() < before;
    state.looking = looking;
    went_on
}

impl Drop for Engine {
    fn drop(&mut self) {
        end(&self.shared);
        if let Some(thread) = self.thread.take() {
            // The thread returns after at most the kernel that was aborted. A panic in it has been
            // reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
