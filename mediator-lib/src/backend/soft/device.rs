//! What the software GPU says of itself.
//!
//! It is an honest device: its name says that it is software, its multiprocessors are the host's
//! cores. Limits are those of compute capability 9.0 (CUDA C++ Programming Guide, "Compute
//! Capabilities"), because programs choose their kernels by them.

use cudarc::driver::sys::CUdevice_attribute_enum as Attr;
use vgpu_protocol::calls::DeviceInfo;
use vgpu_soft_gpu::launch;

/// CUDA 13.0: the newest whose PTX ISA (9.0) the software GPU reads.
pub const DRIVER_VERSION: i32 = 13_000;

/// The driver that NVIDIA's release notes pair with that version: programs compare it with what
/// they need.
pub const DRIVER_NAME: &str = "580.65.06";

/// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK`, in bytes.
pub const SHARED_BYTES_PER_BLOCK: u32 = 48 << 10;

/// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`, in bytes.
pub const SHARED_BYTES_PER_BLOCK_OPTIN: u32 = 227 << 10;

/// Threads of a block.
pub const MAX_THREADS_PER_BLOCK: u32 = 1024;

/// Largest block, in threads.
pub const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];

/// Largest grid, in blocks.
pub const MAX_GRID: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// Alignment of rows that `cuMemAllocPitch` makes, in bytes.
pub const PITCH_ALIGNMENT: u64 = 512;

/// Least and greatest priority of streams; those with the smaller number are taken first.
pub const PRIORITIES: (i32, i32) = (0, -5);

/// Half of the host's memory: the rest is for the VM and the host itself.
pub fn default_memory_bytes() -> u64 {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
    // Where /proc is missing, what any machine that runs QEMU has.
    total.map_or(1 << 30, |kib| kib * 1024 / 2) & !0xfffff
}

/// The device table's entry.
pub fn info(vm_id: u32, total_bytes: u64, cores: usize) -> DeviceInfo {
    let mut uuid = *b"vgpu-stub-\0\0\0\0\0\0";
    uuid[12..].copy_from_slice(&vm_id.to_be_bytes());
    DeviceInfo {
        name: "vGPU software device".to_owned(),
        uuid,
        total_bytes,
        attributes: attributes(cores)
            .into_iter()
            .map(|(a, v)| (a as i32, v))
            .collect(),
        priorities: PRIORITIES,
    }
}

fn attributes(cores: usize) -> Vec<(Attr, i32)> {
    use Attr::*;
    let cores = i32::try_from(cores).unwrap_or(i32::MAX);
    vec![
        (
            CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
            MAX_THREADS_PER_BLOCK as i32,
        ),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, MAX_BLOCK[0] as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, MAX_BLOCK[1] as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, MAX_BLOCK[2] as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, MAX_GRID[0] as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, MAX_GRID[1] as i32),
        (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, MAX_GRID[2] as i32),
        (
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK,
            SHARED_BYTES_PER_BLOCK as i32,
        ),
        (CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 64 << 10),
        (CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
        (CU_DEVICE_ATTRIBUTE_MAX_PITCH, i32::MAX),
        (CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65_536),
        (CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1_000_000),
        (CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512),
        (CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 0),
        (CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, cores),
        (CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT, 0),
        (CU_DEVICE_ATTRIBUTE_INTEGRATED, 0),
        (CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1),
        (CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 0),
        (CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 0),
        (CU_DEVICE_ATTRIBUTE_ECC_ENABLED, 0),
        (CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 0),
        (CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 0),
        (CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, 0),
        (CU_DEVICE_ATTRIBUTE_TCC_DRIVER, 0),
        (CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1_000_000),
        (CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 64),
        (CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 1 << 20),
        (
            CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR,
            launch::MAX_THREADS_PER_MULTIPROCESSOR as i32,
        ),
        (CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 0),
        (CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
        (CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32),
        (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9),
        (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0),
        (CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 0),
        (CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED, 1),
        (
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR,
            launch::SHARED_BYTES_PER_MULTIPROCESSOR as i32,
        ),
        (
            CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR,
            launch::REGISTERS_PER_MULTIPROCESSOR as i32,
        ),
        (CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1),
        (CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD, 0),
        (CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID, 0),
        (CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED, 0),
        (CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO, 2),
        (CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, 0),
        (CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1),
        (CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 0),
        (
            CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
            0,
        ),
        (CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1),
        (CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH, 0),
        (
            CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
            SHARED_BYTES_PER_BLOCK_OPTIN as i32,
        ),
        (CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, 0),
        (CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 0),
        (
            CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
            0,
        ),
        (CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST, 0),
        (CU_DEVICE_ATTRIBUTE_VIRTUAL_ADDRESS_MANAGEMENT_SUPPORTED, 1),
        (
            CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR,
            launch::MAX_BLOCKS_PER_MULTIPROCESSOR as i32,
        ),
        (
            CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK,
            launch::RESERVED_SHARED_BYTES as i32,
        ),
        (CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
        (CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0),
        (CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS, 0),
    ]
}
