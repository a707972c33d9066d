//! Debian's llama.cpp on the device beside llama.cpp on the processor: the same tokens, the same logits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::tally::Tally;
use crate::device::Device;
use crate::interrupt::Directory;
use crate::local::Served;
use crate::{guest_tree, model, progress, run, workspace};

/// Formats of random weights, and what of them `llama-quantize` makes out of float16.
const RANDOM: &[(&str, Option<&str>)] = &[
    ("random-f32", None),
    ("random-f16", None),
    ("random-q4_0", Some("Q4_0")),
    ("random-q8_0", Some("Q8_0")),
    ("random-q4_k", Some("Q4_K")),
];

/// Where trained models may lie that are compared as well: `stories260K-f32.gguf`, `stories260K-F16.gguf`.
pub(super) const MODELS_VARIABLE: &str = "VGPU_MODELS";
const TRAINED: &[&str] = &["stories260K-f32", "stories260K-F16"];

/// Whether every model is run in every way. Otherwise each way is run with some of the models.
const ALL_VARIABLE: &str = "VGPU_LLM_ALL";

/// Operations of ggml's own test: those that models of today are made of.
const OPERATIONS: &[&str] = &[
    "ADD",
    "MUL",
    "SCALE",
    "SQR",
    "SOFT_MAX",
    "RMS_NORM",
    "NORM",
    "ROPE",
    "GET_ROWS",
    "SET_ROWS",
    "CPY",
    "CONT",
    "DUP",
    "CONCAT",
    "SUM_ROWS",
    "ARGMAX",
    "ARGSORT",
    "SWIGLU",
    "GEGLU",
    "GELU",
    "SILU",
    "RELU",
    "TANH",
    "CLAMP",
    "DIAG_MASK_INF",
];

/// A short text, and one of more than one batch of the matrix kernels.
const SHORT: &str = "Once upon a time";
const LONG: &str = "The lighthouse stood on the last rock before the open sea. Every evening the keeper climbed its narrow stairs, \
    filled the lamp with oil, and wiped the salt from the glass. Ships that came home in the dark knew the light by its rhythm: two short \
    flashes, a pause, and one long. When the storm came, the keeper stayed awake until morning and counted the ships that passed, and \
    not one of them was lost.";

/// One comparison.
struct Case {
    model: String,
    text: &'static str,
    flash: bool,
    batch: u32,
    /// Tokens that must be the same, one by one.
    tokens: usize,
    /// Largest mean squared difference of the logits, in units of their variance.
    error: f64,
    /// Largest difference of the perplexity, as a share; for trained models only.
    perplexity: Option<f64>,
    /// A model with the same weights in more bits, run by the processor: the device may be no further from it
    /// than the processor is with this model, [`JUDGED`] times.
    judge: Option<&'static str>,
}

/// How many times as far from what is exact the device may be as the processor, in squares. The chat model's weights are
/// Q4_1. ggml's CUDA kernels round activations in a way that costs more with such weights than the processor's: a single
/// product is 13 times as far from the exact one, by the kernels' own method and on the device alike (`ggml-products`
/// checks that the device is exact to the method). 3.3 times was measured on the logits.
const JUDGED: f64 = 6.0;

/// The chat model with the same weights in single precision: nothing of it is rounded to eight bits.
const EXACT: &str = "smollm2-f32";

/// Programs that are compiled for the tree.
const LOGITS: &str = "llama-logits";
const PRODUCTS: &str = "ggml-products";

