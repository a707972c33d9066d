//! Versions, and the driver's functions by name.

use cudarc::driver::sys::CUuuid;
use std::sync::atomic::{AtomicBool, Ordering};

use vgpu_protocol::Status;

use crate::abi::{Done, INVALID, In, Out, Text, Zero, exports, local, major};
use crate::driver::{Driver, Opaque};
use crate::runtime::runtime;

/// The newest version that each library has the names of: 1000 times the major plus 10 times the
/// minor number.
fn version() -> i32 {
    match major() {
        11 => 11080,
        12 => 12090,
        _ => 13050,
    }
}

/// `cudaEnableLegacyStream` and `cudaEnablePerThreadDefaultStream`.
const PER_THREAD_DEFAULT_STREAM: u64 = 2;
/// `cudaDriverEntryPointQueryResult`.
const FOUND: i32 = 0;
const SYMBOL_NOT_FOUND: i32 = 1;

/// Since CUDA 12 a missing function is no error: the pointer is null and the status tells why.
/// `status` is `None` in CUDA 11, where it is cudaErrorSymbolNotFound.
fn entry_point(
    name: Text,
    out: Out<Opaque>,
    version: i32,
    flags: u64,
    status: Option<Out<i32>>,
    zero: Zero,
) -> Done {
    let runtime = runtime()?;
    out.check()?;
    name.bytes()?;
    let flags = match (flags, zero) {
        (0, Zero::PerThread) => PER_THREAD_DEFAULT_STREAM,
        (0..=2, _) => flags,
        _ => return Err(INVALID),
    };
    let mut why = FOUND;
    let done = runtime
        .driver
        .cuGetProcAddress_v2(name, out, version, flags, Out::to(&mut why));
    match done {
        Err(Status::ERROR_NOT_FOUND) => {
            out.set(std::ptr::null_mut())?;
            let why = if why == FOUND { SYMBOL_NOT_FOUND } else { why };
            status.ok_or(Status::ERROR_NOT_FOUND)?.set_if_given(why);
        }
        done => {
            done?;
            if let Some(status) = status {
                status.set_if_given(why);
            }
        }
    }
    Ok(())
}

exports! {
    /// The newest version of CUDA that the driver supports; 0 where there is no driver.
    fn cudaDriverGetVersion(out: Out<i32>) {
        out.check()?;
        let version = match Driver::open() {
            Some(driver) => local(|v| driver.cuDriverGetVersion(v))?,
            None => 0,
        };
        out.set(version)
    }

    /// The version of this library.
    fn cudaRuntimeGetVersion(out: Out<i32>) {
        out.check()?;
        out.set(version())
    }

    /// A function of the driver (ABI of CUDA 11).
    fn cudaGetDriverEntryPoint_v1 | cudaGetDriverEntryPoint_v1_ptsz [zero] (
        name: Text, out: Out<Opaque>, flags: u64,
    ) {
        entry_point(name, out, version(), flags, None, zero)
    }

    /// A function of the driver, with the ABI of this library's version.
    fn cudaGetDriverEntryPoint_v2 | cudaGetDriverEntryPoint_v2_ptsz [zero] (
        name: Text, out: Out<Opaque>, flags: u64, status: Out<i32>,
    ) {
        entry_point(name, out, version(), flags, Some(status), zero)
    }

    /// A function of the driver, with the ABI of a version.
    fn cudaGetDriverEntryPointByVersion | cudaGetDriverEntryPointByVersion_ptsz [zero] (
        name: Text, out: Out<Opaque>, version: u32, flags: u64, status: Out<i32>,
    ) {
        let version = i32::try_from(version).map_err(|_| INVALID)?;
        entry_point(name, out, version, flags, Some(status), zero)
    }

    /// NVIDIA's undocumented tables, of which there are none.
    fn cudaGetExportTable(out: Out<Opaque>, _id: In<CUuuid>) {
        static TOLD: AtomicBool = AtomicBool::new(false);
        out.set_if_given(std::ptr::null_mut());
        if !TOLD.swap(true, Ordering::Relaxed) {
            vgpu_transport::log::line(format_args!(
                "cudaGetExportTable: NVIDIA's undocumented tables are not supported"
            ));
        }
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    /// Begins profiling.
    fn cudaProfilerStart() {
        crate::runtime::enter()?.driver.cuProfilerStart()
    }

    /// Ends profiling.
    fn cudaProfilerStop() {
        crate::runtime::enter()?.driver.cuProfilerStop()
    }
}
