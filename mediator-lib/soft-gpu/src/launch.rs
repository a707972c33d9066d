//! Launching kernels.

mod job;
mod pace;
mod plan;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::busy::Busy;
use crate::exec::pool::Pool;
use crate::exec::warp::FaultKind;
use crate::function::Function;
use crate::memory::{AddressSpace, Range, Snapshot};
use crate::runtime::DeviceRuntime;
use job::{Halted, Held, Job, Memory, Progress, Resident, Workspace};
pub(crate) use pace::Pace;
pub(crate) use plan::Plan;

/// Most threads of a block (CUDA C Programming Guide, "Technical Specifications").
pub const MAX_THREADS_PER_BLOCK: u32 = 1024;
/// Most threads of a block along each axis.
pub const MAX_BLOCK_DIM: [u32; 3] = [1024, 1024, 64];
/// Most blocks of a grid along each axis.
pub const MAX_GRID_DIM: [u32; 3] = [0x7fff_ffff, 65_535, 65_535];
/// Most shared memory of a block: 227 KiB on compute capability 9.0.
pub const MAX_SHARED_BYTES: u32 = 227 << 10;
/// Most local memory of a block on a worker: bounds what a kernel with a large
/// local array can make the host commit.
pub const MAX_BLOCK_LOCAL_BYTES: u64 = 1 << 30;

/// Most blocks on a multiprocessor at once; this and the following bound how many blocks of a cooperative
/// grid are in progress, and so the host memory that they take (CUDA C Programming Guide, "Technical
/// Specifications", compute capability 9.0). A worker counts as a multiprocessor.
pub const MAX_BLOCKS_PER_MULTIPROCESSOR: u32 = 32;
/// Most threads on a multiprocessor at once.
pub const MAX_THREADS_PER_MULTIPROCESSOR: u32 = 2048;
/// Registers of a multiprocessor.
pub const REGISTERS_PER_MULTIPROCESSOR: u32 = 65_536;
/// Shared memory of a multiprocessor, in bytes.
pub const SHARED_BYTES_PER_MULTIPROCESSOR: u32 = 228 << 10;
/// Shared memory of each block that CUDA keeps for itself, in bytes.
pub const RESERVED_SHARED_BYTES: u32 = 1 << 10;

/// What a call takes of the stack beside the local variables of the function: where to return.
pub(crate) const CALL_BYTES: u64 = 16;
/// Most memory for the registers of a block on a worker, calls included: bounds the host memory
/// that endless recursion can touch.
pub const MAX_BLOCK_REGISTER_BYTES: u64 = 1 << 30;

/// Ends a launch from another thread.
#[derive(Clone, Debug, Default)]
pub struct Abort(Arc<AtomicBool>);

impl Abort {
    /// A flag that is not set.
    pub fn new() -> Abort {
        Abort::default()
    }
    /// Ends every launch that was given this flag, within milliseconds.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    /// Makes it usable again.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Grid, block and dynamic shared memory of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchConfig {
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// Dynamic shared memory in bytes.
    pub dynamic_shared_bytes: u32,
}

/// How to execute.
#[derive(Clone, Debug, Default)]
pub struct LaunchOptions {
    /// Run the reference code, in which every register is a vector.
    pub reference: bool,
    /// The context's system calls; none: those of a new context without a heap.
    pub runtime: Option<Arc<DeviceRuntime>>,
    /// End the launch with [`LaunchError::TimedOut`] after this time.
    pub time_limit: Option<Duration>,
    /// Whether to run machine code.
    pub jit: Jit,
    /// All blocks are in progress at once, so that they may wait for each other, and `%envreg1` and
    /// `%envreg2` hold the address of zeroed memory for the barrier of the grid.
    pub cooperative: bool,
}

/// When the operations of a kernel are compiled to machine code. The reference code never is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Jit {
    /// At the second launch, at a large one, or once a kernel runs for long.
    #[default]
    Auto,
    /// Never.
    Never,
    /// At once.
    Always,
}

