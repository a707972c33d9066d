//! Matrix operations of a warp: element types, shapes, and how many registers
//! the fragments take.
//!
//! The fragments of all shapes but one follow one rule (PTX ISA, "Warp Level
//! Matrix Multiply-Accumulate Instructions"): lane `4 * g + t` holds, in each 32-bit
//! register of A or B, consecutive elements `t` of row `g` (of A, or of B transposed), so
//! that a register is eight rows of 16 bytes. More registers of A go on first with the
//! next eight rows, then with the next columns.

/// Element type of a multiplicand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Element {
    F16,
    Bf16,
    Tf32,
    F64,
    E4m3,
    E5m2,
    S8,
    U8,
    S4,
    U4,
    B1,
}

impl Element {
    /// The type that a suffix without its dot names.
    pub fn parse(s: &str) -> Option<Element> {
        Some(match s {
            "f16" => Element::F16,
            "bf16" => Element::Bf16,
            "tf32" => Element::Tf32,
            "f64" => Element::F64,
            "e4m3" => Element::E4m3,
            "e5m2" => Element::E5m2,
            "s8" => Element::S8,
            "u8" => Element::U8,
            "s4" => Element::S4,
            "u4" => Element::U4,
            "b1" => Element::B1,
            _ => return None,
        })
    }

    /// Bits of an element in a register.
    pub fn bits(self) -> u32 {
        match self {
            Element::F64 => 64,
            Element::Tf32 => 32,
            Element::F16 | Element::Bf16 => 16,
            Element::E4m3 | Element::E5m2 | Element::S8 | Element::U8 => 8,
            Element::S4 | Element::U4 => 4,
            Element::B1 => 1,
        }
    }

    /// Whether it is an integer that is multiplied as a number.
    pub fn integer(self) -> bool {
        matches!(self, Element::S8 | Element::U8 | Element::S4 | Element::U4)
    }

    /// Columns of A that one register covers.
    pub fn columns(self) -> u32 {
        match self {
            Element::F64 => 4,
            e => 4 * 32 / e.bits(),
        }
    }
}

/// Element type of an accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Sum {
    F16,
    F32,
    F64,
    S32,
}

impl Sum {
    /// The type that a suffix without its dot names.
    pub fn parse(s: &str) -> Option<Sum> {
        Some(match s {
            "f16" => Sum::F16,
            "f32" => Sum::F32,
            "f64" => Sum::F64,
            "s32" => Sum::S32,
            _ => return None,
        })
    }
}

/// What a product of elements is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// The product of numbers.
    Multiply,
    /// The number of bits set in both.
    And,
    /// The number of bits that differ.
    Xor,
}

/// `mma`: D = A * B + C over the registers of a warp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mma {
    /// Rows of A: 8 or 16. B has 8 columns.
    pub rows: u32,
    /// Columns of A.
    pub k: u32,
    /// Elements of A and B.
    pub elements: [Element; 2],
    /// Elements of C and D.
    pub sums: [Sum; 2],
    /// Whether integer sums are clamped.
    pub saturate: bool,
    /// What is summed.
    pub product: Product,
    /// The four products of `m8n8k4` of f16, each by eight lanes: whether A and B are in column order.
    pub quads: Option<[bool; 2]>,
    /// Half of A is zero and left out, as `mma.sp` has it: which lanes of a row say where the others belong
    /// (the sparsity selector).
    pub sparse: Option<u32>,
}

impl Mma {
    /// Registers of A, B, C and D.
    pub fn registers(&self) -> [usize; 4] {
        if self.quads.is_some() {
            let c = |s| if s == Sum::F16 { 4 } else { 8 };
            return [2, 2, c(self.sums[0]), c(self.sums[1])];
        }
        let chunks = self.k / self.elements[0].columns();
        let blocks = self.rows / 8;
        let packed = if self.sparse.is_some() { 2 } else { 1 };
        let c = |s| blocks * if s == Sum::F16 { 1 } else { 2 };
        let a = blocks * chunks / packed;
        [a, chunks, c(self.sums[0]), c(self.sums[1])].map(|n| n as usize)
    }

    /// What the metadata of `mma.sp` counts: how many of a row of A that are left are named by two bits each.
    /// They are words of 16 bits, of which tf32 has two, or bytes, of which one has two elements of 4 bits.
    pub fn units(&self) -> u32 {
        let bits = self.k / 2 * self.elements[0].bits();
        bits / if self.elements[0].bits() < 16 { 8 } else { 16 }
    }

    /// How many sparsity selectors there are: the lanes of a row that hold metadata are one, two or all four.
    pub fn selectors(&self) -> u32 {
        // Two rows, in 32 bits of each lane.
        4 / (2 * 2 * self.units() / 32).clamp(1, 4)
    }

