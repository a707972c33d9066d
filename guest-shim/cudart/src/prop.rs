//! `cudaDeviceProp`, which each major version lays out in its own way.
//!
//! A row of the table names a field, its kind, its offset in bytes in CUDA 11, 12 and 13 (`-`: it
//! is not there), and the driver's attributes that it holds. `layout.rs` compares with NVIDIA's
//! headers of each version.

use cudarc::driver::sys::{CUdevice, CUdevice_attribute_enum as Attr};

use crate::abi::{Done, Host, INVALID, Out, exports, local, major};
use crate::driver::Opaque;
use crate::runtime::{Runtime, runtime};

/// One of the layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// CUDA 11, and the unsuffixed function of CUDA 12.
    V11 = 0,
    /// CUDA 12.
    V12 = 1,
    /// CUDA 13.
    V13 = 2,
}

/// Sizes of the structure, in bytes.
const BYTES: [usize; 3] = [728, 1032, 1008];
/// Fields that are no attributes are where they were in all versions.
const NAME: (usize, usize) = (0, 256);
const UUID: usize = 256;
const LUID: usize = 272;
const LUID_MASK: usize = 280;
const TOTAL_MEMORY: usize = 288;

/// How a field holds its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One `int` for each attribute.
    Int,
    /// A `size_t`.
    Size,
}

/// A field that holds attributes.
#[derive(Debug)]
struct Field {
    #[allow(
        dead_code,
        reason = "for the reader, and for the comparison with the headers"
    )]
    name: &'static str,
    kind: Kind,
    at: [Option<usize>; 3],
    attributes: &'static [Attr],
}

macro_rules! fields {
    ($($name:ident $kind:ident [$a:tt $b:tt $c:tt] = $($attribute:ident),+;)*) => {
        const FIELDS: &[Field] = &[$(Field {
            name: stringify!($name),
            kind: fields!(@kind $kind),
            at: [fields!(@at $a), fields!(@at $b), fields!(@at $c)],
            attributes: &[$(Attr::$attribute),+],
        },)*];
    };
    (@kind int) => { Kind::Int };
    (@kind size) => { Kind::Size };
    (@at -) => { None };
    (@at $at:literal) => { Some($at) };
}

