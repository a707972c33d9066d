//! Prints GFLOP/s of a tiled and a plain sgemm of 512 x 512 on the software GPU,
//! in optimised and reference form, beside the same product in plain Rust.
//!
//! `cargo run --release -p vgpu-soft-gpu --example sgemm [threads [kernel]]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use vgpu_soft_gpu::{
    Abort, AddressSpace, Gpu, Jit, LaunchConfig, LaunchOptions, LoadOptions, Module,
};

const N: usize = 512;
const FLOP: f64 = 2.0 * (N * N * N) as f64;
const RUNS: usize = 20;

/// Processor time of all threads so far, where the system tells it: on a busy
/// machine it says more than the clock on the wall.
fn cpu_time() -> Option<Duration> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        sum += stat.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(sum))
}

/// The best of several runs in GFLOP/s: by the wall clock, and per processor.
fn best(mut run: impl FnMut()) -> String {
    let (mut wall, mut cpu) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let (start, before) = (Instant::now(), cpu_time());
        run();
        wall = wall.min(start.elapsed());
        if let (Some(a), Some(b)) = (before, cpu_time()) {
            cpu = cpu.min(b.saturating_sub(a));
        }
    }
    let rate = |t: Duration| FLOP / t.as_secs_f64() / 1e9;
    format!(
        "{:8.2} GFLOP/s ({:.2} per processor second)",
        rate(wall),
        rate(cpu)
    )
}

fn plain(a: &[f32], b: &[f32], c: &mut [f32]) {
    for i in 0..N {
        for j in 0..N {
            let mut s = 0.0;
            for k in 0..N {
                s += a[i * N + k] * b[k * N + j];
            }
            c[i * N + j] = s;
        }
    }
}

fn bytes(v: &[f32]) -> Vec<u8> {
    v.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let threads = match std::env::args().nth(1) {
        Some(n) => n.parse()?,
        None => std::thread::available_parallelism()?.get(),
    };
    // Small integers: every sum is exact, so results compare equal.
    let a: Vec<f32> = (0..N * N).map(|i| (i * 7 % 13) as f32).collect();
    let b: Vec<f32> = (0..N * N).map(|i| (i * 5 % 11) as f32).collect();
    let mut c = vec![0.0; N * N];
    println!(
        "plain Rust, one thread        {}",
        best(|| plain(&a, &b, &mut c))
    );

    let gpu = Gpu::new(threads)?;
    let space = Arc::new(AddressSpace::new(1 << 30)?);
    let start = Instant::now();
    let module = Module::load(
        include_bytes!("../tests/ptx/sgemm.ptx"),
        &LoadOptions::default(),
        &space,
    )?;
    println!(
        "module load                   {:8.1} us",
        start.elapsed().as_secs_f64() * 1e6
    );
    let size = (N * N * 4) as u64;
    let (da, db, dc) = (
        space.alloc(size, 256)?,
        space.alloc(size, 256)?,
        space.alloc(size, 256)?,
    );
    space.write(da, &bytes(&a))?;
    space.write(db, &bytes(&b))?;
    let mut params = Vec::new();
    for p in [da, db, dc] {
        params.extend(p.to_le_bytes());
    }
    params.extend((N as u32).to_le_bytes());
    let n = (N / 16) as u32;
    let cfg = LaunchConfig {
        grid: [n, n, 1],
        block: [16, 16, 1],
        dynamic_shared_bytes: 0,
    };
    let only = std::env::args().nth(2);
    for name in ["sgemm_tiled", "sgemm_naive"] {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let f = module.function(name).ok_or("no such kernel")?;
        for (form, reference, jit) in [
            ("machine code", false, Jit::Always),
            ("interpreted", false, Jit::Never),
            ("reference", true, Jit::Never),
        ] {
            if only.is_some() && reference {
                continue;
            }
            let opts = LaunchOptions {
                reference,
                jit,
                ..LaunchOptions::default()
            };
            let mut failed = None;
            let rate = best(|| {
                if let Err(e) = gpu.launch(&space, &f, &cfg, &params, &opts, &Abort::new()) {
                    failed = Some(e);
                }
            });
            if let Some(e) = failed {
                return Err(e.into());
            }
            let mut got = vec![0u8; size as usize];
            space.read(dc, &mut got)?;
            let right = got == bytes(&c);
            println!(
                "{name} {form:12}, {threads} threads {rate}, {}",
                if right { "exact" } else { "WRONG" }
            );
        }
    }
    Ok(())
}
