//! What the machine is.

use std::fs;
use std::process::Command;

use crate::Options;

/// Name and value of each fact, in the order of the table.
pub fn facts(options: &Options) -> Vec<(&'static str, String)> {
    let commit = fs::read_to_string(options.root.join("COMMIT")).unwrap_or_default();
    vec![
        ("bundle", commit.trim().to_owned()),
        ("date", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("processor", processor()),
        ("memory", memory()),
        ("kernel", output("uname", &["-sr"])),
        ("gpu", gpu()),
        ("kvm", kvm()),
        ("pageable memory", hmm()),
    ]
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |error| format!("{program}: {error}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{name}, {count} threads")
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kib.map_or_else(|| "unknown".to_owned(), |kib| format!("{} GiB", kib >> 20))
}

/// As NVIDIA's tool names it; no tool is no GPU.
fn gpu() -> String {
    let query = "--query-gpu=name,driver_version,memory.total,compute_cap";
    let output = Command::new("nvidia-smi")
        .args([query, "--format=csv,noheader"])
        .output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .trim()
            .replace('\n', "; "),
        Ok(output) => format!("none: nvidia-smi ended with {}", output.status),
        Err(error) => format!("none: nvidia-smi: {error}"),
    }
}

/// Whether the driver lets kernels reach all memory of their process, which the device refuses.
fn hmm() -> String {
    let path = "/sys/module/nvidia_uvm/parameters/uvm_disable_hmm";
    match fs::read_to_string(path) {
        Ok(value) => format!("nvidia_uvm has uvm_disable_hmm={}", value.trim()),
        Err(error) => format!("{path}: {error}"),
    }
}

/// Whether guests may run under KVM, as far as the host tells.
pub fn kvm() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag| cpuinfo.split_whitespace().any(|word| word == flag);
    if !has("vmx") && !has("svm") {
        return "no: the CPU shows neither vmx nor svm".to_owned();
    }
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => "yes".to_owned(),
        Err(error) => format!("no: /dev/kvm: {error}"),
    }
}