    /// Whether the ISA has this combination of shape and types for sm_70 to sm_90.
    pub fn valid(&self) -> bool {
        use Element::{B1, Bf16, E4m3, E5m2, F16, F64, Tf32};
        let [a, b] = self.elements;
        let [c, d] = self.sums;
        let shape = (self.rows, self.k);
        let same = a == b && c == d;
        if self.quads.is_some() {
            let floats = |s| matches!(s, Sum::F16 | Sum::F32);
            let sums = floats(c) && floats(d) && (c == Sum::F16 || d == Sum::F32);
            return shape == (8, 4) && (a, b) == (F16, F16) && sums && !self.saturate;
        }
        if self.saturate && !a.integer() {
            return false;
        }
        if (self.product != Product::Multiply) != (a == B1) {
            return false;
        }
        if self.sparse.is_some() {
            return self.valid_sparse();
        }
        match a {
            F16 => same && matches!(shape, (16, 8 | 16)) && matches!(c, Sum::F16 | Sum::F32),
            Bf16 => same && matches!(shape, (16, 8 | 16)) && c == Sum::F32,
            Tf32 => same && matches!(shape, (16, 4 | 8)) && c == Sum::F32,
            F64 => same && matches!(shape, (8, 4) | (16, 4 | 8 | 16)) && c == Sum::F64,
            E4m3 | E5m2 => {
                matches!(b, E4m3 | E5m2)
                    && matches!(shape, (16, 16 | 32))
                    && c == d
                    && matches!(c, Sum::F16 | Sum::F32)
            }
            B1 => same && matches!(shape, (8, 128) | (16, 128 | 256)) && c == Sum::S32,
            _ => {
                let k = if a.bits() == 8 { [16, 32] } else { [32, 64] };
                b.integer()
                    && a.bits() == b.bits()
                    && (shape == (8, k[0]) || shape == (16, k[0]) || shape == (16, k[1]))
                    && (c, d) == (Sum::S32, Sum::S32)
            }
        }
    }

    /// The same for `mma.sp`, the types of whose operands agree as in `mma`.
    fn valid_sparse(&self) -> bool {
        use Element::{B1, Bf16, E4m3, E5m2, F16, F64, Tf32};
        let [a, b] = self.elements;
        let [c, d] = self.sums;
        let k = self.k;
        let types = match a {
            F16 => b == F16 && matches!(k, 16 | 32) && matches!(c, Sum::F16 | Sum::F32),
            Bf16 => b == Bf16 && matches!(k, 16 | 32) && c == Sum::F32,
            Tf32 => b == Tf32 && matches!(k, 8 | 16) && c == Sum::F32,
            E4m3 | E5m2 => matches!(b, E4m3 | E5m2) && k == 64 && c == Sum::F32,
            F64 | B1 => false,
            _ => {
                let wide = if a.bits() == 8 { [32, 64] } else { [64, 128] };
                b.integer() && a.bits() == b.bits() && wide.contains(&k) && c == Sum::S32
            }
        };
        types && self.rows == 16 && c == d
    }
}

/// Most registers of one fragment.
pub const MAX_FRAGMENT: usize = 8;

/// Which matrix a `wmma` fragment is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Part {
    A,
    B,
    C,
}

/// The fragment of a `wmma.load` or `wmma.store`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which matrix.
    pub part: Part,
    /// Rows of A, columns of B, columns of A.
    pub shape: [u32; 3],
    /// Bits of an element.
    pub bits: u32,
    /// Whether rows are contiguous in memory.
    pub row_major: bool,
    /// Registers of the fragment.
    pub registers: u32,
}

impl Fragment {
    /// Row and column, in the matrix as it lies in memory, of the first element in
    /// register `r` of a lane, and whether further elements of the register follow along
    /// the row.
    ///
    /// A `wmma` is carried out as one or two `mma` side by side, or, with 8 rows and 32
    /// columns, as the transposed product: each fragment is one of those.
    pub fn place(&self, r: u32, lane: u32) -> (u32, u32, bool) {
        let [m, n, k] = self.shape;
        let (g, t) = (lane >> 2, lane & 3);
        let per = (32 / self.bits).max(1);
        let columns = 4 * per;
        let transposed = m == 8 && n == 32;
        // Rows and columns of A in the product that is carried out, and its kind of fragment.
        let (part, rows) = match (self.part, transposed) {
            (Part::A, false) => (Part::A, m),
            (Part::B, true) => (Part::A, n),
            (Part::C, false) => (Part::C, m),
            (Part::C, true) => (Part::C, n),
            _ => (Part::B, 0),
        };
        // Registers beyond those of the product repeat the others.
        let exact = |n: u32| r % n.max(1);
        let chunks = (k / columns).max(1);
        let (row, column) = match part {
            Part::A => {
                let r = exact((rows / 8) * chunks);
                let tile = rows.min(16) / 8 * chunks;
                let (top, r) = (r / tile * 16, r % tile);
                let blocks = rows.min(16) / 8;
                (top + 8 * (r % blocks) + g, columns * (r / blocks) + per * t)
            }
            Part::B => {
                let width = if transposed { m } else { n };
                let r = exact((width / 8) * chunks);
                // As rows of B transposed.
                (8 * (r / chunks) + g, columns * (r % chunks) + per * t)
            }
            Part::C => {
                let pairs = if self.bits == 16 { 1 } else { 2 };
                let blocks = rows.min(16) / 8;
                let tile = blocks * pairs;
                let (at, r) = (r / tile, r % tile);
                // Tiles lie side by side if there are 16 rows, else below each other.
                let (top, left) = if rows > 16 { (16 * at, 0) } else { (0, 8 * at) };
                (top + 8 * (r / pairs) + g, left + 2 * t + r % pairs)
            }
        };
        let swap = match part {
            Part::B => !transposed,
            _ => transposed,
        };
        if swap {
            (column, row, false)
        } else {
            (row, column, true)
        }
    }
}
