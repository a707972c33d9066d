//! Links the CUDA runtime's libraries: three from one static library, each with its soname, its version node
//! and the names of its major version.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::coverage::Tested;
use crate::{run, sysroot, workspace};

#[path = "../../guest-shim/cudart/exports.rs"]
pub mod exports;

/// What cargo makes of the crate.
const ARCHIVE: &str = "libcudart.a";

/// Libraries that Rust's standard library needs (`rustc --print native-static-libs`).
const SYSTEM: &[&str] = &[
    "-lgcc_s",
    "-lutil",
    "-lrt",
    "-lpthread",
    "-lm",
    "-ldl",
    "-lc",
];

/// The libraries' sonames.
pub fn sonames() -> impl Iterator<Item = &'static str> {
    exports::LIBRARIES.iter().map(|(_, soname, _)| *soname)
}

/// A list of symbols: exported names, and what is behind each.
pub fn symbols(list: &str) -> Result<Vec<(String, String)>> {
    let path = workspace::root().join("guest-shim/cudart").join(list);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text
        .lines()
        .filter_map(exports::symbol)
        .map(|(name, symbol)| (name.to_owned(), symbol.to_owned()))
        .collect())
}

/// Each name of a list, and whether it is supported.
pub fn supported(list: &str) -> Result<Vec<(String, bool)>> {
    let implemented = exports::implemented(&workspace::root().join("guest-shim/cudart/src"))?;
    Ok(symbols(list)?
        .into_iter()
        .map(|(name, symbol)| (name, implemented.contains(&symbol)))
        .collect())
}

/// Links all from the archive in `from`; gives each file and its soname.
pub fn link(from: &Path) -> Result<Vec<(PathBuf, &'static str)>> {
    exports::LIBRARIES
        .iter()
        .map(|(major, soname, list)| Ok((link_one(from, *major, soname, list)?, *soname)))
        .collect()
}

fn link_one(from: &Path, major: u32, soname: &str, list: &str) -> Result<PathBuf> {
    let symbols = symbols(list)?;
    // The node is the soname, as in NVIDIA's libraries: programs ask for it.
    let mut script = format!("{soname} {{\n  global:\n");
    let mut options = format!("--defsym=vgpu_cudart_major=vgpu_cudart_major_{major}\n");
    for (name, symbol) in &symbols {
        writeln!(script, "    {name};")?;
        // Whatever is behind a name is taken out of the archive.
        writeln!(options, "--undefined={symbol}")?;
        if name != symbol {
            writeln!(options, "--defsym={name}={symbol}")?;
        }
    }
    writeln!(options, "--undefined=vgpu_cudart_major_{major}")?;
    script.push_str("  local: *;\n};\n");
    let work = from.join("cudart");
    fs::create_dir_all(&work)?;
    let (script_file, options_file) = (
        work.join(format!("{soname}.map")),
        work.join(format!("{soname}.options")),
    );
    fs::write(&script_file, script)?;
    fs::write(&options_file, options)?;
    let library = work.join(soname);
    let mut command = Command::new("cc");
    command.arg("-shared").arg("-o").arg(&library);
    if let Ok(old) = sysroot::fetch() {
        command.arg(format!("-B{}", old.display()));
    }
    command
        .arg(format!("-Wl,-soname,{soname}"))
        .arg(format!("-Wl,--version-script={}", script_file.display()))
        .arg(format!("-Wl,@{}", options_file.display()))
        .args([
            "-Wl,--gc-sections",
            "-Wl,--as-needed",
            "-Wl,-z,defs",
            "-Wl,-z,relro,-z,now",
        ])
        .arg("-Wl,--strip-debug")
        .arg(from.join(ARCHIVE))
        .args(SYSTEM);
    run::ok(&mut command).with_context(|| format!("link {soname}"))?;
    Ok(library)
}

/// Programs of the runtime.
pub const PROGRAMS: &str = "tests/programs/cudart";

/// The runtime's part of the coverage page.
pub fn coverage(page: &mut String, tested: &Tested) -> Result<()> {
    // By exported name: which libraries have it, and whether each has a body for it.
    let mut rows: BTreeMap<String, [Option<bool>; 3]> = BTreeMap::new();
    for (i, (_, _, list)) in exports::LIBRARIES.iter().enumerate() {
        for (name, supported) in supported(list)? {
            rows.entry(name).or_default()[i] = Some(supported);
        }
    }
    let done = |row: &[Option<bool>; 3]| row.contains(&Some(true));
    let count = rows.values().filter(|row| done(row)).count();
    let by_test = rows
        .iter()
        .filter(|(name, row)| done(row) && tested.has(name))
        .count();
    writeln!(
        page,
        "\n### libcudart.so.11.0, .12 and .13: {count} of {} are implemented, {by_test} of these are named by tests\n\n\
         It is written over the driver API: both backends have the same. By version: `yes` and `error` as above, `–`\n\
         where NVIDIA's library of this version has no such name. A call whose driver function is not implemented is\n\
         not supported either.\n\n\
         | function | exported by | 11 | 12 | 13 | tested |\n|---|---|---|---|---|---|",
        rows.len()
    )?;
    for (name, row) in &rows {
        let by = [("11", row[0]), ("12", row[1]), ("13", row[2])]
            .into_iter()
            .filter_map(|(version, has)| has.map(|_| version))
            .collect::<Vec<_>>()
            .join(", ");
        write!(page, "| `{name}` | {by} |")?;
        for of in row {
            write!(
                page,
                " {} |",
                match of {
                    None => "–",
                    Some(true) => "yes",
                    Some(false) => "error",
                }
            )?;
        }
        let by_test = tested.has(name) && done(row);
        writeln!(page, " {} |", if by_test { "yes" } else { "" })?;
    }
    Ok(())
}