fields! {
    sharedMemPerBlock size [296 296 296] = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK;
    regsPerBlock int [304 304 304] = CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK;
    warpSize int [308 308 308] = CU_DEVICE_ATTRIBUTE_WARP_SIZE;
    memPitch size [312 312 312] = CU_DEVICE_ATTRIBUTE_MAX_PITCH;
    maxThreadsPerBlock int [320 320 320] = CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
    maxThreadsDim int [324 324 324] = CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z;
    maxGridSize int [336 336 336] = CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z;
    clockRate int [348 348 -] = CU_DEVICE_ATTRIBUTE_CLOCK_RATE;
    totalConstMem size [352 352 352] = CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY;
    major int [360 360 360] = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    minor int [364 364 364] = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
    textureAlignment size [368 368 368] = CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT;
    texturePitchAlignment size [376 376 376] = CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT;
    deviceOverlap int [384 384 -] = CU_DEVICE_ATTRIBUTE_GPU_OVERLAP;
    multiProcessorCount int [388 388 384] = CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
    kernelExecTimeoutEnabled int [392 392 -] = CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT;
    integrated int [396 396 388] = CU_DEVICE_ATTRIBUTE_INTEGRATED;
    canMapHostMemory int [400 400 392] = CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY;
    computeMode int [404 404 -] = CU_DEVICE_ATTRIBUTE_COMPUTE_MODE;
    maxTexture1D int [408 408 396] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_WIDTH;
    maxTexture1DMipmap int [412 412 400] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_MIPMAPPED_WIDTH;
    maxTexture1DLinear int [416 416 -] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH;
    maxTexture2D int [420 420 404] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_HEIGHT;
    maxTexture2DMipmap int [428 428 412] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_MIPMAPPED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_MIPMAPPED_HEIGHT;
    maxTexture2DLinear int [436 436 420] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_HEIGHT, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_PITCH;
    maxTexture2DGather int [448 448 432] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_GATHER_HEIGHT;
    maxTexture3D int [456 456 440] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH;
    maxTexture3DAlt int [468 468 452] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_WIDTH_ALTERNATE, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_HEIGHT_ALTERNATE, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE;
    maxTextureCubemap int [480 480 464] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_WIDTH;
    maxTexture1DLayered int [484 484 468] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LAYERED_LAYERS;
    maxTexture2DLayered int [492 492 476] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_HEIGHT, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LAYERED_LAYERS;
    maxTextureCubemapLayered int [504 504 488] = CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURECUBEMAP_LAYERED_LAYERS;
    maxSurface1D int [512 512 496] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_WIDTH;
    maxSurface2D int [516 516 500] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_HEIGHT;
    maxSurface3D int [524 524 508] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_HEIGHT, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE3D_DEPTH;
    maxSurface1DLayered int [536 536 520] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_LAYERED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE1D_LAYERED_LAYERS;
    maxSurface2DLayered int [544 544 528] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_HEIGHT, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_LAYERS;
    maxSurfaceCubemap int [556 556 540] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_WIDTH;
    maxSurfaceCubemapLayered int [560 560 544] = CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_LAYERED_WIDTH, CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACECUBEMAP_LAYERED_LAYERS;
    surfaceAlignment size [568 568 552] = CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT;
    concurrentKernels int [576 576 560] = CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS;
    ECCEnabled int [580 580 564] = CU_DEVICE_ATTRIBUTE_ECC_ENABLED;
    pciBusID int [584 584 568] = CU_DEVICE_ATTRIBUTE_PCI_BUS_ID;
    pciDeviceID int [588 588 572] = CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID;
    pciDomainID int [592 592 576] = CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID;
    tccDriver int [596 596 580] = CU_DEVICE_ATTRIBUTE_TCC_DRIVER;
    asyncEngineCount int [600 600 584] = CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT;
    unifiedAddressing int [604 604 588] = CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING;
    memoryClockRate int [608 608 -] = CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE;
    memoryBusWidth int [612 612 592] = CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH;
    l2CacheSize int [616 616 596] = CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE;
    persistingL2CacheMaxSize int [620 620 600] = CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE;
    maxThreadsPerMultiProcessor int [624 624 604] = CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR;
    streamPrioritiesSupported int [628 628 608] = CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED;
    globalL1CacheSupported int [632 632 612] = CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED;
    localL1CacheSupported int [636 636 616] = CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED;
    sharedMemPerMultiprocessor size [640 640 624] = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR;
    regsPerMultiprocessor int [648 648 632] = CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR;
    managedMemory int [652 652 636] = CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY;
    isMultiGpuBoard int [656 656 640] = CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD;
    multiGpuBoardGroupID int [660 660 644] = CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD_GROUP_ID;
    hostNativeAtomicSupported int [664 664 648] = CU_DEVICE_ATTRIBUTE_HOST_NATIVE_ATOMIC_SUPPORTED;
    singleToDoublePrecisionPerfRatio int [668 668 -] = CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO;
    pageableMemoryAccess int [672 672 652] = CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS;
    concurrentManagedAccess int [676 676 656] = CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS;
    computePreemptionSupported int [680 680 660] = CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED;
    canUseHostPointerForRegisteredMem int [684 684 664] = CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM;
    cooperativeLaunch int [688 688 668] = CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH;
    cooperativeMultiDeviceLaunch int [692 692 -] = CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH;
    sharedMemPerBlockOptin size [696 696 672] = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    pageableMemoryAccessUsesHostPageTables int [704 704 680] = CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES;
    directManagedMemAccessFromHost int [708 708 684] = CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST;
    maxBlocksPerMultiProcessor int [712 712 688] = CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR;
    accessPolicyMaxWindowSize int [716 716 692] = CU_DEVICE_ATTRIBUTE_MAX_ACCESS_POLICY_WINDOW_SIZE;
    reservedSharedMemPerBlock size [720 720 696] = CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK;
    hostRegisterSupported int [- 728 704] = CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED;
    sparseCudaArraySupported int [- 732 708] = CU_DEVICE_ATTRIBUTE_SPARSE_CUDA_ARRAY_SUPPORTED;
    hostRegisterReadOnlySupported int [- 736 712] = CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED;
    timelineSemaphoreInteropSupported int [- 740 716] = CU_DEVICE_ATTRIBUTE_TIMELINE_SEMAPHORE_INTEROP_SUPPORTED;
    memoryPoolsSupported int [- 744 720] = CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED;
    gpuDirectRDMASupported int [- 748 724] = CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED;
    gpuDirectRDMAFlushWritesOptions int [- 752 728] = CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS;
    gpuDirectRDMAWritesOrdering int [- 756 732] = CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING;
    memoryPoolSupportedHandleTypes int [- 760 736] = CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES;
    deferredMappingCudaArraySupported int [- 764 740] = CU_DEVICE_ATTRIBUTE_DEFERRED_MAPPING_CUDA_ARRAY_SUPPORTED;
    ipcEventSupported int [- 768 744] = CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED;
    clusterLaunch int [- 772 748] = CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH;
    unifiedFunctionPointers int [- 776 752] = CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS;
    deviceNumaConfig int [- - 756] = CU_DEVICE_ATTRIBUTE_NUMA_CONFIG;
    deviceNumaId int [- - 760] = CU_DEVICE_ATTRIBUTE_NUMA_ID;
    mpsEnabled int [- - 764] = CU_DEVICE_ATTRIBUTE_MPS_ENABLED;
    hostNumaId int [- - 768] = CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID;
    gpuPciDeviceID int [- - 772] = CU_DEVICE_ATTRIBUTE_GPU_PCI_DEVICE_ID;
    gpuPciSubsystemID int [- - 776] = CU_DEVICE_ATTRIBUTE_GPU_PCI_SUBSYSTEM_ID;
    hostNumaMultinodeIpcSupported int [- - 780] = CU_DEVICE_ATTRIBUTE_HOST_NUMA_MULTINODE_IPC_SUPPORTED;
}

