//! nvidia-smi for the guest: what NVML says of the VM's device, in the forms that scripts read.

mod details;
mod gpu;
mod nvml;
mod options;
mod query;
mod system;
mod table;

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use gpu::Gpu;
use nvml::{Failed, Nvml};
use options::{Options, Output};
use system::System;

/// Exit statuses, as nvidia-smi documents them; others are NVML's results.
const INVALID_ARGUMENT: u8 = 2;
const NOT_AVAILABLE: u8 = 3;
const NOT_FOUND: u8 = 6;
const OTHER: u8 = 255;

/// Why there is nothing to print: an exit status and what to say.
type Problem = (u8, String);

fn failed(error: Failed) -> Problem {
    const DRIVER_NOT_LOADED: i32 = 9;
    const LIBRARY_NOT_FOUND: i32 = 12;
    let text = match error.0 {
        DRIVER_NOT_LOADED => "NVIDIA-SMI has failed because it couldn't communicate with the device: this VM has no vgpu-stub device. \
             Start it with -device vgpu-stub,vm_id=N; vgpu-doctor says more."
            .to_owned(),
        LIBRARY_NOT_FOUND => "NVIDIA-SMI couldn't find libnvidia-ml.so.1 or libcuda.so.1 of the guest package \
             vgpu-stub-guest in your system; vgpu-doctor says more."
            .to_owned(),
        _ => format!("Failed to initialize NVML: {error}; vgpu-doctor says more."),
    };
    (error.exit_status(), text)
}

/// One output; `first`: with its heading.
fn output(nvml: &Nvml, options: &Options, first: bool) -> Result<String, Problem> {
    let system = System::ask(nvml).map_err(failed)?;
    if let Output::Version = options.output {
        return Ok(system.versions());
    }
    let devices = nvml.devices().map_err(failed)?;
    let count = devices.len();
    let mut gpus = Vec::new();
    for device in devices {
        let gpu = Gpu::ask(nvml, device).map_err(failed)?;
        if options.ids.is_empty() || options.ids.iter().any(|id| gpu.is_named(id)) {
            gpus.push(gpu);
        }
    }
    if gpus.is_empty() {
        return Err((NOT_FOUND, "No devices were found".to_owned()));
    }
    Ok(match &options.output {
        Output::Text(text) => text.clone(),
        Output::Version => system.versions(),
        Output::List => table::list(&gpus),
        Output::Table => {
            table::text(&system, &gpus).map_err(|_| (OTHER, "out of memory".to_owned()))?
        }
        Output::Details { xml: true, .. } => details::xml(&system, &gpus, count),
        Output::Details { displays, .. } => details::text(&system, &gpus, count, displays),
        Output::Gpus(query, format) => {
            let header = if first && format.header {
                query.header()
            } else {
                String::new()
            };
            header + &query.rows(&system, &gpus, count, *format)
        }
        Output::Apps(query, format) => {
            let header = if first && format.header {
                query.header()
            } else {
                String::new()
            };
            header + &query.rows(&system, &gpus, *format)
        }
    })
}

fn run(options: &Options) -> Result<(), Problem> {
    let mut to: Box<dyn Write> = match &options.file {
        Some(path) => Box::new(
            File::create(path).map_err(|error| (INVALID_ARGUMENT, format!("{path}: {error}")))?,
        ),
        None => Box::new(io::stdout()),
    };
    // Whoever closed the pipe has read enough.
    let mut print = |text: &str| to.write_all(text.as_bytes()).and_then(|()| to.flush());
    if let Output::Text(text) = &options.output {
        let _ = print(text);
        return Ok(());
    }
    let nvml = Nvml::open().map_err(failed)?;
    let mut first = true;
    loop {
        let text = output(&nvml, options, first)?;
        first = false;
        if print(&text).is_err() {
            return Ok(());
        }
        match options.interval_ms {
            Some(ms) => std::thread::sleep(Duration::from_millis(ms)),
            None => return Ok(()),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let first = arguments.first().map_or("", String::as_str);
    let result = match options::unsupported(first) {
        Some(text) => Err((NOT_AVAILABLE, text)),
        None => options::parse(&arguments)
            .map_err(|error| (INVALID_ARGUMENT, error))
            .and_then(|options| run(&options)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, text)) => {
            // As NVIDIA's program does: scripts read the reason from the standard output.
            println!("{text}");
            ExitCode::from(status)
        }
    }
}
