//! Matrices and vectors in device memory.
#![allow(unsafe_code)] // Elements are read and written through raw pointers into device memory.

use vgpu_soft_gpu::AddressSpace;

use crate::exec::BlasError;
use crate::num::{Num, Type};

/// Which matrix of a batch is where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// All at so many elements from one another; 0 for a single matrix.
    Strided(i64),
    /// The address is that of an array of addresses in device memory.
    Pointers,
}

/// Where the elements of a matrix lie, counted in elements from its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Element (i, j) at `i * rs + j * cs`.
    Strided {
        /// From one row to the next.
        rs: i64,
        /// From one column to the next.
        cs: i64,
    },
    /// One triangle, column after column (cuBLAS, "packed format").
    Packed {
        /// Which triangle.
        upper: bool,
    },
    /// Diagonals as rows of a matrix with leading dimension `ld` (cuBLAS, "banded format").
    Band {
        /// Diagonals below the main one.
        kl: i64,
        /// Diagonals above it.
        ku: i64,
        /// Leading dimension.
        ld: i64,
    },
}

/// What the elements that lie in memory say of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// They are all of it.
    Full,
    /// The other triangle is zero.
    Triangle {
        /// Which triangle lies in memory.
        upper: bool,
        /// The diagonal is one, whatever lies there.
        unit: bool,
    },
    /// The other triangle is this one's mirror image.
    Symmetric {
        /// Which triangle lies in memory.
        upper: bool,
    },
    /// The other triangle is this one's conjugate mirror image; the diagonal is real.
    Hermitian {
        /// Which triangle lies in memory.
        upper: bool,
    },
}

/// A factor of a routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Its bytes, in the type that the routine documents.
    Value([u8; 16]),
    /// Its address in device memory.
    Device(u64),
}

impl Scalar {
    /// Its bytes.
    pub fn bytes(&self, space: &AddressSpace, ty: Type) -> Result<[u8; 16], BlasError> {
        match self {
            Scalar::Value(bytes) => Ok(*bytes),
            Scalar::Device(addr) => {
                let (mut bytes, size) = ([0; 16], ty.bytes());
                space
                    .read(*addr, &mut bytes[..size as usize])
                    .map_err(|_| BlasError::IllegalAddress {
                        what: "a scalar",
                        addr: *addr,
                        bytes: size,
                    })?;
                Ok(bytes)
            }
        }
    }

    /// Its value, from elements of `ty`.
    pub fn get<T: Num>(&self, space: &AddressSpace, ty: Type) -> Result<T, BlasError> {
        if !T::reads(ty) {
            return Err(BlasError::Unsupported("the type of a scalar"));
        }
        let bytes = self.bytes(space, ty)?;
        let words: [u64; 2] = [word(&bytes, 0), word(&bytes, 8)];
        // SAFETY: 16 readable bytes, aligned for every element type.
        Ok(unsafe { T::read(ty, words.as_ptr().cast()) })
    }
}

fn word(bytes: &[u8; 16], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_ne_bytes(word)
}

/// A matrix, or a batch of matrices, as an argument of a routine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// Which argument: for messages.
    pub what: &'static str,
    /// Address of the first element, or of the array of addresses.
    pub at: u64,
    /// The others of the batch.
    pub batch: Addressing,
    /// From there to element (0, 0), in elements.
    pub first: i64,
    /// Type of the elements.
    pub ty: Type,
    /// Rows and columns as they lie in memory.
    pub rows: u64,
    /// See `rows`.
    pub cols: u64,
    /// Where the elements lie.
    pub layout: Layout,
    /// What they mean.
    pub shape: Shape,
    /// The routine uses the transpose.
    pub trans: bool,
    /// The routine uses the conjugate.
    pub conj: bool,
}

impl Matrix {
    /// A column-major matrix.
    pub fn new(what: &'static str, at: u64, ty: Type, rows: u64, cols: u64, ld: i64) -> Matrix {
        Matrix {
            what,
            at,
            batch: Addressing::Strided(0),
            first: 0,
            ty,
            rows,
            cols,
            layout: Layout::Strided { rs: 1, cs: ld },
            shape: Shape::Full,
            trans: false,
            conj: false,
        }
    }

    /// A vector as one column. With a negative increment it begins at its far end, as in BLAS.
    pub fn vector(what: &'static str, at: u64, ty: Type, count: u64, inc: i64) -> Matrix {
        let far = (count.saturating_sub(1) as i64).saturating_mul(inc);
        let mut vector = Matrix::new(what, at, ty, count, 1, 0);
        vector.first = far.min(0).saturating_neg();
        vector.layout = Layout::Strided { rs: inc, cs: 0 };
        vector
    }