/// Warps of a first launch from which on compiling takes less time than it saves.
const LARGE_LAUNCH_WARPS: u64 = 256;

/// What a launch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaunchStats {
    /// Blocks run.
    pub blocks: u64,
    /// Threads run.
    pub threads: u64,
    /// Warps that continued in the reference code.
    pub deopts: u64,
    /// Whether the kernel was compiled for this launch.
    pub compiled: bool,
    /// Time by the clock.
    pub time: Duration,
}

/// Where and how a kernel went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kernel.
    pub kernel: Box<str>,
    /// Function, if it is another.
    pub function: Box<str>,
    /// Text of the instruction.
    pub instruction: Box<str>,
    /// Line of the PTX text.
    pub line: u32,
    /// Block.
    pub block: [u32; 3],
    /// Thread.
    pub thread: [u32; 3],
    /// Address of an access.
    pub address: u64,
    /// Its bytes.
    pub bytes: u32,
    /// Its state space; empty if there was no access.
    pub space: &'static str,
    /// Whether it was a write.
    pub write: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([tx, ty, tz], [bx, by, bz]) = (self.thread, self.block);
        if self.space.is_empty() {
            write!(f, "at '{}' in {}", self.instruction, self.kernel)?;
        } else {
            let what = if self.write { "write" } else { "read" };
            write!(
                f,
                "Invalid __{}__ {what} of size {} bytes at address {:#x} by '{}' in {}",
                self.space, self.bytes, self.address, self.instruction, self.kernel
            )?;
        }
        if self.function != self.kernel {
            write!(f, " (function {})", self.function)?;
        }
        write!(
            f,
            ", PTX line {}, by thread ({tx},{ty},{tz}) in block ({bx},{by},{bz})",
            self.line
        )
    }
}

/// Why a launch failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// An access outside every allocation.
    #[error("illegal address: {0}")]
    IllegalAddress(Fault),
    /// An access at an address that is no multiple of its size.
    #[error("misaligned address: {0}")]
    MisalignedAddress(Fault),
    /// A trap instruction.
    #[error("trap: {0}")]
    Trap(Fault),
    /// A failed device-side assertion.
    #[error("assertion failed: {0}")]
    Assert(Fault),
    /// Grid or block dimensions, or the parameter block, are wrong.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),
    /// More threads, shared or local memory than there are.
    #[error("out of resources: {0}")]
    OutOfResources(String),
    /// Calls are nested too deeply.
    #[error("stack overflow: {0}")]
    StackOverflow(Fault),
    /// A call through a pointer that is no function's.
    #[error("illegal instruction: {0}")]
    IllegalInstruction(Fault),
    /// All warps of a block wait at a barrier that can never complete.
    #[error("barrier deadlock: {0}")]
    Deadlock(Fault),
    /// A cooperative grid has more blocks than the device holds at once.
    #[error("{blocks} blocks in a cooperative launch, at most {most} fit")]
    CooperativeTooLarge {
        /// Blocks of the grid.
        blocks: u64,
        /// See [`Gpu::resident_blocks`].
        most: u64,
    },
    /// The kernel uses something that is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// It ran longer than [`LaunchOptions::time_limit`].
    #[error("the launch of '{kernel}' took longer than the limit of {} ms", limit.as_millis())]
    TimedOut {
        /// Kernel.
        kernel: String,
        /// The limit.
        limit: Duration,
    },
    /// [`Abort`] was set.
    #[error("the launch was aborted")]
    Aborted,
    /// The host refused memory, or an internal error.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The software GPU.
pub struct Gpu {
    pub(crate) pool: Pool,
    busy: Busy,
}

impl Gpu {
    /// A GPU that runs blocks on `threads` threads at once.
    pub fn new(threads: usize) -> io::Result<Arc<Gpu>> {
        Ok(Arc::new(Gpu {
            pool: Pool::new(threads)?,
            busy: Busy::default(),
        }))
    }

    /// Threads that run at once.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// When kernels run.
    pub fn busy(&self) -> &Busy {
        &self.busy
    }

