//! Sets the library's soname and makes the exports that are not implemented.
//!
//! `symbols.txt` names every function of libcuda: one per line, followed, where
//! cuGetProcAddress knows it, by its name there and the CUDA version that brought this ABI.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

#[path = "exports.rs"]
mod exports;

fn main() {
    println!("cargo::rerun-if-changed=symbols.txt");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=exports.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");

    let done = exports::implemented(Path::new("src")).expect("the source files are readable");
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
            writeln!(
                stubs,
                "#[unsafe(no_mangle)] pub extern \"C\" fn {name}() -> u32 {{\
                 static LOGGED: AtomicBool = AtomicBool::new(false); not_supported({name:?}, &LOGGED) }}"
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
