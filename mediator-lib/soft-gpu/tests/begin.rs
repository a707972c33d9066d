//! Launches that are begun by one thread, and finished by another one where they take long.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Device, devices};
use std::sync::Arc;
use vgpu_soft_gpu::{
    Abort, Begun, DeviceRuntime, Function, Kept, LaunchConfig, LaunchError, LaunchOptions, Prepared,
};

const TEXT: &str = ".version 8.0\n.target sm_80\n.address_size 64\n
    // Each block waits until the word at p is not 0, and adds 1 to the word at q.
    .visible .entry waits(.param .u64 p, .param .u64 q) {
        .reg .b64 %p; .reg .b64 %q; .reg .b32 %r; .reg .pred %c;
        ld.param.u64 %p, [p]; ld.param.u64 %q, [q];
        L: ld.volatile.global.u32 %r, [%p]; setp.eq.u32 %c, %r, 0; @%c bra L;
        red.global.add.u32 [%q], 1; ret; }
    // The same with a barrier in the loop, at which a turn begins anew.
    .visible .entry meets(.param .u64 p, .param .u64 q) {
        .reg .b64 %p; .reg .b64 %q; .reg .b32 %r; .reg .pred %c;
        ld.param.u64 %p, [p]; ld.param.u64 %q, [q];
        L: bar.sync 0; ld.volatile.global.u32 %r, [%p]; setp.eq.u32 %c, %r, 0; @%c bra L;
        red.global.add.u32 [%q], 1; ret; }
    // Each thread adds what it finds at p and in shared and local memory, which it leaves behind, to its word at q.
    .visible .entry adds(.param .u64 p, .param .u64 q) {
        .reg .b64 %p; .reg .b64 %q; .reg .b64 %o; .reg .b32 %r<5>; .shared .b32 s[64]; .local .b32 l;
        ld.param.u64 %p, [p]; ld.param.u64 %q, [q];
        mov.u32 %r0, %tid.x; mul.wide.u32 %o, %r0, 4; add.u64 %q, %q, %o;
        ld.global.u32 %r1, [%p]; ld.global.u32 %r2, [%q]; add.u32 %r2, %r2, %r1;
        mov.u64 %o, s; cvt.u32.u64 %r3, %o; shl.b32 %r0, %r0, 2; add.u32 %r3, %r3, %r0;
        ld.shared.u32 %r4, [%r3]; add.u32 %r2, %r2, %r4; st.shared.u32 [%r3], %r2;
        ld.local.u32 %r4, [l]; add.u32 %r2, %r2, %r4; st.local.u32 [l], %r2;
        st.global.u32 [%q], %r2; ret; }
    .visible .entry grids(.param .u64 p, .param .u64 q) {
        .reg .b64 %q; .reg .b64 %g;
        ld.param.u64 %q, [q]; mov.u64 %g, %gridid; st.global.u64 [%q], %g; ret; }";

fn options(d: &Device) -> LaunchOptions {
    LaunchOptions {
        reference: d.reference,
        jit: d.jit,
        ..LaunchOptions::default()
    }
}

/// Launches of a kernel with a block of 64 threads, one after the other, each with what the last one left.
struct Series<'a> {
    d: &'a Device,
    f: Arc<Function>,
    runtime: Arc<DeviceRuntime>,
    prepared: Prepared,
    kept: Kept,
}

impl Series<'_> {
    fn new<'a>(d: &'a Device, kernel: &str) -> Series<'a> {
        let f = d.module.function(kernel).unwrap();
        let runtime = Arc::default();
        let config = LaunchConfig {
            grid: [1; 3],
            block: [64, 1, 1],
            dynamic_shared_bytes: 0,
        };
        Series {
            d,
            prepared: Prepared::new(&f, &config, &runtime).unwrap(),
            f,
            runtime,
            kept: Kept::default(),
        }
    }

    fn launch(&mut self, at: [u64; 2]) -> Result<(), LaunchError> {
        let params: Vec<u8> = at.iter().flat_map(|at| at.to_le_bytes()).collect();
        let begun = self.d.gpu.begin(
            &self.d.space,
            &self.f,
            &mut self.prepared,
            &mut self.kept,
            &self.runtime,
            &params,
            &options(self.d),
            &Abort::new(),
        )?;
        match begun {
            Begun::Ended(_) => Ok(()),
            Begun::Rest(rest) => rest.finish(&self.d.gpu).map(drop),
        }
    }
}

fn begin(
    d: &Device,
    kernel: &str,
    blocks: u32,
    at: [u64; 2],
    abort: &Abort,
) -> Result<Begun, LaunchError> {
    let config = LaunchConfig {
        grid: [blocks, 1, 1],
        block: [64, 1, 1],
        dynamic_shared_bytes: 0,
    };
    let options = options(d);
    let params: Vec<u8> = at.iter().flat_map(|at| at.to_le_bytes()).collect();
    let f = d.module.function(kernel).unwrap();
    let runtime = Arc::default();
    let mut prepared = Prepared::new(&f, &config, &runtime).unwrap();
    let (gpu, kept) = (&d.gpu, &mut Kept::default());
    gpu.begin(
        &d.space,
        &f,
        &mut prepared,
        kept,
        &runtime,
        &params,
        &options,
        abort,
    )
}

