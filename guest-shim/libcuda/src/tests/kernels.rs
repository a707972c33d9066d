//! Libraries, lists of kernels, launches of the old kind, and what one device lacks.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;

use cudarc::driver::sys::{CUfunction, CUkernel};

use super::{INVALID_CONTEXT, INVALID_VALUE, SUCCESS, alloc, context, function, module, turn};
use crate::abi::{Host, In, Out};
use crate::copy::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use crate::ctx::{cuCtxAttach, cuCtxCreate_v2, cuCtxDetach, cuCtxGetCurrent, cuCtxSetCurrent};
use crate::legacy::{
    cuFuncSetBlockShape, cuFuncSetSharedSize, cuLaunch, cuLaunchGrid, cuParamSetSize, cuParamSeti,
    cuParamSetv,
};
use crate::library::{
    cuKernelGetName, cuKernelGetParamCount, cuLibraryEnumerateKernels, cuLibraryGetKernelCount,
    cuLibraryLoadData, cuLibraryUnload,
};
use crate::module::{cuModuleEnumerateFunctions, cuModuleGetFunctionCount};
use crate::occupancy::{
    cuOccupancyAvailableDynamicSMemPerBlock, cuOccupancyMaxActiveBlocksPerMultiprocessor,
};
use crate::peer::{
    cuCtxDisablePeerAccess, cuCtxEnablePeerAccess, cuCtxGetExecAffinity,
    cuCtxResetPersistingL2Cache, cuDeviceGetExecAffinitySupport, cuDeviceGetLuid,
    cuDeviceGetP2PAttribute, cuFlushGPUDirectRDMAWrites, cuProfilerStart, cuProfilerStop,
};

const NOT_SUPPORTED: u32 = 801;
const INVALID_DEVICE: u32 = 101;

#[test]
fn the_kernels_of_a_module_and_of_a_library_are_listed() {
    let turn = turn();
    let _ctx = context();
    let module = module();
    let mut count = 0;
    assert_eq!(
        cuModuleGetFunctionCount(Out::to(&mut count), module),
        SUCCESS
    );
    assert_eq!(count, 2);
    let mut functions = [null_mut(); 3];
    let place = Host::to(&mut functions).out();
    assert_eq!(cuModuleEnumerateFunctions(place, 0, module), INVALID_VALUE);
    assert_eq!(cuModuleEnumerateFunctions(place, 3, module), SUCCESS);
    assert_eq!(functions[0], function(module));
    assert!(functions[2].is_null());
    // The list is asked for once.
    assert_eq!(turn.count("cuModuleEnumerateFunctions"), 1);

    let mut library = null_mut();
    let mut image = *b".version 8.0\n\0";
    let done = cuLibraryLoadData(
        Out::to(&mut library),
        Host::to(&mut image),
        Out::null(),
        Out::null(),
        0,
        In::null(),
        In::null(),
        0,
    );
    assert_eq!(done, SUCCESS);
    // Without a current context, too.
    let mut current = null_mut();
    assert_eq!(cuCtxGetCurrent(Out::to(&mut current)), SUCCESS);
    assert_eq!(cuCtxSetCurrent(null_mut()), SUCCESS);
    let mut kernels: [CUkernel; 2] = [null_mut(); 2];
    assert_eq!(
        cuLibraryGetKernelCount(Out::to(&mut count), library),
        SUCCESS
    );
    assert_eq!(count, 2);
    let place = Host::to(&mut kernels).out();
    assert_eq!(cuLibraryEnumerateKernels(place, 2, library), SUCCESS);
    let (mut name, mut params) = (std::ptr::null::<c_char>(), 0);
    assert_eq!(cuKernelGetName(Out::to(&mut name), kernels[0]), SUCCESS);
    let text = Host(name.cast_mut().cast()).text();
    assert_eq!(text.bytes(), Ok(&b"vector_add"[..]));
    assert_eq!(
        cuKernelGetParamCount(kernels[0], Out::to(&mut params)),
        SUCCESS
    );
    assert_eq!(params, 4);
    assert_eq!(cuCtxSetCurrent(current), SUCCESS);
    assert_eq!(cuLibraryUnload(library), SUCCESS);
    assert_eq!(
        cuLibraryGetKernelCount(Out::to(&mut count), library),
        super::INVALID_HANDLE
    );
}