/// Runs on the processor, by model, text and flash attention.
type References = HashMap<(String, &'static str, bool), Run>;

/// What one run gave.
struct Run {
    tokens: Vec<u32>,
    perplexity: f64,
    logits: Vec<f32>,
    devices: String,
}

/// Runs the stage.
pub fn run(name: &str) -> Result<Tally> {
    let bench = Bench::new()?;
    let mut tally = Tally::default();
    let mut references = HashMap::new();
    for case in bench.cases() {
        let what = format!(
            "{name}: {} {} flash={} batch={}",
            case.model,
            if case.text == SHORT { "short" } else { "long" },
            u8::from(case.flash),
            case.batch
        );
        let step = progress::step(&what);
        match bench.compare(&case, &mut references) {
            Ok(text) => {
                step.done(&text);
                tally.add(Tally::passed(1));
            }
            Err(error) => {
                println!("{what}: {error:#}");
                tally.add(Tally::failed(what));
            }
        }
    }
    for model in TRAINED
        .iter()
        .filter(|model| bench.trained(model).is_none())
    {
        let mut skipped = Tally::default();
        skipped.skip(format!(
            "{name} {model}: {MODELS_VARIABLE} names no directory with it"
        ));
        tally.add(skipped);
    }
    tally.add(bench.operations(name)?);
    tally.add(bench.products(name)?);
    Ok(tally)
}

struct Bench {
    served: Served,
    root: PathBuf,
    share: Directory,
}

impl Bench {
    fn new() -> Result<Bench> {
        let root = guest_tree::default_tree()?;
        let share = Directory::new("vgpu-llm-test")?;
        let bench = Bench {
            served: Served::start(&Device::default())?,
            root,
            share,
        };
        bench.compile("llama_logits.c", LOGITS)?;
        bench.compile("ggml_products.c", PRODUCTS)?;
        bench.random_models()?;
        fs::copy(model::fetch()?, bench.share.path().join("smollm2.gguf"))?;
        bench.convert("smollm2.gguf", &format!("{EXACT}.gguf"), "F32")?;
        for name in TRAINED {
            if let Some(path) = bench.trained(name) {
                fs::copy(path, bench.share.path().join(format!("{name}.gguf")))?;
            }
        }
        for (name, text) in [("short", SHORT), ("long", LONG)] {
            fs::write(bench.share.path().join(name), text)?;
        }
        Ok(bench)
    }

    fn trained(&self, name: &str) -> Option<PathBuf> {
        let directory = std::env::var_os(MODELS_VARIABLE)?;
        let path = Path::new(&directory).join(format!("{name}.gguf"));
        path.is_file().then_some(path)
    }

    /// Compiles a program against the tree's own headers and libraries.
    fn compile(&self, source: &str, program: &str) -> Result<()> {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let mut compile = Command::new("cc");
        compile
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-I"])
            .arg(self.root.join("usr/include"))
            .arg(workspace::root().join("tests/programs/c").join(source))
            .arg("-o")
            .arg(self.share.path().join(program))
            .arg("-L")
            .arg(libraries)
            .args([
                "-l:libllama.so.0",
                "-l:libggml.so.0",
                "-l:libggml-base.so.0",
                "-lm",
            ])
            // Their glibc is newer than this machine's.
            .arg("-Wl,--allow-shlib-undefined");
        run::ok(&mut compile)?;
        Ok(())
    }

    /// Makes the models that the cache has not got.
    fn random_models(&self) -> Result<()> {
        for (name, quantised) in RANDOM {
            let made = match quantised {
                None => model::random(name.rsplit('-').next().unwrap_or_default())?,
                Some(kind) => self.quantised(name, kind)?,
            };
            fs::copy(&made, self.share.path().join(format!("{name}.gguf")))?;
        }
        Ok(())
    }

    fn quantised(&self, name: &str, kind: &str) -> Result<PathBuf> {
        let made = model::random_file(name)?;
        if !made.is_file() {
            self.convert("random-f16.gguf", "quantised.gguf", kind)?;
            let new = made.with_extension("new");
            fs::copy(self.share.path().join("quantised.gguf"), &new)?;
            fs::rename(&new, &made)?;
        }
        Ok(made)
    }

    /// Makes a model of another format beside one. The quantiser sees the shared directory only.
    fn convert(&self, from: &str, to: &str, kind: &str) -> Result<()> {
        let words = [
            "llama-quantize",
            "--allow-requantize",
            &format!("/share/{from}"),
            &format!("/share/{to}"),
            kind,
        ];
        run::ok(&mut self.command(&words)?)?;
        Ok(())
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let words: Vec<_> = words.iter().map(Into::into).collect();
        let mut command = self
            .served
            .in_root(&self.root, Some(self.share.path()), &words)?;
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn cases(&self) -> Vec<Case> {
        let all = std::env::var_os(ALL_VARIABLE).is_some_and(|value| !value.is_empty());
        let mut cases = Vec::new();
        let mut add = |model: &str, tokens: usize, error: f64, perplexity: Option<f64>| {
            let exact = tokens > 0;
            for (text, batch) in [(SHORT, 32), (LONG, 64), (LONG, 512)] {
                for flash in [false, true] {
                    let chosen = match (text == SHORT, batch) {
                        (true, _) => exact || !flash,
                        (_, 64) => exact && !flash,
                        _ => flash,
                    };
                    if !chosen && !all {
                        continue;
                    }
                    cases.push(Case {
                        model: model.to_owned(),
                        text,
                        flash,
                        batch,
                        tokens,
                        error,
                        perplexity,
                        judge: (model == "smollm2").then_some(EXACT),
                    });
                }
            }
        };
        for (name, quantised) in RANDOM {
            match quantised {
                None => add(name, 32, 1e-4, None),
                // The device multiplies by activations of eight bits, the processor with another block size.
                Some(_) => add(name, 0, 3e-3, None),
            }
        }
        for name in TRAINED.iter().filter(|name| self.trained(name).is_some()) {
            add(name, 32, 1e-4, Some(0.005));
        }
        add(EXACT, 0, 1e-4, Some(0.005));
        // Of the quantised one the perplexity is printed and not checked: the kernels' method moves it, see `JUDGED`.
        add("smollm2", 0, 3e-2, None);
        cases
    }

    fn compare(&self, case: &Case, references: &mut References) -> Result<String> {
        let cpu = match references.entry((case.model.clone(), case.text, case.flash)) {
            Entry::Occupied(known) => known.into_mut(),
            // The size of a batch is of no account there.
            Entry::Vacant(new) => new.insert(self.evaluate(case, 0).context("on the processor")?),
        };
        let gpu = self.evaluate(case, 99).context("on the device")?;
        let mut judged = String::new();
        if let Some(judge) = case.judge {
            let exact = self.evaluate_model(judge, case, 0).context("the judge")?;
            let (theirs, ours) = (
                difference(&exact.logits, &cpu.logits),
                difference(&exact.logits, &gpu.logits),
            );
            judged = format!(
                "; from {judge}: {ours:.1e}, the processor {theirs:.1e}, perplexity {:.3} %, the processor {:.3} %",
                (gpu.perplexity / exact.perplexity - 1.0) * 100.0,
                (cpu.perplexity / exact.perplexity - 1.0) * 100.0,
            );
            ensure!(
                ours <= theirs * JUDGED,
                "too far from what is exact{judged}"
            );
        }
        ensure!(
            gpu.devices.contains("CUDA0"),
            "llama.cpp found no GPU, but:{}",
            gpu.devices
        );
        ensure!(
            cpu.logits.len() == gpu.logits.len() && !cpu.logits.is_empty(),
            "{} logits on the device, {} on the processor",
            gpu.logits.len(),
            cpu.logits.len()
        );
        let error = difference(&cpu.logits, &gpu.logits);
        ensure!(
            error <= case.error,
            "the logits differ by {error:.2e} of their variance, more than {:.0e}",
            case.error
        );
        let same = cpu
            .tokens
            .iter()
            .zip(&gpu.tokens)
            .take_while(|(a, b)| a == b)
            .count();
        ensure!(
            same >= case.tokens,
            "token {same} is {:?} on the device and {:?} on the processor",
            gpu.tokens.get(same),
            cpu.tokens.get(same)
        );
        let share = gpu.perplexity / cpu.perplexity - 1.0;
        if let Some(limit) = case.perplexity {
            ensure!(
                share.abs() <= limit,
                "perplexity {} on the device, {} on the processor",
                gpu.perplexity,
                cpu.perplexity
            );
        }
        Ok(format!(
            "{same} tokens alike; logits differ by {error:.1e}, perplexity by {:.3} %{judged}",
            share * 100.0
        ))
    }

    fn evaluate(&self, case: &Case, layers: u32) -> Result<Run> {
        self.evaluate_model(&case.model, case, layers)
    }

    fn evaluate_model(&self, model: &str, case: &Case, layers: u32) -> Result<Run> {
        let name = if case.text == SHORT { "short" } else { "long" };
        let script = r#"exec /share/llama-logits "/share/$1.gguf" "$2" "$3" "$4" 32 /share/logits <"/share/$5""#;
        let (layers, flash, batch) = (
            layers.to_string(),
            u8::from(case.flash).to_string(),
            case.batch.to_string(),
        );
        let words = [
            "sh", "-c", script, "sh", model, &layers, &flash, &batch, name,
        ];
        let mut timed = Command::new("timeout");
        let inner = self.command(&words)?;
        timed
            .args(["--kill-after=10", "300"])
            .arg(inner.get_program())
            .args(inner.get_args());
        timed.envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let text = run::stdout(timed.stdin(Stdio::null()))?;
        let line = |start: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(start));
            found.with_context(|| format!("llama-logits printed no {start:?}"))
        };
        let numbers = line("greedy:")?.split_whitespace().map(str::parse);
        let bytes = fs::read(self.share.path().join("logits"))?;
        Ok(Run {
            tokens: numbers.collect::<Result<_, _>>()?,
            perplexity: line("perplexity:")?.trim().parse()?,
            logits: bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            devices: line("devices:")?.to_owned(),
        })
    }

    /// Products of quantised weights, beside the method of ggml's CUDA kernels.
    fn products(&self, name: &str) -> Result<Tally> {
        let what = format!("{name}: {PRODUCTS}");
        let step = progress::step(&what);
        let program = format!("/share/{PRODUCTS}");
        let output = self
            .command(&["timeout", "300", &program, "CUDA0"])?
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| line.contains("device-method="));
        let count = lines.inspect(|line| println!("  {line}")).count();
        if output.status.success() && count > 0 {
            step.done(&format!("{count} kinds"));
            return Ok(Tally::passed(count as u64));
        }
        println!("{what}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Tally::failed(what))
    }

    /// ggml's own comparison of its backends, operation by operation.
    fn operations(&self, name: &str) -> Result<Tally> {
        let mut tally = Tally::default();
        for operation in OPERATIONS {
            let what = format!("{name}: test-backend-ops {operation}");
            let step = progress::step(&what);
            let script = r#"exec timeout 300 /usr/libexec/x86_64-linux-gnu/ggml/test-backend-ops test -b CUDA0 -o "$1""#;
            let mut command = self.command(&["sh", "-c", script, "sh", operation])?;
            let output = command.output()?;
            let text = String::from_utf8_lossy(&output.stdout);
            match passed_of(&text) {
                Ok((passed, all)) if output.status.success() && passed == all && all > 0 => {
                    step.done(&format!("{all} cases"));
                    tally.add(Tally::passed(1));
                }
                other => {
                    let failed = text.lines().filter(|line| line.contains("FAIL"));
                    failed.take(5).for_each(|line| println!("  {line}"));
                    println!("{what}: {}, {other:?}", output.status);
                    tally.add(Tally::failed(what));
                }
            }
        }
        Ok(tally)
    }
}

/// The line `  12/12 tests passed`.
fn passed_of(text: &str) -> Result<(u64, u64)> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_suffix(" tests passed"));
    let Some((passed, all)) = line.and_then(|line| line.split_once('/')) else {
        bail!("no count of tests")
    };
    Ok((passed.parse()?, all.parse()?))
}

/// Mean squared difference in units of the variance of `a`.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    let count = a.len() as f64;
    let mean = a.iter().map(|v| f64::from(*v)).sum::<f64>() / count;
    let variance = a
        .iter()
        .map(|v| (f64::from(*v) - mean).powi(2))
        .sum::<f64>();
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum::<f64>();
    squares / variance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_nan_is_one() {
        assert_eq!(difference(&[1.0, 3.0], &[1.0, 3.0]), 0.0);
        assert_eq!(difference(&[1.0, 3.0], &[2.0, 3.0]), 0.5);
        assert!(difference(&[1.0, 3.0], &[f32::NAN, 3.0]).is_nan());
    }

    #[test]
    fn counts_of_ggml_are_read() {
        assert_eq!(passed_of("x\n  12/13 tests passed\n").unwrap(), (12, 13));
        assert!(passed_of("crashed").is_err());
    }
}
