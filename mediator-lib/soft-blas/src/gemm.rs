//! Products: `C = alpha A B + beta C`, with A and B of any layout and shape.
#![allow(unsafe_code)] // The gemm crate takes raw pointers.

use std::any::Any;
use std::cell::RefCell;

use vgpu_soft_gpu::{Abort, AddressSpace};

use crate::exec::{BlasError, Exec, go_on};
use crate::finish::Finish;
use crate::matrix::{Block, Matrix, Scalar, Shape, View};
use crate::num::{Num, Type, c32, c64};

/// Longest piece of a product that is computed without a look at the flag that ends it: with
/// [`TILES`] about 10 ms.
const K_STEP: u64 = 2048;

/// Terms of a sum of int8 products that a float holds exactly: 1024 · 128 · 128 = 2²⁴.
const EXACT_TERMS: u64 = 1024;

/// Edges of the tiles into which C is cut, large to small.
const TILES: [u64; 4] = [512, 256, 128, 64];

/// A product to be computed.
#[derive(Clone, Copy, Debug)]
pub struct Product<T> {
    /// Rows of A and C.
    pub m: u64,
    /// Columns of B and C.
    pub n: u64,
    /// Columns of A, rows of B.
    pub k: u64,
    /// Factor of the product.
    pub alpha: T,
    /// A.
    pub a: Matrix,
    /// B.
    pub b: Matrix,
    /// Factor of the old C, which is not read where this is 0.
    pub beta: T,
    /// C. Of a triangle or a Hermitian matrix only what lies in memory is computed.
    pub c: Matrix,
    /// Number of matrices.
    pub batch: u64,
}

/// In which type is computed, for [`Gemm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    /// Single precision; `alpha` and `beta` are halves (`CUBLAS_COMPUTE_16F` asks for at least half
    /// precision of the intermediate values).
    F16,
    /// Single precision, real or complex as C is.
    F32,
    /// Double precision, real or complex as C is.
    F64,
    /// 32-bit integers, which wrap around.
    I32,
    /// 32-bit integers, which single precision then scales into int8; factors are floats.
    I8,
}

/// What a call of the gemm family asks for.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows of op(A) and C.
    pub m: u64,
    /// Columns of op(B) and C.
    pub n: u64,
    /// Columns of op(A), rows of op(B).
    pub k: u64,
    /// Factor of the product.
    pub alpha: Scalar,
    /// op(A).
    pub a: Matrix,
    /// op(B).
    pub b: Matrix,
    /// Factor of the old C.
    pub beta: Scalar,
    /// C.
    pub c: Matrix,
    /// Number of matrices.
    pub batch: u64,
    /// In which type.
    pub compute: Compute,
    /// The old C, where it is another matrix than the one that is stored.
    pub from: Option<Matrix>,
    /// What happens to each element before it is stored.
    pub finish: Finish,
}

/// Runs a call of the gemm family.
pub fn gemm(exec: &Exec<'_>, g: &Gemm) -> Result<(), BlasError> {
    let complex = matches!(g.c.ty, Type::C32 | Type::C64);
    match (g.compute, complex) {
        (Compute::F16, false) => typed::<f32>(exec, g, Type::F16),
        (Compute::F32, false) => typed::<f32>(exec, g, Type::F32),
        (Compute::F32, true) => typed::<c32>(exec, g, Type::C32),
        (Compute::F64, false) => typed::<f64>(exec, g, Type::F64),
        (Compute::F64, true) => typed::<c64>(exec, g, Type::C64),
        (Compute::I32 | Compute::I8, false) => integers(exec, g),
        (Compute::F16 | Compute::I32 | Compute::I8, true) => Err(BlasError::Unsupported(
            "a complex matrix with this compute type",
        )),
    }
}

fn typed<T: Num>(exec: &Exec<'_>, g: &Gemm, scale: Type) -> Result<(), BlasError> {
    finished(
        exec,
        Product {
            m: g.m,
            n: g.n,
            k: g.k,
            alpha: g.alpha.get::<T>(exec.space, scale)?,
            a: g.a,
            b: g.b,
            beta: g.beta.get::<T>(exec.space, scale)?,
            c: g.c,
            batch: g.batch,
        },
        (g.from, g.finish),
    )
}

/// How C is cut.
#[derive(Clone, Copy)]
struct Tiles {
    m: u64,
    n: u64,
    edge: u64,
    across: u64,
    each: u64,
}

/// One of them.
struct Tile {
    matrix: u64,
    i: u64,
    rows: u64,
    j: u64,
    cols: u64,
}

