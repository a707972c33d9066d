//! The state of a channel, shared by the register handlers and the channel's worker.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;
use vgpu_mediator::cancel::Cancel;
use vgpu_protocol::regs::{ChannelCommand, ChannelFault, ChannelReg, ChannelState};

use crate::doorbell::Doorbell;

/// What register handlers ask of a worker. Handlers never wait: they leave an order and go.
#[derive(Debug)]
pub enum Order {
    /// Open a session, to be ended by this.
    Open(Arc<Cancel>),
    /// End the session and make the channel free.
    Close,
    /// End the session and the thread.
    Exit,
}

/// Orders that may wait: a claim, a release and the device's end. The states below allow no more.
const MAX_ORDERS: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub struct Channel {
    /// Number of the channel.
    pub number: u32,
    /// Wakes the worker.
    pub doorbell: Doorbell,
    /// Orders for the worker.
    pub orders: ArrayQueue<Order>,
    state: AtomicU32,
    fault: AtomicU32,
    generation: AtomicU32,
    irq_enable: AtomicU32,
    owner: AtomicU32,
    cancel: Mutex<Option<Arc<Cancel>>>,
}

impl Channel {
    /// A free channel.
    pub fn new(number: u32) -> io::Result<Channel> {
        Ok(Channel {
            number,
            doorbell: Doorbell::new()?,
            orders: ArrayQueue::new(MAX_ORDERS),
            state: AtomicU32::new(ChannelState::Free as u32),
            fault: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            irq_enable: AtomicU32::new(0),
            owner: AtomicU32::new(0),
            cancel: Mutex::new(None),
        })
    }

    /// The channel's state.
    pub fn state(&self) -> ChannelState {
        ChannelState::from_bits(self.state.load(Ordering::Acquire)).unwrap_or(ChannelState::Failed)
    }

    /// True when the guest asked for interrupts.
    pub fn wants_irq(&self) -> bool {
        self.irq_enable.load(Ordering::Relaxed) & 1 != 0
    }

    /// Value of a register.
    pub fn read(&self, reg: ChannelReg) -> u32 {
        match reg {
            ChannelReg::Doorbell | ChannelReg::Control => 0,
            ChannelReg::State => self.state.load(Ordering::Acquire),
            ChannelReg::Fault => self.fault.load(Ordering::Relaxed),
            ChannelReg::Generation => self.generation.load(Ordering::Relaxed),
            ChannelReg::IrqEnable => self.irq_enable.load(Ordering::Relaxed),
            ChannelReg::Owner => self.owner.load(Ordering::Relaxed),
        }
    }

    /// Writes a register. `prepare` is called before a claimed channel is shown as such.
    ///
    /// # Errors
    /// What is wrong with the write, for the log.
    pub fn write(&self, reg: ChannelReg, value: u32, prepare: impl FnOnce()) -> Result<(), String> {
        match reg {
            ChannelReg::Doorbell => self.doorbell.ring(),
            ChannelReg::IrqEnable => self.irq_enable.store(value & 1, Ordering::Relaxed),
            ChannelReg::Owner => self.owner.store(value, Ordering::Relaxed),
            ChannelReg::Control if value == ChannelCommand::Claim as u32 => {
                return self.claim(prepare);
            }
            ChannelReg::Control if value == ChannelCommand::Release as u32 => self.release(),
            ChannelReg::Control => {
                return Err(format!(
                    "CHANNEL_CONTROL of channel {}: no command {value}",
                    self.number
                ));
            }
            ChannelReg::State | ChannelReg::Fault | ChannelReg::Generation => {
                return Err(format!(
                    "channel {}: write to a read-only register",
                    self.number
                ));
            }
        }
        Ok(())
    }

    fn claim(&self, prepare: impl FnOnce()) -> Result<(), String> {
        let mut cancel = self.cancel.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state() != ChannelState::Free {
            return Err(format!(
                "channel {} is {:?}, it cannot be claimed",
                self.number,
                self.state()
            ));
        }
        prepare();
        let ends = Arc::new(Cancel::default());
        *cancel = Some(Arc::clone(&ends));
        self.fault.store(0, Ordering::Relaxed);
        self.irq_enable.store(0, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.state
            .store(ChannelState::Claimed as u32, Ordering::Release);
        self.order(Order::Open(ends));
        Ok(())
    }

    /// Ends what runs and frees the channel; of a free one only the registers are reset.
    pub fn release(&self) {
        let mut cancel = self.cancel.lock().unwrap_or_else(PoisonError::into_inner);
        match self.state() {
            ChannelState::Free => return self.reset_registers(),
            ChannelState::Resetting => return,
            ChannelState::Claimed | ChannelState::Failed => {}
        }
        self.state
            .store(ChannelState::Resetting as u32, Ordering::Release);
        if let Some(cancel) = cancel.take() {
            cancel.set();
        }
        self.order(Order::Close);
    }

    /// Ends what runs and the worker with it.
    pub fn exit(&self) {
        if let Some(cancel) = self
            .cancel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            cancel.set();
        }
        self.order(Order::Exit);
    }

    fn order(&self, order: Order) {
        // Never full: one claim and one release at a time (see the states), and one exit.
        if self.orders.push(order).is_err() {
            tracing::error!(channel = self.number, "a channel's order was lost");
        }
        self.doorbell.ring();
    }

    /// Worker: the session is gone, the channel may be claimed again.
    pub fn set_free(&self) {
        self.reset_registers();
        self.state
            .store(ChannelState::Free as u32, Ordering::Release);
    }

    fn reset_registers(&self) {
        self.fault.store(0, Ordering::Relaxed);
        self.irq_enable.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Relaxed);
    }

    /// Worker: the guest broke the protocol, or the device failed it.
    pub fn fail(&self, fault: ChannelFault) {
        self.fault.store(fault as u32, Ordering::Relaxed);
        // A release that came meanwhile goes on.
        let _ = self.state.compare_exchange(
            ChannelState::Claimed as u32,
            ChannelState::Failed as u32,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }
}
