//! Functions of the guest's program, and words of memory, in stream order.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, MemOp, OrderCalls, StreamId};

use super::super::host_call;
use super::super::session::CudaSession;
use super::super::sys::order::CheckedWord;
use crate::backend::mem_op::{self, Word};

impl OrderCalls for CudaSession {
    fn launch_host_func(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        number: u64,
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        let call = host_call::call(number, &self.context);
        self.pace(owner, stream)?;
        let once = self.recording.is_none();
        let key = match once {
            true => self.host_calls.once(call),
            false => self.host_calls.of_graph(number, call)?,
        };
        let launched = self.stream(owner, stream)?.call(key);
        if launched.is_err() && once {
            self.host_calls.remove(key);
        }
        self.note(owner, launched)
    }

    fn stream_batch_mem_op(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        operations: Vec<MemOp>,
    ) -> Result<(), Status> {
        let owner = self.owner(ctx, stream)?;
        let mut words = Vec::new();
        for operation in &operations {
            let word = match mem_op::check(operation)? {
                Word::Barrier => CheckedWord::Barrier(operation.flags),
                Word::Write { at, bytes, value } => CheckedWord::Write {
                    at: self
                        .range(owner, at, bytes.into())?
                        .ok_or(Status::ERROR_INVALID_VALUE)?,
                    bytes,
                    value,
                    flags: operation.flags,
                },
                Word::Wait {
                    at,
                    bytes,
                    value,
                    until,
                } => CheckedWord::Wait {
                    at: self
                        .range(owner, at, bytes.into())?
                        .ok_or(Status::ERROR_INVALID_VALUE)?,
                    bytes,
                    value,
                    until,
                },
            };
            words.push(word);
        }
        if words.is_empty() {
            return Ok(());
        }
        self.submit(owner, stream, |s| s.batch_mem_op(&words))
    }
}
