//! Measures kernels on the software GPU beside an OpenCL device (PoCL on a host without a GPU)
//! in the same run, and prints a table. Every result is compared with the other's.
//!
//! usage: `vgpu-bench-kernels KERNELS.ptx KERNELS.cl [--runs N] [--only NAME] [--forms] [--cpu]
//! [--isa avx2|baseline]`
//!
//! `--forms` measures the interpreter as well; `--cpu` takes processor time in place of the time by the
//! clock: on a machine that others use it says more. `--isa` leaves out what a smaller host lacks; the OpenCL
//! device still has it.

mod clock;
mod opencl;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use opencl::OpenCl;
use vgpu_soft_gpu::{
    Abort, AddressSpace, Gpu, Isa, Jit, LaunchConfig, LaunchOptions, LoadOptions, Module,
};

/// An argument of a kernel.
enum Arg {
    /// Bytes that it reads.
    In(Vec<u8>),
    /// Bytes that it writes, compared afterwards.
    Out(usize),
    Int(i32),
    Float(f32),
}

/// What the results of a kernel are, and how far they may differ.
#[derive(Clone, Copy)]
enum Check {
    Exact,
    Relative(f32),
    /// Only the sum of all.
    Sum(f32),
}

struct Case {
    name: &'static str,
    about: &'static str,
    grid: [u32; 2],
    block: [u32; 2],
    /// Those of the OpenCL kernel, if they differ.
    cl_grid: [u32; 2],
    cl_block: [u32; 2],
    args: Vec<Arg>,
    /// Work of a run and its unit.
    work: f64,
    unit: &'static str,
    check: Check,
}

/// Measure processor time.
static CPU: AtomicBool = AtomicBool::new(false);

/// The time that all threads have run, or that has passed.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    if !CPU.load(Ordering::Relaxed) {
        return START.elapsed();
    }
    clock::process_time()
}

/// Bytes of a device's memory.
const MEMORY: u64 = 2 << 30;
/// Side of the square matrices.
const N: usize = 512;
/// Elements of long vectors.
const LONG: usize = 16 << 20;
/// Rows and columns of a decoding step's matrix.
const WEIGHTS: usize = 4096;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = "usage: vgpu-bench-kernels KERNELS.ptx KERNELS.cl [--runs N] [--only NAME] [--forms] [--cpu] [--isa avx2|baseline]";
    let (Some(ptx), Some(cl)) = (words.next(), words.next()) else {
        bail!("{usage}")
    };
    let (mut runs, mut only, mut forms, mut isa) = (9, None, false, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--runs" => runs = words.next().context(usage)?.parse().context("--runs")?,
            "--only" => only = words.next(),
            "--forms" => forms = true,
            "--cpu" => CPU.store(true, Ordering::Relaxed),
            "--isa" => {
                isa = Some(match words.next().as_deref() {
                    Some("avx2") => Isa::Avx2,
                    Some("baseline") => Isa::Baseline,
                    _ => bail!("--isa wants avx2 or baseline\n{usage}"),
                });
            }
            other => bail!("unknown option {other}\n{usage}"),
        }
    }
    let ptx = std::fs::read(&ptx).with_context(|| format!("cannot read {ptx}"))?;
    let cl = std::fs::read_to_string(&cl).with_context(|| format!("cannot read {cl}"))?;
    let threads = std::thread::available_parallelism()?.get();
    let soft = Soft::new(threads, &ptx, isa)?;
    first_result(threads, &ptx)?;
    let opencl = match OpenCl::new(&cl) {
        Ok(device) => {
            println!("beside: {}", device.name);
            Some(device)
        }
        Err(e) => {
            println!("no OpenCL device to compare with: {e:#}");
            None
        }
    };
    println!(
        "{:<28} {:<8} {:>10} {:>10} {:>12} {:>10} {:>7}",
        "kernel", "unit", "reference", "interpret", "machine code", "OpenCL", "ratio"
    );
    for case in cases() {
        if only.as_ref().is_none_or(|o| o == case.name) {
            measure(&soft, opencl.as_ref(), &case, runs, forms)?;
        }
    }
    Ok(())
}

struct Soft {
    gpu: Arc<Gpu>,
    space: Arc<AddressSpace>,
    module: Module,
}

