//! One piece of a session's asynchronous work.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use vgpu_protocol::Status;
use vgpu_protocol::calls::ArenaSpan;
use vgpu_soft_gpu::{
    Abort, Begun, Function, Gpu, Jit, Kept, LaunchConfig, LaunchError, LaunchOptions, LaunchStats,
    Module, Prepared, Rest,
};

use super::blas::BlasWork;
use super::copy;
use super::ctx::Context;
use crate::arena::Spans;
use crate::budget::Share;
use crate::callbacks::Turn;
use crate::counters::KernelCount;

/// What to do.
pub enum Work {
    /// Run a kernel.
    Launch {
        function: Arc<Function>,
        count: Arc<KernelCount>,
        config: LaunchConfig,
        cooperative: bool,
        params: Vec<u8>,
    },
    /// Run what is left of a kernel that another thread has begun.
    Rest {
        rest: Box<Rest>,
        function: Arc<Function>,
        count: Arc<KernelCount>,
    },
    /// Run a routine of cuBLAS.
    Blas(Box<BlasWork>),
    /// Copy bytes to the device.
    Write { dst: u64, data: Vec<u8> },
    /// Copy a piece of the arena to the device.
    FromArena {
        dst: u64,
        span: ArenaSpan,
        spans: Arc<Spans>,
    },
    /// Copy within the device.
    Copy { dst: u64, src: u64, bytes: u64 },
    /// Set rows of elements.
    Fill {
        dst: u64,
        pattern: u32,
        width: u8,
        count: u64,
        rows: u64,
        pitch: u64,
    },
    /// Free an allocation.
    Free { addr: u64, share: Share },
    /// Note the time.
    Stamp(Arc<OnceLock<Instant>>),
    /// Come after what it follows.
    Nothing,
    /// Have the guest call a function of its program.
    HostFn { number: u64 },
    /// Write 4 or 8 bytes.
    WriteValue { dst: u64, bytes: u8, value: u64 },
    /// Wait until 4 or 8 bytes are as wanted.
    WaitValue {
        src: u64,
        bytes: u8,
        value: u64,
        until: Until,
    },
    /// Let go of a module.
    Unload {
        module: Arc<Module>,
        share: Option<Share>,
    },
}

/// `CUstreamWaitValue_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The difference to the value is not negative, as a signed number.
    GreaterOrEqual,
    Equal,
    /// A bit of the value is set.
    And,
    /// A bit is clear in both.
    Nor,
}

impl Until {
    /// `cuStreamWaitValue32`: cyclic comparison on 4 or 8 bytes.
    fn holds(self, bytes: u8, found: u64, value: u64) -> bool {
        match self {
            Until::GreaterOrEqual if bytes == 4 => {
                (found as u32).wrapping_sub(value as u32) as i32 >= 0
            }
            Until::GreaterOrEqual => found.wrapping_sub(value) as i64 >= 0,
            Until::Equal => found == value,
            Until::And => found & value != 0,
            Until::Nor if bytes == 4 => !(found as u32 | value as u32) != 0,
            Until::Nor => !(found | value) != 0,
        }
    }
}

/// What has become of an operation.
pub enum Ran {
    Done,
    /// It is to be looked at again.
    Looks(Op),
    /// It is done when the guest has called a function.
    Calls(Turn),
}

/// A piece of work in its context.
pub struct Op {
    pub ctx: Arc<Context>,
    pub work: Work,
}

