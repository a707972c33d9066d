//! One session per channel: counts calls, dispatches them and keeps deferred errors.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DispatchError, Mode, Opcode, dispatch};
use vgpu_protocol::limits::{MAX_CLIENT_BYTES, MAX_SUSPENDED_BYTES, MAX_SUSPENDED_CALLS};
use vgpu_protocol::message::{Flags, Message};
use vgpu_protocol::wire::{Arg, Reader, Text, Writer};

use crate::backend::{BackendSession, SUSPENDED, SessionContext, Wait};
use crate::callbacks::Callbacks;
use crate::counters::Counters;
use crate::mediator::Mediator;
use crate::processes::Process;
use crate::waker::Waker;

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The guest does not wait.
    None,
    /// A reply with this status; its payload has been written where the status is success.
    Send(Status),
    /// The reply comes later: see [`Session::resume`].
    Later,
    /// The session is not to be used any more: an internal error.
    Broken,
}

/// See the module's documentation.
pub struct Session {
    mediator: Arc<Mediator>,
    context: SessionContext,
    backend: Box<dyn BackendSession>,
    deferred: Option<(CtxId, Status)>,
    client: String,
    pid: u32,
    process: Arc<Process>,
    unknown_logged: bool,
    suspended: VecDeque<Suspended>,
    suspended_bytes: usize,
    /// A posted call is suspended.
    stalled: bool,
}

/// A call whose body waits.
struct Suspended {
    message: Message,
    payload: Vec<u8>,
    wait: Wait,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("context", &self.context)
            .finish_non_exhaustive()
    }
}

/// Longest payload that a request may have, by its opcode as received. For an unknown call it is
/// short: nothing is buffered beyond one record.
pub fn max_request_bytes(opcode: u16) -> u64 {
    Opcode::from_wire(opcode).map_or(u64::from(MAX_CLIENT_BYTES), |o| o.info().max_bytes)
}

impl Session {
    pub(crate) fn new(
        mediator: Arc<Mediator>,
        context: SessionContext,
        backend: Box<dyn BackendSession>,
    ) -> Session {
        let process = context
            .processes
            .add(context.channel, Arc::clone(&context.budget));
        Session {
            mediator,
            context,
            backend,
            deferred: None,
            client: String::new(),
            pid: 0,
            process,
            unknown_logged: false,
            suspended: VecDeque::new(),
            suspended_bytes: 0,
            stalled: false,
        }
    }

    /// What wakes the worker; with a hook set, calls that wait are suspended.
    pub fn waker(&self) -> &Arc<Waker> {
        &self.context.waker
    }