    /// Blocks of a kernel that the device holds at once, by what CUDA's occupancy calculator counts
    /// ("Occupancy Calculator"): registers are given to warps in units of 256, shared memory to blocks in
    /// units of 128 bytes.
    pub fn resident_blocks(&self, f: &Function, block: [u32; 3], dynamic_shared: u32) -> u64 {
        let threads = block
            .iter()
            .fold(1u64, |n, b| n.saturating_mul(u64::from(*b)));
        if threads == 0 || threads > u64::from(f.max_threads_per_block()) {
            return 0;
        }
        let warps = threads.div_ceil(32);
        let registers = (u64::from(f.registers()) * 32).next_multiple_of(256) * warps;
        let shared = u64::from(f.static_shared_bytes())
            + u64::from(dynamic_shared)
            + u64::from(RESERVED_SHARED_BYTES);
        let fit = u64::from(MAX_BLOCKS_PER_MULTIPROCESSOR)
            .min(u64::from(MAX_THREADS_PER_MULTIPROCESSOR) / 32 / warps)
            .min(u64::from(REGISTERS_PER_MULTIPROCESSOR) / registers.max(1))
            .min(u64::from(SHARED_BYTES_PER_MULTIPROCESSOR) / shared.next_multiple_of(128));
        fit * self.threads() as u64
    }

    /// Runs a kernel to its end. `params` is its parameter block, laid out as
    /// [`Function::params`] says.
    pub fn launch(
        &self,
        space: &AddressSpace,
        f: &Arc<Function>,
        cfg: &LaunchConfig,
        params: &[u8],
        opts: &LaunchOptions,
        abort: &Abort,
    ) -> Result<LaunchStats, LaunchError> {
        let runtime = Held::Owned(opts.runtime.clone().unwrap_or_default());
        let (plan, fresh) = f.plan(cfg, runtime.stack_bytes())?;
        let workspace = if opts.cooperative {
            self.require_room(f, &plan, opts.reference)?;
            Some(Workspace::new(space)?)
        } else {
            None
        };
        // After the workspace was made: it is one of the allocations that the kernel reaches.
        let ranges = Held::Owned(space.snapshot().ranges);
        let mut block = Vec::new();
        lay_out(f, params, &mut block)?;
        let (plan, params) = (Held::Owned(plan), Cow::Owned(block));
        let mut job = self.job(space, f, plan, runtime, (params, ranges), opts, abort);
        job.fresh = fresh;
        job.resident = workspace.as_ref().map(Resident::new);
        // Waking a helper takes longer than a small launch.
        let total = job.plan.total;
        let helpers = if job.plan.compiled.pace.is_short(total) {
            0
        } else {
            (total - 1).min(self.threads() as u64) as usize
        };
        let running = self.busy.enter(job.start);
        let shared;
        let job = if helpers == 0 {
            job.run(0);
            &job
        } else {
            shared = Arc::new(job.own());
            self.pool.run(shared.clone(), helpers);
            &*shared
        };
        let end = Instant::now();
        running.end(end);
        job.end(end, helpers as u32 + 1)
    }

