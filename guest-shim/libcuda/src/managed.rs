//! Managed memory: host memory that the device reaches under the same address, at the same time
//! (`CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS` is 1). It stays where it is: hints and
//! prefetches are checked and kept, for those who ask for them, and move nothing.

use std::collections::BTreeMap;

use cudarc::driver::sys::{CUdeviceptr, CUstream};
use vgpu_protocol::Status;

use crate::abi::{Done, Host, INVALID, In, Out, Zero, exports};
use crate::ctx::enter;
use crate::host::{HostAt, Kind};
use crate::init::{Driver, driver};

/// `CU_MEM_ATTACH_GLOBAL`, `…_HOST` and `…_SINGLE`.
pub const ATTACH_GLOBAL: u32 = 1;
const ATTACH_HOST: u32 = 2;
const ATTACH_SINGLE: u32 = 4;
/// `CU_DEVICE_CPU` and `CU_DEVICE_INVALID`.
const CPU: i32 = -1;
const NOWHERE: i32 = -2;
/// `CUmemLocationType`.
const LOCATION_INVALID: u32 = 0;
const LOCATION_DEVICE: u32 = 1;
const LOCATION_HOST: u32 = 2;
const LOCATION_HOST_NUMA: u32 = 3;
const LOCATION_HOST_NUMA_CURRENT: u32 = 4;

/// `CUmemLocation`, with a number that may be none of the types.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Location {
    kind: u32,
    id: i32,
}

/// Where memory is wanted: a device, or the CPU and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    kind: u32,
    id: i32,
}

impl Place {
    /// A device or `CU_DEVICE_CPU`.
    fn of_device(driver: &Driver, device: i32) -> Done<Place> {
        if device == CPU {
            return Ok(Place {
                kind: LOCATION_HOST,
                id: 0,
            });
        }
        driver.device(device)?;
        Ok(Place {
            kind: LOCATION_DEVICE,
            id: device,
        })
    }

    fn of_location(driver: &Driver, of: Location) -> Done<Place> {
        match of.kind {
            LOCATION_DEVICE => Place::of_device(driver, of.id),
            // Numbers of nodes are the guest's own affair; there is one kind of memory.
            LOCATION_HOST_NUMA if of.id < 0 => Err(INVALID),
            LOCATION_HOST | LOCATION_HOST_NUMA_CURRENT => Ok(Place {
                kind: of.kind,
                id: 0,
            }),
            LOCATION_HOST_NUMA => Ok(Place {
                kind: of.kind,
                id: of.id,
            }),
            _ => Err(INVALID),
        }
    }

    /// As the older attributes say it.
    fn device(self) -> i32 {
        match self.kind {
            LOCATION_DEVICE => self.id,
            _ => CPU,
        }
    }
}

/// What was said about a piece of managed memory.
#[derive(Clone, Debug, Default, PartialEq)]
struct Hint {
    read_mostly: bool,
    preferred: Option<Place>,
    accessed_by: Vec<i32>,
    prefetched: Option<Place>,
}

/// Hints for the parts of a piece of managed memory, by the first byte of each part.
#[derive(Debug)]
pub struct Hints(BTreeMap<u64, Hint>);

impl Default for Hints {
    fn default() -> Hints {
        Hints(BTreeMap::from([(0, Hint::default())]))
    }
}

impl Hints {
    /// Makes a part begin at `at`.
    fn split(&mut self, at: u64) {
        if let Some((_, hint)) = self.0.range(..=at).next_back() {
            let hint = hint.clone();
            self.0.entry(at).or_insert(hint);
        }
    }

    fn change(&mut self, from: u64, to: u64, change: impl Fn(&mut Hint)) {
        self.split(from);
        self.split(to);
        self.0
            .range_mut(from..to)
            .for_each(|(_, hint)| change(hint));
        // Parts that have become alike are one.
        let mut last: Option<Hint> = None;
        self.0.retain(|_, hint| {
            let differs = last.as_ref() != Some(hint);
            last = Some(hint.clone());
            differs
        });
    }

    fn over(&self, from: u64, to: u64) -> impl Iterator<Item = &Hint> {
        let first = self
            .0
            .range(..=from)
            .next_back()
            .map_or(from, |(at, _)| *at);
        self.0.range(first..to).map(|(_, hint)| hint)
    }

