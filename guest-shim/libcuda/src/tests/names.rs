//! Names: results, cuGetProcAddress and what is not supported.

use std::collections::HashSet;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};

use cudarc::driver::sys;

use super::{INVALID_VALUE, SUCCESS, turn};
use crate::abi::{Host, Out, Text};
use crate::entry::{
    self, cuGetExportTable, cuGetProcAddress, cuGetProcAddress_ptsz, cuGetProcAddress_v2,
};
use crate::error::{cuGetErrorName, cuGetErrorString};
use crate::unsupported;

fn text(of: extern "C" fn(u32, Out<*const c_char>) -> u32, error: u32) -> (u32, String) {
    let mut text: *const c_char = null();
    let done = of(error, Out::to(&mut text));
    let bytes = Host(text.cast_mut().cast())
        .text()
        .bytes()
        .unwrap_or_default();
    (done, String::from_utf8_lossy(bytes).into_owned())
}

#[test]
fn results_have_nvidias_names() {
    for error in [
        sys::CUresult::CUDA_SUCCESS,
        sys::CUresult::CUDA_ERROR_INVALID_VALUE,
        sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        sys::CUresult::CUDA_ERROR_INVALID_CLUSTER_SIZE,
        sys::CUresult::CUDA_ERROR_UNKNOWN,
    ] {
        assert_eq!(
            text(cuGetErrorName, error as u32),
            (SUCCESS, format!("{error:?}"))
        );
    }
    assert_eq!(text(cuGetErrorString, 2), (SUCCESS, "out of memory".into()));
    assert_eq!(text(cuGetErrorName, 12345), (INVALID_VALUE, String::new()));
    assert_eq!(
        text(cuGetErrorString, 12345),
        (INVALID_VALUE, String::new())
    );
    assert_eq!(cuGetErrorName(0, Out::null()), INVALID_VALUE);
}

#[test]
fn every_code_of_the_protocol_has_the_same_name_here() {
    for (status, name) in vgpu_protocol::status::NAMES {
        assert_eq!(text(cuGetErrorName, status.0), (SUCCESS, name.to_string()));
    }
}

fn address(symbol: &str) -> *mut c_void {
    entry::all()
        .find(|e| e.name == symbol)
        .expect(symbol)
        .address()
}

fn proc(name: &'static CStr, version: i32, flags: u64) -> (u32, *mut c_void, i32) {
    let (mut at, mut status) = (null_mut(), -1);
    let done = cuGetProcAddress_v2(
        Text::to(name),
        Out::to(&mut at),
        version,
        flags,
        Out::to(&mut status),
    );
    (done, at, status)
}

#[test]
fn the_version_asked_for_chooses_the_abi() {
    for (name, version, symbol) in [
        (c"cuMemAlloc", 12_000, "cuMemAlloc_v2"),
        (c"cuMemAlloc", 3_000, "cuMemAlloc"),
        (c"cuCtxSynchronize", 12_090, "cuCtxSynchronize"),
        (c"cuCtxSynchronize", 13_000, "cuCtxSynchronize_v2"),
        (c"cuStreamGetCaptureInfo", 11_020, "cuStreamGetCaptureInfo"),
        (
            c"cuStreamGetCaptureInfo",
            11_030,
            "cuStreamGetCaptureInfo_v2",
        ),
        (
            c"cuStreamGetCaptureInfo",
            12_030,
            "cuStreamGetCaptureInfo_v3",
        ),
        (c"cuGetProcAddress", 11_030, "cuGetProcAddress"),
        (c"cuGetProcAddress", 12_000, "cuGetProcAddress_v2"),
        (c"cuGraphInstantiate", 11_000, "cuGraphInstantiate_v2"),
    ] {
        assert_eq!(
            proc(name, version, 0),
            (SUCCESS, address(symbol), 0),
            "{symbol}"
        );
    }
}

#[test]
fn flags_choose_the_default_stream() {
    let of = |flags| proc(c"cuLaunchKernel", 12_000, flags);
    assert_eq!(of(1), (SUCCESS, address("cuLaunchKernel"), 0));
    assert_eq!(of(2), (SUCCESS, address("cuLaunchKernel_ptsz"), 0));
    assert_eq!(of(3).0, INVALID_VALUE);
    assert_eq!(of(4).0, INVALID_VALUE);
    let copy = proc(c"cuMemcpyHtoD", 12_000, 2);
    assert_eq!(copy, (SUCCESS, address("cuMemcpyHtoD_v2_ptds"), 0));
    // What has no stream has no twin.
    assert_eq!(proc(c"cuInit", 12_000, 2), (SUCCESS, address("cuInit"), 0));
    let mut at = null_mut();
    let name = Text::to(c"cuStreamQuery");
    assert_eq!(
        cuGetProcAddress_ptsz(name, Out::to(&mut at), 12_000, 0),
        SUCCESS
    );
    assert_eq!(at, address("cuStreamQuery_ptsz"));
}

#[test]
fn unknown_names_and_too_old_versions_are_not_found() {
    assert_eq!(proc(c"cuNoSuchThing", 13_000, 0), (500, null_mut(), 1));
    assert_eq!(proc(c"cuLibraryLoadData", 11_000, 0), (500, null_mut(), 2));
    assert_eq!(proc(c"", 13_000, 0).0, INVALID_VALUE);
    let mut at = null_mut();
    assert_eq!(
        cuGetProcAddress(Text::to(c"cuInit"), Out::to(&mut at), 12_000, 0),
        SUCCESS
    );
    assert_eq!(at, address("cuInit"));
    assert_eq!(
        cuGetProcAddress(Text::to(c"cuInit"), Out::null(), 12_000, 0),
        INVALID_VALUE
    );
}

#[test]
fn every_version_in_the_list_leads_to_an_export() {
    let names: HashSet<&str> = entry::all().map(|e| e.name).collect();
    for (base, version, symbol) in unsupported::VERSIONS {
        assert!(names.contains(symbol), "{base} {version}: {symbol}");
    }
}

#[test]
fn what_is_not_implemented_says_so() {
    let _turn = turn();
    for stub in unsupported::EXPORTS {
        assert_eq!(stub.call(), 801, "{}", stub.name);
    }
    let mut table: *const c_void = std::ptr::dangling();
    assert_eq!(cuGetExportTable(Out::to(&mut table), Host(null_mut())), 801);
    assert!(table.is_null());
}
