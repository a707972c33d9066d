//! Host memory that the device reaches: pieces of BAR1's heap, mapped here under the address that
//! they have on the host, which is the device's, too.
//!
//! Where this process has something at that address, another piece is asked for; after a few of
//! them the memory is mapped elsewhere, and its device pointer is another one
//! (`cuMemHostGetDevicePointer`).

use std::collections::BTreeMap;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::sys::CUdeviceptr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{DevPtr, stubs};
use vgpu_transport::bars::HeapPiece;

use crate::abi::{Done, Host, INVALID, Out, exports};
use crate::ctx::{Ctx, enter};
use crate::init::{Driver, driver};
use crate::managed::Hints;

/// `CU_MEMHOSTALLOC_PORTABLE`, `…_DEVICEMAP` and `…_WRITECOMBINED`.
const PORTABLE: u32 = 1;
const DEVICEMAP: u32 = 2;
const WRITECOMBINED: u32 = 4;
/// `CU_MEMHOSTREGISTER_PORTABLE` to `…_READ_ONLY`.
const REGISTER_FLAGS: u32 = 0xf;
/// `CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED` and `…_NOT_REGISTERED`.
const ALREADY_REGISTERED: Status = Status(712);
const NOT_REGISTERED: Status = Status(713);

/// How many pieces are asked for whose addresses this process uses for something else.
pub const TRIES: usize = 4;

/// What the memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Page-locked memory.
    Pinned,
    /// Managed memory.
    Managed,
}

/// A piece of host memory.
#[derive(Debug)]
pub struct HostBlock {
    /// Length in bytes.
    pub bytes: u64,
    /// Its address for the device.
    pub device: u64,
    /// `CU_MEMHOSTALLOC_…`, or `CU_MEM_ATTACH_…`.
    pub flags: u32,
    /// What it is for.
    pub kind: Kind,
    /// The context that it was allocated in.
    pub ctx: Arc<Ctx>,
    /// Its number (`CU_POINTER_ATTRIBUTE_BUFFER_ID`).
    pub unique: u64,
    /// Hints for managed memory.
    pub hints: Hints,
    /// The module whose managed variables it holds, which frees it.
    pub module: Option<u64>,
    _piece: HeapPiece,
}

/// What is known of an address in host memory.
#[derive(Clone, Debug)]
pub struct HostAt {
    /// Where the block begins for the program.
    pub base: u64,
    /// Where it begins for the device.
    pub device: u64,
    /// The address for the program.
    pub address: u64,
    /// Length of the block in bytes.
    pub bytes: u64,
    pub flags: u32,
    pub kind: Kind,
    pub ctx: Arc<Ctx>,
    pub unique: u64,
}

impl HostAt {
    /// The address for the device.
    pub fn device_address(&self) -> u64 {
        self.device + (self.address - self.base)
    }
}

/// Host memory of the process.
#[derive(Debug, Default)]
pub struct HostMemory {
    /// By the program's address.
    blocks: BTreeMap<u64, HostBlock>,
    /// The program's address of blocks that have another one for the device, by that one.
    elsewhere: BTreeMap<u64, u64>,
}

impl HostMemory {
    /// The block that holds an address of the program or of the device, where it begins for the
    /// program, and the address's place in it.
    pub fn find(&self, address: u64) -> Option<(u64, &HostBlock, u64)> {
        if let Some((base, block)) = self.blocks.range(..=address).next_back()
            && address - base < block.bytes
        {
            return Some((*base, block, address - base));
        }
        let (device, base) = self.elsewhere.range(..=address).next_back()?;
        let block = self.blocks.get(base)?;
        (address - device < block.bytes).then_some((*base, block, address - device))
    }

    /// The block that begins at an address of the program.
    pub fn get_mut(&mut self, base: u64) -> Option<&mut HostBlock> {
        self.blocks.get_mut(&base)
    }

    fn insert(&mut self, base: u64, block: HostBlock) {
        if block.device != base {
            self.elsewhere.insert(block.device, base);
        }
        self.blocks.insert(base, block);
    }

    fn remove(&mut self, base: u64) -> Option<HostBlock> {
        let block = self.blocks.remove(&base)?;
        self.elsewhere.remove(&block.device);
        Some(block)
    }
}