    /// The transpose: of a vector, one row.
    pub fn transposed(self) -> Matrix {
        Matrix {
            trans: !self.trans,
            ..self
        }
    }

    /// The conjugate.
    pub fn conjugated(self, conj: bool) -> Matrix {
        Matrix {
            conj: self.conj ^ conj,
            ..self
        }
    }

    /// With another layout.
    pub fn laid_out(self, layout: Layout) -> Matrix {
        Matrix { layout, ..self }
    }

    /// Diagonals below and above the main one that are not zero, of the matrix that the routine uses.
    pub fn band(&self) -> (u64, u64) {
        let Layout::Band { kl, ku, .. } = self.layout else {
            return (u64::MAX, u64::MAX);
        };
        let (kl, ku) = (kl as u64, ku as u64);
        match self.shape {
            Shape::Symmetric { .. } | Shape::Hermitian { .. } => (kl.max(ku), kl.max(ku)),
            _ if self.trans => (ku, kl),
            _ => (kl, ku),
        }
    }

    /// With `cublasOperation_t`: 0 as it is, 1 transposed, 2 conjugate transposed.
    pub fn op(self, operation: u32) -> Matrix {
        Matrix {
            trans: operation != 0,
            conj: operation == 2,
            ..self
        }
    }

    /// The same of a batch.
    pub fn batched(self, batch: Addressing) -> Matrix {
        Matrix { batch, ..self }
    }

    /// The same with a shape.
    pub fn shaped(self, shape: Shape) -> Matrix {
        Matrix { shape, ..self }
    }

    /// Lowest and highest offset of an element, from the first, in elements.
    fn extent(&self) -> Option<(i64, i64)> {
        let last = |n: u64| i64::try_from(n.checked_sub(1)?).ok();
        let (i, j) = (last(self.rows)?, last(self.cols)?);
        match self.layout {
            Layout::Strided { rs, cs } => {
                let (down, right) = (i.checked_mul(rs)?, j.checked_mul(cs)?);
                let low = down.min(0).checked_add(right.min(0))?;
                Some((low, down.max(0).checked_add(right.max(0))?))
            }
            Layout::Packed { .. } => {
                let n = j.checked_add(1)?;
                Some((0, n.checked_mul(n.checked_add(1)?)? / 2 - 1))
            }
            Layout::Band { kl, ku, ld } => {
                let end = j.checked_mul(ld)?.checked_add(kl.checked_add(ku)?)?;
                Some((0, end))
            }
        }
    }

    /// Finds the matrix with number `index` of the batch, and checks that all of it lies in one
    /// allocation. Rows and columns are not 0.
    pub fn resolve<T: Num>(&self, space: &AddressSpace, index: u64) -> Result<View<T>, BlasError> {
        if !T::reads(self.ty) {
            return Err(BlasError::Unsupported("the type of a matrix"));
        }
        self.view(space, index)
    }

    /// As [`resolve`](Matrix::resolve), for a matrix of any type.
    pub fn view<T>(&self, space: &AddressSpace, index: u64) -> Result<View<T>, BlasError> {
        let size = self.ty.bytes();
        let at = match self.batch {
            Addressing::Strided(stride) => {
                let bytes = stride.wrapping_mul(size as i64);
                self.at
                    .wrapping_add_signed(bytes.wrapping_mul(index as i64))
            }
            Addressing::Pointers => {
                let place = self.at.wrapping_add(index.wrapping_mul(8));
                let mut address = [0; 8];
                let read = space.read(place, &mut address);
                read.map_err(|_| BlasError::IllegalAddress {
                    what: "an array of addresses",
                    addr: place,
                    bytes: 8,
                })?;
                u64::from_le_bytes(address)
            }
        };
        if at % size != 0 {
            return Err(BlasError::Misaligned {
                what: self.what,
                addr: at,
                bytes: size,
            });
        }
        let illegal = |addr, bytes| BlasError::IllegalAddress {
            what: self.what,
            addr,
            bytes,
        };
        let (low, high) = self.extent().ok_or(illegal(at, u64::MAX))?;
        let at = at.wrapping_add_signed(self.first.wrapping_mul(size as i64));
        // In 128 bits nothing here overflows.
        let bytes = (i128::from(high) - i128::from(low) + 1) * i128::from(size);
        let lowest = i128::from(at) + i128::from(low) * i128::from(size);
        let (Ok(lowest), Ok(bytes)) = (u64::try_from(lowest), u64::try_from(bytes)) else {
            return Err(illegal(at, u64::MAX));
        };
        let (host, _) = space
            .host_range(lowest, bytes)
            .map_err(|_| illegal(lowest, bytes))?;
        let first = host.wrapping_offset((-low).wrapping_mul(size as i64) as isize);
        Ok(View {
            first,
            matrix: *self,
            number: std::marker::PhantomData,
        })
    }
}

