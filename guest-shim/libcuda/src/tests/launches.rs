//! Modules, kernels and launches.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;

use cudarc::driver::sys::{CUfunction, CUlaunchConfig_st, CUmodule};

use super::{INVALID_HANDLE, INVALID_VALUE, SUCCESS, alloc, context, function, module, turn};
use crate::abi::{Host, In, Out, Text};
use crate::copy::{cuMemcpyDtoH_v2, cuMemcpyHtoD_v2};
use crate::ctx::cuCtxSynchronize;
use crate::func::{
    cuFuncGetAttribute, cuFuncGetModule, cuFuncGetName, cuFuncGetParamInfo, cuFuncSetAttribute,
};
use crate::launch::{cuLaunchKernel, cuLaunchKernelEx};
use crate::library::{
    cuKernelGetAttribute, cuKernelGetFunction, cuKernelGetLibrary, cuKernelSetAttribute,
    cuLibraryGetKernel, cuLibraryLoadData, cuLibraryUnload,
};
use crate::module::{
    cuModuleGetFunction, cuModuleLoad, cuModuleLoadData, cuModuleLoadDataEx, cuModuleUnload,
};
use crate::occupancy::{
    cuOccupancyMaxActiveBlocksPerMultiprocessor, cuOccupancyMaxPotentialBlockSize,
};

const N: usize = 1000;

/// Vectors on the device, and their addresses as kernel parameters.
struct Vectors {
    pointers: [u64; 3],
    n: u32,
}

impl Vectors {
    fn new() -> Vectors {
        let pointers = [alloc(4 * N), alloc(4 * N), alloc(4 * N)];
        let mut data: Vec<f32> = (0..N).map(|i| i as f32).collect();
        for at in &pointers[..2] {
            assert_eq!(cuMemcpyHtoD_v2(*at, Host::to(&mut data), 4 * N), SUCCESS);
        }
        Vectors {
            pointers,
            n: N as u32,
        }
    }

    fn params(&mut self) -> [*mut c_void; 4] {
        let [a, b, c] = &mut self.pointers;
        [
            (&raw mut *a).cast(),
            (&raw mut *b).cast(),
            (&raw mut *c).cast(),
            (&raw mut self.n).cast(),
        ]
    }

    fn check(&self) {
        let mut sum = vec![0f32; N];
        assert_eq!(
            cuMemcpyDtoH_v2(Host::to(&mut sum), self.pointers[2], 4 * N),
            SUCCESS
        );
        for (i, value) in sum.iter().enumerate() {
            assert_eq!(*value, 2.0 * i as f32);
        }
    }
}

#[test]
fn parameters_arrive_from_pointers() {
    let _turn = turn();
    let _ctx = context();
    let mut vectors = Vectors::new();
    let kernel = function(module());
    let params = vectors.params();
    let done = cuLaunchKernel(
        kernel,
        4,
        1,
        1,
        256,
        1,
        1,
        0,
        null_mut(),
        In::to(&params),
        In::null(),
    );
    assert_eq!(done, SUCCESS);
    vectors.check();
}

#[test]
fn parameters_arrive_from_a_buffer() {
    let _turn = turn();
    let _ctx = context();
    let vectors = Vectors::new();
    let kernel = function(module());
    let [a, b, c] = vectors.pointers;
    let mut buffer = [a, b, c, N as u64];
    let mut size = [28usize];
    let mut extra = |size: &mut [usize; 1]| {
        [
            std::ptr::without_provenance_mut(1),
            buffer.as_mut_ptr().cast(),
            std::ptr::without_provenance_mut(2),
            size.as_mut_ptr().cast(),
            null_mut(),
        ]
    };
    let launch = |extra: &[*mut c_void]| {
        cuLaunchKernel(
            kernel,
            4,
            1,
            1,
            256,
            1,
            1,
            0,
            null_mut(),
            In::null(),
            In::to(extra),
        )
    };
    assert_eq!(launch(&extra(&mut size)), SUCCESS);
    vectors.check();
    // One byte too few.
    size = [27];
    assert_eq!(launch(&extra(&mut size)), INVALID_VALUE);
}