    /// What a property comes to where all parts of a range agree.
    fn agreed<T: PartialEq>(&self, from: u64, to: u64, of: impl Fn(&Hint) -> T) -> Option<T> {
        let mut all = self.over(from, to).map(of);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }
}

/// Managed memory that holds a range, and the range's place in it.
fn range(driver: &Driver, at: u64, bytes: usize) -> Done<(HostAt, u64, u64)> {
    let found = driver.host_at(at).filter(|f| f.kind == Kind::Managed);
    let found = found.ok_or(INVALID)?;
    let from = found.address - found.base;
    let end = from.checked_add(bytes as u64).filter(|e| *e <= found.bytes);
    match end {
        Some(end) if bytes > 0 => Ok((found, from, end)),
        _ => Err(INVALID),
    }
}

fn change(driver: &Driver, at: u64, bytes: usize, with: impl Fn(&mut Hint)) -> Done {
    let (found, from, to) = range(driver, at, bytes)?;
    let mut memory = driver.host_mut();
    let block = memory.get_mut(found.base).ok_or(INVALID)?;
    block.hints.change(from, to, with);
    Ok(())
}

/// `CUmem_advise`.
const SET_READ_MOSTLY: u32 = 1;
const UNSET_READ_MOSTLY: u32 = 2;
const SET_PREFERRED_LOCATION: u32 = 3;
const UNSET_PREFERRED_LOCATION: u32 = 4;
const SET_ACCESSED_BY: u32 = 5;
const UNSET_ACCESSED_BY: u32 = 6;

fn advise(at: u64, bytes: usize, advice: u32, place: impl FnOnce() -> Done<Place>) -> Done {
    let driver = driver()?;
    match advice {
        SET_READ_MOSTLY | UNSET_READ_MOSTLY => change(driver, at, bytes, |h| {
            h.read_mostly = advice == SET_READ_MOSTLY
        }),
        SET_PREFERRED_LOCATION => {
            let place = place()?;
            change(driver, at, bytes, |h| h.preferred = Some(place))
        }
        UNSET_PREFERRED_LOCATION => change(driver, at, bytes, |h| h.preferred = None),
        SET_ACCESSED_BY | UNSET_ACCESSED_BY => {
            let device = place()?.device();
            change(driver, at, bytes, |h| {
                h.accessed_by.retain(|d| *d != device);
                if advice == SET_ACCESSED_BY {
                    h.accessed_by.push(device);
                }
            })
        }
        _ => Err(INVALID),
    }
}

fn prefetch(at: u64, bytes: usize, place: Place, stream: CUstream, zero: Zero) -> Done {
    let driver = driver()?;
    driver.queue(stream, zero)?;
    change(driver, at, bytes, |h| h.prefetched = Some(place))
}

/// `CUmem_range_attribute`.
const READ_MOSTLY: u32 = 1;
const PREFERRED_LOCATION: u32 = 2;
const ACCESSED_BY: u32 = 3;
const LAST_PREFETCH_LOCATION: u32 = 4;
const PREFERRED_LOCATION_TYPE: u32 = 5;
const PREFERRED_LOCATION_ID: u32 = 6;
const LAST_PREFETCH_LOCATION_TYPE: u32 = 7;
const LAST_PREFETCH_LOCATION_ID: u32 = 8;

fn range_attribute(data: Host, size: usize, attribute: u32, at: u64, bytes: usize) -> Done {
    let driver = driver()?;
    let (found, from, to) = range(driver, at, bytes)?;
    let words = size / 4;
    if data.is_null() || words == 0 || !size.is_multiple_of(4) {
        return Err(INVALID);
    }
    if attribute != ACCESSED_BY && words != 1 {
        return Err(INVALID);
    }
    let memory = driver.host();
    let (_, block, _) = memory.find(found.base).ok_or(INVALID)?;
    let hints = &block.hints;
    let place = |of: fn(&Hint) -> Option<Place>| hints.agreed(from, to, of).flatten();
    let preferred = || place(|h| h.preferred);
    let prefetched = || place(|h| h.prefetched);
    let device = |p: Option<Place>| p.map_or(NOWHERE, Place::device);
    let kind = |p: Option<Place>| p.map_or(LOCATION_INVALID, |p| p.kind) as i32;
    let id = |p: Option<Place>| p.map_or(NOWHERE, |p| p.id);
    let value = match attribute {
        READ_MOSTLY => i32::from(hints.agreed(from, to, |h| h.read_mostly) == Some(true)),
        PREFERRED_LOCATION => device(preferred()),
        LAST_PREFETCH_LOCATION => device(prefetched()),
        PREFERRED_LOCATION_TYPE => kind(preferred()),
        PREFERRED_LOCATION_ID => id(preferred()),
        LAST_PREFETCH_LOCATION_TYPE => kind(prefetched()),
        LAST_PREFETCH_LOCATION_ID => id(prefetched()),
        ACCESSED_BY => {
            // "All of the memory range": those that every part has.
            let mut all = hints.over(from, to).map(|h| h.accessed_by.clone());
            let mut common = all.next().unwrap_or_default();
            all.for_each(|other| common.retain(|d| other.contains(d)));
            for word in 0..words {
                let device = common.get(word).copied().unwrap_or(NOWHERE);
                data.out::<i32>().set_at(word, device)?;
            }
            return Ok(());
        }
        _ => return Err(INVALID),
    };
    data.out::<i32>().set(value)
}

