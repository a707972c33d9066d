//! Libraries that exist in several major versions: one static library, linked once for each, with its soname, its
//! version node and its names.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{install, sysroot};
use crate::{run, workspace};

#[path = "../../../guest-shim/cublas/exports.rs"]
pub mod cublas;
#[path = "../../../guest-shim/cublaslt/exports.rs"]
pub mod cublaslt;

/// A static library, and what is made of it.
struct Family {
    /// Folder of its crate, with the lists of names.
    folder: &'static str,
    /// cargo's file.
    archive: &'static str,
    /// The symbol by which the code knows its major version: the link step makes it that of `…_<major>`.
    major: &'static str,
    /// Major version, soname (also the version node), and list of names. A line of a list is a name, or a name and
    /// the symbol that stands behind it.
    libraries: &'static [(u32, &'static str, &'static str)],
}

const FAMILIES: &[Family] = &[
    Family {
        folder: "guest-shim/cublas",
        archive: "libcublas.a",
        major: "vgpu_cublas_major",
        libraries: &cublas::LIBRARIES,
    },
    Family {
        folder: "guest-shim/cublaslt",
        archive: "libcublaslt.a",
        major: "vgpu_cublas_major",
        libraries: &cublaslt::LIBRARIES,
    },
];

/// The libraries' sonames.
pub fn sonames() -> impl Iterator<Item = &'static str> {
    let libraries = FAMILIES.iter().flat_map(|family| family.libraries);
    libraries.map(|(_, soname, _)| *soname)
}

/// Links all libraries from cargo's files in `from` into `to`.
pub fn link_all(from: &Path, to: &Path) -> Result<()> {
    for family in FAMILIES {
        for library in family.libraries {
            link(family, library, from, to).with_context(|| format!("link {}", library.1))?;
        }
    }
    Ok(())
}

fn link(
    family: &Family,
    (major, soname, list): &(u32, &str, &str),
    from: &Path,
    to: &Path,
) -> Result<()> {
    let list = workspace::root().join(family.folder).join(list);
    let names = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
    let script = from.join(format!("{soname}.map"));
    let made = from.join(soname);
    let mut text = format!("{soname} {{\n  global:\n");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-o"]).arg(&made);
    if let Ok(libraries) = sysroot::fetch() {
        cc.arg(format!("-B{}", libraries.display()));
    }
    for line in names.lines() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        writeln!(text, "    {name};")?;
        if let Some(symbol) = words.next() {
            cc.arg(format!("-Wl,--defsym={name}={symbol}"));
        }
    }
    text.push_str("  local: *;\n};\n");
    fs::write(&script, text).with_context(|| format!("write {}", script.display()))?;
    cc.arg(format!("-Wl,--defsym={0}={0}_{major}", family.major));
    cc.arg(format!("-Wl,-soname,{soname}"));
    cc.arg(format!("-Wl,--version-script={}", script.display()));
    // All of the archive is looked at, and what no exported name needs is left out again.
    cc.args([
        "-Wl,--gc-sections",
        "-Wl,-O1",
        "-Wl,-z,relro,-z,now",
        "-Wl,--whole-archive",
    ]);
    cc.arg(from.join(family.archive));
    cc.args(["-Wl,--no-whole-archive", "-Wl,--strip-debug"]);
    cc.args(["-lgcc_s", "-lpthread", "-ldl", "-lm", "-lc"]);
    run::ok(&mut cc)?;
    install(&made, &to.join(soname))
}
