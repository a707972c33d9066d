//! Compiles every kernel of every PTX text in the given libraries, fatbins or PTX
//! files, and says per architecture how many there are and what failed.
//!
//! `cargo xtask ptx-corpus` runs it over real programs.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vgpu_soft_gpu::{AddressSpace, ImageError, LoadOptions, Module, PtxImage, ptx_images};

/// Highest architecture that the software GPU takes PTX of.
const HIGHEST: u32 = 90;
/// Block sizes that each kernel is compiled for: the shapes of registers depend on it.
const BLOCKS: [[u32; 3]; 1] = [[32, 4, 1]];
/// Device memory for the variables of a module.
const MEMORY: u64 = 8 << 30;

#[derive(Default)]
struct Failure {
    count: usize,
    first: String,
}

#[derive(Default)]
struct Sum {
    texts: usize,
    bytes: usize,
    refused: usize,
    kernels: usize,
    compiled: usize,
    load: Duration,
    slowest_load: Duration,
    compile: Duration,
    slowest: (Duration, String),
    /// Of each kernel, in the optimised and in the reference code.
    registers: Vec<[u32; 2]>,
    failures: BTreeMap<String, Failure>,
}

impl Sum {
    fn failed(&mut self, what: String, first: &str) {
        let f = self.failures.entry(what).or_default();
        f.count += 1;
        if f.count == 1 {
            f.first = first.to_owned();
        }
    }

    fn add(&mut self, o: Sum) {
        self.texts += o.texts;
        self.bytes += o.bytes;
        self.refused += o.refused;
        self.kernels += o.kernels;
        self.compiled += o.compiled;
        self.load += o.load;
        self.slowest_load = self.slowest_load.max(o.slowest_load);
        self.compile += o.compile;
        if o.slowest.0 > self.slowest.0 {
            self.slowest = o.slowest;
        }
        self.registers.extend(o.registers);
        for (what, f) in o.failures {
            let own = self.failures.entry(what).or_default();
            own.count += f.count;
            if own.first.is_empty() {
                own.first = f.first;
            }
        }
    }
}

/// What an error is about, without its place: equal for equal causes.
fn cause(log: &str) -> String {
    let line = log.lines().next().unwrap_or("");
    let message = line.split("error   : ").nth(1).unwrap_or(line);
    message
        .split(", column")
        .next()
        .unwrap_or(message)
        .to_owned()
}

fn compile(image: &PtxImage) -> Sum {
    let mut sum = Sum {
        texts: 1,
        bytes: image.text.len(),
        ..Sum::default()
    };
    let Ok(space) = AddressSpace::new(MEMORY).map(Arc::new) else {
        sum.failed("no address space".into(), "");
        return sum;
    };
    let start = Instant::now();
    let opts = LoadOptions {
        private: true,
        ..LoadOptions::default()
    };
    let module = Module::load(image.text.as_bytes(), &opts, &space);
    sum.load = start.elapsed();
    sum.slowest_load = sum.load;
    let module = match module {
        Ok(m) => m,
        Err(e) => {
            sum.refused = 1;
            // Every kernel of it is lost.
            sum.kernels = image.text.matches(".entry").count();
            sum.failed(cause(&e.to_string()), "(the module)");
            return sum;
        }
    };
    for f in module.functions() {
        sum.kernels += 1;
        let start = Instant::now();
        match BLOCKS.iter().try_for_each(|&b| f.prepare(b)) {
            Ok(()) => sum.compiled += 1,
            Err(e) => sum.failed(cause(&e), f.name()),
        }
        let took = start.elapsed();
        sum.compile += took;
        sum.registers.extend(f.register_bytes(BLOCKS[0]).ok());
        if took > sum.slowest.0 {
            sum.slowest = (took, f.name().to_owned());
        }
    }
    sum
}

fn main() -> ExitCode {
    let mut archs: Vec<u32> = Vec::new();
    let mut failed = false;
    for word in std::env::args().skip(1) {
        if let Some(arch) = word.strip_prefix("--arch=") {
            match arch.parse() {
                Ok(a) => archs.push(a),
                Err(_) => {
                    eprintln!("'{arch}' is not an architecture, for example 75");
                    return ExitCode::FAILURE;
                }
            }
            continue;
        }
        let file = std::fs::read(&word).map_err(|e| e.to_string());
        let images = match file.map(|b| ptx_images(&b)) {
            Ok(Ok(i)) => i,
            Ok(Err(ImageError::NoPtx)) => {
                println!("{word}: no PTX");
                continue;
            }
            Ok(Err(e)) => {
                eprintln!("{word}: {e}");
                failed = true;
                continue;
            }
            Err(e) => {
                eprintln!("{word}: {e}");
                failed = true;
                continue;
            }
        };
        println!("{word}: {} PTX texts", images.len());
        failed |= !report(&images, &archs);
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn spread(all: &[[u32; 2]], which: usize) -> String {
    let mut v: Vec<u32> = all.iter().map(|r| r[which]).collect();
    v.sort_unstable();
    let at = |percent: usize| {
        let last = v.len().saturating_sub(1);
        v.get(last * percent / 100).copied().unwrap_or(0)
    };
    format!("{}, {}, {}", at(50), at(90), at(100))
}

/// Compiles and prints; whether all kernels compiled.
fn report(images: &[PtxImage], archs: &[u32]) -> bool {
    let chosen: Vec<&PtxImage> = images
        .iter()
        .filter(|i| archs.is_empty() || archs.contains(&i.sm))
        .filter(|i| i.sm <= HIGHEST)
        .collect();
    let above: std::collections::BTreeSet<u32> = images
        .iter()
        .map(|i| i.sm)
        .filter(|&s| s > HIGHEST)
        .collect();
    for sm in above {
        println!("  sm_{sm}: above the device's sm_{HIGHEST}, left out");
    }
    let sums: Mutex<BTreeMap<u32, Sum>> = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while let Some(image) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sum = compile(image);
                    let mut all = sums.lock().unwrap_or_else(PoisonError::into_inner);
                    all.entry(image.sm).or_default().add(sum);
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut complete = true;
    for (sm, s) in &sums {
        complete &= s.compiled == s.kernels;
        println!(
            "  sm_{sm}: {} of {} kernels compile; {} texts, {} kB; load {:.2} s (slowest {:.0} ms), \
             compile {:.2} s (slowest {:.0} ms: {})",
            s.compiled,
            s.kernels,
            s.texts,
            s.bytes / 1000,
            s.load.as_secs_f64(),
            s.slowest_load.as_secs_f64() * 1e3,
            s.compile.as_secs_f64(),
            s.slowest.0.as_secs_f64() * 1e3,
            s.slowest.1
        );
        println!(
            "    registers of a thread, in bytes (median, 90 %, most): {}; in the reference code {}",
            spread(&s.registers, 0),
            spread(&s.registers, 1)
        );
        let mut list: Vec<_> = s.failures.iter().collect();
        list.sort_by_key(|(_, f)| std::cmp::Reverse(f.count));
        for (what, f) in list {
            println!("    {} x {what}; first in {}", f.count, f.first);
        }
    }
    println!(
        "  {:.2} s on {threads} threads",
        start.elapsed().as_secs_f64()
    );
    complete
}