impl Driver {
    /// Host memory that the device reaches.
    pub fn host(&self) -> RwLockReadGuard<'_, HostMemory> {
        self.host_memory.read().unwrap_or_else(|e| e.into_inner())
    }

    /// The same, to change.
    pub fn host_mut(&self) -> RwLockWriteGuard<'_, HostMemory> {
        self.host_memory.write().unwrap_or_else(|e| e.into_inner())
    }

    /// The host memory that holds an address.
    pub fn host_at(&self, address: u64) -> Option<HostAt> {
        let memory = self.host();
        let (base, block, at) = memory.find(address)?;
        Some(HostAt {
            base,
            device: block.device,
            address: base + at,
            bytes: block.bytes,
            flags: block.flags,
            kind: block.kind,
            ctx: Arc::clone(&block.ctx),
            unique: block.unique,
        })
    }

    /// The device's address of a range that lies in one piece of host memory.
    pub fn host_range(&self, address: u64, bytes: u64) -> Option<DevPtr> {
        let memory = self.host();
        let (_, block, at) = memory.find(address)?;
        (bytes <= block.bytes - at).then_some(DevPtr(block.device + at))
    }

    /// True where an address is one of host memory that the device reaches.
    pub fn is_host(&self, address: u64) -> bool {
        self.host().find(address).is_some()
    }

    /// Allocates host memory; gives the program's address.
    pub fn host_alloc(&self, ctx: &Arc<Ctx>, bytes: u64, kind: Kind, flags: u32) -> Done<u64> {
        let id = ctx.id()?;
        let mut taken = Vec::new();
        let found = loop {
            let (offset, device) = match kind {
                Kind::Pinned => stubs::host_alloc(self.channel, id, bytes),
                Kind::Managed => stubs::managed_alloc(self.channel, id, bytes),
            }
            .or_else(|status| match taken.pop() {
                // No other piece is left: then one of those whose address is taken.
                Some(last) if kind == Kind::Pinned => Ok(last),
                _ => Err(status),
            })?;
            let whole = bytes.next_multiple_of(4096);
            let mapped = self.channel.bars().map_heap(offset, whole, device.0);
            let piece = match mapped {
                Ok(piece) => piece,
                Err(error) => {
                    vgpu_transport::log::line(format_args!("{error}"));
                    taken.push((offset, device));
                    break Err(Status::ERROR_OPERATING_SYSTEM);
                }
            };
            if piece.address() == device.0 || taken.len() >= TRIES && kind == Kind::Pinned {
                break Ok((device, piece));
            }
            drop(piece);
            taken.push((offset, device));
            if taken.len() > TRIES {
                break Err(Status::ERROR_OUT_OF_MEMORY);
            }
        };
        for (_, device) in taken {
            stubs::host_free(self.channel, id, device)?;
        }
        let (device, piece) = found?;
        let base = piece.address();
        let block = HostBlock {
            bytes,
            device: device.0,
            flags,
            kind,
            ctx: Arc::clone(ctx),
            unique: self.unique_id(),
            hints: Hints::default(),
            module: None,
            _piece: piece,
        };
        self.host_mut().insert(base, block);
        Ok(base)
    }

    /// Maps a piece with a module's managed variables at the address that it has for the device;
    /// `None` where this process has something there.
    pub fn map_managed(&self, at: (u64, DevPtr), bytes: u64) -> Done<Option<HeapPiece>> {
        let whole = bytes.next_multiple_of(4096);
        let mapped = self.channel.bars().map_heap(at.0, whole, at.1.0);
        let piece = mapped.map_err(|error| {
            vgpu_transport::log::line(format_args!("{error}"));
            Status::ERROR_OPERATING_SYSTEM
        })?;
        Ok((piece.address() == at.1.0).then_some(piece))
    }

    /// Keeps the memory of a module's managed variables until it is unloaded.
    pub fn keep_managed(&self, ctx: &Arc<Ctx>, module: u64, bytes: u64, piece: HeapPiece) {
        let base = piece.address();
        let block = HostBlock {
            bytes,
            device: base,
            flags: crate::managed::ATTACH_GLOBAL,
            kind: Kind::Managed,
            ctx: Arc::clone(ctx),
            unique: self.unique_id(),
            hints: Hints::default(),
            module: Some(module),
            _piece: piece,
        };
        self.host_mut().insert(base, block);
    }

    /// Frees the memory of a module's managed variables; the module is unloaded.
    pub fn free_managed(&self, module: u64) -> Done {
        let block = {
            let mut memory = self.host_mut();
            let of = |b: &HostBlock| b.module == Some(module);
            let found = memory.blocks.iter().find(|(_, b)| of(b));
            let base = found.map(|(base, _)| *base);
            base.and_then(|base| memory.remove(base))
        };
        let Some(block) = block else { return Ok(()) };
        let (device, ctx) = (block.device, block.ctx.id()?);
        drop(block);
        stubs::host_free(self.channel, ctx, DevPtr(device))
    }

    /// Whether an address lies in a module's managed variables.
    pub fn is_managed_variable(&self, address: u64, module: u64) -> bool {
        let memory = self.host();
        let found = memory.find(address);
        found.is_some_and(|(_, block, _)| block.module == Some(module))
    }

    /// Frees host memory of a kind that begins at an address of the program.
    pub fn host_free(&self, base: u64, kind: Kind) -> Done {
        let block = {
            let mut memory = self.host_mut();
            let own = |b: &HostBlock| b.kind == kind && b.module.is_none();
            if !memory.blocks.get(&base).is_some_and(own) {
                return Err(INVALID);
            }
            memory.remove(base).ok_or(INVALID)?
        };
        let (device, ctx) = (block.device, block.ctx.id()?);
        // Unmapped first: the host may give the addresses out again at once.
        drop(block);
        stubs::host_free(self.channel, ctx, DevPtr(device))
    }

    /// Forgets the host memory of a context that is gone: the host has freed it.
    pub fn forget_host_memory(&self, gone: impl Fn(&Arc<Ctx>) -> bool) {
        let mut memory = self.host_mut();
        let all = memory.blocks.iter().filter(|(_, b)| gone(&b.ctx));
        let all: Vec<u64> = all.map(|(base, _)| *base).collect();
        for base in all {
            memory.remove(base);
        }
    }
}

