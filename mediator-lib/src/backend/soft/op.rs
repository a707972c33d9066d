//! One piece of a session's asynchronous work.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use vgpu_protocol::Status;
use vgpu_protocol::calls::ArenaSpan;
use vgpu_soft_gpu::{Abort, Function, Gpu, LaunchConfig, LaunchError, LaunchOptions, Module};

use super::copy;
use super::ctx::Context;
use crate::arena::Arena;
use crate::budget::Share;

/// What to do.
pub enum Work {
    /// Run a kernel.
    Launch {
        function: Arc<Function>,
        config: LaunchConfig,
        params: Vec<u8>,
    },
    /// Copy bytes to the device.
    Write { dst: u64, data: Vec<u8> },
    /// Copy a piece of the arena to the device.
    FromArena {
        dst: u64,
        span: ArenaSpan,
        arena: Arena,
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
    /// Let go of a module.
    Unload {
        module: Arc<Module>,
        share: Option<Share>,
    },
}

/// A piece of work in its context.
pub struct Op {
    pub ctx: Arc<Context>,
    pub work: Work,
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

    /// Does the work. In a context that has failed, only what frees is done.
    pub fn run(self, gpu: &Gpu, abort: &Abort) {
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
            Work::FromArena { dst, span, arena } => {
                let copied = if alive {
                    arena
                        .slice(&span)
                        .and_then(|from| copy::to_device(&ctx.space, dst, &from))
                } else {
                    Ok(())
                };
                arena.done(&span);
                copied
            }
            _ if !alive => Ok(()),
            Work::Write { dst, data } => ctx
                .space
                .write(dst, &data)
                .map_err(|_| Status::ERROR_INVALID_VALUE),
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
                config,
                params,
            } => launch(&ctx, gpu, abort, &function, &config, &params),
        };
        if let Err(status) = done {
            ctx.fail(status);
        }
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

fn launch(
    ctx: &Context,
    gpu: &Gpu,
    abort: &Abort,
    function: &Arc<Function>,
    config: &LaunchConfig,
    params: &[u8],
) -> Result<(), Status> {
    match gpu.launch(
        &ctx.space,
        function,
        config,
        params,
        &LaunchOptions::default(),
        abort,
    ) {
        Ok(_) => Ok(()),
        Err(error) => {
            let status = status_of(&error);
            tracing::error!(kernel = function.name(), %status, %error, "a kernel ended with an error");
            Err(status)
        }
    }
}

fn status_of(error: &LaunchError) -> Status {
    match error {
        LaunchError::IllegalAddress(_) => Status::ERROR_ILLEGAL_ADDRESS,
        LaunchError::MisalignedAddress(_) => Status::ERROR_MISALIGNED_ADDRESS,
        LaunchError::StackOverflow(_) => Status::ERROR_HARDWARE_STACK_ERROR,
        LaunchError::InvalidConfig(_) => Status::ERROR_INVALID_VALUE,
        LaunchError::OutOfResources(_) => Status::ERROR_LAUNCH_OUT_OF_RESOURCES,
        LaunchError::Aborted => Status::ERROR_LAUNCH_TIMEOUT,
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
