//! The device on a Unix socket, for `vgpu-local`: the same registers, rings, workers and mediator
//! as in QEMU, with guest programs on the host itself.
//!
//! A client connects with SOCK_SEQPACKET and gets one packet: `VGPULOC1`, the number of channels
//! (u32), 4 bytes of zero, the sizes of BAR0 and BAR1 (u64 each), and as SCM_RIGHTS the memfd of
//! BAR1 followed by one eventfd per channel, its doorbell. It then sends packets of 24 bytes:
//! operation (u32: 0 read, 1 write), size (u32), offset in BAR0 (u64), value (u64); each is
//! answered by 8 bytes, the value read or 0. When it goes away, its channels are released.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vgpu_protocol::regs::{self, BAR0_BYTES, ChannelReg, ChannelState, Place};

use crate::config::Config;
use crate::device::{Device, Host};
use crate::memory::SharedMemory;
use crate::socket::{Connection, Listener};

/// First bytes of the greeting.
pub const GREETING: &[u8; 8] = b"VGPULOC1";

/// Most clients at a time: each costs the host a thread.
pub const MAX_CLIENTS: usize = 256;

/// The machine that the device is plugged into when there is no QEMU.
struct NoMachine;

impl Host for NoMachine {
    // Clients poll: there is nobody to interrupt.
    fn raise_irq(&self, _channel: u32) {}
    fn lower_irq(&self) {}
    fn guest_error(&self, message: &str) {
        tracing::warn!("guest error: {message}");
    }
    fn warn(&self, message: &str) {
        tracing::warn!("{message}");
    }
}

/// A device that listens on a socket.
pub struct Server {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    device: Device,
    bar1: OwnedFd,
    doorbells: Vec<OwnedFd>,
    bar1_bytes: u64,
    /// Which client has claimed a channel. Held over a claim or release, so that it has one winner.
    owners: Mutex<BTreeMap<u32, u64>>,
    next_client: AtomicU64,
    clients: Mutex<usize>,
}

impl Server {
    /// Makes the device and binds the socket.
    pub fn bind(path: &Path, config: Config) -> io::Result<Server> {
        let bar1_bytes = config.layout.bar1_bytes;
        let memory = SharedMemory::new(bar1_bytes)?;
        let bar1 = memory.fd().try_clone_to_owned()?;
        let device = Device::new(config, memory, Arc::new(NoMachine)).map_err(io::Error::other)?;
        let doorbells = device
            .doorbells()
            .map(|(_, fd)| fd.try_clone_to_owned())
            .collect::<Result<_, _>>()?;
        let shared = Shared {
            device,
            bar1,
            doorbells,
            bar1_bytes,
            owners: Mutex::new(BTreeMap::new()),
            next_client: AtomicU64::new(0),
            clients: Mutex::new(0),
        };
        Ok(Server {
            listener: Listener::bind(path)?,
            shared: Arc::new(shared),
        })
    }

    /// Serves clients for ever.
    pub fn run(&self) -> io::Result<()> {
        loop {
            let connection = self.listener.accept()?;
            let shared = Arc::clone(&self.shared);
            {
                let mut clients = shared.clients();
                if *clients >= MAX_CLIENTS {
                    tracing::warn!(MAX_CLIENTS, "a client was turned away");
                    continue;
                }
                *clients += 1;
            }
            let started = std::thread::Builder::new()
                .name("vgpu-local-client".into())
                .spawn(move || {
                    let client = shared.next_client.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = shared.serve(&connection, client) {
                        tracing::debug!(%error, "a client's connection ended");
                    }
                    shared.release_all(client);
                    *shared.clients() -= 1;
                });
            if let Err(error) = started {
                tracing::error!(%error, "no thread for a client: it was turned away");
                *self.shared.clients() -= 1;
            }
        }
    }
}

impl Shared {
    fn serve(&self, connection: &Connection, client: u64) -> io::Result<()> {
        let mut greeting = Vec::with_capacity(32);
        greeting.extend_from_slice(GREETING);
        greeting.extend_from_slice(&(self.doorbells.len() as u32).to_le_bytes());
        greeting.extend_from_slice(&[0; 4]);
        greeting.extend_from_slice(&BAR0_BYTES.to_le_bytes());
        greeting.extend_from_slice(&self.bar1_bytes.to_le_bytes());
        let fds: Vec<_> = std::iter::once(self.bar1.as_fd())
            .chain(self.doorbells.iter().map(AsFd::as_fd))
            .collect();
        connection.send(&greeting, &fds)?;
        let mut packet = [0u8; 24];
        loop {
            match connection.receive(&mut packet)? {
                0 => return Ok(()),
                24 => {}
                other => {
                    return Err(io::Error::other(format!(
                        "a packet of {other} bytes, allowed are 24"
                    )));
                }
            }
            let u32_at = |i: usize| {
                u32::from_le_bytes([packet[i], packet[i + 1], packet[i + 2], packet[i + 3]])
            };
            let u64_at = |i: usize| u64::from(u32_at(i)) | u64::from(u32_at(i + 4)) << 32;
            let (operation, size, offset, value) = (u32_at(0), u32_at(4), u64_at(8), u64_at(16));
            let answer = match operation {
                0 => self.device.mmio_read(offset, size),
                1 => {
                    self.write(offset, size, value, client);
                    0
                }
                other => {
                    return Err(io::Error::other(format!(
                        "operation {other}, allowed are 0 and 1"
                    )));
                }
            };
            connection.send(&answer.to_le_bytes(), &[])?;
        }
    }

    fn clients(&self) -> MutexGuard<'_, usize> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> MutexGuard<'_, BTreeMap<u32, u64>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write, with note of who claims a channel.
    fn write(&self, offset: u64, size: u32, value: u64, client: u64) {
        let Place::Channel(number, ChannelReg::Control) = regs::decode(offset) else {
            return self.device.mmio_write(offset, size, value);
        };
        let mut owners = self.owners();
        let state = || {
            self.device
                .mmio_read(regs::channel_offset(number, ChannelReg::State), 4) as u32
        };
        let free = ChannelState::Free as u32;
        let before = state();
        self.device.mmio_write(offset, size, value);
        if before == free && state() != free {
            // Whoever had it before has nothing to do with it any more.
            owners.insert(number, client);
        }
    }

    /// Releases what a client that has gone had claimed and nobody has claimed since.
    fn release_all(&self, client: u64) {
        let mut owners = self.owners();
        owners.retain(|channel, owner| {
            if *owner == client {
                self.device.release_channel(*channel);
            }
            *owner != client
        });
    }
}
