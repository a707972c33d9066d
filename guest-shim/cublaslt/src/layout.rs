//! Matrix layouts.

use vgpu_protocol::calls::{DevPtr, LtMatrix};

use crate::abi::{Done, In, Out, exports};
use crate::descriptor::{Attribute, Desc, Image, Kind, at};

/// `cublasLtMatrixLayoutOpaque_t`: 64 bytes, and 112 from 13.1 on, whose new attributes are about groups.
#[derive(Clone, Copy, Debug)]
pub struct Layout;

const TYPE: usize = 8;
const ORDER: usize = 12;
const ROWS: usize = 16;
const COLS: usize = 24;
const LD: usize = 32;
const STRIDE: usize = 40;
const PLANE: usize = 48;
const BATCH: usize = 56;
const MODE: usize = 60;

impl Kind for Layout {
    const MAGIC: u32 = u32::from_ne_bytes(*b"vLtL");
    const LEAST: usize = 64;
    const ATTRIBUTES: &'static [Attribute] = &[
        at(0, TYPE, 4),
        at(1, ORDER, 4),
        at(2, ROWS, 8),
        at(3, COLS, 8),
        at(4, LD, 8),
        at(5, BATCH, 4),
        at(6, STRIDE, 8),
        at(7, PLANE, 8),
        at(8, MODE, 4),
    ];
}

fn fill(image: &mut Image, ty: u32, rows: u64, cols: u64, ld: i64) {
    image.set_word(TYPE, ty);
    image.set_long(ROWS, rows);
    image.set_long(COLS, cols);
    image.set_long(LD, ld as u64);
    image.set_word(BATCH, 1);
}

impl Desc<Layout> {
    /// The matrix of this layout at an address. A layout with planes is none that is supported: its order
    /// becomes one that is not.
    pub fn matrix(self, address: DevPtr) -> Done<LtMatrix> {
        let image = self.load()?;
        let planes = image.long(PLANE) != 0;
        Ok(LtMatrix {
            at: address,
            ty: image.word(TYPE),
            order: if planes { 2 } else { image.word(ORDER) },
            rows: image.long(ROWS),
            cols: image.long(COLS),
            ld: image.long(LD) as i64,
            batch: i64::from(image.word(BATCH) as i32),
            stride: image.long(STRIDE) as i64,
            mode: image.word(MODE),
        })
    }
}

exports! {
    /// Makes a layout of column-major order.
    fn cublasLtMatrixLayoutCreate(out: Out<Desc<Layout>>, ty: u32, rows: u64, cols: u64, ld: i64) {
        Desc::create(out, |image| fill(image, ty, rows, cols, ld))
    }

    /// Initialises a layout in the program's memory.
    fn cublasLtMatrixLayoutInit_internal(
        layout: Desc<Layout>, bytes: usize, ty: u32, rows: u64, cols: u64, ld: i64,
    ) {
        layout.init(bytes, |image| fill(image, ty, rows, cols, ld))
    }

    /// Destroys a layout.
    fn cublasLtMatrixLayoutDestroy(layout: Desc<Layout>) {
        layout.destroy()
    }

    /// Sets an attribute.
    fn cublasLtMatrixLayoutSetAttribute(layout: Desc<Layout>, which: u32, value: In<u8>, bytes: usize) {
        layout.set(which, value, bytes)
    }

    /// An attribute.
    fn cublasLtMatrixLayoutGetAttribute(
        layout: Desc<Layout>, which: u32, to: Out<u8>, bytes: usize, written: Out<usize>,
    ) {
        layout.get(which, to, bytes, written)
    }
}