impl Soft {
    fn new(threads: usize, ptx: &[u8], isa: Option<Isa>) -> Result<Soft> {
        let space = Arc::new(AddressSpace::new(MEMORY)?);
        let options = LoadOptions {
            isa,
            ..LoadOptions::default()
        };
        let module = Module::load(ptx, &options, &space)?;
        Ok(Soft {
            gpu: Gpu::new(threads)?,
            space,
            module,
        })
    }
}

/// From the module's text to a result: loading, analysis, the first launch.
fn first_result(threads: usize, ptx: &[u8]) -> Result<()> {
    let start = Instant::now();
    let soft = Soft::new(threads, ptx, None)?;
    let x = soft.space.alloc(4096, 256)?;
    let f = soft.module.function("saxpy").context("no kernel saxpy")?;
    let mut params = Vec::new();
    params.extend(x.to_le_bytes());
    params.extend(x.to_le_bytes());
    params.extend(2f32.to_le_bytes());
    params.extend(1024i32.to_le_bytes());
    let cfg = LaunchConfig {
        grid: [4, 1, 1],
        block: [256, 1, 1],
        dynamic_shared_bytes: 0,
    };
    soft.gpu.launch(
        &soft.space,
        &f,
        &cfg,
        &params,
        &LaunchOptions::default(),
        &Abort::new(),
    )?;
    println!(
        "module load to first result: {:.2} ms",
        start.elapsed().as_secs_f64() * 1e3
    );
    Ok(())
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort();
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn measure(
    soft: &Soft,
    opencl: Option<&OpenCl>,
    case: &Case,
    runs: usize,
    forms: bool,
) -> Result<()> {
    let f = soft
        .module
        .function(case.name)
        .with_context(|| format!("no kernel {}", case.name))?;
    let mut params = vec![0u8; f.param_bytes() as usize];
    let mut allocations = Vec::new();
    for (p, a) in f.params().iter().zip(&case.args) {
        let bytes = match a {
            Arg::Int(v) => v.to_le_bytes().to_vec(),
            Arg::Float(v) => v.to_le_bytes().to_vec(),
            Arg::In(data) => {
                let at = soft.space.alloc(data.len() as u64, 256)?;
                soft.space.write(at, data)?;
                allocations.push((at, data.len(), false));
                at.to_le_bytes().to_vec()
            }
            Arg::Out(n) => {
                let at = soft.space.alloc(*n as u64, 256)?;
                soft.space.write(at, &vec![0u8; *n])?;
                allocations.push((at, *n, true));
                at.to_le_bytes().to_vec()
            }
        };
        let at = p.offset as usize;
        params
            .get_mut(at..at + bytes.len())
            .context("parameters")?
            .copy_from_slice(&bytes);
    }
    let cfg = LaunchConfig {
        grid: [case.grid[0], case.grid[1], 1],
        block: [case.block[0], case.block[1], 1],
        dynamic_shared_bytes: 0,
    };
    let run = |reference, jit, count: usize| -> Result<Option<Duration>> {
        let options = LaunchOptions {
            reference,
            jit,
            ..LaunchOptions::default()
        };
        let mut samples = Vec::new();
        // Once for what happens only the first time.
        for k in 0..=count {
            let start = now();
            soft.gpu
                .launch(&soft.space, &f, &cfg, &params, &options, &Abort::new())?;
            if k > 0 {
                samples.push(now().saturating_sub(start));
            }
        }
        Ok((count > 0).then(|| median(samples)))
    };
    let reference = if forms {
        run(true, Jit::Never, 1)?
    } else {
        None
    };
    let interpreted = if forms {
        run(false, Jit::Never, runs.min(5))?
    } else {
        None
    };
    let results = || -> Result<Vec<Vec<u8>>> {
        let outs = allocations.iter().filter(|a| a.2);
        outs.map(|(at, n, _)| {
            let mut bytes = vec![0u8; *n];
            soft.space.read(*at, &mut bytes)?;
            Ok(bytes)
        })
        .collect()
    };
    let compiled = run(false, Jit::Always, runs)?;
    let ours = results()?;
    let mut theirs = None;
    if let Some(cl) = opencl {
        let kernel = cl.kernel(case.name)?;
        let mut outs = Vec::new();
        let mut args = Vec::new();
        for a in &case.args {
            args.push(match a {
                Arg::Int(v) => opencl::Arg::Int(*v),
                Arg::Float(v) => opencl::Arg::Float(*v),
                Arg::In(data) => opencl::Arg::Buffer(cl.buffer(data)?),
                Arg::Out(n) => {
                    let b = cl.buffer(&vec![0; *n])?;
                    outs.push(b);
                    opencl::Arg::Buffer(b)
                }
            });
        }
        let mut samples = Vec::new();
        for k in 0..=runs {
            let start = now();
            cl.launch(&kernel, case.cl_grid, case.cl_block, &args)?;
            if k > 0 {
                samples.push(now().saturating_sub(start));
            }
        }
        theirs = Some(median(samples));
        for (b, own) in outs.iter().zip(&ours) {
            compare(case, own, &cl.read(*b)?)?;
        }
    }
    for (at, ..) in &allocations {
        soft.space.free(*at)?;
    }
    let rate = |d: Option<Duration>| d.map(|d| case.work / d.as_secs_f64() / 1e9);
    let shown = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.2}"));
    let ratio = rate(compiled).zip(rate(theirs)).map(|(a, b)| a / b);
    println!(
        "{:<28} {:<8} {:>10} {:>10} {:>12} {:>10} {:>7}",
        case.about,
        case.unit,
        shown(rate(reference)),
        shown(rate(interpreted)),
        shown(rate(compiled)),
        shown(rate(theirs)),
        shown(ratio)
    );
    Ok(())
}

