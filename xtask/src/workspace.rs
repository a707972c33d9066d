//! Where the repository and what cargo builds are.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run;

/// The repository.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// The cargo that started us.
pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// The directory that cargo builds into.
pub fn target() -> Result<PathBuf> {
    let mut metadata = Command::new(cargo());
    metadata
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--no-deps"]);
    let text = run::stdout(&mut metadata)?;
    let value: serde_json::Value = serde_json::from_str(&text).context("read cargo's metadata")?;
    value
        .get("target_directory")
        .and_then(|directory| directory.as_str())
        .map(PathBuf::from)
        .context("cargo names no target directory")
}
