//! Checks of a module image before the driver parses it.
//!
//! `cuModuleLoadData` takes an address without a length: the driver goes by the image's own
//! headers. A guest that lies in them would have it read, and perhaps return, memory behind the
//! image. So every length that is visible outside of compressed parts must lie inside the image.
//! What is wrong deeper inside is the driver's to find.

use std::borrow::Cow;

use vgpu_protocol::Status;
use vgpu_protocol::limits::MAX_MESSAGE_BYTES;

/// Magic number of a fat binary, and of the wrapper around one, which holds a host address.
const FATBIN: u32 = 0xba55_ed50;
/// Most entries of a fat binary. nvcc writes two per architecture; each costs a loop here.
const MAX_FATBIN_ENTRIES: usize = 64 << 10;
/// Bytes of an entry's fixed header.
const ENTRY_BYTES: u64 = 64;
const ENTRY_PTX: u16 = 1;
const ENTRY_ELF: u16 = 2;
/// Flags of an entry: LZ4 and zstd.
const COMPRESSED: u64 = 0x2000 | 0x8000;

const ELF: &[u8] = b"\x7fELF";
/// `SHT_NOBITS`: a section without bytes in the file.
const NOBITS: u32 = 8;

/// An image whose headers stay inside it.
#[derive(Debug)]
pub struct CheckedImage<'a> {
    bytes: Cow<'a, [u8]>,
    ptx: Vec<(usize, usize)>,
}

impl<'a> CheckedImage<'a> {
    /// Checks an image.
    ///
    /// # Errors
    /// What is wrong with it, as text for the error log.
    pub fn check(image: &'a [u8]) -> Result<CheckedImage<'a>, String> {
        let mut ptx = Vec::new();
        let bytes = if u32_at(image, 0) == Some(FATBIN) {
            check_fatbin(image, &mut ptx)?;
            aligned(image)
        } else if image.starts_with(ELF) {
            check_elf(image)?;
            aligned(image)
        } else {
            let text = image.strip_suffix(&[0]).unwrap_or(image);
            check_text(text)?;
            ptx.push((0, text.len()));
            // PTX is "NULL-terminated".
            if text.len() < image.len() {
                Cow::Borrowed(image)
            } else {
                Cow::Owned([text, &[0]].concat())
            }
        };
        Ok(CheckedImage { bytes, ptx })
    }

    /// The image, followed by a NUL where it is text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The PTX texts in it that are not compressed.
    pub fn ptx(&self) -> impl Iterator<Item = &str> {
        self.ptx
            .iter()
            .filter_map(|(from, to)| std::str::from_utf8(self.bytes.get(*from..*to)?).ok())
    }
}

/// The driver may expect headers where an allocation would have put them.
fn aligned(image: &[u8]) -> Cow<'_, [u8]> {
    if image.as_ptr().addr().is_multiple_of(8) {
        Cow::Borrowed(image)
    } else {
        Cow::Owned(image.to_vec())
    }
}

/// The status of a refused image.
pub const REFUSED: Status = Status::ERROR_INVALID_IMAGE;

fn check_text(text: &[u8]) -> Result<(), String> {
    if let Some(at) = text.iter().position(|b| *b == 0) {
        return Err(format!("PTX holds a NUL at byte {at}"));
    }
    let start = text.iter().find(|b| !b.is_ascii_whitespace());
    // A directive or a comment.
    match start {
        Some(b'.' | b'/') => Ok(()),
        _ => Err("the image is no PTX, no fat binary and no ELF file".to_owned()),
    }
}

fn check_fatbin(image: &[u8], ptx: &mut Vec<(usize, usize)>) -> Result<(), String> {
    let short = || "the fat binary ends in its header".to_owned();
    let header = u64::from(u16_at(image, 6).ok_or_else(short)?);
    let payload = u64_at(image, 8).ok_or_else(short)?;
    let end = header
        .checked_add(payload)
        .filter(|end| *end <= image.len() as u64 && header >= 16);
    let Some(end) = end else {
        return Err(format!(
            "the fat binary's header says {header} + {payload} bytes, the image has {}",
            image.len()
        ));
    };
    let mut at = header;
    let mut entries = 0;
    while at < end {
        entries += 1;
        if entries > MAX_FATBIN_ENTRIES {
            return Err(format!(
                "the fat binary has more than {MAX_FATBIN_ENTRIES} entries"
            ));
        }
        at = check_entry(image, at, end, ptx)
            .map_err(|what| format!("entry {entries} of the fat binary, at byte {at}: {what}"))?;
    }
    Ok(())
}

