//! Virtual memory management.

use std::sync::Arc;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, PhysicalId, VirtualMemoryCalls};
use vgpu_protocol::ranges::{Permission, Piece};

use super::super::mapped::{MappedPiece, PhysicalEntry, ReservedAddresses};
use super::super::session::CudaSession;
use super::super::sys::virtual_memory::{self, Physical, Reservation};
use crate::backend::check;
use crate::budget::Share;

impl CudaSession {
    fn one_mapping(&self) -> Result<Share, Status> {
        let mapping = self.backend.mappings.take(1);
        mapping.ok_or(Status::ERROR_OUT_OF_MEMORY)
    }

    fn granularity(&self) -> Result<u64, Status> {
        virtual_memory::granularity(&self.backend.driver, self.backend.device, false)
    }
}

impl VirtualMemoryCalls for CudaSession {
    fn address_reserve(
        &mut self,
        _ctx: CtxId,
        bytes: u64,
        align: u64,
        hint: DevPtr,
    ) -> Result<DevPtr, Status> {
        self.start.require_init()?;
        check::reservation(bytes, align, self.granularity()?)?;
        let share = self.backend.reserved.take(bytes);
        let share = share.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let shares = [share, self.one_mapping()?];
        let addresses = Reservation::new(&self.backend.driver, bytes, align, hint.0)?;
        let base = addresses.address();
        let reserved = ReservedAddresses {
            addresses,
            _shares: shares,
        };
        self.objects.mapped.reservations.insert(base, reserved);
        Ok(DevPtr(base))
    }

    fn address_free(&mut self, _ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        self.start.require_init()?;
        let mapped = &mut self.objects.mapped;
        let matches = |r: &ReservedAddresses| r.addresses.bytes() == bytes;
        if !mapped.reservations.get(&ptr.0).is_some_and(matches)
            || !mapped.pieces.is_free(ptr.0, bytes)
        {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        mapped.reservations.remove(&ptr.0);
        Ok(())
    }

    fn physical_create(&mut self, ctx: CtxId, bytes: u64) -> Result<PhysicalId, Status> {
        self.start.require_init()?;
        check::physical(bytes, self.granularity()?)?;
        self.objects.mapped.physical.require_room()?;
        // It is mapped for a moment to be cleared. Where the context has work, the driver may wait for it
        // before the mapping goes, in a way that cannot be ended; a function of the guest's program in that
        // work would never be called.
        let clears_in = self.clears_in(ctx)?;
        self.settle(clears_in)?;
        self.current(clears_in)?;
        let share = self.context.budget.take(bytes);
        let share = share.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let (driver, device) = (&self.backend.driver, self.backend.device);
        let memory = Arc::new(Physical::create(driver, device, bytes)?);
        let cleared = self.clear_physical(ctx, &memory);
        self.note(ctx, cleared)?;
        self.objects.mapped.physical.add(PhysicalEntry {
            memory,
            _share: share,
            mapped: 0,
            released: false,
        })
    }

    fn physical_release(&mut self, _ctx: CtxId, physical: PhysicalId) -> Result<(), Status> {
        self.objects.mapped.held(physical)?.released = true;
        self.objects.mapped.reap(physical);
        Ok(())
    }

    fn physical_map(
        &mut self,
        _ctx: CtxId,
        ptr: DevPtr,
        bytes: u64,
        physical: PhysicalId,
    ) -> Result<(), Status> {
        let memory = Arc::clone(&self.objects.mapped.held(physical)?.memory);
        check::physical(bytes, self.granularity()?)?;
        let aligned = ptr.0.is_multiple_of(self.granularity()?);
        if bytes > memory.bytes() || !aligned || !self.objects.mapped.is_reserved(ptr.0, bytes) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let share = self.one_mapping()?;
        let mapping = memory.map(ptr.0, bytes)?;
        let piece = Piece {
            bytes,
            permission: Permission::None,
            what: MappedPiece {
                mapping,
                physical,
                _share: share,
            },
        };
        self.objects.mapped.held(physical)?.mapped += 1;
        self.objects.mapped.pieces.insert(ptr.0, piece);
        Ok(())
    }

    fn physical_unmap(&mut self, _ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        self.start.require_init()?;
        let whole = self.objects.mapped.pieces.whole(ptr.0, bytes);
        let whole = whole.ok_or(Status::ERROR_INVALID_VALUE)?;
        self.wait_all_idle()?;
        let mapped = &mut self.objects.mapped;
        for at in whole {
            if let Some(piece) = mapped.pieces.get_mut(at) {
                piece.what.mapping.unmap()?;
                let physical = piece.what.physical;
                mapped.pieces.remove(at);
                if let Ok(entry) = mapped.physical.get_mut(physical) {
                    entry.mapped = entry.mapped.saturating_sub(1);
                }
                mapped.reap(physical);
            }
        }
        Ok(())
    }

    fn physical_set_access(
        &mut self,
        _ctx: CtxId,
        ptr: DevPtr,
        bytes: u64,
        flags: u32,
    ) -> Result<(), Status> {
        self.start.require_init()?;
        let permission = Permission::from_flags(flags).ok_or(Status::ERROR_INVALID_VALUE)?;
        let whole = self.objects.mapped.pieces.whole(ptr.0, bytes);
        let whole = whole.ok_or(Status::ERROR_INVALID_VALUE)?;
        if permission != Permission::ReadWrite {
            self.wait_all_idle()?;
        }
        for at in whole {
            if let Some(piece) = self.objects.mapped.pieces.get_mut(at) {
                piece
                    .what
                    .mapping
                    .set_access(self.backend.device, permission)?;
                piece.permission = permission;
            }
        }
        Ok(())
    }

    fn physical_granularity(&mut self, _ctx: CtxId, option: u32) -> Result<u64, Status> {
        self.start.require_init()?;
        match option {
            0 => self.granularity(),
            1 => virtual_memory::granularity(&self.backend.driver, self.backend.device, true),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }
}
