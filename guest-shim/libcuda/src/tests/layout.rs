//! Compares the structures that programs hand over with NVIDIA's headers: a C program that the
//! compiler refuses where one differs. `cargo xtask test --only abi` gives the headers.

use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use cudarc::driver::sys::*;

/// Assertions for structures: the version of CUDA that brought each, its type here, its name in C,
/// and its fields. A `_` behind a field is Rust's.
macro_rules! layouts {
    ($($since:literal $rust:ty = $c:literal { $($field:ident),* $(,)? })*) => {{
        let mut text = String::from("#include <stddef.h>\n#include <cuda.h>\n");
        $({
            let fields: &[(&str, usize)] = &[$((stringify!($field), offset_of!($rust, $field))),*];
            assertions(&mut text, $since, $c, size_of::<$rust>(), fields);
        })*
        text
    }};
}

fn assertions(text: &mut String, since: u32, c: &str, bytes: usize, fields: &[(&str, usize)]) {
    let mut line = |what: String| writeln!(text, "{what}").expect("memory");
    line(format!("#if CUDA_VERSION >= {since}"));
    line(format!(
        "_Static_assert(sizeof({c}) == {bytes}, \"size of {c}\");"
    ));
    for (field, at) in fields {
        let field = field.trim_end_matches('_');
        line(format!(
            "_Static_assert(offsetof({c}, {field}) == {at}, \"{c}.{field}\");"
        ));
    }
    line("#endif".to_owned());
}

fn program() -> String {
    layouts! {
        11000 CUDA_MEMCPY2D = "CUDA_MEMCPY2D" {
            srcXInBytes, srcY, srcMemoryType, srcHost, srcDevice, srcArray, srcPitch, dstXInBytes,
            dstY, dstMemoryType, dstHost, dstDevice, dstArray, dstPitch, WidthInBytes, Height,
        }
        11000 CUDA_MEMCPY3D = "CUDA_MEMCPY3D" {
            srcXInBytes, srcY, srcZ, srcLOD, srcMemoryType, srcHost, srcDevice, srcArray, srcPitch,
            srcHeight, dstXInBytes, dstY, dstZ, dstLOD, dstMemoryType, dstHost, dstDevice, dstArray,
            dstPitch, dstHeight, WidthInBytes, Height, Depth,
        }
        11000 CUDA_MEMCPY3D_PEER = "CUDA_MEMCPY3D_PEER" {
            srcXInBytes, srcMemoryType, srcHost, srcDevice, srcContext, srcPitch, srcHeight,
            dstXInBytes, dstMemoryType, dstHost, dstDevice, dstContext, dstPitch, dstHeight,
            WidthInBytes, Height, Depth,
        }
        11000 CUDA_MEMSET_NODE_PARAMS = "CUDA_MEMSET_NODE_PARAMS" {
            dst, pitch, value, elementSize, width, height,
        }
        11000 CUDA_HOST_NODE_PARAMS = "CUDA_HOST_NODE_PARAMS" { fn_, userData }
        12000 CUDA_KERNEL_NODE_PARAMS_v2_st = "CUDA_KERNEL_NODE_PARAMS_v2" {
            func, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes,
            kernelParams, extra, kern, ctx,
        }
        11000 CUDA_KERNEL_NODE_PARAMS_st = "struct CUDA_KERNEL_NODE_PARAMS_st" {
            func, gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes,
            kernelParams, extra,
        }
        12020 CUDA_MEM_ALLOC_NODE_PARAMS_v1_st = "CUDA_MEM_ALLOC_NODE_PARAMS_v1" {
            poolProps, accessDescs, accessDescCount, bytesize, dptr,
        }
        11080 CUlaunchConfig = "CUlaunchConfig" {
            gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes, hStream,
            attrs, numAttrs,
        }
        11080 CUlaunchAttribute = "CUlaunchAttribute" { id, value }
        12030 CUgraphEdgeData = "CUgraphEdgeData" { from_port, to_port, type_, reserved }
        12000 CUDA_GRAPH_INSTANTIATE_PARAMS = "CUDA_GRAPH_INSTANTIATE_PARAMS" {
            flags, hUploadStream, hErrNode_out, result_out,
        }
        12000 CUgraphExecUpdateResultInfo = "CUgraphExecUpdateResultInfo" {
            result, errorNode, errorFromNode,
        }
        12020 CUgraphNodeParams = "CUgraphNodeParams" { type_, reserved0, reserved2 }
        12050 CUctxCreateParams = "CUctxCreateParams" {
            execAffinityParams, numExecAffinityParams, cigParams,
        }
        11040 CUexecAffinityParam = "CUexecAffinityParam" { type_, param }
        11000 CUdevprop = "CUdevprop" {
            maxThreadsPerBlock, maxThreadsDim, maxGridSize, sharedMemPerBlock, totalConstantMemory,
            SIMDWidth, memPitch, regsPerBlock, clockRate, textureAlign,
        }
        11000 CUmemLocation = "CUmemLocation" { type_ }
        11000 CUmemAllocationProp = "CUmemAllocationProp" {
            type_, requestedHandleTypes, location, win32HandleMetaData, allocFlags,
        }
        11000 CUmemAccessDesc = "CUmemAccessDesc" { location, flags }
        11020 CUmemPoolProps = "CUmemPoolProps" { allocType, handleTypes, location }
        11000 CUstreamBatchMemOpParams = "CUstreamBatchMemOpParams" {
            operation, waitValue, writeValue, pad,
        }
        11000 CUuuid = "CUuuid" { bytes }
        11000 CUipcMemHandle = "CUipcMemHandle" { reserved }
    }
}

#[test]
#[ignore = "needs NVIDIA's headers: cargo xtask test --only abi"]
fn structures_are_those_of_the_headers() {
    let paths = env::var_os("VGPU_CUDA_HEADERS").expect("VGPU_CUDA_HEADERS names the headers");
    let source = env::temp_dir().join(format!("vgpu-libcuda-layout-{}.c", std::process::id()));
    fs::write(&source, program()).expect("the program is written");
    let mut count = 0;
    for headers in env::split_paths(&paths) {
        check(&source, &headers);
        count += 1;
    }
    fs::remove_file(source).expect("the program goes");
    assert!(count >= 5, "{count} versions of the headers");
}

fn check(source: &Path, headers: &Path) {
    let output = Command::new("cc")
        .args(["-std=c11", "-fsyntax-only", "-isystem"])
        .arg(headers)
        .arg(source)
        .output()
        .expect("a C compiler");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", headers.display());
}
