//! Every row of the call table is executed by the backend, and by the fake driver where it is the driver's to
//! execute. A new row fails here until a part of a session makes its call: in [`PARTS`], whose driver calls are
//! then also failed one by one, or in [`ANSWERS`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use vgpu_mediator::backend::{BackendSession, Wait};
use vgpu_protocol::Status;
use vgpu_protocol::calls::*;
use vgpu_protocol::limits::*;
use vgpu_protocol::wire::{Arg, Blob, Bytes, List, Text};

use crate::harness::{Channel, DEFAULT, FakeDriver, OpenDriver as _, list, node};
use crate::sweep::{PARTS, Part};

/// Rows that the backend answers without the driver, and why.
const WITHOUT_THE_DRIVER: &[(&str, &str)] = &[
    ("vgpuHello", "the device's own call: who answers"),
    ("vgpuCounters", "the device's own call: its counters"),
    (
        "vgpuDeviceTable",
        "the device's own call: what was asked of the driver when it was opened",
    ),
    (
        "vgpuOutput",
        "the device's own call: text that the worker process has read",
    ),
    (
        "cuInit",
        "the driver was initialised when it was opened; here it is the session's state",
    ),
    (
        "nvmlSystem",
        "NVML is a library of its own, whose stand-in has no log: nvml.rs compares what it says",
    ),
    ("nvmlDeviceValue", "the same"),
    ("nvmlDeviceText", "the same"),
    ("nvmlDeviceGetMemoryInfo", "the VM's share"),
    ("nvmlDeviceGetComputeRunningProcesses", "the VM's processes"),
];

/// What connects, asks and begins: calls of which none can leave anything behind.
const ANSWERS: &[(&str, Part)] = &[
    ("the device's own calls", own_calls),
    ("primary contexts", primary_contexts),
    ("NVML", nvml),
    ("uploads", uploads),
];

fn own_calls(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    assert_eq!(s.hello(ctx, "rows", 1)?.backend, "cuda");
    assert!(!s.device_table(ctx)?.is_empty());
    s.counters(ctx)?;
    let (out, err) = s.output(ctx)?;
    assert!(out.0.is_empty() && err.0.is_empty());
    Ok(())
}

fn primary_contexts(c: &mut Channel, _: CtxId) -> Result<(), Status> {
    let (s, none) = (&mut c.session, CtxId(0));
    let one = s.primary_ctx_retain(none, 0)?;
    assert_eq!(s.primary_ctx_retain(none, 0)?, one, "counted");
    s.primary_ctx_release(none, 0)?;
    s.ctx_synchronize(one)?;
    s.primary_ctx_release(none, 0)?;
    assert!(s.ctx_synchronize(one).is_err(), "the last one destroys it");
    let two = s.primary_ctx_retain(none, 0)?;
    s.primary_ctx_reset(none, 0)?;
    assert!(s.ctx_synchronize(two).is_err(), "whoever uses it");
    Ok(())
}

fn nvml(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    s.nvml_system(ctx)?;
    s.nvml_value(ctx, vgpu_protocol::nvml::NvmlField::Temperature as u32)?;
    s.nvml_text(ctx, vgpu_protocol::nvml::NvmlText::Serial as u32)?;
    s.nvml_memory(ctx)?;
    s.nvml_processes(ctx).map(|_| ())
}

fn uploads(c: &mut Channel, ctx: CtxId) -> Result<(), Status> {
    let s = &mut c.session;
    let to = s.mem_alloc(ctx, 64)?;
    let set = node(|w| request::memset(w, to, 4, 1, 4, DEFAULT), &[]);
    s.graph_instantiate(ctx, GraphId(3), &list(&[set]))?;
    s.graph_upload(ctx, GraphId(3), DEFAULT)?;
    s.graph_destroy(ctx, GraphId(3))?;
    s.physical_granularity(ctx, 0)?;
    s.ctx_get_limit(ctx, 0)?;
    s.event_create(ctx, EventId(4), 0)?;
    s.event_record(ctx, EventId(4), DEFAULT, 0)?;
    s.event_query(ctx, EventId(4))?;
    s.event_destroy(ctx, EventId(4))?;
    s.mem_free(ctx, to)
}

