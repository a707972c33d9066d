//! Which names the source files export. The build script makes stubs for all others, the coverage page lists
//! both.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// Names on the lines `fn nvml…` of the `exports!` blocks, and of functions that stand alone.
pub fn implemented(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        let heads = text
            .lines()
            .map(|line| line.trim_start().trim_start_matches("pub extern \"C\" "))
            .filter_map(|line| line.strip_prefix("fn nvml"))
            .filter_map(|rest| rest.split('(').next());
        for head in heads {
            names.extend(
                format!("nvml{head}")
                    .split('|')
                    .map(|name| name.trim().to_owned()),
            );
        }
    }
    Ok(names)
}
