//! Sets the library's soname and makes the exports that are not implemented.
//!
//! `symbols.txt` names every function of NVML, one per line. A source file implements one by a line
//! `fn nvml…` in its `exports!`.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

#[path = "exports.rs"]
mod exports;

fn main() {
    println!("cargo::rerun-if-changed=symbols.txt");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=exports.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");

    let done = exports::implemented(Path::new("src")).expect("the sources are readable");
    let symbols = fs::read_to_string("symbols.txt").expect("symbols.txt is readable");
    let (mut stubs, mut all) = (String::new(), String::new());
    for name in symbols.lines() {
        if !done.contains(name) {
            writeln!(
                stubs,
                "#[unsafe(no_mangle)] pub extern \"C\" fn {name}() -> i32 {{\
                 static LOGGED: AtomicBool = AtomicBool::new(false); not_supported({name:?}, &LOGGED) }}"
            )
            .expect("writes to memory");
            writeln!(all, "({name:?}, {name}),").expect("writes to memory");
        }
    }
    let text = format!(
        "{stubs}\n/// The exports that are not implemented.\n\
         #[cfg(test)]\npub static EXPORTS: &[(&str, extern \"C\" fn() -> i32)] = &[{all}];\n"
    );
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("unsupported.rs"), text).expect("OUT_DIR is writable");
}
