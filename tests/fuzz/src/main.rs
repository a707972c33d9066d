//! `soft-gpu-fuzz`: see the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use vgpu_fuzz::case::Case;
use vgpu_fuzz::corpus::Corpus;
use vgpu_fuzz::stats;
use vgpu_fuzz::watch::{self, Run, Until};
use vgpu_fuzz::work::{self, Shared};

const USAGE: &str = "\
soft-gpu-fuzz run --seed N --seconds N | --cases N [--first N] [--corpus PATH]… [--findings FOLDER] [--stop] [--hang SECONDS]
soft-gpu-fuzz replay FILE…
soft-gpu-fuzz show --seed N --case N [--corpus PATH]…";

/// Options by name.
#[derive(Default)]
struct Options {
    words: Vec<String>,
    corpus: Vec<PathBuf>,
    stop: bool,
    named: Vec<(String, String)>,
}

impl Options {
    fn read(args: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options::default();
        let mut args = args.peekable();
        while let Some(arg) = args.next() {
            match arg.strip_prefix("--") {
                None => options.words.push(arg),
                Some("stop") => options.stop = true,
                Some(name) => {
                    let value = args
                        .next()
                        .with_context(|| format!("{arg} needs a value"))?;
                    if name == "corpus" {
                        options.corpus.push(value.into());
                    } else {
                        options.named.push((name.to_owned(), value));
                    }
                }
            }
        }
        Ok(options)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let found = self.named.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str())
    }

    fn number(&self, name: &str) -> Result<Option<u64>> {
        let parse = |v: &str| {
            v.parse()
                .with_context(|| format!("--{name} is {v:?}: a whole number is allowed"))
        };
        self.text(name).map(parse).transpose()
    }

    fn must(&self, name: &str) -> Result<u64> {
        self.number(name)?
            .with_context(|| format!("--{name} is missing"))
    }
}

fn main() -> Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let o = Options::read(args)?;
    match command.as_str() {
        "run" => {
            let until = match (o.number("seconds")?, o.number("cases")?) {
                (Some(s), None) => Until::Time(Duration::from_secs(s)),
                (None, Some(n)) => Until::Cases(n),
                _ => bail!("{USAGE}"),
            };
            let run = Run {
                seed: o.must("seed")?,
                first: o.number("first")?.unwrap_or(0),
                until,
                corpus: o.corpus.clone(),
                findings: o.text("findings").unwrap_or("fuzz-findings").into(),
                stop: o.stop,
                hang: o.number("hang")?.map_or(watch::HANG, Duration::from_secs),
                fail: o.text("fail").map(str::to_owned),
            };
            return Ok(if watch::run(&run)? == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        "work" => {
            let state = o.text("state").context("--state is missing")?;
            let corpus = Corpus::collect(&o.corpus)?;
            let shared = Shared::open(state.as_ref())?;
            let (seed, from, to) = (o.must("seed")?, o.must("from")?, o.must("to")?);
            work::work(seed, from, to, &corpus, &shared, o.text("fail"))?;
        }
        "show" => {
            let corpus = Corpus::collect(&o.corpus)?;
            let case = work::case(o.must("seed")?, o.must("case")?, &corpus);
            println!("{}", String::from_utf8_lossy(&case.encode()));
        }
        "replay" => {
            for file in &o.words {
                let bytes = std::fs::read(file).with_context(|| format!("read {file}"))?;
                let stats = work::replay(&Case::decode(&bytes)?)?;
                println!("{file}: {}", stats::line(&stats.values()));
            }
        }
        _ => bail!("{USAGE}"),
    }
    Ok(ExitCode::SUCCESS)
}
