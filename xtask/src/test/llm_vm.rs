//! llama.cpp in guests: a server that the host talks to, programs that are killed, two machines at once, and what a
//! user does wrong.

mod http;
mod machines;
mod server;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::tally::Tally;
use crate::counters::{self, Session};
use crate::guest::{self, Input, Options, Outcome, Output};
use crate::interrupt::Directory;
use crate::{guest_tree, model, progress, qemu};

/// Runs the stage.
pub fn run(name: &str) -> Result<Tally> {
    qemu::installed()?;
    let stage = Stage {
        root: guest_tree::default_tree()?,
        exact: model::random("f32")?,
        half: model::random("f16")?,
        large: model::fetch()?,
    };
    let mut tally = Tally::default();
    type Part = fn(&Stage) -> Result<String>;
    let parts: [(&str, Part); 2] = [
        ("a server, a second process, interrupts", server::run),
        ("two machines, mistakes of users", machines::run),
    ];
    for (about, part) in parts {
        let what = format!("{name}: {about}");
        let step = progress::step(&what);
        match part(&stage) {
            Ok(note) => {
                step.done(&note);
                tally.add(Tally::passed(1));
            }
            Err(error) => {
                println!("{what}: {error:#}");
                tally.add(Tally::failed(what));
            }
        }
    }
    Ok(tally)
}

/// What all guests are made of.
struct Stage {
    root: PathBuf,
    /// Models with random weights.
    exact: PathBuf,
    half: PathBuf,
    /// One of about 100 MB.
    large: PathBuf,
}

/// One guest: its options and the directory that it shares with us.
struct Machine {
    directory: Directory,
    options: Options,
}

impl Machine {
    fn new(stage: &Stage, vm_id: u32, model: &Path) -> Result<Machine> {
        let directory = Directory::new("vgpu-llm-vm")?;
        let share = directory.path().join("share");
        fs::create_dir(&share)?;
        fs::copy(model, share.join("model.gguf"))?;
        let mut options = Options {
            root: stage.root.display().to_string(),
            share: Some(share),
            no_build: true,
            timeout: Some(600),
            ..Options::default()
        };
        options.device.vm_id = vm_id;
        options.device.counters = Some(directory.path().join("counters"));
        Ok(Machine { directory, options })
    }

    fn share(&self) -> PathBuf {
        self.directory.path().join("share")
    }

    /// Runs a script of the shell, behind [`FUNCTIONS`].
    fn run(&self, script: &str) -> Result<Outcome> {
        let script = format!("{FUNCTIONS}{script}");
        let words = ["sh", "-c", &script].map(OsString::from);
        guest::run(&self.options, &words, Input::Null, &Output::Capture)
    }

    /// What a file of the shared directory says, for messages.
    fn file(&self, name: &str) -> String {
        let bytes = fs::read(self.share().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The sessions of a program, of which there must be so many, each with launches.
    fn sessions(&self, client: &str, count: usize) -> Result<Vec<Session>> {
        let sessions = counters::sessions(&self.directory.path().join("counters"), client)?;
        let with: Vec<_> = sessions.into_iter().filter(|s| s.launches() > 0).collect();
        ensure!(
            with.len() == count,
            "{} sessions of {client} launched kernels instead of {count}",
            with.len()
        );
        Ok(with)
    }
}

/// The script's exit status was 0.
fn succeeded(outcome: &Outcome, machine: &Machine) -> Result<()> {
    if outcome.status != 0 {
        bail!(
            "exit status {}; {}\nerrors:\n{}",
            outcome.status,
            outcome.stdout,
            machine.file("errors")
        );
    }
    Ok(())
}

/// The number behind a word at the start of a line of the guest's output.
fn number(outcome: &Outcome, word: &str) -> Result<u64> {
    let mut lines = outcome.stdout.lines();
    let found = lines.find_map(|line| line.strip_prefix(word)?.trim().parse().ok());
    found.with_context(|| format!("the guest printed no {word:?}:\n{}", outcome.stdout))
}

/// What the scripts use. `$COMPLETE` prints nothing but the text; a command, not a function, so that `$!` behind it is the
/// program.
const FUNCTIONS: &str = r#"
set -e
exec 2>/share/errors
memory() { nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits; }
appears() { while ! [ -e "/share/$1" ]; do sleep 0.1; done; }
COMPLETE="llama-completion -m /share/model.gguf -ngl 99 -fit off -no-cnv --no-display-prompt --no-warmup --ignore-eos -t 2 --temp 0"
"#;