impl Work {
    /// The same work once more, for a graph; `None` for what can be done only once.
    pub fn again(&self) -> Option<Work> {
        Some(match self {
            Work::Launch {
                function,
                count,
                config,
                cooperative,
                params,
            } => Work::Launch {
                function: Arc::clone(function),
                count: Arc::clone(count),
                config: *config,
                cooperative: *cooperative,
                params: params.clone(),
            },
            Work::Copy { dst, src, bytes } => Work::Copy {
                dst: *dst,
                src: *src,
                bytes: *bytes,
            },
            Work::Fill {
                dst,
                pattern,
                width,
                count,
                rows,
                pitch,
            } => Work::Fill {
                dst: *dst,
                pattern: *pattern,
                width: *width,
                count: *count,
                rows: *rows,
                pitch: *pitch,
            },
            Work::Blas(work) => Work::Blas(work.clone()),
            Work::Nothing => Work::Nothing,
            Work::HostFn { number } => Work::HostFn { number: *number },
            Work::WriteValue { dst, bytes, value } => Work::WriteValue {
                dst: *dst,
                bytes: *bytes,
                value: *value,
            },
            Work::WaitValue {
                src,
                bytes,
                value,
                until,
            } => Work::WaitValue {
                src: *src,
                bytes: *bytes,
                value: *value,
                until: *until,
            },
            _ => return None,
        })
    }
}

impl Op {
    /// Bytes of host memory that the guest's data takes while it waits.
    pub fn bytes(&self) -> usize {
        match &self.work {
            Work::Launch { params, .. } => params.len(),
            Work::Write { data, .. } => data.len(),
            _ => 0,
        }
    }

    /// True for what is done when it has run: it waits for nobody.
    pub fn ends(&self) -> bool {
        !matches!(self.work, Work::HostFn { .. } | Work::WaitValue { .. })
    }

    /// True for a wait for memory that has not come to its end. In a context that has failed it has.
    pub fn must_wait(&self) -> bool {
        let Work::WaitValue {
            src,
            bytes,
            value,
            until,
        } = self.work
        else {
            return false;
        };
        let mut found = [0; 8];
        let place = found.get_mut(..usize::from(bytes));
        let read = place.is_some_and(|place| self.ctx.space.read(src, place).is_ok());
        if !read {
            self.ctx.fail(Status::ERROR_ILLEGAL_ADDRESS);
        }
        self.ctx.sticky().is_ok() && !until.holds(bytes, u64::from_le_bytes(found), value)
    }

    /// Does the work. In a context that has failed, only what frees is done.
    pub fn run(self, gpu: &Gpu, abort: &Abort) -> Ran {
        match self.work {
            Work::HostFn { number } => {
                let status = self.ctx.sticky().err().unwrap_or(Status::SUCCESS);
                return Ran::Calls(Turn { number, status });
            }
            Work::WaitValue { .. } if self.must_wait() => return Ran::Looks(self),
            _ => {}
        }
        let ctx = self.ctx;
        let alive = ctx.sticky().is_ok();
        let done = match self.work {
            Work::Free { addr, share } => {
                let freed = ctx
                    .space
                    .free(addr)
                    .map(|_| ())
                    .map_err(|_| Status::ERROR_INVALID_VALUE);
                drop(share);
                freed
            }
            Work::Unload { module, share } => {
                drop(module);
                drop(share);
                Ok(())
            }
            Work::Stamp(stamp) => {
                // Each stamp is made for one record.
                let _ = stamp.set(Instant::now());
                Ok(())
            }
            Work::Nothing | Work::HostFn { .. } | Work::WaitValue { .. } => Ok(()),
            Work::FromArena { dst, span, spans } => {
                let copied = if alive {
                    spans
                        .arena()
                        .slice(&span)
                        .and_then(|from| copy::to_device(&ctx.space, dst, &from))
                } else {
                    Ok(())
                };
                spans.done(&span);
                copied
            }
            _ if !alive => Ok(()),
            Work::Blas(work) => work.run(&ctx, gpu, abort),
            Work::Write { dst, data } => ctx
                .space
                .write(dst, &data)
                .map_err(|_| Status::ERROR_INVALID_VALUE),
            Work::WriteValue { dst, bytes, value } => {
                let value = value.to_le_bytes();
                let value = value.get(..usize::from(bytes)).unwrap_or(&value);
                let written = ctx.space.write(dst, value);
                written.map_err(|_| Status::ERROR_ILLEGAL_ADDRESS)
            }
            Work::Copy { dst, src, bytes } => ctx
                .space
                .copy(dst, src, bytes)
                .map_err(|_| Status::ERROR_INVALID_VALUE),
            Work::Fill {
                dst,
                pattern,
                width,
                count,
                rows,
                pitch,
            } => fill(&ctx, dst, pattern, width, count, rows, pitch),
            Work::Launch {
                function,
                count,
                config,
                cooperative,
                params,
            } => {
                // Here, and not where it was posted: a graph launches it again and again.
                count.launched();
                let options = LaunchOptions {
                    runtime: Some(Arc::clone(&ctx.runtime)),
                    time_limit: time_limit(),
                    cooperative,
                    ..execution()
                };
                let result = gpu.launch(&ctx.space, &function, &config, &params, &options, abort);
                ended(&ctx, &function, &count, result);
                Ok(())
            }
            Work::Rest {
                rest,
                function,
                count,
            } => {
                ended(&ctx, &function, &count, rest.finish(gpu));
                Ok(())
            }
        };
        if let Err(status) = done {
            ctx.fail(status);
        }
        Ran::Done
    }
}

