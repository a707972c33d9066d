//! The symbols of the library as it is built.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

/// The library beside the folder that this test was built in.
fn library() -> PathBuf {
    let mut path = std::env::current_exe().expect("a path");
    path.pop();
    path.pop();
    path.push("libcuda.so");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

fn run(program: &str, options: &[&str]) -> String {
    let output = Command::new(program)
        .args(options)
        .arg(library())
        .output()
        .unwrap_or_else(|e| panic!("{program} (package binutils): {e}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn exactly_the_names_of_the_list_are_exported_without_versions() {
    // The list, and the mark by which the host's side knows this library from NVIDIA's.
    let listed: BTreeSet<&str> = include_str!("../symbols.txt")
        .lines()
        .filter_map(|line| line.split(' ').next())
        .chain(["vgpu_stub_shim"])
        .collect();
    let text = run("nm", &["-D", "--defined-only"]);
    let exported: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    let missing: Vec<_> = listed.difference(&exported).collect();
    let extra: Vec<_> = exported.difference(&listed).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, extra {extra:?}"
    );
}

#[test]
fn the_soname_is_that_of_nvidias_library() {
    let text = run("readelf", &["-d"]);
    assert!(text.contains("Library soname: [libcuda.so.1]"), "{text}");
}
