//! What a stream was given, and how much of it the program has waited for. Waiting for a stream that
//! has nothing left needs no message, and programs do it often: llama.cpp waits for its stream before
//! each of the inputs of a token.
//!
//! A call counts its work when it *returns*, after it was sent: who sees the count has the work's
//! message behind it in the ring, and a wait that began before another thread's call returned need
//! not include that call.
//!
//! Small copies to the device are counted by themselves. Their bytes were taken and their arguments
//! checked when the call returned, so that nothing but their order can be seen: it is enough that
//! whatever is sent later comes after them. A wait for them is therefore *posted*: the host waits,
//! before it takes another message.
//!
//! So are small copies from pinned memory, where nothing is under way before them in their stream's order that
//! could still change their bytes: these are then taken when the call is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ctx::Ctx;
use crate::stream::Stream;

/// Most bytes of copies to the device for which a wait is posted: what the host copies in the time
/// that a message and its answer would take.
pub const MOST_POSTED_BYTES: u64 = 64 << 10;

/// Calls of the other libraries of this process, whose streams are not told.
static OTHERS: AtomicU64 = AtomicU64::new(0);

/// Another library's call has returned.
pub fn other_called() {
    OTHERS.fetch_add(1, Ordering::Release);
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Pending {
    given: Counts,
    waited: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    work: AtomicU64,
    staged: AtomicU64,
    others: AtomicU64,
}

/// What a stream had been given at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    work: u64,
    staged: u64,
    others: u64,
}

/// What a wait needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// There is nothing left.
    Nothing,
    /// The order alone.
    Order,
    /// An answer.
    Answer,
}

impl Pending {
    /// What it has been given so far. To be looked at before the message that waits is sent.
    pub fn seen(&self) -> Seen {
        Seen {
            work: self.given.work.load(Ordering::Acquire),
            staged: self.given.staged.load(Ordering::Acquire),
            others: OTHERS.load(Ordering::Acquire),
        }
    }

    /// What a wait for this needs.
    pub fn wait_for(&self, seen: Seen) -> Wait {
        let waited = |count: &AtomicU64| count.load(Ordering::Acquire);
        if waited(&self.waited.work) < seen.work || waited(&self.waited.others) < seen.others {
            return Wait::Answer;
        }
        match seen.staged.saturating_sub(waited(&self.waited.staged)) {
            0 => Wait::Nothing,
            bytes if bytes <= MOST_POSTED_BYTES => Wait::Order,
            _ => Wait::Answer,
        }
    }

    /// Whether nothing is under way that could change memory of the program.
    pub fn is_harmless(&self) -> bool {
        self.wait_for(self.seen()) != Wait::Answer
    }

    /// All of this has been waited for.
    pub fn waited_for(&self, seen: Seen) {
        self.waited.work.fetch_max(seen.work, Ordering::AcqRel);
        self.waited.staged.fetch_max(seen.staged, Ordering::AcqRel);
        self.waited.others.fetch_max(seen.others, Ordering::AcqRel);
    }
}

/// Counts what a call gives to a stream, when the call returns.
pub struct Use {
    stream: Given,
    what: What,
}

/// A stream, or a context's default stream.
enum Given {
    Stream(Arc<Stream>),
    Default(Arc<Ctx>),
}

enum What {
    Work,
    Staged(u64),
    Nothing,
}

impl Use {
    /// A call that gives a stream, or the context's default stream, work, unless it says otherwise.
    pub fn of(stream: Option<&Arc<Stream>>, ctx: &Arc<Ctx>) -> Use {
        Use {
            stream: match stream {
                Some(stream) => Given::Stream(Arc::clone(stream)),
                None => Given::Default(Arc::clone(ctx)),
            },
            what: What::Work,
        }
    }

    /// The call gives the stream nothing, or has waited for what it gave.
    pub fn nothing(&mut self) {
        self.what = What::Nothing;
    }

    /// The call copies so many bytes to the device, which it has taken from the program.
    pub fn staged(&mut self, bytes: u64) {
        self.what = What::Staged(bytes);
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let given = match &self.stream {
            Given::Stream(stream) => &stream.pending.given,
            Given::Default(ctx) => &ctx.default_stream.given,
        };
        match self.what {
            What::Work => given.work.fetch_add(1, Ordering::Release),
            What::Staged(bytes) => given.staged.fetch_add(bytes, Ordering::Release),
            What::Nothing => 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(pending: &Pending, work: u64, staged: u64) {
        pending.given.work.fetch_add(work, Ordering::Release);
        pending.given.staged.fetch_add(staged, Ordering::Release);
    }

    /// Other tests' calls of other libraries would be seen here: none has any.
    #[test]
    fn only_what_is_left_is_waited_for() {
        let pending = Pending::default();
        pending.waited_for(pending.seen());
        assert_eq!(pending.wait_for(pending.seen()), Wait::Nothing);
        give(&pending, 0, MOST_POSTED_BYTES);
        assert_eq!(pending.wait_for(pending.seen()), Wait::Order);
        give(&pending, 0, 1);
        assert_eq!(pending.wait_for(pending.seen()), Wait::Answer);
        pending.waited_for(pending.seen());
        give(&pending, 1, 0);
        let before = pending.seen();
        // Work that came after the wait began stays.
        give(&pending, 1, 0);
        assert_eq!(pending.wait_for(before), Wait::Answer);
        pending.waited_for(before);
        assert_eq!(pending.wait_for(pending.seen()), Wait::Answer);
        pending.waited_for(pending.seen());
        assert_eq!(pending.wait_for(pending.seen()), Wait::Nothing);
    }
}
