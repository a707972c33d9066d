//! Every row of the call table, from its stub through dispatch and back.

use std::cell::RefCell;
use std::collections::BTreeSet;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{
    ArenaSpan, CALLS, Calls, CtxId, DevPtr, DeviceInfo, DispatchError, EventId, FunctionId,
    FunctionInfo, HelloInfo, JitOption, Mode, ModuleId, ModuleLoaded, Opcode, Remote, StreamId,
    dispatch, request, stubs,
};
use vgpu_protocol::limits::{
    MAX_CLIENT_BYTES, MAX_INLINE_COPY_BYTES, MAX_JIT_OPTIONS, MAX_NAME_BYTES, MAX_PARAM_BYTES,
};
use vgpu_protocol::wire::{Blob, Reader, WireError, Writer};

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
    DevPtr = DevPtr(0x7f00_0000_1000);
    ArenaSpan = ArenaSpan { position: 1 << 40, bytes: 4096 };
    Vec<JitOption> = vec![JitOption { option: 4, value: 1 << 33 }; 3];
    HelloInfo = HelloInfo { vm_id: 111, channel: 3, backend: "soft".to_owned(), driver_version: 13000 };
    Vec<DeviceInfo> = vec![DeviceInfo { name: "d".to_owned(), uuid: [5; 16], total_bytes: 1 << 34, attributes: vec![(1, 2)], priorities: (0, -5) }];
    ModuleLoaded = ModuleLoaded { status: 218, module: ModuleId(0), info_log: "i".to_owned(), error_log: "e".to_owned() };
    FunctionInfo = FunctionInfo { function: FunctionId(6), params: vec![(0, 8)], attributes: vec![(0, 1024)] };
    (u64, u64) = (1 << 35, 1 << 36);
    (DevPtr, u64) = (DevPtr(1 << 44), 512);
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
    ($($method:ident($($arg:ident: $ty:ty),*) -> $out:ty;)*) => {
        impl Calls for Recorder {
            $(fn $method(&mut self, ctx: CtxId $(, $arg: $ty)*) -> Result<$out, Status> {
                self.log.push(format!("{} {ctx:?} {:?}", stringify!($method), ($($arg,)*)));
                self.fails.map_or_else(|| Ok(<$out as Sample>::sample()), Err)
            })*
        }

        #[test]
        fn every_stub_reaches_its_body_with_its_arguments() {
            let remote = Loopback(RefCell::default(), RefCell::default());
            let mut expected = Vec::new();
            $(
                let answer = stubs::$method(&remote, CtxId(77) $(, <$ty as Sample>::sample())*);
                assert_eq!(answer, Ok(<$out as Sample>::sample()), stringify!($method));
                expected.push(format!("{} CtxId(77) {:?}", stringify!($method), ($(<$ty as Sample>::sample(),)*)));
            )*
            assert_eq!(remote.0.into_inner().log, expected);
            let used: Vec<u16> = remote.1.into_inner().into_iter().map(|o| o as u16).collect();
            let table: Vec<u16> = CALLS.iter().map(|row| row.opcode).collect();
            assert_eq!(used, table, "every row once, in the table's order");
        }

        #[test]
        fn every_body_s_error_reaches_the_caller() {
            let failing = Recorder { log: Vec::new(), fails: Some(Status::ERROR_ILLEGAL_STATE) };
            let remote = Loopback(RefCell::new(failing), RefCell::default());
            $(
                let answer = stubs::$method(&remote, CtxId(1) $(, <$ty as Sample>::sample())*);
                assert_eq!(answer, Err(Status::ERROR_ILLEGAL_STATE), stringify!($method));
            )*
        }
    };
}

