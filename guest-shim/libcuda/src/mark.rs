//! What this library does for the others of the guest, and by what a host knows it: without the
//! mark the mediator's `cuda` backend would call itself (`vgpu-local` in an environment made for
//! its clients, say).
#![allow(unsafe_code)] // An exported name.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, Opcode, Remote, StreamId};
use vgpu_protocol::wire::Writer;
use vgpu_remote::table::{Host, ShimTable};

use crate::abi::Zero;
use crate::capture::Target;
use crate::graph::Work;
use crate::init::{connect, driver};

/// Looked up by name.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "a C name")]
pub static vgpu_stub_shim: ShimTable = ShimTable::of::<Shim>();

/// See [`Host`].
#[derive(Debug)]
pub struct Shim;

/// Where work of a stream goes.
fn target(handle: u64, per_thread: bool) -> Result<Target, Status> {
    let zero = if per_thread {
        Zero::PerThread
    } else {
        Zero::Legacy
    };
    driver()?.target(handle as cudarc::driver::sys::CUstream, zero)
}

impl Host for Shim {
    fn connect() -> Result<i32, Status> {
        Ok(connect()?.hello().driver_version)
    }

    fn current() -> Result<CtxId, Status> {
        crate::ctx::current()?.id()
    }

    fn stream(handle: u64, per_thread: bool) -> Result<(CtxId, StreamId), Status> {
        let zero = if per_thread {
            Zero::PerThread
        } else {
            Zero::Legacy
        };
        let queue = driver()?.queue(handle as cudarc::driver::sys::CUstream, zero)?;
        Ok((queue.ctx_id, queue.id))
    }

    fn place(handle: u64, per_thread: bool) -> Result<(CtxId, StreamId, bool), Status> {
        Ok(match target(handle, per_thread)? {
            Target::Queue(queue) => (queue.ctx_id, queue.id, false),
            Target::Capture(capture) => (capture.queue.ctx_id, StreamId(0), true),
        })
    }

    fn record(
        handle: u64,
        per_thread: bool,
        opcode: Opcode,
        request: Writer<'_>,
    ) -> Result<(), Status> {
        match target(handle, per_thread)? {
            // Another thread has ended the capture meanwhile.
            Target::Queue(_) => Err(Status::ERROR_ILLEGAL_STATE),
            Target::Capture(capture) => capture.add(Work::Library {
                ctx: Arc::clone(&capture.queue.ctx),
                opcode,
                request: request.parts().concat().into(),
            }),
        }
    }

    fn call(
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Status> {
        let called = connect()?.call(opcode, ctx, request, &mut |reply| {
            take(reply);
            Ok(())
        });
        crate::pending::other_called();
        called
    }

    fn log(line: &str) {
        vgpu_transport::log::line(format_args!("{line}"));
    }
}
