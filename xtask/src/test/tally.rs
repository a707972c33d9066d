//! How many tests passed, failed and were skipped.

use std::collections::BTreeMap;
use std::fmt;

/// A count of tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Names of those that failed.
    pub failures: Vec<String>,
    /// Names and reasons of those that were skipped.
    pub skips: Vec<String>,
}

impl Tally {
    /// So many passed.
    pub fn passed(count: u64) -> Self {
        Self {
            passed: count,
            ..Self::default()
        }
    }

    /// One failed.
    pub fn failed(name: String) -> Self {
        Self {
            failed: 1,
            failures: vec![name],
            ..Self::default()
        }
    }

    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        self.skips.extend(other.skips);
    }

    /// One could not run, `name: reason`.
    pub fn skip(&mut self, skip: String) {
        self.skipped += 1;
        self.skips.push(skip);
    }

    /// Something passed and nothing failed.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl Tally {
    /// One line for each reason why tests were skipped.
    pub fn skip_lines(&self) -> Vec<String> {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for skip in &self.skips {
            let (name, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
            reasons.entry(reason).or_default().push(name);
        }
        let line = |(reason, names): (&str, Vec<&str>)| match names[..] {
            [name] => format!("skipped {name}: {reason}"),
            [first, ..] => format!("skipped {} tests ({first}, …): {reason}", names.len()),
            [] => String::new(),
        };
        reasons.into_iter().map(line).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Reads the output of `cargo test`. A test that cannot run on this machine prints a line
/// `SKIPPED name: reason` and passes, or is ignored with a reason.
pub fn of_libtest(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        if let Some(skip) = line.strip_prefix("SKIPPED ") {
            tally.skips.push(skip.to_owned());
            tally.skipped += 1;
            tally.passed = tally.passed.saturating_sub(1);
        } else if let Some(test) = line.strip_prefix("test ") {
            let Some((name, result)) = test.split_once(" ... ") else {
                continue;
            };
            match result
                .split_once(", ")
                .map_or((result, ""), |(result, reason)| (result, reason))
            {
                ("ok", _) => tally.passed += 1,
                ("ignored", reason) => {
                    tally.skipped += 1;
                    tally.skips.push(format!("{name}: {reason}"));
                }
                ("FAILED", _) => {
                    tally.failed += 1;
                    tally.failures.push(name.to_owned());
                }
                _ => {}
            }
        }
    }
    // A test binary that crashed has no line for the test it was in.
    if tally.failed == 0 && text.contains("\nerror: test failed") {
        tally.add(Tally::failed(
            "a test binary ended before its time".to_owned(),
        ));
    }
    tally
}

/// Reads the lines `PASS name …`, `FAIL name: reason` and `SKIP name: reason` of a program.
pub fn of_program(program: &str, text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines() {
        let line =
            line.split_once("] ").map_or(
                line,
                |(label, rest)| if label.starts_with('[') { rest } else { line },
            );
        if line.starts_with("PASS ") {
            tally.passed += 1;
        } else if let Some(failure) = line.strip_prefix("FAIL ") {
            tally.add(Tally::failed(format!("{program}: {failure}")));
        } else if let Some(skip) = line.strip_prefix("SKIP ") {
            tally.skip(format!("{program}, {skip}"));
        }
    }
    tally
}

/// What failed tests printed, as libtest shows it.
pub fn failure_output(text: &str) -> String {
    let mut shown = String::new();
    let mut inside = false;
    for line in text.lines() {
        match line {
            "failures:" => inside = true,
            line if line.starts_with("test result: ") => inside = false,
            _ => {}
        }
        if inside {
            shown.push_str(line);
            shown.push('\n');
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_lines_are_counted() {
        let text = "running 4 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest a::d ... ignored, no GPU\n\
                    test a::e ... ok\nSKIPPED e: no GPU either\ntest result: FAILED. 2 passed; 1 failed\n";
        let mut tally = of_libtest(text);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(tally.failures, ["a::c"]);
        assert_eq!(tally.skips, ["a::d: no GPU", "e: no GPU either"]);
        assert!(!tally.is_good());
        let lines = ["skipped a::d: no GPU", "skipped e: no GPU either"];
        assert_eq!(tally.skip_lines(), lines);
        tally.skips.push("f: no GPU".to_owned());
        assert_eq!(tally.skip_lines()[0], "skipped 2 tests (a::d, …): no GPU");
    }

    #[test]
    fn crashed_binary_is_a_failure() {
        let tally =
            of_libtest("test a ... ok\ntest b ...\nerror: test failed, to rerun pass `-p x`\n");
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn nothing_passed_is_not_good() {
        assert!(!Tally::default().is_good());
        assert!(Tally::passed(1).is_good());
    }

    #[test]
    fn program_lines_are_counted_behind_their_label() {
        let tally = of_program(
            "x",
            "device: y\nPASS a n=1\n[process 0] PASS b\n[process 1] FAIL c: wrong\nall\n",
        );
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 0 skipped");
        assert_eq!(tally.failures, ["x: c: wrong"]);
    }

    #[test]
    fn output_of_failures_is_shown() {
        let text = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\nwrong\n\nfailures:\n    a\n\ntest result: x\nmore\n";
        let shown = failure_output(text);
        assert!(
            shown.contains("wrong") && !shown.contains("more"),
            "{shown}"
        );
    }
}
