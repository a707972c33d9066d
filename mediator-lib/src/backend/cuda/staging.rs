//! Copies through the channel's arena.
//!
//! The guest fills the arena from one end and waits for the host to be done with it from the other.
//! A copy is done when the GPU has read the arena, so each is followed by an event, and a thread
//! watches the events in order: the worker goes on with the ring meanwhile, or waits for it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use vgpu_protocol::Status;
use vgpu_protocol::calls::{ArenaSpan, CtxId};
use vgpu_protocol::window::Window;

use super::ctx::ContextEntry;
use super::mem::DeviceRange;
use super::stream::wait_until;
use super::sys::memory::HostPin;
use super::sys::object::{DISABLE_TIMING, Event, Stream};
use crate::arena::{Arena, Spans};
use crate::cancel::Cancel;

/// Copies from unpinned memory up to this size do not wait for the GPU, in bytes (CUDA C++ Programming
/// Guide, "Concurrent Execution between Host and Device").
const STAGED_BYTES: u64 = 64 << 10;

/// A copy that the GPU may still be reading.
#[derive(Debug)]
pub struct InFlight {
    span: ArenaSpan,
    /// `None` when the host is done with the span.
    event: Option<Event>,
    /// Kept as long as the GPU reads it.
    _window: Option<Window>,
}

#[derive(Debug, Default)]
struct Queue {
    spans: VecDeque<InFlight>,
    /// The thread is watching a span that it has taken out.
    watching: bool,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    spans: Spans,
    cancel: Arc<Cancel>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Pin {
    Untried,
    /// The driver refuses: the arena stays pageable.
    Refused,
    /// Made in this context, with which it goes.
    Held {
        ctx: CtxId,
        _pin: HostPin,
    },
}

/// A session's use of its arena.
#[derive(Debug)]
pub struct Staging {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    pin: Pin,
}

impl Staging {
    pub fn new(arena: Arena, cancel: Arc<Cancel>) -> Staging {
        let queue = Mutex::new(Queue::default());
        let shared = Arc::new(Shared {
            queue,
            changed: Condvar::new(),
            spans: Spans::new(arena),
            cancel,
        });
        Staging {
            shared,
            thread: None,
            pin: Pin::Untried,
        }
    }

    /// The memory of a span.
    pub fn slice(&self, span: &ArenaSpan) -> Result<Window, Status> {
        self.shared.spans.arena().slice(span)
    }

    /// A span has come: to be called, in the order of the ring, before all else.
    pub fn begin(&self, span: &ArenaSpan) {
        self.shared.spans.begin(span);
    }

    /// Says that the host is done with a span, once it is done with all before it.
    pub fn done(&self, span: ArenaSpan) {
        let mut queue = self.shared.lock();
        if queue.spans.is_empty() && !queue.watching {
            self.shared.spans.done(&span);
        } else {
            queue.spans.push_back(InFlight {
                span,
                event: None,
                _window: None,
            });
        }
    }

    /// Copies a span to the device in stream order. Whatever the result, the span is done with in
    /// the end.
    pub fn copy_in(
        &mut self,
        ctx: CtxId,
        entry: &ContextEntry,
        stream: &Stream,
        to: DeviceRange,
        span: ArenaSpan,
    ) -> Result<(), Status> {
        match self.submit(ctx, entry, stream, to, &span) {
            Ok(in_flight) => {
                self.shared.lock().spans.push_back(in_flight);
                self.shared.changed.notify_all();
                Ok(())
            }
            Err(error) => {
                self.done(span);
                Err(error)
            }
        }
    }

    fn submit(
        &mut self,
        ctx: CtxId,
        entry: &ContextEntry,
        stream: &Stream,
        to: DeviceRange,
        span: &ArenaSpan,
    ) -> Result<InFlight, Status> {
        let window = self.slice(span)?;
        self.pin(ctx, entry);
        self.start_watching()?;
        if !matches!(self.pin, Pin::Held { .. }) && span.bytes > STAGED_BYTES {
            // The driver would wait for the stream, in a way that cannot be ended.
            entry.wait_for_stream(stream, &self.shared.cancel)?;
        }
        let event = Event::create(&entry.ctx, DISABLE_TIMING)?;
        stream.copy_from_window(to, &window)?;
        if let Err(error) = event.record(stream, 0) {
            // Without its event the copy's end must be seen in another way.
            stream.synchronize()?;
            return Err(error);
        }
        Ok(InFlight {
            span: span.clone(),
            event: Some(event),
            _window: Some(window),
        })
    }

