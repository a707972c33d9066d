//! cuBLAS: every function that the backend calls, against a stand-in (`tests/fake-cuda/src/blas.rs`) that ends
//! the process where an address, a handle or a stream reaches it unchecked.

use vgpu_mediator::backend::cuda::CudaBackend;
use vgpu_protocol::Status;
use vgpu_protocol::blas::{BlasStatus, ty};
use vgpu_protocol::calls::{
    BlasGemm, BlasId, BlasRoutine, CtxId, DevPtr, Level, Routine, StreamId,
};
use vgpu_protocol::limits::MAX_BLAS_HANDLES;

use crate::blas_calls::{
    HANDLE, Memory, PARTS, Part, ROOM, element, every_routine, expected, gemm, handle, level,
    memory, on_the_device, reach, seen, send, shift, target, trsm,
};
use crate::harness::{Channel, DEFAULT, FakeDriver, OpenDriver as _, eventually, path};

const INVALID_VALUE: Status = Status::ERROR_INVALID_VALUE;

fn open(driver: &FakeDriver) -> (Channel, CtxId, Memory) {
    let mut c = Channel::open(&driver.open_whole());
    let ctx = c.context();
    handle(&mut c, ctx);
    let memory = memory(&mut c, ctx);
    (c, ctx, memory)
}

/// `y = alpha x + y` of single precision.
fn axpy(memory: &Memory) -> BlasRoutine {
    every_routine(memory)
        .into_iter()
        .find(|case| case.name == "cublasSaxpy_v2")
        .expect("it is there")
        .op
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_routine_calls_the_function_of_its_name_with_the_arguments_of_the_message() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let mut names = std::collections::BTreeSet::new();
    for case in every_routine(&memory) {
        let before = driver.logged();
        let given = send(&mut c, ctx, case.op.clone());
        let given = given.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        let seen = seen(&driver, before).expect(&case.name);
        assert_eq!(seen.name, case.name);
        let expected = expected(&case.op);
        for (name, value) in &seen.arguments {
            let told = match name.as_str() {
                "mode" => "0".to_owned(),
                // A place of this process.
                "info" if case.name.contains("getrs") => continue,
                "alpha" | "cosine" => hex(&case.op.alpha.value)[..value.len()].to_owned(),
                "beta" | "sine" => hex(&case.op.beta.value)[..value.len()].to_owned(),
                "param" => {
                    let words = case.op.param.map(u64::to_ne_bytes);
                    hex(words.as_flattened())[..value.len()].to_owned()
                }
                "result" => {
                    assert_eq!(given, vec![0x5a; value.parse().unwrap()], "{}", case.name);
                    continue;
                }
                _ => expected
                    .get(name.as_str())
                    .unwrap_or_else(|| panic!("{}: {name}", case.name))
                    .to_string(),
            };
            assert_eq!(*value, told, "{}: {name}", case.name);
        }
        names.insert(case.name);
    }
    assert!(names.len() > 190, "{} functions", names.len());
    drop(c);
    driver.assert_all_freed();
}

/// The stand-in says how far each call reaches. So far a guest's memory must reach, too, and no farther: an
/// element beyond either end, and nothing comes to the library.
#[test]
fn memory_is_checked_to_the_last_element() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let mut edges = 0;
    for case in every_routine(&memory) {
        for op in [case.op.clone(), on_the_device(&memory, &case.op)] {
            let before = driver.logged();
            let sent = send(&mut c, ctx, op.clone());
            sent.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            let touched = seen(&driver, before).expect(&case.name).touched;
            for part in PARTS {
                let Some((low, high)) = reach(&memory, part, &touched) else {
                    continue;
                };
                let (base, one) = (memory[&part], element(&op, part));
                let what = format!("{} {part:?} {low:#x}..{high:#x}", case.name);
                for (last, beyond) in [
                    ((base + ROOM - high) as i64, one),
                    (-((low - base) as i64), -one),
                ] {
                    let mut at_the_edge = op.clone();
                    shift(&mut at_the_edge, part, last);
                    let sent = send(&mut c, ctx, at_the_edge.clone());
                    assert!(sent.is_ok(), "{what}: {sent:?} up to the edge");
                    shift(&mut at_the_edge, part, beyond);
                    let before = driver.logged();
                    let sent = send(&mut c, ctx, at_the_edge);
                    assert_eq!(sent, Err(INVALID_VALUE), "{what} beyond the edge");
                    assert!(seen(&driver, before).is_none(), "{what}");
                    edges += 1;
                }
            }
        }
    }
    assert!(edges > 1500, "{edges} edges");
}

