//! The libraries and their lists of names, for the build script, the link step and the coverage page.

/// The libraries: major version, soname (which is the version node, too) and list of names.
pub const LIBRARIES: [(u32, &str, &str); 3] = [
    (11, "libcublasLt.so.11", "symbols-11.txt"),
    (12, "libcublasLt.so.12", "symbols-12.txt"),
    (13, "libcublasLt.so.13", "symbols-13.txt"),
];