fn alloc(out: Out<Host>, bytes: usize, flags: u32) -> Done {
    let (driver, ctx, _) = enter()?;
    driver.check_unsafe()?;
    out.check()?;
    if bytes == 0 || flags & !(PORTABLE | DEVICEMAP | WRITECOMBINED) != 0 {
        return Err(INVALID);
    }
    let base = driver.host_alloc(&ctx, bytes as u64, Kind::Pinned, flags)?;
    out.set(Host(base as *mut _))
}

/// The pinned memory that holds an address of the program.
fn pinned(driver: &Driver, at: Host) -> Done<HostAt> {
    let found = driver.host_at(at.0 as u64);
    found.filter(|f| f.kind == Kind::Pinned).ok_or(INVALID)
}

exports! {
    /// Allocates page-locked host memory. Under unified addressing it is portable and mapped,
    /// whatever the flags.
    fn cuMemAllocHost_v2(out: Out<Host>, bytes: usize) {
        alloc(out, bytes, 0)
    }

    /// Allocates page-locked host memory (ABI of CUDA 2: its size has 32 bits).
    fn cuMemAllocHost(out: Out<Host>, bytes: u32) {
        alloc(out, bytes as usize, 0)
    }

    /// Allocates page-locked host memory. Flags are hints here, and given back by cuMemHostGetFlags.
    fn cuMemHostAlloc(out: Out<Host>, bytes: usize, flags: u32) {
        alloc(out, bytes, flags)
    }

    /// Frees page-locked host memory.
    fn cuMemFreeHost(at: Host) {
        let driver = driver()?;
        driver.check_unsafe()?;
        driver.host_free(at.0 as u64, Kind::Pinned)
    }

    /// The device's address of page-locked host memory.
    fn cuMemHostGetDevicePointer_v2(out: Out<CUdeviceptr>, at: Host, flags: u32) {
        let (driver, ..) = enter()?;
        out.check()?;
        if flags != 0 {
            return Err(INVALID);
        }
        out.set(pinned(driver, at)?.device_address())
    }

    /// The flags that page-locked host memory was allocated with. Unified addressing makes it mapped.
    fn cuMemHostGetFlags(flags: Out<u32>, at: Host) {
        let driver = driver()?;
        flags.check()?;
        flags.set(pinned(driver, at)?.flags | DEVICEMAP)
    }

    /// Page-locks memory of the program: not possible
    /// (`CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED` is 0).
    fn cuMemHostRegister_v2(at: Host, bytes: usize, flags: u32) {
        let (driver, ..) = enter()?;
        if at.is_null() || bytes == 0 || flags & !REGISTER_FLAGS != 0 {
            return Err(INVALID);
        }
        if driver.is_host(at.0 as u64) {
            return Err(ALREADY_REGISTERED);
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Ends what cuMemHostRegister began: nothing ever is.
    fn cuMemHostUnregister(at: Host) {
        enter()?;
        if at.is_null() {
            return Err(INVALID);
        }
        Err(NOT_REGISTERED)
    }
}