/// Numbers that are chosen to nearly fit: whatever the backend lets through, the stand-in looks at.
#[test]
fn random_messages_reach_no_memory_that_is_not_the_guests() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let cases = every_routine(&memory);
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    };
    let types = [0, 1, 2, 3, 4, 5, 7, 10, 14, 99];
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..30_000 {
        let case = &cases[random(cases.len() as u64) as usize];
        let mut op = case.op.clone();
        if random(2) == 0 {
            op = on_the_device(&memory, &op);
        }
        for _ in 0..=random(3) {
            let size = [0, 1, 2, 31, 64, 200, i64::MAX, -1][random(8) as usize];
            let kind = types[random(10) as usize];
            let far = i64::try_from(random(2 * ROOM)).unwrap() - ROOM as i64;
            match random(17) {
                0 => op.m = size,
                1 => op.n = size,
                2 => op.k = size,
                3 => op.ku = size,
                4 => op.batch = size,
                5 => op.a.ld = size,
                6 => op.b.ld = -size,
                7 => op.c.ld = size,
                8 => op.a.stride = far,
                9 => op.c.stride = -far,
                10 => op.a.ty = kind,
                11 => op.b.ty = kind,
                12 => op.c.ty = kind,
                13 => op.ty = kind,
                14 => op.scalars.0 = kind,
                15 => op.scalars.1 = kind,
                _ => {
                    let part = PARTS[random(7) as usize];
                    shift(&mut op, part, far);
                }
            }
        }
        let op = BlasRoutine {
            transa: random(3) as u32,
            side: random(2) as u32,
            ..op
        };
        match send(&mut c, ctx, op) {
            Ok(_) => taken += 1,
            Err(Status::ERROR_INVALID_VALUE | Status::ERROR_NOT_SUPPORTED) => refused += 1,
            Err(other) => panic!("{}: {other}", case.name),
        }
    }
    assert!(taken > 3000 && refused > 3000, "{taken} and {refused}");
}

type Row = fn(&mut Channel, CtxId, BlasGemm) -> Result<(), Status>;

const GEMMS: [(&str, Row); 3] = [
    ("cublasGemmEx", |c, ctx, op| c.session.blas_gemm(ctx, op)),
    ("cublasGemmBatchedEx", |c, ctx, op| {
        c.session.blas_gemm_batched(ctx, op)
    }),
    ("cublasGemmStridedBatchedEx", |c, ctx, op| {
        c.session.blas_gemm_strided(ctx, op)
    }),
];