/// The structure in memory.
struct Prop {
    bytes: [u8; 1032],
}

impl Prop {
    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }

    fn int(&self, at: usize) -> i64 {
        let bytes = self.bytes.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map_or(0, |b| i32::from_ne_bytes(b).into())
    }
}

fn fill(runtime: &Runtime, device: CUdevice, layout: Layout) -> Done<Prop> {
    let driver = &runtime.driver;
    let mut prop = Prop { bytes: [0; 1032] };
    let mut name = [0u8; NAME.1];
    driver.cuDeviceGetName(Host::to(&mut name).out(), NAME.1 as i32, device)?;
    prop.put(NAME.0, &name);
    let uuid = local(|u: Out<[u8; 16]>| driver.cuDeviceGetUuid_v2(u.cast(), device))?;
    prop.put(UUID, &uuid);
    // Only Windows has LUIDs; elsewhere the driver has none to give.
    let (mut luid, mut mask) = ([0u8; 8], 0u32);
    let place = Host::to(&mut luid).out();
    if driver
        .cuDeviceGetLuid(place, Out::to(&mut mask), device)
        .is_ok()
    {
        prop.put(LUID, &luid);
        prop.put(LUID_MASK, &mask.to_ne_bytes());
    }
    let total = local(|t| driver.cuDeviceTotalMem_v2(t, device))?;
    prop.put(TOTAL_MEMORY, &total.to_ne_bytes());
    for field in FIELDS {
        let Some(mut at) = field.at[layout as usize] else {
            continue;
        };
        for attribute in field.attributes {
            // An older driver does not know the newest attributes: they stay 0.
            let Ok(value) = local(|v| driver.cuDeviceGetAttribute(v, *attribute as i32, device))
            else {
                continue;
            };
            match field.kind {
                Kind::Int => prop.put(at, &value.to_ne_bytes()),
                Kind::Size => {
                    prop.put(at, &usize::try_from(value).unwrap_or(0).to_ne_bytes());
                }
            }
            at += size_of::<i32>();
        }
    }
    Ok(prop)
}