    /// Runs a kernel on this thread as [`Gpu::launch`] does, but not for longer than until a warp has used up
    /// its turn, or a little longer than a launch takes that is brief: the rest of it is left to whoever calls
    /// [`Rest::finish`]. So no kernel keeps this thread, not even one that waits for what the thread does next.
    ///
    /// `prepared` is the function's, `kept` the session's, and `runtime` stands in place of that in `opts`.
    #[allow(clippy::too_many_arguments, reason = "what a launch is made of")]
    pub fn begin(
        &self,
        space: &AddressSpace,
        f: &Arc<Function>,
        prepared: &mut Prepared,
        kept: &mut Kept,
        runtime: &Arc<DeviceRuntime>,
        params: &[u8],
        opts: &LaunchOptions,
        abort: &Abort,
    ) -> Result<Begun, LaunchError> {
        lay_out(f, params, &mut kept.params)?;
        let snapshot = kept.snapshot.take_if(|s| space.is_as_in(s));
        let snapshot = &*kept
            .snapshot
            .insert(snapshot.unwrap_or_else(|| space.snapshot()));
        let memory = (
            Cow::Borrowed(&*kept.params),
            Held::Borrowed(&snapshot.ranges),
        );
        let (plan, runtime) = (Held::Borrowed(&prepared.plan), Held::Borrowed(runtime));
        let job = self.job(space, f, plan, runtime, memory, opts, abort);
        match job.begin(&mut prepared.memory, snapshot.version) {
            None => {
                let end = Instant::now();
                kept.busy += end.saturating_duration_since(job.start);
                if kept.busy >= BUSY_STEP {
                    let busy = std::mem::take(&mut kept.busy);
                    self.busy.add(end.checked_sub(busy).unwrap_or(end), end);
                }
                job.end(end, 1).map(Begun::Ended)
            }
            Some(halted) => Ok(Begun::Rest(Box::new(Rest {
                job: job.own(),
                halted,
            }))),
        }
    }

    /// A launch of which nothing has run, and that is not cooperative yet.
    #[allow(clippy::too_many_arguments, reason = "what a launch is made of")]
    fn job<'a>(
        &self,
        space: &AddressSpace,
        f: &'a Arc<Function>,
        plan: Held<'a, Plan>,
        runtime: Held<'a, DeviceRuntime>,
        (params, ranges): (Cow<'a, [u8]>, Held<'a, [Range]>),
        opts: &LaunchOptions,
        abort: &'a Abort,
    ) -> Job<'a> {
        if plan.prints {
            runtime.use_printf();
        }
        let compiled = &plan.compiled;
        let again = compiled.again();
        let large = plan.total.saturating_mul(plan.warps) >= LARGE_LAUNCH_WARPS;
        let jit = match opts.jit {
            _ if opts.reference => Jit::Never,
            Jit::Auto if again || large => Jit::Always,
            jit => jit,
        };
        if jit == Jit::Always {
            // Before the clock starts: it is no part of what the kernel takes.
            compiled.compile_jit(f);
        }
        let start = Instant::now();
        Job {
            function: Held::Borrowed(f),
            jit,
            reference: opts.reference,
            config: *plan.config(),
            params,
            ranges,
            delta: space.host_delta(),
            space: space.number(),
            id: self.pool.next_launch(),
            workers: self.threads() as u32,
            abort: Held::Borrowed(&abort.0),
            runtime,
            start,
            deadline: opts
                .time_limit
                .and_then(|limit| Some((start.checked_add(limit)?, limit))),
            fresh: false,
            resident: None,
            progress: Progress::default(),
            plan,
        }
    }

    /// Refuses a cooperative grid whose blocks cannot all be in progress at once.
    fn require_room(&self, f: &Function, plan: &Plan, reference: bool) -> Result<(), LaunchError> {
        let blocks = plan.total;
        let config = plan.config();
        let most = self.resident_blocks(f, config.block, config.dynamic_shared_bytes);
        if blocks > most {
            return Err(LaunchError::CooperativeTooLarge { blocks, most });
        }
        // Each worker has at most what one block may have, as in other launches.
        let room = MAX_BLOCK_LOCAL_BYTES + MAX_BLOCK_REGISTER_BYTES;
        let each = plan.block_bytes(reference);
        if blocks.saturating_mul(each) > room * self.threads() as u64 {
            return Err(LaunchError::OutOfResources(format!(
                "{blocks} blocks at once, each with {each} bytes of local memory and registers, at most {room} for each of {} cores",
                self.threads()
            )));
        }
        Ok(())
    }
}

/// A kernel's parameter block, of which `params` may leave away the end.
fn lay_out(f: &Function, params: &[u8], block: &mut Vec<u8>) -> Result<(), LaunchError> {
    let bytes = f.param_bytes() as usize;
    if params.len() > bytes {
        return Err(LaunchError::InvalidConfig(format!(
            "{} bytes of parameters, {} takes {bytes}",
            params.len(),
            f.name(),
        )));
    }
    block.clear();
    block.extend_from_slice(params);
    block.resize(bytes, 0);
    Ok(())
}

