//! The instructions of the PTX ISA, one row for each form: PTX text, inputs, and the results that the ISA asks for.
//!
//! The expected results are computed here, from the ISA's definitions, by means that no executor shares: integers of
//! 128 bits and more ([`values`]), floats as exact numbers that are rounded once ([`real`], [`big`]). Where the ISA states
//! a bound on the error, that bound is compared.
//!
//! * [`form`]: what a row is, and its kernel
//! * one module for each part of the table
//! * [`modules`]: the rows as PTX modules
//! * [`page`]: the table as a page
//!
//! `mediator-lib/soft-gpu/tests/conformance.rs` runs the rows in every mode of the software GPU, the program `ptx-conformance`
//! on whatever `libcuda.so.1` there is.

mod atomics;
pub mod big;
mod compare;
mod control;
mod convert;
mod copies;
mod float;
pub mod form;
mod half;
mod integer;
mod logic;
mod matrix;
mod memory;
pub mod modules;
mod moves;
pub mod page;
pub mod real;
mod refused;
mod sparse;
mod special;
pub mod values;
mod video;
mod warp;
mod wmma;

pub use form::{End, Form, Want};

/// The whole table.
pub fn all() -> Vec<Form> {
    let mut t = form::Table::new();
    integer::table(&mut t);
    logic::table(&mut t);
    compare::table(&mut t);
    float::table(&mut t);
    half::table(&mut t);
    convert::table(&mut t);
    moves::table(&mut t);
    memory::table(&mut t);
    copies::table(&mut t);
    atomics::table(&mut t);
    warp::table(&mut t);
    matrix::table(&mut t);
    sparse::table(&mut t);
    wmma::table(&mut t);
    video::table(&mut t);
    control::table(&mut t);
    special::table(&mut t);
    refused::table(&mut t);
    t.forms
}
