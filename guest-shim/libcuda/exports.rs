//! Which names the source files export. The build script makes stubs for all others, the coverage
//! page lists both.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

/// Names on the `fn cu…` lines of the `exports!` blocks in the files of a folder and of those in it, but
/// for `tests`.
pub fn implemented(folder: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                names.append(&mut implemented(&path)?);
            }
            continue;
        }
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let heads = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("fn cu"))
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            .filter_map(|rest| rest.split(['(', '[']).next());
        for head in heads {
            names.extend(
                format!("cu{head}")
                    .split('|')
                    .map(|name| name.trim().to_owned()),
            );
        }
    }
    Ok(names)
}
