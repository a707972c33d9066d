//! vgpu-doctor: what is wrong with the device in this guest, in one line each.

mod agree;
mod bus;
mod connection;
mod libraries;
#[path = "../../../nvidia-smi/src/nvml.rs"]
#[allow(dead_code, reason = "nvidia-smi uses the rest")]
mod nvml;
mod report;
#[path = "../vector_add.rs"]
mod vector_add;

use std::path::Path;
use std::process::ExitCode;

use report::Report;
use vgpu_transport::pci::SYSFS;

const HELP: &str = "\
usage: vgpu-doctor

Checks the vgpu-stub device of this virtual machine: is it there, may this user open it, which libraries do
programs find, do they and the host fit together, does a kernel compute. One line each; the exit status is 0
where nothing is wrong. Run it as the user who has the problem.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (None, _) => {}
        (Some("-h" | "--help"), None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        (Some(word), _) => {
            eprintln!("vgpu-doctor: unexpected '{word}'\n{HELP}");
            return ExitCode::from(2);
        }
    }
    let mut report = Report::default();
    let local = std::env::var("VGPU_LOCAL")
        .ok()
        .filter(|path| !path.is_empty());
    if let Some(socket) = &local {
        report.good(
            "device",
            format_args!("vgpu-local at {socket} (VGPU_LOCAL is set)"),
        );
    } else {
        bus::check(&mut report, Path::new(SYSFS));
        bus::kernel(&mut report, Path::new("/sys/kernel/security/lockdown"));
    }
    libraries::check(&mut report);
    if connection::check(&mut report) {
        agree::check(&mut report);
    } else {
        report.skipped("NVML", "no connection");
    }
    if report.wrong > 0 {
        bus::container(&mut report, Path::new("/"));
    }
    report.end()
}