#[test]
fn products_of_every_type_have_their_arguments_and_their_edges() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let types = [
        (ty::R_16F, 64, 2),
        (ty::R_16BF, 68, 4),
        (ty::R_32F, 77, 4),
        (ty::C_32F, 68, 8),
        (ty::R_64F, 70, 8),
        (ty::C_64F, 70, 16),
    ];
    for (name, run) in GEMMS {
        for (number, compute, factor) in types {
            for device in [false, true] {
                let mut op = gemm(&memory, number, compute);
                if name != "cublasGemmEx" {
                    op.batch = 3;
                    [op.a.stride, op.b.stride, op.c.stride] = [300, -400, 0];
                }
                if device {
                    op.alpha.device = DevPtr(memory[&Part::Alpha]);
                    op.beta.device = DevPtr(memory[&Part::Beta] + ROOM - factor);
                }
                let before = driver.logged();
                assert_eq!(run(&mut c, ctx, op.clone()), Ok(()), "{name} {number}");
                let seen = seen(&driver, before).expect(name);
                assert_eq!(seen.name, name);
                let mut told: Vec<(&str, i64)> = vec![
                    ("transa", 0),
                    ("transb", 1),
                    ("m", 4),
                    ("n", 8),
                    ("k", 12),
                    ("lda", 20),
                    ("ldb", 24),
                    ("ldc", 28),
                    ("a", op.a.at.0 as i64),
                    ("b", op.b.at.0 as i64),
                    ("c", op.c.at.0 as i64),
                    ("a_type", number.into()),
                    ("b_type", number.into()),
                    ("c_type", number.into()),
                    ("compute", compute.into()),
                    ("algo", -1),
                    ("mode", device.into()),
                ];
                if name != "cublasGemmEx" {
                    told.push(("batch", 3));
                }
                if name == "cublasGemmStridedBatchedEx" {
                    told.extend([("stride_a", 300), ("stride_b", -400), ("stride_c", 0)]);
                }
                for (argument, value) in told {
                    assert_eq!(
                        seen.arguments[argument],
                        value.to_string(),
                        "{name} {argument}"
                    );
                }
                if !device {
                    assert_eq!(
                        seen.arguments["alpha"],
                        hex(&op.alpha.value[..factor as usize])
                    );
                }
                for which in [Part::A, Part::B, Part::C] {
                    let (low, high) = reach(&memory, which, &seen.touched).expect("touched");
                    let base = memory[&which];
                    for (by, beyond) in [
                        ((base + ROOM - high) as i64, 4),
                        (-((low - base) as i64), -4),
                    ] {
                        let moved = |by: i64| {
                            let mut op = op.clone();
                            let at = match which {
                                Part::A => &mut op.a.at,
                                Part::B => &mut op.b.at,
                                _ => &mut op.c.at,
                            };
                            at.0 = at.0.wrapping_add_signed(by);
                            op
                        };
                        assert_eq!(run(&mut c, ctx, moved(by)), Ok(()), "{name} {which:?}");
                        let before = driver.logged();
                        let sent = run(&mut c, ctx, moved(by + beyond));
                        assert_eq!(sent, Err(INVALID_VALUE), "{name} {which:?}");
                        assert!(self::seen(&driver, before).is_none());
                    }
                }
            }
        }
    }
    // One factor here and one there is none of the two modes.
    let mut op = gemm(&memory, ty::R_32F, 68);
    op.alpha.device = DevPtr(memory[&Part::Alpha]);
    assert_eq!(c.session.blas_gemm(ctx, op), Err(INVALID_VALUE));
}

#[test]
fn triangular_systems_of_batches_are_solved_in_every_type() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    for (letter, number) in [
        ("S", ty::R_32F),
        ("D", ty::R_64F),
        ("C", ty::C_32F),
        ("Z", ty::C_64F),
    ] {
        let op = trsm(&memory, number);
        let before = driver.logged();
        assert_eq!(c.session.blas_trsm_batched(ctx, op.clone()), Ok(()));
        let seen = seen(&driver, before).expect("a call");
        assert_eq!(seen.name, format!("cublas{letter}trsmBatched"));
        for (argument, value) in [
            ("side", 1),
            ("uplo", 1),
            ("trans", 1),
            ("diag", 1),
            ("m", 3),
            ("n", 5),
            ("lda", 7),
            ("ldb", 8),
            ("batch", 4),
            ("a", op.a.at.0),
            ("b", op.b.at.0),
        ] {
            assert_eq!(seen.arguments[argument], value.to_string(), "{argument}");
        }
        // Four addresses at the end of the memory, and one of them beyond it.
        let mut last = op.clone();
        last.b.at.0 = memory[&Part::B] + ROOM - 32;
        assert_eq!(c.session.blas_trsm_batched(ctx, last.clone()), Ok(()));
        last.b.at.0 += 8;
        assert_eq!(c.session.blas_trsm_batched(ctx, last), Err(INVALID_VALUE));
    }
}

