//! Structures of the runtime that the driver has none like. `layout.rs` compares them with NVIDIA's
//! headers of each version.

use std::ffi::c_void;

use cudarc::driver::sys::{CUarray, CUlaunchAttribute, CUstream};

/// `dim3`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dim3 {
    /// In x.
    pub x: u32,
    /// In y.
    pub y: u32,
    /// In z.
    pub z: u32,
}

/// `cudaFuncAttributes` of CUDA 11: the first ten fields of the newer ones.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FuncAttributes11 {
    sizes: [usize; 3],
    numbers: [i32; 7],
}

impl FuncAttributes {
    /// What CUDA 11 has of it.
    pub fn first(&self) -> FuncAttributes11 {
        FuncAttributes11 {
            sizes: [self.shared, self.constant, self.local],
            numbers: [
                self.max_threads,
                self.registers,
                self.ptx_version,
                self.binary_version,
                self.cache_mode,
                self.max_dynamic,
                self.preferred_carveout,
            ],
        }
    }
}

/// `cudaFuncAttributes` since CUDA 12.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FuncAttributes {
    /// Static shared memory, in bytes.
    pub shared: usize,
    /// Constant memory, in bytes.
    pub constant: usize,
    /// Local memory of a thread, in bytes.
    pub local: usize,
    /// Most threads of a block.
    pub max_threads: i32,
    /// Registers of a thread.
    pub registers: i32,
    /// Version of the PTX: ten times the major number plus the minor.
    pub ptx_version: i32,
    /// Version of the machine code.
    pub binary_version: i32,
    /// Whether global loads are cached in L1.
    pub cache_mode: i32,
    /// Most dynamic shared memory of a block, in bytes.
    pub max_dynamic: i32,
    /// Preferred share of shared memory in the L1, in percent.
    pub preferred_carveout: i32,
    /// Whether a launch must say the size of clusters.
    pub cluster_must_be_set: i32,
    /// Required size of clusters.
    pub cluster_width: i32,
    /// Required size of clusters.
    pub cluster_height: i32,
    /// Required size of clusters.
    pub cluster_depth: i32,
    /// How clusters are scheduled.
    pub cluster_scheduling: i32,
    /// Whether clusters may be larger than is portable.
    pub non_portable_cluster: i32,
    /// Not in use, or newer than this runtime.
    pub reserved: [i32; 16],
}

/// `cudaPointerAttributes` up to CUDA 12. That of CUDA 13 has 64 reserved bytes more.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PointerAttributes {
    /// `cudaMemoryType`.
    pub kind: i32,
    /// The device's ordinal.
    pub device: i32,
    /// The address for the device.
    pub device_pointer: *mut c_void,
    /// The address for the program.
    pub host_pointer: *mut c_void,
}

/// `cudaPitchedPtr`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PitchedPtr {
    /// The address.
    pub ptr: *mut c_void,
    /// Bytes from row to row.
    pub pitch: usize,
    /// Width of the allocation, in elements.
    pub xsize: usize,
    /// Height of the allocation, in rows.
    pub ysize: usize,
}

/// `cudaPos`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pos {
    /// In x.
    pub x: usize,
    /// In y.
    pub y: usize,
    /// In z.
    pub z: usize,
}

/// `cudaExtent`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// In bytes, or in elements where an array takes part.
    pub width: usize,
    /// In rows.
    pub height: usize,
    /// In slices.
    pub depth: usize,
}

/// `cudaMemcpy3DParms`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Memcpy3D {
    /// Source, where it is an array.
    pub src_array: CUarray,
    /// Where in the source.
    pub src_pos: Pos,
    /// Source, where it is memory.
    pub src_ptr: PitchedPtr,
    /// Destination, where it is an array.
    pub dst_array: CUarray,
    /// Where in the destination.
    pub dst_pos: Pos,
    /// Destination, where it is memory.
    pub dst_ptr: PitchedPtr,
    /// How much.
    pub extent: Extent,
    /// `cudaMemcpyKind`.
    pub kind: i32,
}

/// `cudaMemcpy3DPeerParms`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Memcpy3DPeer {
    /// Source, where it is an array.
    pub src_array: CUarray,
    /// Where in the source.
    pub src_pos: Pos,
    /// Source, where it is memory.
    pub src_ptr: PitchedPtr,
    /// The source's device.
    pub src_device: i32,
    /// Destination, where it is an array.
    pub dst_array: CUarray,
    /// Where in the destination.
    pub dst_pos: Pos,
    /// Destination, where it is memory.
    pub dst_ptr: PitchedPtr,
    /// The destination's device.
    pub dst_device: i32,
    /// How much.
    pub extent: Extent,
}

/// `cudaLaunchConfig_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LaunchConfig {
    /// Blocks.
    pub grid: Dim3,
    /// Threads of a block.
    pub block: Dim3,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: usize,
    /// The stream.
    pub stream: CUstream,
    /// Attributes, which are laid out as the driver's.
    pub attributes: *mut CUlaunchAttribute,
    /// How many.
    pub count: u32,
}

/// `cudaKernelNodeParams`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct KernelNodeParams {
    /// The kernel's host function.
    pub func: *mut c_void,
    /// Blocks.
    pub grid: Dim3,
    /// Threads of a block.
    pub block: Dim3,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// Addresses of the parameters.
    pub params: *mut *mut c_void,
    /// The same in one buffer.
    pub extra: *mut *mut c_void,
}

/// `cudaChannelFormatDesc`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelFormatDesc {
    /// Bits of the first component.
    pub x: i32,
    /// Bits of the second.
    pub y: i32,
    /// Bits of the third.
    pub z: i32,
    /// Bits of the fourth.
    pub w: i32,
    /// `cudaChannelFormatKind`.
    pub kind: i32,
}
