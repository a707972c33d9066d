//! Algorithms. The guest has one, which stands for the one that the host's library chooses when the product
//! is computed: what it is and what it needs depends on nothing that the guest would have to ask for, so
//! that heuristics need no message.

use vgpu_protocol::blas::{BlasStatus, ComputeKind, ty, type_bytes};
use vgpu_protocol::calls::{DevPtr, LtMatmul, LtMatrix};

use crate::abi::{Device, Done, INVALID, In, Out, exports};
use crate::descriptor::{Attribute, Desc, Image, Kind, at, give};
use crate::handle;
use crate::layout::Layout;
use crate::matmul::describe;
use crate::operation::Operation;
use crate::preference::{Preference, Wanted};

/// `cublasLtMatmulAlgo_t`: 64 bytes in every version. Programs copy it as they like.
#[derive(Clone, Copy, Debug)]
pub struct Algorithm;

/// The only algorithm's number.
const ONLY: u32 = 0;

const ID: usize = 8;
const SPLIT: usize = 16;
const COMPUTE: usize = 40;
const SCALE: usize = 44;
/// Types of A, B, C and D.
const TYPES: usize = 48;

impl Kind for Algorithm {
    const MAGIC: u32 = u32::from_ne_bytes(*b"vLtA");
    const LEAST: usize = 64;
    // The configuration, which the one algorithm keeps and has no use for.
    const ATTRIBUTES: &'static [Attribute] = &[
        at(0, ID, 4),
        at(1, 12, 4),
        at(2, SPLIT, 4),
        at(3, 20, 4),
        at(4, 24, 4),
        at(5, 28, 4),
        at(6, 32, 4),
        at(7, 36, 2),
        at(8, 38, 2),
    ];
}

/// Size of the struct.
const BYTES: usize = 64;

fn fill(image: &mut Image, op: &LtMatmul) {
    image.set_word(ID, ONLY);
    image.set_word(SPLIT, 1);
    image.set_word(COMPUTE, op.compute);
    image.set_word(SCALE, op.scale);
    for (i, matrix) in [&op.a, &op.b, &op.c, &op.d].into_iter().enumerate() {
        image.set_word(TYPES + 4 * i, matrix.ty);
    }
}

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Found {
    algorithm: [u64; 8],
    workspace: usize,
    state: u32,
    waves: f32,
    reserved: [i32; 4],
}

impl Desc<Algorithm> {
    /// Checks that it was made for such a product.
    pub fn require(self, op: &LtMatmul) -> Done {
        let image = self.load()?;
        let mut like = image;
        fill(&mut like, op);
        let same = (COMPUTE..BYTES)
            .step_by(4)
            .all(|offset| image.word(offset) == like.word(offset));
        if image.word(ID) != ONLY || !same {
            return Err(INVALID);
        }
        Ok(())
    }
}

/// A product of the smallest matrices of these types.
fn smallest(compute: u32, scale: u32, types: [u32; 4]) -> LtMatmul {
    // Four rows, as integers want them; different addresses.
    let matrix = |which: usize| LtMatrix {
        at: DevPtr(256 * (1 + which as u64)),
        ty: types[which],
        rows: 4,
        cols: 4,
        ld: 4,
        batch: 1,
        ..LtMatrix::default()
    };
    LtMatmul {
        compute,
        scale,
        epilogue: 1,
        a: matrix(0),
        b: matrix(1),
        c: matrix(2),
        d: matrix(3),
        ..LtMatmul::default()
    }
}

/// Addresses that stand for those that a product will have, with their alignments: different ones.
fn stand_in(alignments: [u32; 4]) -> [Device; 4] {
    let mut odd = [1, 3, 5, 7].into_iter();
    alignments.map(|alignment| {
        let times = odd.next().unwrap_or(1);
        Device::at(u64::from(alignment.max(1)) * times)
    })
}

/// What a heuristic says of a product.
fn found(
    operation: Desc<Operation>,
    layouts: [Desc<Layout>; 4],
    wanted: Wanted,
) -> Done<(LtMatmul, usize)> {
    let (mut op, _) = describe(operation, layouts, stand_in(wanted.alignments))?;
    // The pointers of an epilogue may come later.
    for pointer in [&mut op.bias, &mut op.aux] {
        if pointer.0 == 0 {
            pointer.0 = 256;
        }
    }
    op.check()?;
    let workspace = wanted.workspace.min(handle::workspace()?);
    Ok((op, workspace as usize))
}