/// The pieces of a batch of ranges.
struct Batch {
    at: In<CUdeviceptr>,
    sizes: In<usize>,
    count: usize,
}

impl Batch {
    /// Checks all of them before anything is done.
    fn check(&self, driver: &Driver, flags: u64) -> Done {
        if self.count == 0 || flags != 0 {
            return Err(INVALID);
        }
        for i in 0..self.count {
            range(driver, self.at.at(i)?, self.sizes.at(i)?)?;
        }
        Ok(())
    }

    fn prefetch(
        &self,
        driver: &Driver,
        (locations, indices, count): (In<Location>, In<usize>, usize),
    ) -> Done {
        // Piece `indices[i]` is the first of those with location `i`; the first index is 0.
        if count == 0 || count > self.count {
            return Err(INVALID);
        }
        let mut places = Vec::new();
        for i in 0..count {
            let begin = indices.at(i)?;
            let after = places.last().map_or(begin == 0, |(last, _)| *last < begin);
            if !after || begin >= self.count {
                return Err(INVALID);
            }
            places.push((begin, Place::of_location(driver, locations.at(i)?)?));
        }
        for i in 0..self.count {
            let place = places.iter().rev().find(|(begin, _)| *begin <= i);
            let (_, place) = *place.ok_or(INVALID)?;
            change(driver, self.at.at(i)?, self.sizes.at(i)?, |h| {
                h.prefetched = Some(place);
            })?;
        }
        Ok(())
    }
}

