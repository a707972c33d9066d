//! Memory of a session that belongs to none of its contexts: physical allocations mapped into
//! reserved addresses (`cuMemMap`), and host memory that the GPU reaches directly.
//!
//! | what | where |
//! |---|---|
//! | reserved addresses | regions without memory: they cost nothing |
//! | physical memory | pieces of one memfd per session, mapped over reserved addresses, at several places where the program asks for it |
//! | windows | memory of the host that lives elsewhere (BAR1), under its own address |
//!
//! What a mapping must not be while work is in flight is the caller's to see to: it lets the
//! session's work end before it unmaps.
#![allow(unsafe_code)] // mmap over regions that the value owns

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vgpu_protocol::ranges::{FreeRanges, Permission, Piece, Pieces};
use vgpu_protocol::window::Window;

use crate::addresses::{GRANULARITY, Region};
use crate::memory::{AccessError, Range};

/// Why something cannot be mapped or reserved.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// The addresses, size or alignment are not possible.
    #[error("addresses {addr:#x} and {bytes} bytes are not possible here")]
    Invalid {
        /// First address.
        addr: u64,
        /// Bytes.
        bytes: u64,
    },
    /// There is no room left.
    #[error("no room for {0} bytes")]
    Full(u64),
    /// The operating system refuses.
    #[error("the operating system refuses: {0}")]
    System(#[from] io::Error),
}

/// Physical memory, named by its place in the session's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Physical {
    offset: u64,
    bytes: u64,
}

impl Physical {
    /// Its size.
    pub fn bytes(self) -> u64 {
        self.bytes
    }
}

/// What is at a piece of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Physical memory; accesses may run on into what is mapped next to it.
    Mapping,
    /// Memory of the host.
    Window,
}

fn joins(a: &Place, b: &Place) -> bool {
    *a == Place::Mapping && *b == Place::Mapping
}

#[derive(Default)]
struct State {
    reservations: BTreeMap<u64, Region>,
    pieces: Pieces<Place>,
    file: Option<File>,
    physical: FreeRanges,
    file_bytes: u64,
}

/// See the module's documentation.
#[derive(Default)]
pub struct Unified {
    state: RwLock<State>,
    /// Changes with every change of what is accessible.
    version: AtomicU64,
}

impl State {
    /// Where a range of reserved addresses lies.
    fn reserved(&self, addr: u64, bytes: u64) -> Option<*mut u8> {
        let (&base, r) = self.reservations.range(..=addr).next_back()?;
        let offset = addr - base;
        let inside = offset < r.bytes() && bytes <= r.bytes() - offset;
        inside.then(|| r.ptr().wrapping_add(offset as usize))
    }

    /// The mappings that fill a range exactly.
    fn mappings(&self, addr: u64, bytes: u64) -> Result<Vec<u64>, MapError> {
        let whole = self.pieces.whole(addr, bytes);
        let mapped = |at: &u64| {
            let piece = self.pieces.get(*at);
            piece.is_some_and(|p| p.what == Place::Mapping)
        };
        whole
            .filter(|all| all.iter().all(mapped))
            .ok_or(MapError::Invalid { addr, bytes })
    }