#[test]
fn impossible_launches_are_refused_before_they_are_sent() {
    let turn = turn();
    let _ctx = context();
    let mut vectors = Vectors::new();
    let kernel = function(module());
    let params = vectors.params();
    let before = turn.count("cuLaunchKernel");
    let launch = |grid: u32, block: [u32; 3], shared: u32| {
        let [x, y, z] = block;
        cuLaunchKernel(
            kernel,
            grid,
            1,
            1,
            x,
            y,
            z,
            shared,
            null_mut(),
            In::to(&params),
            In::null(),
        )
    };
    assert_eq!(launch(0, [1, 1, 1], 0), INVALID_VALUE);
    assert_eq!(launch(1, [0, 1, 1], 0), INVALID_VALUE);
    assert_eq!(launch(1, [1025, 1, 1], 0), INVALID_VALUE);
    assert_eq!(launch(1, [32, 33, 1], 0), INVALID_VALUE);
    assert_eq!(launch(1, [1, 1, 65], 0), INVALID_VALUE);
    assert_eq!(launch(1, [1, 1, 1], (48 << 10) + 1), INVALID_VALUE);
    let none = cuLaunchKernel(
        kernel,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        null_mut(),
        In::null(),
        In::null(),
    );
    assert_eq!(none, INVALID_VALUE);
    let both = cuLaunchKernel(
        kernel,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        null_mut(),
        In::to(&params),
        In::to(&params),
    );
    assert_eq!(both, INVALID_VALUE);
    assert_eq!(turn.count("cuLaunchKernel"), before);
    assert_eq!(launch(1, [1024, 1, 1], 48 << 10), SUCCESS);
    assert_eq!(turn.count("cuLaunchKernel"), before + 1);
}

#[test]
fn more_dynamic_shared_memory_is_allowed_once_it_was_asked_for() {
    let _turn = turn();
    let _ctx = context();
    let mut vectors = Vectors::new();
    let kernel = function(module());
    let params = vectors.params();
    assert_eq!(cuFuncSetAttribute(kernel, 8, 100 << 10), SUCCESS);
    let mut value = 0;
    assert_eq!(cuFuncGetAttribute(Out::to(&mut value), 8, kernel), SUCCESS);
    assert_eq!(value, 100 << 10);
    let shared = 100 << 10;
    let done = cuLaunchKernel(
        kernel,
        1,
        1,
        1,
        1,
        1,
        1,
        shared,
        null_mut(),
        In::to(&params),
        In::null(),
    );
    assert_eq!(done, SUCCESS);
    // Read-only.
    assert_eq!(cuFuncSetAttribute(kernel, 4, 1), INVALID_VALUE);
}

#[test]
fn a_failed_launch_shows_at_the_next_synchronisation() {
    let _turn = turn();
    let _ctx = context();
    let mut kernel = null_mut();
    let name = Text::to(c"fault");
    assert_eq!(
        cuModuleGetFunction(Out::to(&mut kernel), module(), name),
        SUCCESS
    );
    let done = cuLaunchKernel(
        kernel,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        null_mut(),
        In::null(),
        In::null(),
    );
    assert_eq!(done, SUCCESS);
    assert_eq!(cuCtxSynchronize(), 719);
}

#[test]
fn launch_attributes_without_effect_are_accepted_and_others_are_not() {
    let _turn = turn();
    let _ctx = context();
    let mut vectors = Vectors::new();
    let kernel = function(module());
    let params = vectors.params();
    // Attribute id, then (at 8 bytes) the value, 72 bytes in all.
    let launch = |id: u32, value: [u32; 3]| {
        let mut attribute = [0u32; 18];
        attribute[0] = id;
        attribute[2..5].copy_from_slice(&value);
        let config = CUlaunchConfig_st {
            gridDimX: 4,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: 256,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: null_mut(),
            attrs: attribute.as_mut_ptr().cast(),
            numAttrs: 1,
        };
        cuLaunchKernelEx(In::to(&[config]), kernel, In::to(&params), In::null())
    };
    assert_eq!(launch(0, [0; 3]), SUCCESS);
    assert_eq!(launch(6, [1, 0, 0]), SUCCESS);
    assert_eq!(launch(4, [1, 1, 1]), SUCCESS);
    assert_eq!(launch(4, [2, 1, 1]), 801);
    assert_eq!(launch(2, [1, 0, 0]), 801);
    vectors.check();
}

