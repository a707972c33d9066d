//! The thread pool: workers take blocks of the launches in flight; without
//! work they are parked.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Most worker threads: bounds what one process asks of the host.
pub const MAX_THREADS: usize = 1024;

/// A piece of work that several threads join.
pub trait Work: Send + Sync {
    /// Does a share of it; returns when nothing is left to start. `worker` is
    /// the number of the thread.
    fn join(&self, worker: u32);
    /// Whether another thread would find something to do.
    fn wants_help(&self) -> bool;
}

struct Entry {
    work: Arc<dyn Work>,
    helpers: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Arc<Entry>>,
    stop: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    done: Condvar,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The pool.
pub struct Pool {
    shared: Arc<Shared>,
    handles: Vec<thread::JoinHandle<()>>,
    threads: usize,
    launches: AtomicU64,
}

impl Pool {
    /// A pool in which `threads` threads run at once, the caller of a launch being one.
    pub fn new(threads: usize) -> io::Result<Pool> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("number of threads {threads} is not in 1..={MAX_THREADS}"),
            ));
        }
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Pool {
            shared,
            handles: Vec::new(),
            threads,
            launches: AtomicU64::new(0),
        };
        for k in 1..threads {
            let shared = pool.shared.clone();
            let h = thread::Builder::new()
                .name(format!("soft-gpu-{k}"))
                .spawn(move || worker(&shared, k as u32))?;
            pool.handles.push(h);
        }
        Ok(pool)
    }

    /// Threads that run at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The number of the next launch.
    pub fn next_launch(&self) -> u64 {
        self.launches.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs `work` on the caller and up to `helpers` workers; returns when it is done.
    pub fn run(&self, work: Arc<dyn Work>, helpers: usize) {
        if helpers == 0 || self.handles.is_empty() {
            work.join(0);
            return;
        }
        let entry = Arc::new(Entry {
            work: work.clone(),
            helpers: AtomicUsize::new(0),
        });
        lock(&self.shared.queue).entries.push_back(entry.clone());
        if helpers == 1 {
            self.shared.wake.notify_one();
        } else {
            self.shared.wake.notify_all();
        }
        work.join(0);
        let mut q = lock(&self.shared.queue);
        q.entries.retain(|e| !Arc::ptr_eq(e, &entry));
        while entry.helpers.load(Ordering::Acquire) != 0 {
            q = self
                .shared
                .done
                .wait(q)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn worker(shared: &Shared, number: u32) {
    let mut q = lock(&shared.queue);
    loop {
        if q.stop {
            return;
        }
        // The launch with the fewest helpers first, so that sessions share the cores.
        let next = q
            .entries
            .iter()
            .filter(|e| e.work.wants_help())
            .min_by_key(|e| e.helpers.load(Ordering::Relaxed))
            .cloned();
        let Some(e) = next else {
            q = shared.wake.wait(q).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        e.helpers.fetch_add(1, Ordering::AcqRel);
        drop(q);
        // A panic must not end the worker; the work itself reports it.
        let _ = catch_unwind(AssertUnwindSafe(|| e.work.join(number)));
        q = lock(&shared.queue);
        e.helpers.fetch_sub(1, Ordering::AcqRel);
        shared.done.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.queue).stop = true;
        self.shared.wake.notify_all();
        for h in self.handles.drain(..) {
            let _ = h.join();
        }
    }
}
