//! A test runner with the output of `cargo test`, whose tests can be skipped with a reason.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Why a test cannot run on this machine.
#[derive(Clone, Debug)]
pub struct Skip(pub String);

/// A test.
pub struct Test {
    /// Its name.
    pub name: String,
    /// Panics where it fails.
    pub body: Box<dyn Fn() -> Result<(), Skip>>,
}

impl Test {
    /// A test.
    pub fn new(name: impl Into<String>, body: impl Fn() -> Result<(), Skip> + 'static) -> Test {
        Test {
            name: name.into(),
            body: Box::new(body),
        }
    }
}

/// The words of `cargo test -- …` that matter here.
#[derive(Default)]
struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    only_ignored: bool,
}

impl Options {
    fn from_arguments(mut words: impl Iterator<Item = String>) -> Options {
        let mut options = Options::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--ignored" => options.only_ignored = true,
                "--skip" => options.skips.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    words.next();
                }
                word if word.starts_with('-') => {}
                word => options.filters.push(word.to_owned()),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let fits = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        !self.only_ignored
            && (self.filters.is_empty() || self.filters.iter().any(fits))
            && !self.skips.iter().any(fits)
    }
}

/// What the last panic said. Panics of other threads count too: they are why a test waits in vain.
static PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs the tests, one after the other, as `main` of a test target with `harness = false`.
pub fn main(tests: Vec<Test>) -> ExitCode {
    let options = Options::from_arguments(std::env::args().skip(1));
    let (chosen, rest): (Vec<_>, Vec<_>) = tests.into_iter().partition(|t| options.wants(&t.name));
    if options.list {
        chosen
            .iter()
            .for_each(|test| println!("{}: test", test.name));
        return ExitCode::SUCCESS;
    }
    std::panic::set_hook(Box::new(|info| {
        let mut said = PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        said.push_str(&format!("{info}\n"));
    }));
    println!("\nrunning {} tests", chosen.len());
    let (mut passed, mut ignored, mut failures) = (0, 0, Vec::new());
    for test in &chosen {
        let outcome = catch_unwind(AssertUnwindSafe(|| (test.body)()));
        let said = std::mem::take(&mut *PANIC.lock().unwrap_or_else(PoisonError::into_inner));
        match outcome {
            Ok(Ok(())) => {
                passed += 1;
                println!("test {} ... ok", test.name);
            }
            Ok(Err(Skip(reason))) => {
                ignored += 1;
                println!("test {} ... ignored, {reason}", test.name);
            }
            Err(_) => {
                println!("test {} ... FAILED", test.name);
                failures.push((&test.name, said));
            }
        }
    }
    if !failures.is_empty() {
        println!("\nfailures:\n");
        for (name, said) in &failures {
            println!("---- {name} stdout ----\n{said}");
        }
        println!("\nfailures:");
        failures.iter().for_each(|(name, _)| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {ignored} ignored; 0 measured; {} filtered out\n",
        if failures.is_empty() { "ok" } else { "FAILED" },
        failures.len(),
        rest.len(),
    );
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
