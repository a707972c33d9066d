//! Compares the crate's structures with NVIDIA's headers: a C program that the compiler refuses
//! where one differs. `cargo xtask test --only cudart` gives the headers.

use std::env;
use std::fmt::Write;
use std::fs;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use crate::prop;
use crate::types::*;

/// Assertions for a structure: its size, and the offset of each field by its name in C.
macro_rules! layout {
    ($text:ident, $c:literal, $rust:ty { $($field:literal = $name:ident),* $(,)? }) => {
        assert_size(&mut $text, $c, size_of::<$rust>());
        $(assert_offset(&mut $text, $c, $field, offset_of!($rust, $name));)*
    };
}

fn assert_size(text: &mut String, of: &str, bytes: usize) {
    writeln!(
        text,
        "_Static_assert(sizeof({of}) == {bytes}, \"size of {of}\");"
    )
    .expect("memory");
}

fn assert_offset(text: &mut String, of: &str, field: &str, at: usize) {
    writeln!(
        text,
        "_Static_assert(offsetof({of}, {field}) == {at}, \"{of}.{field}\");"
    )
    .expect("memory");
}

/// What must hold for the headers of a major version.
fn assertions(major: u32) -> String {
    let mut text = String::from("#include <stddef.h>\n#include <cuda_runtime_api.h>\n");
    writeln!(
        text,
        "_Static_assert(CUDART_VERSION / 1000 == {major}, \"version\");"
    )
    .expect("memory");
    let layout = match major {
        11 => prop::Layout::V11,
        12 => prop::Layout::V12,
        _ => prop::Layout::V13,
    };
    assert_size(&mut text, "struct cudaDeviceProp", prop::bytes(layout));
    for (field, at) in prop::offsets(layout) {
        assert_offset(&mut text, "struct cudaDeviceProp", field, at);
    }
    if major == 11 {
        assert_size(
            &mut text,
            "struct cudaFuncAttributes",
            size_of::<FuncAttributes11>(),
        );
    } else {
        layout!(text, "struct cudaFuncAttributes", FuncAttributes {
            "clusterDimMustBeSet" = cluster_must_be_set,
            "requiredClusterWidth" = cluster_width,
            "clusterSchedulingPolicyPreference" = cluster_scheduling,
            "nonPortableClusterSizeAllowed" = non_portable_cluster,
        });
    }
    for (field, at) in [
        ("sharedSizeBytes", offset_of!(FuncAttributes, shared)),
        ("constSizeBytes", offset_of!(FuncAttributes, constant)),
        ("localSizeBytes", offset_of!(FuncAttributes, local)),
        (
            "maxThreadsPerBlock",
            offset_of!(FuncAttributes, max_threads),
        ),
        ("numRegs", offset_of!(FuncAttributes, registers)),
        ("ptxVersion", offset_of!(FuncAttributes, ptx_version)),
        ("binaryVersion", offset_of!(FuncAttributes, binary_version)),
        ("cacheModeCA", offset_of!(FuncAttributes, cache_mode)),
        (
            "maxDynamicSharedSizeBytes",
            offset_of!(FuncAttributes, max_dynamic),
        ),
        (
            "preferredShmemCarveout",
            offset_of!(FuncAttributes, preferred_carveout),
        ),
    ] {
        assert_offset(&mut text, "struct cudaFuncAttributes", field, at);
    }
    let more = if major < 13 {
        0
    } else {
        crate::mem::RESERVED_13
    };
    assert_size(
        &mut text,
        "struct cudaPointerAttributes",
        size_of::<PointerAttributes>() + more,
    );
    for (field, at) in [
        ("type", offset_of!(PointerAttributes, kind)),
        ("device", offset_of!(PointerAttributes, device)),
        (
            "devicePointer",
            offset_of!(PointerAttributes, device_pointer),
        ),
        ("hostPointer", offset_of!(PointerAttributes, host_pointer)),
    ] {
        assert_offset(&mut text, "struct cudaPointerAttributes", field, at);
    }
    layout!(text, "struct cudaPitchedPtr", PitchedPtr {
        "ptr" = ptr, "pitch" = pitch, "xsize" = xsize, "ysize" = ysize,
    });
    layout!(text, "struct cudaPos", Pos { "x" = x, "y" = y, "z" = z });
    layout!(text, "struct cudaExtent", Extent {
        "width" = width, "height" = height, "depth" = depth,
    });
    layout!(text, "struct dim3", Dim3 { "x" = x, "y" = y, "z" = z });
    layout!(text, "struct cudaMemcpy3DParms", Memcpy3D {
        "srcArray" = src_array, "srcPos" = src_pos, "srcPtr" = src_ptr, "dstArray" = dst_array,
        "dstPos" = dst_pos, "dstPtr" = dst_ptr, "extent" = extent, "kind" = kind,
    });
    layout!(text, "struct cudaMemcpy3DPeerParms", Memcpy3DPeer {
        "srcArray" = src_array, "srcPos" = src_pos, "srcPtr" = src_ptr,
        "srcDevice" = src_device, "dstArray" = dst_array, "dstPos" = dst_pos,
        "dstPtr" = dst_ptr, "dstDevice" = dst_device, "extent" = extent,
    });
    layout!(text, "cudaLaunchConfig_t", LaunchConfig {
        "gridDim" = grid, "blockDim" = block, "dynamicSmemBytes" = shared, "stream" = stream,
        "attrs" = attributes, "numAttrs" = count,
    });
    layout!(text, "struct cudaKernelNodeParams", KernelNodeParams {
        "func" = func, "gridDim" = grid, "blockDim" = block, "sharedMemBytes" = shared,
        "kernelParams" = params, "extra" = extra,
    });
    layout!(text, "struct cudaChannelFormatDesc", ChannelFormatDesc {
        "x" = x, "y" = y, "z" = z, "w" = w, "f" = kind,
    });
    driver_structures(&mut text, major);
    text
}