fn get(out: Opaque, device: i32, layout: Layout) -> Done {
    let runtime = runtime()?;
    if out.is_null() {
        return Err(INVALID);
    }
    let device = runtime.device(device)?.handle;
    let prop = fill(runtime, device, layout)?;
    let out = Host(out).out::<u8>();
    for (i, byte) in prop.bytes.iter().take(BYTES[layout as usize]).enumerate() {
        out.set_at(i, *byte)?;
    }
    Ok(())
}

/// The layout of this library's `cudaDeviceProp`.
fn own_layout() -> Layout {
    match major() {
        11 => Layout::V11,
        12 => Layout::V12,
        _ => Layout::V13,
    }
}

fn choose(device: Out<i32>, wanted: Opaque) -> Done {
    let runtime = runtime()?;
    device.check()?;
    if wanted.is_null() {
        return Err(INVALID);
    }
    // "the device which has properties that best match": the most wanted numbers reached, of the
    // fields that a program sets to choose.
    let layout = own_layout();
    let mut asked = Prop { bytes: [0; 1032] };
    for i in 0..BYTES[layout as usize] {
        asked.bytes[i] = Host(wanted).values::<u8>().at(i)?;
    }
    let mut best = (0, 0);
    for (ordinal, device) in (0..).zip(&runtime.devices) {
        let has = fill(runtime, device.handle, layout)?;
        let fields = FIELDS.iter().filter(|f| f.kind == Kind::Int);
        let reached = fields
            .filter_map(|f| f.at[layout as usize])
            .filter(|at| asked.int(*at) > 0 && has.int(*at) >= asked.int(*at))
            .count();
        if reached > best.1 {
            best = (ordinal, reached);
        }
    }
    device.set(best.0)
}

exports! {
    /// Properties of a device, as CUDA 11 lays them out.
    fn cudaGetDeviceProperties_v1(out: Opaque, device: i32) {
        get(out, device, Layout::V11)
    }

    /// Properties of a device, as CUDA 12 lays them out.
    fn cudaGetDeviceProperties_v2(out: Opaque, device: i32) {
        get(out, device, Layout::V12)
    }

    /// Properties of a device, as CUDA 13 lays them out.
    fn cudaGetDeviceProperties_v3(out: Opaque, device: i32) {
        get(out, device, Layout::V13)
    }

    /// The device that comes nearest to properties.
    fn cudaChooseDevice(device: Out<i32>, wanted: Opaque) {
        choose(device, wanted)
    }
}

/// Size of the structure, in bytes.
#[cfg(test)]
pub fn bytes(layout: Layout) -> usize {
    BYTES[layout as usize]
}

/// Each field with its offset in bytes.
#[cfg(test)]
pub fn offsets(layout: Layout) -> impl Iterator<Item = (&'static str, usize)> {
    let fixed = [
        ("name", NAME.0),
        ("uuid", UUID),
        ("luid", LUID),
        ("luidDeviceNodeMask", LUID_MASK),
        ("totalGlobalMem", TOTAL_MEMORY),
    ];
    let fields = FIELDS
        .iter()
        .filter_map(move |f| Some((f.name, f.at[layout as usize]?)));
    fixed.into_iter().chain(fields)
}
