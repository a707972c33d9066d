//! One input: an image, and the seed of what is done with it.

use anyhow::{Context, Result};

/// How a stored case begins.
const HEAD: &str = "vgpu-fuzz case";

/// An input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What is loaded: PTX text, a fatbin, or bytes that look like one.
    pub image: Vec<u8>,
    /// Seed of modes, launches, arguments and memory.
    pub plan: u64,
}

impl Case {
    /// As a file holds it: one line, then the image.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("{HEAD} plan={:#018x}\n", self.plan).into_bytes();
        out.extend_from_slice(&self.image);
        out
    }

    /// Out of a file.
    pub fn decode(file: &[u8]) -> Result<Case> {
        let line = file.split(|b| *b == b'\n').next().unwrap_or_default();
        let plan = std::str::from_utf8(line)
            .ok()
            .and_then(|l| l.strip_prefix(HEAD)?.trim().strip_prefix("plan=0x"))
            .and_then(|l| u64::from_str_radix(l, 16).ok())
            .with_context(|| format!("the first line must be `{HEAD} plan=0x…`"))?;
        Ok(Case {
            image: file.get(line.len() + 1..).unwrap_or_default().to_vec(),
            plan,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_comes_back_out_of_its_file() {
        let case = Case {
            image: b".version 8.0\n\0\xff".to_vec(),
            plan: 0xfeed,
        };
        assert_eq!(Case::decode(&case.encode()).unwrap(), case);
        assert!(Case::decode(b".version 8.0\n").is_err());
        assert!(Case::decode(b"").is_err());
    }
}
