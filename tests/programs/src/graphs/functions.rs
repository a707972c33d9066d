//! Functions of the program in streams, and words of memory that streams wait for.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, ensure};

use super::raw::{Bench, Mode, N, Stream, begin, code, end, expect, sync};
use crate::call;
use crate::cuda::sys;

/// What the functions below note, in the order of their calls.
#[derive(Default)]
struct Notes {
    seen: Mutex<Vec<u32>>,
    hold: AtomicBool,
    status: AtomicU32,
}

impl Notes {
    fn take(&self) -> Vec<u32> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a call of a function gets.
struct Ticket<'a>(&'a Notes, u32);

unsafe extern "C" fn note(ticket: *mut c_void) {
    // SAFETY: every test passes a ticket that lives until its stream is done.
    let ticket = unsafe { &*ticket.cast::<Ticket<'_>>() };
    while ticket.0.hold.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let mut seen = ticket.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push(ticket.1);
}

unsafe extern "C" fn note_status(_: sys::CUstream, status: sys::CUresult, ticket: *mut c_void) {
    // SAFETY: as in `note`.
    let of = unsafe { &*ticket.cast::<Ticket<'_>>() };
    of.0.status.store(status as u32, Ordering::Release);
    // SAFETY: as above.
    unsafe { note(ticket) };
}

fn launch(stream: sys::CUstream, ticket: &Ticket<'_>) -> Result<(), crate::cuda::Failed> {
    let data = ptr::from_ref(ticket).cast_mut().cast();
    // SAFETY: the ticket lives until the stream is done: every test waits for it.
    unsafe { call!(cuLaunchHostFunc(stream, Some(note), data)) }
}

pub fn in_order() -> Result<String> {
    let b = Bench::new(1)?;
    let notes = Notes::default();
    let (stream, other) = (Stream::new(1)?, Stream::new(1)?);
    let tickets: Vec<Ticket<'_>> = (0..20).map(|i| Ticket(&notes, i)).collect();
    for ticket in &tickets {
        b.step(0, 1, stream.0)?;
        launch(stream.0, ticket)?;
    }
    stream.wait()?;
    ensure!(
        notes.take() == (0..20).collect::<Vec<_>>(),
        "in the order of the stream"
    );
    // One that waits holds up its own stream and no other.
    let (free, word) = (Bench::new(1)?, b.read_word(other.0)?);
    notes.hold.store(true, Ordering::Release);
    launch(stream.0, &tickets[0])?;
    b.step(0, 1, stream.0)?;
    free.step(0, 4, other.0)?;
    other.wait()?;
    // SAFETY: a live stream.
    let held = unsafe { call!(cuStreamQuery(stream.0)) };
    expect("the stream is held", held, 600)?;
    notes.hold.store(false, Ordering::Release);
    stream.wait()?;
    ensure!(
        b.read(0)? == word.wrapping_mul(3).wrapping_add(1),
        "and goes on"
    );
    Ok("21 functions".to_owned())
}

impl Bench {
    /// Reads a word in a stream's order.
    fn read_word(&self, stream: sys::CUstream) -> Result<u32> {
        let mut word = 0u32;
        // SAFETY: one word of an array.
        unsafe {
            call!(cuMemcpyDtoHAsync_v2(
                (&raw mut word).cast(),
                self.at(0),
                4,
                stream
            ))?;
            call!(cuStreamSynchronize(stream))?;
        }
        Ok(word)
    }
}

pub fn in_graph() -> Result<String> {
    let b = Bench::new(1)?;
    let notes = Notes::default();
    let stream = Stream::new(0)?;
    let tickets = [Ticket(&notes, 1), Ticket(&notes, 2)];
    let mut host = [0u32; N as usize];
    begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
    launch(stream.0, &tickets[0])?;
    b.step(0, 1, stream.0)?;
    // SAFETY: memory of the program that lives until the graph is done.
    unsafe {
        call!(cuMemcpyDtoHAsync_v2(
            host.as_mut_ptr().cast(),
            b.at(0),
            N as usize * 4,
            stream.0
        ))?;
    }
    launch(stream.0, &tickets[1])?;
    let exec = end(stream.0)?.exec()?;
    for round in 1..=5u32 {
        exec.launch(stream.0)?;
        stream.wait()?;
        ensure!(notes.take() == [1, 2], "both, in order");
        let expected = (0..round).fold(0u32, |word, _| word * 3 + 1);
        ensure!(
            host.iter().all(|w| *w == expected),
            "copied at the launch: {} for {expected}",
            host[0]
        );
    }
    // What a launch copies is what is there then.
    begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
    // SAFETY: as above.
    unsafe {
        call!(cuMemcpyHtoDAsync_v2(
            b.at(0),
            host.as_ptr().cast(),
            N as usize * 4,
            stream.0
        ))
    }?;
    let exec = end(stream.0)?.exec()?;
    for word in [77, 78] {
        host.fill(word);
        std::hint::black_box(&host);
        exec.launch(stream.0)?;
        stream.wait()?;
        ensure!(b.read(0)? == word, "read at the launch");
    }
    Ok("7 launches".to_owned())
}

pub fn callbacks() -> Result<String> {
    let notes = Notes::default();
    let stream = Stream::new(0)?;
    let ticket = Ticket(&notes, 9);
    let data = ptr::from_ref(&ticket).cast_mut().cast();
    notes.status.store(1234, Ordering::Release);
    // SAFETY: the ticket lives until the stream is done.
    unsafe {
        call!(cuStreamAddCallback(stream.0, Some(note_status), data, 0))?;
        stream.wait()?;
        ensure!(
            notes.take() == [9] && notes.status.load(Ordering::Acquire) == 0,
            "called with success"
        );
        expect(
            "flags",
            call!(cuStreamAddCallback(stream.0, Some(note_status), data, 1)),
            1,
        )?;
        expect(
            "no function",
            call!(cuLaunchHostFunc(stream.0, None, data)),
            1,
        )?;
        begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_GLOBAL)?;
        expect(
            "in a capture",
            call!(cuStreamAddCallback(stream.0, Some(note_status), data, 0)),
            900,
        )?;
        expect("which it ends", end(stream.0), 901)?;
    }
    Ok("called with its status".to_owned())
}

/// More work behind a function than any queue holds: the function's end must still be heard of.
pub fn many_behind() -> Result<String> {
    let b = Bench::new(1)?;
    let notes = Notes::default();
    let (stream, count) = (Stream::new(1)?, 20_000u32);
    let tickets: Vec<Ticket<'_>> = (0..3).map(|i| Ticket(&notes, i)).collect();
    notes.hold.store(true, Ordering::Release);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            notes.hold.store(false, Ordering::Release);
        });
        for ticket in &tickets {
            launch(stream.0, ticket)?;
            for _ in 0..count / 4 {
                b.step(0, 1, stream.0)?;
            }
        }
        stream.wait()
    })?;
    ensure!(notes.take() == [0, 1, 2], "all three");
    let expected = (0..count / 4 * 3).fold(0u32, |w, _| w.wrapping_mul(3).wrapping_add(1));
    ensure!(b.read(0)? == expected, "all launches");
    Ok(format!("{} launches behind 3 functions", count / 4 * 3))
}

