//! The host's side of the fake device: enough of each call for the guest's logic to be tested.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

use vgpu_protocol::Status;
use vgpu_protocol::calls::*;
use vgpu_protocol::layout::{Layout, index};
use vgpu_protocol::ranges::FreeRanges;
use vgpu_protocol::window::Window;
use vgpu_protocol::wire::Blob;

/// Device memory that the fake has, in bytes.
pub const DEVICE_BYTES: u64 = 256 << 20;

/// Kernels of every module, with offset and size of their parameters: `vector_add(a, b, c, n)` and
/// `fault()`, whose launch fails.
pub const KERNELS: &[(&str, &[(u32, u32)])] = &[
    ("vector_add", &[(0, 8), (8, 8), (16, 8), (24, 4)]),
    ("fault", &[]),
];

#[derive(Debug)]
struct Alloc {
    channel: u32,
    data: Vec<u8>,
}

/// The host.
#[derive(Debug, Default)]
pub struct Host {
    channel: u32,
    windows: Option<(Window, Window)>,
    allocs: BTreeMap<u64, Alloc>,
    next: u64,
    primary: (u32, u32),
    contexts: HashSet<u32>,
    modules: HashMap<u32, usize>,
    streams: HashSet<u32>,
    events: HashSet<u32>,
    /// Every call so far, by name.
    pub calls: Vec<&'static str>,
    /// Parameter block of the last launch.
    pub params: Vec<u8>,
    /// Stream of the last launch, copy or set.
    pub stream: u32,
    /// Context of the last launch.
    pub ctx: u32,
    /// Options of the last load.
    pub options: Vec<JitOption>,
    /// Text of kernels that is left to take.
    pub text: (Blob, Blob),
    /// Length and sum of the bytes of the last image.
    pub image: (usize, u64),
    bar1: Option<Window>,
    heap: FreeRanges,
    /// Pieces of the heap: owner, place in BAR1, memory.
    pinned: BTreeMap<u64, (u32, u64, Window)>,
}

type Done<T> = Result<T, Status>;

impl Host {
    /// Begins a call.
    pub fn enter(&mut self, channel: u32, opcode: Opcode, index: Window, arena: Window) {
        self.channel = channel;
        self.windows = Some((index, arena));
        self.calls.push(opcode.info().name);
    }

    /// Whether there is text of kernels to take.
    pub fn has_text(&self) -> bool {
        !self.text.0.0.is_empty() || !self.text.1.0.is_empty()
    }

    /// Says where the heap is.
    pub fn heap_at(&mut self, layout: &Layout, bar1: Window) {
        self.bar1 = Some(bar1);
        self.heap = FreeRanges::new(layout.heap(), layout.bar1_bytes - layout.heap());
    }

    /// Free bytes of the heap.
    pub fn heap_bytes(&self) -> u64 {
        self.heap.total()
    }

    fn give(&mut self, at: u64, window: Window) {
        let zeros = vec![0; window.len()];
        window.write(0, &zeros).expect("inside");
        self.heap.give(at, window.len() as u64);
    }

    /// Frees what a channel had.
    pub fn forget(&mut self, channel: u32) {
        self.allocs.retain(|_, a| a.channel != channel);
        let of: Vec<_> = self.pinned.extract_if(.., |_, p| p.0 == channel).collect();
        for (_, (_, at, window)) in of {
            self.give(at, window);
        }
    }

    /// The piece of the heap that holds a range, and where the range begins in it.
    fn pinned_at(&self, at: DevPtr, bytes: u64) -> Option<(Window, u64)> {
        let (base, (_, _, window)) = self.pinned.range(..=at.0).next_back()?;
        window.slice(at.0 - base, bytes).ok()?;
        Some((*window, at.0 - base))
    }

    fn load(&mut self, at: DevPtr, bytes: u64) -> Done<Vec<u8>> {
        match self.pinned_at(at, bytes) {
            Some((window, from)) => {
                let mut data = vec![0; bytes as usize];
                window.read(from, &mut data).expect("inside");
                Ok(data)
            }
            None => Ok(self.bytes(at, bytes)?.to_vec()),
        }
    }

    fn store(&mut self, at: DevPtr, data: &[u8]) -> Done<()> {
        match self.pinned_at(at, data.len() as u64) {
            Some((window, to)) => window.write(to, data).map_err(|_| Status::ERROR_UNKNOWN),
            None => {
                self.bytes(at, data.len() as u64)?.copy_from_slice(data);
                Ok(())
            }
        }
    }