impl Tiles {
    fn new(m: u64, n: u64, batch: u64, threads: usize) -> Tiles {
        let count = |edge: u64| (m.div_ceil(edge)).saturating_mul(n.div_ceil(edge));
        let enough = |edge: &&u64| count(**edge).saturating_mul(batch) >= 2 * threads as u64;
        // Larger tiles compute faster, but all threads should have something to do.
        let edge = *TILES.iter().find(enough).unwrap_or(&TILES[3]);
        Tiles {
            m,
            n,
            edge,
            across: m.div_ceil(edge),
            each: count(edge),
        }
    }

    fn count(&self, batch: u64) -> u64 {
        self.each.saturating_mul(batch)
    }

    fn tile(&self, index: u64) -> Tile {
        let within = index % self.each;
        let (i, j) = (
            within % self.across * self.edge,
            within / self.across * self.edge,
        );
        Tile {
            matrix: index / self.each,
            i,
            rows: self.edge.min(self.m - i),
            j,
            cols: self.edge.min(self.n - j),
        }
    }
}

/// Buffers of a thread. They stay for its next task: at most a few tiles.
struct Room<T> {
    a: Vec<T>,
    b: Vec<T>,
    sum: Vec<T>,
    column: Vec<T>,
}

// Written out: a derive would ask the same of `T`.
impl<T> Default for Room<T> {
    fn default() -> Room<T> {
        Room {
            a: Vec::new(),
            b: Vec::new(),
            sum: Vec::new(),
            column: Vec::new(),
        }
    }
}

/// One thread's buffers, for each type.
type Rooms = (
    RefCell<Room<f32>>,
    RefCell<Room<f64>>,
    RefCell<Room<c32>>,
    RefCell<Room<c64>>,
);

thread_local! {
    static ROOMS: Rooms = Rooms::default();
}

/// Runs `body` with the calling thread's buffers of its type.
fn with_room<T: Num, R>(body: impl FnOnce(&mut Room<T>) -> R) -> R {
    ROOMS.with(|rooms| {
        let rooms: [&dyn Any; 4] = [&rooms.0, &rooms.1, &rooms.2, &rooms.3];
        let own = rooms
            .into_iter()
            .find_map(|room| room.downcast_ref::<RefCell<Room<T>>>());
        match own.map(RefCell::try_borrow_mut) {
            Some(Ok(mut room)) => body(&mut room),
            _ => body(&mut Room::default()),
        }
    })
}

/// `to = old * to + new * a * b` for blocks of `rows` × `k` and `k` × `cols` elements; `to` is not
/// read where `old` is `None`.
///
/// # Safety
/// All elements of the three blocks are readable, those of `to` writable.
pub(crate) unsafe fn multiply<T: Num>(
    (rows, cols, k): (u64, u64, u64),
    to: (*mut T, isize, isize),
    old: Option<T>,
    new: T,
    a: Block<T>,
    b: Block<T>,
) {
    // SAFETY: the caller's contract. `T` is one of the crate's types: `Num` is implemented for no
    // other.
    unsafe {
        ::gemm::gemm(
            rows as usize,
            cols as usize,
            k as usize,
            to.0,
            to.2,
            to.1,
            old.is_some(),
            a.at,
            a.cs,
            a.rs,
            b.at,
            b.cs,
            b.rs,
            old.unwrap_or(T::ZERO),
            new,
            false,
            a.conj,
            b.conj,
            ::gemm::Parallelism::None,
        );
    }
}

/// Computes a product on all threads.
pub fn product<T: Num>(exec: &Exec<'_>, p: Product<T>) -> Result<(), BlasError> {
    finished(exec, p, (None, Finish::NONE))
}

/// The old C where it is another matrix, and what happens to each element.
type End = (Option<Matrix>, Finish);

fn finished<T: Num>(exec: &Exec<'_>, p: Product<T>, end: End) -> Result<(), BlasError> {
    if p.m == 0 || p.n == 0 || p.batch == 0 {
        return Ok(());
    }
    if !T::writes(p.c.ty) {
        return Err(BlasError::Unsupported("the type of C"));
    }
    let nothing_to_add = p.k == 0 || p.alpha == T::ZERO;
    let plain = end.0.is_none() && end.1.is_nothing();
    let same = nothing_to_add && p.beta == T::ONE && plain;
    if same && !matches!(p.c.shape, Shape::Hermitian { .. }) {
        return Ok(());
    }
    let tiles = Tiles::new(p.m, p.n, p.batch, exec.gpu.threads());
    let (space, abort) = (exec.space.clone(), exec.abort.clone());
    exec.for_each(tiles.count(p.batch), move |index| {
        let tile = tiles.tile(index);
        if outside(&p.c, &tile) {
            return Ok(());
        }
        with_room(|room| compute((&p, &end), &space, &abort, &tile, room, nothing_to_add))
    })
}

