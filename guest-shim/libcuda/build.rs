//! Sets the library's soname and makes the exports that are not implemented.
//!
//! `symbols.txt` names every function of libcuda: one per line, followed, where
//! cuGetProcAddress knows it, by its name there and the CUDA version that brought this ABI.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

/// Names that the source files export: those on the `fn cu…` lines of `exports!`.
fn implemented(folder: &Path, names: &mut BTreeSet<String>) {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the source folder is readable")
        .map(|e| e.expect("the source folder is readable").path())
        .filter(|p| p.extension().is_some_and(|e| e == "rs"))
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file is readable");
        let heads = text
            .lines()
            .map(str::trim_start)
            .filter_map(|line| line.strip_prefix("fn cu"))
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
            .filter_map(|rest| rest.split(['(', '[']).next());
        for head in heads {
            for name in format!("cu{head}").split('|') {
                names.insert(name.trim().to_string());
            }
        }
    }
}

fn main() {
    println!("cargo::rerun-if-changed=symbols.txt");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");

    let mut done = BTreeSet::new();
    implemented(Path::new("src"), &mut done);
    let symbols = fs::read_to_string("symbols.txt").expect("symbols.txt is readable");

    let mut stubs = String::new();
    let mut unsupported = String::new();
    let mut versions = String::new();
    for line in symbols.lines() {
        let mut words = line.split(' ');
        let name = words.next().expect("a line has a name");
        if let (Some(base), Some(version)) = (words.next(), words.next()) {
            writeln!(versions, "({base:?}, {version}, {name:?}),").expect("writes to memory");
        }
        if !done.contains(name) {
            write!(
                stubs,
                "#[unsafe(no_mangle)] pub extern \"C\" fn {name}() -> u32 {{\
                 static LOGGED: AtomicBool = AtomicBool::new(false); not_supported({name:?}, &LOGGED) }}\n"
            )
            .expect("writes to memory");
            writeln!(unsupported, "Entry::new({name:?}, {name} as *const ()),")
                .expect("writes to memory");
        }
    }
    let text = format!(
        "{stubs}\n/// Exports that return CUDA_ERROR_NOT_SUPPORTED.\n\
         pub static EXPORTS: &[Entry] = &[{unsupported}];\n\
         /// Name for cuGetProcAddress, CUDA version of the ABI, and symbol.\n\
         pub static VERSIONS: &[(&str, i32, &str)] = &[{versions}];\n"
    );
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("unsupported.rs"), text).expect("OUT_DIR is writable");
}
