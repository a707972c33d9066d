//! Every row of the call table, from its stub through dispatch and back.

use std::cell::RefCell;
use std::collections::BTreeSet;

use vgpu_protocol::Status;
use vgpu_protocol::calls::*;
use vgpu_protocol::limits::*;
use vgpu_protocol::wire::{Arg, Blob, Bytes, List, Reader, Text, WireError, Writer};

/// A value that is not the default of its type.
trait Sample {
    fn sample() -> Self;
}

macro_rules! samples {
    ($($ty:ty = $value:expr;)*) => {$(impl Sample for $ty { fn sample() -> $ty { $value } })*};
}
samples! {
    () = ();
    u8 = 0x12;
    u32 = 0x1234_5678;
    i32 = -0x1234_5678;
    u64 = 0x1234_5678_9abc_def0;
    f32 = 1.5;
    Vec<String> = vec!["kernel".into(), "other".into()];
    [u32; 3] = [3, 5, 7];
    &'static str = "a name";
    &'static [u8] = &[1; 2000];
    String = "text".to_owned();
    Blob = Blob(vec![9; 33]);
    CtxId = CtxId(21);
    ModuleId = ModuleId(22);
    FunctionId = FunctionId(23);
    StreamId = StreamId(24);
    EventId = EventId(25);
    GraphId = GraphId(26);
    Vec<MemOp> = vec![MemOp { kind: 1, address: DevPtr(64), value: 5, flags: 1 }; 2];
    Vec<LaunchAttribute> = vec![LaunchAttribute { id: 8, value: [1, 2, 3, 4, 5, 6, 7, u64::MAX] }; 2];
    LinkId = LinkId(26);
    BlasId = BlasId(26);
    BlasTarget = BlasTarget { handle: BlasId(3), stream: StreamId(4), math: 1, atomics: 1 };
    BlasGemm = BlasGemm { m: 5, alpha: BlasScalar { device: DevPtr(1 << 40), value: [7; 16] }, compute: 68, ..BlasGemm::default() };
    BlasRoutine = BlasRoutine { routine: 21, param: [1, 2, 3, 4, 5], scalars: (6, 7), info: DevPtr(8), ..BlasRoutine::default() };
    BlasTrsmBatched = BlasTrsmBatched { n: -5, a: BlasMatrix { at: DevPtr(9), ty: 1, ld: 3, stride: -4 }, ..BlasTrsmBatched::default() };
    PhysicalId = PhysicalId(39);
    DevPtr = DevPtr(0x7f00_0000_1000);
    ArenaSpan = ArenaSpan { position: 1 << 40, bytes: 4096 };
    Vec<JitOption> = vec![JitOption { option: 4, value: 1 << 33 }; 3];
    HelloInfo = HelloInfo { vm_id: 111, channel: 3, backend: "soft".to_owned(), driver_version: 13000 };
    Vec<DeviceInfo> = vec![DeviceInfo { name: "d".to_owned(), uuid: [5; 16], total_bytes: 1 << 34, attributes: vec![(1, 2)], priorities: (0, -5) }];
    ModuleLoaded = ModuleLoaded { status: 218, module: ModuleId(0), info_log: "i".to_owned(), error_log: "e".to_owned(), managed: (1, DevPtr(2)), managed_bytes: 3 };
    FunctionInfo = FunctionInfo { function: FunctionId(6), params: vec![(0, 8)], attributes: vec![(0, 1024)] };
    NvmlSystem = NvmlSystem { driver_version: "580.65.06".to_owned(), nvml_version: "13.580.65.06".to_owned() };
    Vec<NvmlProcess> = vec![NvmlProcess { pid: 7, used_bytes: 1 << 33, client: "c".to_owned() }];
    (u64, u64) = (1 << 35, 1 << 36);
    (JitReport, Blob) = (JitReport::sample(), Blob(vec![3; 9]));
    JitReport = JitReport { status: 218, info_log: "i".to_owned(), error_log: "e".to_owned() };
    (Blob, Blob) = (Blob(vec![1; 5]), Blob(vec![2; 7]));
    (DevPtr, u64) = (DevPtr(1 << 44), 512);
    (u64, DevPtr) = (1 << 27, DevPtr(1 << 46));
    LtReady = LtReady { status: 7, workspace_bytes: 1 << 25 };
    LtMatmul = LtMatmul { compute: 68, transb: 1, bias: DevPtr(1 << 40), aux_ld: -3, workspace_bytes: 4096, ..LtMatmul::default() };
    LtTransform = LtTransform { scale: 2, transa: 1, ..LtTransform::default() };
}

