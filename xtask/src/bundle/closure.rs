//! The shared libraries that a program loads, with the loader.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run;

/// Copies them into a directory.
pub fn copy(program: &Path, to: &Path) -> Result<()> {
    let text = run::stdout(Command::new("ldd").arg(program))?;
    let libraries = libraries(&text).with_context(|| program.display().to_string())?;
    ensure!(
        libraries.iter().any(|path| is_loader(path)),
        "{}: ldd names no loader",
        program.display()
    );
    for library in libraries {
        let name = library.file_name().context("a library has no name")?;
        fs::copy(&library, to.join(name)).with_context(|| format!("copy {}", library.display()))?;
    }
    Ok(())
}

fn is_loader(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name == "ld-linux-x86-64.so.2")
}

/// The files in what `ldd` prints.
fn libraries(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.ends_with("not found") {
            bail!("{line}");
        }
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = path.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_and_missing_ones_named() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibz.so.1 => /lib/libz.so.1 (0x2)\n\t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let found = libraries(text).unwrap();
        assert_eq!(
            found,
            ["/lib/libz.so.1", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from)
        );
        let error = libraries("\tlibq.so => not found\n").unwrap_err();
        assert!(error.to_string().contains("libq.so"), "{error}");
    }
}
