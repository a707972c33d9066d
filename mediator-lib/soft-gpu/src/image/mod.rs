//! Images: PTX text, and fatbins that hold it.

mod decompress;
mod fatbin;

/// Largest PTX text, compressed or not: bounds memory and parse time of one
/// module. The largest known (a whole BLAS) is below a tenth of it.
pub const MAX_PTX_BYTES: u64 = 1 << 30;

/// What is wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No PTX for this device.
    #[error("no PTX for this device")]
    NoPtx,
    /// A header or length is wrong.
    #[error("{0}")]
    Broken(&'static str),
    /// Text is larger than [`MAX_PTX_BYTES`].
    #[error("PTX of {0} bytes exceeds the limit of {MAX_PTX_BYTES}")]
    TooLarge(u64),
}

/// The PTX text of an image that suits compute capability `sm` best.
pub fn ptx_text(image: &[u8], sm: u32) -> Result<String, ImageError> {
    if image.len() as u64 > MAX_PTX_BYTES && !fatbin::is_fatbin(image) {
        return Err(ImageError::TooLarge(image.len() as u64));
    }
    if fatbin::is_fatbin(image) {
        return fatbin::best_ptx(image, sm).map(|b| text(&b));
    }
    if image.starts_with(b"\x7fELF") {
        return Err(ImageError::NoPtx);
    }
    let start = image.iter().position(|b| !b.is_ascii_whitespace());
    match start.and_then(|s| image.get(s)) {
        Some(b'.' | b'/' | b'@') => Ok(text(image)),
        _ => Err(ImageError::Broken("neither PTX text nor a fatbin")),
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        assert_eq!(
            ptx_text(b".version 8.0\0junk", 90),
            Ok(".version 8.0".into())
        );
        assert_eq!(ptx_text(b"\x7fELF....", 90), Err(ImageError::NoPtx));
        assert!(matches!(ptx_text(b"", 90), Err(ImageError::Broken(_))));
        assert!(matches!(ptx_text(b"hello", 90), Err(ImageError::Broken(_))));
    }
}
