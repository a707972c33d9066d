//! The ids and structs that calls carry.

use alloc::string::String;
use alloc::vec::Vec;

use crate::wire::Blob;
use crate::{wire_ids, wire_struct};

wire_ids! {
    /// A context of a session; 0 is "no context".
    CtxId(u32);
    /// A loaded module.
    ModuleId(u32);
    /// A kernel of a module.
    FunctionId(u32);
    /// A stream, named by the guest; 0 is the legacy default stream of the current context.
    StreamId(u32);
    /// An event, named by the guest; never 0.
    EventId(u32);
    /// An executable graph, named by the guest; never 0.
    GraphId(u32);
    /// A linker.
    LinkId(u32);
    /// Physical memory that can be mapped (`cuMemCreate`).
    PhysicalId(u32);
    /// An address in device memory.
    DevPtr(u64);
}

wire_struct! {
    /// Answer to [`Opcode::vgpuHello`].
    HelloInfo {
        /// The device's `vm_id`.
        vm_id: u32,
        /// The channel's number.
        channel: u32,
        /// `cuda` or `soft`.
        backend: String,
        /// What `cuDriverGetVersion` answers: 1000 × major + 10 × minor.
        driver_version: i32,
    }
    /// What never changes about a device.
    DeviceInfo {
        /// `cuDeviceGetName`.
        name: String,
        /// `cuDeviceGetUuid`.
        uuid: [u8; 16],
        /// `cuDeviceTotalMem`, in bytes: the VM's share.
        total_bytes: u64,
        /// `CUdevice_attribute` numbers and their values.
        attributes: Vec<(i32, i32)>,
        /// Least and greatest stream priority (`cuCtxGetStreamPriorityRange`).
        priorities: (i32, i32),
    }
    /// One option of `cuModuleLoadDataEx` whose value is a number.
    JitOption {
        /// `CUjit_option`.
        option: u32,
        /// Its value.
        value: u64,
    }
    /// Answer to [`Opcode::cuModuleLoadDataEx`]. A failed load carries its logs, so the status is
    /// part of the answer.
    ModuleLoaded {
        /// `CUresult` of the load.
        status: u32,
        /// The module, where the load succeeded.
        module: ModuleId,
        /// `CU_JIT_INFO_LOG_BUFFER`.
        info_log: String,
        /// `CU_JIT_ERROR_LOG_BUFFER`.
        error_log: String,
        /// The piece of BAR1's heap in which the module's managed variables lie, as that of
        /// [`Opcode::cuMemAllocManaged`]: where it begins in BAR1, and its address for the GPU. The
        /// guest frees it once it has unloaded the module.
        managed: (u64, DevPtr),
        /// Its bytes; 0 where the module has no managed variables.
        managed_bytes: u64,
    }
    /// What the compiler or the linker says.
    JitReport {
        /// Its `CUresult`.
        status: u32,
        /// `CU_JIT_INFO_LOG_BUFFER`.
        info_log: String,
        /// `CU_JIT_ERROR_LOG_BUFFER`.
        error_log: String,
    }
    /// Answer to [`Opcode::cuModuleGetFunction`]: all that never changes about a kernel.
    FunctionInfo {
        /// The kernel.
        function: FunctionId,
        /// Offset and size of each parameter, in bytes (`cuFuncGetParamInfo`).
        params: Vec<(u32, u32)>,
        /// `CUfunction_attribute` numbers and their values.
        attributes: Vec<(i32, i32)>,
    }
    /// Answer to [`Opcode::nvmlSystem`].
    NvmlSystem {
        /// `nvmlSystemGetDriverVersion`: the version of the host's driver.
        driver_version: String,
        /// `nvmlSystemGetNVMLVersion`.
        nvml_version: String,
    }
    /// A process of the VM that uses the device.
    NvmlProcess {
        /// Its number in the guest, as it said itself.
        pid: u32,
        /// Device memory that it holds, in bytes.
        used_bytes: u64,
        /// Its name, as it said itself.
        client: String,
    }
    /// A piece of the channel's staging arena.
    ArenaSpan {
        /// Position in the arena's endless numbering; the byte lies at `position mod arena size`,
        /// and the piece does not cross the arena's end.
        position: u64,
        /// Length in bytes.
        bytes: u64,
    }
    /// `CUlaunchAttribute`.
    LaunchAttribute {
        /// `CUlaunchAttributeID`.
        id: u32,
        /// `CUlaunchAttributeValue`, as it lies in memory.
        value: [u64; 8],
    }
    /// One operation of `cuStreamBatchMemOp`.
    MemOp {
        /// `CUstreamBatchMemOpType`.
        kind: u32,
        /// The word.
        address: DevPtr,
        /// What is written, or compared with.
        value: u64,
        /// `CUstreamWriteValue_flags` or `CUstreamWaitValue_flags`.
        flags: u32,
    }
    /// One node of a graph: a posted call, or nothing.
    GraphNode {
        /// The call's opcode; 0 for a node that does nothing. See [`Opcode::in_graphs`].
        opcode: u32,
        /// Its arguments, with stream 0.
        request: Blob,
        /// Positions of the nodes that it follows, each smaller than its own.
        after: Vec<u32>,
    }
    /// A change of a node.
    GraphChange {
        /// Position of the node.
        node: u32,
        /// See [`GraphNode`].
        opcode: u32,
        /// See [`GraphNode`].
        request: Blob,
    }
}