fn result(op: &LtMatmul, workspace: usize) -> Done<Found> {
    let mut algorithm = [0; BYTES / 8];
    Desc::<Algorithm>::inside(&mut algorithm).init(BYTES, |image| fill(image, op))?;
    Ok(Found {
        algorithm,
        workspace,
        state: BlasStatus::SUCCESS.0,
        waves: 1.0,
        reserved: [0; 4],
    })
}

#[allow(clippy::too_many_arguments, reason = "the arguments are cublasLt's")]
fn heuristic(
    handle: u64,
    operation: Desc<Operation>,
    layouts: [Desc<Layout>; 4],
    preference: Desc<Preference>,
    most: i32,
    results: Out<Found>,
    count: Out<i32>,
) -> Done {
    handle::check(handle)?;
    results.check()?;
    count.check()?;
    if most < 1 {
        return Err(INVALID);
    }
    count.set(0)?;
    let (op, workspace) = found(operation, layouts, preference.wanted()?)?;
    results.set(result(&op, workspace)?)?;
    count.set(1)
}

fn check(
    handle: u64,
    operation: Desc<Operation>,
    layouts: [Desc<Layout>; 4],
    algorithm: Desc<Algorithm>,
    out: Out<Found>,
) -> Done {
    handle::check(handle)?;
    out.check()?;
    let any = Wanted {
        workspace: u64::MAX,
        alignments: [256; 4],
    };
    let (op, workspace) = found(operation, layouts, any)?;
    algorithm.require(&op)?;
    out.set(result(&op, workspace)?)
}

exports! {
    /// Algorithms for a product: one, where there is any.
    fn cublasLtMatmulAlgoGetHeuristic(
        handle: u64, operation: Desc<Operation>, a: Desc<Layout>, b: Desc<Layout>, c: Desc<Layout>, d: Desc<Layout>,
        preference: Desc<Preference>, most: i32, results: Out<Found>, count: Out<i32>,
    ) {
        heuristic(handle, operation, [a, b, c, d], preference, most, results, count)
    }

    /// The same for a stream, of which it does not depend.
    fn cublasLtMatmulAlgoGetHeuristicForStream(
        handle: u64, operation: Desc<Operation>, a: Desc<Layout>, b: Desc<Layout>, c: Desc<Layout>, d: Desc<Layout>,
        preference: Desc<Preference>, most: i32, results: Out<Found>, count: Out<i32>, _stream: u64,
    ) {
        heuristic(handle, operation, [a, b, c, d], preference, most, results, count)
    }

    /// Whether an algorithm is one for a product.
    fn cublasLtMatmulAlgoCheck(
        handle: u64, operation: Desc<Operation>, a: Desc<Layout>, b: Desc<Layout>, c: Desc<Layout>, d: Desc<Layout>,
        algorithm: Desc<Algorithm>, out: Out<Found>,
    ) {
        check(handle, operation, [a, b, c, d], algorithm, out)
    }

    /// The same for a stream.
    fn cublasLtMatmulAlgoCheckForStream(
        handle: u64, operation: Desc<Operation>, a: Desc<Layout>, b: Desc<Layout>, c: Desc<Layout>, d: Desc<Layout>,
        algorithm: Desc<Algorithm>, out: Out<Found>, _stream: u64,
    ) {
        check(handle, operation, [a, b, c, d], algorithm, out)
    }

    /// Numbers of the algorithms for these types.
    fn cublasLtMatmulAlgoGetIds(
        handle: u64, compute: u32, scale: u32, a: u32, b: u32, c: u32, d: u32, most: i32, ids: Out<u32>, count: Out<i32>,
    ) {
        handle::check(handle)?;
        ids.check()?;
        if most < 1 {
            return Err(INVALID);
        }
        smallest(compute, scale, [a, b, c, d]).check()?;
        ids.set(ONLY)?;
        if !count.is_null() {
            count.set(1)?;
        }
        Ok(())
    }

    /// An algorithm by its number.
    fn cublasLtMatmulAlgoInit(
        handle: u64, compute: u32, scale: u32, a: u32, b: u32, c: u32, d: u32, id: u32, algorithm: Desc<Algorithm>,
    ) {
        handle::check(handle)?;
        let op = smallest(compute, scale, [a, b, c, d]);
        op.check()?;
        if id != ONLY {
            return Err(INVALID);
        }
        algorithm.init(BYTES, |image| fill(image, &op))
    }

    /// Sets a part of an algorithm's configuration.
    fn cublasLtMatmulAlgoConfigSetAttribute(algorithm: Desc<Algorithm>, which: u32, value: In<u8>, bytes: usize) {
        algorithm.set(which, value, bytes)
    }

    /// A part of an algorithm's configuration.
    fn cublasLtMatmulAlgoConfigGetAttribute(
        algorithm: Desc<Algorithm>, which: u32, to: Out<u8>, bytes: usize, written: Out<usize>,
    ) {
        algorithm.get(which, to, bytes, written)
    }

    /// What an algorithm can do.
    fn cublasLtMatmulAlgoCapGetAttribute(
        algorithm: Desc<Algorithm>, which: u32, to: Out<u8>, bytes: usize, written: Out<usize>,
    ) {
        let image = algorithm.load()?;
        match capability(&image, which).ok_or(INVALID)? {
            Capability::Word(word) => give(&word.to_ne_bytes(), to, bytes, written),
            Capability::Long(long) => give(&long.to_ne_bytes(), to, bytes, written),
            // A list, of which as many are given as there is room for.
            Capability::Undefined if bytes >= 4 => give(&[0; 4], to, 4, written),
            Capability::Undefined => give(&[0; 4], to, bytes, written),
        }
    }
}

