//! Virtual memory management.

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, PhysicalId, VirtualMemoryCalls};
use vgpu_protocol::ranges::Permission;
use vgpu_soft_gpu::addresses::GRANULARITY;

use super::super::mapped::{Mapping, PhysicalEntry, status_of};
use super::super::session::SoftSession;
use crate::backend::check;
use crate::budget::{Budget, Share};

impl SoftSession {
    fn one_mapping(&self) -> Result<Share, Status> {
        let mappings: &std::sync::Arc<Budget> = &self.backend.mappings;
        mappings.take(1).ok_or(Status::ERROR_OUT_OF_MEMORY)
    }
}

impl VirtualMemoryCalls for SoftSession {
    fn address_reserve(
        &mut self,
        _ctx: CtxId,
        bytes: u64,
        align: u64,
        hint: DevPtr,
    ) -> Result<DevPtr, Status> {
        self.start.require_init()?;
        check::reservation(bytes, align, GRANULARITY)?;
        let addresses = self.backend.reservations.take(bytes);
        let addresses = addresses.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let mapping = self.one_mapping()?;
        let base = self.mapped.unified.reserve(bytes, align, hint.0);
        let base = base.map_err(|e| status_of(&e))?;
        self.mapped.reservations.insert(base, [addresses, mapping]);
        Ok(DevPtr(base))
    }

    fn address_free(&mut self, _ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        self.start.require_init()?;
        let freed = self.mapped.unified.unreserve(ptr.0, bytes);
        freed.map_err(|e| status_of(&e))?;
        self.mapped.reservations.remove(&ptr.0);
        Ok(())
    }

    fn physical_create(&mut self, ctx: CtxId, bytes: u64) -> Result<PhysicalId, Status> {
        self.start.require_init()?;
        check::physical(bytes, GRANULARITY)?;
        self.mapped.physical.require_room()?;
        let share = match self.context.budget.take(bytes) {
            Some(share) => share,
            None => {
                // Memory that is still being freed counts once it is free.
                if let Ok(entry) = self.contexts.get(ctx) {
                    self.wait(entry.order.last_free())?;
                }
                let share = self.context.budget.take(bytes);
                share.ok_or(Status::ERROR_OUT_OF_MEMORY)?
            }
        };
        let memory = self.mapped.unified.create(bytes);
        let memory = memory.map_err(|e| status_of(&e))?;
        self.mapped.physical.add(PhysicalEntry {
            memory,
            _share: share,
            mapped: 0,
            released: false,
        })
    }

    fn physical_release(&mut self, _ctx: CtxId, physical: PhysicalId) -> Result<(), Status> {
        self.mapped.held(physical)?.released = true;
        self.mapped.reap(physical);
        Ok(())
    }

    fn physical_map(
        &mut self,
        _ctx: CtxId,
        ptr: DevPtr,
        bytes: u64,
        physical: PhysicalId,
    ) -> Result<(), Status> {
        let memory = self.mapped.held(physical)?.memory;
        let share = self.one_mapping()?;
        let mapped = self.mapped.unified.map(ptr.0, bytes, memory);
        mapped.map_err(|e| status_of(&e))?;
        self.mapped.held(physical)?.mapped += 1;
        let mapping = Mapping {
            physical,
            _share: share,
        };
        self.mapped.mappings.insert(ptr.0, mapping);
        Ok(())
    }

    fn physical_unmap(&mut self, _ctx: CtxId, ptr: DevPtr, bytes: u64) -> Result<(), Status> {
        self.start.require_init()?;
        self.settle_all()?;
        let unmapped = self.mapped.unified.unmap(ptr.0, bytes);
        for at in unmapped.map_err(|e| status_of(&e))? {
            if let Some(mapping) = self.mapped.mappings.remove(&at) {
                if let Ok(entry) = self.mapped.physical.get_mut(mapping.physical) {
                    entry.mapped = entry.mapped.saturating_sub(1);
                }
                self.mapped.reap(mapping.physical);
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
        // Work that was submitted before still has the access that it had.
        self.settle_all()?;
        let set = self.mapped.unified.set_permission(ptr.0, bytes, permission);
        set.map_err(|e| status_of(&e))
    }

    fn physical_granularity(&mut self, _ctx: CtxId, option: u32) -> Result<u64, Status> {
        self.start.require_init()?;
        match option {
            0 | 1 => Ok(GRANULARITY),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }
}
