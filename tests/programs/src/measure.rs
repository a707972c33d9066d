//! Measurements that a program can make on any CUDA device, so that the same numbers can be taken from NVIDIA's own
//! driver and through vgpu-stub. Each section is short: the caller takes turns between devices.

use std::ffi::c_void;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::ptr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::blas::Blas;
use crate::call;
use crate::cuda::{self, Arguments, Buffer, Context, Function, Module, Shape, Stream, sys};

/// The sections, in the order of the table.
pub const SECTIONS: [&str; 7] = [
    "call",
    "launches",
    "chain",
    "copies",
    "gemm",
    "module",
    "processes",
];

/// Launches of the chain.
const CHAIN: u32 = 10_000;

/// Kernels of a graph.
const GRAPH_KERNELS: u32 = 500;

/// Sizes of copies, in bytes.
const COPIES: [(&str, usize); 4] = [
    ("4k", 4 << 10),
    ("1m", 1 << 20),
    ("64m", 64 << 20),
    ("1g", 1 << 30),
];

/// Sides of square matrices.
const SIDES: [usize; 4] = [1024, 2048, 4096, 8192];

/// A kernel that does nothing, and one whose every launch shows in the result.
const PTX: &str = r"
.version 7.0
.target sm_50
.address_size 64
.visible .entry nothing()
{
    ret;
}
.visible .entry step(.param .u64 p)
{
    .reg .b32 %r<3>; .reg .b64 %d<2>;
    ld.param.u64 %d1, [p];
    ld.global.u32 %r1, [%d1]; mad.lo.u32 %r2, %r1, 3, 1; st.global.u32 [%d1], %r2;
    ret;
}
";

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All that the table asks for.
    Full,
    /// Without what takes minutes on a device that is no GPU.
    Small,
    /// A look whether it works.
    Quick,
}

impl Size {
    fn count(self, full: u32) -> u32 {
        match self {
            Size::Full => full,
            Size::Small => full / 4,
            Size::Quick => full / 50,
        }
    }
}

/// Names with numbers, or with the reason why there is none.
#[derive(Debug, Default)]
pub struct Values(Vec<(String, Result<f64, String>)>);

impl Values {
    fn add(&mut self, name: &str, value: Result<f64>) {
        let value = value.map_err(|error| format!("{error:#}"));
        self.0.push((name.to_owned(), value));
    }

    /// One JSON object: a number, or a text where there is none.
    pub fn json(&self) -> String {
        let mut out = String::from("{");
        for (name, value) in &self.0 {
            let comma = if out.len() > 1 { ", " } else { "" };
            // Writing to a String cannot fail.
            let _ = match value {
                Ok(number) if number.is_finite() => write!(out, "{comma}\"{name}\": {number:.6}"),
                Ok(_) => write!(out, "{comma}\"{name}\": \"no number\""),
                Err(why) => {
                    let why: String = why
                        .chars()
                        .map(|c| {
                            if c.is_control() || c == '"' || c == '\\' {
                                ' '
                            } else {
                                c
                            }
                        })
                        .collect();
                    write!(out, "{comma}\"{name}\": \"{why}\"")
                }
            };
        }
        out + "}"
    }
}

/// The middle one.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Makes one section's measurements.
pub fn section(name: &str, size: Size) -> Result<Values> {
    let mut values = Values::default();
    if name == "processes" {
        processes(size, &mut values);
        return Ok(values);
    }
    cuda::init()?;
    let context = Context::primary()?;
    match name {
        "call" => calls(&context, size, &mut values)?,
        "launches" => launches(&context, size, &mut values)?,
        "chain" => values.add("dependent_launches_10000_ms", chain(&context, size)),
        "copies" => copies(&context, size, &mut values)?,
        "gemm" => gemm(&context, size, &mut values),
        "module" => modules(size, &mut values),
        other => bail!("no section {other}; there are {}", SECTIONS.join(", ")),
    }
    Ok(values)
}

