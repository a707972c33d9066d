//! What a program wants of an algorithm.

use crate::abi::{Done, In, Out, exports};
use crate::descriptor::{Attribute, Desc, Image, Kind, at};

/// `cublasLtMatmulPreferenceOpaque_t`: 80 bytes in 11, 64 in 12, 96 from 13.1 on.
#[derive(Clone, Copy, Debug)]
pub struct Preference;

const SEARCH: usize = 8;
const REDUCTION: usize = 12;
const WORKSPACE: usize = 16;
/// Of A, B, C and D.
const ALIGNMENTS: usize = 24;
const WAVES: usize = 40;
const IMPLEMENTATION: usize = 48;

/// Alignment of matrices where none is asked for, in bytes.
const ALIGNED: u32 = 256;
/// `CUBLASLT_REDUCTION_SCHEME_MASK`.
const ALL_REDUCTIONS: u32 = 7;

impl Kind for Preference {
    const MAGIC: u32 = u32::from_ne_bytes(*b"vLtP");
    const LEAST: usize = 64;
    const ATTRIBUTES: &'static [Attribute] = &[
        at(0, SEARCH, 4),
        at(1, WORKSPACE, 8),
        at(3, REDUCTION, 4),
        at(5, ALIGNMENTS, 4),
        at(6, ALIGNMENTS + 4, 4),
        at(7, ALIGNMENTS + 8, 4),
        at(8, ALIGNMENTS + 12, 4),
        at(9, WAVES, 4),
        at(12, IMPLEMENTATION, 8),
        // Of version 11: modes of mathematics, of complex products, of pointers, and epilogues.
        at(2, 56, 4),
        at(4, 60, 4),
        at(10, 64, 4),
        at(11, 68, 4),
        // A number of multiprocessors in 11; from 13.1 on what groups are like.
        at(13, 72, 4),
        at(14, 76, 4),
        at(15, 80, 4),
    ];
}

fn fill(image: &mut Image) {
    image.set_word(REDUCTION, ALL_REDUCTIONS);
    for matrix in 0..4 {
        image.set_word(ALIGNMENTS + 4 * matrix, ALIGNED);
    }
    image.set_long(IMPLEMENTATION, u64::MAX);
}

/// What matters here of it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Most workspace in bytes.
    pub workspace: u64,
    /// Alignments of A, B, C and D in bytes.
    pub alignments: [u32; 4],
}

impl Desc<Preference> {
    /// What matters here of it.
    pub fn wanted(self) -> Done<Wanted> {
        let image = self.load()?;
        Ok(Wanted {
            workspace: image.long(WORKSPACE),
            alignments: std::array::from_fn(|i| image.word(ALIGNMENTS + 4 * i)),
        })
    }
}

exports! {
    /// Makes a preference.
    fn cublasLtMatmulPreferenceCreate(out: Out<Desc<Preference>>) {
        Desc::create(out, fill)
    }

    /// Initialises a preference in the program's memory.
    fn cublasLtMatmulPreferenceInit_internal(preference: Desc<Preference>, bytes: usize) {
        preference.init(bytes, fill)
    }

    /// Destroys a preference.
    fn cublasLtMatmulPreferenceDestroy(preference: Desc<Preference>) {
        preference.destroy()
    }

    /// Sets an attribute.
    fn cublasLtMatmulPreferenceSetAttribute(
        preference: Desc<Preference>, which: u32, value: In<u8>, bytes: usize,
    ) {
        preference.set(which, value, bytes)
    }

    /// An attribute.
    fn cublasLtMatmulPreferenceGetAttribute(
        preference: Desc<Preference>, which: u32, to: Out<u8>, bytes: usize, written: Out<usize>,
    ) {
        preference.get(which, to, bytes, written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_lie_beside_each_other() {
        let mut all: Vec<_> = Preference::ATTRIBUTES.iter().collect();
        all.sort_by_key(|a| a.offset);
        for pair in all.windows(2) {
            assert!(pair[0].offset + pair[0].bytes <= pair[1].offset, "{pair:?}");
        }
        let mut memory = [0u64; 8];
        assert!(
            Desc::<Preference>::inside(&mut memory)
                .init(64, fill)
                .is_ok()
        );
        let wanted = Desc::<Preference>::inside(&mut memory).wanted();
        assert_eq!(wanted.map(|w| w.alignments), Ok([256; 4]));
    }
}
