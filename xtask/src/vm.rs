//! `cargo xtask vm`: a guest that runs one command, or gives a shell.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::guest::{self, Input, Options, Output};

/// Exit status where the guest itself failed, as `docker run` has it.
pub const GUEST_FAILED: u8 = 125;

/// Boots a machine with the device and the shims, and runs a command in it
///
/// The exit status is the command's; 124 when the time is over, 125 when the guest fails.
#[derive(Args)]
#[command(args_override_self = true)]
pub struct Vm {
    #[command(flatten)]
    options: Options,

    /// The command and its arguments; without it the guest gives a shell on its console
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Vm {
    /// Runs it.
    pub fn run(self) -> Result<ExitCode> {
        match guest::run(
            &self.options,
            &self.command,
            Input::Inherit,
            &Output::Inherit,
        ) {
            Ok(outcome) => {
                eprintln!("vm: {}", outcome.timing());
                Ok(ExitCode::from(
                    u8::try_from(outcome.status).unwrap_or(GUEST_FAILED),
                ))
            }
            Err(error) => {
                eprintln!("vm: {error:#}");
                Ok(ExitCode::from(GUEST_FAILED))
            }
        }
    }
}
