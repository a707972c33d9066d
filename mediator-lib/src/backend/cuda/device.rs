//! What the device table says about the host's GPU.

use cudarc::driver::sys::CUdevice_attribute_enum as Attr;
use vgpu_protocol::Status;
use vgpu_protocol::calls::DeviceInfo;

use super::sys::{Device, Driver};

/// Attributes are asked for up to this number; drivers answer those that they know. Version 13
/// knows about 150.
const LAST_ATTRIBUTE: u32 = 255;

/// Attributes that promise what no row of the call table does yet: 0 for the guest, whatever the
/// GPU can do. A row that adds one of these takes its line away.
const NOT_CARRIED: &[Attr] = &[
    Attr::CU_DEVICE_ATTRIBUTE_DIRECT_MANAGED_MEM_ACCESS_FROM_HOST,
    Attr::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES,
    Attr::CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM,
    Attr::CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_COOPERATIVE_MULTI_DEVICE_LAUNCH,
    Attr::CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_MEMPOOL_SUPPORTED_HANDLE_TYPES,
    Attr::CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED,
    Attr::CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS,
    Attr::CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD,
    // One process of the host holds the GPU for any number of guest processes.
    Attr::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE,
];

/// Attributes of what this project does beside the GPU: managed memory is memory of the host that
/// the GPU reaches, for both at the same time; pools are the guest library's.
const OWN: &[(Attr, i32)] = &[
    (Attr::CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1),
    (Attr::CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1),
    (Attr::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
];

/// The device table's entry; its total is the GPU's.
pub fn info(driver: &Driver, device: Device, priorities: (i32, i32)) -> Result<DeviceInfo, Status> {
    let attributes = (1..=LAST_ATTRIBUTE).filter_map(|number| {
        let value = driver.device_attribute(device, number).ok()?;
        let carried = NOT_CARRIED.iter().all(|n| *n as u32 != number);
        let own = OWN.iter().find(|(n, _)| *n as u32 == number);
        let value = if carried { value } else { 0 };
        Some((number as i32, own.map_or(value, |(_, v)| *v)))
    });
    Ok(DeviceInfo {
        name: driver.device_name(device)?,
        uuid: driver.device_uuid(device)?,
        total_bytes: driver.device_total_memory(device)?,
        attributes: attributes.collect(),
        priorities,
    })
}
