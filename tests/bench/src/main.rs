//! Measures calls and copies through the device, each beside its floor in the same run, and prints
//! one JSON object with one number per measurement.
//!
//! usage: `vgpu-bench rings|cuda|scale KERNELS_DIR [--quick]`, where the directory holds
//! `sgemm_tiled.ptx` and `vector_add.ptx`. `rings` speaks over the channel itself, `cuda` calls
//! `libcuda.so.1` as any program does, `scale` runs one and then many processes. `vgpu-bench pong FILE` answers what
//! `rings` of another process asks over a file's memory, `end FILE` ends it; `hold` opens a context
//! and waits.

mod clock;
mod rings;
mod shared;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clock::{Clock, quantile, ticks};
use vgpu_test_programs::cuda::{self, Arguments, Buffer, Context, Module, Shape};

/// Sizes of the copies, in bytes.
const COPIES: [(&str, usize); 3] = [("4k", 4 << 10), ("1m", 1 << 20), ("64m", 64 << 20)];

/// Side of the matrices.
const SGEMM: usize = 512;

const USAGE: &str = "usage: vgpu-bench rings|cuda|scale KERNELS_DIR [--quick]";

struct Report(Vec<(String, f64)>);

impl Report {
    fn add(&mut self, name: impl Into<String>, value: f64) {
        self.0.push((name.into(), value));
    }

    fn quantiles(&mut self, name: &str, samples: &mut [f64]) {
        self.add(format!("{name}_p50_ns"), quantile(samples, 0.5));
        self.add(format!("{name}_p99_ns"), quantile(samples, 0.99));
    }

    fn json(&self) -> String {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value:.3}"))
            .collect();
        format!("{{{}}}", rows.join(", "))
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    match std::env::args().nth(1).as_deref() {
        Some("rate") => return rings::rate(),
        Some("hold") => return rings::hold(),
        _ => {}
    }
    let (Some(part), Some(kernels)) = (words.next(), words.next().map(PathBuf::from)) else {
        bail!("{USAGE}")
    };
    match part.as_str() {
        "pong" => return shared::Shared::new(&kernels)?.answer(),
        "end" => {
            shared::Shared::new(&kernels)?.end();
            return Ok(());
        }
        _ => {}
    }
    let quick = match words.next().as_deref() {
        None => false,
        Some("--quick") => true,
        Some(other) => bail!("unknown option {other}\n{USAGE}"),
    };
    let count = if quick { 2_000 } else { 20_000 };
    let clock = Clock::calibrate();
    let mut report = Report(Vec::new());
    match part.as_str() {
        "rings" => rings::run(&clock, &mut report, count)?,
        "scale" => rings::scale(&mut report)?,
        "cuda" => {
            cuda::init()?;
            let context = Context::primary()?;
            launches(&clock, &mut report, &context, &kernels, count)?;
            copies(&clock, &mut report, &context, quick)?;
            sgemm(&clock, &mut report, &context, &kernels, quick)?;
        }
        other => bail!("no part {other}\n{USAGE}"),
    }
    println!("{}", report.json());
    Ok(())
}

/// Launches of a kernel that does next to nothing, as a program does them.
fn launches(
    clock: &Clock,
    report: &mut Report,
    context: &Context,
    kernels: &Path,
    count: usize,
) -> Result<()> {
    let module = load(kernels, "vector_add")?;
    let function = module.function("vector_add")?;
    let buffer = Buffer::<f32>::zeros(32)?;
    let at = buffer.address();
    let arguments = Arguments::new().with(at).with(at).with(at).with(1i32);
    function.launch(Shape::grid(1, 32), None, &arguments)?;
    context.synchronize()?;
    let mut each = Vec::with_capacity(count);
    for _ in 0..count {
        let began = ticks();
        function.launch(Shape::grid(1, 32), None, &arguments)?;
        each.push(clock.ns(ticks() - began));
    }
    context.synchronize()?;
    report.quantiles("cu_launch_kernel", &mut each);
    Ok(())
}

