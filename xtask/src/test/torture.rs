//! Random programs, and processes that are killed, over a `vgpu-local` of their own.

use std::process::Command;

use anyhow::{Context, Result};

use super::{Tally, program_part};
use crate::device::{Backend, Device};
use crate::local::Served;
use crate::shims;

/// Channels of the device: more than the processes of any part.
const CHANNELS: u32 = 64;

/// How long random programs run: `VGPU_TORTURE_SECONDS`, in seconds.
const SECONDS: (&str, u64) = ("VGPU_TORTURE_SECONDS", 15);

/// How many processes are killed: `VGPU_TORTURE_KILLS`.
const KILLS: (&str, u64) = ("VGPU_TORTURE_KILLS", 200);

/// What the random numbers begin with: `VGPU_TORTURE_SEED`.
const SEED: (&str, u64) = ("VGPU_TORTURE_SEED", 1);

fn number((name, default): (&str, u64)) -> Result<u64> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text
            .parse()
            .with_context(|| format!("{name} is {text:?}: a whole number is allowed")),
    }
}

/// Runs them.
pub fn stage(name: &str) -> Result<Tally> {
    let (seconds, kills, seed) = (number(SECONDS)?, number(KILLS)?, number(SEED)?);
    let stage = shims::stage()?;
    let served = Served::start(&Device {
        backend: Backend::Soft,
        channels: Some(CHANNELS),
        ..Device::default()
    })?;
    let (server, channels) = (served.pid().to_string(), CHANNELS.to_string());
    let (seconds_text, kills_text, seed) =
        (seconds.to_string(), kills.to_string(), seed.to_string());
    let host = ["--server", &server, "--channels", &channels];
    let parts: [(&str, Vec<&str>); 4] = [
        ("idle", [&host[..], &["--seconds", "3"]].concat()),
        (
            "processes",
            vec!["--seconds", &seconds_text, "--seed", &seed],
        ),
        (
            "kill",
            [&host[..], &["--kills", &kills_text, "--seed", &seed]].concat(),
        ),
        ("half", [&host[..], &["--seed", &seed]].concat()),
    ];
    let mut tally = Tally::default();
    for (part, words) in parts {
        let limit = 600 + seconds + kills;
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=10", &limit.to_string()])
            .arg(stage.join("bin/cuda-torture"))
            .arg(part)
            .args(words)
            .envs(served.environment());
        tally.add(program_part(name, part, &mut command)?);
    }
    Ok(tally)
}