pub fn words() -> Result<String> {
    let b = Bench::new(1)?;
    let (first, second) = (Stream::new(1)?, Stream::new(1)?);
    let at = b.at(0);
    // SAFETY: words of the array.
    unsafe {
        call!(cuStreamWaitValue32_v2(first.0, at, 5, 1))?;
        call!(cuStreamWriteValue32_v2(first.0, at + 4, 6, 0))?;
        expect("it waits", call!(cuStreamQuery(first.0)), 600)?;
        // Another thread waits for it: that must not keep this one from ending the wait.
        let raw = first.0 as usize;
        std::thread::scope(|scope| {
            let waiter =
                scope.spawn(move || code(&call!(cuStreamSynchronize(raw as sys::CUstream))));
            std::thread::sleep(std::time::Duration::from_millis(5));
            call!(cuStreamWriteValue32_v2(second.0, at, 5, 0))?;
            ensure!(waiter.join().expect("no panic") == 0, "it goes on");
            Ok::<_, anyhow::Error>(())
        })?;
        call!(cuStreamWriteValue64_v2(
            second.0,
            at + 8,
            0xffff_ffff_0000_0001,
            0
        ))?;
        call!(cuStreamWaitValue64_v2(
            second.0,
            at + 8,
            0xffff_ffff_0000_0000,
            0
        ))?;
        second.wait()?;
        let mut found = [0u32; 4];
        call!(cuMemcpyDtoH_v2(found.as_mut_ptr().cast(), at, 16))?;
        ensure!(found == [5, 6, 1, 0xffff_ffff], "{found:?}");
        expect(
            "unaligned",
            call!(cuStreamWriteValue32_v2(first.0, at + 2, 1, 0)),
            1,
        )?;
        expect(
            "no memory",
            call!(cuStreamWriteValue32_v2(first.0, 64, 1, 0)),
            1,
        )?;
        expect("flags", call!(cuStreamWaitValue32_v2(first.0, at, 1, 4)), 1)?;
        expect(
            "flush",
            call!(cuStreamWaitValue32_v2(first.0, at, 1, 1 << 30)),
            801,
        )?;
    }
    sync()?;
    Ok("2 streams, 2 threads".to_owned())
}
