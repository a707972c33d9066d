//! The states of a channel, model-checked: claims, releases, resets and the device's end on several
//! processors, beside a worker that opens and closes sessions, fails them, and sleeps.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::thread;
use vgpu_models::primitive::Doorbell;
use vgpu_models::states::{Ends, Order, States};
use vgpu_protocol::regs::ChannelState;

/// Each thread may be interrupted at any place, this many times in all.
const PREEMPTIONS: usize = 3;

/// Ends a session: the session must see it before it is closed.
#[derive(Clone, Default)]
struct End(Arc<AtomicBool>);

impl Ends for End {
    fn end(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What the worker did.
#[derive(Default)]
struct Done {
    opened: AtomicU32,
    closed: AtomicU32,
}

struct Channel {
    states: States<End>,
    done: Done,
}

impl Channel {
    fn new() -> Arc<Channel> {
        Arc::new(Channel {
            states: States::new(Doorbell::default(), None),
            done: Done::default(),
        })
    }

    /// The worker as `worker.rs` has it: orders first, then the session, then sleep. `fails`: the
    /// first session fails as soon as it is served.
    fn work(&self, mut fails: bool) {
        let states = &self.states;
        let mut active: Option<End> = None;
        let close = |active: &mut Option<End>| {
            if active.take().is_some() {
                self.done.closed.fetch_add(1, Ordering::Relaxed);
            }
        };
        loop {
            match states.orders.pop() {
                Some(Order::Open(end)) => {
                    assert!(active.is_none(), "a session is opened over another one");
                    self.done.opened.fetch_add(1, Ordering::Relaxed);
                    active = Some(end);
                }
                Some(Order::Close) => {
                    if let Some(end) = &active {
                        assert!(end.0.load(Ordering::Acquire), "closed, but not ended");
                    }
                    close(&mut active);
                    states.set_free();
                }
                Some(Order::Exit) => {
                    close(&mut active);
                    return;
                }
                None => {}
            }
            if !states.orders.is_empty() {
                continue;
            }
            if active.is_some() && std::mem::take(&mut fails) {
                close(&mut active);
                states.fail();
                continue;
            }
            states.doorbell.wait();
        }
    }

    /// Every session that was opened has been closed.
    fn check(&self) {
        let count = |n: &AtomicU32| n.load(Ordering::Relaxed);
        assert_eq!(count(&self.done.opened), count(&self.done.closed));
    }
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(f);
}

fn spawn(channel: &Arc<Channel>, f: impl FnOnce(&Channel) + 'static) -> thread::JoinHandle<()> {
    let channel = Arc::clone(channel);
    thread::spawn(move || f(&channel))
}

#[test]
fn one_of_two_claims_wins() {
    model(|| {
        let channel = Channel::new();
        let worker = spawn(&channel, |c| c.work(false));
        let won = Arc::new(AtomicU32::new(0));
        let other = {
            let won = Arc::clone(&won);
            spawn(&channel, move |c| {
                if c.states.claim(|| {}).is_ok() {
                    won.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        if channel.states.claim(|| {}).is_ok() {
            won.fetch_add(1, Ordering::Relaxed);
        }
        other.join().expect("claimer");
        assert_eq!(won.load(Ordering::Relaxed), 1);
        channel.states.exit();
        worker.join().expect("worker");
        assert_eq!(channel.done.opened.load(Ordering::Relaxed), 1);
        channel.check();
    });
}

/// A release by the owner and one by a reset of the device, and then a new owner: the channel is
/// never stuck, and the new owner's session is its own.
#[test]
fn a_channel_that_is_released_twice_at_once_is_taken_over() {
    model(|| {
        let channel = Channel::new();
        let worker = spawn(&channel, |c| c.work(false));
        channel.states.claim(|| {}).expect("free");
        let reset = spawn(&channel, |c| {
            c.states.release(|| {});
        });
        channel.states.release(|| {});
        // The next owner takes it as soon as it is free.
        while channel.states.claim(|| {}).is_err() {
            thread::yield_now();
        }
        reset.join().expect("reset");
        // The reset came before the claim or ended the new session.
        channel.states.release(|| {});
        while channel.states.get() != ChannelState::Free {
            thread::yield_now();
        }
        channel.states.exit();
        worker.join().expect("worker");
        assert_eq!(channel.done.opened.load(Ordering::Relaxed), 2);
        channel.check();
    });
}

/// A session that fails while it is being released: the release goes on.
#[test]
fn a_failing_session_does_not_keep_its_channel() {
    model(|| {
        let channel = Channel::new();
        let worker = spawn(&channel, |c| c.work(true));
        channel.states.claim(|| {}).expect("free");
        channel.states.release(|| {});
        while channel.states.get() != ChannelState::Free {
            thread::yield_now();
        }
        channel.states.claim(|| {}).expect("free again");
        channel.states.exit();
        worker.join().expect("worker");
        channel.check();
    });
}

/// The device's end beside a claim and a release: the worker always returns.
#[test]
fn the_end_of_the_device_ends_the_worker() {
    model(|| {
        let channel = Channel::new();
        let worker = spawn(&channel, |c| c.work(false));
        let guest = spawn(&channel, |c| {
            if c.states.claim(|| {}).is_ok() {
                c.states.release(|| {});
            }
        });
        channel.states.exit();
        worker.join().expect("worker");
        guest.join().expect("guest");
        channel.check();
    });
}