/// How often a row returned without an error, and how often the driver was called meanwhile.
type Rows = Arc<Mutex<BTreeMap<&'static str, (u64, u64)>>>;

/// A session that notes which rows it executes.
struct Noted {
    inner: Box<dyn BackendSession>,
    log: PathBuf,
    rows: Rows,
}

impl Noted {
    fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |data| data.len())
    }

    fn note<T>(
        &mut self,
        opcode: Opcode,
        body: impl FnOnce(&mut dyn BackendSession) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let before = self.log_bytes();
        let result = body(&mut *self.inner);
        if result.is_ok() {
            let mut rows = self.rows.lock().unwrap();
            let (times, of_driver) = rows.entry(opcode.info().name).or_default();
            *times += 1;
            *of_driver += u64::from(self.log_bytes() > before);
        }
        result
    }
}

macro_rules! noted {
    ($(
        #[doc = $section_about:literal]
        trait $section:ident {$(
            #[doc = $about:literal]
            $opcode:literal $mode:ident $name:ident [$page:literal]
            fn $method:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty;
        )*}
    )*) => {
        $(impl $section for Noted {$(
            fn $method(&mut self, ctx: CtxId $(, $arg: <$ty as Arg>::View<'_>)*) -> Result<$out, Status> {
                self.note(Opcode::$name, |inner| inner.$method(ctx $(, $arg)*))
            }
        )*})*
    };
}
vgpu_protocol::calls!(noted);

impl BackendSession for Noted {
    fn take_error(&mut self, ctx: CtxId) -> Option<Status> {
        self.inner.take_error(ctx)
    }

    fn begin(&mut self, may_suspend: bool, over: Option<Result<(), Status>>) {
        self.inner.begin(may_suspend, over);
    }

    fn take_wait(&mut self) -> Option<Wait> {
        self.inner.take_wait()
    }
}

/// The same channel, whose rows are noted.
fn wrap(c: Channel, driver: &FakeDriver, rows: &Rows) -> Channel {
    let Channel {
        session,
        cancel,
        budget,
        arena,
        heap,
        callbacks,
        indices,
    } = c;
    let noted = Noted {
        inner: session,
        log: driver.library.with_extension("log"),
        rows: Arc::clone(rows),
    };
    Channel {
        session: Box::new(noted),
        cancel,
        budget,
        arena,
        heap,
        callbacks,
        indices,
    }
}

#[test]
fn every_row_is_executed_by_the_fake_driver_or_is_named_with_its_reason() {
    let driver = FakeDriver::new("queries");
    let rows = Rows::default();
    let mut c = wrap(Channel::open(&driver.open_whole()), &driver, &rows);
    c.session.init(CtxId(0), 0).expect("cuInit");
    for (name, part) in PARTS.iter().chain(ANSWERS) {
        let ctx = c.session.ctx_create(CtxId(0), 0, 0).expect("a context");
        part(&mut c, ctx).unwrap_or_else(|error| panic!("{name}: {error}"));
        c.session.ctx_destroy(ctx, ctx).expect("destroyed");
    }
    drop(c);
    driver.assert_all_freed();
    let rows = rows.lock().unwrap();
    let of_table: BTreeSet<&str> = CALLS.iter().map(|row| row.name).collect();
    let missing: Vec<_> = of_table
        .iter()
        .filter(|name| !rows.contains_key(*name))
        .collect();
    assert!(missing.is_empty(), "no part calls {missing:?}");
    let without: BTreeSet<&str> = rows
        .iter()
        .filter(|(_, (_, of_driver))| *of_driver == 0)
        .map(|(name, _)| *name)
        .collect();
    let named: BTreeSet<&str> = WITHOUT_THE_DRIVER.iter().map(|(name, _)| *name).collect();
    assert_eq!(without, named, "rows for which the driver is not called");
}
