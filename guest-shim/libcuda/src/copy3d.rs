//! Copies of boxes of bytes, as graphs' nodes hold them.

use std::mem::offset_of;
use std::sync::Arc;

use cudarc::driver::sys::CUDA_MEMCPY3D_st as Raw;
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, StreamId, stubs};
use vgpu_transport::copy::Place;

use crate::abi::{Done, Host, INVALID};
use crate::copy_batch::row_within;
use crate::ctx::Ctx;
use crate::init::Driver;

/// `CUmemorytype`.
const HOST: u32 = 1;
const DEVICE: u32 = 2;
const ARRAY: u32 = 3;
const UNIFIED: u32 = 4;

/// One side, as the program gave it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Side {
    pub x: u64,
    pub y: u64,
    pub z: u64,
    pub lod: u64,
    pub kind: u32,
    pub host: u64,
    pub device: u64,
    pub pitch: u64,
    pub height: u64,
}

/// A copy. Lengths are bytes, rows and slices.
#[derive(Clone, Debug)]
pub struct Copy3d {
    pub ctx: Arc<Ctx>,
    pub src: Side,
    pub dst: Side,
    pub width: u64,
    pub height: u64,
    pub depth: u64,
}

/// Offsets of the fields of one side.
struct Fields([usize; 9]);

const SRC: Fields = Fields([
    offset_of!(Raw, srcXInBytes),
    offset_of!(Raw, srcY),
    offset_of!(Raw, srcZ),
    offset_of!(Raw, srcLOD),
    offset_of!(Raw, srcMemoryType),
    offset_of!(Raw, srcHost),
    offset_of!(Raw, srcDevice),
    offset_of!(Raw, srcPitch),
    offset_of!(Raw, srcHeight),
]);
const DST: Fields = Fields([
    offset_of!(Raw, dstXInBytes),
    offset_of!(Raw, dstY),
    offset_of!(Raw, dstZ),
    offset_of!(Raw, dstLOD),
    offset_of!(Raw, dstMemoryType),
    offset_of!(Raw, dstHost),
    offset_of!(Raw, dstDevice),
    offset_of!(Raw, dstPitch),
    offset_of!(Raw, dstHeight),
]);

impl Side {
    /// Contiguous bytes.
    pub fn flat(address: u64, on_device: bool) -> Side {
        let (kind, host, device) = if on_device {
            (DEVICE, 0, address)
        } else {
            (HOST, address, 0)
        };
        Side {
            kind,
            host,
            device,
            ..Side::default()
        }
    }

    fn read(params: Host, fields: &Fields) -> Done<Side> {
        let word = |i: usize| params.offset(fields.0[i]).values::<u64>().get();
        Ok(Side {
            x: word(0)?,
            y: word(1)?,
            z: word(2)?,
            lod: word(3)?,
            kind: params.offset(fields.0[4]).values().get()?,
            host: word(5)?,
            device: word(6)?,
            pitch: word(7)?,
            height: word(8)?,
        })
    }

    fn write(&self, params: Host, fields: &Fields) -> Done {
        let word = |i: usize, value: u64| params.offset(fields.0[i]).out::<u64>().set(value);
        word(0, self.x)?;
        word(1, self.y)?;
        word(2, self.z)?;
        word(3, self.lod)?;
        params.offset(fields.0[4]).out::<u32>().set(self.kind)?;
        word(5, self.host)?;
        word(6, self.device)?;
        word(7, self.pitch)?;
        word(8, self.height)
    }

    /// The address that the coordinates count from.
    pub fn base(&self) -> u64 {
        if self.kind == HOST {
            self.host
        } else {
            self.device
        }
    }

    /// True where the device reaches the bytes.
    pub fn is_device(&self, driver: &Driver) -> bool {
        match self.kind {
            HOST => driver.is_host(self.base()),
            DEVICE => true,
            _ => driver.is_device(self.base()) || driver.is_host(self.base()),
        }
    }
}

impl Copy3d {
    /// What `CUDA_MEMCPY3D` says.
    pub fn read(params: Host, ctx: &Arc<Ctx>, driver: &Driver) -> Done<Copy3d> {
        let word = |at: usize| params.offset(at).values::<u64>().get();
        let copy = Copy3d {
            ctx: Arc::clone(ctx),
            src: Side::read(params, &SRC)?,
            dst: Side::read(params, &DST)?,
            width: word(offset_of!(Raw, WidthInBytes))?,
            height: word(offset_of!(Raw, Height))?,
            depth: word(offset_of!(Raw, Depth))?,
        };
        copy.check(driver)?;
        Ok(copy)
    }

    /// Writes `CUDA_MEMCPY3D`.
    pub fn write(&self, params: Host) -> Done {
        params
            .target(size_of::<Raw>())?
            .store(0, &[0; size_of::<Raw>()]);
        self.src.write(params, &SRC)?;
        self.dst.write(params, &DST)?;
        let word = |at: usize, value: u64| params.offset(at).out::<u64>().set(value);
        word(offset_of!(Raw, WidthInBytes), self.width)?;
        word(offset_of!(Raw, Height), self.height)?;
        word(offset_of!(Raw, Depth), self.depth)
    }