/// Calls that go to the driver and back.
fn calls(context: &Context, size: Size, values: &mut Values) -> Result<()> {
    let count = size.count(10_000);
    let mut samples = Vec::new();
    for _ in 0..count {
        samples.push(seconds(|| cuda::memory().map(|_| ()))? * 1e9);
    }
    values.add("waiting_call_ns", Ok(median(samples)));
    let mut samples = Vec::new();
    for _ in 0..count {
        samples.push(seconds(|| context.synchronize())? * 1e9);
    }
    values.add("idle_synchronize_ns", Ok(median(samples)));
    let module = Module::load(PTX)?;
    let nothing = module.function("nothing")?;
    let mut samples = Vec::new();
    for _ in 0..count {
        let once = seconds(|| {
            launch(&nothing, None)?;
            context.synchronize()
        });
        samples.push(once? * 1e9);
    }
    values.add("launch_and_wait_ns", Ok(median(samples)));
    Ok(())
}

fn launch(function: &Function, stream: Option<&Stream>) -> Result<()> {
    function.launch(Shape::grid(1, 32), stream, &Arguments::new())?;
    Ok(())
}

/// Launches of an empty kernel per second, in one stream and in four, each by itself and as graphs.
fn launches(context: &Context, size: Size, values: &mut Values) -> Result<()> {
    let module = Module::load(PTX)?;
    let nothing = module.function("nothing")?;
    let streams = (0..4).map(|_| Stream::new()).collect::<Result<Vec<_>>>()?;
    let count = size.count(100_000);
    for used in [1, 4] {
        let streams = &streams[..used];
        let round = |count: u32| -> Result<f64> {
            let took = seconds(|| {
                for i in 0..count {
                    launch(&nothing, streams.get(i as usize % used))?;
                }
                context.synchronize()
            })?;
            Ok(f64::from(count) / took)
        };
        round(count / 10)?;
        values.add(&format!("launches_{used}_streams_per_s"), round(count));
        let graphs = streams
            .iter()
            .map(|stream| {
                Graph::capture(stream, || {
                    (0..GRAPH_KERNELS).try_for_each(|_| launch(&nothing, Some(stream)))
                })
            })
            .collect::<Result<Vec<_>>>();
        let rate = graphs.and_then(|graphs| {
            let turns = (count / GRAPH_KERNELS).max(4);
            let round = |turns: u32| -> Result<f64> {
                let took = seconds(|| {
                    for i in 0..turns as usize {
                        graphs[i % used].launch(&streams[i % used])?;
                    }
                    context.synchronize()
                })?;
                Ok(f64::from(turns * GRAPH_KERNELS) / took)
            };
            round(2)?;
            round(turns)
        });
        values.add(&format!("graph_kernels_{used}_streams_per_s"), rate);
    }
    Ok(())
}

/// An executable graph.
struct Graph(sys::CUgraphExec);

impl Graph {
    fn capture(stream: &Stream, work: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream exists.
        unsafe { call!(cuStreamBeginCapture_v2(stream.raw(), mode)) }?;
        let worked = work();
        let mut graph = ptr::null_mut();
        // SAFETY: the stream is capturing; `graph` is writable.
        let ended = unsafe { call!(cuStreamEndCapture(stream.raw(), &mut graph)) };
        worked?;
        ended?;
        let mut exec = ptr::null_mut();
        // SAFETY: the graph was just made; `exec` is writable.
        let made = unsafe { call!(cuGraphInstantiateWithFlags(&mut exec, graph, 0)) };
        // SAFETY: it is ours, and destroyed once.
        unsafe { call!(cuGraphDestroy(graph)) }?;
        made?;
        Ok(Graph(exec))
    }

    fn launch(&self, stream: &Stream) -> Result<()> {
        // SAFETY: both exist.
        unsafe { call!(cuGraphLaunch(self.0, stream.raw())) }.map_err(Into::into)
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: it is ours, and destroyed once.
        let _ = unsafe { call!(cuGraphExecDestroy(self.0)) };
    }
}

