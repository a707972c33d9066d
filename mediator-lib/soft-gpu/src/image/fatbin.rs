//! Fatbins: a header, then entries of PTX and machine code per architecture.

use super::{ImageError, decompress};

const MAGIC: u32 = 0xba55_ed50;
const KIND_PTX: u16 = 1;
const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
/// Smallest entry header that holds all fields read here.
const ENTRY_HEADER: usize = 64;

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(b.get(at..at + 2)?.try_into().ok()?))
}
fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(b.get(at..at + 4)?.try_into().ok()?))
}
fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(b.get(at..at + 8)?.try_into().ok()?))
}

/// Whether an image begins as a fatbin.
pub fn is_fatbin(image: &[u8]) -> bool {
    u32_at(image, 0) == Some(MAGIC)
}

struct Entry<'a> {
    sm: u32,
    flags: u64,
    data: &'a [u8],
    uncompressed: u64,
}

/// The PTX of the highest architecture not above `sm`.
pub fn best_ptx(image: &[u8], sm: u32) -> Result<Vec<u8>, ImageError> {
    let short = ImageError::Broken("a fatbin is cut short");
    let header = u16_at(image, 6).ok_or(short.clone())? as usize;
    let size = u64_at(image, 8).ok_or(short.clone())?;
    let size = usize::try_from(size).map_err(|_| short.clone())?;
    let end = header.checked_add(size).ok_or(short.clone())?;
    let mut rest = image.get(header..end).ok_or(short.clone())?;
    let mut best: Option<Entry<'_>> = None;
    while rest.len() >= ENTRY_HEADER {
        let field = |at| u32_at(rest, at).ok_or(short.clone());
        let kind = u16_at(rest, 0).ok_or(short.clone())?;
        let header = field(4)? as usize;
        let padded = field(8)? as usize;
        if header < ENTRY_HEADER {
            return Err(ImageError::Broken(
                "a fatbin entry has a header that is too small",
            ));
        }
        let after = header.checked_add(padded).ok_or(short.clone())?;
        let body = rest.get(header..after).ok_or(short.clone())?;
        let flags = u64_at(rest, 40).ok_or(short.clone())?;
        let compressed = flags & (FLAG_LZ4 | FLAG_ZSTD) != 0;
        let stored = field(16)? as usize;
        let data = if compressed && stored != 0 {
            body.get(..stored).ok_or(short.clone())?
        } else {
            body
        };
        let entry = Entry {
            sm: field(28)?,
            flags,
            data,
            uncompressed: u64_at(rest, 56).ok_or(short.clone())?,
        };
        if kind == KIND_PTX && entry.sm <= sm && best.as_ref().is_none_or(|b| entry.sm > b.sm) {
            best = Some(entry);
        }
        rest = rest.get(after..).unwrap_or(&[]);
    }
    let e = best.ok_or(ImageError::NoPtx)?;
    if e.flags & FLAG_LZ4 != 0 {
        decompress::lz4(e.data, e.uncompressed)
    } else if e.flags & FLAG_ZSTD != 0 {
        decompress::zstd(e.data, e.uncompressed)
    } else {
        decompress::check_size(e.data.len() as u64)?;
        Ok(e.data.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::MAX_PTX_BYTES;

    fn entry(kind: u16, sm: u32, flags: u64, data: &[u8], uncompressed: u64) -> Vec<u8> {
        let mut e = vec![0u8; 64];
        e[0..2].copy_from_slice(&kind.to_le_bytes());
        e[4..8].copy_from_slice(&64u32.to_le_bytes());
        e[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        e[16..20].copy_from_slice(&(data.len() as u32).to_le_bytes());
        e[28..32].copy_from_slice(&sm.to_le_bytes());
        e[40..48].copy_from_slice(&flags.to_le_bytes());
        e[56..64].copy_from_slice(&uncompressed.to_le_bytes());
        e.extend_from_slice(data);
        e
    }

    fn fatbin(entries: &[Vec<u8>]) -> Vec<u8> {
        let body: Vec<u8> = entries.concat();
        let mut f = Vec::new();
        f.extend_from_slice(&MAGIC.to_le_bytes());
        f.extend_from_slice(&1u16.to_le_bytes());
        f.extend_from_slice(&16u16.to_le_bytes());
        f.extend_from_slice(&(body.len() as u64).to_le_bytes());
        f.extend_from_slice(&body);
        f
    }

    #[test]
    fn the_best_ptx_is_chosen() {
        let f = fatbin(&[
            entry(1, 75, 0, b"seventy-five", 0),
            entry(2, 90, 0, b"machine code", 0),
            entry(1, 90, 0, b"ninety", 0),
            entry(1, 100, 0, b"hundred", 0),
        ]);
        assert_eq!(best_ptx(&f, 90).unwrap(), b"ninety");
        assert_eq!(best_ptx(&f, 80).unwrap(), b"seventy-five");
        assert_eq!(best_ptx(&f, 70), Err(ImageError::NoPtx));
    }

    #[test]
    fn lz4_entries_are_unpacked_and_bounded() {
        let text = b".version 8.0 ".repeat(100);
        let packed = lz4_flex::block::compress(&text);
        let f = fatbin(&[entry(1, 80, FLAG_LZ4, &packed, text.len() as u64)]);
        assert_eq!(best_ptx(&f, 90).unwrap(), text);
        let f = fatbin(&[entry(1, 80, FLAG_LZ4, &packed, text.len() as u64 - 1)]);
        assert!(best_ptx(&f, 90).is_err());
        let f = fatbin(&[entry(1, 80, FLAG_LZ4, &packed, MAX_PTX_BYTES + 1)]);
        assert_eq!(
            best_ptx(&f, 90),
            Err(ImageError::TooLarge(MAX_PTX_BYTES + 1))
        );
    }

    #[test]
    fn zstd_garbage_is_an_error() {
        let f = fatbin(&[entry(1, 80, FLAG_ZSTD, b"not zstd at all", 100)]);
        assert!(best_ptx(&f, 90).is_err());
    }

    #[test]
    fn every_prefix_is_refused_without_panic() {
        let f = fatbin(&[entry(1, 75, 0, b"seventy-five", 0)]);
        for n in 0..f.len() {
            assert!(best_ptx(&f[..n], 90).is_err());
        }
        for at in 0..f.len() {
            for v in [0u8, 1, 0x7f, 0x80, 0xff] {
                let mut g = f.clone();
                g[at] = v;
                let _ = best_ptx(&g, 90);
            }
        }
    }
}
