//! How long a module image is: images come without a length.
//!
//! | first bytes | kind | length |
//! |---|---|---|
//! | 0x466243b1 | wrapper (`__fatDeviceText`): u32 version, pointer to a fat binary | the fat binary's |
//! | 0xba55ed50 | fat binary | u16 at 6: header, u64 at 8: payload |
//! | 7f 45 4c 46 | ELF cubin | end of the last header, section or segment |
//! | else | PTX text | to the NUL |

use vgpu_protocol::Status;
use vgpu_protocol::limits::MAX_MESSAGE_BYTES;

use crate::abi::{Done, Host};

const WRAPPER: u32 = 0x4662_43b1;
const FATBIN: u32 = 0xba55_ed50;
const ELF: u32 = u32::from_le_bytes(*b"\x7fELF");

fn u16_at(at: Host, offset: usize) -> Done<u64> {
    at.offset(offset).values::<u16>().get().map(u64::from)
}

fn u32_at(at: Host, offset: usize) -> Done<u32> {
    at.offset(offset).values().get()
}

fn u64_at(at: Host, offset: usize) -> Done<u64> {
    at.offset(offset).values().get()
}

/// The image that starts at an address.
pub fn image<'a>(at: Host) -> Done<&'a [u8]> {
    if at.is_null() {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    // One byte at a time: PTX text may be shorter than a word.
    let mut magic = [0u8; 4];
    for (i, byte) in magic.iter_mut().enumerate() {
        *byte = at.offset(i).values().get()?;
        if *byte == 0 {
            break;
        }
    }
    let length = match u32::from_le_bytes(magic) {
        WRAPPER => {
            // u32 magic, u32 version, pointer to the fat binary.
            let inner = Host(u64_at(at, 8)? as *mut _);
            if inner.is_null() || u32_at(inner, 0)? != FATBIN {
                return Err(Status::ERROR_INVALID_IMAGE);
            }
            return image(inner);
        }
        FATBIN => u16_at(at, 6)?.saturating_add(u64_at(at, 8)?),
        ELF => elf_length(at)?,
        // With the NUL, which tells the host that it is text.
        _ => at.text().bytes()?.len() as u64 + 1,
    };
    if length > MAX_MESSAGE_BYTES - 4096 {
        return Err(Status::ERROR_INVALID_IMAGE);
    }
    at.slice(length as usize)
}

/// End of an ELF64 file: of its headers, sections and segments, whichever comes last (System V
/// ABI, "ELF Header", "Sections", "Program Header").
fn elf_length(at: Host) -> Done<u64> {
    const CLASS64: u8 = 2;
    const SHT_NOBITS: u32 = 8;
    if at.offset(4).values::<u8>().get()? != CLASS64 {
        return Err(Status::ERROR_INVALID_IMAGE);
    }
    let (phoff, shoff) = (u64_at(at, 32)?, u64_at(at, 40)?);
    let (phentsize, phnum) = (u16_at(at, 54)?, u16_at(at, 56)?);
    let (shentsize, shnum) = (u16_at(at, 58)?, u16_at(at, 60)?);
    let mut end = 64u64;
    let mut reach = |from: u64, bytes: u64| -> Done {
        let to = from
            .checked_add(bytes)
            .filter(|to| *to <= MAX_MESSAGE_BYTES);
        end = end.max(to.ok_or(Status::ERROR_INVALID_IMAGE)?);
        Ok(())
    };
    reach(phoff, phentsize * phnum)?;
    reach(shoff, shentsize * shnum)?;
    for i in 0..shnum {
        let section = (shoff + i * shentsize) as usize;
        if u32_at(at, section + 4)? != SHT_NOBITS {
            reach(u64_at(at, section + 24)?, u64_at(at, section + 32)?)?;
        }
    }
    for i in 0..phnum {
        let segment = (phoff + i * phentsize) as usize;
        reach(u64_at(at, segment + 8)?, u64_at(at, segment + 32)?)?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(bytes: &[u8]) -> Host {
        Host(bytes.as_ptr().cast_mut().cast())
    }

    fn fatbin(payload: usize) -> Vec<u8> {
        let mut out = FATBIN.to_le_bytes().to_vec();
        out.extend(1u16.to_le_bytes());
        out.extend(16u16.to_le_bytes());
        out.extend((payload as u64).to_le_bytes());
        out.resize(16 + payload, 7);
        out
    }

    #[test]
    fn text_goes_to_its_nul() {
        assert_eq!(
            image(host(b".version 8.0\n\0rest")).map(<[u8]>::len),
            Ok(14)
        );
        assert_eq!(image(host(b"\0")).map(<[u8]>::len), Ok(1));
        assert_eq!(image(host(b"ab\0")).map(<[u8]>::len), Ok(3));
        assert_eq!(
            image(Host(std::ptr::null_mut())),
            Err(Status::ERROR_INVALID_VALUE)
        );
    }

    #[test]
    fn a_fat_binary_says_its_length_and_a_wrapper_leads_to_one() {
        let mut bytes = fatbin(100);
        bytes.extend([1, 2, 3]);
        assert_eq!(image(host(&bytes)).map(<[u8]>::len), Ok(116));
        let mut wrapper = WRAPPER.to_le_bytes().to_vec();
        wrapper.extend(1u32.to_le_bytes());
        wrapper.extend((bytes.as_ptr() as u64).to_le_bytes());
        wrapper.extend([0; 8]);
        assert_eq!(image(host(&wrapper)), Ok(&bytes[..116]));
        // To something that is no fat binary.
        let to = wrapper.as_ptr() as u64;
        let mut bad = wrapper.clone();
        bad[8..16].copy_from_slice(&to.to_le_bytes());
        assert_eq!(image(host(&bad)), Err(Status::ERROR_INVALID_IMAGE));
    }

    #[test]
    fn an_impossible_length_is_refused() {
        let mut bytes = fatbin(0);
        bytes[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(image(host(&bytes)), Err(Status::ERROR_INVALID_IMAGE));
    }

    #[test]
    fn an_elf_ends_with_its_last_section_or_header() {
        let mut elf = vec![0u8; 64 + 2 * 64];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[4] = 2;
        elf[40..48].copy_from_slice(&64u64.to_le_bytes());
        elf[58..60].copy_from_slice(&64u16.to_le_bytes());
        elf[60..62].copy_from_slice(&2u16.to_le_bytes());
        assert_eq!(image(host(&elf)).map(<[u8]>::len), Ok(192));
        // The second section: 10 bytes at 200.
        elf[128 + 4] = 1;
        elf[128 + 24..128 + 32].copy_from_slice(&200u64.to_le_bytes());
        elf[128 + 32..128 + 40].copy_from_slice(&10u64.to_le_bytes());
        elf.resize(210, 0);
        assert_eq!(image(host(&elf)).map(<[u8]>::len), Ok(210));
    }
}
