//! Decompression of fatbin entries.

use std::io::Read;

use super::{ImageError, MAX_PTX_BYTES};

/// Checks a size that a header states.
pub fn check_size(bytes: u64) -> Result<usize, ImageError> {
    if bytes > MAX_PTX_BYTES {
        Err(ImageError::TooLarge(bytes))
    } else {
        Ok(bytes as usize)
    }
}

/// An LZ4 block (no frame) of a known size.
pub fn lz4(data: &[u8], bytes: u64) -> Result<Vec<u8>, ImageError> {
    let size = check_size(bytes)?;
    lz4_flex::block::decompress(data, size)
        .map_err(|_| ImageError::Broken("an LZ4 entry is corrupt"))
}

/// A zstd frame; never more than the stated size.
pub fn zstd(data: &[u8], bytes: u64) -> Result<Vec<u8>, ImageError> {
    let size = check_size(bytes)?;
    let broken = || ImageError::Broken("a zstd entry is corrupt");
    let decoder = ruzstd::decoding::StreamingDecoder::new(data).map_err(|_| broken())?;
    let mut out = Vec::new();
    decoder
        .take(size as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_| broken())?;
    if out.len() > size {
        return Err(ImageError::Broken(
            "a zstd entry is larger than its header says",
        ));
    }
    Ok(out)
}
