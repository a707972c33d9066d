//! Makes the exports that are not implemented, of all three libraries.

use std::path::Path;

#[path = "../cublas/exports.rs"]
#[allow(dead_code, reason = "the libraries of the other crate")]
mod cublas;
#[path = "exports.rs"]
mod exports;
#[path = "../cublas/stubs.rs"]
mod stubs;

fn main() {
    println!("cargo::rerun-if-changed=../cublas/stubs.rs");
    println!("cargo::rerun-if-changed=../cublas/exports.rs");
    let done = cublas::implemented(Path::new("src")).expect("the source files are readable");
    stubs::write(&exports::LIBRARIES, &done);
}
