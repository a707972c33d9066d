//! What is done with a case: it is loaded, and what it holds is launched in every form of execution.

use std::sync::Arc;
use std::time::Duration;

use vgpu_soft_gpu::{
    Abort, AddressSpace, DeviceRuntime, Function, Gpu, Isa, LaunchConfig, LaunchError,
    LaunchOptions, LoadOptions, Module,
};

use crate::case::Case;
use crate::compare::{Buffer, FORMS, Outcome};
use crate::guard::{Closed, PAGE};
use crate::random::Random;
use crate::stats::{Counter, Stats};

/// Device memory of a case.
const LIMIT: u64 = 8 << 20;
/// Addresses that a space with that limit has: twice as much, and 64 MiB.
const REGION: u64 = 2 * LIMIT + (64 << 20);
/// Most kernels of a module that are launched.
const MAX_KERNELS: usize = 2;
/// Time of a launch.
const TIME: Duration = Duration::from_millis(40);
/// Heap of a case.
const HEAP: u64 = 64 << 10;

/// Devices of several sizes.
pub struct Devices {
    one: Arc<Gpu>,
    two: Arc<Gpu>,
}

/// Where the kernels of a case run.
struct Place<'a> {
    space: &'a AddressSpace,
    /// What is put back before each launch: first those that arguments point to, then the module's variables.
    memory: Vec<Buffer>,
    given: usize,
    runtime: &'a Arc<DeviceRuntime>,
    cooperative: bool,
}

impl Devices {
    /// Starts them.
    pub fn new() -> std::io::Result<Devices> {
        Ok(Devices {
            one: Gpu::new(1)?,
            two: Gpu::new(2)?,
        })
    }

    /// Runs a case. Whatever is wrong with it is an error that comes back here and is counted; what is wrong
    /// with the software GPU ends the process.
    pub fn run(&self, case: &Case, stats: &Stats) {
        let mut r = Random::new(case.plan);
        let Ok(space) = AddressSpace::new(LIMIT).map(Arc::new) else {
            stats.count(Counter::NoMemory);
            return;
        };
        let isa = *r.of(&[None, None, None, Some(Isa::Avx2), Some(Isa::Baseline)]);
        let options = LoadOptions {
            eager: r.one_in(4),
            isa,
            private: !r.one_in(8),
        };
        // The first address of the region: nothing else is there yet.
        let Ok(base) = space.alloc(PAGE, PAGE) else {
            return;
        };
        let module = match Module::load(&case.image, &options, &space) {
            Ok(m) => m,
            Err(_) => return stats.count(Counter::Refused),
        };
        stats.count(Counter::Loaded);
        let mut memory = buffers(&mut r, &space);
        let runtime = Arc::new(DeviceRuntime::default());
        let _ = runtime.set_stack_bytes(*r.of(&[0, 64, 1024, 1024, 8192, 512 << 10]));
        let given = memory.len();
        let variables = module.allocations().iter();
        memory.extend(variables.filter_map(|a| kept(&space, *a)));
        let mut open: Vec<(u64, u64)> = memory.iter().map(|b| (b.at, b.bytes)).collect();
        open.push((base, PAGE));
        if module.uses_heap() && runtime.set_heap_bytes(HEAP, HEAP).is_ok() {
            let _ = runtime.create_heap(&space);
        }
        let cooperative = r.one_in(20);
        // What these allocate is where nobody here knows.
        let _closed = if cooperative || runtime.has_heap() {
            None
        } else {
            Closed::new(base, REGION, &open).ok()
        };
        let mut kernels = module.functions().to_vec();
        while kernels.len() > MAX_KERNELS {
            kernels.swap_remove(r.below(kernels.len()));
        }
        let place = Place {
            space: &space,
            memory,
            given,
            runtime: &runtime,
            cooperative,
        };
        for f in &kernels {
            for _ in 0..1 + r.below(2) {
                self.launches(&mut r, f, &place, stats);
            }
        }
    }