exports! {
    /// Allocates memory that the program and the device share.
    fn cuMemAllocManaged(out: Out<CUdeviceptr>, bytes: usize, flags: u32) {
        let (driver, ctx, _) = enter()?;
        driver.check_unsafe()?;
        out.check()?;
        if bytes == 0 || ![ATTACH_GLOBAL, ATTACH_HOST].contains(&flags) {
            return Err(INVALID);
        }
        out.set(driver.host_alloc(&ctx, bytes as u64, Kind::Managed, flags)?)
    }

    /// A hint on how managed memory will be used (ABI of CUDA 8).
    fn cuMemAdvise(at: CUdeviceptr, bytes: usize, advice: u32, device: i32) {
        let driver = driver()?;
        advise(at, bytes, advice, || Place::of_device(driver, device))
    }

    /// A hint on how managed memory will be used.
    fn cuMemAdvise_v2(at: CUdeviceptr, bytes: usize, advice: u32, of: Location) {
        let driver = driver()?;
        advise(at, bytes, advice, || Place::of_location(driver, of))
    }

    /// Moves managed memory ahead of its use (ABI of CUDA 8): it is where both reach it.
    fn cuMemPrefetchAsync | cuMemPrefetchAsync_ptsz [zero] (
        at: CUdeviceptr, bytes: usize, device: i32, stream: CUstream,
    ) {
        let place = Place::of_device(driver()?, device)?;
        prefetch(at, bytes, place, stream, zero)
    }

    /// Moves managed memory ahead of its use: it is where both reach it.
    fn cuMemPrefetchAsync_v2 | cuMemPrefetchAsync_v2_ptsz [zero] (
        at: CUdeviceptr, bytes: usize, of: Location, flags: u32, stream: CUstream,
    ) {
        if flags != 0 {
            return Err(INVALID);
        }
        let place = Place::of_location(driver()?, of)?;
        prefetch(at, bytes, place, stream, zero)
    }

    /// Moves many pieces of managed memory ahead of their use.
    fn cuMemPrefetchBatchAsync | cuMemPrefetchBatchAsync_ptsz [zero] (
        at: In<CUdeviceptr>, sizes: In<usize>, count: usize, locations: In<Location>,
        indices: In<usize>, location_count: usize, flags: u64, stream: CUstream,
    ) {
        let driver = driver()?;
        driver.queue(stream, zero)?;
        let batch = Batch { at, sizes, count };
        batch.check(driver, flags)?;
        batch.prefetch(driver, (locations, indices, location_count))
    }

    /// Says that what is in pieces of managed memory is not needed. Reading it afterwards gives what
    /// it may give: here, what was there.
    fn cuMemDiscardBatchAsync | cuMemDiscardBatchAsync_ptsz [zero] (
        at: In<CUdeviceptr>, sizes: In<usize>, count: usize, flags: u64, stream: CUstream,
    ) {
        let driver = driver()?;
        driver.queue(stream, zero)?;
        Batch { at, sizes, count }.check(driver, flags)
    }

    /// Both of them.
    fn cuMemDiscardAndPrefetchBatchAsync | cuMemDiscardAndPrefetchBatchAsync_ptsz [zero] (
        at: In<CUdeviceptr>, sizes: In<usize>, count: usize, locations: In<Location>,
        indices: In<usize>, location_count: usize, flags: u64, stream: CUstream,
    ) {
        let driver = driver()?;
        driver.queue(stream, zero)?;
        let batch = Batch { at, sizes, count };
        batch.check(driver, flags)?;
        batch.prefetch(driver, (locations, indices, location_count))
    }

    /// A hint that was given for managed memory.
    fn cuMemRangeGetAttribute(data: Host, size: usize, attribute: u32, at: CUdeviceptr, bytes: usize) {
        range_attribute(data, size, attribute, at, bytes)
    }

    /// Hints that were given for managed memory.
    fn cuMemRangeGetAttributes(
        data: In<*mut std::ffi::c_void>, sizes: In<usize>, attributes: In<u32>, count: usize,
        at: CUdeviceptr, bytes: usize,
    ) {
        driver()?;
        if count == 0 {
            return Err(INVALID);
        }
        for i in 0..count {
            range_attribute(Host(data.at(i)?), sizes.at(i)?, attributes.at(i)?, at, bytes)?;
        }
        Ok(())
    }

    /// Says which stream's work reaches managed memory. It is the program's promise: all of it
    /// reaches it here.
    fn cuStreamAttachMemAsync | cuStreamAttachMemAsync_ptsz [zero] (
        stream: CUstream, at: CUdeviceptr, bytes: usize, flags: u32,
    ) {
        let driver = driver()?;
        let queue = driver.queue(stream, zero)?;
        let found = driver.host_at(at).filter(|f| f.kind == Kind::Managed).ok_or(INVALID)?;
        let whole = found.address == found.base && bytes as u64 == found.bytes;
        if bytes != 0 && !whole || ![ATTACH_GLOBAL, ATTACH_HOST, ATTACH_SINGLE].contains(&flags) {
            return Err(INVALID);
        }
        // "It is an error to attach memory to the NULL stream."
        if flags == ATTACH_SINGLE && queue.stream.is_none() {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_hold_for_their_part_and_alike_ones_are_joined() {
        let mut hints = Hints::default();
        let read_mostly = |h: &Hints, from, to| h.agreed(from, to, |h| h.read_mostly);
        hints.change(100, 200, |h| h.read_mostly = true);
        assert_eq!(read_mostly(&hints, 0, 100), Some(false));
        assert_eq!(read_mostly(&hints, 100, 200), Some(true));
        assert_eq!(read_mostly(&hints, 150, 160), Some(true));
        assert_eq!(read_mostly(&hints, 99, 101), None);
        assert_eq!(read_mostly(&hints, 199, 201), None);
        assert_eq!(hints.0.len(), 3);
        hints.change(150, 300, |h| h.read_mostly = true);
        assert_eq!(read_mostly(&hints, 100, 300), Some(true));
        assert_eq!(hints.0.len(), 3);
        hints.change(0, 1000, |h| h.read_mostly = false);
        assert_eq!(hints.0.len(), 1);
    }
}
