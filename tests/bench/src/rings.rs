//! Single calls over the rings, without the CUDA library above them, and what a call costs at
//! least.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, EventId, FunctionId, StreamId, stubs};
use vgpu_transport::Channel;

use crate::Report;
use crate::clock::{Clock, quantile, ticks};
use crate::shared::{self, Shared};

/// A kernel that does nothing.
const EMPTY: &str =
    ".version 7.0\n.target sm_75\n.address_size 64\n.visible .entry empty() { ret; }\n";

/// How long nothing happens before a call that finds everybody asleep.
const IDLE: Duration = Duration::from_millis(5);

/// How long the processes of [`scale`] launch.
const SCALE_TIME: Duration = Duration::from_millis(700);

/// Processes of [`scale`].
const MANY: usize = 8;

fn failed(what: &'static str) -> impl Fn(Status) -> anyhow::Error {
    move |status| anyhow!("{what}: {status}")
}

/// An open channel with a context and the empty kernel.
struct Ready {
    channel: &'static Channel,
    ctx: CtxId,
    function: FunctionId,
}

impl Ready {
    fn new() -> Result<Ready> {
        let channel = vgpu_transport::process::connect()?;
        let none = CtxId(0);
        stubs::init(channel, none, 0).map_err(failed("cuInit"))?;
        let ctx = stubs::primary_ctx_retain(channel, none, 0)
            .map_err(failed("cuDevicePrimaryCtxRetain"))?;
        let mut image = EMPTY.as_bytes().to_vec();
        image.push(0);
        let module = stubs::module_load(channel, ctx, &image, Vec::new())
            .map_err(failed("cuModuleLoadDataEx"))?;
        Status(module.status)
            .ok()
            .map_err(failed("cuModuleLoadDataEx"))?;
        let function = stubs::module_get_function(channel, ctx, module.module, "empty")
            .map_err(failed("cuModuleGetFunction"))?;
        let ready = Ready {
            channel,
            ctx,
            function: function.function,
        };
        ready.launch()?;
        ready.synchronize()?;
        Ok(ready)
    }

    fn launch(&self) -> Result<()> {
        let (grid, block) = ([1; 3], [32, 1, 1]);
        stubs::launch_kernel(
            self.channel,
            self.ctx,
            self.function,
            grid,
            block,
            0,
            StreamId(0),
            &[],
        )
        .map_err(failed("cuLaunchKernel"))
    }

    fn synchronize(&self) -> Result<()> {
        stubs::ctx_synchronize(self.channel, self.ctx).map_err(failed("cuCtxSynchronize"))
    }

    fn wait(&self) -> Result<()> {
        stubs::mem_get_info(self.channel, self.ctx)
            .map(drop)
            .map_err(failed("cuMemGetInfo"))
    }
}

/// All of it.
pub fn run(clock: &Clock, report: &mut Report, count: usize) -> Result<()> {
    if let Some(path) = shared::ivshmem() {
        floor(clock, report, &path, count)?;
    } else if std::env::var_os("VGPU_LOCAL").is_some() {
        floor_beside(clock, report, count)?;
    }
    let ready = Ready::new()?;
    waiting(clock, report, &ready, count)?;
    posted(clock, report, &ready, count)?;
    launches(clock, report, &ready, count)
}

/// A word to the other side and back.
fn floor(clock: &Clock, report: &mut Report, path: &Path, count: usize) -> Result<()> {
    let mut times = Shared::new(path)?.ask(clock, count)?;
    report.quantiles("pingpong", &mut times);
    Ok(())
}

/// The same with another process of this machine.
fn floor_beside(clock: &Clock, report: &mut Report, count: usize) -> Result<()> {
    let path = std::env::temp_dir().join(format!("vgpu-bench-{}", std::process::id()));
    std::fs::File::create(&path)?.set_len(shared::BYTES as u64)?;
    let program = std::env::current_exe()?;
    let mut other = Command::new(program).arg("pong").arg(&path).spawn()?;
    let measured = floor(clock, report, &path, count);
    let ended = Shared::new(&path).map(|shared| shared.end());
    let _ = other.wait();
    std::fs::remove_file(&path)?;
    measured.and(ended)
}

