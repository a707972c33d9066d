//! The state of a channel, shared by the register handlers and the channel's worker.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use vgpu_mediator::cancel::Cancel;
use vgpu_mediator::ledger::Flag;
use vgpu_protocol::regs::{ChannelCommand, ChannelFault, ChannelReg, ChannelState};

use crate::doorbell::Doorbell;
use crate::states::{self, Ends, States};

/// An order for the worker.
pub type Order = states::Order<Arc<Cancel>>;

impl Ends for Arc<Cancel> {
    fn end(&self) {
        self.set();
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Channel {
    /// Number of the channel.
    pub number: u32,
    /// Its state, the orders for its worker, and what wakes it.
    pub states: States<Arc<Cancel>>,
    /// How often the worker has slept and been woken.
    pub wakeups: AtomicU64,
    fault: AtomicU32,
    generation: AtomicU32,
    irq_enable: IrqEnable,
    owner: AtomicU32,
    /// Hears of faults, in a worker process.
    on_fault: Option<OnFault>,
}

/// CHANNEL_IRQ_ENABLE.
#[derive(Debug)]
enum IrqEnable {
    Here(AtomicU32),
    /// Two processes look at it.
    Shared(Flag),
}

impl IrqEnable {
    fn get(&self) -> u32 {
        match self {
            IrqEnable::Here(word) => word.load(Ordering::Relaxed),
            IrqEnable::Shared(flag) => flag.get(),
        }
    }

    fn set(&self, value: u32) {
        match self {
            IrqEnable::Here(word) => word.store(value, Ordering::Relaxed),
            IrqEnable::Shared(flag) => flag.set(value),
        }
    }
}

/// Hears why a channel has failed.
pub struct OnFault(pub Box<dyn Fn(ChannelFault) + Send + Sync>);

impl std::fmt::Debug for OnFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnFault")
    }
}

impl Channel {
    /// A free channel.
    pub fn new(number: u32) -> io::Result<Channel> {
        let irq_enable = IrqEnable::Here(AtomicU32::new(0));
        Ok(Channel::with(number, Doorbell::new()?, None, irq_enable))
    }

    /// A free channel whose doorbell is another process's to read.
    pub fn supervised(number: u32, interrupts: Flag) -> io::Result<Channel> {
        let orders_bell = Some(Doorbell::new()?);
        let irq_enable = IrqEnable::Shared(interrupts);
        Ok(Channel::with(
            number,
            Doorbell::new()?,
            orders_bell,
            irq_enable,
        ))
    }

    /// A channel of a device in another process.
    pub fn in_worker(
        number: u32,
        doorbell: Doorbell,
        interrupts: Flag,
        on_fault: OnFault,
    ) -> Channel {
        Channel {
            on_fault: Some(on_fault),
            ..Channel::with(number, doorbell, None, IrqEnable::Shared(interrupts))
        }
    }

    fn with(
        number: u32,
        doorbell: Doorbell,
        orders_bell: Option<Doorbell>,
        irq_enable: IrqEnable,
    ) -> Channel {
        Channel {
            number,
            states: States::new(doorbell, orders_bell),
            wakeups: AtomicU64::new(0),
            on_fault: None,
            fault: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            irq_enable,
            owner: AtomicU32::new(0),
        }
    }

    /// The channel's state.
    pub fn state(&self) -> ChannelState {
        self.states.get()
    }

    /// True when the guest asked for interrupts.
    pub fn wants_irq(&self) -> bool {
        self.irq_enable.get() & 1 != 0
    }

    /// Value of a register.
    pub fn read(&self, reg: ChannelReg) -> u32 {
        match reg {
            ChannelReg::Doorbell | ChannelReg::Control => 0,
            ChannelReg::State => self.states.bits(),
            ChannelReg::Fault => self.fault.load(Ordering::Relaxed),
            ChannelReg::Generation => self.generation.load(Ordering::Relaxed),
            ChannelReg::IrqEnable => self.irq_enable.get(),
            ChannelReg::Owner => self.owner.load(Ordering::Relaxed),
        }
    }

    /// Writes a register. `prepare` is called before a claimed channel is shown as such.
    ///
    /// # Errors
    /// What is wrong with the write, for the log.
    pub fn write(&self, reg: ChannelReg, value: u32, prepare: impl FnOnce()) -> Result<(), String> {
        match reg {
            ChannelReg::Doorbell => self.states.doorbell.ring(),
            ChannelReg::IrqEnable => self.irq_enable.set(value & 1),
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
        let claimed = self.states.claim(|| {
            prepare();
            self.fault.store(0, Ordering::Relaxed);
            self.irq_enable.set(0);
            self.generation.fetch_add(1, Ordering::Relaxed);
        });
        claimed
            .map_err(|state| format!("channel {} is {state:?}, it cannot be claimed", self.number))
    }

    /// In a worker process: the channel has been claimed, and is to be served.
    pub fn serve(&self) {
        // It was free: it has just been made.
        let _ = self.states.claim(|| ());
    }

    /// Ends what runs and frees the channel; of a free one only the registers are reset.
    pub fn release(&self) {
        self.states.release(|| self.reset_registers());
    }

    /// Ends what runs and the worker with it.
    pub fn exit(&self) {
        self.states.exit();
    }

    /// Worker: sleeps until the doorbell rings, or so much time has passed.
    pub fn sleep(&self, limit: Option<Duration>) {
        match limit {
            None => self.states.doorbell.wait(),
            Some(limit) => self.states.doorbell.wait_for(limit),
        }
        self.wakeups.fetch_add(1, Ordering::Relaxed);
    }

    /// Worker: the session is gone, the channel may be claimed again.
    pub fn set_free(&self) {
        self.reset_registers();
        self.states.set_free();
    }

    fn reset_registers(&self) {
        self.fault.store(0, Ordering::Relaxed);
        self.irq_enable.set(0);
        self.owner.store(0, Ordering::Relaxed);
    }

    /// Worker: the guest broke the protocol, or the device failed it.
    pub fn fail(&self, fault: ChannelFault) {
        self.fault.store(fault as u32, Ordering::Relaxed);
        if let Some(OnFault(hear)) = &self.on_fault {
            hear(fault);
        }
        self.states.fail();
    }
}