    /// What the session did.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.context.counters
    }

    /// Functions of the guest's program that streams call.
    pub fn callbacks(&self) -> &Arc<Callbacks> {
        &self.context.callbacks
    }

    /// True where the worker should take no further message for now: too much work is queued, or
    /// too many calls wait.
    pub fn is_full(&self) -> bool {
        self.stalled
            || self.suspended.len() >= MAX_SUSPENDED_CALLS
            || self.suspended_bytes >= MAX_SUSPENDED_BYTES
            || self.backend.is_full()
    }

    /// True where a call is suspended.
    pub fn is_waiting(&self) -> bool {
        !self.suspended.is_empty()
    }

    /// True where the worker must look at suspended calls without being woken.
    pub fn must_look(&self) -> bool {
        !self.suspended.is_empty() && self.backend.must_look()
    }

    /// Goes on with a suspended call whose wait is over.
    pub fn resume(&mut self, reply: &mut Writer<'_>) -> Option<(Message, Reply)> {
        let ready = |s: &mut Suspended| (s.wait)();
        let (index, over) = self
            .suspended
            .iter_mut()
            .enumerate()
            .find_map(|(i, s)| Some((i, ready(s)?)))?;
        let call = self.suspended.remove(index)?;
        self.suspended_bytes -= call.payload.len();
        self.stalled &= !call.message.flags.contains(Flags::POSTED);
        let done = self.run(&call.message, &call.payload, Some(over), reply);
        Some((call.message, done))
    }

    /// The first error of a posted call that no reply has reported, for the channel's hint word.
    pub fn deferred_error(&self) -> Option<Status> {
        self.deferred.map(|(_, status)| status)
    }

    /// Whether kernels have written text that the guest has not taken: replies say so.
    pub fn has_output(&self) -> bool {
        self.backend.has_output()
    }

    /// Executes one message. `reply` gets the reply's payload.
    pub fn handle(&mut self, message: &Message, payload: &[u8], reply: &mut Writer<'_>) -> Reply {
        if let Some(opcode) = Opcode::from_wire(message.opcode) {
            self.context.counters.count(opcode);
        }
        if !message.flags.contains(Flags::POSTED) {
            self.context.counters.waited();
        }
        self.run(message, payload, None, reply)
    }

    fn run(
        &mut self,
        message: &Message,
        payload: &[u8],
        over: Option<Result<(), Status>>,
        reply: &mut Writer<'_>,
    ) -> Reply {
        let waited_for = !message.flags.contains(Flags::POSTED);
        let may_suspend = self.context.waker.is_on() && payload.len() <= MAX_SUSPENDED_BYTES;
        self.backend.begin(may_suspend, over);
        let ctx = CtxId(message.word);
        let outcome = match Opcode::from_wire(message.opcode) {
            Some(opcode) => self.execute(opcode, ctx, payload, reply),
            None => {
                if !self.unknown_logged {
                    self.unknown_logged = true;
                    tracing::warn!(
                        vm_id = self.context.vm_id,
                        channel = self.context.channel,
                        opcode = message.opcode,
                        "unknown opcode"
                    );
                }
                Some(Err(Status::ERROR_NOT_SUPPORTED))
            }
        };
        let Some(outcome) = outcome else {
            return Reply::Broken;
        };
        let wait = self.backend.take_wait();
        if outcome == Err(SUSPENDED)
            && let Some(wait) = wait
        {
            self.suspended_bytes += payload.len();
            // What is posted later may have to follow it.
            self.stalled |= !waited_for;
            self.suspended.push_back(Suspended {
                message: *message,
                payload: payload.to_vec(),
                wait,
            });
            return Reply::Later;
        }
        let status = outcome.err().unwrap_or(Status::SUCCESS);
        self.trace(message, status);
        if waited_for {
            return Reply::Send(status);
        }
        // A broken context reports itself at every call; what is kept here is what would be lost.
        if status != Status::SUCCESS && !status.is_sticky() && self.deferred.is_none() {
            self.deferred = Some((ctx, status));
        }
        Reply::None
    }

    fn trace(&self, message: &Message, status: Status) {
        let name = Opcode::from_wire(message.opcode).map_or("unknown", |o| o.info().name);
        tracing::trace!(
            target: "vgpu::call",
            vm_id = self.context.vm_id,
            channel = self.context.channel,
            seq = message.seq,
            call = name,
            ctx = message.word,
            status = status.0,
            "done"
        );
    }

    /// `None` when the body panicked.
    fn execute(
        &mut self,
        opcode: Opcode,
        ctx: CtxId,
        payload: &[u8],
        reply: &mut Writer<'_>,
    ) -> Option<Result<(), Status>> {
        if opcode == Opcode::vgpuHello {
            self.note_client(payload);
        }
        if opcode.info().mode == Mode::waits
            && let Some(status) = self.take_deferred(ctx)
        {
            return Some(Err(status));
        }
        let backend = &mut *self.backend;
        // A panic here is a defect of ours. It must not take the VM down with it.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            dispatch(backend, opcode, ctx, payload, reply)
        }));
        match outcome {
            Ok(Ok(())) => {
                if opcode == Opcode::cuCtxDestroy || opcode == Opcode::cuDevicePrimaryCtxReset {
                    self.deferred = None;
                }
                Some(Ok(()))
            }
            Ok(Err(DispatchError::Failed(status))) => Some(Err(status)),
            Ok(Err(DispatchError::Malformed(error))) => {
                tracing::warn!(
                    vm_id = self.context.vm_id,
                    channel = self.context.channel,
                    call = opcode.info().name,
                    %error,
                    "malformed request"
                );
                Some(Err(Status::ERROR_INVALID_VALUE))
            }
            Err(_) => {
                tracing::error!(
                    vm_id = self.context.vm_id,
                    channel = self.context.channel,
                    call = opcode.info().name,
                    "internal error: the session ends"
                );
                None
            }
        }
    }

    fn take_deferred(&mut self, ctx: CtxId) -> Option<Status> {
        self.deferred
            .take()
            .map(|(_, status)| status)
            .or_else(|| self.backend.take_error(ctx))
    }

    fn note_client(&mut self, payload: &[u8]) {
        let mut r = Reader::new(payload);
        let Ok(client) = <Text<{ MAX_CLIENT_BYTES as u64 }> as Arg>::get_arg(&mut r) else {
            return;
        };
        let Ok(pid) = <u32 as Arg>::get_arg(&mut r) else {
            return;
        };
        // The name goes to logs and to a JSON file: keep what cannot break either.
        self.client = client
            .chars()
            .filter(|c| !c.is_control() && *c != '"' && *c != '\\')
            .collect();
        self.pid = pid;
        self.process.name(&self.client, pid);
        tracing::info!(
            vm_id = self.context.vm_id,
            channel = self.context.channel,
            client = self.client,
            pid,
            "session opened"
        );
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.client.is_empty() && self.pid == 0 {
            return;
        }
        let line = format!(
            r#"{{"vm_id":{},"channel":{},"client":"{}","pid":{},{}}}"#,
            self.context.vm_id,
            self.context.channel,
            self.client,
            self.pid,
            self.context.counters.members()
        );
        self.mediator.record_counters(&line);
        tracing::info!(
            vm_id = self.context.vm_id,
            channel = self.context.channel,
            client = self.client,
            pid = self.pid,
            calls = self.context.counters.json(),
            "session closed"
        );
    }
}
