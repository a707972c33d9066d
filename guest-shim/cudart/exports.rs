//! Which names the source files define, and which symbol stands behind each name of a library. The
//! build script makes stubs for what is not defined, the link step takes the symbols, the coverage
//! page lists both.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// The libraries: CUDA's major version, soname (which is the version node, too) and list of symbols.
pub const LIBRARIES: [(u32, &str, &str); 3] = [
    (11, "libcudart.so.11.0", "symbols-11.txt"),
    (12, "libcudart.so.12", "symbols-12.txt"),
    (13, "libcudart.so.13", "symbols-13.txt"),
];

/// Names on the `fn cuda…` and `fn __cuda…` lines of the `exports!` blocks in a folder's files.
pub fn implemented(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let heads = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("fn "))
            .filter(|rest| rest.starts_with("cuda") || rest.starts_with("__cuda"))
            .filter_map(|rest| rest.split(['(', '[']).next());
        for head in heads {
            names.extend(head.split('|').map(|name| name.trim().to_owned()));
        }
    }
    Ok(names)
}

/// A line of a list of symbols: the exported name, and the symbol that is behind it. They differ
/// where the name had another ABI in another major version.
pub fn symbol(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let name = words.next()?;
    Some((name, words.next().unwrap_or(name)))
}
