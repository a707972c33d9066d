//! Images that are none, names that are unknown, launches that no device can do.

use std::ffi::{CStr, CString, c_void};
use std::ptr;

use anyhow::{Result, ensure};

use super::fails;
use crate::call;
use crate::cuda::sys::CUresult::{
    CUDA_ERROR_INVALID_IMAGE, CUDA_ERROR_INVALID_PTX, CUDA_ERROR_INVALID_VALUE,
    CUDA_ERROR_NO_BINARY_FOR_GPU, CUDA_ERROR_NOT_FOUND,
};
use crate::cuda::{Arguments, Buffer, Failed, Module, Shape, sys};

/// Loads an image, and gives the error log too.
fn load(text: &str) -> (Result<(), Failed>, String) {
    let image = CString::new(text).unwrap_or_default();
    let mut log = vec![0u8; 4096];
    let mut options = [
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
        sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
    ];
    let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
    let mut module = ptr::null_mut();
    // SAFETY: the image ends with a NUL; both lists have two entries; the buffer is as long as the second says.
    let result = unsafe {
        let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        call!(cuModuleLoadDataEx(
            &mut module,
            image.as_ptr().cast(),
            2,
            options,
            values
        ))
    };
    let log = CStr::from_bytes_until_nul(&log).map(|log| log.to_string_lossy().into_owned());
    (result, log.unwrap_or_default())
}

pub fn broken_ptx(ptx: &str) -> Result<()> {
    let at = ptx
        .lines()
        .position(|line| line.contains("st.global"))
        .unwrap_or_default();
    let mut lines: Vec<_> = ptx.lines().collect();
    lines[at] = "\tst.global.u32 [%rd1, %r1;";
    let (result, log) = load(&lines.join("\n"));
    fails(result, &[CUDA_ERROR_INVALID_PTX])?;
    let place = format!("line {}", at + 1);
    ensure!(
        log.contains(&place),
        "the log does not say {place:?}: {log:?}"
    );
    Ok(())
}

pub fn not_an_image(_: &str) -> Result<()> {
    for text in ["", "no PTX at all", "\u{1}\u{2}\u{3}\u{4}"] {
        let expected = [
            CUDA_ERROR_INVALID_IMAGE,
            CUDA_ERROR_INVALID_PTX,
            CUDA_ERROR_NO_BINARY_FOR_GPU,
        ];
        fails(load(text).0, &expected)?;
    }
    let mut module = ptr::null_mut();
    // SAFETY: a null image is what the call has to find out.
    let result = unsafe { call!(cuModuleLoadData(&mut module, ptr::null())) };
    fails(result, &[CUDA_ERROR_INVALID_VALUE])
}

pub fn unknown_function(ptx: &str) -> Result<()> {
    let module = Module::load(ptx)?;
    let mut function = ptr::null_mut();
    // SAFETY: the module is loaded; the name ends with a NUL.
    let result = unsafe {
        call!(cuModuleGetFunction(
            &mut function,
            module.raw(),
            c"no_such_kernel".as_ptr()
        ))
    };
    fails(result, &[CUDA_ERROR_NOT_FOUND])
}

pub fn unknown_global(ptx: &str) -> Result<()> {
    let module = Module::load(ptx)?;
    let (mut address, mut bytes) = (0, 0);
    let name = c"no_such_variable".as_ptr();
    // SAFETY: the module is loaded; the name ends with a NUL.
    let result = unsafe {
        call!(cuModuleGetGlobal_v2(
            &mut address,
            &mut bytes,
            module.raw(),
            name
        ))
    };
    fails(result, &[CUDA_ERROR_NOT_FOUND])
}

/// Launches `write_at` with a shape that must be refused, and sees that nothing ran and the context still works.
fn refused(ptx: &str, shape: Shape) -> Result<()> {
    let module = Module::load(ptx)?;
    let kernel = module.function("write_at")?;
    let buffer = Buffer::<i32>::zeros(4)?;
    let arguments = Arguments::new()
        .with(buffer.address())
        .with(0i64)
        .with(7i32);
    fails(
        kernel.launch(shape, None, &arguments),
        &[CUDA_ERROR_INVALID_VALUE],
    )?;
    ensure!(buffer.read()? == [0; 4], "the refused launch ran");
    kernel.launch(Shape::grid(1, 1), None, &arguments)?;
    ensure!(
        buffer.read()? == [7, 0, 0, 0],
        "the launch after it did not run"
    );
    Ok(())
}

pub fn too_many_threads(ptx: &str) -> Result<()> {
    for block in [
        [1025, 1, 1],
        [1, 1025, 1],
        [1, 1, 65],
        [32, 33, 1],
        [u32::MAX, 2, 1],
    ] {
        refused(
            ptx,
            Shape {
                grid: [1, 1, 1],
                block,
                shared: 0,
            },
        )?;
    }
    for grid in [[1, 65_536, 1], [1, 1, 65_536], [u32::MAX, 1, 1]] {
        refused(
            ptx,
            Shape {
                grid,
                block: [1, 1, 1],
                shared: 0,
            },
        )?;
    }
    Ok(())
}

pub fn no_threads(ptx: &str) -> Result<()> {
    refused(
        ptx,
        Shape {
            grid: [0, 1, 1],
            block: [1, 1, 1],
            shared: 0,
        },
    )?;
    refused(
        ptx,
        Shape {
            grid: [1, 1, 1],
            block: [1, 0, 1],
            shared: 0,
        },
    )
}

pub fn too_much_shared_memory(ptx: &str) -> Result<()> {
    refused(
        ptx,
        Shape {
            grid: [1, 1, 1],
            block: [1, 1, 1],
            shared: 1 << 20,
        },
    )
}
