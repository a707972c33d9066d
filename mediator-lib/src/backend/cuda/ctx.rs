//! Contexts of a session.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::sys::CUlimit_enum as Limit;
use vgpu_protocol::Status;

use super::mem::Allocations;
use super::stream::{PacedStream, wait_until};
use super::sys::object::{Context, DISABLE_TIMING, Event, NON_BLOCKING, Stream};
use super::sys::{Device, Driver};
use crate::budget::Share;
use crate::cancel::Cancel;

/// A context as the session's table holds it.
#[derive(Debug)]
pub struct ContextEntry {
    /// The driver's context.
    pub ctx: Arc<Context>,
    /// Its default stream.
    pub default: PacedStream,
    /// Clears new memory, beside the guest's streams and not ordered with them.
    pub clearing: Stream,
    /// Shows when the default stream has come past what was submitted.
    mark: Event,
    /// Its device memory.
    pub allocations: Allocations,
    /// Memory that limits of the context make the driver reserve, by `CUlimit`.
    pub limits: BTreeMap<u32, Share>,
    /// Streams that the guest has destroyed while they had work. Each is freed once it has none:
    /// until then waiting for the context means waiting for them.
    pub dying: Vec<Stream>,
    /// The error that ended it, if one did.
    pub error: Option<Status>,
}

/// Device memory that the driver reserves for a limit, in bytes. Without counting it, a guest
/// would take memory beyond the VM's share by setting limits.
pub fn limit_bytes(limit: u32, value: u64, resident_threads: u64) -> u64 {
    const STACK: u32 = Limit::CU_LIMIT_STACK_SIZE as u32;
    const PRINTF: u32 = Limit::CU_LIMIT_PRINTF_FIFO_SIZE as u32;
    const HEAP: u32 = Limit::CU_LIMIT_MALLOC_HEAP_SIZE as u32;
    match limit {
        // Per thread that can be resident.
        STACK => value.saturating_mul(resident_threads),
        PRINTF | HEAP => value,
        // Counts of small objects, and hints.
        _ => 0,
    }
}

impl ContextEntry {
    /// Creates a context and what the session needs in it.
    pub fn create(
        driver: &Arc<Driver>,
        device: Device,
        flags: u32,
    ) -> Result<ContextEntry, Status> {
        let ctx = Context::create(driver, device, flags)?;
        Ok(ContextEntry {
            default: PacedStream::new(Stream::default_of(&ctx)),
            clearing: Stream::create(&ctx, NON_BLOCKING, 0)?,
            mark: Event::create(&ctx, DISABLE_TIMING)?,
            allocations: Allocations::default(),
            limits: BTreeMap::new(),
            dying: Vec::new(),
            error: None,
            ctx,
        })
    }

    /// Waits until a stream has come past all that was submitted to it, and past what it is
    /// ordered with: an event, because a query of the default stream alone is not documented to
    /// cover the streams that it is ordered with.
    pub fn wait_for_stream(&self, stream: &Stream, cancel: &Cancel) -> Result<(), Status> {
        self.mark.record(stream, 0)?;
        wait_until(cancel, || self.mark.is_reached())
    }

    /// Waits until the context has done all its work. `streams` are its streams with a handle.
    pub fn wait_idle<'a>(
        &'a self,
        streams: impl Iterator<Item = &'a Stream>,
        cancel: &Cancel,
    ) -> Result<(), Status> {
        self.wait_for_stream(&self.default.stream, cancel)?;
        for stream in streams.chain(&self.dying) {
            wait_until(cancel, || stream.is_idle())?;
        }
        Ok(())
    }

    /// True where destroying the context would not wait. A broken context has no work.
    pub fn is_idle<'a>(&'a self, streams: impl Iterator<Item = &'a Stream>) -> bool {
        let own = [&self.default.stream, &self.clearing];
        streams
            .chain(&self.dying)
            .chain(own)
            .all(|stream| stream.is_idle() != Ok(false))
    }

    /// Frees destroyed streams that have done their work.
    pub fn reap_streams(&mut self) {
        self.dying.retain(|stream| stream.is_idle() == Ok(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_what_the_driver_reserves() {
        assert_eq!(
            limit_bytes(Limit::CU_LIMIT_STACK_SIZE as u32, 1024, 2048 * 132),
            1024 * 2048 * 132
        );
        assert_eq!(
            limit_bytes(Limit::CU_LIMIT_STACK_SIZE as u32, u64::MAX, 2),
            u64::MAX
        );
        assert_eq!(
            limit_bytes(Limit::CU_LIMIT_MALLOC_HEAP_SIZE as u32, 8 << 20, 1),
            8 << 20
        );
        assert_eq!(
            limit_bytes(Limit::CU_LIMIT_MAX_L2_FETCH_GRANULARITY as u32, 128, 1),
            0
        );
    }
}
