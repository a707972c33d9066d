//! A context's allocations: the only source of device addresses that reach the driver.

use std::collections::BTreeMap;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr};
use vgpu_protocol::ranges::Pieces;

use super::session::CudaSession;
use super::stream::wait_until;
use super::sys::memory::{HostPin, Memory};
use crate::budget::Share;
use crate::heap::Block;

/// Allocations and global variables of a context together. A guest that allocates single bytes
/// would otherwise fill host memory with their bookkeeping long before the VM's share is used up.
pub const MAX_REGIONS: usize = 256 << 10;

/// What an allocation of one byte takes on the GPU, in bytes: the share is counted in these, or
/// many small allocations would take many times what `memory` allows.
const ALLOCATION_UNIT: u64 = 512;

/// Bytes of device memory that belong to one allocation or one global variable of a context.
/// There is no way to make one but [`Allocations::range`] and, for mapped and for host memory,
/// [`reach`] and [`pinned_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRange {
    address: u64,
    bytes: u64,
}

impl DeviceRange {
    /// The first byte's address.
    pub fn address(self) -> u64 {
        self.address
    }

    /// Length in bytes.
    pub fn bytes(self) -> u64 {
        self.bytes
    }
}

/// Checks that mapped memory of a session may be read, or written, in a range; accesses may run
/// from one mapping into the next.
///
/// # Errors
/// `ERROR_INVALID_VALUE`.
pub fn reach<T>(
    pieces: &Pieces<T>,
    address: u64,
    bytes: u64,
    write: bool,
) -> Result<DeviceRange, Status> {
    match pieces.reach(address, bytes, write, |_, _| true) {
        Some(_) => Ok(DeviceRange { address, bytes }),
        None => Err(Status::ERROR_INVALID_VALUE),
    }
}

/// Memory of the host that the GPU reaches.
#[derive(Debug)]
pub struct PinnedEntry {
    /// The context in which it was allocated, and with which it goes.
    pub ctx: CtxId,
    /// The driver's registration; undone before the memory is given back.
    pub _pin: HostPin,
    pub block: Block,
}