fn fill(
    ctx: &Context,
    dst: u64,
    pattern: u32,
    width: u8,
    count: u64,
    rows: u64,
    pitch: u64,
) -> Result<(), Status> {
    let pattern = pattern.to_le_bytes();
    let pattern = pattern
        .get(..usize::from(width))
        .ok_or(Status::ERROR_INVALID_VALUE)?;
    for row in 0..rows {
        let at = row
            .checked_mul(pitch)
            .and_then(|o| dst.checked_add(o))
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        ctx.space
            .fill(at, pattern, count)
            .map_err(|_| Status::ERROR_INVALID_VALUE)?;
    }
    Ok(())
}

/// A launch of a kernel for this thread.
pub struct Launch<'a> {
    pub ctx: &'a Context,
    pub function: &'a Arc<Function>,
    pub count: &'a Arc<KernelCount>,
    pub prepared: &'a mut Prepared,
    pub kept: &'a mut Kept,
    pub params: &'a [u8],
}

/// Runs a kernel on this thread, unless it takes long: gives what is left of it then.
pub fn begin(launch: Launch<'_>, gpu: &Gpu, abort: &Abort) -> Option<Work> {
    let Launch {
        ctx,
        function,
        count,
        prepared,
        kept,
        params,
    } = launch;
    count.launched();
    let options = LaunchOptions {
        time_limit: time_limit(),
        ..execution()
    };
    let (space, runtime) = (&ctx.space, &ctx.runtime);
    let begun = gpu.begin(
        space, function, prepared, kept, runtime, params, &options, abort,
    );
    let result = match begun {
        Ok(Begun::Rest(rest)) => {
            return Some(Work::Rest {
                rest,
                function: Arc::clone(function),
                count: Arc::clone(count),
            });
        }
        Ok(Begun::Ended(stats)) => Ok(stats),
        Err(error) => Err(error),
    };
    ended(ctx, function, count, result);
    None
}

/// Keeps what has become of a launch.
fn ended(
    ctx: &Context,
    function: &Function,
    count: &KernelCount,
    result: Result<LaunchStats, LaunchError>,
) {
    ctx.output.collect(&ctx.runtime);
    match result {
        Ok(stats) => count.ran(stats.time),
        Err(error) => {
            let status = status_of(&error);
            tracing::error!(kernel = function.name(), %status, %error, "a kernel ended with an error");
            ctx.fail(status);
        }
    }
}