/// Structures that are passed on to the driver as they are.
fn driver_structures(text: &mut String, major: u32) {
    use cudarc::driver::sys::*;
    for (of, bytes) in [
        (
            "struct cudaMemsetParams",
            size_of::<CUDA_MEMSET_NODE_PARAMS>(),
        ),
        (
            "struct cudaHostNodeParams",
            size_of::<CUDA_HOST_NODE_PARAMS>(),
        ),
        ("struct cudaMemLocation", size_of::<CUmemLocation>()),
        ("struct cudaMemPoolProps", size_of::<CUmemPoolProps>()),
        ("struct cudaMemAccessDesc", size_of::<CUmemAccessDesc>()),
        ("cudaLaunchAttribute", size_of::<CUlaunchAttribute>()),
        ("cudaIpcMemHandle_t", size_of::<CUipcMemHandle>()),
        ("cudaUUID_t", size_of::<CUuuid>()),
    ] {
        assert_size(text, of, bytes);
    }
    if major >= 12 {
        for (of, bytes) in [
            ("struct cudaGraphNodeParams", size_of::<CUgraphNodeParams>()),
            (
                "cudaGraphInstantiateParams",
                size_of::<CUDA_GRAPH_INSTANTIATE_PARAMS>(),
            ),
            (
                "cudaGraphExecUpdateResultInfo",
                size_of::<CUgraphExecUpdateResultInfo>(),
            ),
            ("cudaGraphEdgeData", size_of::<CUgraphEdgeData>()),
        ] {
            assert_size(text, of, bytes);
        }
        assert_offset(text, "struct cudaGraphNodeParams", "kernel", 16);
        assert_offset(text, "struct cudaGraphNodeParams", "memcpy.copyParams", 32);
    }
}

#[test]
#[ignore = "needs NVIDIA's headers: cargo xtask test --only cudart"]
fn structures_are_those_of_the_headers() {
    let paths = env::var_os("VGPU_CUDART_HEADERS").expect("VGPU_CUDART_HEADERS names the headers");
    let paths: Vec<_> = env::split_paths(&paths).collect();
    // The last has the compiler's part, which the runtime's packages lack.
    let (compiler, versions) = paths.split_last().expect("a list");
    let folder = env::temp_dir().join(format!("vgpu-cudart-layout-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the program");
    for headers in versions {
        let text = fs::read_to_string(headers.join("cuda_runtime_api.h")).expect("the header");
        let major = text
            .lines()
            .find_map(|l| {
                l.trim()
                    .strip_prefix("#define CUDART_VERSION")?
                    .trim()
                    .parse()
                    .ok()
            })
            .map(|version: u32| version / 1000)
            .expect("the header's version");
        check(&folder, headers, compiler, major);
    }
    fs::remove_dir_all(folder).expect("the folder goes");
}

fn check(folder: &Path, headers: &Path, compiler: &Path, major: u32) {
    let source = folder.join("layout.c");
    fs::write(&source, assertions(major)).expect("the program is written");
    let output = Command::new("cc")
        .args(["-std=c11", "-fsyntax-only"])
        .arg("-isystem")
        .arg(headers)
        .arg("-isystem")
        .arg(compiler)
        .arg(&source)
        .output()
        .expect("a C compiler");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", headers.display());
}