/// Time of brief launches after which it is told of together: a thousandth of what [`Busy::percent`] looks back over.
const BUSY_STEP: Duration = Duration::from_millis(1);

/// What the launches of a session that [`Gpu::begin`] runs leave to the next one, whatever it runs.
#[derive(Debug, Default)]
pub struct Kept {
    /// What the last one reached.
    snapshot: Option<Snapshot>,
    /// For parameters.
    params: Vec<u8>,
    /// Time of launches that nobody was told of yet.
    busy: Duration,
}

/// A kernel that is compiled and checked for launches of one configuration.
pub struct Prepared {
    plan: Arc<Plan>,
    /// From the last launch by [`Gpu::begin`].
    memory: Option<Memory>,
}

impl From<Arc<Plan>> for Prepared {
    fn from(plan: Arc<Plan>) -> Prepared {
        Prepared { plan, memory: None }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    /// Prepares launches of a kernel. `runtime` is that of their context.
    ///
    /// # Errors
    /// Those of [`Gpu::launch`] that do not depend on what the kernel does.
    pub fn new(
        f: &Function,
        config: &LaunchConfig,
        runtime: &DeviceRuntime,
    ) -> Result<Prepared, LaunchError> {
        let (plan, _) = f.plan(config, runtime.stack_bytes())?;
        Ok(plan.into())
    }

    /// What the last launch of a kernel was prepared with.
    pub fn of_last_launch(f: &Function) -> Option<Prepared> {
        f.recent_plan().map(Prepared::from)
    }

    /// Whether it is for such launches.
    pub fn is_for(&self, config: &LaunchConfig, runtime: &DeviceRuntime) -> bool {
        self.plan.is_for(config, runtime.stack_bytes())
    }

    /// Whether it holds memory for the next launch.
    pub fn holds_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Lets go of that memory.
    pub fn release(&mut self) {
        self.memory = None;
    }

    /// Whether a launch, by what earlier ones took, is over sooner than another thread would begin with it.
    pub fn is_brief(&self) -> bool {
        self.plan.compiled.pace.is_brief(self.plan.total)
    }
}

/// What has become of a launch by [`Gpu::begin`].
pub enum Begun {
    /// It has come to its end.
    Ended(LaunchStats),
    /// It goes on where this is taken to.
    Rest(Box<Rest>),
}

/// The rest of a launch.
pub struct Rest {
    job: Job<'static>,
    halted: Halted,
}

impl Rest {
    /// Runs it to its end.
    pub fn finish(self, gpu: &Gpu) -> Result<LaunchStats, LaunchError> {
        let Rest { job, halted } = self;
        let running = gpu.busy.enter(job.start);
        job.finish(halted);
        let end = Instant::now();
        running.end(end);
        job.end(end, 1)
    }
}

impl Job<'_> {
    /// Notes how long it took on so many threads; gives its result.
    fn end(&self, end: Instant, threads: u32) -> Result<LaunchStats, LaunchError> {
        let time = end.saturating_duration_since(self.start);
        self.plan
            .compiled
            .pace
            .took(self.plan.total, time * threads);
        self.result(end)
    }
}

/// Builds the error of a fault.
pub(crate) fn fault_error(kind: FaultKind, f: Fault) -> LaunchError {
    match kind {
        FaultKind::Illegal => LaunchError::IllegalAddress(f),
        FaultKind::Misaligned => LaunchError::MisalignedAddress(f),
        FaultKind::Trap => LaunchError::Trap(f),
        FaultKind::Assert => LaunchError::Assert(f),
        FaultKind::StackOverflow => LaunchError::StackOverflow(f),
        FaultKind::BadCall => LaunchError::IllegalInstruction(f),
        FaultKind::Deadlock => LaunchError::Deadlock(f),
        FaultKind::Ended => LaunchError::Aborted,
    }
}
