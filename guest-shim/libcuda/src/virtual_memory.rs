//! Virtual memory management: reserved addresses, physical memory, and mappings of it. They belong
//! to the process, not to a context.

use std::collections::BTreeMap;
use std::sync::MutexGuard;

use cudarc::driver::sys::{
    self, CUdeviceptr, CUmemAccess_flags, CUmemAllocationProp, CUmemLocationType,
};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, DevPtr, PhysicalId, stubs};
use vgpu_protocol::ranges::{Permission, Piece, Pieces};

use crate::abi::{Done, Host, INVALID, Out, exports};
use crate::ctx::current_or_none;
use crate::init::{Driver, driver};

/// `CU_MEM_ALLOCATION_TYPE_PINNED`, the only type of physical memory here.
const PINNED: u32 = 1;
/// `CU_MEM_LOCATION_TYPE_DEVICE`.
const DEVICE: u32 = CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE as u32;
/// `CU_MEM_LOCATION_TYPE_HOST` to `…_HOST_NUMA_CURRENT`: memory of the host.
const HOST_LOCATIONS: std::ops::RangeInclusive<u32> = 2..=4;

/// Physical memory that the program made.
#[derive(Clone, Copy, Debug)]
struct Physical {
    bytes: u64,
    /// Times that it must be released.
    holds: u64,
    mapped: u64,
}

/// What this process has mapped.
#[derive(Debug, Default)]
pub struct VirtualMemory {
    /// Reserved bytes by first address.
    reservations: BTreeMap<u64, u64>,
    physical: BTreeMap<u64, Physical>,
    /// Handles of physical memory by the addresses where it is mapped, with a number that no other
    /// mapping or allocation has.
    pieces: Pieces<(u64, u64)>,
}

impl VirtualMemory {
    /// Tells the host of physical memory that the program does not hold and that is not mapped.
    /// While it is mapped the program can get hold of it again (cuMemRetainAllocationHandle).
    fn reap(&mut self, driver: &Driver, handle: u64) -> Done {
        let unused = |p: &Physical| p.holds == 0 && p.mapped == 0;
        if self.physical.get(&handle).is_some_and(unused) {
            self.physical.remove(&handle);
            let ctx = driver.any_context()?;
            stubs::physical_release(driver.channel, ctx, PhysicalId(handle as u32))?;
        }
        Ok(())
    }
}

/// A struct's fields that say where memory is: type and number.
fn location(at: Host) -> Done<(u32, i32)> {
    Ok((at.values().get()?, at.offset(4).values().get()?))
}

/// Fails unless a location is a device of this process.
fn check_device(driver: &Driver, (kind, id): (u32, i32)) -> Done {
    match kind {
        DEVICE => driver.device(id).map(drop),
        k if HOST_LOCATIONS.contains(&k) => Err(Status::ERROR_NOT_SUPPORTED),
        _ => Err(INVALID),
    }
}

/// Checks what is asked of physical memory.
fn check_properties(driver: &Driver, at: Host) -> Done {
    use std::mem::offset_of;
    type Raw = CUmemAllocationProp;
    type Flags = sys::CUmemAllocationProp_st__bindgen_ty_1;
    let kind: u32 = at.offset(offset_of!(Raw, type_)).values().get()?;
    let handles: u32 = at
        .offset(offset_of!(Raw, requestedHandleTypes))
        .values()
        .get()?;
    let flags = at.offset(offset_of!(Raw, allocFlags));
    let rdma: u8 = flags
        .offset(offset_of!(Flags, gpuDirectRDMACapable))
        .values()
        .get()?;
    let usage: u16 = flags.offset(offset_of!(Flags, usage)).values().get()?;
    match kind {
        PINNED => {}
        // CU_MEM_ALLOCATION_TYPE_MANAGED is for memory pools.
        2 => return Err(Status::ERROR_NOT_SUPPORTED),
        _ => return Err(INVALID),
    }
    check_device(driver, location(at.offset(offset_of!(Raw, location)))?)?;
    // Memory shared with another process, reached by other devices, or made of tiles. (Compression
    // is a wish: "may" be compressed.)
    if handles != 0 || rdma != 0 || usage != 0 {
        return Err(Status::ERROR_NOT_SUPPORTED);
    }
    Ok(())
}

