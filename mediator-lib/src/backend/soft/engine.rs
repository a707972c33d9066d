//! The queue in which a session's work runs, in the order of its submission, beside the worker
//! that reads the ring.
//!
//! All streams of a session share the queue: submission order is a valid order of execution for
//! any set of streams and events, because a stream can only wait for what was submitted before.
//! Work is numbered; a stream remembers the number of its last piece.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use vgpu_protocol::Status;
use vgpu_protocol::limits::{MAX_QUEUED_BYTES, MAX_QUEUED_OPERATIONS};
use vgpu_soft_gpu::{Abort, Gpu};

use super::op::Op;
use crate::cancel::Cancel;

/// How often a waiter looks before it sleeps: about the time that waking it would take.
const SPINS: u32 = 2000;

/// See the module's documentation.
pub struct Engine {
    shared: Arc<Shared>,
    gpu: Arc<Gpu>,
    abort: Abort,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when there is work or the engine is to end.
    work: Condvar,
    /// Signalled when work has been done.
    done: Condvar,
    completed: AtomicU64,
}

struct Queue {
    ops: VecDeque<Op>,
    /// Bytes that the operations hold.
    bytes: usize,
    submitted: u64,
    ended: bool,
}

impl Queue {
    /// True where an operation that holds `bytes` has to wait. An empty queue takes any.
    fn is_full(&self, bytes: usize) -> bool {
        self.ops.len() >= MAX_QUEUED_OPERATIONS
            || (!self.ops.is_empty() && self.bytes + bytes > MAX_QUEUED_BYTES)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Starts an engine. `cancel` ends it, and the kernel that it runs.
    pub fn new(gpu: Arc<Gpu>, cancel: &Cancel, name: String) -> io::Result<Engine> {
        let queue = Queue {
            ops: VecDeque::new(),
            bytes: 0,
            submitted: 0,
            ended: false,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            done: Condvar::new(),
            completed: AtomicU64::new(0),
        });
        let abort = Abort::default();
        let thread = {
            let (shared, gpu, abort) = (Arc::clone(&shared), Arc::clone(&gpu), abort.clone());
            Builder::new()
                .name(name)
                .spawn(move || run(&shared, &gpu, &abort))?
        };
        cancel.on_set({
            let (shared, abort) = (Arc::clone(&shared), abort.clone());
            move || end(&shared, &abort)
        });
        Ok(Engine {
            shared,
            gpu,
            abort,
            thread: Some(thread),
        })
    }

    /// Adds work and returns its number. Waits while the queue is full.
    pub fn submit(&self, op: Op) -> u64 {
        let mut queue = self.shared.lock();
        let bytes = op.bytes();
        while queue.is_full(bytes) && !queue.ended {
            queue = self
                .shared
                .done
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        queue.submitted += 1;
        let number = queue.submitted;
        queue.ops.push_back(op);
        queue.bytes += bytes;
        drop(queue);
        self.shared.work.notify_one();
        number
    }

    /// Adds short work: where nothing is queued it is done at once, which saves waking a thread.
    pub fn submit_short(&self, op: Op) -> u64 {
        {
            let mut queue = self.shared.lock();
            if queue.ended || self.shared.completed.load(Ordering::Acquire) != queue.submitted {
                drop(queue);
                return self.submit(op);
            }
            // Only this thread submits, so the engine's own thread stays idle meanwhile.
            queue.submitted += 1;
        }
        run_guarded(op, &self.gpu, &self.abort);
        self.shared.completed.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Number of the last piece of work submitted.
    pub fn submitted(&self) -> u64 {
        self.shared.lock().submitted
    }

    /// True when the work with this number has been done.
    pub fn is_done(&self, number: u64) -> bool {
        self.shared.completed.load(Ordering::Acquire) >= number
    }

    /// Waits for the work with this number.
    ///
    /// # Errors
    /// `ERROR_DEINITIALIZED` when the session is ended first.
    pub fn wait(&self, number: u64) -> Result<(), Status> {
        for _ in 0..SPINS {
            if self.is_done(number) {
                return Ok(());
            }
            std::hint::spin_loop();
        }
        let mut queue = self.shared.lock();
        loop {
            if self.is_done(number) {
                return Ok(());
            }
            if queue.ended {
                return Err(Status::ERROR_DEINITIALIZED);
            }
            queue = self
                .shared
                .done
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn end(shared: &Shared, abort: &Abort) {
    abort.set();
    shared.lock().ended = true;
    shared.work.notify_all();
    shared.done.notify_all();
}

fn run(shared: &Shared, gpu: &Gpu, abort: &Abort) {
    let mut queue = shared.lock();
    loop {
        if queue.ended {
            // What is left frees its memory when it is dropped with the session.
            return;
        }
        let Some(op) = queue.ops.pop_front() else {
            queue = shared
                .work
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.bytes -= op.bytes();
        drop(queue);
        run_guarded(op, gpu, abort);
        shared.completed.fetch_add(1, Ordering::AcqRel);
        queue = shared.lock();
        shared.done.notify_all();
    }
}

/// Runs one piece of work. A panic in it is a defect of ours; it must not leave a guest waiting.
fn run_guarded(op: Op, gpu: &Gpu, abort: &Abort) {
    let ctx = Arc::clone(&op.ctx);
    if catch_unwind(AssertUnwindSafe(|| op.run(gpu, abort))).is_err() {
        tracing::error!("internal error of the software GPU: the work in progress was dropped");
        ctx.fail(Status::ERROR_LAUNCH_FAILED);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        end(&self.shared, &self.abort);
        if let Some(thread) = self.thread.take() {
            // The thread returns after at most the kernel that was aborted. A panic in it has been
            // reported by the panic hook.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use vgpu_soft_gpu::AddressSpace;

    use super::*;
    use crate::backend::soft::ctx::Context;
    use crate::backend::soft::op::Work;

    #[test]
    fn the_queue_takes_its_bytes_and_no_more() {
        let space = AddressSpace::new(1 << 20).expect("address space");
        let data = vec![0; 100];
        let op = Op {
            ctx: Context::new(space),
            work: Work::Write { dst: 0, data },
        };
        assert_eq!(op.bytes(), 100);
        let mut queue = Queue {
            ops: VecDeque::new(),
            bytes: 0,
            submitted: 0,
            ended: false,
        };
        assert!(!queue.is_full(MAX_QUEUED_BYTES + 1), "alone, anything goes");
        queue.bytes = op.bytes();
        queue.ops.push_back(op);
        assert!(!queue.is_full(MAX_QUEUED_BYTES - 100));
        assert!(queue.is_full(MAX_QUEUED_BYTES - 99));
    }
}