/// True where no element of the tile lies in memory.
fn outside(c: &Matrix, tile: &Tile) -> bool {
    match c.shape {
        Shape::Full => false,
        Shape::Triangle { upper, .. } | Shape::Symmetric { upper } | Shape::Hermitian { upper } => {
            if upper != c.trans {
                tile.i >= tile.j + tile.cols
            } else {
                tile.j >= tile.i + tile.rows
            }
        }
    }
}

fn compute<T: Num>(
    (p, ending): (&Product<T>, &End),
    space: &AddressSpace,
    abort: &Abort,
    tile: &Tile,
    room: &mut Room<T>,
    nothing_to_add: bool,
) -> Result<(), BlasError> {
    let &Tile {
        matrix,
        i,
        rows,
        j,
        cols,
    } = tile;
    let c: View<T> = p.c.view(space, matrix)?;
    if nothing_to_add {
        return store(
            (p, ending),
            (space, &c),
            tile,
            None,
            &mut room.column,
            abort,
        );
    }
    let a: View<T> = p.a.resolve(space, matrix)?;
    let b: View<T> = p.b.resolve(space, matrix)?;
    // Where C has the type in which is computed, the sums are made in place.
    let plain = ending.0.is_none() && ending.1.is_nothing();
    let direct = c
        .direct(i, rows, j, cols)
        .filter(|block| !block.conj && plain);
    let to = match direct {
        Some(block) => (block.at.cast_mut(), block.rs, block.cs),
        None => {
            let count = (rows * cols) as usize;
            if room.sum.len() < count {
                room.sum.resize(count, T::ZERO);
            }
            (room.sum.as_mut_ptr(), 1, rows as isize)
        }
    };
    let factor = if direct.is_some() { p.alpha } else { T::ONE };
    let mut old = (direct.is_some() && p.beta != T::ZERO).then_some(p.beta);
    // Of a band matrix only what crosses the tile.
    let (below, above) = p.a.band();
    let end = p.k.min((i + rows).saturating_add(above));
    let mut from = i.saturating_sub(below);
    if from >= end {
        return store(
            (p, ending),
            (space, &c),
            tile,
            None,
            &mut room.column,
            abort,
        );
    }
    while from < end {
        go_on(abort)?;
        let step = K_STEP.min(end - from);
        let left = a.block(i, rows, from, step, &mut room.a);
        let right = b.block(from, step, j, cols, &mut room.b);
        // SAFETY: the blocks come of views, which were checked, or of buffers of that size; `to` is
        // such a block, or the buffer of `rows * cols` elements.
        unsafe { multiply((rows, cols, step), to, old, factor, left, right) };
        old = Some(T::ONE);
        from += step;
    }
    if direct.is_some() {
        return Ok(());
    }
    let sum = std::mem::take(&mut room.sum);
    let sums = Some(sum.as_slice());
    let done = store(
        (p, ending),
        (space, &c),
        tile,
        sums,
        &mut room.column,
        abort,
    );
    room.sum = sum;
    done
}

/// Stores a tile: `alpha sum + beta C`, finished.
fn store<T: Num>(
    (p, (from, finish)): (&Product<T>, &End),
    (space, c): (&AddressSpace, &View<T>),
    tile: &Tile,
    sum: Option<&[T]>,
    column: &mut Vec<T>,
    abort: &Abort,
) -> Result<(), BlasError> {
    column.resize(tile.rows as usize, T::ZERO);
    let old = match from {
        Some(from) if p.beta != T::ZERO => from.resolve(space, tile.matrix)?,
        _ => *c,
    };
    let ready = finish.ready::<T>(space, tile.matrix, tile.i, tile.rows)?;
    for col in 0..tile.cols {
        if col % 64 == 0 {
            go_on(abort)?;
        }
        if p.beta == T::ZERO {
            column.fill(T::ZERO);
        } else {
            if !T::reads(p.c.ty) {
                return Err(BlasError::Unsupported("the type of C"));
            }
            old.get_column(tile.i, tile.j + col, column);
            if p.beta != T::ONE {
                column.iter_mut().for_each(|v| *v = *v * p.beta);
            }
        }
        if let Some(sum) = sum {
            let sums = &sum[(col * tile.rows) as usize..][..tile.rows as usize];
            for (value, sum) in column.iter_mut().zip(sums) {
                *value = *sum * p.alpha + *value;
            }
        }
        ready.apply(tile.i, tile.j + col, column);
        c.set_column(tile.i, tile.j + col, column);
    }
    Ok(())
}