impl Driver {
    fn virtual_memory(&self) -> MutexGuard<'_, VirtualMemory> {
        self.virtual_memory
            .lock()
            .unwrap_or_else(|e| e.into_inner())
    }

    /// The context that calls of this section carry: errors of earlier work are reported by any
    /// call, and these need no context.
    fn any_context(&self) -> Done<CtxId> {
        Ok(current_or_none()?
            .and_then(|ctx| ctx.id().ok())
            .unwrap_or(CtxId(0)))
    }

    /// Where the mapping that holds an address begins, its length, and its number.
    pub fn mapping_at(&self, address: u64) -> Option<(u64, u64, u64)> {
        let memory = self.virtual_memory();
        let (base, piece) = memory.pieces.at(address)?;
        Some((base, piece.bytes, piece.what.1))
    }

    /// True where mapped memory holds a range that may be accessed; accesses may run from one
    /// mapping into the next.
    pub fn is_mapped(&self, address: u64, bytes: u64) -> bool {
        let memory = self.virtual_memory();
        !memory.pieces.is_empty()
            && memory
                .pieces
                .reach(address, bytes, false, |_, _| true)
                .is_some()
    }
}

exports! {
    /// Reserves addresses.
    fn cuMemAddressReserve(out: Out<CUdeviceptr>, bytes: usize, align: usize, hint: CUdeviceptr, flags: u64) {
        let driver = driver()?;
        out.check()?;
        if flags != 0 || bytes == 0 {
            return Err(INVALID);
        }
        let (bytes, align) = (bytes as u64, align as u64);
        let base = stubs::address_reserve(driver.channel, driver.any_context()?, bytes, align, DevPtr(hint))?;
        driver.virtual_memory().reservations.insert(base.0, bytes);
        out.set(base.0)
    }

    /// Gives reserved addresses back.
    fn cuMemAddressFree(at: CUdeviceptr, bytes: usize) {
        let driver = driver()?;
        let mut memory = driver.virtual_memory();
        let free = memory.pieces.is_free(at, bytes as u64);
        if memory.reservations.get(&at) != Some(&(bytes as u64)) || !free {
            return Err(INVALID);
        }
        stubs::address_free(driver.channel, driver.any_context()?, DevPtr(at), bytes as u64)?;
        memory.reservations.remove(&at);
        Ok(())
    }

    /// Makes physical memory.
    fn cuMemCreate(out: Out<u64>, bytes: usize, properties: Host, flags: u64) {
        let driver = driver()?;
        out.check()?;
        if flags != 0 || bytes == 0 {
            return Err(INVALID);
        }
        check_properties(driver, properties)?;
        let bytes = bytes as u64;
        let id = stubs::physical_create(driver.channel, driver.any_context()?, bytes)?;
        let physical = Physical { bytes, holds: 1, mapped: 0 };
        driver.virtual_memory().physical.insert(id.0.into(), physical);
        out.set(id.0.into())
    }

    /// Lets go of physical memory.
    fn cuMemRelease(handle: u64) {
        let driver = driver()?;
        let mut memory = driver.virtual_memory();
        let physical = memory.physical.get_mut(&handle).filter(|p| p.holds > 0).ok_or(INVALID)?;
        physical.holds -= 1;
        memory.reap(driver, handle)
    }

    /// Maps physical memory at reserved addresses.
    fn cuMemMap(at: CUdeviceptr, bytes: usize, offset: usize, handle: u64, flags: u64) {
        let driver = driver()?;
        let bytes = bytes as u64;
        // "offset … must be zero", "flags … must be zero".
        if flags != 0 || offset != 0 || bytes == 0 {
            return Err(INVALID);
        }
        let unique = driver.unique_id();
        let mut memory = driver.virtual_memory();
        let physical = memory.physical.get(&handle).filter(|p| p.holds > 0).ok_or(INVALID)?;
        if bytes > physical.bytes || !memory.pieces.is_free(at, bytes) {
            return Err(INVALID);
        }
        stubs::physical_map(driver.channel, driver.any_context()?, DevPtr(at), bytes, PhysicalId(handle as u32))?;
        if let Some(physical) = memory.physical.get_mut(&handle) {
            physical.mapped += 1;
        }
        let piece = Piece { bytes, permission: Permission::None, what: (handle, unique) };
        memory.pieces.insert(at, piece);
        Ok(())
    }

    /// Unmaps whole mappings.
    fn cuMemUnmap(at: CUdeviceptr, bytes: usize) {
        let driver = driver()?;
        let mut memory = driver.virtual_memory();
        let whole = memory.pieces.whole(at, bytes as u64).ok_or(INVALID)?;
        stubs::physical_unmap(driver.channel, driver.any_context()?, DevPtr(at), bytes as u64)?;
        for at in whole {
            let Some(piece) = memory.pieces.remove(at) else { continue };
            let handle = piece.what.0;
            if let Some(physical) = memory.physical.get_mut(&handle) {
                physical.mapped -= 1;
            }
            memory.reap(driver, handle)?;
        }
        Ok(())
    }

    /// Says who may access whole mappings.
    fn cuMemSetAccess(at: CUdeviceptr, bytes: usize, access: Host, count: usize) {
        let driver = driver()?;
        if count == 0 {
            return Err(INVALID);
        }
        let mut permission = Permission::None;
        for i in 0..count {
            let one = access.offset(i * size_of::<sys::CUmemAccessDesc>());
            check_device(driver, location(one)?)?;
            let flags: u32 = one.offset(8).values().get()?;
            permission = Permission::from_flags(flags).ok_or(INVALID)?;
        }
        let mut memory = driver.virtual_memory();
        let whole = memory.pieces.whole(at, bytes as u64).ok_or(INVALID)?;
        stubs::physical_set_access(driver.channel, driver.any_context()?, DevPtr(at), bytes as u64, permission.flags())?;
        for at in whole {
            if let Some(piece) = memory.pieces.get_mut(at) {
                piece.permission = permission;
            }
        }
        Ok(())
    }

    /// Who may access mapped memory, as `CUmemAccess_flags`.
    fn cuMemGetAccess(flags: Out<u64>, at: Host, address: CUdeviceptr) {
        let driver = driver()?;
        flags.check()?;
        check_device(driver, location(at)?)?;
        let memory = driver.virtual_memory();
        let (_, piece) = memory.pieces.at(address).ok_or(INVALID)?;
        flags.set(piece.permission.flags().into())
    }

    /// Size and alignment of physical memory: the least (0) or the recommended (1).
    fn cuMemGetAllocationGranularity(out: Out<usize>, properties: Host, option: u32) {
        let driver = driver()?;
        out.check()?;
        check_properties(driver, properties)?;
        if option > 1 {
            return Err(INVALID);
        }
        out.set(stubs::physical_granularity(driver.channel, driver.any_context()?, option)? as usize)
    }

    /// What was asked of physical memory.
    fn cuMemGetAllocationPropertiesFromHandle(properties: Host, handle: u64) {
        let driver = driver()?;
        properties.out::<u8>().check()?;
        if driver.virtual_memory().physical.get(&handle).is_none_or(|p| p.holds == 0) {
            return Err(INVALID);
        }
        properties.out().set(CUmemAllocationProp {
            type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
            requestedHandleTypes: sys::CUmemAllocationHandleType_enum(0),
            location: sys::CUmemLocation { type_: CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: 0 },
            win32HandleMetaData: std::ptr::null_mut(),
            allocFlags: sys::CUmemAllocationProp_st__bindgen_ty_1 {
                compressionType: 0,
                gpuDirectRDMACapable: 0,
                usage: 0,
                reserved: [0; 4],
            },
        })
    }

    /// The handle of the memory that is mapped at an address, held once more.
    fn cuMemRetainAllocationHandle(out: Out<u64>, at: Host) {
        let driver = driver()?;
        out.check()?;
        let mut memory = driver.virtual_memory();
        let (_, piece) = memory.pieces.at(at.0 as u64).ok_or(INVALID)?;
        let handle = piece.what.0;
        let physical = memory.physical.get_mut(&handle).ok_or(INVALID)?;
        physical.holds += 1;
        out.set(handle)
    }
}

const _: () =
    assert!(size_of::<CUmemAccess_flags>() == 4 && size_of::<sys::CUmemAccessDesc>() == 12);
