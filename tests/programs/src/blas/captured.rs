//! Calls in a stream that captures: nodes of a graph, of cuBLAS and of cublasLt.

use anyhow::{Result, ensure};

use super::element::{C64, Type};
use super::lt::Lt;
use super::{Blas, Matrix, Random, Test, call, ok};
use crate::graphs::raw::{Mode, Stream, begin, end, status};

pub const TESTS: &[Test] = &[
    ("captured_calls", calls),
    ("captured_waits_are_refused", waits),
];

/// `C = alpha A + beta C` with the identity as B, by `cublasSgemm`.
fn product(blas: &Blas, a: &Matrix, one: &Matrix, c: &Matrix, alpha: f32, beta: f32) -> Result<()> {
    let n = 8i32;
    let status = call!(blas, "cublasSgemm_v2", blas.handle() => u64, 0 => u32, 0 => u32, n => i32, n => i32, n => i32,
        &raw const alpha => *const f32, a.at() => u64, n => i32, one.at() => u64, n => i32,
        &raw const beta => *const f32, c.at() => u64, n => i32);
    ok("cublasSgemm_v2", status)
}

fn identity() -> Result<Matrix> {
    let mut values = vec![C64::ZERO; 64];
    for i in 0..8 {
        values[i * 9] = C64::real(1.0);
    }
    Matrix::of(Type::F32, 8, 8, values)
}

fn set_stream(blas: &Blas, stream: u64) -> Result<()> {
    ok(
        "cublasSetStream_v2",
        call!(blas, "cublasSetStream_v2", blas.handle() => u64, stream => u64),
    )
}

fn calls(blas: &Blas) -> Result<()> {
    let mut random = Random(81);
    let (a, one) = (Matrix::new(Type::F32, 8, 8, 0, &mut random)?, identity()?);
    let (c, d) = (
        Matrix::of(Type::F32, 8, 8, vec![C64::ZERO; 64])?,
        Matrix::of(Type::F32, 8, 8, vec![C64::ZERO; 64])?,
    );
    let lt = Lt::open(&blas.name.replace("cublas", "cublasLt"))?;
    let stream = Stream::new(1)?;
    let handle = stream.0 as u64;
    let captured = |alpha: f32| -> Result<_> {
        begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        set_stream(blas, handle)?;
        // C = alpha A + C, and then D = C by the other library, which doubles it: 2 C.
        product(blas, &a, &one, &c, alpha, 1.0)?;
        lt.scaled(&c, &one, &d, 2.0, handle)?;
        let two = 2i32;
        let scale = 3.0f32;
        let status = call!(blas, "cublasSscal_v2", blas.handle() => u64, two => i32, &raw const scale => *const f32,
            d.at() => u64, 1 => i32);
        ok("cublasSscal_v2", status)?;
        let graph = end(stream.0)?;
        set_stream(blas, 0)?;
        Ok(graph)
    };
    let graph = captured(1.0)?;
    ensure!(
        graph.nodes()?.len() == 3 && graph.edges()? == 2,
        "the graph's shape"
    );
    c.compare("nothing was executed yet", |_, _| (C64::ZERO, 0.0))?;
    let exec = graph.exec()?;
    let check = |times: f64| -> Result<()> {
        stream.wait()?;
        c.compare("C", |i, j| (C64::real(times) * a.get(i, j), 1e-5))?;
        d.compare("D", |i, j| {
            let scale = if j == 0 && i < 2 { 6.0 } else { 2.0 };
            (C64::real(scale * times) * a.get(i, j), 1e-4)
        })
    };
    exec.launch(stream.0)?;
    check(1.0)?;
    exec.launch(stream.0)?;
    exec.launch(stream.0)?;
    check(3.0)?;
    // Captured anew with another factor, the executable graph is updated.
    let other = captured(-0.5)?;
    // SAFETY: a live executable graph and a live graph; a place for the result.
    unsafe {
        let mut info = std::mem::zeroed();
        crate::call!(cuGraphExecUpdate_v2(exec.0, other.0, &mut info))
    }?;
    exec.launch(stream.0)?;
    check(2.5)
}

/// A result in host memory cannot be waited for: the capture ends, and nothing else is harmed.
fn waits(blas: &Blas) -> Result<()> {
    let x = Matrix::new(Type::F32, 8, 1, 0, &mut Random(82))?;
    let stream = Stream::new(1)?;
    begin(stream.0, Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    set_stream(blas, stream.0 as u64)?;
    let mut norm = 0f32;
    let run = |norm: &mut f32| -> Result<u32> {
        Ok(
            call!(blas, "cublasSnrm2_v2", blas.handle() => u64, 8 => i32, x.at() => u64, 1 => i32, norm => *mut f32),
        )
    };
    ensure!(run(&mut norm)? != 0, "a result was given in a capture");
    ensure!(status(stream.0)? == 2, "the capture goes on");
    ensure!(end(stream.0).is_err(), "the capture ended well");
    ok("cublasSnrm2_v2", run(&mut norm)?)?;
    set_stream(blas, 0)
}
