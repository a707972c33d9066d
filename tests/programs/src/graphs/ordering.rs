//! Random programs of streams, events, kernels, copies, sets, functions of the program and graphs,
//! against an interpreter of CUDA's ordering rules.
//!
//! The interpreter knows, for each operation, which earlier ones it is ordered after (CUDA Driver
//! API, "Stream synchronization behavior", and `cuStreamWaitEvent`). An operation touches an array
//! only where it is ordered after all that touched it before; so the result is that of the order of
//! submission, and any device that orders less computes something else.
//!
//! `VGPU_TORTURE=SECONDS` runs that long in 16 threads of 4 processes; `VGPU_SEED` chooses the
//! first seed.

use std::ffi::c_void;
use std::process::Command;
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::raw::{Bench, Event, Mode, N, Stream, begin, end};
use crate::call;
use crate::cuda::sys;

const ARRAYS: usize = 6;
const EVENTS: usize = 4;
const OPERATIONS: usize = 250;

/// A generator of numbers: Marsaglia's xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n as u64) as usize
    }
}

/// Sets of operations.
#[derive(Clone, Default)]
struct Set(Vec<u64>);

impl Set {
    fn insert(&mut self, i: usize) {
        if self.0.len() <= i / 64 {
            self.0.resize(i / 64 + 1, 0);
        }
        self.0[i / 64] |= 1 << (i % 64);
    }

    fn has(&self, i: usize) -> bool {
        self.0.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 != 0)
    }

    fn join(&mut self, other: &Set) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (a, b) in self.0.iter_mut().zip(&other.0) {
            *a |= b;
        }
    }
}

/// What the rules say.
struct Rules {
    /// For each stream: blocking or not, and all that its next operation comes after. Stream 0 is
    /// the legacy default stream.
    streams: Vec<(bool, Set)>,
    events: Vec<Set>,
    /// All that the host has waited for: everything later comes after it.
    host: Set,
    count: usize,
}

impl Rules {
    fn new(streams: &[bool]) -> Rules {
        Rules {
            streams: streams.iter().map(|b| (*b, Set::default())).collect(),
            events: vec![Set::default(); EVENTS],
            host: Set::default(),
            count: 0,
        }
    }

    /// What an operation submitted to a stream now comes after.
    fn before(&self, stream: usize) -> Set {
        let (blocking, mut set) = self.streams[stream].clone();
        set.join(&self.host);
        if stream == 0 {
            for (_, other) in self.streams.iter().filter(|(b, _)| *b) {
                set.join(other);
            }
        } else if blocking {
            set.join(&self.streams[0].1);
        }
        set
    }

    /// What a stream has done when the host has waited for it. Only the default stream's own work
    /// comes after that of others without being submitted.
    fn waited(&self, stream: usize) -> Set {
        if stream == 0 {
            return self.before(0);
        }
        let mut set = self.streams[stream].1.clone();
        set.join(&self.host);
        set
    }

    fn submit(&mut self, stream: usize) -> usize {
        let mut set = self.before(stream);
        let number = self.count;
        self.count += 1;
        set.insert(number);
        self.streams[stream].1 = set;
        number
    }
}

/// An array's or a cell's past.
#[derive(Clone, Default)]
struct Past {
    touched: Vec<usize>,
}

impl Past {
    /// Whether all of it is in the set.
    fn is_in(&self, set: &Set) -> bool {
        self.touched.iter().all(|t| set.has(*t))
    }

    fn touch(&mut self, by: usize) {
        self.touched = vec![by];
    }
}

/// What a function of the program does: a cell becomes 3 × itself + `k`.
struct Ticket {
    cell: *mut u64,
    k: u64,
}

unsafe extern "C" fn mix_cell(ticket: *mut c_void) {
    // SAFETY: tickets and cells live until the program has waited for all; the rules order the
    // functions of one cell.
    unsafe {
        let ticket = &*ticket.cast::<Ticket>();
        ticket.cell.write_volatile(
            ticket
                .cell
                .read_volatile()
                .wrapping_mul(3)
                .wrapping_add(ticket.k),
        );
    }
}

