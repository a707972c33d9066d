//! The vgpu-stub device without QEMU: serves the guest shims on this host over a socket.

use std::path::PathBuf;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use vgpu_stub::local::Server;
use vgpu_stub::{Config, Properties};

const USAGE: &str = "\
usage: vgpu-local --socket PATH [--vm-id N] [--identity h100|stub] [--backend auto|cuda|soft]
                  [--gpu INDEX|UUID] [--bar1-size BYTES] [--memory BYTES] [--channels N]
                  [--isolation auto|none|process] [--worker PATH]

Serves a vgpu-stub device on a Unix socket. Programs use it with the guest's libcuda.so.1 in
their library path and VGPU_LOCAL=PATH. Environment: VGPU_TRACE=<filter> logs (info, vgpu::call=trace),
VGPU_COUNTERS=FILE collects the calls of each client.";

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("VGPU_TRACE").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vgpu-local: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), String> {
    let (path, properties) = arguments()?;
    let config = Config::from_properties(&properties).map_err(|error| error.to_string())?;
    let server =
        Server::bind(&path, config).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("listening on {}", path.display());
    server.run().map_err(|error| error.to_string())
}

fn arguments() -> Result<(PathBuf, Properties), String> {
    let mut properties = Properties {
        vm_id: 111,
        ..Properties::default()
    };
    let mut path = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            println!("{USAGE}");
            std::process::exit(0);
        }
        let value = words
            .next()
            .ok_or_else(|| format!("{word} needs a value\n{USAGE}"))?;
        let number = |value: &str| {
            value
                .parse::<u64>()
                .map_err(|_| format!("{word}: '{value}' is not a number"))
        };
        let small = |value: &str| {
            value
                .parse::<u32>()
                .map_err(|_| format!("{word}: '{value}' is not a 32-bit number"))
        };
        match word.as_str() {
            "--socket" => path = Some(PathBuf::from(value)),
            "--vm-id" => properties.vm_id = small(&value)?,
            "--identity" => properties.identity = value,
            "--backend" => properties.backend = value,
            "--gpu" => properties.gpu = value,
            "--bar1-size" => properties.bar1_size = number(&value)?,
            "--memory" => properties.memory = number(&value)?,
            "--isolation" => properties.isolation = value,
            "--worker" => properties.worker = value,
            "--channels" => properties.channels = small(&value)?,
            other => return Err(format!("unknown option {other}\n{USAGE}")),
        }
    }
    let path = path.ok_or_else(|| format!("--socket PATH is required\n{USAGE}"))?;
    Ok((path, properties))
}