fn waiting(clock: &Clock, report: &mut Report, ready: &Ready, count: usize) -> Result<()> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let from = ticks();
        ready.wait()?;
        times.push(clock.ns(ticks() - from));
    }
    report.quantiles("waiting", &mut times);
    let mut times = Vec::new();
    for _ in 0..count / 100 {
        std::thread::sleep(IDLE);
        let from = ticks();
        ready.wait()?;
        times.push(clock.ns(ticks() - from));
    }
    report.quantiles("parked", &mut times);
    // The floor of that: a thread that sleeps until the kernel wakes it, and answers.
    let (mut asks, mut answers) = (std::io::pipe()?, std::io::pipe()?);
    let mut times = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let (question, answer) = (&mut asks.0, &mut answers.1);
        let other = scope.spawn(move || -> Result<()> {
            for _ in 0..count / 100 {
                std::io::Read::read_exact(question, &mut [0])?;
                answer.write_all(&[1])?;
            }
            Ok(())
        });
        for _ in 0..count / 100 {
            std::thread::sleep(IDLE);
            let from = ticks();
            asks.1.write_all(&[1])?;
            std::io::Read::read_exact(&mut answers.0, &mut [0])?;
            times.push(clock.ns(ticks() - from));
        }
        other.join().map_err(|_| anyhow!("a thread panicked"))?
    })?;
    report.quantiles("woken", &mut times);
    Ok(())
}

fn posted(clock: &Clock, report: &mut Report, ready: &Ready, count: usize) -> Result<()> {
    let (channel, ctx, event) = (ready.channel, ready.ctx, EventId(1));
    stubs::event_create(channel, ctx, event, 0).map_err(failed("cuEventCreate"))?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let from = ticks();
        stubs::event_record(channel, ctx, event, StreamId(0), 0)
            .map_err(failed("cuEventRecord"))?;
        times.push(clock.ns(ticks() - from));
    }
    ready.synchronize()?;
    report.quantiles("posted", &mut times);
    Ok(())
}

fn launches(clock: &Clock, report: &mut Report, ready: &Ready, count: usize) -> Result<()> {
    let bells = ready.channel.doorbells();
    let (mut each, mut all) = (Vec::with_capacity(count), Vec::new());
    for _ in 0..5 {
        each.clear();
        let from = ticks();
        for _ in 0..count {
            let began = ticks();
            ready.launch()?;
            each.push(clock.ns(ticks() - began));
        }
        ready.synchronize()?;
        all.push(clock.ns(ticks() - from) / count as f64);
    }
    report.quantiles("posted_launch", &mut each);
    report.add("launch_and_execute_ns", quantile(&mut all, 0.5));
    let rung = (ready.channel.doorbells() - bells) as f64;
    report.add(
        "doorbells_per_1000_launches",
        rung * 1000.0 / (5 * count) as f64,
    );
    // Few enough that the ring holds them: the thread never waits for room.
    let mut cpu = Vec::new();
    for _ in 0..50 {
        let from = shared::thread_time();
        for _ in 0..200 {
            ready.launch()?;
        }
        cpu.push((shared::thread_time() - from) / 200.0);
        ready.synchronize()?;
    }
    report.add("posted_launch_cpu_ns", quantile(&mut cpu, 0.5));
    Ok(())
}

/// Launches for a while once a line comes, and prints how many.
pub fn rate() -> Result<()> {
    let ready = Ready::new()?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    let began = Instant::now();
    let mut count = 0u64;
    while began.elapsed() < SCALE_TIME {
        for _ in 0..1000 {
            ready.launch()?;
        }
        ready.synchronize()?;
        count += 1000;
    }
    println!("{}", count as f64 / began.elapsed().as_secs_f64());
    Ok(())
}

/// One process that launches, then many at once: all launches in a second.
pub fn scale(report: &mut Report) -> Result<()> {
    for (name, count) in [("one", 1), ("many", MANY)] {
        report.add(format!("rate_{name}_per_s"), together(count)?);
    }
    Ok(())
}

fn together(count: usize) -> Result<f64> {
    let program = std::env::current_exe()?;
    let mut all = Vec::new();
    for _ in 0..count {
        let mut child = Command::new(&program)
            .arg("rate")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(line.trim() == "ready", "a process says {line:?}");
        all.push((child, output));
    }
    for (child, _) in &mut all {
        drop(child.stdin.take());
    }
    let mut sum = 0.0;
    for (mut child, mut output) in all {
        let mut line = String::new();
        output.read_line(&mut line)?;
        sum += line.trim().parse::<f64>().context("no rate")?;
        child.wait()?;
    }
    Ok(sum)
}

/// A process with an open context that does nothing until its input ends.
pub fn hold() -> Result<()> {
    let _ready = Ready::new()?;
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}
