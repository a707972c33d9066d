//! Physical memory of a session and where it is mapped (virtual memory management).

use std::collections::BTreeMap;
use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, PhysicalId};
use vgpu_protocol::limits::MAX_PHYSICAL;
use vgpu_protocol::ranges::{Permission, Piece, Pieces};

use super::mem::{DeviceRange, reach};
use super::session::CudaSession;
use super::stream::wait_until;
use super::sys::virtual_memory::{Mapping, Physical, Reservation};
use crate::budget::Share;
use crate::handles::Table;

/// What a session has beside the memory of its contexts. Dropped from top to bottom, after the
/// contexts whose work may use it.
#[derive(Debug)]
pub struct Mapped {
    /// What is mapped, by address.
    pub pieces: Pieces<MappedPiece>,
    /// Physical memory by handle.
    pub physical: Table<PhysicalId, PhysicalEntry>,
    /// Reserved addresses, by the first.
    pub reservations: BTreeMap<u64, ReservedAddresses>,
}

/// One mapping.
#[derive(Debug)]
pub struct MappedPiece {
    pub mapping: Mapping,
    pub physical: PhysicalId,
    pub _share: Share,
}

/// One piece of physical memory.
#[derive(Debug)]
pub struct PhysicalEntry {
    pub memory: Arc<Physical>,
    /// Its share of the VM's memory; given back after the memory.
    pub _share: Share,
    /// Mappings of it.
    pub mapped: usize,
    /// The guest has let go of it.
    pub released: bool,
}

/// One reservation.
#[derive(Debug)]
pub struct ReservedAddresses {
    pub addresses: Reservation,
    pub _shares: [Share; 2],
}

impl Mapped {
    /// A session's, of which it has nothing yet.
    pub fn new() -> Mapped {
        Mapped {
            pieces: Pieces::default(),
            physical: Table::new(MAX_PHYSICAL),
            reservations: BTreeMap::new(),
        }
    }

    /// The physical memory of a handle that the guest still holds.
    pub fn held(&mut self, id: PhysicalId) -> Result<&mut PhysicalEntry, Status> {
        let entry = self.physical.get_mut(id)?;
        if entry.released {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        Ok(entry)
    }

    /// Frees physical memory that nobody holds and nothing maps.
    pub fn reap(&mut self, id: PhysicalId) {
        let unused = |e: &PhysicalEntry| e.released && e.mapped == 0;
        if self.physical.get(id).is_ok_and(unused) {
            // It is there.
            let _ = self.physical.remove(id);
        }
    }

    /// True where a range lies in one reservation and nothing is mapped there.
    pub fn is_reserved(&self, address: u64, bytes: u64) -> bool {
        let found = self.reservations.range(..=address).next_back();
        found.is_some_and(|(base, r)| {
            let offset = address - base;
            offset < r.addresses.bytes() && bytes <= r.addresses.bytes() - offset
        }) && self.pieces.is_free(address, bytes)
    }

    /// Checks a range of mapped memory.
    pub fn range(&self, address: u64, bytes: u64, write: bool) -> Result<DeviceRange, Status> {
        reach(&self.pieces, address, bytes, write)
    }
}

impl CudaSession {
    /// The context in which new physical memory is cleared: the current one, or any that works.
    /// cuMemCreate needs no current context; the work does.
    pub(super) fn clears_in(&self, ctx: CtxId) -> Result<CtxId, Status> {
        if self.current(ctx).is_ok() {
            return Ok(ctx);
        }
        let mut all = self.objects.contexts.iter();
        let works = all.find(|(_, entry)| entry.error.is_none());
        works.map(|(id, _)| id).ok_or(Status::ERROR_INVALID_CONTEXT)
    }

    /// Clears new physical memory, which may hold what another process of the guest left there: at
    /// addresses of its own, because the guest may map it for reading alone.
    pub(super) fn clear_physical(
        &mut self,
        ctx: CtxId,
        memory: &Arc<Physical>,
    ) -> Result<(), Status> {
        let entry = self.objects.contexts.get(self.clears_in(ctx)?)?;
        let addresses = Reservation::new(&self.backend.driver, memory.bytes(), 0, 0)?;
        let mapping = memory.map(addresses.address(), memory.bytes())?;
        mapping.set_access(self.backend.device, Permission::ReadWrite)?;
        let mut pieces = Pieces::default();
        pieces.insert(
            addresses.address(),
            Piece {
                bytes: memory.bytes(),
                permission: Permission::ReadWrite,
                what: mapping,
            },
        );
        let range = reach(&pieces, addresses.address(), memory.bytes(), true)?;
        entry.clearing.set(range, 1, 0)?;
        let cleared = wait_until(&self.context.cancel, || entry.clearing.is_idle());
        if cleared == Err(Status::ERROR_DEINITIALIZED) {
            // The session ends with the work in flight: what it uses goes with the process.
            std::mem::forget((pieces, addresses));
        }
        cleared
    }
}
