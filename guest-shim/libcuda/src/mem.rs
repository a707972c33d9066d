//! Device memory. The map of allocations answers questions about addresses and catches bad ones.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::sys::CUdeviceptr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{DevPtr, stubs};

use crate::abi::{Done, INVALID, Out, exports};
use crate::ctx::{Ctx, enter};
use crate::host::{HostAt, Kind};
use crate::init::{Driver, driver};
use crate::pool::Pool;

/// A piece of device memory.
#[derive(Clone, Debug)]
pub struct Alloc {
    /// Length in bytes.
    pub bytes: u64,
    /// The context that it was made in.
    pub ctx: Arc<Ctx>,
    /// Its number (`CU_POINTER_ATTRIBUTE_BUFFER_ID`).
    pub unique: u64,
    /// The module of a global variable, which cuMemFree must not free.
    pub module: Option<u64>,
    /// The pool that it is a piece of.
    pub pool: Option<Arc<Pool>>,
}

impl Driver {
    fn allocs(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Alloc>> {
        self.allocs.read().unwrap_or_else(|e| e.into_inner())
    }

    /// The map, to change.
    pub fn allocs_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<u64, Alloc>> {
        self.allocs.write().unwrap_or_else(|e| e.into_inner())
    }

    /// The allocation that holds an address, and where it begins.
    pub fn alloc_at(&self, address: u64) -> Option<(u64, Alloc)> {
        let allocs = self.allocs();
        let (base, alloc) = allocs.range(..=address).next_back()?;
        (address - base < alloc.bytes).then(|| (*base, alloc.clone()))
    }

    /// True where an address is one of device memory, mapped or allocated, or of managed memory.
    pub fn is_device(&self, address: u64) -> bool {
        let managed = |f: &HostAt| f.kind == Kind::Managed;
        self.alloc_at(address).is_some()
            || self.mapping_at(address).is_some()
            || self.host_at(address).is_some_and(|f| managed(&f))
    }

    /// Checks that `bytes` bytes of one allocation, of mapped memory, or of host memory that the
    /// device reaches, begin at `address`; gives the device's address.
    pub fn check_range(&self, address: u64, bytes: u64) -> Done<DevPtr> {
        let inside = {
            let allocs = self.allocs();
            let found = allocs.range(..=address).next_back();
            found.is_some_and(|(base, alloc)| {
                let from = address - base;
                from < alloc.bytes && bytes <= alloc.bytes - from
            })
        };
        if inside || self.is_mapped(address, bytes) {
            Ok(DevPtr(address))
        } else {
            self.host_range(address, bytes).ok_or(INVALID)
        }
    }

    /// Notes memory that was allocated.
    pub fn add_alloc(&self, base: DevPtr, bytes: u64, ctx: Arc<Ctx>) {
        let alloc = Alloc {
            bytes,
            ctx,
            unique: self.unique_id(),
            module: None,
            pool: None,
        };
        self.allocs_mut().insert(base.0, alloc);
    }

    /// The same for a piece of a pool.
    pub fn add_pool_alloc(&self, base: DevPtr, bytes: u64, ctx: Arc<Ctx>, pool: Arc<Pool>) {
        let alloc = Alloc {
            bytes,
            ctx,
            unique: self.unique_id(),
            module: None,
            pool: Some(pool),
        };
        self.allocs_mut().insert(base.0, alloc);
    }

    /// Takes an allocation out that the program may free.
    pub fn take_alloc(&self, at: u64) -> Done<Alloc> {
        let mut allocs = self.allocs_mut();
        if allocs.get(&at).is_none_or(|a| a.module.is_some()) {
            return Err(INVALID);
        }
        allocs.remove(&at).ok_or(INVALID)
    }
}

exports! {
    /// Free and total memory, in bytes.
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let (driver, _, id) = enter()?;
        free.check()?;
        total.check()?;
        let info = stubs::mem_get_info(driver.channel, id)?;
        free.set(info.0 as usize)?;
        total.set(info.1 as usize)
    }

    /// Allocates device memory.
    fn cuMemAlloc_v2(out: Out<CUdeviceptr>, bytes: usize) {
        let (driver, ctx, id) = enter()?;
        driver.check_unsafe()?;
        out.check()?;
        if bytes == 0 {
            return Err(INVALID);
        }
        let base = stubs::mem_alloc(driver.channel, id, bytes as u64)?;
        driver.add_alloc(base, bytes as u64, ctx);
        out.set(base.0)
    }

    /// Allocates rows with a pitch that suits accesses of `element` bytes: 4, 8 or 16.
    fn cuMemAllocPitch_v2(
        out: Out<CUdeviceptr>,
        pitch: Out<usize>,
        width: usize,
        height: usize,
        element: u32,
    ) {
        let (driver, ctx, id) = enter()?;
        driver.check_unsafe()?;
        out.check()?;
        pitch.check()?;
        if width == 0 || height == 0 || ![4, 8, 16].contains(&element) {
            return Err(INVALID);
        }
        let (width, height) = (width as u64, height as u64);
        let (base, step) = stubs::mem_alloc_pitch(driver.channel, id, width, height, element)?;
        driver.add_alloc(base, step.saturating_mul(height), ctx);
        out.set(base.0)?;
        pitch.set(step as usize)
    }

    /// Frees device memory.
    fn cuMemFree_v2(at: CUdeviceptr) {
        let driver = driver()?;
        driver.check_unsafe()?;
        if driver.is_host(at) {
            return driver.host_free(at, Kind::Managed);
        }
        if driver.free_graph_memory(at)? {
            return Ok(());
        }
        let alloc = driver.take_alloc(at)?;
        if let Some(pool) = &alloc.pool {
            return driver.free_to_pool(at, &alloc.ctx, pool);
        }
        stubs::mem_free(driver.channel, alloc.ctx.id()?, DevPtr(at))
    }

    /// Where the allocation that holds an address begins, and its length; both may be null.
    fn cuMemGetAddressRange_v2(base: Out<CUdeviceptr>, bytes: Out<usize>, at: CUdeviceptr) {
        let driver = driver()?;
        let own = driver.alloc_at(at).map(|(start, alloc)| (start, alloc.bytes));
        let mapped = || driver.mapping_at(at).map(|(start, bytes, _)| (start, bytes));
        let host = || driver.host_at(at).map(|found| (found.base, found.bytes));
        let (start, length) = own.or_else(mapped).or_else(host).ok_or(Status::ERROR_NOT_FOUND)?;
        base.set_if_given(start);
        bytes.set_if_given(length as usize);
        Ok(())
    }
}
