//! Fatbins: a header, then entries of PTX and machine code per architecture.

use super::{ImageError, MAX_TEXTS_BYTES, decompress};

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

/// An entry.
pub struct Entry<'a> {
    kind: u16,
    sm: u32,
    flags: u64,
    /// Its contents, compressed or not.
    pub data: &'a [u8],
    uncompressed: u64,
}

impl Entry<'_> {
    /// The same, if it has at most `left` bytes, which it takes from that.
    pub fn text_within(&self, left: &mut u64) -> Result<Vec<u8>, ImageError> {
        let compressed = self.flags & (FLAG_LZ4 | FLAG_ZSTD) != 0;
        let bytes = if compressed {
            self.uncompressed
        } else {
            self.data.len() as u64
        };
        *left = left.checked_sub(bytes).ok_or(ImageError::TooMuch)?;
        self.text()
    }

    /// Its contents, unpacked.
    pub fn text(&self) -> Result<Vec<u8>, ImageError> {
        if self.flags & FLAG_LZ4 != 0 {
            decompress::lz4(self.data, self.uncompressed)
        } else if self.flags & FLAG_ZSTD != 0 {
            decompress::zstd(self.data, self.uncompressed)
        } else {
            decompress::check_size(self.data.len() as u64)?;
            Ok(self.data.to_vec())
        }
    }
}

const SHORT: ImageError = ImageError::Broken("a fatbin is cut short");

/// The entries, and the bytes of the fatbin as a whole.
fn entries(image: &[u8]) -> Result<(Vec<Entry<'_>>, usize), ImageError> {
    let header = u16_at(image, 6).ok_or(SHORT)? as usize;
    let size = u64_at(image, 8).ok_or(SHORT)?;
    let size = usize::try_from(size).map_err(|_| SHORT)?;
    let end = header.checked_add(size).ok_or(SHORT)?;
    let mut rest = image.get(header..end).ok_or(SHORT)?;
    let mut list = Vec::new();
    while rest.len() >= ENTRY_HEADER {
        let field = |at| u32_at(rest, at).ok_or(SHORT);
        let kind = u16_at(rest, 0).ok_or(SHORT)?;
        let header = field(4)? as usize;
        let padded = field(8)? as usize;
        if header < ENTRY_HEADER {
            return Err(ImageError::Broken(
                "a fatbin entry has a header that is too small",
            ));
        }
        let after = header.checked_add(padded).ok_or(SHORT)?;
        let body = rest.get(header..after).ok_or(SHORT)?;
        let flags = u64_at(rest, 40).ok_or(SHORT)?;
        let compressed = flags & (FLAG_LZ4 | FLAG_ZSTD) != 0;
        let stored = field(16)? as usize;
        let data = if compressed && stored != 0 {
            body.get(..stored).ok_or(SHORT)?
        } else {
            body
        };
        list.push(Entry {
            kind,
            sm: field(28)?,
            flags,
            data,
            uncompressed: u64_at(rest, 56).ok_or(SHORT)?,
        });
        rest = rest.get(after..).unwrap_or(&[]);
    }
    Ok((list, end))
}

/// Bytes of the fatbin, at least 16.
pub fn length(image: &[u8]) -> Result<usize, ImageError> {
    entries(image).map(|(_, end)| end.max(16))
}

/// The PTX of the highest architecture not above `sm`.
pub fn best_ptx(image: &[u8], sm: u32) -> Result<Entry<'_>, ImageError> {
    let mut best: Option<Entry<'_>> = None;
    for entry in entries(image)?.0 {
        if entry.kind == KIND_PTX && entry.sm <= sm && best.as_ref().is_none_or(|b| entry.sm > b.sm)
        {
            best = Some(entry);
        }
    }
    best.ok_or(ImageError::NoPtx)
}

/// Marks the entries of an image that [`linked`] made: they are one module together.
const FLAG_LINKED: u64 = 1 << 62;

