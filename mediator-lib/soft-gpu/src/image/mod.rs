//! Images: PTX text, and fatbins that hold it.

mod decompress;
mod fatbin;

use crate::link::{MAX_LINK_BYTES, MAX_LINK_INPUTS};

/// Largest PTX text, compressed or not: bounds memory and parse time of one
/// module. The largest known (a whole BLAS) is below a tenth of it.
pub const MAX_PTX_BYTES: u64 = 1 << 30;

/// Most bytes of texts that are linked, with what fills them up to whole words: a small image may hold a great many that
/// are well compressed.
pub const MAX_TEXTS_BYTES: u64 = MAX_LINK_BYTES + 8 * MAX_LINK_INPUTS as u64;

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
    /// Texts that belong together are larger than [`MAX_TEXTS_BYTES`].
    #[error("the image's PTX has more than {MAX_TEXTS_BYTES} bytes in all")]
    TooMuch,
}

/// The part of an image that suits a device best.
pub enum Chosen<'a> {
    /// A text.
    Text(&'a [u8]),
    /// An entry of a fatbin.
    Entry(fatbin::Entry<'a>),
}

impl Chosen<'_> {
    /// Its bytes as they lie in the image, compressed or not.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Chosen::Text(t) => t,
            Chosen::Entry(e) => e.data,
        }
    }

    /// The PTX text.
    pub fn text(&self) -> Result<String, ImageError> {
        match self {
            Chosen::Text(t) => Ok(text(t)),
            Chosen::Entry(e) => e.text().map(|b| text(&b)),
        }
    }
}

/// The PTX of an image that suits compute capability `sm` best.
pub fn choose(image: &[u8], sm: u32) -> Result<Chosen<'_>, ImageError> {
    if fatbin::is_fatbin(image) {
        return fatbin::best_ptx(image, sm).map(Chosen::Entry);
    }
    if image.len() as u64 > MAX_PTX_BYTES {
        return Err(ImageError::TooLarge(image.len() as u64));
    }
    if image.starts_with(b"\x7fELF") {
        return Err(ImageError::NoPtx);
    }
    let start = image.iter().position(|b| !b.is_ascii_whitespace());
    match start.and_then(|s| image.get(s)) {
        Some(b'.' | b'/' | b'@') => {
            let end = image.iter().position(|&b| b == 0).unwrap_or(image.len());
            Ok(Chosen::Text(image.get(..end).unwrap_or(image)))
        }
        _ => Err(ImageError::Broken("neither PTX text nor a fatbin")),
    }
}

/// The PTX text of an image that suits compute capability `sm` best.
pub fn ptx_text(image: &[u8], sm: u32) -> Result<String, ImageError> {
    choose(image, sm)?.text()
}

/// The texts of a linked image; none of another.
pub fn linked_texts(image: &[u8]) -> Result<Option<Vec<String>>, ImageError> {
    if !fatbin::is_fatbin(image) {
        return Ok(None);
    }
    let texts = fatbin::linked_texts(image)?;
    Ok(texts.map(|list| list.iter().map(|t| text(t)).collect()))
}

/// An image of several texts that are one module together.
pub fn linked_image(texts: &[&str]) -> Vec<u8> {
    fatbin::linked(texts, 0)
}

/// The best PTX of each fatbin in a file of the host: an object file or an archive.
pub fn embedded_ptx(file: &[u8], sm: u32) -> Result<Vec<String>, ImageError> {
    let mut found = Vec::new();
    let mut at = 0;
    let mut left = MAX_TEXTS_BYTES;
    while let Some(rest) = file.get(at..).filter(|r| !r.is_empty()) {
        let bytes = if fatbin::is_fatbin(rest) {
            match fatbin::best_ptx(rest, sm).and_then(|e| e.text_within(&mut left)) {
                Ok(b) => found.push(text(&b)),
                Err(ImageError::NoPtx) => {}
                Err(e) => return Err(e),
            }
            fatbin::length(rest)?.next_multiple_of(8)
        } else {
            8
        };
        at += bytes;
    }
    if found.is_empty() {
        return Err(ImageError::NoPtx);
    }
    Ok(found)
}

/// A PTX text found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PtxImage {
    /// Architecture that the fatbin names, for example 75; 0 for a plain text.
    pub sm: u32,
    /// The text.
    pub text: String,
}

/// Every PTX text in a file: the file itself, or the entries of all fatbins that
/// it holds (a library has one per compilation unit).
pub fn ptx_images(file: &[u8]) -> Result<Vec<PtxImage>, ImageError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = file.get(at..).filter(|r| !r.is_empty()) {
        // Bytes that only look like a fatbin are no error: the file is not ours.
        match fatbin::is_fatbin(rest).then(|| fatbin::all_ptx(rest)) {
            Some(Ok((texts, bytes))) => {
                found.extend(
                    texts
                        .into_iter()
                        .map(|(sm, b)| PtxImage { sm, text: text(&b) }),
                );
                at += bytes.max(8).next_multiple_of(8);
            }
            _ => at += 8,
        }
    }
    if !found.is_empty() {
        return Ok(found);
    }
    Ok(vec![PtxImage {
        sm: 0,
        text: ptx_text(file, u32::MAX)?,
    }])
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_gives_the_texts_of_all_its_fatbins() {
        let library = fatbin::tests::library();
        let found = ptx_images(&library).unwrap();
        let list: Vec<_> = found.iter().map(|p| (p.sm, p.text.as_str())).collect();
        assert_eq!(
            list,
            [
                (75, ".a"),
                (80, ".b .b .b .b .b .b .b .b .b .b "),
                (90, ".c")
            ]
        );
        assert_eq!(ptx_images(b".version 8.0").unwrap()[0].sm, 0);
        assert_eq!(ptx_images(b"\x7fELF............"), Err(ImageError::NoPtx));
    }

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