/// Factors of an integer product.
#[derive(Clone, Copy)]
enum Factors {
    Whole(i32, i32),
    Float(f32, f32),
}

/// A product of int8 matrices in 32-bit integers.
fn integers(exec: &Exec<'_>, g: &Gemm) -> Result<(), BlasError> {
    if g.m == 0 || g.n == 0 || g.batch == 0 {
        return Ok(());
    }
    let to = if g.compute == Compute::I8 {
        Type::I8
    } else {
        Type::I32
    };
    let from = g.from.map_or(to, |from| from.ty);
    if (g.a.ty, g.b.ty, g.c.ty, from) != (Type::I8, Type::I8, to, to) || !g.finish.is_nothing() {
        return Err(BlasError::Unsupported("types of an integer product"));
    }
    let scalar = |s: &Scalar| {
        let bytes = s.bytes(exec.space, Type::I32)?;
        Ok([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let (alpha, beta) = (scalar(&g.alpha)?, scalar(&g.beta)?);
    let factors = if g.compute == Compute::I8 {
        Factors::Float(f32::from_le_bytes(alpha), f32::from_le_bytes(beta))
    } else {
        Factors::Whole(i32::from_le_bytes(alpha), i32::from_le_bytes(beta))
    };
    let tiles = Tiles::new(g.m, g.n, g.batch, exec.gpu.threads());
    let (space, abort, g) = (exec.space.clone(), exec.abort.clone(), *g);
    exec.for_each(tiles.count(g.batch), move |index| {
        let tile = tiles.tile(index);
        with_room(|room| integer_tile(&g, factors, &space, &abort, &tile, room))
    })
}

fn integer_tile(
    g: &Gemm,
    factors: Factors,
    space: &AddressSpace,
    abort: &Abort,
    tile: &Tile,
    room: &mut Room<f32>,
) -> Result<(), BlasError> {
    let &Tile {
        matrix,
        i,
        rows,
        j,
        cols,
    } = tile;
    let (alpha_is_zero, beta_is_zero) = match factors {
        Factors::Whole(alpha, beta) => (alpha == 0, beta == 0),
        Factors::Float(alpha, beta) => (alpha == 0.0, beta == 0.0),
    };
    let c: View<f32> = g.c.view(space, matrix)?;
    let old: View<f32> = match g.from {
        Some(from) if !beta_is_zero => from.view(space, matrix)?,
        _ => c,
    };
    let count = (rows * cols) as usize;
    let mut sums = vec![0i32; count];
    if g.k > 0 && !alpha_is_zero {
        let a: View<f32> = g.a.resolve(space, matrix)?;
        let b: View<f32> = g.b.resolve(space, matrix)?;
        if room.sum.len() < count {
            room.sum.resize(count, 0.0);
        }
        let mut from = 0;
        while from < g.k {
            go_on(abort)?;
            let step = EXACT_TERMS.min(g.k - from);
            let left = a.block(i, rows, from, step, &mut room.a);
            let right = b.block(from, step, j, cols, &mut room.b);
            let to = (room.sum.as_mut_ptr(), 1, rows as isize);
            // SAFETY: blocks of checked views or of buffers; `to` has room for the tile.
            unsafe { multiply((rows, cols, step), to, None, 1.0, left, right) };
            for (sum, part) in sums.iter_mut().zip(&room.sum) {
                *sum = sum.wrapping_add(*part as i32);
            }
            from += step;
        }
    }
    for col in 0..cols {
        for row in 0..rows {
            let place = (c.address(i + row, j + col), old.address(i + row, j + col));
            let (Some(to), Some(old)) = place else {
                continue;
            };
            let sum = sums[(col * rows + row) as usize];
            match factors {
                Factors::Whole(alpha, beta) => {
                    // SAFETY: `view` checked extent and alignment of both, whose elements have 4 bytes
                    // (`integers` checked the types).
                    unsafe {
                        let old = if beta == 0 {
                            0
                        } else {
                            old.cast::<i32>().read().wrapping_mul(beta)
                        };
                        to.cast::<i32>()
                            .write(sum.wrapping_mul(alpha).wrapping_add(old));
                    }
                }
                Factors::Float(alpha, beta) => {
                    // SAFETY: as above, for elements of one byte.
                    unsafe {
                        let old = if beta == 0.0 {
                            0.0
                        } else {
                            f32::from(old.cast::<i8>().read()) * beta
                        };
                        // A conversion saturates.
                        let value = (sum as f32 * alpha + old).round_ties_even();
                        to.cast::<i8>().write(value as i8);
                    }
                }
            }
        }
    }
    Ok(())
}