#[test]
fn the_old_launches_take_what_was_set_before() {
    let _turn = turn();
    let _ctx = context();
    let kernel: CUfunction = function(module());
    const N: usize = 64;
    let mut data: Vec<f32> = (0..N).map(|i| i as f32).collect();
    let mut at = [alloc(4 * N), alloc(4 * N), alloc(4 * N)];
    for at in &at[..2] {
        assert_eq!(cuMemcpyHtoD_v2(*at, Host::to(&mut data), 4 * N), SUCCESS);
    }
    // No shape was set.
    assert_eq!(cuLaunch(kernel), INVALID_VALUE);
    assert_eq!(cuFuncSetBlockShape(kernel, 32, 0, 1), INVALID_VALUE);
    assert_eq!(cuFuncSetBlockShape(kernel, 32, 1, 1), SUCCESS);
    assert_eq!(cuFuncSetSharedSize(kernel, 0), SUCCESS);
    assert_eq!(cuParamSetSize(kernel, 28), SUCCESS);
    assert_eq!(cuParamSetSize(kernel, 1 << 20), INVALID_VALUE);
    assert_eq!(cuParamSetv(kernel, 0, Host::to(&mut at), 24), SUCCESS);
    assert_eq!(
        cuParamSetv(kernel, -1, Host::to(&mut at), 24),
        INVALID_VALUE
    );
    assert_eq!(cuParamSeti(kernel, 24, N as u32), SUCCESS);
    assert_eq!(cuLaunchGrid(kernel, 2, 1), SUCCESS);
    assert_eq!(cuLaunchGrid(kernel, 0, 1), INVALID_VALUE);
    let mut sum = vec![0f32; N];
    assert_eq!(cuMemcpyDtoH_v2(Host::to(&mut sum), at[2], 4 * N), SUCCESS);
    assert_eq!(sum[N - 1], 2.0 * (N - 1) as f32);
}

#[test]
fn one_device_has_no_peers_and_shares_nothing() {
    let _turn = turn();
    let own = context();
    let (mut value, mut mask, mut luid) = (7, 0, [0 as c_char; 8]);
    let place = Out::to(&mut value);
    assert_eq!(cuDeviceGetP2PAttribute(place, 1, 0, 0), INVALID_DEVICE);
    assert_eq!(cuDeviceGetP2PAttribute(place, 1, 0, 3), INVALID_DEVICE);
    assert_eq!(
        cuDeviceGetLuid(Host::to(&mut luid).out(), Out::to(&mut mask), 0),
        NOT_SUPPORTED
    );
    assert_eq!(cuDeviceGetExecAffinitySupport(place, 0, 0), SUCCESS);
    assert_eq!(value, 0);
    assert_eq!(cuDeviceGetExecAffinitySupport(place, 9, 0), INVALID_VALUE);
    let mut param = [0u64; 4];
    let param = Host::to(&mut param).out();
    assert_eq!(cuCtxGetExecAffinity(param, 0), 224);
    assert_eq!(cuCtxGetExecAffinity(param, 5), INVALID_VALUE);
    assert_eq!(cuFlushGPUDirectRDMAWrites(0, 100), NOT_SUPPORTED);
    assert_eq!(cuFlushGPUDirectRDMAWrites(0, 7), INVALID_VALUE);
    assert_eq!(cuCtxResetPersistingL2Cache(), NOT_SUPPORTED);
    // The same context is no peer; another one of the same device has no access.
    assert_eq!(cuCtxEnablePeerAccess(own.0, 0), INVALID_CONTEXT);
    let mut other = null_mut();
    assert_eq!(cuCtxCreate_v2(Out::to(&mut other), 0, 0), SUCCESS);
    assert_eq!(cuCtxEnablePeerAccess(own.0, 0), 217);
    assert_eq!(cuCtxEnablePeerAccess(own.0, 1), INVALID_VALUE);
    assert_eq!(cuCtxDisablePeerAccess(own.0), 705);
    assert_eq!(
        cuCtxEnablePeerAccess(0x1234 as *mut c_void as _, 0),
        INVALID_CONTEXT
    );
    assert_eq!((cuProfilerStart(), cuProfilerStop()), (SUCCESS, SUCCESS));
    // Attached once more, the first detachment leaves it.
    let mut again = null_mut();
    assert_eq!(cuCtxAttach(Out::to(&mut again), 1), INVALID_VALUE);
    assert_eq!(cuCtxAttach(Out::to(&mut again), 0), SUCCESS);
    assert_eq!(again, other);
    assert_eq!(cuCtxDetach(own.0), INVALID_CONTEXT);
    assert_eq!(cuCtxDetach(other), SUCCESS);
    assert_eq!(cuProfilerStart(), SUCCESS);
    assert_eq!(cuCtxDetach(other), SUCCESS);
    assert_eq!(cuCtxDetach(other), INVALID_CONTEXT);
}

#[test]
fn shared_memory_is_divided_among_the_blocks() {
    let _turn = turn();
    let _ctx = context();
    let kernel = function(module());
    let (mut blocks, mut one, mut two) = (0, 0, 0);
    assert_eq!(
        cuOccupancyMaxActiveBlocksPerMultiprocessor(Out::to(&mut blocks), kernel, 256, 0),
        SUCCESS
    );
    let of = |bytes, blocks| cuOccupancyAvailableDynamicSMemPerBlock(bytes, kernel, blocks, 256);
    assert_eq!(of(Out::to(&mut one), 1), SUCCESS);
    assert_eq!(of(Out::to(&mut two), 2), SUCCESS);
    assert!(two <= one, "{two} of two, {one} of one");
    assert_eq!(of(Out::to(&mut one), 0), INVALID_VALUE);
    assert_eq!(of(Out::to(&mut one), blocks + 1), INVALID_VALUE);
}
