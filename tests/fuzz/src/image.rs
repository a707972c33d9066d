//! Images around PTX: fatbins with plain, LZ4 and zstd entries, linked ones, object files; whole or damaged.

use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use vgpu_soft_gpu::{InputKind, Linker};

use crate::random::Random;

const MAGIC: u32 = 0xba55_ed50;
const LZ4: u64 = 0x2000;
const ZSTD: u64 = 0x8000;

/// An entry of a fatbin: its header of 64 bytes and its contents.
fn entry(kind: u16, sm: u32, flags: u64, data: &[u8], uncompressed: u64) -> Vec<u8> {
    let padded = data.len().next_multiple_of(8);
    let mut e = vec![0u8; 64];
    e[0..2].copy_from_slice(&kind.to_le_bytes());
    e[2..4].copy_from_slice(&0x0101u16.to_le_bytes());
    e[4..8].copy_from_slice(&64u32.to_le_bytes());
    e[8..12].copy_from_slice(&(padded as u32).to_le_bytes());
    e[16..20].copy_from_slice(&(data.len() as u32).to_le_bytes());
    e[28..32].copy_from_slice(&sm.to_le_bytes());
    e[40..48].copy_from_slice(&flags.to_le_bytes());
    e[56..64].copy_from_slice(&uncompressed.to_le_bytes());
    e.extend_from_slice(data);
    e.resize(64 + padded, 0);
    e
}

/// A fatbin of such entries.
fn fatbin(entries: &[Vec<u8>]) -> Vec<u8> {
    let body = entries.concat();
    let mut f = Vec::with_capacity(16 + body.len());
    f.extend_from_slice(&MAGIC.to_le_bytes());
    f.extend_from_slice(&1u16.to_le_bytes());
    f.extend_from_slice(&16u16.to_le_bytes());
    f.extend_from_slice(&(body.len() as u64).to_le_bytes());
    f.extend_from_slice(&body);
    f
}

fn packed(r: &mut Random, text: &[u8]) -> Vec<u8> {
    let sm = *r.of(&[50, 75, 80, 90, 90, 90, 100]);
    let bytes = text.len() as u64;
    match r.below(3) {
        0 => entry(1, sm, 0, text, 0),
        1 => entry(1, sm, LZ4, &lz4_flex::block::compress(text), bytes),
        _ => {
            let level = *r.of(&[CompressionLevel::Fastest, CompressionLevel::Uncompressed]);
            entry(1, sm, ZSTD, &compress_to_vec(text, level), bytes)
        }
    }
}

/// A fatbin that holds a text, perhaps among others.
pub fn wrap(r: &mut Random, text: &[u8], other: &[u8]) -> Vec<u8> {
    let mut entries = vec![packed(r, text)];
    if r.one_in(2) {
        entries.push(packed(r, other));
    }
    if r.one_in(3) {
        entries.push(entry(2, 90, 0, b"\x7fELF machine code", 0));
    }
    let at = r.below(entries.len());
    entries.rotate_left(at);
    fatbin(&entries)
}

/// What the linker makes of texts; none where it refuses.
pub fn linked(r: &mut Random, texts: &[&[u8]]) -> Option<Vec<u8>> {
    let mut linker = Linker::default();
    for text in texts {
        let added = match r.below(4) {
            0 => linker.add(InputKind::FatBinary, &wrap(r, text, b""), "fatbin"),
            1 => {
                let mut object = b"\x7fELF....".to_vec();
                object.extend(wrap(r, text, b""));
                if r.one_in(4) {
                    damage(r, &mut object);
                }
                linker.add(InputKind::Object, &object, "object")
            }
            _ => linker.add(InputKind::Ptx, text, "text"),
        };
        let _ = added;
    }
    linker.complete().ok()
}

/// Changes a few bytes: bits, whole values of headers, missing and repeated parts.
pub fn damage(r: &mut Random, image: &mut Vec<u8>) {
    for _ in 0..1 + r.below(4) {
        if image.is_empty() {
            return;
        }
        // Headers are at the front: most changes go there.
        let reach = if r.one_in(2) {
            image.len().min(160)
        } else {
            image.len()
        };
        let at = r.below(reach);
        match r.below(7) {
            0 | 1 => image[at] ^= 1 << r.below(8),
            2 => image[at] = r.bits() as u8,
            3 => {
                let at = at & !3;
                let value = r.number() as u64;
                let n = *r.of(&[2, 4, 8]);
                for (b, v) in image.iter_mut().skip(at).zip(value.to_le_bytes()).take(n) {
                    *b = v;
                }
            }
            4 => image.truncate(at),
            5 => {
                let n = 1 + r.below(16.min(image.len() - at));
                image.drain(at..at + n);
            }
            _ => {
                let n = (1 + r.below(64)).min(image.len() - at);
                let part = image[at..at + n].to_vec();
                let to = r.below(image.len());
                image.splice(to..to, part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undamaged_images_hold_the_text() {
        let text = b".version 8.0\n.target sm_50\n.address_size 64\n.visible .entry k() { ret; }\n";
        let mut r = Random::new(1);
        for _ in 0..50 {
            let image = wrap(&mut r, text, text);
            let found = vgpu_soft_gpu::ptx_images(&image).unwrap();
            assert!(found.iter().any(|f| f.text.as_bytes() == text));
        }
    }
}