/// An image of several texts that are one module together.
pub fn linked(texts: &[&str], sm: u32) -> Vec<u8> {
    let mut body = Vec::new();
    for text in texts {
        let bytes = (text.len() + 1).next_multiple_of(8);
        let mut header = [0u8; ENTRY_HEADER];
        header[0..2].copy_from_slice(&KIND_PTX.to_le_bytes());
        header[4..8].copy_from_slice(&(ENTRY_HEADER as u32).to_le_bytes());
        header[8..12].copy_from_slice(&(bytes as u32).to_le_bytes());
        header[28..32].copy_from_slice(&sm.to_le_bytes());
        header[40..48].copy_from_slice(&FLAG_LINKED.to_le_bytes());
        body.extend_from_slice(&header);
        body.extend_from_slice(text.as_bytes());
        body.resize(body.len() + bytes - text.len(), 0);
    }
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&1u16.to_le_bytes());
    out.extend_from_slice(&16u16.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

/// The texts of an image that [`linked`] made.
pub fn linked_texts(image: &[u8]) -> Result<Option<Vec<Vec<u8>>>, ImageError> {
    let (list, _) = entries(image)?;
    let linked = |e: &Entry<'_>| e.kind == KIND_PTX && e.flags & FLAG_LINKED != 0;
    if list.is_empty() || !list.iter().all(linked) {
        return Ok(None);
    }
    let mut left = MAX_TEXTS_BYTES;
    let mut texts = Vec::new();
    for entry in &list {
        texts.push(entry.text_within(&mut left)?);
    }
    Ok(Some(texts))
}

/// Texts with their architectures.
type Texts = Vec<(u32, Vec<u8>)>;

/// All PTX of a fatbin with its architecture, and the bytes of the fatbin.
pub fn all_ptx(image: &[u8]) -> Result<(Texts, usize), ImageError> {
    let (list, end) = entries(image)?;
    let ptx = list.iter().filter(|e| e.kind == KIND_PTX);
    let texts: Result<_, _> = ptx.map(|e| Ok((e.sm, e.text()?))).collect();
    Ok((texts?, end))
}

#[cfg(test)]
pub(super) mod tests {
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

    /// A file with two fatbins between other bytes, and one that is broken.
    pub fn library() -> Vec<u8> {
        let b = b".b ".repeat(10);
        let packed = lz4_flex::block::compress(&b);
        let one = fatbin(&[
            entry(1, 75, 0, b".a", 0),
            entry(2, 86, 0, b"machine code", 0),
            entry(1, 80, FLAG_LZ4, &packed, b.len() as u64),
        ]);
        let two = fatbin(&[entry(1, 90, 0, b".c", 0)]);
        let mut file = b"\x7fELF....".to_vec();
        for part in [&one[..], &two[..40], &two] {
            file.extend_from_slice(part);
            file.resize(file.len().next_multiple_of(8) + 16, 0);
        }
        file
    }

    fn text_of(image: &[u8], sm: u32) -> Result<Vec<u8>, ImageError> {
        best_ptx(image, sm)?.text()
    }

    #[test]
    fn the_best_ptx_is_chosen() {
        let f = fatbin(&[
            entry(1, 75, 0, b"seventy-five", 0),
            entry(2, 90, 0, b"machine code", 0),
            entry(1, 90, 0, b"ninety", 0),
            entry(1, 100, 0, b"hundred", 0),
        ]);
        assert_eq!(text_of(&f, 90).unwrap(), b"ninety");
        assert_eq!(text_of(&f, 80).unwrap(), b"seventy-five");
        assert_eq!(text_of(&f, 70), Err(ImageError::NoPtx));
    }

    #[test]
    fn lz4_entries_are_unpacked_and_bounded() {
        let text = b".version 8.0 ".repeat(100);
        let packed = lz4_flex::block::compress(&text);
        let f = fatbin(&[entry(1, 80, FLAG_LZ4, &packed, text.len() as u64)]);
        assert_eq!(text_of(&f, 90).unwrap(), text);
        let f = fatbin(&[entry(1, 80, FLAG_LZ4, &packed, text.len() as u64 - 1)]);
        assert!(text_of(&f, 90).is_err());
        let f = fatbin(&[entry(1, 80, FLAG_LZ4, &packed, MAX_PTX_BYTES + 1)]);
        assert_eq!(
            text_of(&f, 90),
            Err(ImageError::TooLarge(MAX_PTX_BYTES + 1))
        );
    }

    #[test]
    fn linked_texts_are_bounded_together() {
        let text = vec![b'.'; MAX_TEXTS_BYTES as usize / 4];
        let packed = lz4_flex::block::compress(&text);
        let image = |last: u64| {
            let flags = FLAG_LZ4 | FLAG_LINKED;
            let whole = entry(1, 0, flags, &packed, text.len() as u64);
            let bytes = MAX_TEXTS_BYTES - 3 * text.len() as u64 + last;
            let rest = lz4_flex::block::compress(&vec![b'.'; bytes as usize]);
            let rest = entry(1, 0, flags, &rest, bytes);
            fatbin(&[whole.clone(), whole.clone(), whole, rest])
        };
        let bytes = |list: Vec<Vec<u8>>| list.iter().map(Vec::len).sum::<usize>() as u64;
        let found = linked_texts(&image(0)).map(|l| l.map(bytes));
        assert_eq!(found, Ok(Some(MAX_TEXTS_BYTES)));
        assert_eq!(linked_texts(&image(1)), Err(ImageError::TooMuch));
    }

    #[test]
    fn zstd_garbage_is_an_error() {
        let f = fatbin(&[entry(1, 80, FLAG_ZSTD, b"not zstd at all", 100)]);
        assert!(text_of(&f, 90).is_err());
    }

    #[test]
    fn every_prefix_is_refused_without_panic() {
        let f = fatbin(&[entry(1, 75, 0, b"seventy-five", 0)]);
        for n in 0..f.len() {
            assert!(text_of(&f[..n], 90).is_err());
        }
        for at in 0..f.len() {
            for v in [0u8, 1, 0x7f, 0x80, 0xff] {
                let mut g = f.clone();
                g[at] = v;
                let _ = text_of(&g, 90);
            }
        }
    }
}
