//! One launch on its way: which of its blocks have run, and what went wrong.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Plan;
use super::{Jit, LaunchConfig, LaunchError, LaunchStats};
use crate::exec::block::{BlockError, BlockRunner, LaunchShared};
use crate::exec::insn::Program;
use crate::exec::pool::Work;
use crate::exec::region::Owner;
use crate::function::Function;
use crate::memory::{AddressSpace, Range, Version};
use crate::runtime::DeviceRuntime;

/// The workspace of a cooperative grid, in bytes.
const WORKSPACE_BYTES: u32 = 256;

/// Shares into which a grid is divided for each thread, and most blocks of one: a thread takes so many at once,
/// because counting each block costs more than a small one, and few enough that all threads end together.
const SHARES: u64 = 128;
const MAX_SHARE: u64 = 64;

/// How long the blocks of a launch that was only begun may run before the rest of them is left, and how often
/// warps of one may go on: a warp may stop at a barrier again and again.
const BEGIN_TIME: Duration = Duration::from_micros(20);
const BEGIN_RUNS: u32 = 256;

/// Most memory of a block that is kept for the next launch, in bytes.
const MAX_KEPT_BYTES: usize = 512 << 10;

/// What a launch uses: by reference where the launch is over before its caller returns, because counting references
/// takes as long as much of a small launch.
pub(super) enum Held<'a, T: ?Sized> {
    Borrowed(&'a Arc<T>),
    Owned(Arc<T>),
}

impl<T: ?Sized> Held<'_, T> {
    fn own(self) -> Held<'static, T> {
        Held::Owned(match self {
            Held::Borrowed(shared) => Arc::clone(shared),
            Held::Owned(own) => own,
        })
    }
}

impl<T: ?Sized> Deref for Held<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Held::Borrowed(shared) => shared,
            Held::Owned(own) => own,
        }
    }
}

/// A launch.
pub(super) struct Job<'a> {
    pub function: Held<'a, Function>,
    pub plan: Held<'a, Plan>,
    pub jit: Jit,
    pub reference: bool,
    pub config: LaunchConfig,
    pub params: Cow<'a, [u8]>,
    pub ranges: Held<'a, [Range]>,
    pub delta: usize,
    /// The number of the memory.
    pub space: u64,
    pub id: u64,
    pub workers: u32,
    /// The flag of [`super::Abort`].
    pub abort: Held<'a, AtomicBool>,
    pub runtime: Held<'a, DeviceRuntime>,
    pub start: Instant,
    pub deadline: Option<(Instant, Duration)>,
    /// Whether the kernel was compiled for it.
    pub fresh: bool,
    pub resident: Option<Resident>,
    pub progress: Progress,
}

/// How far a launch has come.
pub(super) struct Progress {
    next: AtomicU64,
    deopts: AtomicU64,
    error: Mutex<Option<(u64, LaunchError)>>,
    failed: AtomicBool,
    /// The lowest block that failed.
    lowest: AtomicU64,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            next: AtomicU64::new(0),
            deopts: AtomicU64::new(0),
            error: Mutex::new(None),
            failed: AtomicBool::new(false),
            lowest: AtomicU64::new(u64::MAX),
        }
    }
}

/// A launch of which a part is left, with the memory of the block that has begun, or of the last one.
pub(super) struct Halted {
    runner: Box<BlockRunner>,
    left: Left,
}

/// A block that has begun and not ended, and the blocks of the grid from `next` on, which have not begun.
struct Left {
    block: Option<u64>,
    next: u64,
}

/// The memory of a block of a launch that has ended, for the next one of the same plan.
pub(super) struct Memory {
    runner: Box<BlockRunner>,
    /// What the kernel could reach.
    reached: Version,
}

/// Blocks of a cooperative grid that nobody runs just now, with their numbers.
type Waiting = Mutex<VecDeque<(u64, BlockRunner)>>;

/// What a cooperative grid has beside others.
pub(super) struct Resident {
    /// Device address of its workspace: the size of it, then the word of the barrier.
    workspace: u64,
    waiting: Waiting,
}

