//! The call table: every remoted call is one row of [`calls!`](crate::calls!) in `table.rs`.
//!
//! A row reads
//! `opcode mode Name [page] fn method(argument: type, …) -> result;`
//! and from it follow the [`Opcode`], its [`CallInfo`] (name in logs, counters and the coverage
//! page), the method of its section's trait that every backend must have, the arm of [`dispatch`],
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
    MAX_CLIENT_BYTES, MAX_GRAPH_BYTES, MAX_INLINE_COPY_BYTES, MAX_JIT_OPTIONS,
    MAX_LAUNCH_ATTRIBUTES, MAX_LINK_INPUT_BYTES, MAX_MEM_OPS, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    MAX_PARAM_BYTES,
};
use crate::status::Status;
use crate::wire::{Arg, Blob, Bytes, List, Reader, Text, Value, WireError, Writer};

mod blas;
mod blas_lt;
mod table;
mod types;

pub use blas::*;
pub use blas_lt::*;
pub use types::*;

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
const MAX_OPCODE: usize = 0x3ff;

macro_rules! define {
    ($(
        #[doc = $section_about:literal]
        trait $section:ident {$(
            #[doc = $about:literal]
            $opcode:literal $mode:ident $name:ident [$page:literal]
            fn $method:ident($($arg:ident: $ty:ty),* $(,)?) -> $out:ty;
        )*}
    )*) => {
        /// Numbers of the calls.
        #[allow(non_camel_case_types, reason = "NVIDIA's names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Opcode { $($(#[doc = $about] $name = $opcode,)*)* }

        /// Every row, in the order of the table.
        pub static CALLS: &[CallInfo] = &[$($(CallInfo {
            opcode: $opcode,
            mode: Mode::$mode,
            name: stringify!($name),
            page: $page,
            about: $about,
            max_bytes: 0 $(+ <$ty as Arg>::ARG_BYTES)*,
        },)*)*];

        /// Row by opcode.
        const ROW_OF: [u16; MAX_OPCODE + 1] = {
            const ORDER: &[u16] = &[$($($opcode,)*)*];
            let mut rows = [0; MAX_OPCODE + 1];
            let mut row = 0;
            while row < ORDER.len() {
                rows[ORDER[row] as usize] = row as u16;
                row += 1;
            }
            rows
        };

        impl Opcode {
            /// The call with this number.
            pub fn from_wire(number: u16) -> Option<Opcode> {
                match number { $($($opcode => Some(Opcode::$name),)*)* _ => None }
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

        $(#[doc = $section_about]
        ///
        /// `ctx` is the context that is current in the calling guest thread.
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub trait $section {
            $(#[doc = $about]
            fn $method(&mut self, ctx: CtxId $(, $arg: <$ty as Arg>::View<'_>)*) -> Result<$out, Status>;)*
        })*

        /// What a backend must be able to do: the rows of every section.
        pub trait Calls: $($section +)* {}

        impl<T: $($section +)* ?Sized> Calls for T {}

        /// Decodes a request, calls its body and encodes the result.
        pub fn dispatch<C: Calls + ?Sized>(
            calls: &mut C, opcode: Opcode, ctx: CtxId, payload: &[u8], reply: &mut Writer<'_>,
        ) -> Result<(), DispatchError> {
            #[allow(unused_mut, reason = "calls without arguments")]
            let mut r = Reader::new(payload);
            match opcode {
                $($(Opcode::$name => {
                    $(let $arg = <$ty as Arg>::get_arg(&mut r).map_err(DispatchError::Malformed)?;)*
                    r.finish().map_err(DispatchError::Malformed)?;
                    let out = calls.$method(ctx $(, $arg)*).map_err(DispatchError::Failed)?;
                    Value::put(&out, reply);
                })*)*
            }
            Ok(())
        }

        /// Encoders of requests.
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub mod request {
            use super::*;
            $($(#[doc = $about]
            pub fn $method<'a>(w: &mut Writer<'a> $(, $arg: <$ty as Arg>::View<'a>)*) -> Opcode {
                let _ = &w;
                $(<$ty as Arg>::put_arg($arg, w);)*
                Opcode::$name
            })*)*
        }

        /// The guest's stubs: encode, send, wait where the row says so, decode.
        #[allow(clippy::too_many_arguments, reason = "the arguments are CUDA's")]
        pub mod stubs {
            use super::*;
            $($(#[doc = $about]
            pub fn $method<R: Remote + ?Sized>(remote: &R, ctx: CtxId $(, $arg: <$ty as Arg>::View<'_>)*) -> Result<$out, Status> {
                let mut w = Writer::reuse(remote.buffer());
                let opcode = request::$method(&mut w $(, $arg)*);
                remote.call(opcode, ctx, w, &mut |reply| {
                    let mut r = Reader::new(reply);
                    let out = <$out as Value>::get(&mut r)?;
                    r.finish()?;
                    Ok(out)
                })
            })*)*
        }

        /// Text of all rows, from which the hash is made.
        const TABLE_TEXT: &str = concat!($($(
            stringify!($opcode $mode $name $method $($ty)* $out), ";",
        )*)*);
    };
}

crate::calls!(define);

impl Opcode {
    /// True for the calls that a graph's nodes may be.
    pub fn in_graphs(self) -> bool {
        matches!(
            self,
            Opcode::cuLaunchKernel
                | Opcode::cuLaunchKernelEx
                | Opcode::cuMemcpyDtoD
                | Opcode::cuMemsetD
                | Opcode::cuMemsetD2D
                | Opcode::cuLaunchHostFunc
                | Opcode::cuStreamBatchMemOp
                | Opcode::cuEventRecord
                | Opcode::cuStreamWaitEvent
                | Opcode::cublasGemmEx
                | Opcode::cublasGemmBatchedEx
                | Opcode::cublasGemmStridedBatchedEx
                | Opcode::cublasTrsmBatched
                | Opcode::cublasLevel1
                | Opcode::cublasLevel2
                | Opcode::cublasLevel3
                | Opcode::cublasBatchedLapack
                | Opcode::cublasLevel1Result
                | Opcode::cublasLtMatmul
                | Opcode::cublasLtMatrixTransform
        )
    }
}

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
    const REVISION: &str = "layout 2, header 2, structs 2;";
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