/// A matrix that was found in memory. Indices are those of the matrix that the routine uses: of
/// the transpose where it is transposed.
#[derive(Clone, Copy, Debug)]
pub struct View<T> {
    first: *mut u8,
    matrix: Matrix,
    number: std::marker::PhantomData<T>,
}

/// What is at a place of a matrix.
enum Cell {
    Zero,
    One,
    /// An element at an offset; conjugated; only its real part.
    At(i64, bool, bool),
}

/// A block of a matrix in a form that can be multiplied.
#[derive(Clone, Copy, Debug)]
pub struct Block<T> {
    /// Its first element.
    pub at: *const T,
    /// From one row to the next, in elements.
    pub rs: isize,
    /// From one column to the next.
    pub cs: isize,
    /// Its elements are to be conjugated.
    pub conj: bool,
}

impl<T: Num> View<T> {
    fn cell(&self, i: u64, j: u64) -> Cell {
        let m = &self.matrix;
        let (mut i, mut j) = if m.trans { (j, i) } else { (i, j) };
        let (mut conj, mut real) = (m.conj, false);
        match m.shape {
            Shape::Full => {}
            Shape::Triangle { upper, unit } => {
                if i == j && unit {
                    return Cell::One;
                }
                if (i > j && upper) || (i < j && !upper) {
                    return Cell::Zero;
                }
            }
            Shape::Symmetric { upper } | Shape::Hermitian { upper } => {
                let hermitian = matches!(m.shape, Shape::Hermitian { .. });
                if (i > j && upper) || (i < j && !upper) {
                    (i, j) = (j, i);
                    conj ^= hermitian;
                }
                real = hermitian && i == j;
            }
        }
        let (i, j) = (i as i64, j as i64);
        let offset = match m.layout {
            Layout::Strided { rs, cs } => i * rs + j * cs,
            Layout::Packed { upper: true } => i + j * (j + 1) / 2,
            Layout::Packed { upper: false } => i + j * (2 * m.cols as i64 - j - 1) / 2,
            Layout::Band { kl, ku, ld } => {
                if i - j > kl || j - i > ku {
                    return Cell::Zero;
                }
                ku + i - j + j * ld
            }
        };
        Cell::At(offset, conj, real)
    }

    fn place(&self, offset: i64) -> *mut u8 {
        let size = self.matrix.ty.bytes() as i64;
        self.first.wrapping_offset((offset * size) as isize)
    }

    /// The element in row `i` and column `j`, which are inside.
    pub fn get(&self, i: u64, j: u64) -> T {
        match self.cell(i, j) {
            Cell::Zero => T::ZERO,
            Cell::One => T::ONE,
            Cell::At(offset, conj, real) => {
                // SAFETY: `view` checked the matrix's whole extent, and its alignment; the offset of
                // an element inside is inside of that. `resolve` checked the type.
                let value = unsafe { T::read(self.matrix.ty, self.place(offset)) };
                let value = if conj { value.conj() } else { value };
                if real { value.real() } else { value }
            }
        }
    }

    /// Where an element lies in memory, if it does.
    pub(crate) fn address(&self, i: u64, j: u64) -> Option<*mut u8> {
        match self.cell(i, j) {
            Cell::At(offset, ..) => Some(self.place(offset)),
            _ => None,
        }
    }

    /// Stores an element, where one lies in memory.
    pub fn set(&self, i: u64, j: u64, value: T) {
        if let Cell::At(offset, conj, real) = self.cell(i, j) {
            let value = if conj { value.conj() } else { value };
            let value = if real { value.real() } else { value };
            // SAFETY: as in `get`; who stores has checked that the type can be written.
            unsafe { value.write(self.matrix.ty, self.place(offset)) };
        }
    }