    /// Number of live allocations.
    pub fn allocations(&self) -> usize {
        self.allocs.len()
    }

    /// How often a call came.
    pub fn count(&self, name: &str) -> usize {
        self.calls.iter().filter(|c| **c == name).count()
    }

    /// Streams and events that live.
    pub fn objects(&self) -> (usize, usize) {
        (self.streams.len(), self.events.len())
    }

    fn bytes(&mut self, at: DevPtr, bytes: u64) -> Done<&mut [u8]> {
        let (base, alloc) = self
            .allocs
            .range_mut(..=at.0)
            .next_back()
            .ok_or(Status::ERROR_ILLEGAL_ADDRESS)?;
        let from = (at.0 - base) as usize;
        alloc
            .data
            .get_mut(from..from + bytes as usize)
            .ok_or(Status::ERROR_ILLEGAL_ADDRESS)
    }

    fn arena_done(&self, span: &ArenaSpan) {
        let (index, _) = self.windows.expect("in a call");
        let head = index.word64(index::ARENA_HEAD).expect("inside");
        head.fetch_max(span.position + span.bytes, Ordering::AcqRel);
    }

    fn arena(&self, span: &ArenaSpan) -> Window {
        let (_, arena) = self.windows.expect("in a call");
        arena
            .slice(span.position % arena.len() as u64, span.bytes)
            .expect("inside")
    }
}

impl DeviceCalls for Host {
    fn hello(&mut self, _: CtxId, _: &str, _: u32) -> Done<HelloInfo> {
        Ok(HelloInfo {
            vm_id: 111,
            channel: self.channel,
            backend: "fake".into(),
            driver_version: 12_080,
        })
    }
    fn counters(&mut self, _: CtxId) -> Done<String> {
        Ok("{}".into())
    }
    fn device_table(&mut self, _: CtxId) -> Done<Vec<DeviceInfo>> {
        let attributes = [
            (1, 1024),
            (2, 1024),
            (3, 1024),
            (4, 64),
            (5, i32::MAX),
            (6, 65535),
            (7, 65535),
            (8, 48 << 10),
            (10, 32),
            (12, 65536),
            (16, 8),
            (33, 9),
            (34, 9),
            (39, 2048),
            (75, 9),
            (76, 0),
            (81, 228 << 10),
            (82, 65536),
            (97, 227 << 10),
            (106, 32),
        ];
        Ok(vec![DeviceInfo {
            name: "fake device".into(),
            uuid: *b"0123456789abcdef",
            total_bytes: DEVICE_BYTES,
            attributes: attributes.into(),
            priorities: (0, -5),
        }])
    }
    fn init(&mut self, _: CtxId, flags: u32) -> Done<()> {
        if flags == 0 {
            Ok(())
        } else {
            Err(Status::ERROR_INVALID_VALUE)
        }
    }
}

impl ContextCalls for Host {
    fn primary_ctx_retain(&mut self, _: CtxId, _: u32) -> Done<CtxId> {
        if self.primary.1 == 0 {
            self.next += 1;
            self.primary.0 = self.next as u32;
            self.contexts.insert(self.primary.0);
        }
        self.primary.1 += 1;
        Ok(CtxId(self.primary.0))
    }
    fn primary_ctx_release(&mut self, _: CtxId, _: u32) -> Done<()> {
        self.primary.1 = self
            .primary
            .1
            .checked_sub(1)
            .ok_or(Status::ERROR_INVALID_CONTEXT)?;
        if self.primary.1 == 0 {
            self.contexts.remove(&self.primary.0);
        }
        Ok(())
    }
    fn primary_ctx_reset(&mut self, _: CtxId, _: u32) -> Done<()> {
        self.primary.1 = 0;
        self.contexts.remove(&self.primary.0);
        Ok(())
    }
    fn ctx_create(&mut self, _: CtxId, _: u32, _: u32) -> Done<CtxId> {
        self.next += 1;
        self.contexts.insert(self.next as u32);
        Ok(CtxId(self.next as u32))
    }
    fn ctx_destroy(&mut self, _: CtxId, which: CtxId) -> Done<()> {
        match self.contexts.remove(&which.0) {
            true => Ok(()),
            false => Err(Status::ERROR_INVALID_CONTEXT),
        }
    }
    fn ctx_synchronize(&mut self, _: CtxId) -> Done<()> {
        Ok(())
    }
    fn ctx_get_limit(&mut self, _: CtxId, limit: u32) -> Done<u64> {
        if limit == 0 {
            Ok(1024)
        } else {
            Err(Status(215))
        }
    }
    fn ctx_set_limit(&mut self, _: CtxId, limit: u32, _: u64) -> Done<()> {
        if limit == 0 { Ok(()) } else { Err(Status(215)) }
    }
}

