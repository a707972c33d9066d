//! The call table: every remoted call is one row of [`calls!`].
//!
//! A row reads
//! `opcode mode Name [page] fn method(argument: type, …) -> result;`
//! and from it follow the [`Opcode`], its [`CallInfo`] (name in logs, counters and the coverage
//! page), the method of the [`Calls`] trait that every backend must have, the arm of [`dispatch`],
//! the encoder in [`request`] and the guest's stub in [`stubs`].
//!
//! Modes:
//! * `posted`: the guest does not wait. An error is kept and returned by the next call that waits.
//! * `waits`: the guest waits for the reply; an earlier posted call's error is returned in its
//!   place, as CUDA may ("this function may also return error codes from previous, asynchronous
//!   launches").
//! * `asks`: the guest waits; earlier errors stay where they are. For what CUDA lets succeed in a
//!   broken context.
//!
//! Opcodes are never reused. Pages are those of the CUDA Driver API reference
//! (`docs.nvidia.com/cuda/cuda-driver-api/<page>.html`).

use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::{
    MAX_CLIENT_BYTES, MAX_INLINE_COPY_BYTES, MAX_JIT_OPTIONS, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    MAX_PARAM_BYTES,
};
use crate::status::Status;
use crate::wire::{Arg, Blob, Bytes, List, Reader, Text, Value, WireError, Writer};
use crate::{wire_ids, wire_struct};

wire_ids! {
    /// A context of a session; 0 is "no context".
    CtxId(u32);
    /// A loaded module.
    ModuleId(u32);
    /// A kernel of a module.
    FunctionId(u32);
    /// A stream, named by the guest; 0 is the legacy default stream of the current context.
    StreamId(u32);
    /// An event, named by the guest; never 0.
    EventId(u32);
    /// An address in device memory.
    DevPtr(u64);
}

wire_struct! {
    /// Answer to [`Opcode::vgpuHello`].
    HelloInfo {
        /// The device's `vm_id`.
        vm_id: u32,
        /// The channel's number.
        channel: u32,
        /// `cuda` or `soft`.
        backend: String,
        /// What `cuDriverGetVersion` answers: 1000 × major + 10 × minor.
        driver_version: i32,
    }
    /// What never changes about a device.
    DeviceInfo {
        /// `cuDeviceGetName`.
        name: String,
        /// `cuDeviceGetUuid`.
        uuid: [u8; 16],
        /// `cuDeviceTotalMem`, in bytes: the VM's share.
        total_bytes: u64,
        /// `CUdevice_attribute` numbers and their values.
        attributes: Vec<(i32, i32)>,
        /// Least and greatest stream priority (`cuCtxGetStreamPriorityRange`).
        priorities: (i32, i32),
    }
    /// One option of `cuModuleLoadDataEx` whose value is a number.
    JitOption {
        /// `CUjit_option`.
        option: u32,
        /// Its value.
        value: u64,
    }
    /// Answer to [`Opcode::cuModuleLoadDataEx`]. A failed load carries its logs, so the status is
    /// part of the answer.
    ModuleLoaded {
        /// `CUresult` of the load.
        status: u32,
        /// The module, where the load succeeded.
        module: ModuleId,
        /// `CU_JIT_INFO_LOG_BUFFER`.
        info_log: String,
        /// `CU_JIT_ERROR_LOG_BUFFER`.
        error_log: String,
    }
    /// Answer to [`Opcode::cuModuleGetFunction`]: all that never changes about a kernel.
    FunctionInfo {
        /// The kernel.
        function: FunctionId,
        /// Offset and size of each parameter, in bytes (`cuFuncGetParamInfo`).
        params: Vec<(u32, u32)>,
        /// `CUfunction_attribute` numbers and their values.
        attributes: Vec<(i32, i32)>,
    }
    /// A piece of the channel's staging arena.
    ArenaSpan {
        /// Position in the arena's endless numbering; the byte lies at `position mod arena size`,
        /// and the piece does not cross the arena's end.
        position: u64,
        /// Length in bytes.
        bytes: u64,
    }
}

/// How a call is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the words of the call table")]
pub enum Mode {
    /// No reply; an error is deferred.
    posted,
    /// A reply, which reports deferred errors first.
    waits,
    /// A reply; deferred errors stay.
    asks,
}

/// What the table says about a call.
#[derive(Debug)]
pub struct CallInfo {
    /// Number on the wire.
    pub opcode: u16,
    /// How it is sent.
    pub mode: Mode,
    /// Name in logs, counters and on the coverage page.
    pub name: &'static str,
    /// NVIDIA's page, empty for the device's own calls.
    pub page: &'static str,
    /// First line of the row's comment.
    pub about: &'static str,
    /// Longest payload of the request, in bytes.
    pub max_bytes: u64,
}

