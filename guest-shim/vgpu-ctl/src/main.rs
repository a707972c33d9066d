//! Command-line check of the device from inside the guest.

mod hello;
mod options;
mod regs;
mod vector_add;

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

fn run(command: Command) -> Result<()> {
    match command {
        Command::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        Command::Hello => hello::hello(connect()?),
        Command::VectorAdd { n } => vector_add::run(connect()?, n),
        Command::Counters => {
            let text = stubs::counters(connect()?, CtxId(0));
            println!(
                "{}",
                text.map_err(|s| anyhow::anyhow!("vgpuCounters: {s}"))?
            );
            Ok(())
        }
        Command::Reset => {
            let bars = process::find().context("cannot find the device")?;
            bars.write32(Reg::DeviceReset.offset(), RESET_KEY)?;
            println!("every channel of {} is being reset", bars.found());
            Ok(())
        }
        Command::Regs => {
            let bars = process::find().context("cannot find the device")?;
            regs::print(&*bars)
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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpu-ctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