impl ModuleCalls for Host {
    fn module_load(
        &mut self,
        _: CtxId,
        image: &[u8],
        options: Vec<JitOption>,
    ) -> Done<ModuleLoaded> {
        self.options = options;
        self.image = (image.len(), image.iter().map(|b| u64::from(*b)).sum());
        self.next += 1;
        let bad = image.starts_with(b"bad");
        if !bad {
            self.modules.insert(self.next as u32, image.len());
        }
        Ok(ModuleLoaded {
            status: if bad { Status::ERROR_INVALID_PTX.0 } else { 0 },
            module: ModuleId(if bad { 0 } else { self.next as u32 }),
            info_log: format!("{} bytes", image.len()),
            error_log: if bad {
                "line 1; column 1: bad".into()
            } else {
                String::new()
            },
            ..ModuleLoaded::default()
        })
    }
    fn module_unload(&mut self, _: CtxId, module: ModuleId) -> Done<()> {
        self.modules
            .remove(&module.0)
            .map(drop)
            .ok_or(Status::ERROR_INVALID_HANDLE)
    }
    fn module_get_function(
        &mut self,
        _: CtxId,
        module: ModuleId,
        name: &str,
    ) -> Done<FunctionInfo> {
        if !self.modules.contains_key(&module.0) {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let at = KERNELS
            .iter()
            .position(|k| k.0 == name)
            .ok_or(Status::ERROR_NOT_FOUND)?;
        Ok(FunctionInfo {
            function: FunctionId(at as u32 + 1),
            params: KERNELS[at].1.into(),
            attributes: vec![
                (0, 1024),
                (1, 0),
                (2, 0),
                (3, 0),
                (4, 16),
                (5, 90),
                (6, 90),
                (7, 0),
                (8, 48 << 10),
            ],
        })
    }
    fn module_get_global(&mut self, _: CtxId, _: ModuleId, _: &str) -> Done<(DevPtr, u64)> {
        Err(Status::ERROR_NOT_FOUND)
    }
    fn module_functions(&mut self, _: CtxId, module: ModuleId) -> Done<Vec<String>> {
        if !self.modules.contains_key(&module.0) {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        Ok(KERNELS.iter().map(|k| k.0.to_owned()).collect())
    }
    fn func_set_attribute(&mut self, _: CtxId, _: FunctionId, _: i32, _: i32) -> Done<()> {
        Ok(())
    }
    fn launch_kernel_ex(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        grid: [u32; 3],
        block: [u32; 3],
        shared_bytes: u32,
        stream: StreamId,
        _: Vec<LaunchAttribute>,
        params: &[u8],
    ) -> Done<()> {
        self.launch_kernel(ctx, function, grid, block, shared_bytes, stream, params)
    }

    fn launch_kernel(
        &mut self,
        ctx: CtxId,
        function: FunctionId,
        grid: [u32; 3],
        block: [u32; 3],
        _: u32,
        stream: StreamId,
        params: &[u8],
    ) -> Done<()> {
        self.params = params.to_vec();
        self.stream = stream.0;
        self.ctx = ctx.0;
        if function.0 != 1 {
            return Err(Status::ERROR_LAUNCH_FAILED);
        }
        let word = |at: usize| {
            let mut raw = [0; 8];
            raw.copy_from_slice(&params[at..at + 8]);
            DevPtr(u64::from_le_bytes(raw))
        };
        let n = u32::from_le_bytes([params[24], params[25], params[26], params[27]]);
        let n = n.min(grid[0] * block[0]) as usize;
        let floats = |raw: &[u8]| -> Vec<f32> {
            raw.chunks_exact(4)
                .map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]))
                .collect()
        };
        let a = floats(self.bytes(word(0), 4 * n as u64)?);
        let b = floats(self.bytes(word(8), 4 * n as u64)?);
        let c = self.bytes(word(16), 4 * n as u64)?;
        for (i, out) in c.chunks_exact_mut(4).enumerate() {
            out.copy_from_slice(&(a[i] + b[i]).to_le_bytes());
        }
        Ok(())
    }
}

