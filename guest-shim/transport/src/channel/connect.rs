//! How a channel comes to be: the device and this library understand each other, a channel is claimed, and the host
//! tells of itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use vgpu_protocol::PROTOCOL_HASH;
use vgpu_protocol::calls::{CtxId, HelloInfo, stubs};
use vgpu_protocol::layout::{INDEX_BYTES, Layout, index};
use vgpu_protocol::limits::{MAX_BAR1_BYTES, MAX_CHANNELS, MAX_CLIENT_BYTES};
use vgpu_protocol::message::Assembler;
use vgpu_protocol::regs::{ABI_VERSION, ChannelReg, DeviceStatus, Reg, channel_offset};
use vgpu_protocol::ring::{Consumer, Producer, WindowRing};
use vgpu_protocol::window::OutOfWindow;

use super::replies::Receiver;
use super::{Channel, Sender};
use crate::arena::Arena;
use crate::bars::Bars;
use crate::calls::Calls;
use crate::claim;
use crate::error::ConnectError;
use crate::log_calls;

/// How long a device that has just appeared may take to become ready.
const READY_TIME: Duration = Duration::from_secs(5);

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Checks that the device and this library understand each other; gives its layout.
fn check(bars: &dyn Bars) -> Result<Layout, ConnectError> {
    let read = |reg: Reg| bars.read32(reg.offset());
    let abi = read(Reg::AbiVersion)?;
    if abi >> 16 != ABI_VERSION >> 16 {
        return Err(ConnectError::AbiVersion {
            device: abi,
            library: ABI_VERSION,
        });
    }
    let hash = pair(read(Reg::HashLo)?, read(Reg::HashHi)?);
    if hash != PROTOCOL_HASH {
        // The host's user is told, too. An older device has no such register, and ignores it.
        let _ = bars.write32(Reg::GuestHash.offset(), PROTOCOL_HASH as u32);
        return Err(ConnectError::ProtocolHash {
            device: hash,
            library: PROTOCOL_HASH,
        });
    }
    let start = Instant::now();
    loop {
        let status = read(Reg::Status)?;
        let bits = DeviceStatus::from_bits_truncate(status);
        if bits.contains(DeviceStatus::BROKEN) {
            return Err(ConnectError::Broken { status });
        }
        if bits.contains(DeviceStatus::READY) {
            break;
        }
        if start.elapsed() >= READY_TIME {
            return Err(ConnectError::NotReady {
                status,
                seconds: READY_TIME.as_secs(),
            });
        }
        thread::sleep(Duration::from_millis(10));
    }
    let bar1_bytes = pair(read(Reg::Bar1SizeLo)?, read(Reg::Bar1SizeHi)?);
    Layout::new(
        bar1_bytes.min(2 * MAX_BAR1_BYTES),
        read(Reg::Channels)?.min(MAX_CHANNELS + 1),
    )
    .map_err(|e| ConnectError::Layout(e.to_string()))
}

/// Name of this program, as the host's counters show it.
fn client() -> String {
    let name = std::env::args_os().next().unwrap_or_default();
    let mut name = name.to_string_lossy().into_owned();
    let mut end = name.len().min(MAX_CLIENT_BYTES as usize);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

impl Channel {
    /// Claims a channel of the device.
    pub fn open(bars: Box<dyn Bars>) -> Result<Channel, ConnectError> {
        log_calls!("Found VGPU-STUB at {}", bars.found());
        let layout = check(&*bars)?;
        let number = claim::claim(&*bars, layout.channels)?;
        let opened = Channel::over(bars, &layout, number)?;
        log_calls!(
            "Connected to VGPU-STUB (vm_id={}, data_path=BAR1)",
            opened.hello.vm_id
        );
        Ok(opened)
    }

    fn over(bars: Box<dyn Bars>, layout: &Layout, number: u32) -> Result<Channel, ConnectError> {
        let area = bars.open(layout, number)?;
        let outside = |e: OutOfWindow| ConnectError::Layout(e.to_string());
        let index = area.slice(0, INDEX_BYTES).map_err(outside)?;
        let command = area
            .slice(layout.command_ring(), layout.command_bytes)
            .map_err(outside)?;
        let reply = area
            .slice(layout.reply_ring(), layout.reply_bytes)
            .map_err(outside)?;
        let arena = area
            .slice(layout.arena(), layout.arena_bytes)
            .map_err(outside)?;
        let command = WindowRing::new(index, index::COMMAND_HEAD, index::COMMAND_PARKED, command)
            .map_err(outside)?;
        let reply = WindowRing::new(index, index::REPLY_HEAD, index::REPLY_PARKED, reply)
            .map_err(outside)?;
        let mut channel = Channel {
            bars,
            number,
            index,
            arena: Arena::new(index, arena),
            sender: Mutex::new(Sender {
                ring: Producer::new(command),
                seq: 0,
            }),
            receiver: Mutex::new(Receiver {
                ring: Consumer::new(reply),
                assembler: Assembler::default(),
                payload: Vec::new(),
            }),
            mail: Mutex::new(HashMap::new()),
            letters: AtomicUsize::new(0),
            suspects: Mutex::default(),
            suspecting: AtomicBool::new(false),
            calls: Calls::default(),
            doorbells: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            dead: AtomicU32::new(0),
            output: AtomicBool::new(false),
            on_output: OnceLock::new(),
            // On one core the thread that spins may be what keeps the answer from being written.
            spins: thread::available_parallelism().is_ok_and(|n| n.get() > 1),
            interrupts: AtomicBool::new(false),
            sync: std::env::var_os("VGPU_SYNC").is_some_and(|v| v != "0" && !v.is_empty()),
            hello: HelloInfo::default(),
        };
        channel.hello = stubs::hello(&channel, CtxId(0), &client(), std::process::id())
            .map_err(ConnectError::Refused)?;
        if channel.bars.interrupts() {
            let enable = channel_offset(number, ChannelReg::IrqEnable);
            channel.bars.write32(enable, 1)?;
            channel.interrupts.store(true, Ordering::Relaxed);
            log_calls!("channel {number}: replies interrupt");
        }
        Ok(channel)
    }
}