    /// One configuration in every form, whose outcomes must be the same.
    fn launches(&self, r: &mut Random, f: &Arc<Function>, place: &Place<'_>, stats: &Stats) {
        if f.unsupported().is_some() {
            return stats.count(Counter::Unsupported);
        }
        let block = *r.of(&[
            [32, 1, 1],
            [32, 1, 1],
            [1, 1, 1],
            [31, 1, 1],
            [33, 1, 1],
            [64, 1, 1],
            [8, 4, 1],
            [16, 3, 2],
            [4, 4, 8],
            [128, 1, 1],
            [1, 40, 1],
            [96, 1, 1],
            [5, 64, 1],
            [1024, 1, 1],
        ]);
        let grid = *r.of(&[[1, 1, 1], [1, 1, 1], [2, 1, 1], [3, 1, 2], [1, 5, 1]]);
        let config = LaunchConfig {
            grid,
            block,
            dynamic_shared_bytes: *r.of(&[0, 0, 16, 100, 1024, 4096, 48 << 10]),
        };
        let params = params(r, f, &place.memory[..place.given]);
        let blocks: u32 = grid.iter().product();
        let (gpu, threads) = match r.one_in(6) {
            true => (&self.two, blocks.min(2)),
            false => (&self.one, 1),
        };
        let settled = threads == 1 && !place.cooperative && f.varies(block).is_empty();
        let mut forms = FORMS;
        let first = r.below(3);
        forms[..3].rotate_left(first);
        let mut before: Option<Outcome> = None;
        for form in forms {
            for b in &place.memory {
                let _ = place.space.write(b.at, &b.content);
            }
            let options = LaunchOptions {
                reference: form.reference,
                jit: form.jit,
                runtime: Some(Arc::clone(place.runtime)),
                time_limit: Some(TIME),
                cooperative: place.cooperative,
            };
            let result = gpu.launch(place.space, f, &config, &params, &options, &Abort::new());
            stats.count(match &result {
                Ok(_) => Counter::Ran,
                Err(LaunchError::IllegalAddress(_)) => Counter::Illegal,
                Err(LaunchError::MisalignedAddress(_)) => Counter::Misaligned,
                Err(LaunchError::TimedOut { .. }) => Counter::TimedOut,
                Err(LaunchError::Unsupported(e)) if !e.contains("internal error") => {
                    return stats.count(Counter::Unsupported);
                }
                Err(LaunchError::Unsupported(e) | LaunchError::Internal(e)) => {
                    eprintln!("internal error of {}: {e}", f.name());
                    std::process::abort();
                }
                Err(_) => Counter::OtherFault,
            });
            let text = place.runtime.take_output();
            if !settled {
                continue;
            }
            let result = result.map(|_| ());
            let outcome = Outcome::of(form, result, place.space, &place.memory, text);
            if let (Some(a), Some(b)) = (&before, &outcome) {
                stats.count(Counter::Compared);
                if let Some(how) = a.difference(b, &place.memory) {
                    eprintln!("{} with {config:?} differs:\n{how}", f.name());
                    std::process::abort();
                }
            }
            before = before.or(outcome);
        }
    }
}

/// A variable with what is in it now.
fn kept(space: &AddressSpace, a: u64) -> Option<Buffer> {
    let (at, bytes) = space.lookup(a)?;
    let mut content = vec![0; bytes as usize];
    space.read(at, &mut content).ok()?;
    Some(Buffer { at, bytes, content })
}

/// Memory whose ends are ends of pages, or not.
fn buffers(r: &mut Random, space: &AddressSpace) -> Vec<Buffer> {
    let mut list = Vec::new();
    for _ in 0..3 {
        let bytes = *r.of(&[4, 64, 100, PAGE, PAGE, PAGE, 2 * PAGE + 4, 16 * PAGE]);
        let Ok(at) = space.alloc(bytes, PAGE) else {
            continue;
        };
        list.push(Buffer {
            at,
            bytes,
            content: Vec::new(),
        });
    }
    let starts: Vec<u64> = list.iter().map(|b| b.at).collect();
    let kind = r.below(4);
    for b in &mut list {
        while (b.content.len() as u64) < b.bytes {
            let word = match (kind, r.below(8)) {
                (0, _) => 0,
                (1, 0) | (2, 0..=5) => starts[r.below(starts.len())],
                (_, 1) => r.bits(),
                (_, 2) => f64::to_bits(r.below(100) as f64),
                (_, 3) => u64::from(f32::to_bits(1.5)) << 32 | u64::from(f32::to_bits(-2.0)),
                (_, 4) => r.number() as u64,
                _ => r.below(64) as u64,
            };
            b.content.extend_from_slice(&word.to_le_bytes());
        }
        b.content.truncate(b.bytes as usize);
    }
    list
}

/// Arguments: mostly pointers to the buffers, and small numbers.
fn params(r: &mut Random, f: &Function, buffers: &[Buffer]) -> Vec<u8> {
    let mut bytes = vec![0u8; f.param_bytes() as usize];
    let wild = r.one_in(3);
    for p in f.params() {
        let part = bytes
            .iter_mut()
            .skip(p.offset as usize)
            .take(p.size as usize);
        let unit = if p.size.is_multiple_of(8) { 8 } else { 4 };
        let mut words = Vec::new();
        for _ in 0..(p.size as usize).div_ceil(unit) {
            let word = match (unit, wild, r.below(8)) {
                (8, true, 0) => r.number() as u64,
                (8, true, 1) => *r.of(&[
                    0,
                    0x0100_0000_0000,
                    0x0100_0000_0040,
                    0x01ff_ffff_fffc,
                    0x0200_0000_0000,
                    0x0300_0000_0000,
                    0x0400_0000_0000,
                    0x0400_0000_0010,
                ]),
                (8, true, 2 | 3) => match buffers.get(r.below(buffers.len())) {
                    Some(b) => (b.at + b.bytes).wrapping_add((r.below(80) as u64).wrapping_sub(60)),
                    None => 0,
                },
                (8, _, 7) => r.below(40) as u64,
                (8, ..) => buffers.get(r.below(buffers.len())).map_or(0, |b| b.at),
                (_, true, _) => r.number() as u64,
                _ => r.below(40) as u64,
            };
            words.extend_from_slice(&word.to_le_bytes()[..unit]);
        }
        part.zip(words).for_each(|(to, from)| *to = from);
    }
    bytes
}
