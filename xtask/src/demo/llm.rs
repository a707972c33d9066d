//! The demo's last act: Debian's own llama.cpp with its CUDA backend, installed with apt on top of the guest's package,
//! answers a question on the virtual GPU.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{check, shell};
use crate::counters::{self, Session};
use crate::device::Backend;
use crate::guest::{self, Input, Options, Output};
use crate::interrupt::Directory;
use crate::{guest_tree, model};

/// The program, as the mediator's counters name it.
const CLIENT: &str = "llama-completion";

/// Tokens of the two runs whose counts are compared. They differ by [`MORE_TOKENS`].
const FEW_TOKENS: u64 = 8;
const MORE_TOKENS: u64 = 16;

/// A model of the smallest kind has several layers, and a layer several kernels: fewer launches for one more token mean that
/// something else computed it.
const LEAST_LAUNCHES: u64 = 20;

/// What is asked.
const QUESTION: &str = "What is the capital of France? Answer in one sentence.";

/// The guest looks at the device in every way that it has, then asks. The question comes as `$1`.
const SCRIPT: &str = r#"
set -ex
lspci -nn -s 00:05.0
nvidia-smi
vgpu-doctor
vgpu-ctl run vector_add
llama-completion --list-devices
cut -d ' ' -f 1 /proc/uptime
llama-completion -m /share/model.gguf -ngl 99 -fit off -lv 4 -cnv -st -n 48 --temp 0 -p "$1" </dev/null 2>/share/llama.log || { cat /share/llama.log; exit 1; }
grep -E 'using device|offloaded|buffer size|load time|eval time' /share/llama.log
"#;

/// What llama.cpp says when all of a model lies on the device.
const OFFLOADED: &str = "layers to GPU";

/// Two runs that differ in the number of tokens only.
const COUNTED: &str = r#"
for tokens in "$@"; do
    llama-completion -m /share/model.gguf -ngl 99 -fit off -no-cnv --ignore-eos -n "$tokens" --temp 0 -p "Once upon a time" </dev/null 2>/dev/null || exit
    echo
done
"#;

/// What the guest is made of.
pub struct Llm {
    root: PathBuf,
    model: PathBuf,
    backend: Backend,
}

impl Llm {
    /// Fetches all of it. Without `model`, a small chat model.
    pub fn prepare(backend: Backend, model: Option<&Path>) -> Result<Llm> {
        let model = match model {
            Some(path) => std::fs::canonicalize(path)
                .with_context(|| format!("--model {}", path.display()))?,
            None => model::fetch()?,
        };
        Ok(Llm {
            root: guest_tree::default_tree()?,
            model,
            backend,
        })
    }

    fn options(&self, directory: &Path) -> Options {
        let mut options = Options {
            root: self.root.display().to_string(),
            share: Some(directory.join("share")),
            ram: "4G".to_owned(),
            no_build: true,
            ..Options::default()
        };
        options.device.backend = self.backend;
        options.device.counters = Some(directory.join("counters"));
        options
    }

    /// A directory with the model, which the guest may write into.
    fn directory(&self) -> Result<Directory> {
        let directory = Directory::new("vgpu-llm")?;
        let share = directory.path().join("share");
        std::fs::create_dir(&share)?;
        let copy = share.join("model.gguf");
        // Not a link: the guest could change the file behind it.
        std::fs::copy(&self.model, &copy)
            .with_context(|| format!("copy the model {}", self.model.display()))?;
        Ok(directory)
    }

    /// Asks the question; the answer appears as it is made.
    pub fn answers(&self) -> Result<()> {
        let directory = self.directory()?;
        let mut words = shell(SCRIPT);
        words.extend(["sh", QUESTION].map(OsString::from));
        let outcome = guest::run(
            &self.options(directory.path()),
            &words,
            Input::Null,
            &Output::Prefixed("guest | ".to_owned()),
        )?;
        println!("{}", outcome.timing());
        check(
            &outcome,
            &["Test passed: vector addition successful", "CUDA0"],
        )?;
        let offloaded = offloaded(&outcome.stdout)?;
        println!("llama.cpp itself: offloaded {offloaded} of {offloaded} layers to GPU");
        if let Some(seconds) = first_token(&outcome.stdout) {
            println!("the first token came {seconds:.1} s after the machine's boot");
        }
        let sessions = counters::sessions(&directory.path().join("counters"), CLIENT)?;
        let session = sessions.last().with_context(|| {
            format!("{CLIENT} never spoke to the device: the processor answered")
        })?;
        println!("what the mediator counted for it:\n{}", session.table());
        ensure!(
            session.launches() > 0 && session.bytes("to_device") > 0,
            "{CLIENT} launched no kernel, or moved no bytes: the processor answered"
        );
        Ok(())
    }

