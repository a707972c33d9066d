//! Launching kernels.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::exec::block::{BlockError, BlockRunner, CALL_STACK_BYTES, LaunchShared};
use crate::exec::insn::Program;
use crate::exec::pool::{Pool, Work};
use crate::exec::warp::FaultKind;
use crate::function::{Compiled, Function};
use crate::memory::{AddressSpace, Range};

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

/// Most memory for the registers of a block on a worker.
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
#[derive(Clone, Copy, Debug, Default)]
pub struct LaunchOptions {
    /// Run the reference code, in which every register is a vector.
    pub reference: bool,
}

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
    /// The kernel uses something that is not supported.
    #[error("{0}")]
    Unsupported(String),
    /// [`Abort`] was set.
    #[error("the launch was aborted")]
    Aborted,
    /// The host refused memory, or an internal error.
    #[error("internal error: {0}")]
    Internal(String),
}

/// The software GPU.
pub struct Gpu {
    pool: Pool,
}

struct Job {
    compiled: Arc<Compiled>,
    reference: bool,
    config: LaunchConfig,
    params: Vec<u8>,
    ranges: Arc<[Range]>,
    delta: usize,
    shared_bytes: u32,
    local_bytes: u64,
    id: u64,
    workers: u32,
    abort: Abort,
    stop: AtomicBool,
    next: AtomicU64,
    total: u64,
    deopts: AtomicU64,
    error: Mutex<Option<(u64, LaunchError)>>,
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
        self.stop.store(true, Ordering::Relaxed);
        self.next.store(self.total, Ordering::Relaxed);
    }

    fn blocks(&self, worker: u32) {
        let program = if self.reference {
            &self.compiled.reference
        } else {
            &self.compiled.optimised
        };
        let shared = LaunchShared {
            program,
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
        };
        let mut runner = match BlockRunner::new(&shared, worker) {
            Ok(r) => r,
            Err(e) => {
                return self.fail(
                    0,
                    LaunchError::Internal(format!("no memory for a block: {e}")),
                );
            }
        };
        loop {
            if self.abort.is_set() {
                return self.fail(u64::MAX, LaunchError::Aborted);
            }
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if n >= self.total {
                break;
            }
            let [gx, gy, _] = self.config.grid.map(u64::from);
            let block = [(n % gx) as u32, (n / gx % gy) as u32, (n / gx / gy) as u32];
            match runner.run(&shared, block) {
                Ok(()) => {}
                Err(BlockError::Aborted) => return self.fail(n, LaunchError::Aborted),
                Err(BlockError::Fault {
                    fault,
                    pc,
                    reference,
                    block,
                    thread,
                }) => {
                    let program = if reference {
                        &self.compiled.reference
                    } else {
                        program
                    };
                    return self.fail(n, self.compiled.error(program, fault, pc, block, thread));
                }
            }
        }
        self.deopts.fetch_add(runner.deopts, Ordering::Relaxed);
    }
}

impl Work for Job {
    fn join(&self, worker: u32) {
        if catch_unwind(AssertUnwindSafe(|| self.blocks(worker))).is_err() {
            self.fail(0, LaunchError::Internal("the executor panicked".into()));
        }
    }

    fn wants_help(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.total
    }
}

impl Gpu {
    /// A GPU that runs blocks on `threads` threads at once.
    pub fn new(threads: usize) -> io::Result<Arc<Gpu>> {
        Ok(Arc::new(Gpu {
            pool: Pool::new(threads)?,
        }))
    }

    /// Threads that run at once.
    pub fn threads(&self) -> usize {
        self.pool.threads()
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
        let mut local = compiled.local_bytes;
        if compiled.optimised.has_calls {
            local += CALL_STACK_BYTES;
        }
        let threads: u64 = cfg.block.iter().map(|&v| u64::from(v)).product();
        if local * threads.next_multiple_of(32) > MAX_BLOCK_LOCAL_BYTES {
            return Err(LaunchError::OutOfResources(format!(
                "{local} bytes of local memory for each of {threads} threads, at most {MAX_BLOCK_LOCAL_BYTES} bytes per block"
            )));
        }
        let frame = |p: &Program| p.functions.first().map_or(0, |f| u64::from(f.frame_bytes));
        let frame = frame(&compiled.optimised).max(frame(&compiled.reference));
        if frame * threads.div_ceil(32) > MAX_BLOCK_REGISTER_BYTES {
            return Err(LaunchError::OutOfResources(format!(
                "{frame} bytes of registers for each warp of {threads} threads, at most {MAX_BLOCK_REGISTER_BYTES} bytes per block"
            )));
        }
        let mut block = params.to_vec();
        block.resize(f.param_bytes() as usize, 0);
        let job = Arc::new(Job {
            compiled,
            reference: opts.reference,
            config: *cfg,
            params: block,
            ranges: space.snapshot(),
            delta: space.host_delta(),
            shared_bytes,
            local_bytes: local.next_multiple_of(16),
            id: self.pool.next_launch(),
            workers: self.threads() as u32,
            abort: abort.clone(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            total,
            deopts: AtomicU64::new(0),
            error: Mutex::new(None),
        });
        let helpers = (total - 1).min(self.threads() as u64) as usize;
        self.pool.run(job.clone(), helpers);
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