    /// Pins the arena where that was not tried yet: copies then need no copy by the CPU.
    fn pin(&mut self, ctx: CtxId, entry: &ContextEntry) {
        if !matches!(self.pin, Pin::Untried) {
            return;
        }
        self.pin = match HostPin::register(&entry.ctx, self.shared.spans.arena().memory()) {
            Ok(pin) => Pin::Held { ctx, _pin: pin },
            Err(status) => {
                tracing::info!(%status, "the staging arena stays unpinned: copies are slower");
                Pin::Refused
            }
        };
    }

    fn start_watching(&mut self) -> Result<(), Status> {
        if self.thread.is_some() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.shared.cancel.on_set({
            let shared = Arc::downgrade(&self.shared);
            move || {
                if let Some(shared) = shared.upgrade() {
                    // Taken, so that a watcher between its look and its sleep is not missed.
                    drop(shared.lock());
                    shared.changed.notify_all();
                }
            }
        });
        let thread = Builder::new()
            .name("vgpu-staging".to_owned())
            .spawn(move || watch(&shared));
        self.thread = Some(thread.map_err(|error| {
            tracing::error!(%error, "cannot start a session's staging thread");
            Status::ERROR_OPERATING_SYSTEM
        })?);
        Ok(())
    }

    /// Waits until the host is done with all spans.
    fn drain(&self) -> Result<(), Status> {
        let mut queue = self.shared.lock();
        while queue.watching || !queue.spans.is_empty() {
            if self.shared.cancel.is_set() {
                return Err(Status::ERROR_DEINITIALIZED);
            }
            queue = self
                .shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Called before a context is destroyed. Where it pins the arena the pin is undone, once no
    /// other context's copy needs it.
    pub fn forget_context(&mut self, ctx: CtxId) -> Result<(), Status> {
        if matches!(self.pin, Pin::Held { ctx: holder, .. } if holder == ctx) {
            self.drain()?;
            self.pin = Pin::Untried;
        }
        Ok(())
    }

    /// Ends the thread and gives back what the GPU may still be reading, with the pin: both must
    /// outlive its work.
    pub fn end(&mut self) -> Leftovers {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
        let spans = std::mem::take(&mut self.shared.lock().spans);
        Leftovers {
            _spans: spans,
            pin: std::mem::replace(&mut self.pin, Pin::Refused),
        }
    }
}

/// What of a session's staging the GPU may still be reading.
#[derive(Debug)]
pub struct Leftovers {
    _spans: VecDeque<InFlight>,
    pin: Pin,
}

impl Leftovers {
    /// The context that pins the arena.
    pub fn pinned_by(&self) -> Option<CtxId> {
        match &self.pin {
            Pin::Held { ctx, .. } => Some(*ctx),
            Pin::Untried | Pin::Refused => None,
        }
    }

    /// Unpins the arena, where no work is left.
    pub fn unpin(&mut self) {
        self.pin = Pin::Refused;
    }
}

fn watch(shared: &Shared) {
    let mut queue = shared.lock();
    loop {
        if queue.ended || shared.cancel.is_set() {
            return;
        }
        let Some(in_flight) = queue.spans.pop_front() else {
            queue = shared
                .changed
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        queue.watching = true;
        drop(queue);
        let ended = || shared.lock().ended;
        let finished = match &in_flight.event {
            None => Ok(()),
            Some(event) => wait_until(&shared.cancel, || Ok(ended() || event.is_reached()?)),
        };
        queue = shared.lock();
        queue.watching = false;
        if finished == Err(Status::ERROR_DEINITIALIZED) || queue.ended {
            queue.spans.push_front(in_flight);
            shared.changed.notify_all();
            return;
        }
        // After an error of the context the GPU reads nothing more. The guest sees it at its next
        // call.
        shared.spans.done(&in_flight.span);
        drop(queue);
        drop(in_flight);
        shared.changed.notify_all();
        queue = shared.lock();
    }
}
