//! Command-line check of the device from inside the guest.

mod hello;
mod options;
mod regs;
mod vector_add;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use vgpu_protocol::calls::{CtxId, stubs};
use vgpu_protocol::regs::{RESET_KEY, Reg};
use vgpu_transport::{Channel, process};

use options::Command;

/// Opens a channel of the device.
fn connect() -> Result<&'static Channel> {
    process::connect().context("cannot connect to the device")
}

/// Does what the command line says; gives what to print.
fn run(command: Command) -> Result<String> {
    match command {
        Command::Help => Ok(options::HELP.into()),
        Command::Hello => hello::text(connect()?),
        Command::VectorAdd { n } => vector_add::run(connect()?, n),
        Command::Counters => {
            let text = stubs::counters(connect()?, CtxId(0));
            Ok(text.map_err(|s| anyhow::anyhow!("vgpuCounters: {s}"))? + "\n")
        }
        Command::Reset => {
            let bars = process::find().context("cannot find the device")?;
            bars.write32(Reg::DeviceReset.offset(), RESET_KEY)?;
            Ok(format!(
                "every channel of {} is being reset\n",
                bars.found()
            ))
        }
        Command::Regs => {
            let bars = process::find().context("cannot find the device")?;
            regs::text(&*bars)
        }
    }
}

fn main() -> ExitCode {
    let command = match options::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("vgpu-ctl: {error}\nTry 'vgpu-ctl --help'.");
            return ExitCode::from(2);
        }
    };
    match run(command) {
        // Whoever closed the pipe has read enough.
        Ok(text) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vgpu-ctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
