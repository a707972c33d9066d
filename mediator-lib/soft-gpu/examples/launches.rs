//! Prints what a launch of an empty kernel takes on the software GPU, in nanoseconds of processor time and by
//! the clock, for some sizes of its one block.
//!
//! `cargo run --release -p vgpu-soft-gpu --example launches`

use std::sync::Arc;
use std::time::{Duration, Instant};

use vgpu_soft_gpu::{Abort, AddressSpace, Gpu, LaunchConfig, LaunchOptions, LoadOptions, Module};

const EMPTY: &str =
    ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry empty() {\nret;\n}\n";
const LAUNCHES: u32 = 20_000;
const RUNS: usize = 9;

/// Processor time of this thread so far.
fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::new(2)?;
    let space = Arc::new(AddressSpace::new(1 << 30)?);
    let module = Module::load(EMPTY.as_bytes(), &LoadOptions::default(), &space)?;
    let f = module.function("empty").ok_or("no kernel")?;
    let (options, abort) = (LaunchOptions::default(), Abort::new());
    for threads in [1, 32, 256, 1024] {
        let config = LaunchConfig {
            grid: [1, 1, 1],
            block: [threads, 1, 1],
            dynamic_shared_bytes: 0,
        };
        let (mut wall, mut cpu) = (Duration::MAX, Duration::MAX);
        for _ in 0..RUNS {
            let (start, before) = (Instant::now(), cpu_time());
            for _ in 0..LAUNCHES {
                gpu.launch(&space, &f, &config, &[], &options, &abort)?;
            }
            wall = wall.min(start.elapsed());
            if let (Some(a), Some(b)) = (before, cpu_time()) {
                cpu = cpu.min(b.saturating_sub(a));
            }
        }
        let each = |t: Duration| t.as_nanos() as f64 / f64::from(LAUNCHES);
        println!(
            "{threads:4} threads: {:6.0} ns by the clock, {:6.0} ns of the processor",
            each(wall),
            each(cpu)
        );
    }
    Ok(())
}