impl MemoryCalls for Host {
    fn mem_get_info(&mut self, _: CtxId) -> Done<(u64, u64)> {
        let used: u64 = self.allocs.values().map(|a| a.data.len() as u64).sum();
        Ok((DEVICE_BYTES - used, DEVICE_BYTES))
    }
    fn mem_alloc(&mut self, _: CtxId, bytes: u64) -> Done<DevPtr> {
        if bytes > DEVICE_BYTES {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        let at = self
            .allocs
            .last_key_value()
            .map_or(0x7f00_0000_0000, |(base, alloc)| {
                (base + alloc.data.len() as u64 + 1).next_multiple_of(4096)
            });
        let data = vec![0; bytes as usize];
        let channel = self.channel;
        self.allocs.insert(at, Alloc { channel, data });
        Ok(DevPtr(at))
    }
    fn mem_alloc_pitch(
        &mut self,
        ctx: CtxId,
        width: u64,
        height: u64,
        _: u32,
    ) -> Done<(DevPtr, u64)> {
        let pitch = width.next_multiple_of(512);
        Ok((self.mem_alloc(ctx, pitch * height)?, pitch))
    }
    fn mem_free(&mut self, _: CtxId, ptr: DevPtr) -> Done<()> {
        self.allocs
            .remove(&ptr.0)
            .map(drop)
            .ok_or(Status::ERROR_INVALID_VALUE)
    }
    fn memcpy_htod_inline(
        &mut self,
        _: CtxId,
        dst: DevPtr,
        stream: StreamId,
        data: &[u8],
    ) -> Done<()> {
        self.stream = stream.0;
        self.store(dst, data)
    }
    fn memcpy_htod(
        &mut self,
        _: CtxId,
        dst: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Done<()> {
        self.stream = stream.0;
        let from = self.arena(&span);
        let done = self.bytes(dst, span.bytes).map(|to| from.read(0, to));
        self.arena_done(&span);
        done?.map_err(|_| Status::ERROR_UNKNOWN)
    }
    fn memcpy_dtoh_inline(
        &mut self,
        _: CtxId,
        src: DevPtr,
        stream: StreamId,
        bytes: u32,
    ) -> Done<Blob> {
        self.stream = stream.0;
        Ok(Blob(self.load(src, bytes.into())?))
    }
    fn memcpy_dtoh(
        &mut self,
        _: CtxId,
        src: DevPtr,
        stream: StreamId,
        span: ArenaSpan,
    ) -> Done<()> {
        self.stream = stream.0;
        let to = self.arena(&span);
        let done = self.bytes(src, span.bytes).map(|from| to.write(0, from));
        self.arena_done(&span);
        done?.map_err(|_| Status::ERROR_UNKNOWN)
    }
    fn memcpy_dtod(
        &mut self,
        _: CtxId,
        dst: DevPtr,
        src: DevPtr,
        bytes: u64,
        stream: StreamId,
    ) -> Done<()> {
        self.stream = stream.0;
        let data = self.load(src, bytes)?;
        self.store(dst, &data)
    }
    fn memset(
        &mut self,
        ctx: CtxId,
        dst: DevPtr,
        width: u8,
        value: u32,
        count: u64,
        stream: StreamId,
    ) -> Done<()> {
        self.memset_2d(ctx, dst, 0, width, value, count, 1, stream)
    }
    fn memset_2d(
        &mut self,
        _: CtxId,
        dst: DevPtr,
        pitch: u64,
        width: u8,
        value: u32,
        count: u64,
        rows: u64,
        stream: StreamId,
    ) -> Done<()> {
        self.stream = stream.0;
        for row in 0..rows {
            let element = &value.to_le_bytes()[..width.into()];
            self.store(DevPtr(dst.0 + row * pitch), &element.repeat(count as usize))?;
        }
        Ok(())
    }
}

impl HostMemoryCalls for Host {
    fn host_alloc(&mut self, _: CtxId, bytes: u64) -> Done<(u64, DevPtr)> {
        let bytes = bytes.next_multiple_of(4096);
        let at = self.heap.take(bytes, 4096);
        let at = at.ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        let window = self
            .bar1
            .and_then(|w| w.slice(at, bytes).ok())
            .expect("inside");
        let address = window.base() as u64;
        let channel = self.channel;
        self.pinned.insert(address, (channel, at, window));
        Ok((at, DevPtr(address)))
    }
    fn managed_alloc(&mut self, ctx: CtxId, bytes: u64) -> Done<(u64, DevPtr)> {
        self.host_alloc(ctx, bytes)
    }
    fn host_free(&mut self, _: CtxId, ptr: DevPtr) -> Done<()> {
        let found = self.pinned.remove(&ptr.0);
        let (_, at, window) = found.ok_or(Status::ERROR_INVALID_VALUE)?;
        self.give(at, window);
        Ok(())
    }
}

impl StreamCalls for Host {
    fn stream_create(&mut self, _: CtxId, stream: StreamId, _: u32, _: i32) -> Done<()> {
        self.streams.insert(stream.0);
        Ok(())
    }
    fn stream_destroy(&mut self, _: CtxId, stream: StreamId) -> Done<()> {
        match self.streams.remove(&stream.0) {
            true => Ok(()),
            false => Err(Status::ERROR_INVALID_HANDLE),
        }
    }
    fn stream_synchronize(&mut self, _: CtxId, _: StreamId) -> Done<()> {
        Ok(())
    }
    fn stream_query(&mut self, _: CtxId, _: StreamId) -> Done<()> {
        Ok(())
    }
    fn stream_wait_event(&mut self, _: CtxId, _: StreamId, _: EventId, _: u32) -> Done<()> {
        Ok(())
    }
}

impl OutputCalls for Host {
    fn output(&mut self, _: CtxId) -> Done<(Blob, Blob)> {
        Ok(std::mem::take(&mut self.text))
    }
}

impl EventCalls for Host {
    fn event_create(&mut self, _: CtxId, event: EventId, _: u32) -> Done<()> {
        self.events.insert(event.0);
        Ok(())
    }
    fn event_destroy(&mut self, _: CtxId, event: EventId) -> Done<()> {
        match self.events.remove(&event.0) {
            true => Ok(()),
            false => Err(Status::ERROR_INVALID_HANDLE),
        }
    }
    fn event_record(&mut self, _: CtxId, _: EventId, _: StreamId, _: u32) -> Done<()> {
        Ok(())
    }
    fn event_synchronize(&mut self, _: CtxId, _: EventId) -> Done<()> {
        Ok(())
    }
    fn event_query(&mut self, _: CtxId, _: EventId) -> Done<()> {
        Ok(())
    }
    fn event_elapsed_time(&mut self, _: CtxId, _: EventId, _: EventId) -> Done<f32> {
        Ok(1.5)
    }
}

/// Bodies for the sections that this host does not do.
macro_rules! refuse {
    ($(
        #[doc = $about:literal]
        trait $section:ident { $($rows:tt)* }
    )*) => { $(refuse_section! { $section { $($rows)* } })* };
}

macro_rules! refuse_section {
    (DeviceCalls $rows:tt) => {};
    (ContextCalls $rows:tt) => {};
    (ModuleCalls $rows:tt) => {};
    (MemoryCalls $rows:tt) => {};
    (HostMemoryCalls $rows:tt) => {};
    (StreamCalls $rows:tt) => {};
    (EventCalls $rows:tt) => {};
    (OutputCalls $rows:tt) => {};
    ($section:ident {$(
        #[doc = $about:literal]
        $opcode:literal $mode:ident $name:ident [$page:literal]
        fn $method:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty;
    )*}) => {
        impl $section for Host {
            $(fn $method(&mut self, _: CtxId $(, _: <$ty as Arg>::View<'_>)*) -> Done<$out> {
                Err(Status::ERROR_NOT_SUPPORTED)
            })*
        }
    };
}

mod refused {
    #![allow(unused_imports, reason = "what the rows of a section name varies")]
    use super::{Done, Host};
    use vgpu_protocol::Status;
    use vgpu_protocol::calls::*;
    use vgpu_protocol::limits::*;
    use vgpu_protocol::wire::{Arg, Blob, Bytes, List, Text};

    vgpu_protocol::calls!(refuse);
}
