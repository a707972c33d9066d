//! The states of a channel and the orders to its worker, apart from what the worker then does.
//! Register handlers, on any virtual processor, change states; the worker carries orders out.
//!
//! Every interleaving of a few of them is checked in `tests/models`, which takes this file with
//! the model checker's primitives.

use vgpu_protocol::regs::ChannelState;

use super::primitive::{AtomicU32, Doorbell, Mutex, Ordering, Queue, lock};

/// What register handlers ask of a worker. Handlers never wait: they leave an order and go.
#[derive(Debug)]
pub enum Order<C> {
    /// Open a session, to be ended by this.
    Open(C),
    /// End the session and make the channel free.
    Close,
    /// End the session and the thread.
    Exit,
}

/// Orders that may wait: a claim, a release and the device's end. The states below allow no more.
pub const MAX_ORDERS: usize = 4;

/// See the module's documentation. `C` ends a session, see [`Ends`].
#[derive(Debug)]
pub struct States<C> {
    /// Wakes the worker.
    pub doorbell: Doorbell,
    /// Wakes the thread that takes orders, where the worker is in another process.
    pub orders_bell: Option<Doorbell>,
    /// Orders for the worker.
    pub orders: Queue<Order<C>>,
    state: AtomicU32,
    /// Held while a handler changes the state; ends the session that is open.
    current: Mutex<Option<C>>,
}

/// What ends a session from outside, whatever its worker is doing.
pub trait Ends: Clone + Default {
    /// Ends it.
    fn end(&self);
}

impl<C: Ends> States<C> {
    /// A free channel, whose worker is woken by `doorbell`, for orders by `orders_bell`, where it is
    /// another one.
    pub fn new(doorbell: Doorbell, orders_bell: Option<Doorbell>) -> States<C> {
        States {
            doorbell,
            orders_bell,
            orders: Queue::new(MAX_ORDERS),
            state: AtomicU32::new(ChannelState::Free as u32),
            current: Mutex::new(None),
        }
    }

    /// The state as its register shows it.
    pub fn bits(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    /// The state.
    pub fn get(&self) -> ChannelState {
        ChannelState::from_bits(self.bits()).unwrap_or(ChannelState::Failed)
    }

    /// Handler: claims a free channel; `prepare` is called before it is shown as claimed.
    ///
    /// # Errors
    /// The state, where it is not free.
    pub fn claim(&self, prepare: impl FnOnce()) -> Result<(), ChannelState> {
        let mut current = lock(&self.current);
        if self.get() != ChannelState::Free {
            return Err(self.get());
        }
        prepare();
        let ends = C::default();
        *current = Some(ends.clone());
        self.state
            .store(ChannelState::Claimed as u32, Ordering::Release);
        self.order(Order::Open(ends));
        Ok(())
    }

    /// Handler: ends what runs and frees the channel. False where it is free: `is_free` was called.
    pub fn release(&self, is_free: impl FnOnce()) -> bool {
        let mut current = lock(&self.current);
        match self.get() {
            ChannelState::Free => {
                is_free();
                return false;
            }
            ChannelState::Resetting => return true,
            ChannelState::Claimed | ChannelState::Failed => {}
        }
        self.state
            .store(ChannelState::Resetting as u32, Ordering::Release);
        if let Some(ends) = current.take() {
            ends.end();
        }
        self.order(Order::Close);
        true
    }

    /// Ends what runs and the worker with it.
    pub fn exit(&self) {
        let mut current = lock(&self.current);
        if let Some(ends) = current.take() {
            ends.end();
        }
        self.order(Order::Exit);
    }

    /// Only while `current` is held: so orders come in the order of the states.
    fn order(&self, order: Order<C>) {
        // Never full: one claim and one release at a time (see the states), and one exit.
        let lost = self.orders.push(order).is_err();
        debug_assert!(!lost, "an order was lost");
        self.orders_bell.as_ref().unwrap_or(&self.doorbell).ring();
    }

    /// Worker: the session is gone, the channel may be claimed again.
    pub fn set_free(&self) {
        self.state
            .store(ChannelState::Free as u32, Ordering::Release);
    }

    /// Worker: the guest broke the protocol, or the device failed it. A release that came meanwhile
    /// goes on.
    pub fn fail(&self) {
        let _ = self.state.compare_exchange(
            ChannelState::Claimed as u32,
            ChannelState::Failed as u32,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }
}