#[test]
fn stream_modes_and_workspace_are_set_before_the_call_and_only_when_they_change() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    c.session
        .stream_create(ctx, StreamId(1), 1, 0)
        .expect("a stream");
    let run = |c: &mut Channel, stream, math, atomics| {
        let before = driver.logged();
        let mut op = axpy(&memory);
        op.target = target(stream);
        (op.target.math, op.target.atomics) = (math, atomics);
        send(c, ctx, op).expect("it runs");
        let of_blas = |call: &String| call.starts_with("cublas");
        let calls: Vec<String> = driver
            .calls_since(before)
            .into_iter()
            .filter(of_blas)
            .collect();
        let seen = seen(&driver, before).expect("a call");
        (calls, seen.arguments["stream"].clone())
    };
    let pointers = "cublasSetPointerMode_v2";
    let (calls, default) = run(&mut c, DEFAULT, 0, 0);
    assert_eq!(calls, ["cublasSetStream_v2", pointers, "cublasSaxpy_v2"]);
    let (calls, _) = run(&mut c, DEFAULT, 0, 0);
    assert_eq!(calls, [pointers, "cublasSaxpy_v2"]);
    let (calls, other) = run(&mut c, StreamId(1), 0, 0);
    assert_eq!(calls, ["cublasSetStream_v2", pointers, "cublasSaxpy_v2"]);
    assert_ne!(default, other);
    let (calls, _) = run(&mut c, StreamId(1), 1, 1);
    assert_eq!(
        calls,
        [
            "cublasSetMathMode",
            "cublasSetAtomicsMode",
            pointers,
            "cublasSaxpy_v2"
        ]
    );
    // A workspace is one for a stream: that is set anew, as cublasSetStream takes a workspace away.
    let before = driver.logged();
    let at = DevPtr(memory[&Part::A]);
    let (s, here) = (&mut c.session, target(StreamId(1)));
    s.blas_set_workspace(ctx, here.clone(), at, ROOM)
        .expect("set");
    assert_eq!(
        driver.calls_since(before),
        ["cublasSetStream_v2", "cublasSetWorkspace_v2"]
    );
    assert_eq!(
        s.blas_set_workspace(ctx, here.clone(), at, ROOM + 1),
        Err(INVALID_VALUE)
    );
    s.blas_set_workspace(ctx, here, DevPtr(0), 0)
        .expect("taken away");
    assert_eq!(driver.count("cublasSetWorkspace_v2"), 1);
    // The stream that the handle had is gone: the next call sets its own.
    s.stream_destroy(ctx, StreamId(1)).expect("destroyed");
    let (calls, _) = run(&mut c, DEFAULT, 1, 1);
    assert_eq!(calls[0], "cublasSetStream_v2");
}

#[test]
fn an_error_of_the_library_is_a_documented_one_of_cuda_and_the_next_call_works() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    for (blas, status) in [
        (1, Status::ERROR_NOT_INITIALIZED),
        (3, Status::ERROR_OUT_OF_MEMORY),
        (7, INVALID_VALUE),
        (8, Status::ERROR_NOT_SUPPORTED),
        (11, Status::ERROR_UNKNOWN),
        (13, Status::ERROR_UNKNOWN),
        (14, Status::ERROR_UNKNOWN),
        (15, Status::ERROR_NOT_SUPPORTED),
    ] {
        let calls = ["cublasSetStream_v2", "cublasSetPointerMode_v2"];
        for call in calls.into_iter().chain(["cublasSaxpy_v2"]) {
            // A new stream for each, so that it is set.
            c.session
                .stream_create(ctx, StreamId(1), 1, 0)
                .expect("a stream");
            driver.configure(&format!("fail {call} * {blas}"));
            let mut op = axpy(&memory);
            op.target = target(StreamId(1));
            let before = driver.logged();
            assert_eq!(send(&mut c, ctx, op.clone()), Err(status), "{call} {blas}");
            assert!(
                seen(&driver, before).is_none(),
                "nothing is computed after it"
            );
            driver.configure("");
            assert_eq!(send(&mut c, ctx, op), Ok(Vec::new()));
            send(&mut c, ctx, axpy(&memory)).expect("in the default stream");
            c.session
                .stream_destroy(ctx, StreamId(1))
                .expect("destroyed");
        }
    }
    // Every function, once.
    for case in every_routine(&memory) {
        driver.configure(&format!("fail {} * 13", case.name));
        let sent = send(&mut c, ctx, case.op.clone());
        assert_eq!(sent, Err(Status::ERROR_UNKNOWN), "{}", case.name);
    }
    driver.configure("");
    for case in every_routine(&memory) {
        assert!(send(&mut c, ctx, case.op).is_ok(), "{}", case.name);
    }
    drop(c);
    driver.assert_all_freed();
}