/// A value of `cublasLtMatmulAlgoCapAttributes_t`.
enum Capability {
    Word(u32),
    Long(u64),
    /// A list with one number, 0: tile or stages are not defined.
    Undefined,
}

/// Pointers in host and in device memory (`cublasLtPointerModeMask_t`).
const POINTERS: u32 = 1 | 2;
/// The union of the epilogues that there are.
const EPILOGUES: u32 = 1 | 2 | 4 | 8 | 32 | 64 | 128;

fn capability(image: &Image, which: u32) -> Option<Capability> {
    use Capability::*;
    let types: [u32; 4] = std::array::from_fn(|i| image.word(TYPES + 4 * i));
    let plain = matches!(types[0], ty::R_8I | ty::C_8I | ty::C_32F | ty::C_64F);
    let alignment = |which: usize| match types[which] {
        ty::R_8I if which < 2 => 4,
        other => type_bytes(other).unwrap_or(1) as u32,
    };
    Some(match which {
        // SPLITK_SUPPORT, REDUCTION_SCHEME_MASK, CTA_SWIZZLING_SUPPORT.
        0..=2 => Word(0),
        // STRIDED_BATCH_SUPPORT, OUT_OF_PLACE_RESULT_SUPPORT.
        3 | 4 => Word(1),
        // UPLO_SUPPORT.
        5 => Word(0),
        // TILE_IDS, STAGES_IDS.
        6 | 13 => Undefined,
        // CUSTOM_OPTION_MAX, the modes of version 11, CUSTOM_MEMORY_ORDER.
        7..=10 => Word(0),
        11 => Word(POINTERS),
        12 => Word(if plain { 1 } else { EPILOGUES }),
        // LD_NEGATIVE.
        14 => Word(0),
        15 => Long(numerical(image.word(COMPUTE), types[0])?),
        16..=19 => Word(alignment((which - 16) as usize)),
        // ATOMIC_SYNC.
        20 => Word(0),
        // POINTER_ARRAY_BATCH_SUPPORT.
        21 => Word(1),
        // FLOATING_POINT_EMULATION_SUPPORT, POINTER_ARRAY_GROUPED_SUPPORT.
        22 | 23 => Word(0),
        _ => return None,
    })
}

/// `cublasLtNumericalImplFlags_t`: plain multiplications, the type of sums, the type of inputs.
fn numerical(compute: u32, input: u32) -> Option<u64> {
    let sums = match ComputeKind::from_number(compute)? {
        ComputeKind::F16 => 1,
        ComputeKind::F32 | ComputeKind::F32Fast => 2,
        ComputeKind::F64 => 4,
        ComputeKind::I32 => 8,
    };
    let inputs = match input {
        ty::R_16F => 1,
        ty::R_16BF => 2,
        ty::R_32F | ty::C_32F => 8,
        ty::R_64F | ty::C_64F => 16,
        _ => 32,
    };
    let complex = u64::from(matches!(input, ty::C_32F | ty::C_64F | ty::C_8I));
    Some(1 | sums << 8 | inputs << 16 | complex << 32)
}