    /// Takes the memory out of reserved addresses.
    fn unmap(&self, addr: u64, bytes: u64) -> io::Result<()> {
        let Some(host) = self.reserved(addr, bytes) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // SAFETY: the range lies inside a region of this value, and the caller has let the work
        // end that may use it.
        let p = unsafe {
            libc::mmap(
                host.cast(),
                bytes as usize,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

impl Unified {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// A number that is another one after each change of what is accessible.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Reserves addresses, at `hint` where that is free.
    pub fn reserve(&self, bytes: u64, align: u64, hint: u64) -> Result<u64, MapError> {
        let align = align.max(GRANULARITY);
        if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) || !align.is_power_of_two() {
            return Err(MapError::Invalid { addr: hint, bytes });
        }
        let region =
            Region::new(bytes, align, hint, false).map_err(|error| match error.kind() {
                io::ErrorKind::OutOfMemory => MapError::Full(bytes),
                _ => error.into(),
            })?;
        let base = region.base();
        self.state_mut().reservations.insert(base, region);
        Ok(base)
    }

    /// Gives a whole reservation back, in which nothing may be mapped.
    pub fn unreserve(&self, addr: u64, bytes: u64) -> Result<(), MapError> {
        let mut state = self.state_mut();
        let matches = state
            .reservations
            .get(&addr)
            .is_some_and(|r| r.bytes() == bytes);
        if !matches || !state.pieces.is_free(addr, bytes) {
            return Err(MapError::Invalid { addr, bytes });
        }
        state.reservations.remove(&addr);
        Ok(())
    }

    /// Makes zeroed physical memory.
    pub fn create(&self, bytes: u64) -> Result<Physical, MapError> {
        if bytes == 0 || !bytes.is_multiple_of(GRANULARITY) {
            return Err(MapError::Invalid { addr: 0, bytes });
        }
        let mut state = self.state_mut();
        if state.file.is_none() {
            // SAFETY: the name is a NUL-terminated literal; the call returns a descriptor or -1.
            let fd = unsafe { libc::memfd_create(c"vgpu-soft-memory".as_ptr(), libc::MFD_CLOEXEC) };
            if fd < 0 {
                return Err(io::Error::last_os_error().into());
            }
            // SAFETY: a descriptor that was just made and that nobody else owns.
            state.file = Some(unsafe { File::from_raw_fd(fd) });
        }
        let offset = match state.physical.take(bytes, GRANULARITY) {
            Some(offset) => offset,
            None => {
                let offset = state.file_bytes;
                let end = offset.checked_add(bytes).filter(|e| *e < 1 << 62);
                let end = end.ok_or(MapError::Full(bytes))?;
                if let Some(file) = &state.file {
                    file.set_len(end)?;
                }
                state.file_bytes = end;
                offset
            }
        };
        Ok(Physical { offset, bytes })
    }

    /// Gives physical memory back, which nothing may map any more. Its pages go to the operating
    /// system, and whoever gets the place next finds zeros.
    pub fn destroy(&self, physical: Physical) {
        let mut state = self.state_mut();
        let punched = state.file.as_ref().is_some_and(|file| {
            // SAFETY: takes a descriptor that is open, and numbers.
            let done = unsafe {
                libc::fallocate(
                    file.as_raw_fd(),
                    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    physical.offset as libc::off_t,
                    physical.bytes as libc::off_t,
                )
            };
            done == 0
        });
        // Memory that could not be cleared is not given out again.
        if punched {
            state.physical.give(physical.offset, physical.bytes);
        }
    }

    /// Maps the first `bytes` of physical memory at reserved addresses where nothing is mapped.
    /// Nobody may access it yet.
    pub fn map(&self, addr: u64, bytes: u64, physical: Physical) -> Result<(), MapError> {
        let invalid = MapError::Invalid { addr, bytes };
        let aligned = addr.is_multiple_of(GRANULARITY) && bytes.is_multiple_of(GRANULARITY);
        if !aligned || bytes == 0 || bytes > physical.bytes {
            return Err(invalid);
        }
        let mut state = self.state_mut();
        let Some(host) = state.reserved(addr, bytes) else {
            return Err(invalid);
        };
        let Some(file) = state
            .file
            .as_ref()
            .filter(|_| state.pieces.is_free(addr, bytes))
        else {
            return Err(invalid);
        };
        // SAFETY: `host..host + bytes` lies inside a reservation of this value, where nothing is
        // mapped: no memory in use is replaced. The file has the physical memory's bytes.
        let p = unsafe {
            libc::mmap(
                host.cast(),
                bytes as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                physical.offset as libc::off_t,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        let piece = Piece {
            bytes,
            permission: Permission::None,
            what: Place::Mapping,
        };
        state.pieces.insert(addr, piece);
        Ok(())
    }

    /// Unmaps whole mappings that fill the range; no work may use them. Returns where they began.
    pub fn unmap(&self, addr: u64, bytes: u64) -> Result<Vec<u64>, MapError> {
        let mut state = self.state_mut();
        let found = state.mappings(addr, bytes)?;
        for at in &found {
            let bytes = state.pieces.get(*at).map_or(0, |p| p.bytes);
            state.unmap(*at, bytes)?;
            state.pieces.remove(*at);
        }
        drop(state);
        self.changed();
        Ok(found)
    }

    /// Says who may access whole mappings that fill the range.
    pub fn set_permission(
        &self,
        addr: u64,
        bytes: u64,
        permission: Permission,
    ) -> Result<(), MapError> {
        let mut state = self.state_mut();
        for at in state.mappings(addr, bytes)? {
            if let Some(piece) = state.pieces.get_mut(at) {
                piece.permission = permission;
            }
        }
        drop(state);
        self.changed();
        Ok(())
    }

    /// Makes memory of the host accessible, at its own address.
    ///
    /// # Safety
    /// `host` is valid for reads and writes of `bytes` bytes, and no Rust reference to them
    /// exists, until [`close_window`](Unified::close_window) has been called, after the session's
    /// work has ended, or the value and all spaces over it are dropped.
    pub unsafe fn open_window(&self, host: *mut u8, bytes: u64) -> Result<(), MapError> {
        let addr = host as u64;
        let piece = Piece {
            bytes,
            permission: Permission::ReadWrite,
            what: Place::Window,
        };
        if !self.state_mut().pieces.insert(addr, piece) {
            return Err(MapError::Invalid { addr, bytes });
        }
        self.changed();
        Ok(())
    }

    /// The same for memory that lives as long as a copy of its window is used, which is until it is
    /// closed.
    pub fn show(&self, window: Window) -> Result<(), MapError> {
        // SAFETY: the contract of `Window::new`: valid as long as a copy of it is used, without any
        // reference to the memory.
        unsafe { self.open_window(window.base(), window.len() as u64) }
    }

    /// Takes a window away; no work may use it. False where none begins at `addr`.
    pub fn close_window(&self, addr: u64) -> bool {
        let mut state = self.state_mut();
        let window = state.pieces.get(addr).map(|p| p.what);
        if window != Some(Place::Window) {
            return false;
        }
        state.pieces.remove(addr);
        drop(state);
        self.changed();
        true
    }

    /// Host pointer of a range, checked to be accessible. Mappings that follow each other are one
    /// range.
    pub fn host_range(
        &self,
        addr: u64,
        bytes: u64,
        write: bool,
    ) -> Result<(*mut u8, usize), AccessError> {
        let state = self.state();
        let first = state.pieces.reach(addr, bytes, write, joins);
        first.ok_or(AccessError { addr, bytes })?;
        Ok((addr as *mut u8, bytes as usize))
    }

    /// What kernels may access, sorted, mappings that follow each other as one range.
    pub(crate) fn ranges(&self) -> Vec<Range> {
        let state = self.state();
        let mut all: Vec<Range> = Vec::with_capacity(state.pieces.len());
        let mut last_place = None;
        for (base, piece) in state.pieces.iter() {
            if piece.permission == Permission::None {
                continue;
            }
            let writable = piece.permission.allows(true);
            let joined = last_place.is_some_and(|p| joins(&p, &piece.what));
            last_place = Some(piece.what);
            match all.last_mut() {
                Some(last)
                    if joined && last.base + last.bytes == base && last.writable == writable =>
                {
                    last.bytes += piece.bytes;
                }
                _ => all.push(Range {
                    base,
                    bytes: piece.bytes,
                    writable,
                }),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = GRANULARITY;

    fn bytes_at(u: &Unified, addr: u64, write: bool) -> Option<*mut u8> {
        u.host_range(addr, 1, write).ok().map(|(p, _)| p)
    }

    #[test]
    fn a_reservation_costs_nothing_and_holds_nothing() {
        let u = Unified::default();
        let base = u.reserve(32 << 30, 0, 0).expect("addresses");
        assert!(base.is_multiple_of(G));
        assert!(bytes_at(&u, base, false).is_none());
        assert!(matches!(
            u.reserve(G + 1, 0, 0),
            Err(MapError::Invalid { .. })
        ));
        assert!(matches!(u.reserve(0, 0, 0), Err(MapError::Invalid { .. })));
        assert!(matches!(
            u.reserve(G, 3 * G, 0),
            Err(MapError::Invalid { .. })
        ));
        let all = crate::addresses::ADDRESS_BYTES;
        assert!(matches!(u.reserve(all, 0, 0), Err(MapError::Full(_))));
        let hinted = u.reserve(G, 0, base + (64 << 30)).expect("addresses");
        assert_eq!(hinted, base + (64 << 30));
        assert_ne!(u.reserve(G, 0, base).expect("elsewhere"), base);
        assert!(u.unreserve(base, G).is_err());
        assert!(u.unreserve(base + G, 32 << 30).is_err());
        u.unreserve(base, 32 << 30).expect("freed");
        assert!(u.unreserve(base, 32 << 30).is_err(), "twice");
    }

    #[test]
    fn accesses_run_over_chunks_and_stop_at_what_is_not_mapped() {
        let u = Unified::default();
        let base = u.reserve(8 * G, 0, 0).expect("addresses");
        let chunks: Vec<Physical> = (0..3).map(|_| u.create(G).expect("memory")).collect();
        // Not in the order of the file.
        for (i, chunk) in chunks.iter().rev().enumerate() {
            u.map(base + i as u64 * G, G, *chunk).expect("mapped");
        }
        assert!(bytes_at(&u, base, false).is_none(), "no access yet");
        assert!(u.ranges().is_empty());
        u.set_permission(base, 2 * G, Permission::ReadWrite)
            .expect("set");
        assert!(u.host_range(base + G - 8, 16, true).is_ok());
        assert!(u.host_range(base, 2 * G, true).is_ok());
        assert!(u.host_range(base, 2 * G + 1, true).is_err());
        assert!(u.host_range(base + 2 * G, 1, false).is_err());
        u.set_permission(base + 2 * G, G, Permission::Read)
            .expect("set");
        assert!(u.host_range(base, 3 * G, false).is_ok());
        assert!(u.host_range(base, 3 * G, true).is_err());
        assert!(u.host_range(base, 3 * G + 1, false).is_err());
        let ranges: Vec<(u64, u64, bool)> = u
            .ranges()
            .iter()
            .map(|r| (r.base, r.bytes, r.writable))
            .collect();
        assert_eq!(ranges, [(base, 2 * G, true), (base + 2 * G, G, false)]);
        // Only whole mappings are unmapped or get access.
        assert!(u.unmap(base, G / 2).is_err());
        assert!(u.unmap(base + G, 3 * G).is_err());
        assert!(u.set_permission(base + G / 2, G, Permission::None).is_err());
        assert!(u.unreserve(base, 8 * G).is_err(), "something is mapped");
        assert_eq!(u.unmap(base, 3 * G).expect("unmapped").len(), 3);
        assert!(bytes_at(&u, base, false).is_none());
        u.unreserve(base, 8 * G).expect("freed");
    }

    #[test]
    fn the_same_memory_is_seen_at_two_places_and_is_zero_again_later() {
        let u = Unified::default();
        let base = u.reserve(4 * G, 0, 0).expect("addresses");
        let chunk = u.create(G).expect("memory");
        for at in [base, base + 2 * G] {
            u.map(at, G, chunk).expect("mapped");
            u.set_permission(at, G, Permission::ReadWrite).expect("set");
        }
        assert!(u.map(base, G, chunk).is_err(), "taken");
        assert!(
            u.map(base + G, 2 * G, chunk).is_err(),
            "longer than the memory"
        );
        assert!(u.map(base + 4 * G, G, chunk).is_err(), "not reserved");
        assert!(u.map(base + 1, G, chunk).is_err(), "not aligned");
        let (one, _) = u.host_range(base + 5, 1, true).expect("inside");
        let (two, _) = u.host_range(base + 2 * G + 5, 1, false).expect("inside");
        // SAFETY: both addresses were checked to be mapped.
        unsafe {
            one.write_volatile(77);
            assert_eq!(two.read_volatile(), 77);
        }
        u.unmap(base, G).expect("unmapped");
        u.unmap(base + 2 * G, G).expect("unmapped");
        u.destroy(chunk);
        let again = u.create(G).expect("memory");
        assert_eq!(again, chunk, "the place is used again");
        u.map(base, G, again).expect("mapped");
        u.set_permission(base, G, Permission::Read).expect("set");
        let (one, _) = u.host_range(base + 5, 1, false).expect("inside");
        // SAFETY: as above.
        assert_eq!(unsafe { one.read_volatile() }, 0);
    }

    #[test]
    fn windows_do_not_run_into_each_other() {
        let u = Unified::default();
        let mut memory = vec![0u8; 8192];
        let host = memory.as_mut_ptr();
        let at = host as u64;
        // SAFETY: the vector outlives the windows and is not used while they are open.
        unsafe {
            u.open_window(host, 4096).expect("free");
            u.open_window(host.wrapping_add(4096), 4096).expect("free");
            assert!(
                u.open_window(host.wrapping_add(4095), 2).is_err(),
                "overlaps"
            );
            assert!(u.open_window(host.wrapping_add(1), 0).is_err());
        }
        assert!(u.host_range(at, 4096, true).is_ok());
        assert!(u.host_range(at, 4097, true).is_err());
        assert_eq!(u.ranges().len(), 2);
        assert!(u.unmap(at, 4096).is_err(), "no mapping");
        assert!(!u.close_window(at + 1));
        assert!(u.close_window(at));
        assert!(!u.close_window(at));
        assert!(u.host_range(at, 1, false).is_err());
        assert!(u.host_range(at + 4096, 1, false).is_ok());
    }
}