/// How kernels are executed: the host's environment variable `VGPU_SOFT_EXECUTION`. All ways give the
/// same results; where they do not, it tells which one is wrong.
fn execution() -> LaunchOptions {
    static REFERENCE_AND_JIT: OnceLock<(bool, Jit)> = OnceLock::new();
    let (reference, jit) = *REFERENCE_AND_JIT.get_or_init(|| {
        match std::env::var("VGPU_SOFT_EXECUTION").as_deref() {
            Err(_) | Ok("auto") => (false, Jit::Auto),
            Ok("reference") => (true, Jit::Never),
            Ok("interpreted") => (false, Jit::Never),
            Ok("compiled") => (false, Jit::Always),
            Ok(other) => {
                tracing::error!(
                    "VGPU_SOFT_EXECUTION is '{other}': auto, reference, interpreted and compiled are allowed; it is auto"
                );
                (false, Jit::Auto)
            }
        }
    });
    LaunchOptions {
        reference,
        jit,
        ..LaunchOptions::default()
    }
}

/// The longest time that a kernel may run: the host's environment variable
/// `VGPU_LAUNCH_TIMEOUT_MS`, in milliseconds; none where it is not set.
fn time_limit() -> Option<Duration> {
    static LIMIT: OnceLock<Option<Duration>> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let text = std::env::var("VGPU_LAUNCH_TIMEOUT_MS").ok()?;
        match text.parse::<u32>() {
            Ok(ms) if ms > 0 => Some(Duration::from_millis(ms.into())),
            _ => {
                tracing::error!(
                    "VGPU_LAUNCH_TIMEOUT_MS is '{text}': a number of milliseconds in 1..={} is allowed; kernels run without a limit",
                    u32::MAX
                );
                None
            }
        }
    })
}

fn status_of(error: &LaunchError) -> Status {
    match error {
        LaunchError::IllegalAddress(_) => Status::ERROR_ILLEGAL_ADDRESS,
        LaunchError::MisalignedAddress(_) => Status::ERROR_MISALIGNED_ADDRESS,
        LaunchError::StackOverflow(_) => Status::ERROR_HARDWARE_STACK_ERROR,
        LaunchError::InvalidConfig(_) => Status::ERROR_INVALID_VALUE,
        LaunchError::OutOfResources(_) => Status::ERROR_LAUNCH_OUT_OF_RESOURCES,
        LaunchError::CooperativeTooLarge { .. } => Status::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
        LaunchError::Aborted | LaunchError::TimedOut { .. } => Status::ERROR_LAUNCH_TIMEOUT,
        LaunchError::Trap(_) => Status::ERROR_LAUNCH_FAILED,
        LaunchError::Assert(_) => Status::ERROR_ASSERT,
        LaunchError::IllegalInstruction(_) => Status::ERROR_ILLEGAL_INSTRUCTION,
        // A barrier that can never complete hangs a GPU until its watchdog ends the kernel.
        LaunchError::Deadlock(_) => Status::ERROR_LAUNCH_TIMEOUT,
        LaunchError::Unsupported(_) => Status::ERROR_NOT_SUPPORTED,
        // LaunchError::Internal, and what may be added to the enum.
        _ => Status::ERROR_LAUNCH_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_documented() {
        use Until::*;
        for (until, bytes, found, value, holds) in [
            (GreaterOrEqual, 4, 5, 5, true),
            (GreaterOrEqual, 4, 4, 5, false),
            // Cyclic: past the end of the numbers is after it.
            (GreaterOrEqual, 4, 1, 0xffff_fff0, true),
            (GreaterOrEqual, 8, 1, 0xffff_fff0, false),
            (GreaterOrEqual, 8, 1, u64::MAX - 3, true),
            (Equal, 8, 7, 7, true),
            (Equal, 8, 7, 6, false),
            (And, 4, 6, 3, true),
            (And, 4, 4, 3, false),
            (Nor, 4, 0xffff_ff00, 0xff, false),
            (Nor, 4, 0xffff_ff00, 0x7f, true),
            (Nor, 8, u64::MAX, 0, false),
        ] {
            assert_eq!(
                until.holds(bytes, found, value),
                holds,
                "{until:?} {bytes} {found:#x} {value:#x}"
            );
        }
    }
}
