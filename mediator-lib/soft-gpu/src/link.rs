//! Linking several images into one, as `cuLinkAddData` and `cuLinkComplete` do.

use std::sync::Arc;

use crate::image::{self, ImageError};
use crate::module::{COMPUTE_CAPABILITY, LoadError, parse_text};
use crate::ptx::link::{Input, link};

/// Most bytes of text that one linker takes: they are kept until it is dropped.
pub const MAX_LINK_BYTES: u64 = 32 << 20;
/// Most texts that one linker takes.
pub const MAX_LINK_INPUTS: usize = 4096;

/// What an input is (`CUjitInputType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    /// Machine code.
    Cubin,
    /// PTX text.
    Ptx,
    /// A fatbin: its best PTX.
    FatBinary,
    /// An object file of the host: the best PTX of each fatbin in it.
    Object,
    /// An archive of such files.
    Library,
}

/// Why inputs cannot be linked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// An input cannot be loaded.
    #[error("'{name}': {error}")]
    Input {
        /// Its name.
        name: String,
        /// Why.
        error: LoadError,
    },
    /// More than [`MAX_LINK_BYTES`] or [`MAX_LINK_INPUTS`].
    #[error(
        "'{0}': the inputs are more than {MAX_LINK_INPUTS} or more than {MAX_LINK_BYTES} bytes of text"
    )]
    TooMuch(String),
    /// Symbols are missing, or defined more than once.
    #[error("{0}")]
    Symbols(String),
}

/// Collects inputs.
#[derive(Default)]
pub struct Linker {
    inputs: Vec<(String, Arc<String>)>,
    bytes: u64,
}

impl Linker {
    /// Adds an input; its text is parsed, so that its errors show here.
    pub fn add(&mut self, kind: InputKind, data: &[u8], name: &str) -> Result<(), LinkError> {
        let of_input = |error: LoadError| LinkError::Input {
            name: name.to_owned(),
            error,
        };
        let texts = match kind {
            InputKind::Cubin => Err(ImageError::NoPtx),
            InputKind::Ptx | InputKind::FatBinary => {
                image::ptx_text(data, COMPUTE_CAPABILITY).map(|t| vec![t])
            }
            InputKind::Object | InputKind::Library => image::embedded_ptx(data, COMPUTE_CAPABILITY),
        };
        for text in texts.map_err(|e| of_input(e.into()))? {
            let text = Arc::new(text);
            parse_text(&text).map_err(of_input)?;
            let bytes = self.bytes + text.len() as u64;
            if bytes > MAX_LINK_BYTES || self.inputs.len() >= MAX_LINK_INPUTS {
                return Err(LinkError::TooMuch(name.to_owned()));
            }
            self.bytes = bytes;
            self.inputs.push((name.to_owned(), text));
        }
        Ok(())
    }

    /// Resolves all symbols; gives an image that [`Module::load`](crate::Module::load) takes.
    pub fn complete(&self) -> Result<Vec<u8>, LinkError> {
        link_texts(&self.inputs).map_err(LinkError::Symbols)?;
        let texts: Vec<&str> = self.inputs.iter().map(|(_, text)| text.as_str()).collect();
        Ok(image::linked_image(&texts))
    }
}

/// Links texts that have been parsed before.
fn link_texts(texts: &[(String, Arc<String>)]) -> Result<(), String> {
    let mut inputs = Vec::new();
    for (name, source) in texts {
        inputs.push(Input {
            name: name.clone(),
            module: parse_text(source).map_err(|e| e.to_string())?,
            source: source.clone(),
        });
    }
    link(inputs).map(|_| ())
}