/// Launches of which each needs the one before: the result shows that all were made, in order.
fn chain(context: &Context, size: Size) -> Result<f64> {
    let module = Module::load(PTX)?;
    let step = module.function("step")?;
    let word = Buffer::<u32>::zeros(1)?;
    let arguments = Arguments::new().with(word.address());
    let count = if size == Size::Quick {
        CHAIN / 10
    } else {
        CHAIN
    };
    let took = seconds(|| {
        for _ in 0..count {
            step.launch(Shape::grid(1, 1), None, &arguments)?;
        }
        context.synchronize()
    })?;
    let wanted = (0..count).fold(0u32, |word, _| word.wrapping_mul(3).wrapping_add(1));
    let found = word.read()?;
    ensure!(
        found == [wanted],
        "the chain came to {found:?}, expected {wanted}"
    );
    Ok(took * 1e3 * f64::from(CHAIN) / f64::from(count))
}

/// Pinned memory.
struct Pinned {
    at: *mut c_void,
    bytes: usize,
}

impl Pinned {
    fn new(bytes: usize) -> Result<Pinned> {
        let mut at = ptr::null_mut();
        // SAFETY: `at` is writable.
        unsafe { call!(cuMemHostAlloc(&mut at, bytes, 0)) }?;
        Ok(Pinned { at, bytes })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: readable and writable for that long, ours alone, and any byte is one.
        unsafe { std::slice::from_raw_parts_mut(self.at.cast(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it is ours, and freed once.
        let _ = unsafe { call!(cuMemFreeHost(self.at)) };
    }
}

/// GB/s of copies both ways, from memory of the program and from pinned memory.
fn copies(context: &Context, size: Size, values: &mut Values) -> Result<()> {
    let stream = Stream::new()?;
    for (name, bytes) in COPIES {
        if bytes
            > match size {
                Size::Full => usize::MAX,
                Size::Small => 64 << 20,
                Size::Quick => 1 << 20,
            }
        {
            continue;
        }
        let rounds = ((256 << 20) / bytes).clamp(3, size.count(2000).max(3) as usize);
        let device = match Buffer::<u8>::new(bytes) {
            Ok(device) => device,
            Err(error) => {
                let why = format!("{error:#}");
                for kind in ["pageable", "pinned"] {
                    for way in ["h2d", "d2h"] {
                        values.add(
                            &format!("{way}_{kind}_{name}_gbps"),
                            Err(anyhow::anyhow!("{why}")),
                        );
                    }
                }
                continue;
            }
        };
        let rate = |mut once: Box<dyn FnMut() -> Result<()> + '_>| -> Result<f64> {
            once()?;
            let mut samples = Vec::new();
            for _ in 0..rounds {
                samples.push(bytes as f64 / 1e9 / seconds(&mut once)?);
            }
            Ok(median(samples))
        };
        let pattern: Vec<u8> = (0..bytes).map(|i| ((i * 31) >> 3) as u8).collect();
        let mut back = vec![0u8; bytes];
        values.add(
            &format!("h2d_pageable_{name}_gbps"),
            rate(Box::new(|| {
                device.write(black_box(&pattern))?;
                // The copy is through when the device has the data, not when the call returns.
                context.synchronize()
            })),
        );
        values.add(
            &format!("d2h_pageable_{name}_gbps"),
            rate(Box::new(|| device.read_into(&mut back))),
        );
        ensure!(back == pattern, "{bytes} bytes came back changed");
        match Pinned::new(bytes) {
            Ok(mut pinned) => {
                pinned.bytes().copy_from_slice(&pattern);
                let up = rate(Box::new(|| {
                    device.write_async(pinned.bytes(), &stream)?.wait()
                }));
                values.add(&format!("h2d_pinned_{name}_gbps"), up);
                pinned.bytes().fill(0);
                let down = rate(Box::new(|| {
                    device.read_async(pinned.bytes(), &stream)?.wait()
                }));
                values.add(&format!("d2h_pinned_{name}_gbps"), down);
                ensure!(
                    pinned.bytes() == pattern,
                    "{bytes} pinned bytes came back changed"
                );
            }
            Err(error) => {
                let why = format!("{error:#}");
                for way in ["h2d", "d2h"] {
                    values.add(
                        &format!("{way}_pinned_{name}_gbps"),
                        Err(anyhow::anyhow!("{why}")),
                    );
                }
            }
        }
    }
    Ok(())
}

/// TFLOP/s of cuBLAS products.
fn gemm(context: &Context, size: Size, values: &mut Values) {
    // Newest first, as the device looks for the host's.
    let blas = ["libcublas.so.13", "libcublas.so.12", "libcublas.so.11"]
        .into_iter()
        .find_map(|name| Blas::open(name).ok());
    let sides = match size {
        Size::Full => &SIDES[..],
        Size::Small => &SIDES[..1],
        Size::Quick => &[256],
    };
    for (name, kind) in [("sgemm", GemmKind::F32), ("bf16_gemm", GemmKind::Bf16)] {
        for side in sides {
            let rate = match &blas {
                Some(blas) => product(context, blas, kind, *side, size),
                None => Err(anyhow::anyhow!(
                    "no libcublas.so.13, .12 or .11 on the library path"
                )),
            };
            values.add(&format!("{name}_{side}_tflops"), rate);
        }
    }
}

#[derive(Clone, Copy)]
enum GemmKind {
    F32,
    Bf16,
}

fn product(context: &Context, blas: &Blas, kind: GemmKind, n: usize, size: Size) -> Result<f64> {
    // cudaDataType and cublasComputeType_t: CUDA_R_32F, CUDA_R_16BF, CUBLAS_COMPUTE_32F.
    let (bytes, data_type) = match kind {
        GemmKind::F32 => (4, 0i32),
        GemmKind::Bf16 => (2, 14),
    };
    // The same value everywhere, 1.0: every element of the product is n.
    let one: &[u8] = match kind {
        GemmKind::F32 => &[0, 0, 0x80, 0x3f],
        GemmKind::Bf16 => &[0x80, 0x3f],
    };
    let ones = one.repeat(n * n);
    let (a, b) = (Buffer::<u8>::from(&ones)?, Buffer::<u8>::from(&ones)?);
    let c = Buffer::<f32>::zeros(n * n)?;
    let at = blas.symbol("cublasGemmEx")?;
    type GemmEx = unsafe extern "C" fn(
        u64,
        i32,
        i32,
        i32,
        i32,
        i32,
        *const f32,
        u64,
        i32,
        i32,
        u64,
        i32,
        i32,
        *const f32,
        u64,
        i32,
        i32,
        u32,
        i32,
    ) -> u32;
    // SAFETY: the function of this name has these parameters (cublas_api.h, since version 11).
    let gemm_ex: GemmEx = unsafe { std::mem::transmute(at) };
    let (alpha, beta, side) = (1f32, 0f32, n as i32);
    let once = || -> Result<()> {
        // SAFETY: three matrices of n × n elements of these types in device memory, two floats here.
        let status = unsafe {
            gemm_ex(
                blas.handle(),
                0,
                0,
                side,
                side,
                side,
                &alpha,
                a.address(),
                data_type,
                side,
                b.address(),
                data_type,
                side,
                &beta,
                c.address(),
                0,
                side,
                68,
                -1,
            )
        };
        ensure!(status == 0, "cublasGemmEx returned {status}");
        Ok(())
    };
    debug_assert_eq!(ones.len(), n * n * bytes);
    once()?;
    context.synchronize()?;
    let flops = 2.0 * (n as f64).powi(3);
    // A tenth of a second on a fast GPU, once on anything slow.
    let turns = match size {
        Size::Full => (1e13 / flops).clamp(3.0, 200.0) as u32,
        Size::Small | Size::Quick => 2,
    };
    let took = seconds(|| {
        for _ in 0..turns {
            once()?;
        }
        context.synchronize()
    })?;
    let mut corner = [0f32; 1];
    c.read_into(&mut corner)?;
    ensure!(
        corner[0] == n as f32,
        "the product is {}, expected {n}",
        corner[0]
    );
    Ok(flops * f64::from(turns) / took / 1e12)
}

/// Milliseconds that the driver takes to compile a module that it has never seen, and to load it again.
fn modules(size: Size, values: &mut Values) {
    let kernels = size.count(200).max(4);
    // Different each time: the driver keeps what it has compiled.
    let seed = Instant::now().elapsed().as_nanos() as u64
        ^ std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as u64)
        ^ u64::from(std::process::id()) << 40;
    let mut text = String::from(".version 7.0\n.target sm_50\n.address_size 64\n");
    for kernel in 0..kernels {
        let _ = write!(
            text,
            ".visible .entry k{kernel}(.param .u64 p)\n{{\n.reg .b32 %r<66>; .reg .b64 %d<2>;\nld.param.u64 %d1, [p];\nld.global.u32 %r1, [%d1];\n"
        );
        for i in 1..64u64 {
            let constant = (seed ^ (u64::from(kernel) * 77) ^ (i * 0x9e37)) as u32 >> 1;
            let _ = writeln!(text, "mad.lo.u32 %r{}, %r{i}, {constant}, {i};", i + 1);
        }
        text.push_str("st.global.u32 [%d1], %r64;\nret;\n}\n");
    }
    let load = || -> Result<f64> {
        Ok(1e3
            * seconds(|| {
                let module = Module::load(&text)?;
                // With lazy loading the work is done at a kernel's first use.
                for kernel in 0..kernels {
                    module.function(&format!("k{kernel}"))?;
                }
                Ok(())
            })?)
    };
    values.add("module_first_load_ms", load());
    values.add("module_second_load_ms", load());
}

/// Two processes at once, each as fast as it can: the sum of both.
fn processes(size: Size, values: &mut Values) {
    let run = || -> Result<[String; 2]> {
        let program = std::env::current_exe()?;
        let start = || {
            let mut command = Command::new(&program);
            command
                .args(["launches", size_word(size)])
                .stdout(Stdio::piped());
            command.spawn().context("start the program once more")
        };
        let children = [start()?, start()?];
        let mut texts = Vec::new();
        for child in children {
            let output = child.wait_with_output()?;
            ensure!(
                output.status.success(),
                "one of two processes: {}",
                output.status
            );
            texts.push(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        texts
            .try_into()
            .map_err(|_| anyhow::anyhow!("two processes"))
    };
    let sum = run().and_then(|texts| {
        texts
            .iter()
            .map(|text| number(text, "launches_1_streams_per_s"))
            .sum::<Result<f64>>()
    });
    values.add("two_processes_launches_per_s", sum);
}

fn number(json: &str, name: &str) -> Result<f64> {
    let (_, rest) = json
        .split_once(&format!("\"{name}\": "))
        .with_context(|| format!("no {name}"))?;
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    rest[..end].parse().with_context(|| rest[..end].to_owned())
}

/// The option of the program.
pub fn size_word(size: Size) -> &'static str {
    match size {
        Size::Full => "--full",
        Size::Small => "--small",
        Size::Quick => "--quick",
    }
}

/// Longest time that a section takes on a GPU; for whoever runs the program.
pub const SECTION_LIMIT: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_reasons_are_one_object() {
        let mut values = Values::default();
        values.add("a", Ok(1.5));
        values.add("b", Err(anyhow::anyhow!("no \"b\"\n")));
        values.add("c", Ok(f64::NAN));
        let json = values.json();
        assert_eq!(json, r#"{"a": 1.500000, "b": "no  b  ", "c": "no number"}"#);
        assert_eq!(number(&json, "a").ok(), Some(1.5));
        assert!(number(&json, "b").is_err() && number(&json, "z").is_err());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
    }
}
