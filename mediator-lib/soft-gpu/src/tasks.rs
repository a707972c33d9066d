//! Work of a library on the GPU's threads: what is no kernel, and yet takes its turn with them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::exec::pool::Work;
use crate::launch::{Abort, Gpu};

/// Why not all tasks were done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskError<E> {
    /// [`Abort`] was set.
    Aborted,
    /// A task panicked.
    Panicked,
    /// A task failed.
    Failed(E),
}

struct Tasks<F, E> {
    task: F,
    count: u64,
    next: AtomicU64,
    abort: Abort,
    error: Mutex<Option<TaskError<E>>>,
}

impl<F, E> Tasks<F, E> {
    /// Keeps the first error; nothing more is started.
    fn fail(&self, error: TaskError<E>) {
        self.next.store(self.count, Ordering::Relaxed);
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
    }
}

impl<F, E> Work for Tasks<F, E>
where
    F: Fn(u64) -> Result<(), E> + Send + Sync,
    E: Send,
{
    fn join(&self, _: u32) {
        while self.wants_help() {
            if self.abort.is_set() {
                return self.fail(TaskError::Aborted);
            }
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| (self.task)(index))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return self.fail(TaskError::Failed(error)),
                Err(_) => return self.fail(TaskError::Panicked),
            }
        }
    }

    fn wants_help(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.count
    }
}

impl Gpu {
    /// Runs `task(0)` to `task(count - 1)` in any order, on all threads. Where one fails no others
    /// are started; those in flight are waited for.
    ///
    /// # Errors
    /// The first failure. `abort` is looked at between tasks: a long task looks itself.
    pub fn for_each<E: Send + 'static>(
        &self,
        count: u64,
        abort: &Abort,
        task: impl Fn(u64) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<(), TaskError<E>> {
        if count == 0 {
            return Ok(());
        }
        let tasks = Arc::new(Tasks {
            task,
            count,
            next: AtomicU64::new(0),
            abort: abort.clone(),
            error: Mutex::new(None),
        });
        let _running = self.busy().enter(std::time::Instant::now());
        let helpers = (count - 1).min(self.threads() as u64) as usize;
        self.pool.run(tasks.clone(), helpers);
        let error = tasks
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        error.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let gpu = Gpu::new(3).unwrap();
        let counts: Arc<Vec<AtomicU64>> = Arc::new((0..1000).map(|_| AtomicU64::new(0)).collect());
        let seen = counts.clone();
        let done = gpu.for_each::<()>(1000, &Abort::new(), move |i| {
            seen[i as usize].fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        assert_eq!(done, Ok(()));
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        assert_eq!(gpu.for_each(0, &Abort::new(), |_| Err(1)), Ok(()));
    }

    #[test]
    fn failures_panics_and_aborts_end_it() {
        let gpu = Gpu::new(2).unwrap();
        let failed = gpu.for_each(u64::MAX, &Abort::new(), |i| {
            if i == 5 { Err(i) } else { Ok(()) }
        });
        assert_eq!(failed, Err(TaskError::Failed(5)));
        let panicked = gpu.for_each::<()>(9, &Abort::new(), |i| {
            assert!(i != 4, "on purpose");
            Ok(())
        });
        assert_eq!(panicked, Err(TaskError::Panicked));
        let abort = Abort::new();
        let set = abort.clone();
        let aborted = gpu.for_each::<()>(u64::MAX, &abort, move |i| {
            if i == 100 {
                set.set();
            }
            Ok(())
        });
        assert_eq!(aborted, Err(TaskError::Aborted));
    }
}
