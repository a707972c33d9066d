//! cuGetProcAddress: addresses of the exports, by name, version and kind of default stream.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use vgpu_protocol::Status;

use crate::abi::{Done, Entry, INVALID, Out, Text, exports};
use crate::unsupported::VERSIONS;
use crate::{
    capture, copy, copy_batch, copy2d, ctx, ctx_events, device, error, event, func,
    graph_attributes, graph_edges, graph_exec, graph_nodes, graph_objects, graph_params, host,
    hostfn, init, launch, legacy, library, link, managed, mem, memop, memset, module, occupancy,
    peer, pointer, pool, stream, unsupported, user_object, virtual_memory,
};

/// `CUdriverProcAddress_flags`.
const LEGACY_STREAM: u64 = 1;
const PER_THREAD_DEFAULT_STREAM: u64 = 2;
/// `CUdriverProcAddressQueryResult`.
const FOUND: i32 = 0;
const SYMBOL_NOT_FOUND: i32 = 1;
const VERSION_NOT_SUFFICIENT: i32 = 2;

/// Every export of the library.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    [
        capture::calls::EXPORTS,
        copy::EXPORTS,
        copy2d::EXPORTS,
        copy_batch::EXPORTS,
        ctx::EXPORTS,
        ctx_events::EXPORTS,
        device::EXPORTS,
        EXPORTS,
        error::EXPORTS,
        event::EXPORTS,
        func::EXPORTS,
        graph_attributes::EXPORTS,
        graph_edges::EXPORTS,
        graph_exec::calls::EXPORTS,
        graph_nodes::EXPORTS,
        graph_objects::EXPORTS,
        graph_params::EXPORTS,
        host::EXPORTS,
        hostfn::EXPORTS,
        init::EXPORTS,
        launch::EXPORTS,
        legacy::EXPORTS,
        library::EXPORTS,
        link::EXPORTS,
        managed::EXPORTS,
        mem::EXPORTS,
        memset::EXPORTS,
        memop::EXPORTS,
        module::EXPORTS,
        occupancy::EXPORTS,
        peer::EXPORTS,
        pointer::EXPORTS,
        pool::calls::EXPORTS,
        stream::EXPORTS,
        unsupported::EXPORTS,
        user_object::EXPORTS,
        virtual_memory::EXPORTS,
    ]
    .into_iter()
    .flatten()
}

static BY_SYMBOL: LazyLock<HashMap<&'static str, &'static Entry>> =
    LazyLock::new(|| all().map(|e| (e.name, e)).collect());

/// The symbol with the newest ABI of `name` that `version` knows.
fn symbol(name: &str, version: i32) -> Result<&'static str, i32> {
    let of_name = || VERSIONS.iter().filter(|(base, ..)| *base == name);
    of_name()
        .filter(|(_, since, _)| *since <= version)
        .max_by_key(|(_, since, _)| *since)
        .map(|(.., symbol)| *symbol)
        .ok_or(if of_name().next().is_some() {
            VERSION_NOT_SUFFICIENT
        } else {
            SYMBOL_NOT_FOUND
        })
}

fn find(name: &str, version: i32, flags: u64) -> Result<&'static Entry, i32> {
    let symbol = symbol(name, version)?;
    let twin = if flags == PER_THREAD_DEFAULT_STREAM {
        ["_ptsz", "_ptds"]
            .iter()
            .find_map(|suffix| BY_SYMBOL.get(format!("{symbol}{suffix}").as_str()))
    } else {
        None
    };
    twin.or_else(|| BY_SYMBOL.get(symbol))
        .copied()
        .ok_or(SYMBOL_NOT_FOUND)
}

fn get(name: Text, out: Out<*mut c_void>, version: i32, flags: u64, status: Out<i32>) -> Done {
    out.check()?;
    let name = name.str()?;
    if name.is_empty() || flags & !(LEGACY_STREAM | PER_THREAD_DEFAULT_STREAM) != 0 || flags == 3 {
        return Err(INVALID);
    }
    match find(name, version, flags) {
        Ok(entry) => {
            status.set_if_given(FOUND);
            out.set(entry.address())
        }
        Err(why) => {
            status.set_if_given(why);
            out.set(std::ptr::null_mut())?;
            Err(Status::ERROR_NOT_FOUND)
        }
    }
}

/// Stands for the fifth argument, which the older ABI lacks.
fn no_status() -> Out<i32> {
    crate::abi::Host(std::ptr::null_mut()).out()
}

exports! {
    /// Address of a function (ABI of CUDA 11.3).
    fn cuGetProcAddress(name: Text, out: Out<*mut c_void>, version: i32, flags: u64) {
        get(name, out, version, flags, no_status())
    }

    /// Address of a function, and why there is none (ABI of CUDA 12.0).
    fn cuGetProcAddress_v2(
        name: Text, out: Out<*mut c_void>, version: i32, flags: u64, status: Out<i32>,
    ) {
        get(name, out, version, flags, status)
    }

    /// Address of a function, by default with the thread's own default stream.
    fn cuGetProcAddress_ptsz(name: Text, out: Out<*mut c_void>, version: i32, flags: u64) {
        get(name, out, version, per_thread(flags), no_status())
    }

    /// Address of a function, by default with the thread's own default stream.
    fn cuGetProcAddress_v2_ptsz(
        name: Text, out: Out<*mut c_void>, version: i32, flags: u64, status: Out<i32>,
    ) {
        get(name, out, version, per_thread(flags), status)
    }

    /// NVIDIA's undocumented tables, which only a statically linked runtime needs.
    fn cuGetExportTable(table: Out<*const c_void>, _id: crate::abi::Host) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        table.set_if_given(std::ptr::null());
        if !TOLD.swap(true, Ordering::Relaxed) {
            vgpu_transport::log::line(format_args!(
                "cuGetExportTable: this program has the CUDA runtime linked statically, which is \
                 not supported: relink with -cudart shared"
            ));
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }
}

/// What the default flags mean to a caller that was compiled for per-thread default streams.
fn per_thread(flags: u64) -> u64 {
    if flags == 0 {
        PER_THREAD_DEFAULT_STREAM
    } else {
        flags
    }
}