/// Copies both ways, in GB/s, beside what one memcpy of the same size does.
fn copies(clock: &Clock, report: &mut Report, context: &Context, quick: bool) -> Result<()> {
    for (name, bytes) in COPIES {
        let rounds = (if quick { 64 << 20 } else { 512 << 20 } / bytes).clamp(5, 2000);
        let host = random(bytes);
        let mut copy = vec![0u8; bytes];
        let device = Buffer::<u8>::new(bytes)?;
        device.write(&host)?;
        let rate = |samples: &mut Vec<f64>| bytes as f64 / quantile(samples, 0.5);
        let mut memcpy = Vec::new();
        let mut up = Vec::new();
        let mut down = Vec::new();
        for _ in 0..rounds {
            memcpy.push(clock.time(|| copy.copy_from_slice(std::hint::black_box(&host))));
            let from = ticks();
            device.write(&host)?;
            context.synchronize()?;
            up.push(clock.ns(ticks() - from));
            let from = ticks();
            device.read_into(&mut copy)?;
            down.push(clock.ns(ticks() - from));
        }
        if copy != host {
            bail!("{bytes} bytes came back changed");
        }
        let floor = rate(&mut memcpy);
        report.add(format!("memcpy_{name}_gbps"), floor);
        report.add(format!("h2d_{name}_gbps"), rate(&mut up));
        report.add(format!("d2h_{name}_gbps"), rate(&mut down));
    }
    Ok(())
}

/// Tiled sgemm on the device beside the same product in one plain loop.
fn sgemm(
    clock: &Clock,
    report: &mut Report,
    context: &Context,
    kernels: &Path,
    quick: bool,
) -> Result<()> {
    let n = SGEMM;
    let matrix = |seed: usize| -> Vec<f32> {
        (0..n * n)
            .map(|i| ((i * 7 + seed) % 13) as f32 - 6.0)
            .collect()
    };
    let (a, b) = (matrix(1), matrix(5));
    let function = load(kernels, "sgemm_tiled")?;
    let function = function.function("sgemm_tiled")?;
    let (da, db, dc) = (
        Buffer::from(&a)?,
        Buffer::from(&b)?,
        Buffer::<f32>::zeros(n * n)?,
    );
    let size = n as i32;
    let tiles = (n / 16) as u32;
    let flops = 2.0 * (n * n * n) as f64;
    let mut device = Vec::new();
    for _ in 0..if quick { 3 } else { 9 } {
        let arguments = Arguments::new()
            .with(da.address())
            .with(db.address())
            .with(dc.address())
            .with(size)
            .with(size)
            .with(size);
        let from = ticks();
        let shape = Shape {
            grid: [tiles, tiles, 1],
            block: [16, 16, 1],
            shared: 0,
        };
        function.launch(shape, None, &arguments)?;
        context.synchronize()?;
        device.push(clock.ns(ticks() - from));
    }
    let mut plain = Vec::new();
    let mut c = vec![0f32; n * n];
    for _ in 0..if quick { 1 } else { 3 } {
        plain.push(clock.time(|| product(&a, &b, &mut c, n)));
    }
    // Small whole numbers: every order of additions gives the same floats.
    if dc.read()? != c {
        bail!("sgemm: the device's result differs from the CPU's");
    }
    report.add("sgemm_512_gflops", flops / quantile(&mut device, 0.5));
    report.add("sgemm_512_plain_gflops", flops / quantile(&mut plain, 0.5));
    Ok(())
}

fn product(a: &[f32], b: &[f32], c: &mut [f32], n: usize) {
    for row in 0..n {
        for column in 0..n {
            let mut sum = 0.0;
            for k in 0..n {
                sum += a[row * n + k] * b[k * n + column];
            }
            c[row * n + column] = sum;
        }
    }
}

fn load(kernels: &Path, name: &str) -> Result<Module> {
    let path = kernels.join(format!("{name}.ptx"));
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Module::load(&text)
}

/// Bytes that no layer can guess.
fn random(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(bytes);
    out
}
