//! cublasLt: what reaches the host's library, and what does not.

use vgpu_mediator::backend::cuda::CudaBackend;
use vgpu_protocol::Status;
use vgpu_protocol::blas::ty;
use vgpu_protocol::calls::{BlasScalar, CtxId, DevPtr, LtMatmul, LtMatrix, LtTransform};

use crate::harness::{Channel, DEFAULT, FakeDriver, OpenDriver as _, path};

/// A driver with a cublasLt in the same file.
fn channel(driver: &FakeDriver) -> Channel {
    Channel::open(&driver.open_whole())
}

fn matrix(at: u64, rows: u64, cols: u64) -> LtMatrix {
    LtMatrix {
        at: DevPtr(at),
        ty: ty::R_32F,
        rows,
        cols,
        ld: rows as i64,
        batch: 1,
        ..LtMatrix::default()
    }
}

fn number(value: f32) -> BlasScalar {
    let mut scalar = BlasScalar::default();
    scalar.value[..4].copy_from_slice(&value.to_le_bytes());
    scalar
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// `D (2 × 2) = A (2 × 3) B (3 × 2)` in memory that begins at `base`: A, B, C, D, bias at distances of 64
/// bytes.
pub fn product(base: u64) -> LtMatmul {
    LtMatmul {
        compute: 68,
        scale: ty::R_32F,
        epilogue: 1,
        alpha: number(1.0),
        a: matrix(base, 2, 3),
        b: matrix(base + 64, 3, 2),
        beta: number(0.0),
        c: matrix(base + 128, 2, 2),
        d: matrix(base + 192, 2, 2),
        bias_ty: ty::R_32F,
        aux_ty: ty::R_32F,
        ..LtMatmul::default()
    }
}

/// `C (2 × 3) = A (2 × 3)`, row by row.
pub fn transform(base: u64) -> LtTransform {
    LtTransform {
        scale: ty::R_32F,
        alpha: number(1.0),
        a: matrix(base, 2, 3),
        beta: number(0.0),
        c: LtMatrix {
            order: 1,
            ld: 3,
            ..matrix(base + 64, 2, 3)
        },
        ..LtTransform::default()
    }
}

/// Memory of 256 bytes with A, B and C; the bias is C's first column.
fn memory(channel: &mut Channel, ctx: CtxId) -> u64 {
    let base = channel.session.mem_alloc(ctx, 256).expect("memory").0;
    for (at, values) in [
        (0, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..]),
        (64, &[1.0, 0.0, 0.0, 0.0, 1.0, 1.0]),
        (128, &[10.0, 20.0, 30.0, 40.0]),
    ] {
        channel
            .session
            .memcpy_htod_inline(ctx, DevPtr(base + at), DEFAULT, &floats(values))
            .expect("a copy");
    }
    // The stand-in computes at once.
    channel.session.ctx_synchronize(ctx).expect("a wait");
    base
}

