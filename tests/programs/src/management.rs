//! What NVML says while this process uses the device.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::cuda::{self, Arguments, Buffer, Module, Shape};
use crate::nvml::{Device, Failed, Nvml};

/// What is allocated: more than any rounding.
const BYTES: usize = 64 << 20;

/// How long kernels run at most until they show.
const PATIENCE: Duration = Duration::from_secs(20);

/// A check.
pub type Row = (&'static str, fn(&Nvml, Device, &str) -> Result<()>);

/// Every check.
pub const ROWS: &[Row] = &[
    ("versions", versions),
    ("memory", memory),
    ("processes", processes),
    ("utilization", utilization),
];

/// NVML, and the first device.
pub fn open() -> Result<(Nvml, Device)> {
    let nvml = Nvml::open().map_err(failed)?;
    let devices = nvml.devices().map_err(failed)?;
    let device = *devices.first().ok_or_else(|| anyhow!("no device"))?;
    Ok((nvml, device))
}

fn failed(error: Failed) -> anyhow::Error {
    anyhow!("NVML: {error}")
}

fn versions(nvml: &Nvml, _: Device, _: &str) -> Result<()> {
    let driver = nvml
        .system_text("nvmlSystemGetDriverVersion")
        .map_err(failed)?;
    let library = nvml
        .system_text("nvmlSystemGetNVMLVersion")
        .map_err(failed)?;
    let cuda = nvml.cuda_version().map_err(failed)?;
    ensure!(
        driver.split('.').all(|word| word.parse::<u32>().is_ok()),
        "driver {driver}"
    );
    // NVML's version is that of the driver, behind the first number of CUDA's.
    ensure!(
        library == format!("{}.{driver}", cuda / 1000),
        "NVML {library}, driver {driver}, CUDA {cuda}"
    );
    ensure!(cuda == cuda::driver_version()?, "NVML says CUDA {cuda}");
    Ok(())
}

fn used(nvml: &Nvml, device: Device) -> Result<u64> {
    let [total, free, used] = nvml
        .memory(device, "nvmlDeviceGetMemoryInfo")
        .map_err(failed)?;
    ensure!(
        free + used == total,
        "{free} free and {used} used are not {total}"
    );
    Ok(used)
}

fn memory(nvml: &Nvml, device: Device, _: &str) -> Result<()> {
    let before = used(nvml, device)?;
    let buffer = Buffer::<u8>::new(BYTES)?;
    let during = used(nvml, device)?;
    ensure!(
        during == before + BYTES as u64,
        "{before} bytes were used, then {during}"
    );
    drop(buffer);
    // Freeing is not waited for.
    crate::cuda::memory()?;
    let after = used(nvml, device)?;
    ensure!(
        after == before,
        "{before} bytes were used before, {after} after"
    );
    Ok(())
}

fn processes(nvml: &Nvml, device: Device, _: &str) -> Result<()> {
    let _buffer = Buffer::<u8>::new(BYTES)?;
    let all = nvml.processes(device).map_err(failed)?;
    let own = all.iter().find(|process| process.pid == std::process::id());
    let own = own.ok_or_else(|| anyhow!("this process is not listed: {all:?}"))?;
    ensure!(own.used_bytes >= BYTES as u64, "{} bytes", own.used_bytes);
    let name = nvml.process_name(own.pid).map_err(failed)?;
    ensure!(name.contains("nvml-check"), "its name is {name:?}");
    Ok(())
}

/// While kernels run, the share of the time in which they do grows from nothing.
fn utilization(nvml: &Nvml, device: Device, ptx: &str) -> Result<()> {
    const N: usize = 1 << 20;
    let module = Module::load(ptx)?;
    let kernel = module.function("vector_add")?;
    let (a, b, c) = (
        Buffer::<f32>::zeros(N)?,
        Buffer::<f32>::zeros(N)?,
        Buffer::<f32>::zeros(N)?,
    );
    let arguments = Arguments::new()
        .with(a.address())
        .with(b.address())
        .with(c.address())
        .with(N as i32);
    let start = Instant::now();
    loop {
        for _ in 0..50 {
            kernel.launch(Shape::cover(N, 256), None, &arguments)?;
        }
        c.read()?;
        let (gpu, memory) = nvml.utilization(device).map_err(failed)?;
        ensure!(gpu <= 100 && memory <= 100, "{gpu} % and {memory} %");
        if gpu > 0 {
            return Ok(());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "kernels run, and the utilization stays 0"
        );
    }
}
