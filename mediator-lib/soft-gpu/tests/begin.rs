//! Launches that are begun by one thread, and finished by another one where they take long.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use common::{Device, devices};
use std::sync::Arc;
use vgpu_soft_gpu::{Abort, Begun, LaunchConfig, LaunchError, LaunchOptions, Prepared};

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
        red.global.add.u32 [%q], 1; ret; }";

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
    let options = LaunchOptions {
        reference: d.reference,
        jit: d.jit,
        ..LaunchOptions::default()
    };
    let params: Vec<u8> = at.iter().flat_map(|at| at.to_le_bytes()).collect();
    let f = d.module.function(kernel).unwrap();
    let runtime = Arc::default();
    let prepared = Prepared::new(&f, &config, &runtime).unwrap();
    let gpu = &d.gpu;
    gpu.begin(&d.space, &f, &prepared, &runtime, &params, &options, abort)
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
