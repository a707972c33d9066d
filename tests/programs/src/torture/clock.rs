//! CUDA's ordering rules as vector clocks: what is known to be done when.
//!
//! Each queue (a stream, or the legacy default stream) numbers its operations. A clock says up to
//! which number each queue is done. Queues, events and the host have one each:
//!
//! * an operation begins after all that its queue and, when it was submitted, the host knew to be
//!   done (CUDA C++ Programming Guide, "Streams": a stream is a sequence of operations that execute
//!   in order);
//! * an event takes its queue's clock, and a queue that waits for the event takes the event's
//!   (`cuEventRecord`, `cuStreamWaitEvent`);
//! * the host takes the clock of what it waits for;
//! * the legacy default stream waits for all blocking streams, and they for it ("Default stream").
//!
//! Two accesses to the same memory, one of them a write, whose order this does not give are a race,
//! of which CUDA says nothing: a program must not have one.

/// Up to which operation each queue is known to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(Vec<u64>);

impl Clock {
    /// Knows all that `other` knows.
    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
    }

    /// True where the operation is done.
    pub fn knows(&self, at: Mark) -> bool {
        self.0.get(at.queue).is_some_and(|done| *done >= at.number)
    }

    fn set(&mut self, at: Mark) {
        if self.0.len() <= at.queue {
            self.0.resize(at.queue + 1, 0);
        }
        self.0[at.queue] = at.number;
    }
}

/// An operation: its queue and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The queue.
    pub queue: usize,
    /// Counts from 1.
    pub number: u64,
}

#[derive(Clone, Debug)]
struct Queue {
    clock: Clock,
    submitted: u64,
    blocking: bool,
}

/// The queue of the legacy default stream.
pub const DEFAULT: usize = 0;

/// All queues of one thread, and what its side of the program knows.
#[derive(Clone, Debug)]
pub struct Order {
    queues: Vec<Queue>,
    host: Clock,
}

impl Default for Order {
    fn default() -> Order {
        let mut order = Order {
            queues: Vec::new(),
            host: Clock::default(),
        };
        order.queue(false);
        order
    }
}

impl Order {
    /// A new queue. `blocking`: it and the default stream wait for each other.
    pub fn queue(&mut self, blocking: bool) -> usize {
        self.queues.push(Queue {
            clock: Clock::default(),
            submitted: 0,
            blocking,
        });
        self.queues.len() - 1
    }

    /// What is done before an operation begins that is submitted to `queue` now.
    pub fn start(&self, queue: usize) -> Clock {
        let mut clock = self.queues[queue].clock.clone();
        clock.join(&self.host);
        if queue == DEFAULT {
            for other in self.queues.iter().filter(|q| q.blocking) {
                clock.join(&other.clock);
            }
        } else if self.queues[queue].blocking {
            clock.join(&self.queues[DEFAULT].clock);
        }
        clock
    }

    /// Submits an operation.
    pub fn submit(&mut self, queue: usize) -> Mark {
        let mut clock = self.start(queue);
        let target = &mut self.queues[queue];
        target.submitted += 1;
        let mark = Mark {
            queue,
            number: target.submitted,
        };
        clock.set(mark);
        target.clock = clock;
        mark
    }

    /// Records an event: what it will have waited for.
    pub fn record(&mut self, queue: usize) -> Clock {
        self.submit(queue);
        self.queues[queue].clock.clone()
    }

    /// Has a queue wait for an event.
    pub fn wait(&mut self, queue: usize, event: &Clock) {
        self.submit(queue);
        self.queues[queue].clock.join(event);
    }

    /// The host has waited for a queue.
    pub fn host_waits_for_queue(&mut self, queue: usize) {
        self.host.join(&self.queues[queue].clock);
    }

    /// The host has waited for an event.
    pub fn host_waits_for(&mut self, event: &Clock) {
        self.host.join(event);
    }

    /// The host has waited for everything.
    pub fn host_waits_for_all(&mut self) {
        for queue in &self.queues {
            self.host.join(&queue.clock);
        }
    }

    /// True where the host knows the operation to be done.
    pub fn host_knows(&self, at: Mark) -> bool {
        self.host.knows(at)
    }
}

/// Who has used a piece of memory since what is known to all.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    write: Option<Mark>,
    reads: Vec<Mark>,
}

impl Uses {
    /// What an access must come after.
    pub fn before(&self, writes: bool) -> Vec<Mark> {
        let mut all: Vec<Mark> = self.write.into_iter().collect();
        if writes {
            all.extend(&self.reads);
        }
        all
    }

    /// Notes an access, which came after all of [`Uses::before`].
    pub fn note(&mut self, at: Mark, writes: bool) {
        if writes {
            self.write = Some(at);
            self.reads.clear();
        } else {
            self.reads.retain(|read| read.queue != at.queue);
            self.reads.push(at);
        }
    }

    /// Nobody uses it any more.
    pub fn clear(&mut self) {
        *self = Uses::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_ordered_by_events_and_by_nothing_else() {
        let mut order = Order::default();
        let (a, b) = (order.queue(false), order.queue(false));
        let first = order.submit(a);
        assert!(!order.start(b).knows(first));
        let event = order.record(a);
        let later = order.submit(a);
        order.wait(b, &event);
        let start = order.start(b);
        assert!(start.knows(first) && !start.knows(later));
    }

    #[test]
    fn what_the_host_has_waited_for_is_before_all_that_it_submits() {
        let mut order = Order::default();
        let (a, b) = (order.queue(false), order.queue(true));
        let first = order.submit(a);
        order.host_waits_for_queue(a);
        assert!(order.start(b).knows(first) && order.start(DEFAULT).knows(first));
        let second = order.submit(b);
        assert!(!order.host_knows(second));
        order.host_waits_for_all();
        assert!(order.host_knows(second));
    }

    #[test]
    fn the_default_stream_orders_blocking_streams_only() {
        let mut order = Order::default();
        let (blocking, free) = (order.queue(true), order.queue(false));
        let (x, y) = (order.submit(blocking), order.submit(free));
        let default = order.submit(DEFAULT);
        assert!(order.start(blocking).knows(default));
        assert!(!order.start(free).knows(default));
        let start = order.start(DEFAULT);
        assert!(start.knows(x) && !start.knows(y));
        order.host_waits_for_queue(DEFAULT);
        assert!(order.host_knows(x) && !order.host_knows(y));
    }

    #[test]
    fn a_write_follows_readers_and_a_read_follows_the_writer() {
        let mut uses = Uses::default();
        let mark = |queue, number| Mark { queue, number };
        uses.note(mark(1, 1), true);
        uses.note(mark(2, 1), false);
        uses.note(mark(2, 2), false);
        assert_eq!(uses.before(false), [mark(1, 1)]);
        assert_eq!(uses.before(true), [mark(1, 1), mark(2, 2)]);
        uses.note(mark(3, 1), true);
        assert_eq!(uses.before(true), [mark(3, 1)]);
    }
}