/// Checks that a range lies in one piece of host memory.
///
/// # Errors
/// `ERROR_INVALID_VALUE`.
pub fn pinned_range(
    pinned: &BTreeMap<u64, PinnedEntry>,
    address: u64,
    bytes: u64,
) -> Result<DeviceRange, Status> {
    let before = pinned.range(..=address).next_back();
    let (base, entry) = before.ok_or(Status::ERROR_INVALID_VALUE)?;
    let offset = address - base;
    if offset < entry.block.bytes() && bytes <= entry.block.bytes() - offset {
        Ok(DeviceRange { address, bytes })
    } else {
        Err(Status::ERROR_INVALID_VALUE)
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Allocations {
    regions: BTreeMap<u64, Region>,
}

#[derive(Debug)]
struct Region {
    bytes: u64,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    /// `cuMemAlloc`; the share goes back with the memory.
    Guest { memory: Memory, _share: Share },
    /// A global variable of the module with this number.
    Module(u32),
}

/// Bytes that an allocation counts against the VM's share.
pub fn counted_bytes(bytes: u64) -> Result<u64, Status> {
    bytes
        .checked_next_multiple_of(ALLOCATION_UNIT)
        .ok_or(Status::ERROR_OUT_OF_MEMORY)
}

impl Allocations {
    /// Fails while there is no room for one more.
    pub fn require_room(&self) -> Result<(), Status> {
        if self.regions.len() < MAX_REGIONS {
            Ok(())
        } else {
            Err(Status::ERROR_OUT_OF_MEMORY)
        }
    }

    /// Takes memory in: `bytes` of it are the guest's.
    pub fn add(&mut self, memory: Memory, bytes: u64, share: Share) -> DeviceRange {
        let address = memory.address();
        self.regions.insert(
            address,
            Region {
                bytes,
                owner: Owner::Guest {
                    memory,
                    _share: share,
                },
            },
        );
        DeviceRange { address, bytes }
    }

    /// Takes a module's global variable in.
    pub fn add_global(&mut self, module: u32, address: u64, bytes: u64) -> Result<(), Status> {
        self.require_room()?;
        self.regions.entry(address).or_insert(Region {
            bytes,
            owner: Owner::Module(module),
        });
        Ok(())
    }

    /// Forgets a module's global variables.
    pub fn remove_globals(&mut self, module: u32) {
        self.regions
            .retain(|_, region| !matches!(region.owner, Owner::Module(m) if m == module));
    }

    /// True where the guest may free this address.
    pub fn owns(&self, address: u64) -> bool {
        self.regions
            .get(&address)
            .is_some_and(|region| matches!(region.owner, Owner::Guest { .. }))
    }

    /// Frees an allocation.
    pub fn free(&mut self, address: u64) -> Result<(), Status> {
        if !self.owns(address) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        match self.regions.remove(&address).map(|region| region.owner) {
            // The share is given back after the memory.
            Some(Owner::Guest { memory, _share }) => memory.free(),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    /// Checks that `bytes` from `address` on lie in one allocation or global variable.
    ///
    /// # Errors
    /// `ERROR_INVALID_VALUE`.
    pub fn range(&self, address: u64, bytes: u64) -> Result<DeviceRange, Status> {
        let (base, region) = self
            .regions
            .range(..=address)
            .next_back()
            .ok_or(Status::ERROR_INVALID_VALUE)?;
        let inside = address
            .checked_sub(*base)
            .and_then(|offset| offset.checked_add(bytes));
        match inside {
            Some(end) if end <= region.bytes => Ok(DeviceRange { address, bytes }),
            _ => Err(Status::ERROR_INVALID_VALUE),
        }
    }

    /// Number of allocations and global variables.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.regions.len()
    }
}

impl CudaSession {
    /// `cuMemAlloc`.
    pub(super) fn alloc(&mut self, ctx: CtxId, bytes: u64) -> Result<DevPtr, Status> {
        let entry = self.current(ctx)?;
        if bytes == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        entry.allocations.require_room()?;
        let share = self
            .context
            .budget
            .take(counted_bytes(bytes)?)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let memory = Memory::alloc(&entry.ctx, bytes);
        let memory = self.note(ctx, memory)?;
        self.clear_and_add(ctx, memory, bytes, share)
    }

    /// `cuMemAllocPitch`: the address and the pitch in bytes.
    pub(super) fn alloc_pitch(
        &mut self,
        ctx: CtxId,
        width: u64,
        height: u64,
        element: u32,
    ) -> Result<(DevPtr, u64), Status> {
        let entry = self.current(ctx)?;
        if !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        entry.allocations.require_room()?;
        // The pitch is the driver's choice; this is the least that it can come to.
        let least = width
            .checked_mul(height)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let share = self
            .context
            .budget
            .take(counted_bytes(least)?)
            .ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let memory = Memory::alloc_pitch(&entry.ctx, width, height, element);
        let (memory, pitch) = self.note(ctx, memory)?;
        drop(share);
        let bytes = pitch.checked_mul(height);
        let share = bytes.and_then(|bytes| self.context.budget.take(counted_bytes(bytes).ok()?));
        let (Some(bytes), Some(share)) = (bytes, share) else {
            self.discard(ctx, memory);
            return Err(Status::ERROR_OUT_OF_MEMORY);
        };
        Ok((self.clear_and_add(ctx, memory, bytes, share)?, pitch))
    }

    /// `cuMemFree`, in the context that owns the memory, whichever is current.
    pub(super) fn free(&mut self, ctx: CtxId, ptr: DevPtr) -> Result<(), Status> {
        let owns = |id: &CtxId| {
            self.objects
                .contexts
                .get(*id)
                .is_ok_and(|c| c.allocations.owns(ptr.0))
        };
        let owner = if owns(&ctx) {
            ctx
        } else {
            self.objects
                .contexts
                .iter()
                .map(|(id, _)| id)
                .find(owns)
                .ok_or(Status::ERROR_INVALID_VALUE)?
        };
        self.current(owner)?;
        // The driver would wait for work in flight, in a way that cannot be ended.
        self.wait_idle(owner)?;
        let freed = self.current_mut(owner)?.allocations.free(ptr.0);
        self.note(owner, freed)
    }

    /// Takes new memory in, cleared: it may hold what another process of the guest left there. The
    /// cost is one pass of the GPU over it.
    fn clear_and_add(
        &mut self,
        ctx: CtxId,
        memory: Memory,
        bytes: u64,
        share: Share,
    ) -> Result<DevPtr, Status> {
        let entry = self.current_mut(ctx)?;
        let range = entry.allocations.add(memory, bytes, share);
        let cleared = entry.clearing.set(range, 1, 0).and_then(|()| {
            let clearing = &self.current(ctx)?.clearing;
            wait_until(&self.context.cancel, || clearing.is_idle())
        });
        match self.note(ctx, cleared) {
            Ok(()) => Ok(DevPtr(range.address())),
            // The session ends; freeing might wait for its kernels.
            Err(Status::ERROR_DEINITIALIZED) => Err(Status::ERROR_DEINITIALIZED),
            Err(status) => {
                // As the guest would free it. The first error is the one that tells something.
                let _ = self.free(ctx, DevPtr(range.address()));
                Err(status)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_global() -> Allocations {
        let mut allocations = Allocations::default();
        allocations.add_global(1, 0x1000, 0x100).expect("room");
        allocations
    }

    #[test]
    fn the_last_byte_is_inside_and_the_next_is_not() {
        let allocations = one_global();
        assert!(allocations.range(0x1000, 0x100).is_ok());
        assert!(allocations.range(0x10ff, 1).is_ok());
        assert!(allocations.range(0x1100, 0).is_ok());
        for (address, bytes) in [
            (0x1000, 0x101),
            (0x1100, 1),
            (0xfff, 1),
            (0x10ff, u64::MAX),
            (u64::MAX, 1),
            (0, 1),
        ] {
            assert_eq!(
                allocations.range(address, bytes),
                Err(Status::ERROR_INVALID_VALUE),
                "{address:#x}+{bytes}"
            );
        }
    }

    #[test]
    fn a_global_variable_cannot_be_freed_and_goes_with_its_module() {
        let mut allocations = one_global();
        assert_eq!(allocations.free(0x1000), Err(Status::ERROR_INVALID_VALUE));
        allocations.remove_globals(2);
        assert_eq!(allocations.len(), 1);
        allocations.remove_globals(1);
        assert!(allocations.range(0x1000, 1).is_err());
    }

    #[test]
    fn the_table_holds_its_maximum_and_no_more() {
        let mut allocations = Allocations::default();
        for i in 0..MAX_REGIONS as u64 {
            allocations.add_global(1, (i + 1) * 16, 1).expect("room");
        }
        assert_eq!(
            allocations.add_global(1, 8, 1),
            Err(Status::ERROR_OUT_OF_MEMORY)
        );
    }

    #[test]
    fn single_bytes_count_as_much_as_they_take() {
        assert_eq!(counted_bytes(1), Ok(512));
        assert_eq!(counted_bytes(512), Ok(512));
        assert_eq!(counted_bytes(513), Ok(1024));
        assert_eq!(counted_bytes(u64::MAX), Err(Status::ERROR_OUT_OF_MEMORY));
    }
}