#[test]
fn a_kernel_knows_its_parameters_name_and_module() {
    let turn = turn();
    let _ctx = context();
    let module = module();
    let kernel = function(module);
    let asked = turn.count("cuModuleGetFunction");
    assert_eq!(function(module), kernel);
    assert_eq!(turn.count("cuModuleGetFunction"), asked, "known already");
    let (mut offset, mut bytes) = (0, 0);
    let info = |i, offset: &mut usize, bytes: &mut usize| {
        cuFuncGetParamInfo(kernel, i, Out::to(offset), Out::to(bytes))
    };
    assert_eq!(info(3, &mut offset, &mut bytes), SUCCESS);
    assert_eq!((offset, bytes), (24, 4));
    assert_eq!(info(4, &mut offset, &mut bytes), INVALID_VALUE);
    let mut name: *const c_char = std::ptr::null();
    assert_eq!(cuFuncGetName(Out::to(&mut name), kernel), SUCCESS);
    let name = Host(name.cast_mut().cast()).text();
    assert_eq!(name.bytes(), Ok(&b"vector_add"[..]));
    let mut of: CUmodule = null_mut();
    assert_eq!(cuFuncGetModule(Out::to(&mut of), kernel), SUCCESS);
    assert_eq!(of, module);
    let mut blocks = 0;
    let of = cuOccupancyMaxActiveBlocksPerMultiprocessor(Out::to(&mut blocks), kernel, 256, 0);
    // 2048 threads of 256; 16 registers each leave room.
    assert_eq!((of, blocks), (SUCCESS, 8));
    let (mut grid, mut block) = (0, 0);
    extern "C" fn shared(threads: i32) -> usize {
        // More than 512 threads do not get what they need.
        if threads > 512 { 1 << 20 } else { 0 }
    }
    let places = (Out::to(&mut grid), Out::to(&mut block));
    let done = cuOccupancyMaxPotentialBlockSize(places.0, places.1, kernel, Some(shared), 0, 0);
    assert_eq!((done, grid, block), (SUCCESS, 4 * 8, 512));
}

#[test]
fn an_unloaded_module_takes_its_kernels_along() {
    let _turn = turn();
    let _ctx = context();
    let module = module();
    let kernel = function(module);
    assert_eq!(cuModuleUnload(module), SUCCESS);
    assert_eq!(cuModuleUnload(module), INVALID_VALUE);
    let mut value = 0;
    assert_eq!(
        cuFuncGetAttribute(Out::to(&mut value), 0, kernel),
        INVALID_HANDLE
    );
    let done = cuLaunchKernel(
        kernel,
        1,
        1,
        1,
        1,
        1,
        1,
        0,
        null_mut(),
        In::null(),
        In::null(),
    );
    assert_eq!(done, INVALID_HANDLE);
    // A handle of another kind is no module either.
    let _again = self::module();
    assert_eq!(cuModuleUnload(kernel.cast()), INVALID_VALUE);
}

#[test]
fn a_failed_load_gives_its_log_cut_to_the_buffer() {
    let turn = turn();
    let _ctx = context();
    let mut image = *b"bad\0";
    let load = |log: &mut [u8], level: usize, image: &mut [u8]| {
        let mut module = null_mut();
        let mut names = [5, 6, 7];
        let mut values = [
            log.as_mut_ptr().cast(),
            log.len() as *mut c_void,
            level as *mut c_void,
        ];
        let done = cuModuleLoadDataEx(
            Out::to(&mut module),
            Host::to(image),
            3,
            Host::to(&mut names).out(),
            Host::to(&mut values).out(),
        );
        (done, values[1] as usize)
    };
    let mut log = [0xffu8; 64];
    assert_eq!(load(&mut log, 4, &mut image), (218, 21));
    let text = CStr::from_bytes_until_nul(&log).expect("terminated");
    assert_eq!(text, c"line 1; column 1: bad");
    let mut short = [0xffu8; 5];
    assert_eq!(load(&mut short, 4, &mut image), (218, 4));
    assert_eq!(&short, b"line\0");
    let options = turn.device.host().options.clone();
    assert_eq!(
        (options.len(), options[0].option, options[0].value),
        (1, 7, 4)
    );
    // The next load is not disturbed.
    module();
}