/// Checks the entry at `at` and returns where the next one is.
fn check_entry(
    image: &[u8],
    at: u64,
    end: u64,
    ptx: &mut Vec<(usize, usize)>,
) -> Result<u64, String> {
    if end - at < ENTRY_BYTES {
        return Err("it ends in its header".to_owned());
    }
    let entry = image.get(at as usize..end as usize).unwrap_or_default();
    let field = || "it ends in its header".to_owned();
    let kind = u16_at(entry, 0).ok_or_else(field)?;
    let header = u64::from(u32_at(entry, 4).ok_or_else(field)?);
    let payload = u64_at(entry, 8).ok_or_else(field)?;
    let compressed = u64::from(u32_at(entry, 16).ok_or_else(field)?);
    let name_at = u64::from(u32_at(entry, 32).ok_or_else(field)?);
    let name = u64::from(u32_at(entry, 36).ok_or_else(field)?);
    let flags = u64_at(entry, 40).ok_or_else(field)?;
    let unpacked = u64_at(entry, 56).ok_or_else(field)?;
    let next = header
        .checked_add(payload)
        .filter(|n| header >= ENTRY_BYTES && *n <= entry.len() as u64);
    let Some(next) = next else {
        return Err(format!(
            "it says {header} + {payload} bytes, {} are left",
            entry.len()
        ));
    };
    if compressed > payload {
        return Err(format!(
            "{compressed} compressed bytes in a payload of {payload}"
        ));
    }
    if name > 0 && name_at + name > next {
        return Err(format!(
            "its name, {name} bytes at {name_at}, lies outside of it"
        ));
    }
    if flags & COMPRESSED != 0 && unpacked > MAX_MESSAGE_BYTES {
        return Err(format!(
            "it unpacks to {unpacked} bytes, allowed are {MAX_MESSAGE_BYTES}"
        ));
    }
    if flags & COMPRESSED == 0 {
        let body = entry
            .get(header as usize..next as usize)
            .unwrap_or_default();
        if kind == ENTRY_ELF {
            check_elf(body)?;
        }
        if kind == ENTRY_PTX {
            // The payload is padded with NULs, the first of which ends the text.
            let Some(text) = body.iter().position(|b| *b == 0) else {
                return Err("its PTX has no NUL at its end".to_owned());
            };
            let from = (at + header) as usize;
            ptx.push((from, from + text));
        }
    }
    Ok(at + next)
}

/// Checks that the headers of a 64-bit little-endian ELF file stay inside it (ELF-64 Object File
/// Format, "ELF header", "Sections", "Program header table").
fn check_elf(elf: &[u8]) -> Result<(), String> {
    let short = || "the ELF file ends in its header".to_owned();
    if !elf.starts_with(ELF) || elf.get(4) != Some(&2) || elf.get(5) != Some(&1) {
        return Err("no 64-bit little-endian ELF file".to_owned());
    }
    let (ph_at, sh_at) = (
        u64_at(elf, 32).ok_or_else(short)?,
        u64_at(elf, 40).ok_or_else(short)?,
    );
    let [ph_bytes, ph_count, sh_bytes, sh_count] =
        [54, 56, 58, 60].map(|at| u16_at(elf, at).map(u64::from));
    let (ph_bytes, ph_count) = (ph_bytes.ok_or_else(short)?, ph_count.ok_or_else(short)?);
    let (sh_bytes, sh_count) = (sh_bytes.ok_or_else(short)?, sh_count.ok_or_else(short)?);
    if sh_count == 0 && sh_at != 0 {
        // The count would stand in the first section header: no GPU image has so many sections.
        return Err("an ELF file with 65,280 sections or more".to_owned());
    }
    let table = |what: &str, at: u64, bytes: u64, smallest: u64, count: u64| {
        if count == 0 {
            return Ok(());
        }
        let end = bytes.checked_mul(count).and_then(|b| b.checked_add(at));
        match end {
            Some(end) if end <= elf.len() as u64 && bytes >= smallest => Ok(()),
            _ => Err(format!(
                "the ELF file's {what} table, {count} × {bytes} bytes at {at}, lies outside of its {} bytes",
                elf.len()
            )),
        }
    };
    table("program header", ph_at, ph_bytes, 56, ph_count)?;
    table("section header", sh_at, sh_bytes, 64, sh_count)?;
    let inside = |what: &str, number: u64, at: u64, bytes: u64| match at.checked_add(bytes) {
        Some(end) if end <= elf.len() as u64 => Ok(()),
        _ => Err(format!(
            "the ELF file's {what} {number}, {bytes} bytes at {at}, lies outside of its {} bytes",
            elf.len()
        )),
    };
    for number in 0..ph_count {
        let header = (ph_at + number * ph_bytes) as usize;
        let (at, bytes) = (u64_at(elf, header + 8), u64_at(elf, header + 32));
        inside(
            "program header",
            number,
            at.ok_or_else(short)?,
            bytes.ok_or_else(short)?,
        )?;
    }
    for number in 0..sh_count {
        let header = (sh_at + number * sh_bytes) as usize;
        let kind = u32_at(elf, header + 4).ok_or_else(short)?;
        let (at, bytes) = (u64_at(elf, header + 24), u64_at(elf, header + 32));
        if kind != NOBITS && kind != 0 {
            inside(
                "section",
                number,
                at.ok_or_else(short)?,
                bytes.ok_or_else(short)?,
            )?;
        }
    }
    Ok(())
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