rows! {
    hello(client: &str, pid: u32) -> HelloInfo;
    counters() -> String;
    device_table() -> Vec<DeviceInfo>;
    init(flags: u32) -> ();
    primary_ctx_retain(device: u32) -> CtxId;
    primary_ctx_release(device: u32) -> ();
    primary_ctx_reset(device: u32) -> ();
    ctx_create(flags: u32, device: u32) -> CtxId;
    ctx_destroy(which: CtxId) -> ();
    ctx_synchronize() -> ();
    ctx_get_limit(limit: u32) -> u64;
    ctx_set_limit(limit: u32, value: u64) -> ();
    module_load(image: &[u8], options: Vec<JitOption>) -> ModuleLoaded;
    module_unload(module: ModuleId) -> ();
    module_get_function(module: ModuleId, name: &str) -> FunctionInfo;
    module_get_global(module: ModuleId, name: &str) -> (DevPtr, u64);
    func_set_attribute(function: FunctionId, attribute: i32, value: i32) -> ();
    launch_kernel(function: FunctionId, grid: [u32; 3], block: [u32; 3], shared_bytes: u32, stream: StreamId, params: &[u8]) -> ();
    mem_get_info() -> (u64, u64);
    mem_alloc(bytes: u64) -> DevPtr;
    mem_alloc_pitch(width: u64, height: u64, element: u32) -> (DevPtr, u64);
    mem_free(ptr: DevPtr) -> ();
    memcpy_htod_inline(dst: DevPtr, stream: StreamId, data: &[u8]) -> ();
    memcpy_htod(dst: DevPtr, stream: StreamId, span: ArenaSpan) -> ();
    memcpy_dtoh_inline(src: DevPtr, stream: StreamId, bytes: u32) -> Blob;
    memcpy_dtoh(src: DevPtr, stream: StreamId, span: ArenaSpan) -> ();
    memcpy_dtod(dst: DevPtr, src: DevPtr, bytes: u64, stream: StreamId) -> ();
    memset(dst: DevPtr, width: u8, value: u32, count: u64, stream: StreamId) -> ();
    memset_2d(dst: DevPtr, pitch: u64, width: u8, value: u32, count: u64, rows: u64, stream: StreamId) -> ();
    stream_create(stream: StreamId, flags: u32, priority: i32) -> ();
    stream_destroy(stream: StreamId) -> ();
    stream_synchronize(stream: StreamId) -> ();
    stream_query(stream: StreamId) -> ();
    stream_wait_event(stream: StreamId, event: EventId, flags: u32) -> ();
    event_create(event: EventId, flags: u32) -> ();
    event_destroy(event: EventId) -> ();
    event_record(event: EventId, stream: StreamId, flags: u32) -> ();
    event_synchronize(event: EventId) -> ();
    event_query(event: EventId) -> ();
    event_elapsed_time(start: EventId, end: EventId) -> f32;
}

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
        assert!(own || row.page.starts_with("group__CUDA__"), "{}", row.name);
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
    encode_sample(opcode, &mut w);
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

fn encode_sample(opcode: Opcode, w: &mut Writer<'_>) {
    let (s, e, p) = (StreamId(1), EventId(1), DevPtr(1));
    let made = match opcode {
        Opcode::cuModuleUnload => request::module_unload(w, ModuleId(1)),
        Opcode::cuLaunchKernel => {
            request::launch_kernel(w, FunctionId(1), [1; 3], [1; 3], 0, s, &[])
        }
        Opcode::cuMemFree => request::mem_free(w, p),
        Opcode::cuMemcpyHtoD_inline => request::memcpy_htod_inline(w, p, s, &[]),
        Opcode::cuMemcpyHtoD => request::memcpy_htod(w, p, s, ArenaSpan::default()),
        Opcode::cuMemcpyDtoD => request::memcpy_dtod(w, p, p, 1, s),
        Opcode::cuMemsetD => request::memset(w, p, 1, 1, 1, s),
        Opcode::cuMemsetD2D => request::memset_2d(w, p, 1, 1, 1, 1, 1, s),
        Opcode::cuStreamCreateWithPriority => request::stream_create(w, s, 0, 0),
        Opcode::cuStreamDestroy => request::stream_destroy(w, s),
        Opcode::cuStreamWaitEvent => request::stream_wait_event(w, s, e, 0),
        Opcode::cuEventCreate => request::event_create(w, e, 0),
        Opcode::cuEventDestroy => request::event_destroy(w, e),
        Opcode::cuEventRecord => request::event_record(w, e, s, 0),
        other => panic!("{other:?} is posted: add it here"),
    };
    assert_eq!(made, opcode);
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
