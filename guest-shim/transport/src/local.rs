//! The device without QEMU: `vgpu-local` serves its registers over a socket (`VGPU_LOCAL=PATH`).
//!
//! The socket is AF_UNIX SOCK_SEQPACKET, one connection per process. The first packet comes from
//! the server: the magic `VGPULOC1`, u32 channels, u32 zero, u64 BAR0 bytes, u64 BAR1 bytes, with
//! the BAR1 memfd and one eventfd per channel (its doorbell) attached. Then each request of 24
//! bytes (u32 op: 0 read, 1 write; u32 size; u64 BAR0 offset; u64 value) is answered with 8 bytes.
//! Closing the connection releases what was claimed through it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use vgpu_protocol::layout::Layout;
use vgpu_protocol::regs::{ChannelReg, channel_offset};
use vgpu_protocol::window::Window;

use crate::bars::{Bars, HeapPiece, PciAddress};
use crate::error::ConnectError;
use crate::sys::{self, Mapping};

/// First bytes of the server's greeting.
pub const GREETING: &[u8; 8] = b"VGPULOC1";
/// Length of the greeting, in bytes.
pub const GREETING_BYTES: usize = 32;
/// Length of a request, in bytes.
pub const REQUEST_BYTES: usize = 24;

/// A connection to `vgpu-local`.
#[derive(Debug)]
pub struct LocalBars {
    path: PathBuf,
    // Requests and answers alternate: one thread at a time.
    socket: Mutex<()>,
    connection: OwnedFd,
    memory: OwnedFd,
    doorbells: Vec<File>,
    own: OnceLock<(u32, Mapping)>,
}

impl LocalBars {
    /// Connects to the server that listens at `path`.
    pub fn connect(path: &Path) -> Result<LocalBars, ConnectError> {
        let what = format!("VGPU_LOCAL={}", path.display());
        let connection = sys::connect_seqpacket(path).map_err(ConnectError::io(what.clone()))?;
        let mut greeting = [0; GREETING_BYTES];
        let (bytes, mut descriptors) = sys::receive(connection.as_fd(), &mut greeting)
            .map_err(ConnectError::io(what.clone()))?;
        let channels = u32::from_le_bytes([greeting[8], greeting[9], greeting[10], greeting[11]]);
        let complete = bytes == GREETING_BYTES
            && greeting.starts_with(GREETING)
            && descriptors.len() as u64 == u64::from(channels) + 1;
        if !complete {
            return Err(ConnectError::io(what)(std::io::Error::other(
                "the server does not greet like vgpu-local",
            )));
        }
        let memory = descriptors.remove(0);
        Ok(LocalBars {
            path: path.into(),
            socket: Mutex::new(()),
            connection,
            memory,
            doorbells: descriptors.into_iter().map(File::from).collect(),
            own: OnceLock::new(),
        })
    }

    fn request(&self, op: u32, offset: u64, value: u64) -> Result<u64, ConnectError> {
        let mut packet = [0; REQUEST_BYTES];
        packet[0..4].copy_from_slice(&op.to_le_bytes());
        packet[4..8].copy_from_slice(&4u32.to_le_bytes());
        packet[8..16].copy_from_slice(&offset.to_le_bytes());
        packet[16..24].copy_from_slice(&value.to_le_bytes());
        let failed = || ConnectError::io(format!("vgpu-local at {}", self.path.display()));
        let _turn = self.socket.lock().unwrap_or_else(|e| e.into_inner());
        sys::send(self.connection.as_fd(), &packet).map_err(failed())?;
        let mut answer = [0; 8];
        match sys::receive(self.connection.as_fd(), &mut answer).map_err(failed())? {
            (8, _) => Ok(u64::from_le_bytes(answer)),
            _ => Err(failed()(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

impl Bars for LocalBars {
    fn found(&self) -> String {
        format!("{} (vgpu-local, match=local)", self.path.display())
    }

    fn address(&self) -> Option<PciAddress> {
        None
    }

    fn read32(&self, offset: u64) -> Result<u32, ConnectError> {
        self.request(0, offset, 0).map(|v| v as u32)
    }

    fn write32(&self, offset: u64, value: u32) -> Result<(), ConnectError> {
        self.request(1, offset, value.into()).map(drop)
    }

    fn open(&self, layout: &Layout, channel: u32) -> Result<Window, ConnectError> {
        let area = Mapping::new(
            self.memory.as_fd(),
            layout.area(channel),
            layout.area_bytes as usize,
        )
        .map_err(ConnectError::io("mmap BAR1 of vgpu-local"))?;
        let window = area.window();
        if self.own.set((channel, area)).is_err() {
            return Err(ConnectError::Layout("the device was opened twice".into()));
        }
        Ok(window)
    }

    fn map_heap(&self, offset: u64, bytes: u64, address: u64) -> Result<HeapPiece, ConnectError> {
        Mapping::near(self.memory.as_fd(), offset, bytes as usize, address)
            .map(HeapPiece::new)
            .map_err(ConnectError::io("mmap the heap of vgpu-local's BAR1"))
    }

    fn ring(&self) {
        if let Some((channel, _)) = self.own.get()
            && let Some(mut doorbell) = self.doorbells.get(*channel as usize)
        {
            // An eventfd takes any number of writes; should the server be gone, waiting notices.
            let _ = doorbell.write_all(&1u64.to_le_bytes());
        }
    }

    fn try_lock(&self, channel: u32) -> Result<bool, ConnectError> {
        sys::try_lock(self.memory.as_fd(), channel).map_err(ConnectError::io("lock BAR1's memfd"))
    }

    fn unlock(&self, channel: u32) {
        sys::unlock(self.memory.as_fd(), channel);
    }

    fn releases_by_itself(&self) -> bool {
        true
    }

    fn owned_here(&self, channel: u32) -> bool {
        // A dead owner's channel frees itself when its connection closes, so a channel that
        // carries our process id is that of another copy of this library.
        self.read32(channel_offset(channel, ChannelReg::Owner)).ok() == Some(std::process::id())
    }

    fn descriptors(&self) -> Vec<i32> {
        let mut all = vec![self.connection.as_raw_fd(), self.memory.as_raw_fd()];
        all.extend(self.doorbells.iter().map(AsRawFd::as_raw_fd));
        all
    }
}