fn compare(case: &Case, ours: &[u8], theirs: &[u8]) -> Result<()> {
    let floats = |b: &[u8]| -> Vec<f32> {
        b.chunks_exact(4)
            .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
            .collect()
    };
    let near =
        |a: f64, b: f64, e: f32| (a - b).abs() <= f64::from(e) * a.abs().max(b.abs()).max(1e-6);
    let same = match case.check {
        Check::Exact => ours == theirs,
        Check::Relative(e) => {
            let (a, b) = (floats(ours), floats(theirs));
            a.iter()
                .zip(&b)
                .all(|(a, b)| near((*a).into(), (*b).into(), e))
        }
        Check::Sum(e) => {
            let sum = |b| floats(b).iter().map(|v| f64::from(*v)).sum::<f64>();
            near(sum(ours), sum(theirs), e)
        }
    };
    ensure!(same, "{}: the results differ", case.name);
    Ok(())
}

fn bytes<T, const B: usize>(
    n: usize,
    f: impl Fn(usize) -> T,
    to: impl Fn(T) -> [u8; B],
) -> Vec<u8> {
    (0..n).flat_map(|i| to(f(i))).collect()
}

fn f32s(n: usize, f: impl Fn(usize) -> f32) -> Vec<u8> {
    bytes(n, f, f32::to_le_bytes)
}

/// Small whole numbers in f16: exact in every order of additions.
fn halfs(n: usize, f: impl Fn(usize) -> i32) -> Vec<u8> {
    let half = |v: i32| -> u16 {
        // Whole numbers below 8.
        const POSITIVE: [u16; 8] = [0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700];
        let sign = if v < 0 { 0x8000 } else { 0 };
        sign | POSITIVE[v.unsigned_abs() as usize % 8]
    };
    bytes(n, |i| half(f(i)), u16::to_le_bytes)
}

