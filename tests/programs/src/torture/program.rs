//! One thread's random program. Beside each operation its effect on plain arrays is computed at
//! once, in the order of the program; where the [order](super::clock) does not say that an
//! operation comes after those that it must follow, the program first makes it so, in one of the
//! ways that CUDA has. So each byte has one value that it must have, whatever overlaps.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail, ensure};
use cudarc::driver::sys::CUresult;

use super::clock::{Clock, DEFAULT, Mark, Order, Uses};
use super::device::{self, Event, Kernels, Memory, Notes, Pinned, Stream};
use super::random::Random;

/// Most words of a buffer: it goes through the staging arena in several pieces.
const MOST_WORDS: usize = 96 << 10;

/// Most buffers, streams and events of a thread.
const MOST: usize = 6;

/// Words that streams pass values through.
const FLAGS: usize = 64;

/// Operations that a failure shows.
const SHOWN: usize = 40;

struct Buffer {
    memory: Memory,
    words: Vec<u32>,
    uses: Uses,
}

struct Page {
    memory: Pinned,
    words: Vec<u32>,
    uses: Uses,
}

struct Queue {
    stream: Stream,
    /// Its place in the order.
    queue: usize,
    /// It and the default stream wait for each other.
    blocking: bool,
    /// What it has noted.
    notes: Notes,
    noted: Vec<u64>,
}

/// A thread's objects, and what must be in them.
pub struct Program {
    random: Random,
    kernels: Kernels,
    order: Order,
    /// The first is the default stream.
    queues: Vec<Queue>,
    events: Vec<(Event, Clock)>,
    buffers: Vec<Buffer>,
    /// Page-locked memory; none where the driver has none.
    pages: Vec<Page>,
    /// Words that one stream each writes and another waits for, and how often that was.
    flags: (Memory, u32),
    done: u64,
    log: VecDeque<String>,
}

