//! `cargo xtask bench --llm`: a language model with llama.cpp on the device, beside llama.cpp on the same processor.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::shown;
use crate::device::{Backend, Device};
use crate::guest::{self, Input, Options, Output};
use crate::interrupt::Directory;
use crate::local::Served;
use crate::{counters, guest_tree, model, progress, qemu, run};

/// Tokens of a prompt and of an answer: enough for a steady rate, few enough for an emulated guest.
const PROMPT: &str = "64";
const ANSWER: &str = "32";

/// Kernels that are shown, those that took longest first.
const KERNELS: usize = 10;

/// Rates in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rates {
    prompt: f64,
    answer: f64,
}

/// What a measurement needs.
struct Setup {
    directory: Directory,
    root: PathBuf,
    backend: Backend,
    runs: String,
    threads: String,
}

/// Measures and prints the table. Without `model`, a small chat model.
pub fn run(backend: Backend, runs: u32, model: Option<&PathBuf>, vm: bool) -> Result<()> {
    let directory = Directory::new("vgpu-bench-llm")?;
    fs::create_dir(directory.path().join("share"))?;
    let from = match model {
        Some(path) => path.clone(),
        None => model::fetch()?,
    };
    fs::copy(&from, directory.path().join("share/model.gguf"))
        .with_context(|| format!("copy the model {}", from.display()))?;
    let setup = Setup {
        directory,
        root: guest_tree::default_tree()?,
        backend,
        runs: runs.to_string(),
        threads: std::thread::available_parallelism()?.to_string(),
    };
    let (processor, local) = setup.local()?;
    let guest = if vm { Some(setup.guest()?) } else { None };
    print!("{}", table(processor, local, guest.as_ref()));
    println!("{}", setup.kernels()?);
    Ok(())
}

impl Setup {
    fn words(&self, gpu: bool) -> Vec<&str> {
        let mut words = vec!["llama-bench", "-m", "/share/model.gguf", "-o", "csv"];
        words.extend([
            "-p",
            PROMPT,
            "-n",
            ANSWER,
            "-r",
            &self.runs,
            "-t",
            &self.threads,
        ]);
        words.extend(if gpu {
            ["-ngl", "99"]
        } else {
            ["-dev", "none"]
        });
        words
    }

    fn device(&self, counters: &str) -> Device {
        Device {
            backend: self.backend,
            counters: Some(self.directory.path().join(counters)),
            ..Device::default()
        }
    }

    /// On the processor, and on the device without a guest.
    fn local(&self) -> Result<(Rates, Rates)> {
        let served = Served::start(&self.device("local"))?;
        let share = self.directory.path().join("share");
        let measured = |what: &str, gpu: bool| -> Result<Rates> {
            let step = progress::step(&format!("bench: llama-bench, {what}"));
            let words: Vec<OsString> = self.words(gpu).iter().map(Into::into).collect();
            let mut command = served.in_root(&self.root, Some(&share), &words)?;
            let rates = rates(&run::stdout(command.stdin(Stdio::null()))?)?;
            step.done("");
            Ok(rates)
        };
        Ok((
            measured("the processor", false)?,
            measured("the device, local", true)?,
        ))
    }

    /// In a guest, and what ran it: on its processor, and on the device.
    fn guest(&self) -> Result<(Rates, Rates, String)> {
        qemu::installed()?;
        let options = Options {
            root: self.root.display().to_string(),
            share: Some(self.directory.path().join("share")),
            ram: "4G".to_owned(),
            no_build: true,
            device: self.device("guest"),
            ..Options::default()
        };
        let step = progress::step("bench: llama-bench, guest");
        let script = format!(
            "{} 2>/dev/null && {} 2>/dev/null",
            self.words(false).join(" "),
            self.words(true).join(" ")
        );
        let words = ["sh", "-c", &script].map(OsString::from);
        let outcome = guest::run(&options, &words, Input::Null, &Output::Capture)?;
        ensure!(
            outcome.status == 0,
            "in the guest: exit status {}\n{}",
            outcome.status,
            outcome.stdout
        );
        step.done(outcome.accel.name());
        let second = outcome.stdout.rfind("build_commit").unwrap_or_default();
        let (processor, device) = outcome.stdout.split_at(second);
        Ok((
            rates(processor)?,
            rates(device)?,
            outcome.accel.name().to_owned(),
        ))
    }