fn cases() -> Vec<Case> {
    let small = |seed: usize| move |i: usize| ((i * 7 + i / 512 * 3 + seed) % 13) as i32 - 6;
    let squares = [(N / 16) as u32; 2];
    let (n, product) = (N as i32, 2.0 * (N * N * N) as f64);
    let matrix = |seed| f32s(N * N, move |i| small(seed)(i) as f32);
    let case = |name, about, grid: [u32; 2], block: [u32; 2], args, work, unit, check| Case {
        name,
        about,
        grid,
        block,
        cl_grid: grid,
        cl_block: block,
        args,
        work,
        unit,
        check,
    };
    let products = |out| {
        vec![
            Arg::In(matrix(1)),
            Arg::In(matrix(5)),
            Arg::Out(out),
            Arg::Int(n),
        ]
    };
    let byte_words = |seed: usize| bytes(N * N, move |i| small(seed)(i) as i8, i8::to_le_bytes);
    let blocks = |bytes: usize, count: usize| -> Vec<u8> {
        let mut out = Vec::with_capacity(count * bytes);
        for b in 0..count {
            out.extend([0x00, 0x3c, 0, 0].iter().take(bytes - 32));
            out.extend((0..32).map(|i| small(b)(b * 32 + i) as i8 as u8));
        }
        out
    };
    let w = WEIGHTS as u32;
    vec![
        case(
            "sgemm_naive",
            "sgemm 512, naive",
            squares,
            [16, 16],
            products(N * N * 4),
            product,
            "GFLOP/s",
            Check::Exact,
        ),
        case(
            "sgemm_tiled",
            "sgemm 512, tiled",
            squares,
            [16, 16],
            products(N * N * 4),
            product,
            "GFLOP/s",
            Check::Exact,
        ),
        case(
            "saxpy",
            "saxpy 16 M",
            [(LONG / 256) as u32, 1],
            [256, 1],
            vec![
                Arg::In(f32s(LONG, |i| (i % 17) as f32)),
                Arg::Out(LONG * 4),
                Arg::Float(0.0),
                Arg::Int(LONG as i32),
            ],
            (LONG * 12) as f64,
            "GB/s",
            Check::Exact,
        ),
        case(
            "reduce",
            "sum of 16 M",
            [256, 1],
            [256, 1],
            vec![
                Arg::In(f32s(LONG, |i| (i % 17) as f32)),
                Arg::Out(256 * 4),
                Arg::Int(LONG as i32),
            ],
            (LONG * 4) as f64,
            "GB/s",
            Check::Sum(1e-5),
        ),
        case(
            "softmax",
            "softmax of 1024 x 4096",
            [1024, 1],
            [256, 1],
            vec![
                Arg::In(f32s(1024 * 4096, |i| (i * 31 % 97) as f32 * 0.1)),
                Arg::Out(1024 * 4096 * 4),
                Arg::Int(4096),
            ],
            (1024 * 4096) as f64,
            "Gelem/s",
            Check::Relative(1e-4),
        ),
        case(
            "dp4a_product",
            "int8 product 512, dp4a",
            squares,
            [16, 16],
            vec![
                Arg::In(byte_words(1)),
                Arg::In(byte_words(5)),
                Arg::Out(N * N * 4),
                Arg::Int(n),
            ],
            product,
            "Gop/s",
            Check::Exact,
        ),
        Case {
            grid: [(N / 32) as u32, (N / 64) as u32],
            block: [128, 1],
            ..case(
                "mma_product",
                "f16 product 512, mma.sync",
                squares,
                [16, 16],
                vec![
                    Arg::In(halfs(N * N, small(1))),
                    Arg::In(halfs(N * N, small(5))),
                    Arg::Out(N * N * 4),
                    Arg::Int(n),
                ],
                product,
                "GFLOP/s",
                Check::Exact,
            )
        },
        case(
            "gemv_f16",
            "matrix 4096 by vector, f16",
            [1, w / 8].map(|v| v.max(1)),
            [32, 8],
            vec![
                Arg::In(halfs(WEIGHTS * WEIGHTS, small(3))),
                Arg::In(f32s(WEIGHTS, |i| small(2)(i) as f32)),
                Arg::Out(WEIGHTS * 4),
                Arg::Int(WEIGHTS as i32),
            ],
            (WEIGHTS * WEIGHTS * 2) as f64,
            "GB/s",
            Check::Exact,
        ),
        case(
            "gemv_q8",
            "matrix 4096 by vector, q8",
            [1, w / 8],
            [32, 8],
            vec![
                Arg::In(blocks(34, WEIGHTS * WEIGHTS / 32)),
                Arg::In(blocks(36, WEIGHTS / 32)),
                Arg::Out(WEIGHTS * 4),
                Arg::Int(WEIGHTS as i32),
            ],
            (WEIGHTS * WEIGHTS / 32 * 34) as f64,
            "GB/s",
            Check::Exact,
        ),
    ]
}