fn program(seed: u64) -> Result<()> {
    let mut random = Random(seed | 1);
    let b = Bench::new(ARRAYS)?;
    let kinds = [true, true, true, false, false];
    let streams: Vec<Option<Stream>> = kinds
        .iter()
        .enumerate()
        .map(|(i, blocking)| {
            (i > 0)
                .then(|| Stream::new(u32::from(!blocking)))
                .transpose()
        })
        .collect::<Result<_>>()?;
    let raw = |i: usize| streams[i].as_ref().map_or(ptr::null_mut(), |s| s.0);
    let events: Vec<Event> = (0..EVENTS).map(|_| Event::new()).collect::<Result<_>>()?;
    let mut rules = Rules::new(&kinds);
    let (mut words, mut pasts) = ([0u32; ARRAYS], vec![Past::default(); ARRAYS]);
    let mut cells = [0u64; 2];
    let base = cells.as_mut_ptr();
    let (mut expected_cells, mut cell_pasts) = ([0u64; 2], vec![Past::default(); 2]);
    let mut tickets: Vec<Box<Ticket>> = Vec::new();
    let mut execs = Vec::new();
    let bytes = N as usize * 4;
    for _ in 0..OPERATIONS {
        let s = random.below(kinds.len());
        let stream = raw(s);
        let (i, j) = (random.below(ARRAYS), random.below(ARRAYS));
        let k = random.below(1000) as u32;
        let before = rules.before(s);
        let free = pasts[i].is_in(&before);
        let both = free && pasts[j].is_in(&before) && i != j;
        match random.below(16) {
            0..=3 if free => {
                b.step(i, k, stream)?;
                words[i] = words[i].wrapping_mul(3).wrapping_add(k);
                pasts[i].touch(rules.submit(s));
            }
            4..=6 if both => {
                b.mix(i, j, k, stream)?;
                words[i] = words[i]
                    .wrapping_mul(3)
                    .wrapping_add(words[j])
                    .wrapping_add(k);
                let number = rules.submit(s);
                pasts[i].touch(number);
                pasts[j].touched.push(number);
            }
            7 if both => {
                // SAFETY: arrays of as many bytes.
                unsafe { call!(cuMemcpyDtoDAsync_v2(b.at(i), b.at(j), bytes, stream)) }?;
                words[i] = words[j];
                let number = rules.submit(s);
                pasts[i].touch(number);
                pasts[j].touched.push(number);
            }
            8 if free => {
                // SAFETY: as above.
                unsafe { call!(cuMemsetD32Async(b.at(i), k, N as usize, stream)) }?;
                words[i] = k;
                pasts[i].touch(rules.submit(s));
            }
            9 => {
                let cell = i % 2;
                if cell_pasts[cell].is_in(&before) {
                    // A pointer to the program's cell, which the rules share between threads.
                    let cell_at = base.wrapping_add(cell);
                    tickets.push(Box::new(Ticket {
                        cell: cell_at,
                        k: k.into(),
                    }));
                    let ticket = tickets.last().map_or(ptr::null(), |t| ptr::from_ref(&**t));
                    // SAFETY: the ticket lives until all is waited for.
                    unsafe {
                        call!(cuLaunchHostFunc(
                            stream,
                            Some(mix_cell),
                            ticket.cast_mut().cast()
                        ))
                    }?;
                    expected_cells[cell] =
                        expected_cells[cell].wrapping_mul(3).wrapping_add(k.into());
                    cell_pasts[cell].touch(rules.submit(s));
                }
            }
            10 | 11 => {
                let e = random.below(EVENTS);
                events[e].record(stream)?;
                rules.submit(s);
                rules.events[e] = rules.streams[s].1.clone();
            }
            12 | 13 => {
                let e = random.below(EVENTS);
                events[e].awaited_by(stream)?;
                let awaited = rules.events[e].clone();
                rules.submit(s);
                rules.streams[s].1.join(&awaited);
            }
            14 if both && s > 0 => {
                // A captured graph of two nodes, launched in another stream.
                begin(stream, Mode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
                b.step(i, k, stream)?;
                b.mix(j, i, k, stream)?;
                let exec = end(stream)?.exec()?;
                exec.launch(stream)?;
                execs.push(exec);
                words[i] = words[i].wrapping_mul(3).wrapping_add(k);
                words[j] = words[j]
                    .wrapping_mul(3)
                    .wrapping_add(words[i])
                    .wrapping_add(k);
                let number = rules.submit(s);
                pasts[i].touch(number);
                pasts[j].touch(number);
            }
            15 if random.below(4) == 0 => {
                // SAFETY: a live stream.
                unsafe { call!(cuStreamSynchronize(stream)) }?;
                let waited = rules.waited(s);
                rules.host.join(&waited);
                for (array, word) in words.iter().enumerate() {
                    if pasts[array].is_in(&waited) && pasts[array].touched.len() == 1 {
                        let mut found = 0u32;
                        // SAFETY: one word of an array.
                        unsafe {
                            call!(cuMemcpyDtoHAsync_v2(
                                (&raw mut found).cast(),
                                b.at(array),
                                4,
                                stream
                            ))?;
                            call!(cuStreamSynchronize(stream))?;
                        }
                        ensure!(
                            found == *word,
                            "seed {seed}: array {array} is {found:#x}, not {word:#x}"
                        );
                    }
                }
            }
            _ => {}
        }
    }
    for i in 0..kinds.len() {
        // SAFETY: a live stream.
        unsafe { call!(cuStreamSynchronize(raw(i))) }?;
    }
    for (array, word) in words.iter().enumerate() {
        let found = b.read(array)?;
        ensure!(
            found == *word,
            "seed {seed}: array {array} is {found:#x} in the end, not {word:#x}"
        );
    }
    for (cell, expected) in expected_cells.iter().enumerate() {
        // SAFETY: all functions have been called.
        let found = unsafe { base.add(cell).read_volatile() };
        ensure!(
            found == *expected,
            "seed {seed}: cell {cell} is {found}, not {expected}"
        );
    }
    Ok(())
}

/// The default stream's order, by hand: what comes before and after it.
pub fn legacy() -> Result<String> {
    let b = Bench::new(2)?;
    let (blocking, free) = (Stream::new(0)?, Stream::new(1)?);
    for round in 0..50u32 {
        b.clear()?;
        b.step(0, 1, blocking.0)?;
        b.step(0, 2, ptr::null_mut())?;
        b.step(0, 3, blocking.0)?;
        b.step(1, 1, free.0)?;
        blocking.wait()?;
        free.wait()?;
        ensure!((b.read(0)?, b.read(1)?) == (18, 1), "round {round}");
    }
    // A default stream that waits for a non-blocking stream would never get on here.
    // SAFETY: words of the arrays.
    unsafe {
        call!(cuMemsetD32_v2(b.at(0), 0, N as usize))?;
        call!(cuStreamWaitValue32_v2(free.0, b.at(0), 9, 1))?;
        b.step(1, 1, ptr::null_mut())?;
        call!(cuStreamSynchronize(ptr::null_mut()))?;
        call!(cuStreamWriteValue32_v2(ptr::null_mut(), b.at(0), 9, 0))?;
    }
    free.wait()?;
    Ok("50 rounds".to_owned())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

pub fn random() -> Result<String> {
    let seed = number("VGPU_SEED").unwrap_or(1);
    let Some(seconds) = number("VGPU_TORTURE") else {
        for seed in seed..seed + 30 {
            program(seed)?;
        }
        return Ok(format!("30 programs of {OPERATIONS} operations"));
    };
    if std::env::var_os("VGPU_TORTURE_CHILD").is_none() {
        let myself = std::env::current_exe()?;
        let children: Vec<_> = (0..4u64)
            .map(|i| {
                Command::new(&myself)
                    .args(["--only", "random_orders"])
                    .env("VGPU_TORTURE_CHILD", "1")
                    .env("VGPU_SEED", (seed + i * 1_000_000_007).to_string())
                    .spawn()
                    .context("a child")
            })
            .collect::<Result<_>>()?;
        for mut child in children {
            ensure!(child.wait()?.success(), "a child failed");
        }
        return Ok(format!("4 processes, {seconds} s"));
    }
    let mut ctx = ptr::null_mut();
    // SAFETY: one place to write.
    unsafe { call!(cuCtxGetCurrent(&mut ctx)) }?;
    let ctx = ctx as usize;
    let until = Instant::now() + Duration::from_secs(seconds);
    let run = |thread: u64| -> Result<u64> {
        // SAFETY: the context lives as long as the process.
        unsafe { call!(cuCtxSetCurrent(ctx as sys::CUcontext)) }?;
        let mut programs = 0;
        while Instant::now() < until {
            program(seed + thread * 10_000_019 + programs)?;
            programs += 1;
        }
        Ok(programs)
    };
    let programs = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|t| scope.spawn(move || run(t))).collect();
        threads
            .into_iter()
            .map(|t| t.join().expect("no panic"))
            .sum::<Result<u64>>()
    })?;
    Ok(format!(
        "{programs} programs of {OPERATIONS} operations in 4 threads"
    ))
}
