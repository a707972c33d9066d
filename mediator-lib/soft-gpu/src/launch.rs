//! Launching kernels.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::busy::Busy;
use crate::exec::block::{BlockError, BlockRunner, LaunchShared};
use crate::exec::insn::{FRAME_ALIGN, Program};
use crate::exec::pool::{Pool, Work};
use crate::exec::region::Owner;
use crate::exec::warp::FaultKind;
use crate::function::{Compiled, Function};
use crate::ir::SystemCall;
use crate::memory::{AddressSpace, Range};
use crate::runtime::DeviceRuntime;

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

/// The workspace of a cooperative grid, in bytes.
const WORKSPACE_BYTES: u32 = 256;

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

/// Shares into which a grid is divided for each thread, and most blocks of one: a thread takes so many at once,
/// because counting each block costs more than a small one, and few enough that all threads end together.
const SHARES: u64 = 128;
const MAX_SHARE: u64 = 64;

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

struct Job {
    function: Arc<Function>,
    compiled: Arc<Compiled>,
    jit: Jit,
    reference: bool,
    config: LaunchConfig,
    params: Vec<u8>,
    ranges: Arc<[Range]>,
    delta: usize,
    /// The number of the memory.
    space: u64,
    shared_bytes: u32,
    local_bytes: u64,
    id: u64,
    workers: u32,
    abort: Abort,
    runtime: Arc<DeviceRuntime>,
    register_bytes: usize,
    reference_bytes: usize,
    deadline: Option<(Instant, Duration)>,
    next: AtomicU64,
    total: u64,
    deopts: AtomicU64,
    error: Mutex<Option<(u64, LaunchError)>>,
    failed: AtomicBool,
    /// The lowest block that failed.
    lowest: AtomicU64,
    resident: Option<Resident>,
}

/// Blocks of a cooperative grid that nobody runs just now, with their numbers.
type Waiting = Mutex<VecDeque<(u64, BlockRunner)>>;

/// What a cooperative grid has beside others.
struct Resident {
    /// Device address of its workspace: the size of it, then the word of the barrier.
    workspace: u64,
    waiting: Waiting,
}

/// Device memory for as long as a launch runs.
struct Workspace<'a> {
    space: &'a AddressSpace,
    at: u64,
}

impl Workspace<'_> {
    fn new(space: &AddressSpace) -> Result<Workspace<'_>, LaunchError> {
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