    /// What the local run's time went to.
    fn kernels(&self) -> Result<String> {
        let file = self.directory.path().join("local");
        let sessions = counters::sessions(&file, "llama-bench")?;
        let session = sessions.iter().max_by_key(|session| session.launches());
        let session = session.context("llama-bench never spoke to the device")?;
        Ok(session.times(KERNELS))
    }
}

/// The rates in `llama-bench`'s table of comma-separated values.
fn rates(csv: &str) -> Result<Rates> {
    let mut lines = csv.lines().filter(|line| line.contains(','));
    let names = cells(lines.next().context("llama-bench printed nothing")?);
    let column = |name: &str| {
        let found = names.iter().position(|n| n == name);
        found.with_context(|| format!("llama-bench printed no column {name}"))
    };
    let (prompt, answer, rate) = (column("n_prompt")?, column("n_gen")?, column("avg_ts")?);
    let (mut prompts, mut answers) = (None, None);
    for line in lines {
        let cells = cells(line);
        let cell = |at: usize| cells.get(at).map_or("", String::as_str);
        let tokens: f64 = cell(rate).parse().with_context(|| line.to_owned())?;
        match (cell(prompt), cell(answer)) {
            (_, "0") => prompts = Some(tokens),
            ("0", _) => answers = Some(tokens),
            _ => {}
        }
    }
    Ok(Rates {
        prompt: prompts.context("llama-bench measured no prompt")?,
        answer: answers.context("llama-bench measured no answer")?,
    })
}

/// The cells of a line, without their quotation marks.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

fn table(processor: Rates, local: Rates, guest: Option<&(Rates, Rates, String)>) -> String {
    let accel = guest.map_or("no guest", |guest| &guest.2);
    let mut text = format!(
        "| {:<23} | {:>9} | {:>9} | {:>15} | {:>16} | {:>12} | {:>15} |\n|---|--:|--:|--:|--:|--:|--:|\n",
        "tokens per second",
        "processor",
        "local",
        "local/processor",
        "guest's processor",
        accel,
        "of guest's proc."
    );
    for (what, is_prompt) in [
        ("prompt of 64 tokens", true),
        ("answer of 32 tokens", false),
    ] {
        let of = |rates: &Rates| {
            if is_prompt {
                rates.prompt
            } else {
                rates.answer
            }
        };
        let own = guest.map(|guest| of(&guest.0));
        let there = guest.map(|guest| of(&guest.1));
        text.push_str(&format!(
            "| {what:<23} | {:>9} | {:>9} | {:>15} | {:>16} | {:>12} | {:>15} |\n",
            shown(Some(of(&processor))),
            shown(Some(of(&local))),
            shown(Some(of(&local) / of(&processor))),
            shown(own),
            shown(there),
            shown(there.zip(own).map(|(there, own)| there / own)),
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_from_the_tables_columns() {
        let csv = "build_commit,n_prompt,n_gen,model_type,avg_ts\n\
                   \"1\",\"64\",\"0\",\"llama, small\",\"92.5\"\n\"1\",\"0\",\"32\",\"x\",\"15.25\"\n";
        let both = Rates {
            prompt: 92.5,
            answer: 15.25,
        };
        assert_eq!(rates(csv).unwrap(), both);
        assert!(rates("").is_err());
        assert!(rates("n_prompt,n_gen,avg_ts\n64,0,1\n").is_err());
    }

    #[test]
    fn table_has_ratios() {
        let [a, b] = [10.0, 4.0].map(|rate| Rates {
            prompt: rate,
            answer: rate,
        });
        let text = table(a, b, Some(&(b, a, "TCG".to_owned())));
        let row = text.lines().last().unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(
            cells[2..8],
            ["10.0", "4.00", "0.40", "4.00", "10.0", "2.50"]
        );
    }
}