/// Records what it is asked for, and answers with samples.
#[derive(Default)]
struct Recorder {
    log: Vec<String>,
    fails: Option<Status>,
}

struct Loopback(RefCell<Recorder>, RefCell<Vec<Opcode>>);

impl Remote for Loopback {
    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status> {
        self.1.borrow_mut().push(opcode);
        let payload = request.parts().concat();
        assert!(
            payload.len() as u64 <= opcode.info().max_bytes,
            "{}: {} bytes",
            opcode.info().name,
            payload.len()
        );
        let calls = &mut *self.0.borrow_mut();
        // Every shorter payload, and a longer one, must be refused before the body runs.
        let before = calls.log.len();
        for end in 0..payload.len() {
            let damaged = dispatch(calls, opcode, ctx, &payload[..end], &mut Writer::new());
            assert_eq!(
                damaged,
                Err(DispatchError::Malformed(WireError::Short)),
                "{end} bytes"
            );
        }
        let longer = [&payload[..], &[0]].concat();
        let damaged = dispatch(calls, opcode, ctx, &longer, &mut Writer::new());
        assert_eq!(damaged, Err(DispatchError::Malformed(WireError::Long)));
        assert_eq!(calls.log.len(), before, "a damaged request was executed");

        let mut reply = Writer::new();
        match dispatch(calls, opcode, ctx, &payload, &mut reply) {
            Ok(()) => Ok(decode(&reply.parts().concat()).expect("the reply decodes")),
            Err(DispatchError::Failed(status)) => Err(status),
            Err(DispatchError::Malformed(error)) => panic!("{}: {error}", opcode.info().name),
        }
    }
}

