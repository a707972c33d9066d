//! Takes a channel: a free one, or one whose owner was killed.
//!
//! A process holds a record lock on the byte of its channel for as long as it lives. Whoever gets
//! the lock of a channel that is not free knows that its owner is dead, and releases the channel,
//! which frees what the owner had on the device.

use std::thread;
use std::time::{Duration, Instant};

use vgpu_protocol::regs::{ChannelCommand, ChannelReg, ChannelState, channel_offset};

use crate::bars::Bars;
use crate::error::ConnectError;
use crate::log_debug;

/// How long a channel may take to follow a command. Releasing waits for kernels that still run.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// How long to go on looking while every channel is locked: another process may be holding a lock
/// only to look at its channel.
const BUSY_TIME: Duration = Duration::from_millis(300);

fn state(bars: &dyn Bars, channel: u32) -> Result<Option<ChannelState>, ConnectError> {
    bars.read32(channel_offset(channel, ChannelReg::State))
        .map(ChannelState::from_bits)
}

fn command(bars: &dyn Bars, channel: u32, what: ChannelCommand) -> Result<(), ConnectError> {
    bars.write32(channel_offset(channel, ChannelReg::Control), what as u32)
}

/// Claims a channel that is free and whose lock this process has.
fn take(bars: &dyn Bars, channel: u32) -> Result<(), ConnectError> {
    command(bars, channel, ChannelCommand::Claim)?;
    let deadline = Instant::now() + COMMAND_TIME;
    loop {
        match state(bars, channel)? {
            Some(ChannelState::Claimed) => break,
            Some(ChannelState::Free) if Instant::now() < deadline => {
                thread::sleep(Duration::from_micros(100));
            }
            other => {
                return Err(ConnectError::ChannelStuck {
                    channel,
                    state: other.map_or(u32::MAX, |s| s as u32),
                    fault: bars.read32(channel_offset(channel, ChannelReg::Fault))?,
                });
            }
        }
    }
    bars.write32(
        channel_offset(channel, ChannelReg::Owner),
        std::process::id(),
    )
}

/// What one look at all channels found.
struct Look {
    taken: Option<u32>,
    /// A channel that nobody owns is being freed.
    resetting: Option<u32>,
}

fn look(bars: &dyn Bars, channels: u32) -> Result<Look, ConnectError> {
    let mut found = Look {
        taken: None,
        resetting: None,
    };
    for channel in 0..channels {
        if !bars.try_lock(channel)? {
            continue;
        }
        let now = state(bars, channel)?;
        match now {
            Some(ChannelState::Free) if found.taken.is_none() => match take(bars, channel) {
                Ok(()) => {
                    found.taken = Some(channel);
                    // Keeps its lock.
                    continue;
                }
                Err(error) => {
                    bars.unlock(channel);
                    return Err(error);
                }
            },
            Some(ChannelState::Free) => {}
            Some(ChannelState::Resetting) => found.resetting = Some(channel),
            // The lock does not keep copies of this library in one process apart, and giving it
            // back would give back theirs.
            _ if bars.owned_here(channel) => continue,
            _ if bars.releases_by_itself() => found.resetting = Some(channel),
            _ => {
                log_debug!("channel {channel}: its owner is gone, releasing what it had");
                command(bars, channel, ChannelCommand::Release)?;
                found.resetting = Some(channel);
            }
        }
        bars.unlock(channel);
    }
    Ok(found)
}

/// Claims one of `channels` channels and releases every channel of a dead owner on the way.
pub fn claim(bars: &dyn Bars, channels: u32) -> Result<u32, ConnectError> {
    let start = Instant::now();
    loop {
        let found = look(bars, channels)?;
        if let Some(channel) = found.taken {
            return Ok(channel);
        }
        let (time, error) = match found.resetting {
            Some(channel) => (
                COMMAND_TIME,
                ConnectError::ChannelStuck {
                    channel,
                    state: ChannelState::Resetting as u32,
                    fault: 0,
                },
            ),
            None => (BUSY_TIME, ConnectError::NoFreeChannel { channels }),
        };
        if start.elapsed() >= time {
            return Err(error);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Gives a claimed channel back.
pub fn release(bars: &dyn Bars, channel: u32) -> Result<(), ConnectError> {
    command(bars, channel, ChannelCommand::Release)
}
