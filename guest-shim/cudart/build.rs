//! Makes the exports that are not implemented, of all three libraries.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

#[path = "exports.rs"]
mod exports;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=exports.rs");

    let done = exports::implemented(Path::new("src")).expect("the source files are readable");
    let mut symbols = BTreeSet::new();
    for (_, _, list) in exports::LIBRARIES {
        println!("cargo::rerun-if-changed={list}");
        let text = fs::read_to_string(list).expect("the lists of symbols are readable");
        symbols.extend(
            text.lines()
                .filter_map(|line| Some(exports::symbol(line)?.1.to_owned())),
        );
    }

    let mut stubs = String::new();
    let mut unsupported = String::new();
    for name in symbols.difference(&done) {
        writeln!(
            stubs,
            "#[unsafe(no_mangle)] pub extern \"C\" fn {name}() -> u32 {{\
             static LOGGED: AtomicBool = AtomicBool::new(false); not_supported({name:?}, &LOGGED) }}"
        )
        .expect("writes to memory");
        writeln!(unsupported, "({name:?}, {name}),").expect("writes to memory");
    }
    let text = format!(
        "{stubs}\n/// Exports that return cudaErrorNotSupported.\n#[cfg(test)]\n\
         pub static EXPORTS: &[(&str, extern \"C\" fn() -> u32)] = &[{unsupported}];\n"
    );
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("unsupported.rs"), text).expect("OUT_DIR is writable");
}
