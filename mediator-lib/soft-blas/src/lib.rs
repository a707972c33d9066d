//! The routines of cuBLAS on the software GPU: on its threads, in its memory.
//!
//! | module | holds |
//! |---|---|
//! | [`num`] | element types, and the four types in which is computed |
//! | [`matrix`] | matrices and vectors in device memory: strided, packed, banded, triangular, symmetric |
//! | [`exec`] | where a routine runs, and its errors |
//! | [`gemm`](mod@gemm) | products: everything that has the form `C = alpha A B + beta C` |
//! | [`finish`] | what happens to each element of a product before it is stored |
//! | [`solve`] | triangular systems |
//! | [`elements`] | matrices element by element, products with a triangle |
//! | [`level1`] | vectors |
//! | [`lapack`] | batches of small systems |
//!
//! A routine gets device addresses and sizes as a guest gave them. Each matrix is checked to lie in
//! one allocation of the context before it is touched; what it holds is plain data. All work is cut
//! into tasks of some milliseconds, between which the session can be ended.
//!
//! Matrices are column-major and sizes are in elements, as in cuBLAS.

pub mod elements;
pub mod exec;
pub mod finish;
pub mod gemm;
pub mod lapack;
pub mod level1;
pub mod matrix;
pub mod num;
pub mod solve;

pub use exec::{BlasError, Exec};
pub use matrix::{Addressing, Layout, Matrix, Scalar, Shape};
pub use num::{Num, Type};