#[test]
fn a_handle_that_cannot_be_made_says_why() {
    for status in [1, 3, 8, 15] {
        let driver = FakeDriver::new(&format!("fail cublasCreate_v2 1 {status}"));
        let mut c = Channel::open(&driver.open_whole());
        let ctx = c.context();
        assert_eq!(c.session.blas_create(ctx, HANDLE), Ok(status));
        assert_eq!(c.session.blas_create(ctx, HANDLE), Ok(0), "the second time");
    }
    // A host without the library.
    let driver = FakeDriver::new("");
    let library = path(&driver.library);
    let backend =
        CudaBackend::open_with_blas(library, library, "/nonexistent/libcublas.so", None).unwrap();
    let mut c = Channel::open(&backend);
    let ctx = c.context();
    assert_eq!(
        c.session.blas_create(ctx, HANDLE),
        Ok(BlasStatus::NOT_INITIALIZED.0)
    );
    let memory = memory(&mut c, ctx);
    assert_eq!(
        send(&mut c, ctx, axpy(&memory)),
        Err(Status::ERROR_INVALID_HANDLE)
    );
    assert_eq!(c.session.ctx_synchronize(ctx), Ok(()));
}

#[test]
fn a_function_that_the_library_lacks_costs_only_its_calls() {
    let names = ["cublasSaxpy_v2", "cublasGemmEx", "cublasSetWorkspace_v2"];
    let driver = FakeDriver::without(&names, "");
    let (mut c, ctx, memory) = open(&driver);
    for case in every_routine(&memory) {
        let sent = send(&mut c, ctx, case.op);
        if names.contains(&case.name.as_str()) {
            assert_eq!(sent, Err(Status::ERROR_NOT_SUPPORTED));
        } else {
            assert!(sent.is_ok(), "{}: {sent:?}", case.name);
        }
    }
    let unsupported = Err(Status::ERROR_NOT_SUPPORTED);
    let op = gemm(&memory, ty::R_32F, 68);
    assert_eq!(c.session.blas_gemm(ctx, op.clone()), unsupported);
    assert_eq!(c.session.blas_gemm_strided(ctx, op), Ok(()));
    let at = DevPtr(memory[&Part::A]);
    assert_eq!(
        c.session.blas_set_workspace(ctx, target(DEFAULT), at, 1),
        unsupported
    );
}

#[test]
fn handles_are_the_sessions_own_and_of_one_context() {
    let driver = FakeDriver::new("");
    let backend = driver.open_whole();
    let mut c = Channel::open(&backend);
    let mut other = Channel::open(&backend);
    let (ctx, beside, foreign) = (c.context(), c.context(), other.context());
    handle(&mut c, ctx);
    let memory = memory(&mut c, ctx);
    let op = axpy(&memory);
    assert_eq!(
        send(&mut other, foreign, op.clone()),
        Err(INVALID_VALUE),
        "memory of another session"
    );
    let mut empty = op.clone();
    empty.n = 0;
    assert_eq!(
        send(&mut other, foreign, empty.clone()),
        Err(Status::ERROR_INVALID_HANDLE)
    );
    assert_eq!(
        send(&mut c, beside, empty),
        Err(Status::ERROR_INVALID_CONTEXT)
    );
    let mut unknown = op.clone();
    unknown.target.handle = BlasId(77);
    assert_eq!(
        send(&mut c, ctx, unknown),
        Err(Status::ERROR_INVALID_HANDLE)
    );
    let mut unknown = op.clone();
    unknown.target.stream = StreamId(77);
    assert_eq!(
        send(&mut c, ctx, unknown),
        Err(Status::ERROR_INVALID_HANDLE)
    );
    assert_eq!(
        c.session.blas_destroy(ctx, BlasId(77)),
        Err(Status::ERROR_INVALID_HANDLE)
    );
    // A routine by another row than its own.
    assert_eq!(c.session.blas_level2(ctx, op.clone()), Err(INVALID_VALUE));
    assert_eq!(c.session.blas_destroy(ctx, HANDLE), Ok(()));
    assert_eq!(driver.count("cublasDestroy_v2"), 1);
    assert_eq!(send(&mut c, ctx, op), Err(Status::ERROR_INVALID_HANDLE));
}

