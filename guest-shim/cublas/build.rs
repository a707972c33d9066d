//! Makes the exports that are not implemented, of all three libraries.

use std::path::Path;

#[path = "exports.rs"]
mod exports;
#[path = "stubs.rs"]
mod stubs;

fn main() {
    let done = exports::implemented(Path::new("src")).expect("the source files are readable");
    stubs::write(&exports::LIBRARIES, &done);
}
