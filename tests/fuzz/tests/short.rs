//! A short run with a fixed seed, and proof that the supervisor sees what it is there for.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

use std::fs;
use std::process::{Command, Output};

const FUZZ: &str = env!("CARGO_BIN_EXE_soft-gpu-fuzz");

/// Cases of the short run: some seconds without a sanitizer.
const CASES: &str = "1500";

fn run(folder: &str, words: &[&str]) -> (Output, std::path::PathBuf) {
    let findings = std::env::temp_dir().join(format!("{folder}-{}", std::process::id()));
    let output = Command::new(FUZZ)
        .args(words)
        .arg("--findings")
        .arg(&findings)
        .output()
        .unwrap();
    (output, findings)
}

#[test]
fn a_short_run_finds_nothing() {
    let (output, findings) = run("vgpu-fuzz-short", &["run", "--seed", "1", "--cases", CASES]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let count = |what: &str| -> u64 {
        let before = text.split(&format!(" {what}")).next().unwrap_or("");
        let word = before.rsplit([' ', ',']).next().unwrap_or("");
        word.parse().unwrap_or(0)
    };
    // The cases are no good that do not get past the loader, or that all fail at their first access.
    assert_eq!(count("cases,").to_string(), CASES, "{text}");
    assert!(count("loaded") > 500, "{text}");
    assert!(count("launches that ended") > 500, "{text}");
    assert!(count("illegal addresses") > 300, "{text}");
    assert!(count("outcomes compared") > 300, "{text}");
    fs::remove_dir_all(findings).unwrap();
}

#[test]
fn a_seed_makes_the_same_cases() {
    let show = |case: &str| {
        let words = ["show", "--seed", "5", "--case", case];
        run("vgpu-fuzz-show", &words).0.stdout
    };
    assert!(!show("3").is_empty());
    assert_eq!(show("3"), show("3"));
    assert_ne!(show("3"), show("4"));
}

#[test]
fn what_ends_or_stops_a_worker_is_a_finding() {
    for (how, name) in [
        ("crash", "crash-9-2"),
        ("panic", "crash-9-2"),
        ("sleep", "hang-9-2"),
        ("spin", "hang-9-2"),
    ] {
        let words = [
            "run", "--seed", "9", "--cases", "10", "--stop", "--hang", "3", "--fail", how,
        ];
        let (output, findings) = run(&format!("vgpu-fuzz-{how}"), &words);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{how}: {text}");
        // The case that ran is kept.
        let case = fs::read(findings.join(name)).unwrap();
        assert_eq!(
            case,
            run("vgpu-fuzz-kept", &["show", "--seed", "9", "--case", "2"])
                .0
                .stdout[..case.len()]
        );
        fs::remove_dir_all(findings).unwrap();
    }
}