impl Program {
    /// A program that a seed repeats. The context is current.
    pub fn new(seed: u64) -> Result<Program> {
        let flags = Memory::new(FLAGS)?;
        flags.write(&[0; FLAGS], None)?;
        let mut program = Program {
            random: Random::new(seed),
            kernels: Kernels::load()?,
            order: Order::default(),
            queues: vec![Queue {
                stream: Stream::default_stream(),
                queue: DEFAULT,
                blocking: true,
                notes: Notes::default(),
                noted: Vec::new(),
            }],
            events: Vec::new(),
            buffers: Vec::new(),
            pages: Vec::new(),
            flags: (flags, 0),
            done: 0,
            log: VecDeque::new(),
        };
        device::synchronize()?;
        for _ in 0..2 {
            program.new_stream()?;
            program.new_event()?;
            program.new_buffer()?;
        }
        for words in [500, 20_000] {
            match Pinned::new(words) {
                Ok(mut memory) => {
                    let words = vec![0; words];
                    memory.store(&words);
                    let uses = Uses::default();
                    program.pages.push(Page {
                        memory,
                        words,
                        uses,
                    });
                }
                Err(e) if e.result == CUresult::CUDA_ERROR_NOT_SUPPORTED => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(program)
    }

    /// Operations so far.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Does one random operation.
    ///
    /// # Errors
    /// What was not as it must be, with the last operations.
    pub fn step(&mut self) -> Result<()> {
        self.done += 1;
        let stepped = self.operation();
        stepped.with_context(|| {
            let lines: Vec<_> = self.log.iter().cloned().collect();
            format!("operation {}, after\n{}", self.done, lines.join("\n"))
        })
    }

    /// Compares everything and lets go of it.
    pub fn finish(mut self) -> Result<()> {
        self.settle()?;
        for i in 0..self.buffers.len() {
            self.check(i)?;
        }
        for (page, i) in self.pages.iter().zip(0..) {
            same(&page.memory.load(), &page.words, 0)
                .with_context(|| format!("page-locked memory {i}"))?;
        }
        for buffer in &self.buffers {
            buffer.memory.free()?;
        }
        self.flags.0.free()?;
        for (event, _) in &self.events {
            event.destroy()?;
        }
        for queue in self.queues.iter().skip(1) {
            queue.stream.destroy()?;
        }
        self.kernels.unload()?;
        Ok(())
    }

    fn say(&mut self, what: String) {
        if self.log.len() == SHOWN {
            self.log.pop_front();
        }
        self.log.push_back(format!("  {}: {what}", self.done));
    }

    fn operation(&mut self) -> Result<()> {
        match self.random.below(100) {
            0..=19 => self.churn(),
            20..=29 => self.combine(),
            30..=37 => self.set(),
            38..=45 => self.copy_within(),
            46..=53 => self.write(),
            54..=58 => self.read(),
            59..=66 => self.pinned(),
            67..=74 => self.event(),
            75..=78 => self.wait(),
            79..=83 => self.note(),
            84..=87 => self.graph(),
            88..=90 => self.value(),
            91..=93 => self.streams(),
            94..=96 => self.memory(),
            _ => self.odds(),
        }
    }

    fn any_queue(&mut self) -> usize {
        self.random.below(self.queues.len())
    }

    fn any_buffer(&mut self) -> usize {
        self.random.below(self.buffers.len())
    }

    /// Makes `queue`'s next operation come after each of the marks that it does not follow yet.
    fn follow(&mut self, queue: usize, marks: &[Mark]) -> Result<()> {
        for mark in marks {
            if self.order.start(self.queues[queue].queue).knows(*mark) {
                continue;
            }
            let source = self.queues.iter().position(|q| q.queue == mark.queue);
            let Some(source) = source else {
                // The stream is gone: only the context can be waited for.
                self.settle()?;
                continue;
            };
            match self.random.below(6) {
                0 => self.wait_for_queue(source)?,
                1 => self.settle()?,
                2 => self.pass_value(source, queue)?,
                _ => {
                    let event = self.random.below(self.events.len());
                    self.record(event, source)?;
                    self.wait_event(event, queue)?;
                }
            }
            ensure!(
                self.order.start(self.queues[queue].queue).knows(*mark),
                "the program itself is wrong: {mark:?} is not followed"
            );
        }
        Ok(())
    }

    /// As [`Program::follow`], for the program itself.
    fn host_follows(&mut self, marks: &[Mark]) -> Result<()> {
        for mark in marks {
            if self.order.host_knows(*mark) {
                continue;
            }
            let source = self.queues.iter().position(|q| q.queue == mark.queue);
            match source {
                Some(source) if !self.random.one_in(4) => self.wait_for_queue(source)?,
                _ => self.settle()?,
            }
        }
        Ok(())
    }

    /// Has an operation of `queue` on buffers follow all that it must; notes it.
    fn access(&mut self, queue: usize, writes: &[usize], reads: &[usize]) -> Result<()> {
        let all = |writes_too: bool, of: &[usize], program: &Program| -> Vec<Mark> {
            let uses = of.iter().map(|i| &program.buffers[*i].uses);
            uses.flat_map(|u| u.before(writes_too)).collect()
        };
        let marks = [all(true, writes, self), all(false, reads, self)].concat();
        self.follow(queue, &marks)?;
        let mark = self.order.submit(self.queues[queue].queue);
        for i in reads {
            self.buffers[*i].uses.note(mark, false);
        }
        for i in writes {
            self.buffers[*i].uses.note(mark, true);
        }
        Ok(())
    }

    fn churn(&mut self) -> Result<()> {
        let (queue, i) = (self.any_queue(), self.any_buffer());
        let (a, b) = (self.random.draw() as u32 | 1, self.random.draw() as u32);
        // Now and then one that takes long, so that what does not wait for it is seen.
        let rounds = match self.random.below(12) {
            0 => 400,
            n => n as u32 % 3,
        };
        let (from, words) = self.random.part(self.buffers[i].words.len());
        let words = if rounds > 3 { words.min(4000) } else { words };
        self.access(queue, &[i], &[])?;
        self.say(format!("churn {i}[{from}+{words}]*{rounds} in {queue}"));
        let part = self.buffers[i].memory.part(from, words);
        let stream = self.queues[queue].stream;
        self.kernels.churn(part, (a, b, rounds), stream)?;
        churned(&mut self.buffers[i].words[from..from + words], a, b, rounds);
        Ok(())
    }

    /// Two buffers that are not the same.
    fn two_buffers(&mut self) -> (usize, usize) {
        let a = self.any_buffer();
        let b = (a + 1 + self.random.below(self.buffers.len() - 1)) % self.buffers.len();
        (a, b)
    }

    fn combine(&mut self) -> Result<()> {
        let (queue, (to, from)) = (self.any_queue(), self.two_buffers());
        self.access(queue, &[to], &[from])?;
        self.say(format!("combine {to} {from} in {queue}"));
        let (d, s) = (self.buffers[to].memory, self.buffers[from].memory);
        self.kernels.combine(d, s, self.queues[queue].stream)?;
        let source = std::mem::take(&mut self.buffers[from].words);
        for (d, s) in self.buffers[to].words.iter_mut().zip(&source) {
            *d = d.wrapping_mul(31).wrapping_add(*s);
        }
        self.buffers[from].words = source;
        Ok(())
    }

    fn set(&mut self) -> Result<()> {
        let (queue, i) = (self.any_queue(), self.any_buffer());
        let (from, words) = self.random.part(self.buffers[i].words.len());
        let (width, value) = (1 << self.random.below(3), self.random.draw() as u32);
        self.access(queue, &[i], &[])?;
        self.say(format!("set {i}[{from}+{words}] by {width} in {queue}"));
        let part = self.buffers[i].memory.part(from, words);
        part.set(width, value, self.queues[queue].stream)?;
        let value = match width {
            1 => u32::from(value as u8) * 0x0101_0101,
            2 => u32::from(value as u16) * 0x0001_0001,
            _ => value,
        };
        self.buffers[i].words[from..from + words].fill(value);
        Ok(())
    }

    fn copy_within(&mut self) -> Result<()> {
        let (queue, (to, from)) = (self.any_queue(), self.two_buffers());
        let shorter = self.buffers[to]
            .words
            .len()
            .min(self.buffers[from].words.len());
        let (at, words) = self.random.part(shorter);
        self.access(queue, &[to], &[from])?;
        self.say(format!("copy {to} from {from} [{at}+{words}] in {queue}"));
        let source = self.buffers[from].memory.part(at, words);
        let target = self.buffers[to].memory.part(at, words);
        target.copy_from(source, self.queues[queue].stream)?;
        let source = self.buffers[from].words[at..at + words].to_vec();
        self.buffers[to].words[at..at + words].copy_from_slice(&source);
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let i = self.any_buffer();
        let (from, words) = self.random.part(self.buffers[i].words.len());
        let mut data: Vec<u32> = (0..words).map(|_| self.random.draw() as u32).collect();
        // A call without a stream is ordered with the default stream.
        let queue = match self.random.one_in(3) {
            true => 0,
            false => self.any_queue(),
        };
        let stream = (queue > 0 || self.random.one_in(2)).then(|| self.queues[queue].stream);
        self.access(queue, &[i], &[])?;
        self.say(format!("write {i}[{from}+{words}] in {queue}"));
        self.buffers[i]
            .memory
            .part(from, words)
            .write(&data, stream)?;
        self.buffers[i].words[from..from + words].copy_from_slice(&data);
        // The source was staged: it may be changed.
        data.fill(0xdead_beef);
        std::hint::black_box(&data);
        Ok(())
    }

    fn read(&mut self) -> Result<()> {
        let i = self.any_buffer();
        self.check(i)
    }

    /// Compares a part of a buffer.
    fn check(&mut self, i: usize) -> Result<()> {
        let (from, words) = match self.random.one_in(3) {
            true => (0, self.buffers[i].words.len()),
            false => self.random.part(self.buffers[i].words.len()),
        };
        let queue = self.any_queue();
        let stream = (queue > 0 || self.random.one_in(2)).then(|| self.queues[queue].stream);
        self.access(queue, &[], &[i])?;
        self.say(format!("read {i}[{from}+{words}] in {queue}"));
        let found = self.buffers[i].memory.part(from, words).read(stream)?;
        // The bytes are there: so all that is before them is done.
        self.order.host_waits_for_queue(self.queues[queue].queue);
        same(&found, &self.buffers[i].words[from..from + words], from)
            .with_context(|| format!("buffer {i}"))
    }

    /// Copies from and to page-locked memory, which the device touches some time later.
    fn pinned(&mut self) -> Result<()> {
        if self.pages.is_empty() {
            return self.write();
        }
        let (page, i) = (self.random.below(self.pages.len()), self.any_buffer());
        let queue = self.any_queue();
        match self.random.below(4) {
            0 => {
                // The program's own access.
                self.say(format!("the host rewrites page {page}"));
                self.host_follows(&self.pages[page].uses.before(true))?;
                self.pages[page].uses.clear();
                let found = self.pages[page].memory.load();
                same(&found, &self.pages[page].words, 0)
                    .with_context(|| format!("page-locked memory {page}"))?;
                let length = self.pages[page].words.len();
                let words: Vec<u32> = (0..length).map(|_| self.random.draw() as u32).collect();
                self.pages[page].memory.store(&words);
                self.pages[page].words = words;
            }
            1 | 2 => {
                self.follow(queue, &self.pages[page].uses.before(false))?;
                self.access(queue, &[i], &[])?;
                self.say(format!("write {i} from page {page} in {queue}"));
                let mark = self.order.submit(self.queues[queue].queue);
                self.pages[page].uses.note(mark, false);
                let (target, page) = (&mut self.buffers[i], &self.pages[page]);
                let stream = self.queues[queue].stream;
                target.memory.write_pinned(&page.memory, stream)?;
                let words = target.words.len().min(page.words.len());
                target.words[..words].copy_from_slice(&page.words[..words]);
                // Both accesses are one operation: the later number stands for it.
                self.buffers[i].uses.note(mark, true);
            }
            _ => {
                self.follow(queue, &self.pages[page].uses.before(true))?;
                self.access(queue, &[], &[i])?;
                self.say(format!("read {i} to page {page} in {queue}"));
                let mark = self.order.submit(self.queues[queue].queue);
                self.pages[page].uses.note(mark, true);
                let (source, page) = (&self.buffers[i], &mut self.pages[page]);
                let stream = self.queues[queue].stream;
                source.memory.read_pinned(&mut page.memory, stream)?;
                let words = source.words.len().min(page.words.len());
                page.words[..words].copy_from_slice(&source.words[..words]);
                self.buffers[i].uses.note(mark, false);
            }
        }
        Ok(())
    }

    fn record(&mut self, event: usize, queue: usize) -> Result<()> {
        self.say(format!("record {event} in {queue}"));
        self.events[event].0.record(self.queues[queue].stream)?;
        self.events[event].1 = self.order.record(self.queues[queue].queue);
        Ok(())
    }

    fn wait_event(&mut self, event: usize, queue: usize) -> Result<()> {
        self.say(format!("{queue} waits for {event}"));
        self.queues[queue].stream.wait_for(self.events[event].0)?;
        let (queue, clock) = (self.queues[queue].queue, &self.events[event].1);
        self.order.wait(queue, clock);
        Ok(())
    }

    fn event(&mut self) -> Result<()> {
        let event = self.random.below(self.events.len());
        let queue = self.any_queue();
        match self.random.below(5) {
            0 | 1 => self.record(event, queue),
            2 | 3 => self.wait_event(event, queue),
            _ => {
                self.say(format!("the host waits for {event}"));
                match self.random.one_in(2) {
                    true => self.events[event].0.synchronize()?,
                    false => self.events[event].0.poll()?,
                }
                self.order.host_waits_for(&self.events[event].1);
                Ok(())
            }
        }
    }

    fn wait(&mut self) -> Result<()> {
        match self.random.one_in(3) {
            true => self.settle(),
            false => {
                let queue = self.any_queue();
                self.wait_for_queue(queue)
            }
        }
    }

    fn wait_for_queue(&mut self, queue: usize) -> Result<()> {
        self.say(format!("the host waits for {queue}"));
        match self.random.one_in(3) {
            true => self.queues[queue].stream.poll()?,
            false => self.queues[queue].stream.synchronize()?,
        }
        self.order.host_waits_for_queue(self.queues[queue].queue);
        self.check_notes(queue)
    }

    /// Waits for all.
    fn settle(&mut self) -> Result<()> {
        self.say("the host waits for all".to_owned());
        device::synchronize()?;
        self.order.host_waits_for_all();
        for queue in 0..self.queues.len() {
            self.check_notes(queue)?;
        }
        Ok(())
    }

    /// Has a stream note a number, in its order.
    fn note(&mut self) -> Result<()> {
        let queue = self.any_queue();
        let number = self.random.draw();
        self.say(format!("note in {queue}"));
        let target = &mut self.queues[queue];
        self.order.submit(target.queue);
        target.stream.note(&target.notes, number)?;
        target.noted.push(number);
        Ok(())
    }

    /// The host has waited for the queue: it has noted all it was told, in order.
    fn check_notes(&mut self, queue: usize) -> Result<()> {
        let target = &self.queues[queue];
        let found = target.notes.all();
        ensure!(
            found == target.noted,
            "functions of stream {queue}: {} were called instead of {}, or in another order",
            found.len(),
            target.noted.len()
        );
        Ok(())
    }

    /// A captured graph of a few operations on two buffers, launched up to three times.
    fn graph(&mut self) -> Result<()> {
        // Another thread may use the default stream, which a capture in a blocking stream forbids.
        let free: Vec<usize> = (1..self.queues.len())
            .filter(|n| !self.queues[*n].blocking)
            .collect();
        if free.is_empty() {
            return self.streams();
        }
        let queue = free[self.random.below(free.len())];
        let (to, from) = self.two_buffers();
        let (launches, nodes) = (1 + self.random.below(3), 1 + self.random.below(4));
        self.access(queue, &[to], &[from])?;
        self.say(format!(
            "graph of {nodes} on {to} and {from}, {launches} times in {queue}"
        ));
        let (a, b) = (self.random.draw() as u32 | 1, self.random.draw() as u32);
        let kinds: Vec<usize> = (0..nodes).map(|_| self.random.below(3)).collect();
        let (d, s) = (self.buffers[to].memory, self.buffers[from].memory);
        let (stream, kernels) = (self.queues[queue].stream, &self.kernels);
        device::graph(stream, launches, || {
            kinds.iter().try_for_each(|kind| match kind {
                0 => kernels.churn(d, (a, b, 1), stream),
                1 => kernels.combine(d, s, stream),
                _ => d.part(0, d.words.div_ceil(2)).set(4, a, stream),
            })
        })?;
        let source = std::mem::take(&mut self.buffers[from].words);
        let target = &mut self.buffers[to].words;
        for _ in 0..launches {
            for kind in &kinds {
                match kind {
                    0 => churned(target, a, b, 1),
                    1 => {
                        for (d, s) in target.iter_mut().zip(&source) {
                            *d = d.wrapping_mul(31).wrapping_add(*s);
                        }
                    }
                    _ => {
                        let half = target.len().div_ceil(2);
                        target[..half].fill(a);
                    }
                }
            }
        }
        self.buffers[from].words = source;
        Ok(())
    }

    /// One stream writes a value that another one waits for.
    fn pass_value(&mut self, from: usize, to: usize) -> Result<()> {
        // Each word is used by nobody else until all have come past it.
        if (self.flags.1 as usize).is_multiple_of(FLAGS) {
            self.settle()?;
        }
        let (flags, value) = (self.flags.0, self.flags.1 + 1);
        self.flags.1 = value;
        let flag = flags.part(value as usize % FLAGS, 1);
        self.say(format!("{from} writes {value}, {to} waits for it"));
        let event = self.order.record(self.queues[from].queue);
        self.queues[from].stream.write_value(flag.at, value)?;
        self.queues[to].stream.wait_value(flag.at, value)?;
        self.order.wait(self.queues[to].queue, &event);
        Ok(())
    }

    fn value(&mut self) -> Result<()> {
        let (from, to) = (self.any_queue(), self.any_queue());
        self.pass_value(from, to)
    }

    fn new_stream(&mut self) -> Result<()> {
        let blocking = self.random.one_in(2);
        self.queues.push(Queue {
            stream: Stream::new(blocking)?,
            queue: self.order.queue(blocking),
            blocking,
            notes: Notes::default(),
            noted: Vec::new(),
        });
        Ok(())
    }

    fn new_event(&mut self) -> Result<()> {
        let timed = self.random.one_in(2);
        self.events.push((Event::new(timed)?, Clock::default()));
        Ok(())
    }

    fn new_buffer(&mut self) -> Result<()> {
        let words = match self.random.below(4) {
            0 => 1 + self.random.below(64),
            1 => 1 + self.random.below(MOST_WORDS),
            _ => 1 + self.random.below(6000),
        };
        let memory = Memory::new(words)?;
        let data: Vec<u32> = (0..words).map(|_| self.random.draw() as u32).collect();
        self.buffers.push(Buffer {
            memory,
            words: vec![0; words],
            uses: Uses::default(),
        });
        let last = self.buffers.len() - 1;
        self.access(0, &[last], &[])?;
        self.say(format!("new buffer {last} of {words}"));
        memory.write(&data, None)?;
        self.buffers[last].words = data;
        Ok(())
    }

    fn streams(&mut self) -> Result<()> {
        if self.queues.len() < 3 || (self.queues.len() < MOST && self.random.one_in(2)) {
            self.say("new stream".to_owned());
            return self.new_stream();
        }
        let queue = 1 + self.random.below(self.queues.len() - 1);
        self.say(format!("end of stream {queue}"));
        // Its work goes on; half of the time there is none left.
        if self.random.one_in(2) {
            self.wait_for_queue(queue)?;
        }
        let gone = self.queues.swap_remove(queue);
        gone.stream.destroy()?;
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        if self.buffers.len() < 3 || (self.buffers.len() < MOST && self.random.one_in(2)) {
            return self.new_buffer();
        }
        let i = self.any_buffer();
        let marks = self.buffers[i].uses.before(true);
        self.host_follows(&marks)?;
        self.say(format!("end of buffer {i}"));
        self.buffers.swap_remove(i).memory.free()?;
        Ok(())
    }

    /// What is rare.
    fn odds(&mut self) -> Result<()> {
        match self.random.below(5) {
            0 => {
                let (free, total) = crate::cuda::memory()?;
                ensure!(free <= total, "{free} bytes of {total} are free");
            }
            1 => {
                let queue = self.any_queue();
                let refused = self.kernels.too_many_threads(self.queues[queue].stream);
                ensure!(
                    refused == CUresult::CUDA_ERROR_INVALID_VALUE,
                    "a block of 4096 threads gives {refused:?}"
                );
            }
            2 => {
                let event = self.random.below(self.events.len());
                let (old, _) = self.events.swap_remove(event);
                old.destroy()?;
                self.new_event()?;
            }
            3 => {
                // Work in flight may still need the old module: CUDA lets the program wait.
                self.settle()?;
                let fresh = Kernels::load()?;
                std::mem::replace(&mut self.kernels, fresh).unload()?;
            }
            _ => match Memory::new(0) {
                Err(e) if e.result == CUresult::CUDA_ERROR_INVALID_VALUE => {}
                other => bail!("an allocation of 0 bytes gives {other:?}"),
            },
        }
        Ok(())
    }
}

fn churned(words: &mut [u32], a: u32, b: u32, rounds: u32) {
    for word in words {
        // The kernel looks at its count after the first round.
        for _ in 0..rounds.max(1) {
            *word = word.wrapping_mul(a).wrapping_add(b);
        }
    }
}

/// Compares words; `from` is the place of the first one.
fn same(found: &[u32], wanted: &[u32], from: usize) -> Result<()> {
    ensure!(found.len() == wanted.len(), "lengths differ");
    let wrong = found.iter().zip(wanted).position(|(f, w)| f != w);
    if let Some(i) = wrong {
        let count = found.iter().zip(wanted).filter(|(f, w)| f != w).count();
        bail!(
            "word {} is {:#x} instead of {:#x}; {count} of {} differ",
            from + i,
            found[i],
            wanted[i],
            found.len()
        );
    }
    Ok(())
}