/// The words that a kernel waits for and that it counts in, at their addresses.
fn words(d: &Device, waited_for: u32) -> [u64; 2] {
    [waited_for, 0].map(|word| {
        let at = d.space.alloc(4, 4).unwrap();
        d.space.write(at, &word.to_le_bytes()).unwrap();
        at
    })
}

fn word(d: &Device, at: u64) -> u32 {
    let mut word = [0; 4];
    d.space.read(at, &mut word).unwrap();
    u32::from_le_bytes(word)
}

#[test]
fn what_waits_for_memory_is_left_and_ends_once_it_was_written() {
    for d in &devices(TEXT) {
        for kernel in ["waits", "meets"] {
            let [flag, count] = words(d, 0);
            let begun = begin(d, kernel, 3, [flag, count], &Abort::new()).unwrap();
            let Begun::Rest(rest) = begun else {
                panic!("{kernel} cannot have ended");
            };
            assert_eq!(word(d, count), 0);
            let stats = std::thread::scope(|scope| {
                let other = scope.spawn(|| rest.finish(&d.gpu));
                d.space.write(flag, &1u32.to_le_bytes()).unwrap();
                other.join().unwrap().unwrap()
            });
            assert_eq!((stats.blocks, stats.threads), (3, 192));
            assert_eq!(word(d, count), 192);
        }
    }
}

#[test]
fn every_block_runs_once_wherever_a_launch_was_left() {
    for d in &devices(TEXT) {
        for blocks in [1, 2, 1000] {
            let [flag, count] = words(d, 1);
            let stats = match begin(d, "waits", blocks, [flag, count], &Abort::new()).unwrap() {
                Begun::Ended(stats) => stats,
                Begun::Rest(rest) => rest.finish(&d.gpu).unwrap(),
            };
            assert_eq!(stats.blocks, blocks.into());
            assert_eq!(word(d, count), blocks * 64);
        }
    }
}

#[test]
fn an_abort_ends_what_was_left() {
    for d in &devices(TEXT) {
        for kernel in ["waits", "meets"] {
            let abort = Abort::new();
            let at = words(d, 0);
            let Begun::Rest(rest) = begin(d, kernel, 2, at, &abort).unwrap() else {
                panic!("{kernel} cannot have ended");
            };
            abort.set();
            assert_eq!(rest.finish(&d.gpu), Err(LaunchError::Aborted));
        }
    }
}

#[test]
fn a_fault_is_told_as_of_any_launch() {
    for d in &devices(TEXT) {
        let [flag, _] = words(d, 1);
        let failed = begin(d, "waits", 2, [flag, 8], &Abort::new()).err();
        assert!(
            matches!(failed, Some(LaunchError::IllegalAddress(_))),
            "{failed:?}"
        );
    }
}

#[test]
fn a_launch_finds_nothing_of_the_one_before_but_in_device_memory() {
    for d in &devices(TEXT) {
        let mut series = Series::new(d, "adds");
        let [one, two] = [1u32, 2].map(|word| d.upload(&[word]));
        let sums = [0, 1].map(|_| d.upload(&[0u32; 64]));
        // Other parameters each time.
        for n in 0..6 {
            let from = if n % 3 == 0 { one } else { two };
            series.launch([from, sums[n % 2]]).unwrap();
            assert!(series.prepared.holds_memory());
            if n == 4 {
                series.prepared.release();
            }
        }
        assert_eq!(d.download::<u32>(sums[0], 64), [1 + 2 + 2; 64]);
        assert_eq!(d.download::<u32>(sums[1], 64), [2 + 1 + 2; 64]);
    }
}

#[test]
fn each_launch_has_a_number_of_its_own() {
    for d in &devices(TEXT) {
        let mut series = Series::new(d, "grids");
        let at = d.upload(&[0u64]);
        let numbers: Vec<u64> = (0..3)
            .map(|_| {
                series.launch([0, at]).unwrap();
                d.download(at, 1)[0]
            })
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}

#[test]
fn memory_is_reached_from_its_allocation_until_it_is_freed() {
    for d in &devices(TEXT) {
        let mut series = Series::new(d, "adds");
        let (word, sums) = (d.upload(&[1u32]), d.upload(&[0u32; 64]));
        let illegal = |result| {
            assert!(
                matches!(result, Err(LaunchError::IllegalAddress(_))),
                "{result:?}"
            )
        };
        for _ in 0..2 {
            series.launch([word, sums]).unwrap();
        }
        d.space.free(sums).unwrap();
        illegal(series.launch([word, sums]));
        // A fault leaves nothing to the next one, and neither does it end it.
        assert!(!series.prepared.holds_memory());
        assert_eq!(d.upload(&[5u32; 64]), sums, "the same place");
        for _ in 0..2 {
            series.launch([word, sums]).unwrap();
        }
        assert_eq!(d.download::<u32>(sums, 64), [7; 64]);
        // Half as long.
        d.space.free(sums).unwrap();
        assert_eq!(d.upload(&[0u32; 32]), sums);
        illegal(series.launch([word, sums]));
    }
}