    /// More tokens must be more kernels.
    pub fn counts_grow(&self) -> Result<()> {
        let directory = self.directory()?;
        let mut words = shell(COUNTED);
        words.push("sh".into());
        words.extend([FEW_TOKENS, FEW_TOKENS + MORE_TOKENS].map(|n| n.to_string().into()));
        let outcome = guest::run(
            &self.options(directory.path()),
            &words,
            Input::Null,
            &Output::Prefixed("guest | ".to_owned()),
        )?;
        check(&outcome, &[])?;
        let sessions = counters::sessions(&directory.path().join("counters"), CLIENT)?;
        let [few, more] = &sessions[..] else {
            anyhow::bail!("{} sessions of {CLIENT} instead of 2", sessions.len())
        };
        let grown =
            |of: fn(&Session) -> u64| of(more).saturating_sub(of(few)) as f64 / MORE_TOKENS as f64;
        println!(
            "{FEW_TOKENS} tokens: {} kernels; {} tokens: {} kernels. Each further token: {:.0} kernels, {:.1} calls that waited, {:.0} bytes to the host",
            few.launches(),
            FEW_TOKENS + MORE_TOKENS,
            more.launches(),
            grown(Session::launches),
            grown(Session::waited),
            grown(|s| s.bytes("to_host")),
        );
        ensure!(
            more.launches() >= few.launches() + MORE_TOKENS * LEAST_LAUNCHES,
            "{MORE_TOKENS} more tokens took no {LEAST_LAUNCHES} kernels each: something else computed them"
        );
        Ok(())
    }

    /// Without the device, llama.cpp finds no GPU.
    pub fn without_the_device(&self) -> Result<()> {
        let directory = self.directory()?;
        let options = Options {
            no_device: true,
            ..self.options(directory.path())
        };
        let outcome = guest::run(
            &options,
            &shell("set -x; llama-completion --list-devices 2>/dev/null"),
            Input::Null,
            &Output::Prefixed("guest | ".to_owned()),
        )?;
        check(&outcome, &["Available devices"])?;
        ensure!(
            !outcome.stdout.contains("CUDA0"),
            "llama.cpp shows a CUDA device in a machine without one"
        );
        Ok(())
    }
}

/// How many layers llama.cpp says that it laid on the device; all of them must be there.
fn offloaded(log: &str) -> Result<u64> {
    let line = log.lines().find(|line| line.contains(OFFLOADED));
    let line = line.with_context(|| format!("llama.cpp printed no \"offloaded … {OFFLOADED}\""))?;
    let share = line
        .split_whitespace()
        .find_map(|word| word.split_once('/'));
    match share.map(|(some, all)| (some.parse::<u64>(), all.parse::<u64>())) {
        Some((Ok(some), Ok(all))) if some == all && all > 0 => Ok(all),
        _ => anyhow::bail!("not all layers are on the device: {line}"),
    }
}

/// When the first token came, in seconds after the kernel's start: by the clock before llama.cpp started, and by the
/// times that it prints at its end.
fn first_token(log: &str) -> Option<f64> {
    let mut lines = log.lines();
    let started: f64 = lines.find_map(|line| line.trim().parse().ok())?;
    let took = |what: &str| -> Option<f64> {
        let line = log.lines().find(|line| line.contains(what))?;
        let (_, rest) = line.split_once('=')?;
        rest.split_whitespace().next()?.parse().ok()
    };
    Some(started + (took("load time")? + took("prompt eval time")?) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_must_be_on_the_device() {
        let log = |share: &str| format!("x\nload_tensors: offloaded {share} layers to GPU\n");
        assert_eq!(offloaded(&log("31/31")).unwrap(), 31);
        for wrong in ["30/31", "0/0", "x/31", "31"] {
            assert!(offloaded(&log(wrong)).is_err(), "{wrong}");
        }
        assert!(offloaded("nothing").is_err());
    }

    #[test]
    fn first_token_is_load_and_prompt_after_the_start() {
        let log = "7.5\ncommon_perf_print:        load time =    2500.00 ms\n\
                   common_perf_print: prompt eval time =    1000.00 ms /    41 tokens\n";
        assert_eq!(first_token(log), Some(11.0));
        assert_eq!(first_token("7.5\n"), None);
    }
}