    /// Address of the first byte of a row, and of the byte behind the box.
    fn row(&self, side: &Side, y: u64, z: u64) -> Done<u64> {
        let at = || {
            let rows = side.z.checked_add(z)?.checked_mul(side.height)?;
            let rows = rows.checked_add(side.y)?.checked_add(y)?;
            let skip = rows.checked_mul(side.pitch)?.checked_add(side.x)?;
            side.base().checked_add(skip)
        };
        at().ok_or(INVALID)
    }

    /// Whether it can be done.
    pub fn check(&self, driver: &Driver) -> Done {
        for side in [&self.src, &self.dst] {
            match side.kind {
                ARRAY => return Err(Status::ERROR_NOT_SUPPORTED),
                HOST | DEVICE | UNIFIED => {}
                _ => return Err(INVALID),
            }
            if self.is_nothing() {
                continue;
            }
            let end = side.x.checked_add(self.width).ok_or(INVALID)?;
            let rows = side.y.checked_add(self.height).ok_or(INVALID)?;
            if (self.height > 1 || self.depth > 1 || side.y > 0) && side.pitch < end
                || (self.depth > 1 || side.z > 0) && side.height < rows
            {
                return Err(INVALID);
            }
            let first = self.row(side, 0, 0)?;
            let last = self.row(side, self.height - 1, self.depth - 1)?;
            let bytes = last - first + self.width;
            if side.base() == 0 {
                return Err(INVALID);
            }
            if side.is_device(driver) {
                driver.check_range(first, bytes)?;
            }
        }
        Ok(())
    }

    /// True for a copy of no bytes.
    pub fn is_nothing(&self) -> bool {
        self.width == 0 || self.height == 0 || self.depth == 0
    }

    /// Source, destination and length, where it is a copy of contiguous device memory.
    pub fn flat_within_device(&self, driver: &Driver) -> Option<(u64, u64, u64)> {
        let flat = |side: &Side| {
            (self.height == 1 || side.pitch == self.width)
                && (self.depth == 1 || side.height == self.height)
        };
        if !self.src.is_device(driver)
            || !self.dst.is_device(driver)
            || !flat(&self.src)
            || !flat(&self.dst)
        {
            return None;
        }
        let bytes = self
            .width
            .checked_mul(self.height)?
            .checked_mul(self.depth)?;
        let address = |side| {
            let row = self.row(side, 0, 0).ok()?;
            Some(driver.check_range(row, bytes).ok()?.0)
        };
        Some((address(&self.src)?, address(&self.dst)?, bytes))
    }

    /// True where both have the same shape, and each side is where it was: what an update of an
    /// executable graph may change are addresses ("changing the memory types or the ranks" is not
    /// supported).
    pub fn can_become(&self, other: &Copy3d, driver: &Driver) -> bool {
        let ranks = |c: &Copy3d| (c.height > 1, c.depth > 1);
        Arc::ptr_eq(&self.ctx, &other.ctx)
            && ranks(self) == ranks(other)
            && self.src.is_device(driver) == other.src.is_device(driver)
            && self.dst.is_device(driver) == other.dst.is_device(driver)
    }

    /// The same copy in rows as long as can be.
    pub fn joined(&self) -> Copy3d {
        let mut copy = self.clone();
        let sides = [&self.src, &self.dst];
        let plain = sides.iter().all(|s| s.x == 0 && s.y == 0 && s.z == 0);
        if plain && sides.iter().all(|s| s.pitch == self.width) {
            copy.width *= copy.height;
            copy.height = 1;
            if sides.iter().all(|s| s.height == self.height) {
                copy.width *= copy.depth;
                copy.depth = 1;
            }
        }
        copy
    }

    /// Copies now, in a stream of which nobody else knows, and waits.
    pub fn run(&self, driver: &Driver, ctx: CtxId, stream: StreamId) -> Done {
        self.rows(driver, ctx, stream)?;
        stubs::stream_synchronize(driver.channel, ctx, stream)
    }

    /// Copies row by row in a stream.
    pub fn rows(&self, driver: &Driver, ctx: CtxId, stream: StreamId) -> Done {
        let width = usize::try_from(self.width).map_err(|_| INVALID)?;
        let place = Place { ctx, stream };
        for z in 0..self.depth {
            for y in 0..self.height {
                let (from, to) = (self.row(&self.src, y, z)?, self.row(&self.dst, y, z)?);
                let (source, target) = (Host(from as *mut _), Host(to as *mut _));
                let reach = |at| driver.check_range(at, self.width);
                match (self.src.is_device(driver), self.dst.is_device(driver)) {
                    (true, true) => {
                        row_within(driver, (to, from), self.width, &self.ctx, (ctx, stream))?;
                    }
                    (false, true) => {
                        let source = source.source(width)?;
                        driver.channel.copy_to_device(place, reach(to)?, source)?;
                    }
                    (true, false) => {
                        let target = target.target(width)?;
                        driver
                            .channel
                            .copy_from_device(place, reach(from)?, target)?;
                    }
                    (false, false) => {
                        let bytes = source.source(width)?.to_vec(0, width);
                        if target.target(width)?.store(0, &bytes) != width {
                            return Err(INVALID);
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