macro_rules! rows {
    ($(
        #[doc = $section_about:literal]
        trait $section:ident {$(
            #[doc = $about:literal]
            $opcode:literal $mode:ident $name:ident [$page:literal]
            fn $method:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty;
        )*}
    )*) => {
        $(impl $section for Recorder {
            $(fn $method(&mut self, ctx: CtxId $(, $arg: <$ty as Arg>::View<'_>)*) -> Result<$out, Status> {
                self.log.push(format!("{} {ctx:?} {:?}", stringify!($method), ($($arg,)*)));
                self.fails.map_or_else(|| Ok(<$out as Sample>::sample()), Err)
            })*
        })*

        #[test]
        fn every_stub_reaches_its_body_with_its_arguments() {
            let remote = Loopback(RefCell::default(), RefCell::default());
            let mut expected = Vec::new();
            $($(
                let answer = stubs::$method(&remote, CtxId(77) $(, sample::<$ty>())*);
                assert_eq!(answer, Ok(<$out as Sample>::sample()), stringify!($method));
                expected.push(format!("{} CtxId(77) {:?}", stringify!($method), ($(sample::<$ty>(),)*)));
            )*)*
            assert_eq!(remote.0.into_inner().log, expected);
            let used: Vec<u16> = remote.1.into_inner().into_iter().map(|o| o as u16).collect();
            let table: Vec<u16> = CALLS.iter().map(|row| row.opcode).collect();
            assert_eq!(used, table, "every row once, in the table's order");
        }

        #[test]
        fn every_body_s_error_reaches_the_caller() {
            let failing = Recorder { log: Vec::new(), fails: Some(Status::ERROR_ILLEGAL_STATE) };
            let remote = Loopback(RefCell::new(failing), RefCell::default());
            $($(
                let answer = stubs::$method(&remote, CtxId(1) $(, sample::<$ty>())*);
                assert_eq!(answer, Err(Status::ERROR_ILLEGAL_STATE), stringify!($method));
            )*)*
        }

        fn encode_sample(opcode: Opcode, w: &mut Writer<'_>) -> Opcode {
            match opcode {
                $($(Opcode::$name => request::$method(w $(, sample::<$ty>())*),)*)*
            }
        }
    };
}

/// The sample of a row's argument, as the caller gives it.
fn sample<A: Arg>() -> A::View<'static>
where
    A::View<'static>: Sample,
{
    Sample::sample()
}

vgpu_protocol::calls!(rows);

#[test]
fn opcodes_are_unique_and_found() {
    let numbers: BTreeSet<u16> = CALLS.iter().map(|row| row.opcode).collect();
    let names: BTreeSet<&str> = CALLS.iter().map(|row| row.name).collect();
    assert_eq!(numbers.len(), CALLS.len());
    assert_eq!(names.len(), CALLS.len());
    for (position, row) in CALLS.iter().enumerate() {
        let opcode = Opcode::from_wire(row.opcode).expect("in the table");
        assert_eq!((opcode.row(), opcode.info().name), (position, row.name));
    }
    for number in 0..=u16::MAX {
        assert_eq!(
            Opcode::from_wire(number).is_some(),
            numbers.contains(&number)
        );
    }
    assert_eq!(Opcode::cuInit as u16, 0x0030, "fixed for ever");
}

#[test]
fn every_row_of_cuda_names_its_page() {
    for row in CALLS {
        let own = row.name.starts_with("vgpu");
        assert_eq!(own, row.page.is_empty(), "{}", row.name);
        let known = ["group__CUDA__", "group__nvml", "cublas"];
        assert!(
            own || known.iter().any(|page| row.page.starts_with(page)),
            "{}",
            row.name
        );
        assert!(
            row.about.trim().ends_with('.'),
            "{}: {}",
            row.name,
            row.about
        );
    }
}

#[test]
fn a_posted_call_returns_nothing() {
    // Its stub decodes an empty reply.
    for row in CALLS.iter().filter(|row| row.mode == Mode::posted) {
        let opcode = Opcode::from_wire(row.opcode).expect("in the table");
        let empty = stub_answer_of_nothing(opcode);
        assert_eq!(empty, Ok(()), "{}", row.name);
    }
}

fn stub_answer_of_nothing(opcode: Opcode) -> Result<(), WireError> {
    // All posted bodies return `()`, whose encoding has no bytes.
    let mut recorder = Recorder::default();
    let mut reply = Writer::new();
    let mut w = Writer::new();
    assert_eq!(encode_sample(opcode, &mut w), opcode);
    dispatch(
        &mut recorder,
        opcode,
        CtxId(0),
        &w.parts().concat(),
        &mut reply,
    )
    .expect("decodes");
    Reader::new(&reply.parts().concat()).finish()
}

/// Length limits of arguments, at the limit and one above.
#[test]
fn arguments_at_their_limits() {
    let outcome = |make: fn(&mut Writer<'_>, usize) -> Opcode, n: usize| {
        let mut w = Writer::new();
        let opcode = make(&mut w, n);
        let payload = w.parts().concat();
        let done = dispatch(
            &mut Recorder::default(),
            opcode,
            CtxId(0),
            &payload,
            &mut Writer::new(),
        );
        (
            done.is_ok(),
            payload.len() as u64 <= opcode.info().max_bytes,
        )
    };
    type Make = fn(&mut Writer<'_>, usize) -> Opcode;
    let rows: [(Make, u32); 5] = [
        (|w, n| request::hello(w, text(n), 1), MAX_CLIENT_BYTES),
        (
            |w, n| request::module_get_function(w, ModuleId(1), text(n)),
            MAX_NAME_BYTES,
        ),
        (
            |w, n| {
                request::launch_kernel(
                    w,
                    FunctionId(1),
                    [1; 3],
                    [1; 3],
                    0,
                    StreamId(0),
                    text(n).as_bytes(),
                )
            },
            MAX_PARAM_BYTES,
        ),
        (
            |w, n| request::memcpy_htod_inline(w, DevPtr(1), StreamId(0), text(n).as_bytes()),
            MAX_INLINE_COPY_BYTES,
        ),
        (
            |w, n| request::module_load(w, &[], vec![JitOption::default(); n]),
            MAX_JIT_OPTIONS,
        ),
    ];
    for (make, limit) in rows {
        let n = limit as usize;
        assert_eq!(outcome(make, n), (true, true), "limit {n}");
        assert!(!outcome(make, n + 1).0, "limit {n} plus one");
    }
}

fn text(bytes: usize) -> &'static str {
    "x".repeat(bytes).leak()
}