#[test]
fn a_session_has_its_maximum_of_handles_and_no_more() {
    let driver = FakeDriver::new("");
    let mut c = Channel::open(&driver.open_whole());
    let ctx = c.context();
    for id in 1..=MAX_BLAS_HANDLES as u32 {
        assert_eq!(c.session.blas_create(ctx, BlasId(id)), Ok(0));
    }
    let more = BlasId(MAX_BLAS_HANDLES as u32 + 1);
    assert_eq!(
        c.session.blas_create(ctx, more),
        Ok(BlasStatus::ALLOC_FAILED.0)
    );
    c.session.blas_destroy(ctx, BlasId(1)).expect("destroyed");
    assert_eq!(c.session.blas_create(ctx, more), Ok(0));
    // They go before their context does; the stand-in looks.
    drop(c);
    assert_eq!(driver.count("cublasDestroy_v2"), MAX_BLAS_HANDLES + 1);
    driver.assert_all_freed();
}

/// The stand-in ends the process where a call would wait for a kernel.
#[test]
fn what_would_wait_in_the_library_waits_before_it() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let module = c.module(ctx);
    let busy = c.kernel(ctx, module, "busy").function;
    let results = every_routine(&memory);
    let results = results
        .into_iter()
        .filter(|case| level(&case.op) == Level::Result);
    for case in results {
        c.launch(ctx, busy, DEFAULT, &5u32.to_le_bytes())
            .expect("a launch");
        let given = send(&mut c, ctx, case.op).expect("a result");
        assert!(!given.is_empty(), "{}", case.name);
    }
    c.launch(ctx, busy, DEFAULT, &5u32.to_le_bytes())
        .expect("a launch");
    assert_eq!(c.session.blas_destroy(ctx, HANDLE), Ok(()));
}

#[test]
fn a_session_that_ends_with_a_running_kernel_leaves_no_handle() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let module = c.module(ctx);
    let endless = c.kernel(ctx, module, "endless").function;
    c.launch(ctx, endless, DEFAULT, &[]).expect("a launch");
    send(&mut c, ctx, axpy(&memory)).expect("behind it");
    c.cancel.set();
    drop(c);
    assert_eq!(driver.count("cublasDestroy_v2"), 0);
    driver.configure("release");
    eventually("the handle goes, and then the context", || {
        driver.count("cublasDestroy_v2") == 1
            && driver.live()
                == "live contexts=0 streams=0 events=0 modules=0 memory=0 pins=0 graphs=0"
    });
}

#[test]
fn a_context_that_has_failed_takes_its_handles_with_it() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    let module = c.module(ctx);
    let illegal = c.kernel(ctx, module, "illegal").function;
    c.launch(ctx, illegal, DEFAULT, &[]).expect("a launch");
    let failed = Status::ERROR_ILLEGAL_ADDRESS;
    assert_eq!(c.session.ctx_synchronize(ctx), Err(failed));
    assert_eq!(send(&mut c, ctx, axpy(&memory)), Err(failed));
    assert_eq!(c.session.blas_create(ctx, BlasId(8)), Err(failed));
    c.session.ctx_destroy(ctx, ctx).expect("destroyed");
    let again = c.session.ctx_create(CtxId(0), 0, 0).expect("a new one");
    handle(&mut c, again);
    let memory = self::memory(&mut c, again);
    assert_eq!(send(&mut c, again, axpy(&memory)), Ok(Vec::new()));
    drop(c);
    driver.assert_all_freed();
}

/// Indices of 64 bits are the only results that the functions of 32-bit sizes do not store.
#[test]
fn long_indices_in_device_memory_are_not_supported_and_long_numbers_are() {
    let driver = FakeDriver::new("");
    let (mut c, ctx, memory) = open(&driver);
    for case in every_routine(&memory) {
        let routine = Routine::from_wire(case.op.routine).expect("a routine");
        if routine.level() != Level::Result {
            continue;
        }
        let mut op = on_the_device(&memory, &case.op);
        op.result_bytes = 8;
        let sent = send(&mut c, ctx, op);
        let index = matches!(routine, Routine::Amax | Routine::Amin);
        let told = if index {
            Err(Status::ERROR_NOT_SUPPORTED)
        } else {
            Ok(Vec::new())
        };
        assert_eq!(sent, told, "{}", case.name);
    }
}