/// Why a request was not answered by its backend's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DispatchError {
    /// The payload is not what the row says.
    Malformed(WireError),
    /// The body returned an error.
    Failed(Status),
}

/// Largest opcode in use or to come soon; raise it when the table outgrows it (the build fails).
const MAX_OPCODE: usize = 0xff;

/// Invokes `$then!` with every row.
macro_rules! calls {
    ($then:ident) => {
        $then! {
            /// Names the client and learns who answers.
            0x0001 asks vgpuHello [""] fn hello(client: Text<{ MAX_CLIENT_BYTES as u64 }>, pid: u32) -> HelloInfo;
            /// The channel's calls so far, by name, as a JSON object.
            0x0002 asks vgpuCounters [""] fn counters() -> String;
            /// Everything immutable about the devices.
            0x0003 asks vgpuDeviceTable [""] fn device_table() -> Vec<DeviceInfo>;

            /// Initialises the driver for this session.
            0x0030 asks cuInit ["group__CUDA__INITIALIZE"] fn init(flags: u32) -> ();

            /// Creates the primary context, or counts one more user of it.
            0x0040 asks cuDevicePrimaryCtxRetain ["group__CUDA__PRIMARY__CTX"] fn primary_ctx_retain(device: u32) -> CtxId;
            /// Counts one user less; the last one destroys the context.
            0x0041 asks cuDevicePrimaryCtxRelease ["group__CUDA__PRIMARY__CTX"] fn primary_ctx_release(device: u32) -> ();
            /// Destroys the primary context whoever uses it.
            0x0042 asks cuDevicePrimaryCtxReset ["group__CUDA__PRIMARY__CTX"] fn primary_ctx_reset(device: u32) -> ();
            /// Creates a context.
            0x0043 asks cuCtxCreate ["group__CUDA__CTX"] fn ctx_create(flags: u32, device: u32) -> CtxId;
            /// Destroys a context with all that it owns.
            0x0044 asks cuCtxDestroy ["group__CUDA__CTX"] fn ctx_destroy(which: CtxId) -> ();
            /// Waits until the context has done all its work.
            0x0045 waits cuCtxSynchronize ["group__CUDA__CTX"] fn ctx_synchronize() -> ();
            /// A resource limit of the context, in the unit of the `CUlimit`.
            0x0046 waits cuCtxGetLimit ["group__CUDA__CTX"] fn ctx_get_limit(limit: u32) -> u64;
            /// Sets a resource limit.
            0x0047 waits cuCtxSetLimit ["group__CUDA__CTX"] fn ctx_set_limit(limit: u32, value: u64) -> ();

            /// Loads PTX or a fat binary.
            0x0050 waits cuModuleLoadDataEx ["group__CUDA__MODULE"] fn module_load(
                image: Bytes<{ MAX_MESSAGE_BYTES - 4096 }>, options: List<JitOption, { MAX_JIT_OPTIONS as u64 }>) -> ModuleLoaded;
            /// Unloads a module.
            0x0051 posted cuModuleUnload ["group__CUDA__MODULE"] fn module_unload(module: ModuleId) -> ();
            /// Looks a kernel up by name.
            0x0052 waits cuModuleGetFunction ["group__CUDA__MODULE"] fn module_get_function(
                module: ModuleId, name: Text<{ MAX_NAME_BYTES as u64 }>) -> FunctionInfo;
            /// Looks a global variable up by name: address and size in bytes.
            0x0053 waits cuModuleGetGlobal ["group__CUDA__MODULE"] fn module_get_global(
                module: ModuleId, name: Text<{ MAX_NAME_BYTES as u64 }>) -> (DevPtr, u64);
            /// Sets a `CUfunction_attribute`.
            0x0054 waits cuFuncSetAttribute ["group__CUDA__EXEC"] fn func_set_attribute(
                function: FunctionId, attribute: i32, value: i32) -> ();
            /// Launches a kernel. Grid and block are in blocks and threads, x y z; dynamic shared memory in bytes.
            0x0055 posted cuLaunchKernel ["group__CUDA__EXEC"] fn launch_kernel(
                function: FunctionId, grid: [u32; 3], block: [u32; 3], shared_bytes: u32, stream: StreamId,
                params: Bytes<{ MAX_PARAM_BYTES as u64 }>) -> ();

            /// Free and total device memory of the VM, in bytes.
            0x0060 waits cuMemGetInfo ["group__CUDA__MEM"] fn mem_get_info() -> (u64, u64);
            /// Allocates device memory.
            0x0061 waits cuMemAlloc ["group__CUDA__MEM"] fn mem_alloc(bytes: u64) -> DevPtr;
            /// Allocates rows of `width` bytes with a pitch that suits `element` bytes: address and pitch.
            0x0062 waits cuMemAllocPitch ["group__CUDA__MEM"] fn mem_alloc_pitch(width: u64, height: u64, element: u32) -> (DevPtr, u64);
            /// Frees device memory after the work that was submitted before.
            0x0063 posted cuMemFree ["group__CUDA__MEM"] fn mem_free(ptr: DevPtr) -> ();
            /// Copies bytes of this record to the device.
            0x0064 posted cuMemcpyHtoD_inline ["group__CUDA__MEM"] fn memcpy_htod_inline(
                dst: DevPtr, stream: StreamId, data: Bytes<{ MAX_INLINE_COPY_BYTES as u64 }>) -> ();
            /// Copies a piece of the staging arena to the device.
            0x0065 posted cuMemcpyHtoD ["group__CUDA__MEM"] fn memcpy_htod(dst: DevPtr, stream: StreamId, span: ArenaSpan) -> ();
            /// Copies from the device into the reply.
            0x0066 waits cuMemcpyDtoH_inline ["group__CUDA__MEM"] fn memcpy_dtoh_inline(src: DevPtr, stream: StreamId, bytes: u32) -> Blob;
            /// Copies from the device to a piece of the staging arena.
            0x0067 waits cuMemcpyDtoH ["group__CUDA__MEM"] fn memcpy_dtoh(src: DevPtr, stream: StreamId, span: ArenaSpan) -> ();
            /// Copies within device memory.
            0x0068 posted cuMemcpyDtoD ["group__CUDA__MEM"] fn memcpy_dtod(dst: DevPtr, src: DevPtr, bytes: u64, stream: StreamId) -> ();
            /// Sets `count` elements of `width` bytes (1, 2 or 4).
            0x0069 posted cuMemsetD ["group__CUDA__MEM"] fn memset(dst: DevPtr, width: u8, value: u32, count: u64, stream: StreamId) -> ();
            /// Sets `rows` rows of `count` elements of `width` bytes, `pitch` bytes apart.
            0x006a posted cuMemsetD2D ["group__CUDA__MEM"] fn memset_2d(
                dst: DevPtr, pitch: u64, width: u8, value: u32, count: u64, rows: u64, stream: StreamId) -> ();

            /// Creates a stream under a name that the guest has chosen.
            0x0080 posted cuStreamCreateWithPriority ["group__CUDA__STREAM"] fn stream_create(stream: StreamId, flags: u32, priority: i32) -> ();
            /// Destroys a stream once its work is done.
            0x0081 posted cuStreamDestroy ["group__CUDA__STREAM"] fn stream_destroy(stream: StreamId) -> ();
            /// Waits until a stream has done its work.
            0x0082 waits cuStreamSynchronize ["group__CUDA__STREAM"] fn stream_synchronize(stream: StreamId) -> ();
            /// Success, or CUDA_ERROR_NOT_READY while work is left.
            0x0083 waits cuStreamQuery ["group__CUDA__STREAM"] fn stream_query(stream: StreamId) -> ();
            /// Makes a stream wait for an event's last record.
            0x0084 posted cuStreamWaitEvent ["group__CUDA__STREAM"] fn stream_wait_event(stream: StreamId, event: EventId, flags: u32) -> ();

            /// Creates an event under a name that the guest has chosen.
            0x0090 posted cuEventCreate ["group__CUDA__EVENT"] fn event_create(event: EventId, flags: u32) -> ();
            /// Destroys an event.
            0x0091 posted cuEventDestroy ["group__CUDA__EVENT"] fn event_destroy(event: EventId) -> ();
            /// Records an event in a stream.
            0x0092 posted cuEventRecord ["group__CUDA__EVENT"] fn event_record(event: EventId, stream: StreamId, flags: u32) -> ();
            /// Waits until the event's last record has been reached.
            0x0093 waits cuEventSynchronize ["group__CUDA__EVENT"] fn event_synchronize(event: EventId) -> ();
            /// Success, or CUDA_ERROR_NOT_READY.
            0x0094 waits cuEventQuery ["group__CUDA__EVENT"] fn event_query(event: EventId) -> ();
            /// Milliseconds between two recorded events.
            0x0095 waits cuEventElapsedTime ["group__CUDA__EVENT"] fn event_elapsed_time(start: EventId, end: EventId) -> f32;
        }
    };
}