impl Resident {
    pub fn new(workspace: &Workspace<'_>) -> Resident {
        Resident {
            workspace: workspace.at,
            waiting: Mutex::default(),
        }
    }
}

/// Device memory for as long as a launch runs.
pub(super) struct Workspace<'a> {
    space: &'a AddressSpace,
    at: u64,
}

impl Workspace<'_> {
    pub fn new(space: &AddressSpace) -> Result<Workspace<'_>, LaunchError> {
        let at = space.alloc(WORKSPACE_BYTES.into(), 256).map_err(|e| {
            LaunchError::OutOfResources(format!("no memory for the barrier of the grid: {e}"))
        })?;
        let workspace = Workspace { space, at };
        let size = space.write(at, &WORKSPACE_BYTES.to_le_bytes());
        size.map_err(|e| LaunchError::Internal(format!("the grid's workspace: {e}")))?;
        Ok(workspace)
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        // Nobody else frees it: no call has given the guest its address.
        let _ = self.space.free(self.at);
    }
}

impl Job<'_> {
    /// The same, for another thread.
    pub fn own(self) -> Job<'static> {
        Job {
            function: self.function.own(),
            plan: self.plan.own(),
            abort: self.abort.own(),
            runtime: self.runtime.own(),
            jit: self.jit,
            reference: self.reference,
            config: self.config,
            params: Cow::Owned(self.params.into_owned()),
            ranges: self.ranges.own(),
            delta: self.delta,
            space: self.space,
            id: self.id,
            workers: self.workers,
            start: self.start,
            deadline: self.deadline,
            fresh: self.fresh,
            resident: self.resident,
            progress: self.progress,
        }
    }

    fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }

    /// Runs blocks until nobody else has any left to start. `worker` is the number of the thread.
    pub fn run(&self, worker: u32) {
        self.guarded((), || self.shared(|shared| self.blocks(shared, worker)));
    }

    fn fail(&self, block: u64, e: LaunchError) {
        let progress = &self.progress;
        let mut slot = progress
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A fault of a lower block is the one to report; an abort yields to a fault.
        let replace = match &*slot {
            None => true,
            Some((_, LaunchError::Aborted)) => true,
            Some((b, _)) => block < *b && e != LaunchError::Aborted,
        };
        if replace {
            *slot = Some((block, e));
        }
        progress.failed.store(true, Ordering::Relaxed);
        progress.lowest.fetch_min(block, Ordering::Relaxed);
        progress.next.store(self.plan.total, Ordering::Relaxed);
    }

    /// Place of block number `n` in the grid.
    fn place(&self, n: u64) -> [u32; 3] {
        let [gx, gy, _] = self.config.grid.map(u64::from);
        [(n % gx) as u32, (n / gx % gy) as u32, (n / gx / gy) as u32]
    }

    /// Place of the block after the one at `[x, y, z]`.
    fn after(&self, [x, y, z]: [u32; 3]) -> [u32; 3] {
        let [gx, gy, _] = self.config.grid;
        if x + 1 < gx {
            [x + 1, y, z]
        } else if y + 1 < gy {
            [0, y + 1, z]
        } else {
            [0, 0, z + 1]
        }
    }

    /// Notes why block number `n` stopped.
    fn stopped(&self, n: u64, program: &Program, why: BlockError) {
        let compiled = &self.plan.compiled;
        let error = match why {
            BlockError::Aborted => LaunchError::Aborted,
            BlockError::TimedOut => LaunchError::TimedOut {
                kernel: compiled.kernel().to_owned(),
                limit: self.deadline.map_or(Duration::ZERO, |(_, limit)| limit),
            },
            BlockError::Fault {
                fault,
                pc,
                reference,
                block,
                thread,
            } => {
                let program = if reference {
                    &compiled.reference
                } else {
                    program
                };
                compiled.error(program, fault, pc, block, thread)
            }
        };
        self.fail(n, error);
    }

    /// A block's memory.
    fn runner(&self, shared: &LaunchShared<'_>, worker: u32) -> Option<BlockRunner> {
        BlockRunner::new(shared, worker)
            .map_err(|e| {
                let why = format!("no memory for a block: {e}");
                self.fail(0, LaunchError::Internal(why));
            })
            .ok()
    }

    /// What its blocks share. All that it points to stays where it is when the job is moved.
    fn shared<R>(&self, run: impl FnOnce(&LaunchShared<'_>) -> R) -> R {
        let compiled = &self.plan.compiled;
        let jit = |long: bool| match self.jit {
            Jit::Never => None,
            Jit::Auto if !long => compiled.jit(),
            _ => compiled.compile_jit(&self.function),
        };
        run(&LaunchShared {
            program: if self.reference {
                &compiled.reference
            } else {
                &compiled.optimised
            },
            jit: &jit,
            reference: &compiled.reference,
            grid: self.config.grid,
            block: self.config.block,
            shared_bytes: self.plan.shared_bytes,
            dynamic_shared: self.config.dynamic_shared_bytes,
            local_bytes: self.plan.local_bytes,
            params: &self.params,
            ranges: &self.ranges,
            delta: self.delta,
            id: self.id,
            workers: self.workers,
            abort: &self.abort,
            runtime: &self.runtime,
            owner: Owner {
                code: 2 * compiled.number() + u64::from(self.reference),
                space: self.space,
            },
            register_bytes: self.plan.register_bytes(self.reference),
            reference_bytes: self.plan.register_bytes(true),
            deadline: self.deadline.map(|(at, _)| at),
            workspace: self.resident.as_ref().map(|r| r.workspace),
        })
    }

    fn blocks(&self, shared: &LaunchShared<'_>, worker: u32) {
        if let Some(resident) = &self.resident {
            return self.together(shared, &resident.waiting, worker);
        }
        let Some(mut runner) = self.runner(shared, worker) else {
            return;
        };
        let (progress, total) = (&self.progress, self.plan.total);
        let share = (total / (u64::from(self.workers) * SHARES)).clamp(1, MAX_SHARE);
        loop {
            let first = progress.next.fetch_add(share, Ordering::Relaxed);
            if first >= total {
                break;
            }
            let mut place = self.place(first);
            for n in first..total.min(first + share) {
                if self.is_aborted() {
                    return self.fail(u64::MAX, LaunchError::Aborted);
                }
                // Lower ones run to their end: of several faults that of the lowest block is told.
                if n > progress.lowest.load(Ordering::Relaxed) {
                    return;
                }
                if shared.is_late() {
                    return self.stopped(n, shared.program, BlockError::TimedOut);
                }
                if let Err(why) = runner.run(shared, place) {
                    return self.stopped(n, shared.program, why);
                }
                place = self.after(place);
            }
        }
        self.deopted(&runner);
    }

    /// Blocks of a cooperative grid by turns: first each is started, then the one that has waited longest
    /// goes on. A worker with a block in hand always takes up another, so none is left.
    fn together(&self, shared: &LaunchShared<'_>, waiting: &Waiting, worker: u32) {
        let (progress, total) = (&self.progress, self.plan.total);
        let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.is_aborted() {
                return self.fail(u64::MAX, LaunchError::Aborted);
            }
            if progress.failed.load(Ordering::Relaxed) {
                return;
            }
            let n = match progress.next.load(Ordering::Relaxed) {
                n if n < total => progress.next.fetch_add(1, Ordering::Relaxed),
                n => n,
            };
            let (n, mut runner) = if n < total {
                let Some(mut runner) = self.runner(shared, worker) else {
                    return;
                };
                runner.start(shared, self.place(n));
                (n, runner)
            } else {
                let longest = lock().pop_front();
                let Some(one) = longest else {
                    return;
                };
                one
            };
            match runner.proceed(shared, u32::MAX) {
                Ok(true) => self.deopted(&runner),
                Ok(false) => lock().push_back((n, runner)),
                Err(why) => return self.stopped(n, shared.program, why),
            }
        }
    }

    /// Runs blocks one after the other on this thread. Returns what is left where one of them has used up its
    /// turn, and may wait for something outside of the launch, or they take long.
    ///
    /// `memory` is that of the plan's last launch, and becomes this one's where that comes to its end. The kernel
    /// reaches what it could reach then if that was the same version.
    pub fn begin(&self, memory: &mut Option<Memory>, reached: Version) -> Option<Halted> {
        self.guarded(None, || {
            self.shared(|shared| {
                let mut runner = match memory.take() {
                    Some(last) if last.runner.is_of(shared.owner) => {
                        let Memory { mut runner, .. } = last;
                        runner.again(shared, last.reached == reached);
                        runner
                    }
                    _ => Box::new(self.runner(shared, 0)?),
                };
                if let Some(left) = self.one_by_one(shared, &mut runner, 0, true) {
                    return Some(Halted { runner, left });
                }
                let failed = self.progress.failed.load(Ordering::Relaxed);
                if !failed && runner.held().is_some_and(|bytes| bytes <= MAX_KEPT_BYTES) {
                    *memory = Some(Memory { runner, reached });
                }
                None
            })
        })
    }

    /// Runs what [`Job::begin`] has left.
    pub fn finish(&self, halted: Halted) {
        let Halted { mut runner, left } = halted;
        self.guarded((), || {
            self.shared(|shared| {
                if let Some(n) = left.block {
                    let done = loop {
                        match runner.proceed(shared, u32::MAX) {
                            Ok(false) => {}
                            Ok(true) => break Ok(()),
                            Err(why) => break Err(why),
                        }
                    };
                    if let Err(why) = done {
                        return self.stopped(n, shared.program, why);
                    }
                }
                self.one_by_one(shared, &mut runner, left.next, false);
            });
        });
    }

    fn one_by_one(
        &self,
        shared: &LaunchShared<'_>,
        runner: &mut BlockRunner,
        first: u64,
        briefly: bool,
    ) -> Option<Left> {
        let total = self.plan.total;
        let mut place = self.place(first);
        for n in first..total {
            let left = |block, next| Some(Left { block, next });
            if briefly && n > first && self.start.elapsed() >= BEGIN_TIME {
                return left(None, n);
            }
            if self.is_aborted() {
                self.fail(u64::MAX, LaunchError::Aborted);
                return None;
            }
            if shared.is_late() {
                self.stopped(n, shared.program, BlockError::TimedOut);
                return None;
            }
            let ran = if briefly {
                runner.begin(shared, place, BEGIN_RUNS)
            } else {
                runner.run(shared, place).map(|()| true)
            };
            match ran {
                Ok(true) => {}
                Ok(false) => return left(Some(n), n + 1),
                Err(why) => {
                    self.stopped(n, shared.program, why);
                    return None;
                }
            }
            place = self.after(place);
        }
        self.deopted(runner);
        None
    }

    fn deopted(&self, runner: &BlockRunner) {
        if runner.deopts > 0 {
            let deopts = &self.progress.deopts;
            deopts.fetch_add(runner.deopts, Ordering::Relaxed);
        }
    }

    /// A panic is a defect of ours; it ends the launch and nothing else.
    fn guarded<R>(&self, otherwise: R, run: impl FnOnce() -> R) -> R {
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
            self.fail(0, LaunchError::Internal("the executor panicked".into()));
            otherwise
        })
    }

    /// What has come of it, once all of its blocks have run or it has failed.
    pub fn result(&self, end: Instant) -> Result<LaunchStats, LaunchError> {
        let progress = &self.progress;
        if progress.failed.load(Ordering::Relaxed)
            && let Some((_, error)) = progress
                .error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()
        {
            return Err(error);
        }
        Ok(LaunchStats {
            blocks: self.plan.total,
            threads: self.plan.total * self.plan.threads,
            deopts: progress.deopts.load(Ordering::Relaxed),
            compiled: self.fresh,
            time: end.saturating_duration_since(self.start),
        })
    }
}

impl Work for Job<'static> {
    fn join(&self, worker: u32) {
        self.run(worker);
    }

    fn wants_help(&self) -> bool {
        if self.progress.next.load(Ordering::Relaxed) < self.plan.total {
            return true;
        }
        self.resident.as_ref().is_some_and(|r| {
            let waiting = r.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            !waiting.is_empty() && !self.progress.failed.load(Ordering::Relaxed)
        })
    }
}
