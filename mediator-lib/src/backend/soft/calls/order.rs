//! Functions of the guest's program, and words of memory, in stream order.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, MemOp, OrderCalls, StreamId};

use super::super::op::{Until, Work};
use super::super::session::SoftSession;
use crate::backend::mem_op::{self, Word};

impl OrderCalls for SoftSession {
    fn launch_host_func(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        number: u64,
    ) -> Result<(), Status> {
        self.submit(ctx, stream, Work::HostFn { number }, false)
            .map(|_| ())
    }

    fn stream_batch_mem_op(
        &mut self,
        ctx: CtxId,
        stream: StreamId,
        operations: Vec<MemOp>,
    ) -> Result<(), Status> {
        let owner = self.stream_ctx(ctx, stream)?;
        // All are checked before the first one is done.
        let mut all = Vec::new();
        for operation in &operations {
            let word = mem_op::check(operation)?;
            if let Word::Write { at, bytes, .. } | Word::Wait { at, bytes, .. } = word {
                self.require_range(owner, at, bytes.into())?;
            }
            all.push(word);
        }
        for word in all {
            let work = match word {
                Word::Barrier => continue,
                Word::Write { at, bytes, value } => Work::WriteValue {
                    dst: at.0,
                    bytes,
                    value,
                },
                Word::Wait {
                    at,
                    bytes,
                    value,
                    until,
                } => Work::WaitValue {
                    src: at.0,
                    bytes,
                    value,
                    until: match until {
                        0 => Until::GreaterOrEqual,
                        1 => Until::Equal,
                        2 => Until::And,
                        _ => Until::Nor,
                    },
                },
            };
            let short = matches!(work, Work::WriteValue { .. });
            self.submit(ctx, stream, work, short)?;
        }
        Ok(())
    }
}