macro_rules! define {
    ($(
        #[doc = $about:literal]
        $opcode:literal $mode:ident $name:ident [$page:literal]
        fn $method:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty;
    )*) => {
        /// Numbers of the calls.
        #[allow(non_camel_case_types, reason = "NVIDIA's names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Opcode { $(#[doc = $about] $name = $opcode,)* }

        /// Every row, in the order of the table.
        pub static CALLS: &[CallInfo] = &[$(CallInfo {
            opcode: $opcode,
            mode: Mode::$mode,
            name: stringify!($name),
            page: $page,
            about: $about,
            max_bytes: 0 $(+ <$ty as Arg>::ARG_BYTES)*,
        },)*];

        /// Row by opcode.
        const ROW_OF: [u8; MAX_OPCODE + 1] = {
            const ORDER: &[u16] = &[$($opcode,)*];
            let mut rows = [0; MAX_OPCODE + 1];
            let mut row = 0;
            while row < ORDER.len() {
                rows[ORDER[row] as usize] = row as u8;
                row += 1;
            }
            rows
        };

        impl Opcode {
            /// The call with this number.
            pub fn from_wire(number: u16) -> Option<Opcode> {
                match number { $($opcode => Some(Opcode::$name),)* _ => None }
            }

            /// Position of its row in [`CALLS`].
            pub fn row(self) -> usize {
                usize::from(ROW_OF[self as usize])
            }

            /// Its row.
            pub fn info(self) -> &'static CallInfo {
                &CALLS[self.row()]
            }
        }

        /// What a backend must be able to do: one method per row. `ctx` is the context that is
        /// current in the calling guest thread.
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub trait Calls {
            $(#[doc = $about]
            fn $method(&mut self, ctx: CtxId $(, $arg: <$ty as Arg>::View<'_>)*) -> Result<$out, Status>;)*
        }

        /// Decodes a request, calls its body and encodes the result.
        pub fn dispatch<C: Calls + ?Sized>(
            calls: &mut C, opcode: Opcode, ctx: CtxId, payload: &[u8], reply: &mut Writer<'_>,
        ) -> Result<(), DispatchError> {
            #[allow(unused_mut, reason = "calls without arguments")]
            let mut r = Reader::new(payload);
            match opcode {
                $(Opcode::$name => {
                    $(let $arg = <$ty as Arg>::get_arg(&mut r).map_err(DispatchError::Malformed)?;)*
                    r.finish().map_err(DispatchError::Malformed)?;
                    let out = calls.$method(ctx $(, $arg)*).map_err(DispatchError::Failed)?;
                    Value::put(&out, reply);
                })*
            }
            Ok(())
        }

        /// Encoders of requests.
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub mod request {
            use super::*;
            $(#[doc = $about]
            pub fn $method<'a>(w: &mut Writer<'a> $(, $arg: <$ty as Arg>::View<'a>)*) -> Opcode {
                let _ = &w;
                $(<$ty as Arg>::put_arg($arg, w);)*
                Opcode::$name
            })*
        }

        /// The guest's stubs: encode, send, wait where the row says so, decode.
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub mod stubs {
            use super::*;
            $(#[doc = $about]
            pub fn $method<R: Remote + ?Sized>(remote: &R, ctx: CtxId $(, $arg: <$ty as Arg>::View<'_>)*) -> Result<$out, Status> {
                let mut w = Writer::reuse(remote.buffer());
                let opcode = request::$method(&mut w $(, $arg)*);
                remote.call(opcode, ctx, w, &mut |reply| {
                    let mut r = Reader::new(reply);
                    let out = <$out as Value>::get(&mut r)?;
                    r.finish()?;
                    Ok(out)
                })
            })*
        }

        /// Text of all rows, from which the hash is made.
        const TABLE_TEXT: &str = concat!($(
            stringify!($opcode $mode $name $method $($ty)* $out), ";"
        ),*);
    };
}

calls!(define);

/// Something that carries a request to the host and brings the reply back.
pub trait Remote {
    /// A buffer to encode into; may be one used before.
    fn buffer(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Sends a request. For a call that waits, `decode` gets the reply's payload; for a posted
    /// one it gets no bytes.
    fn call<T>(
        &self,
        opcode: Opcode,
        ctx: CtxId,
        request: Writer<'_>,
        decode: &mut dyn FnMut(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Status>;
}

/// Identifies call table, wire structs and layout: FNV-1a over their text. Guest and host refuse
/// each other when it differs.
pub const PROTOCOL_HASH: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    // Raised by hand when something changes that the table's text does not show.
    const REVISION: &str = "layout 1, header 1, structs 1;";
    hash = fnv1a(hash, REVISION.as_bytes());
    fnv1a(hash, TABLE_TEXT.as_bytes())
};

const fn fnv1a(mut hash: u64, text: &[u8]) -> u64 {
    let mut i = 0;
    while i < text.len() {
        hash = (hash ^ text[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}