#[test]
fn files_that_are_not_there_and_null_images_are_refused() {
    let _turn = turn();
    let _ctx = context();
    let mut module = null_mut();
    assert_eq!(
        cuModuleLoad(Out::to(&mut module), Text::to(c"/nonexistent.ptx")),
        301
    );
    assert_eq!(
        cuModuleLoadData(Out::to(&mut module), Host(null_mut())),
        INVALID_VALUE
    );
    let kernel = Text::to(c"no such kernel");
    assert_eq!(
        cuModuleGetFunction(Out::to(&mut null_mut()), self::module(), kernel),
        500
    );
}

#[test]
fn a_library_gives_kernels_that_launch() {
    let _turn = turn();
    let _ctx = context();
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
    let mut kernel = null_mut();
    let name = Text::to(c"vector_add");
    assert_eq!(
        cuLibraryGetKernel(Out::to(&mut kernel), library, name),
        SUCCESS
    );
    let mut of = null_mut();
    assert_eq!(cuKernelGetLibrary(Out::to(&mut of), kernel), SUCCESS);
    assert_eq!(of, library);
    let mut vectors = Vectors::new();
    let params = vectors.params();
    let done = cuLaunchKernel(
        kernel as CUfunction,
        4,
        1,
        1,
        256,
        1,
        1,
        0,
        null_mut(),
        In::to(&params),
        In::null(),
    );
    assert_eq!(done, SUCCESS);
    vectors.check();
    assert_eq!(cuLibraryUnload(library), SUCCESS);
    assert_eq!(cuLibraryUnload(library), INVALID_VALUE);
    let mut value = 0;
    assert_eq!(
        cuFuncGetAttribute(Out::to(&mut value), 0, kernel as CUfunction),
        INVALID_HANDLE
    );
}

#[test]
fn an_attribute_of_a_kernel_holds_in_each_context() {
    const MAX_DYNAMIC: i32 = 8;
    let _turn = turn();
    let first = context();
    let mut library = null_mut();
    let mut image = *b".version 8.0\n\0";
    let (preserved, yes) = ([1], [std::ptr::dangling_mut::<c_void>()]);
    let done = cuLibraryLoadData(
        Out::to(&mut library),
        Host::to(&mut image),
        Out::null(),
        Out::null(),
        0,
        In::to(&preserved),
        In::to(&yes),
        1,
    );
    assert_eq!(done, SUCCESS);
    let mut kernel = null_mut();
    let name = Text::to(c"vector_add");
    assert_eq!(
        cuLibraryGetKernel(Out::to(&mut kernel), library, name),
        SUCCESS
    );
    assert_eq!(cuKernelSetAttribute(MAX_DYNAMIC, 4096, kernel, 0), SUCCESS);
    // A read-only one.
    assert_eq!(cuKernelSetAttribute(4, 1, kernel, 0), INVALID_VALUE);
    drop(first);
    let _second = context();
    let (mut function, mut value) = (null_mut(), 0);
    assert_eq!(cuKernelGetFunction(Out::to(&mut function), kernel), SUCCESS);
    let at = Out::to(&mut value);
    assert_eq!(cuFuncGetAttribute(at, MAX_DYNAMIC, function), SUCCESS);
    assert_eq!(value, 4096);
    assert_eq!(cuKernelGetAttribute(at, MAX_DYNAMIC, kernel, 0), SUCCESS);
    assert_eq!(value, 4096);
    assert_eq!(cuKernelGetAttribute(at, MAX_DYNAMIC, kernel, 7), 101);
    // The same kernel has the same handle, and another name none.
    let mut again = null_mut();
    assert_eq!(
        cuLibraryGetKernel(Out::to(&mut again), library, name),
        SUCCESS
    );
    assert_eq!(again, kernel);
    assert_eq!(cuLibraryUnload(library), SUCCESS);
    assert_eq!(
        cuKernelGetFunction(Out::to(&mut function), kernel),
        INVALID_HANDLE
    );
}
