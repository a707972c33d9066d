//! Build script of the device library.
fn main() {}
