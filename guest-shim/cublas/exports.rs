//! Which names the source files define. The build script makes stubs for all others, the link step
//! and the coverage page read the lists.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// The libraries: major version, soname (which is the version node, too) and list of names.
pub const LIBRARIES: [(u32, &str, &str); 3] = [
    (11, "libcublas.so.11", "symbols-11.txt"),
    (12, "libcublas.so.12", "symbols-12.txt"),
    (13, "libcublas.so.13", "symbols-13.txt"),
];

/// Names on the lines of a folder's files that begin with `fn cublas`: `fn name | twin (…` or
/// `fn name | twin: …`.
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
            .map(|line| line.trim_start().trim_start_matches("pub extern \"C\" "))
            .filter_map(|line| line.strip_prefix("fn cublas"))
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            .filter_map(|rest| rest.split(['(', '[', ':']).next());
        for head in heads {
            let all = format!("cublas{head}");
            names.extend(all.split('|').map(|name| name.trim().to_owned()));
        }
    }
    Ok(names)
}