fn result(channel: &mut Channel, ctx: CtxId, base: u64) -> Vec<f32> {
    let bytes = channel
        .session
        .memcpy_dtoh_inline(ctx, DevPtr(base + 192), DEFAULT, 16)
        .expect("a copy")
        .0;
    bytes
        .chunks(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

#[test]
fn products_are_the_librarys_and_forms_are_asked_for_once() {
    let driver = FakeDriver::new("");
    let mut channel = channel(&driver);
    let ctx = channel.context();
    assert_eq!(channel.session.blas_lt_create(ctx).map(|r| r.status), Ok(0));
    let base = memory(&mut channel, ctx);
    let run = |channel: &mut Channel, op: LtMatmul| channel.session.blas_lt_matmul(ctx, op);
    assert_eq!(run(&mut channel, product(base)), Ok(()));
    assert_eq!(result(&mut channel, ctx, base), [1.0, 2.0, 8.0, 10.0]);
    // Other factors: the same form.
    let scaled = LtMatmul {
        alpha: number(2.0),
        beta: number(0.5),
        ..product(base)
    };
    assert_eq!(run(&mut channel, scaled), Ok(()));
    assert_eq!(result(&mut channel, ctx, base), [7.0, 14.0, 31.0, 40.0]);
    assert_eq!(driver.count("cublasLtMatmulAlgoGetHeuristic"), 1);
    // A bias is another form, and factors in device memory are one.
    let biased = LtMatmul {
        epilogue: 4,
        bias: DevPtr(base + 128),
        ..product(base)
    };
    assert_eq!(run(&mut channel, biased), Ok(()));
    assert_eq!(result(&mut channel, ctx, base), [11.0, 22.0, 18.0, 30.0]);
    let device = |at| BlasScalar {
        device: DevPtr(at),
        ..BlasScalar::default()
    };
    // B holds a 1 and then a 0.
    let fetched = LtMatmul {
        alpha: device(base + 64),
        beta: device(base + 68),
        ..product(base)
    };
    assert_eq!(run(&mut channel, fetched), Ok(()));
    assert_eq!(result(&mut channel, ctx, base), [1.0, 2.0, 8.0, 10.0]);
    assert_eq!(driver.count("cublasLtMatmulAlgoGetHeuristic"), 3);
    // One handle for the context, which goes before the context does; no descriptor is left.
    assert_eq!(driver.count("cublasLtCreate"), 1);
    channel.session.ctx_destroy(ctx, ctx).expect("destroyed");
    let order: Vec<String> = driver
        .calls()
        .into_iter()
        .filter(|call| call == "cublasLtDestroy" || call.starts_with("cuCtxDestroy"))
        .collect();
    // The first context is the backend's own probe.
    assert_eq!(order[order.len() - 2], "cublasLtDestroy");
    for kind in ["MatmulDesc", "MatrixLayout", "MatmulPreference"] {
        let (made, gone) = (
            driver.count(&format!("cublasLt{kind}Create")),
            driver.count(&format!("cublasLt{kind}Destroy")),
        );
        assert!(made > 0 && made == gone, "{kind}: {made} and {gone}");
    }
}

/// The stand-in ends the process where an address reaches it that is no device memory.
#[test]
fn no_address_reaches_the_library_unchecked() {
    let driver = FakeDriver::new("");
    let mut channel = channel(&driver);
    let ctx = channel.context();
    let base = memory(&mut channel, ctx);
    type Change = fn(&mut LtMatmul);
    let changes: &[(&str, Change)] = &[
        ("A elsewhere", |op| op.a.at.0 += 1 << 40),
        ("A too long", |op| op.a.ld = 40),
        ("B at null", |op| op.b.at.0 = 0),
        ("D beyond the end", |op| op.d.at.0 += 52),
        ("C where beta is not 0", |op| {
            (op.beta, op.c.at) = (number(1.0), DevPtr(64));
        }),
        ("alpha in host memory", |op| {
            op.alpha.device = DevPtr(0x7000)
        }),
        ("a bias that is too short", |op| {
            (op.epilogue, op.bias) = (4, DevPtr(op.a.at.0 + 252));
        }),
        ("bits of ReLU", |op| {
            (op.epilogue, op.aux, op.aux_ld) = (130, DevPtr(op.a.at.0 + 240), 128);
        }),
        ("inputs of GELU", |op| {
            (op.epilogue, op.aux, op.aux_ld) = (160, DevPtr(op.a.at.0 + 220), 8);
        }),
        ("a workspace", |op| {
            (op.workspace, op.workspace_bytes) = (DevPtr(op.a.at.0), 257);
        }),
        ("a batch that goes too far", |op| {
            for x in [&mut op.a, &mut op.b, &mut op.c, &mut op.d] {
                (x.batch, x.stride) = (3, 16);
            }
        }),
        ("a batch that goes back", |op| {
            for x in [&mut op.a, &mut op.b, &mut op.c, &mut op.d] {
                (x.batch, x.stride) = (2, -16);
            }
        }),
        ("lists of addresses", |op| {
            for x in [&mut op.a, &mut op.b, &mut op.c, &mut op.d] {
                (x.batch, x.mode) = (1 << 20, 1);
            }
        }),
        ("sizes beyond any memory", |op| {
            (op.a.cols, op.b.rows) = (i32::MAX as u64, i32::MAX as u64);
            op.b.ld = i64::MAX / 8;
        }),
    ];
    for (what, change) in changes {
        let mut op = product(base);
        change(&mut op);
        let status = channel.session.blas_lt_matmul(ctx, op);
        assert_eq!(status, Err(Status::ERROR_INVALID_VALUE), "{what}");
    }
    assert_eq!(driver.count_with_failures("cublasLtMatmul"), 0);
    // A missing C is none where beta is 0.
    let mut op = product(base);
    op.c.at = DevPtr(0);
    assert_eq!(channel.session.blas_lt_matmul(ctx, op), Ok(()));
}

#[test]
fn no_address_of_a_transformation_reaches_the_library_unchecked() {
    let driver = FakeDriver::new("");
    let mut channel = channel(&driver);
    let ctx = channel.context();
    let base = memory(&mut channel, ctx);
    let run = |channel: &mut Channel, op| channel.session.blas_lt_transform(ctx, op);
    assert_eq!(run(&mut channel, transform(base)), Ok(()));
    type Change = fn(&mut LtTransform);
    let changes: &[(&str, Change)] = &[
        ("A elsewhere", |op| op.a.at.0 += 1 << 40),
        ("A beyond the end", |op| op.a.at.0 += 236),
        ("C before the beginning", |op| op.c.at.0 -= 68),
        ("C too long", |op| op.c.ld = 100),
        ("B in host memory", |op| {
            op.b = LtMatrix {
                at: DevPtr(0x7000),
                ..op.a.clone()
            };
        }),
        ("alpha in host memory", |op| {
            op.alpha.device = DevPtr(0x7000);
            op.beta.device = op.a.at;
        }),
    ];
    for (what, change) in changes {
        let mut op = transform(base);
        change(&mut op);
        let status = run(&mut channel, op);
        assert_eq!(status, Err(Status::ERROR_INVALID_VALUE), "{what}");
    }
    assert_eq!(driver.count_with_failures("cublasLtMatrixTransform"), 1);
    // Its objects go when the call returns, in whichever way.
    driver.configure("fail cublasLtMatrixTransform * 13");
    let status = run(&mut channel, transform(base));
    assert_eq!(status, Err(Status::ERROR_UNKNOWN));
    let (made, gone) = (
        driver.count("cublasLtMatrixTransformDescCreate"),
        driver.count("cublasLtMatrixTransformDescDestroy"),
    );
    assert_eq!((made, gone), (2, 2));
}

#[test]
fn a_host_without_cublaslt_says_so_and_has_all_else() {
    let driver = FakeDriver::without(&["cublasLtCreate"], "");
    let mut channel = channel(&driver);
    let ctx = channel.context();
    let ready = channel.session.blas_lt_create(ctx).expect("an answer");
    // CUBLAS_STATUS_NOT_SUPPORTED: the library lacks the function.
    assert_eq!(ready.status, 15);
    let base = memory(&mut channel, ctx);
    let status = channel.session.blas_lt_matmul(ctx, product(base));
    assert_eq!(status, Err(Status::ERROR_NOT_SUPPORTED));
    assert_eq!(channel.session.ctx_synchronize(ctx), Ok(()));
    // And one without the library.
    let library = path(&driver.library);
    let backend = CudaBackend::open_with_blas(library, library, "/nonexistent/libcublas.so", None)
        .expect("opens");
    let mut channel = Channel::open(&backend);
    let ctx = channel.context();
    let ready = channel.session.blas_lt_create(ctx).expect("an answer");
    assert_eq!(ready.status, 1, "CUBLAS_STATUS_NOT_INITIALIZED");
}