    /// Address and stride in elements of `rows` elements of column `j`, where they all lie in memory
    /// as they are.
    fn column(&self, i: u64, rows: u64, j: u64) -> Option<(*mut u8, i64)> {
        let (rs, cs) = self.strides(i, rows, j, 1)?;
        let at = self.place(i as i64 * rs + j as i64 * cs);
        (!self.matrix.conj).then_some((at, rs))
    }

    /// Reads elements of column `j` from row `i` on.
    pub fn get_column(&self, i: u64, j: u64, to: &mut [T]) {
        match self.column(i, to.len() as u64, j) {
            Some((at, 1)) => {
                // SAFETY: as in `get`, for elements that follow each other inside of the matrix; `to`
                // is no device memory.
                unsafe { T::read_run(self.matrix.ty, at, to.len(), to.as_mut_ptr()) };
            }
            _ => {
                for (p, value) in to.iter_mut().enumerate() {
                    *value = self.get(i + p as u64, j);
                }
            }
        }
    }

    /// Stores elements of column `j` from row `i` on.
    pub fn set_column(&self, i: u64, j: u64, from: &[T]) {
        match self.column(i, from.len() as u64, j) {
            Some((at, 1)) => {
                // SAFETY: as in `set`, for elements that follow each other inside of the matrix;
                // `from` is no device memory.
                unsafe { T::write_run(from, self.matrix.ty, at) };
            }
            _ => {
                for (p, value) in from.iter().enumerate() {
                    self.set(i + p as u64, j, *value);
                }
            }
        }
    }

    /// Strides of rows and columns, where all elements of the block lie in memory as they are.
    fn strides(&self, i: u64, rows: u64, j: u64, cols: u64) -> Option<(i64, i64)> {
        let m = &self.matrix;
        let Layout::Strided { rs, cs } = m.layout else {
            return None;
        };
        let (i, rows, j, cols) = if m.trans {
            (j, cols, i, rows)
        } else {
            (i, rows, j, cols)
        };
        let (above, below) = (i + rows <= j, j + cols <= i);
        let plain = match m.shape {
            Shape::Full => true,
            Shape::Triangle { upper, .. }
            | Shape::Symmetric { upper }
            | Shape::Hermitian { upper } => (upper && above) || (!upper && below),
        };
        plain.then_some(if m.trans { (cs, rs) } else { (rs, cs) })
    }

    /// The block as it lies in memory, if it can be multiplied like that.
    pub fn direct(&self, i: u64, rows: u64, j: u64, cols: u64) -> Option<Block<T>> {
        if self.matrix.ty != T::OWN {
            return None;
        }
        let (rs, cs) = self.strides(i, rows, j, cols)?;
        Some(Block {
            at: self.place(i as i64 * rs + j as i64 * cs).cast(),
            rs: rs as isize,
            cs: cs as isize,
            conj: self.matrix.conj,
        })
    }

    /// The block, in memory or converted into `room`.
    pub fn block(&self, i: u64, rows: u64, j: u64, cols: u64, room: &mut Vec<T>) -> Block<T> {
        if let Some(block) = self.direct(i, rows, j, cols) {
            return block;
        }
        let count = (rows * cols) as usize;
        if room.len() < count {
            room.resize(count, T::ZERO);
        }
        let strides = self.strides(i, rows, j, cols);
        // The direction in which elements follow each other stays the inner one.
        let by_rows = strides.is_some_and(|(_, cs)| cs == 1);
        let (outer, inner) = if by_rows { (rows, cols) } else { (cols, rows) };
        for o in 0..outer {
            let to = &mut room[(o * inner) as usize..][..inner as usize];
            let (row, col) = if by_rows { (i + o, j) } else { (i, j + o) };
            match strides {
                Some((rs, cs)) if rs == 1 || cs == 1 => {
                    let from = self.place(row as i64 * rs + col as i64 * cs);
                    // SAFETY: as in `get`, for `inner` elements that follow each other inside of the
                    // matrix; `to` has room for them, and is no device memory.
                    unsafe { T::read_run(self.matrix.ty, from, inner as usize, to.as_mut_ptr()) };
                    if self.matrix.conj && T::COMPLEX {
                        to.iter_mut().for_each(|v| *v = v.conj());
                    }
                }
                _ => {
                    for (p, value) in to.iter_mut().enumerate() {
                        *value = self.get(row + p as u64, col);
                    }
                }
            }
        }
        let (rs, cs) = if by_rows { (inner, 1) } else { (1, inner) };
        Block {
            at: room.as_ptr(),
            rs: rs as isize,
            cs: cs as isize,
            conj: false,
        }
    }
}