impl Job {
    fn fail(&self, block: u64, e: LaunchError) {
        let mut slot = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        // A fault of a lower block is the one to report; an abort yields to a fault.
        let replace = match &*slot {
            None => true,
            Some((_, LaunchError::Aborted)) => true,
            Some((b, _)) => block < *b && e != LaunchError::Aborted,
        };
        if replace {
            *slot = Some((block, e));
        }
        self.failed.store(true, Ordering::Relaxed);
        self.lowest.fetch_min(block, Ordering::Relaxed);
        self.next.store(self.total, Ordering::Relaxed);
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
        let error = match why {
            BlockError::Aborted => LaunchError::Aborted,
            BlockError::TimedOut => LaunchError::TimedOut {
                kernel: self.compiled.kernel().to_owned(),
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
                    &self.compiled.reference
                } else {
                    program
                };
                self.compiled.error(program, fault, pc, block, thread)
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

    fn blocks(&self, worker: u32) {
        let program = if self.reference {
            &self.compiled.reference
        } else {
            &self.compiled.optimised
        };
        let jit = |long: bool| match self.jit {
            Jit::Never => None,
            Jit::Auto if !long => self.compiled.jit(),
            _ => self.compiled.compile_jit(&self.function),
        };
        let shared = LaunchShared {
            program,
            jit: &jit,
            reference: &self.compiled.reference,
            grid: self.config.grid,
            block: self.config.block,
            shared_bytes: self.shared_bytes,
            dynamic_shared: self.config.dynamic_shared_bytes,
            local_bytes: self.local_bytes,
            params: &self.params,
            ranges: &self.ranges,
            delta: self.delta,
            id: self.id,
            workers: self.workers,
            abort: &self.abort.0,
            runtime: &self.runtime,
            owner: Owner {
                code: 2 * self.compiled.number() + u64::from(self.reference),
                space: self.space,
            },
            register_bytes: self.register_bytes,
            reference_bytes: self.reference_bytes,
            deadline: self.deadline.map(|(at, _)| at),
            workspace: self.resident.as_ref().map(|r| r.workspace),
        };
        if let Some(resident) = &self.resident {
            return self.together(&shared, &resident.waiting, worker);
        }
        let Some(mut runner) = self.runner(&shared, worker) else {
            return;
        };
        let share = (self.total / (u64::from(self.workers) * SHARES)).clamp(1, MAX_SHARE);
        loop {
            let first = self.next.fetch_add(share, Ordering::Relaxed);
            if first >= self.total {
                break;
            }
            let mut place = self.place(first);
            for n in first..self.total.min(first + share) {
                if self.abort.is_set() {
                    return self.fail(u64::MAX, LaunchError::Aborted);
                }
                // Lower ones run to their end: of several faults that of the lowest block is told.
                if n > self.lowest.load(Ordering::Relaxed) {
                    return;
                }
                if shared.is_late() {
                    return self.stopped(n, program, BlockError::TimedOut);
                }
                if let Err(why) = runner.run(&shared, place) {
                    return self.stopped(n, program, why);
                }
                place = self.after(place);
            }
        }
        self.deopts.fetch_add(runner.deopts, Ordering::Relaxed);
    }

    /// Blocks of a cooperative grid by turns: first each is started, then the one that has waited longest
    /// goes on. A worker with a block in hand always takes up another, so none is left.
    fn together(&self, shared: &LaunchShared<'_>, waiting: &Waiting, worker: u32) {
        let lock = || waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.abort.is_set() {
                return self.fail(u64::MAX, LaunchError::Aborted);
            }
            if self.failed.load(Ordering::Relaxed) {
                return;
            }
            let n = match self.next.load(Ordering::Relaxed) {
                n if n < self.total => self.next.fetch_add(1, Ordering::Relaxed),
                n => n,
            };
            let (n, mut runner) = if n < self.total {
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
            match runner.proceed(shared) {
                Ok(true) => {
                    self.deopts.fetch_add(runner.deopts, Ordering::Relaxed);
                }
                Ok(false) => lock().push_back((n, runner)),
                Err(why) => return self.stopped(n, shared.program, why),
            }
        }
    }
}

impl Work for Job {
    fn join(&self, worker: u32) {
        if catch_unwind(AssertUnwindSafe(|| self.blocks(worker))).is_err() {
            self.fail(0, LaunchError::Internal("the executor panicked".into()));
        }
    }

    fn wants_help(&self) -> bool {
        if self.next.load(Ordering::Relaxed) < self.total {
            return true;
        }
        self.resident.as_ref().is_some_and(|r| {
            let waiting = r.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            !waiting.is_empty() && !self.failed.load(Ordering::Relaxed)
        })
    }
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
        let total = check(f, cfg, params)?;
        let (compiled, fresh) = f.compile(cfg.block).map_err(LaunchError::Unsupported)?;
        let shared_bytes = compiled
            .static_shared
            .next_multiple_of(16)
            .saturating_add(cfg.dynamic_shared_bytes);
        if shared_bytes > MAX_SHARED_BYTES {
            return Err(LaunchError::OutOfResources(format!(
                "{} static and {} dynamic bytes of shared memory, at most {MAX_SHARED_BYTES} are available",
                compiled.static_shared, cfg.dynamic_shared_bytes
            )));
        }
        let runtime = opts.runtime.clone().unwrap_or_default();
        let program = &compiled.optimised;
        if program.system & (1 << SystemCall::Printf as u32) != 0 {
            runtime.use_printf();
        }
        let mut local = compiled.local_bytes;
        let stack = runtime.stack_bytes();
        if program.has_calls {
            local += stack;
        }
        let threads: u64 = cfg.block.iter().map(|&v| u64::from(v)).product();
        if local * threads.next_multiple_of(32) > MAX_BLOCK_LOCAL_BYTES {
            return Err(LaunchError::OutOfResources(format!(
                "{local} bytes of local memory for each of {threads} threads, at most {MAX_BLOCK_LOCAL_BYTES} bytes per block"
            )));
        }
        let warps = threads.div_ceil(32);
        let registers = |p: &Program| {
            let first = p.functions.first().map_or(0, |f| u64::from(f.frame_bytes));
            // The frames of the next warp begin where those of this one may end.
            let room = MAX_BLOCK_REGISTER_BYTES / warps;
            let room = room - room % u64::from(FRAME_ALIGN);
            if first > room {
                return Err(LaunchError::OutOfResources(format!(
                    "{first} bytes of registers for each warp of {threads} threads, at most {MAX_BLOCK_REGISTER_BYTES} bytes per block"
                )));
            }
            if !p.has_calls {
                return Ok(first as usize);
            }
            // As many frames as the stack has room for.
            let depth = stack / CALL_BYTES + p.functions.len() as u64;
            let largest = p.functions.iter().map(|f| u64::from(f.frame_bytes)).max();
            Ok((first + depth * largest.unwrap_or(0)).min(room) as usize)
        };
        let reference_bytes = registers(&compiled.reference)?;
        let register_bytes = if opts.reference {
            reference_bytes
        } else {
            registers(program)?
        };
        // Each worker has at most what one block may have, as in other launches.
        let room = MAX_BLOCK_LOCAL_BYTES + MAX_BLOCK_REGISTER_BYTES;
        let each = local.next_multiple_of(16) * 32 * warps + register_bytes as u64 * warps;
        let workspace = if opts.cooperative {
            let most = self.resident_blocks(f, cfg.block, cfg.dynamic_shared_bytes);
            if total > most {
                return Err(LaunchError::CooperativeTooLarge {
                    blocks: total,
                    most,
                });
            }
            if total.saturating_mul(each) > room * self.threads() as u64 {
                return Err(LaunchError::OutOfResources(format!(
                    "{total} blocks at once, each with {each} bytes of local memory and registers, at most {room} for each of {} cores",
                    self.threads()
                )));
            }
            Some(Workspace::new(space)?)
        } else {
            None
        };
        let start = Instant::now();
        let deadline = opts
            .time_limit
            .and_then(|limit| Some((start.checked_add(limit)?, limit)));
        let again = compiled.again();
        let large = total.saturating_mul(threads.div_ceil(32)) >= LARGE_LAUNCH_WARPS;
        let jit = match opts.jit {
            _ if opts.reference => Jit::Never,
            Jit::Auto if again || large => Jit::Always,
            jit => jit,
        };
        let mut block = params.to_vec();
        block.resize(f.param_bytes() as usize, 0);
        let job = Job {
            function: f.clone(),
            compiled,
            jit,
            reference: opts.reference,
            config: *cfg,
            params: block,
            ranges: space.snapshot(),
            delta: space.host_delta(),
            space: space.number(),
            shared_bytes,
            local_bytes: local.next_multiple_of(16),
            id: self.pool.next_launch(),
            workers: self.threads() as u32,
            abort: abort.clone(),
            runtime,
            register_bytes,
            reference_bytes,
            deadline,
            next: AtomicU64::new(0),
            total,
            deopts: AtomicU64::new(0),
            error: Mutex::new(None),
            failed: AtomicBool::new(false),
            lowest: AtomicU64::new(u64::MAX),
            resident: workspace.as_ref().map(|w| Resident {
                workspace: w.at,
                waiting: Mutex::default(),
            }),
        };
        // Waking a helper takes longer than a small launch.
        let helpers = if job.compiled.is_short(total) {
            0
        } else {
            (total - 1).min(self.threads() as u64) as usize
        };
        let running = self.busy.enter(start);
        let shared;
        let job = if helpers == 0 {
            job.join(0);
            &job
        } else {
            shared = Arc::new(job);
            self.pool.run(shared.clone(), helpers);
            &*shared
        };
        let end = Instant::now();
        let time = end.saturating_duration_since(start);
        job.compiled.took(total, time * (helpers as u32 + 1));
        running.end(end);
        let error = job
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match error {
            Some((_, e)) => Err(e),
            None => Ok(LaunchStats {
                blocks: total,
                threads: total * threads,
                deopts: job.deopts.load(Ordering::Relaxed),
                compiled: fresh,
                time,
            }),
        }
    }
}

/// Checks a configuration; returns the number of blocks.
fn check(f: &Function, cfg: &LaunchConfig, params: &[u8]) -> Result<u64, LaunchError> {
    for (k, axis) in ["x", "y", "z"].iter().enumerate() {
        let (b, max) = (cfg.block[k], MAX_BLOCK_DIM[k]);
        if b == 0 || b > max {
            return Err(LaunchError::InvalidConfig(format!(
                "block dimension {axis} = {b} is not in 1..={max}"
            )));
        }
        let (g, max) = (cfg.grid[k], MAX_GRID_DIM[k]);
        if g == 0 || g > max {
            return Err(LaunchError::InvalidConfig(format!(
                "grid dimension {axis} = {g} is not in 1..={max}"
            )));
        }
    }
    let threads: u64 = cfg.block.iter().map(|&v| u64::from(v)).product();
    let max = u64::from(f.max_threads_per_block());
    if threads > u64::from(MAX_THREADS_PER_BLOCK) {
        return Err(LaunchError::InvalidConfig(format!(
            "{threads} threads per block, at most {MAX_THREADS_PER_BLOCK} are allowed"
        )));
    }
    if threads > max {
        return Err(LaunchError::OutOfResources(format!(
            "{threads} threads per block, {} allows {max}",
            f.name()
        )));
    }
    if params.len() > f.param_bytes() as usize {
        return Err(LaunchError::InvalidConfig(format!(
            "{} bytes of parameters, {} takes {}",
            params.len(),
            f.name(),
            f.param_bytes()
        )));
    }
    Ok(cfg.grid.iter().map(|&v| u64::from(v)).product())
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
    }
}
