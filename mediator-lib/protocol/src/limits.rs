//! Bounds on every quantity that a guest chooses, each with the attack that it stops.

/// Most channels a device offers. Each claimed channel costs the host one thread: more would let
/// a guest exhaust host threads.
pub const MAX_CHANNELS: u32 = 64;

/// Channels of a device where the `channels` property is not given.
pub const DEFAULT_CHANNELS: u32 = 32;

/// Smallest BAR1 (the legacy window of VGA-era GPUs), in bytes.
pub const MIN_BAR1_BYTES: u64 = 16 << 20;

/// Largest BAR1, in bytes. It bounds the address space and page tables a VM may ask of the host.
pub const MAX_BAR1_BYTES: u64 = 64 << 30;

/// BAR1 where the `bar1-size` property is not given, in bytes.
pub const DEFAULT_BAR1_BYTES: u64 = 256 << 20;

/// Longest message after reassembly of its fragments, in bytes. Fragments arrive with a guest-given
/// total: without a bound the host would buffer without end. 512 MiB passes the largest module
/// images seen (fat binaries of a few hundred MiB) with room.
pub const MAX_MESSAGE_BYTES: u64 = 512 << 20;

/// Bytes that all channels of a device together may hold in half-received messages. Without it,
/// 64 channels at [`MAX_MESSAGE_BYTES`] each would take 32 GiB of host memory.
pub const MAX_ASSEMBLY_BYTES: u64 = 1 << 30;

/// Longest kernel-parameter block, in bytes (CUDA C++ Programming Guide, "Function Parameters":
/// 32,764 bytes from compute capability 7.0 on).
pub const MAX_PARAM_BYTES: u32 = 32_764;

/// Longest name of a kernel or a global variable, in bytes. Mangled C++ names of templates reach
/// several KiB; a longer one would only fill host logs.
pub const MAX_NAME_BYTES: u32 = 64 << 10;

/// Kernels of a channel whose launches are counted by name, at 256 bytes of name each; launches of
/// further ones are counted together, so that loading ever new modules does not fill host memory.
pub const MAX_COUNTED_KERNELS: usize = 4096;

/// Longest client description in the connect message, in bytes: it is written to host logs.
pub const MAX_CLIENT_BYTES: u32 = 256;

/// Longest JIT log sent back, in bytes: broken PTX with an error on each line would otherwise make
/// a reply of any size.
pub const MAX_JIT_LOG_BYTES: u32 = 64 << 10;

/// Most bytes of text of kernels (`printf`, `assert`) that a session holds until the guest takes
/// it, each for the standard output and the standard error; older text is dropped. A guest that
/// never takes it would otherwise fill host memory.
pub const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// Most of it in one reply, in bytes: what a reply ring can be asked to carry.
pub const MAX_TEXT_REPLY_BYTES: usize = 1 << 20;

/// Most JIT options in one load: each is kept until the load ends.
pub const MAX_JIT_OPTIONS: u32 = 64;

/// Most linkers a session may have: each keeps its inputs.
pub const MAX_LINKS: usize = 16;

/// Longest input of a linker, in bytes: it is kept until the linker is destroyed.
pub const MAX_LINK_INPUT_BYTES: u64 = 32 << 20;

/// Longest image that a linker gives, in bytes: it travels in one reply.
pub const MAX_LINKED_BYTES: usize = 48 << 20;

/// Copies up to this size travel inside the command record; larger ones through the staging
/// arena, in bytes.
pub const MAX_INLINE_COPY_BYTES: u32 = 8 << 10;

/// Most contexts a session may hold: each has an address-space reservation on the host.
pub const MAX_CONTEXTS: usize = 64;

/// Most streams and most events a session may hold, each: guest-minted ids must not fill host
/// memory.
pub const MAX_STREAMS: usize = 16 << 10;

/// See [`MAX_STREAMS`].
pub const MAX_EVENTS: usize = 256 << 10;

/// Most loaded modules in a session.
pub const MAX_MODULES: usize = 16 << 10;

/// Most kernels that a session may have looked up: each lookup makes a host-side handle.
pub const MAX_FUNCTIONS: usize = 1 << 20;

/// Most operations that may wait in a session's execution queue. A guest that posts faster than
/// the GPU executes is held back at the ring, not in host memory.
pub const MAX_QUEUED_OPERATIONS: usize = 4096;

/// Most bytes of kernel parameters and short copies in a session's execution queue. Operations
/// alone would let 64 channels hold 8 GiB of host memory.
pub const MAX_QUEUED_BYTES: usize = 16 << 20;

/// Most calls of a session that may wait at a time. Each keeps its request on the host: a guest
/// that never reads its replies would collect them. More are taken once one is answered; a process
/// has one waiting call per thread.
pub const MAX_SUSPENDED_CALLS: usize = 4096;

/// Most bytes of requests of a session's waiting calls; see [`MAX_SUSPENDED_CALLS`]. A call with a
/// longer request holds the session up instead.
pub const MAX_SUSPENDED_BYTES: usize = 1 << 20;

/// Most attributes of one launch. CUDA knows fewer than this; without it a launch could be as long as a
/// message.
pub const MAX_LAUNCH_ATTRIBUTES: u32 = 32;

/// Most operations of one `cuStreamBatchMemOp` ("count … must be less than 256").
pub const MAX_MEM_OPS: u32 = 255;

/// Most executable graphs in a session, see [`MAX_STREAMS`].
pub const MAX_GRAPHS: usize = 16 << 10;

/// Most bytes of all executable graphs of a session: the host keeps each.
pub const MAX_GRAPH_BYTES: usize = 64 << 20;

/// Most nodes of a graph. A launch may queue them all beyond [`MAX_QUEUED_OPERATIONS`].
pub const MAX_GRAPH_NODES: usize = 64 << 10;

/// Most address space that the contexts of a VM may reserve in the host process, in bytes: a
/// quarter of what a process has. Without it the contexts of all channels could take all of it,
/// and QEMU's own allocations would fail.
pub const MAX_RESERVED_BYTES: u64 = 1 << 45;

/// Most rows of a two-dimensional memory set or copy in one message (CUDA's own maximum height
/// is larger, the guest splits); bounds the time one dispatch takes.
pub const MAX_ROWS: u64 = 1 << 31;

/// Most cuBLAS handles a session may hold: on the `cuda` backend each has device memory of the
/// host's library (tens of MiB), which the VM's share does not count.
pub const MAX_BLAS_HANDLES: usize = 256;

/// Most algorithms of cublasLt that are remembered for a context, one for each form of a product. A guest
/// that varies its products would fill host memory; beyond it all are chosen anew.
pub const MAX_LT_ALGORITHMS: usize = 4096;

/// Most reservations of addresses and mappings of physical memory of all sessions of a VM. Each
/// takes up to two of the 65,530 memory mappings that Linux lets a process have, and QEMU's own
/// allocations fail when they are used up.
pub const MAX_MAPPINGS: u64 = 16 << 10;

/// Most pieces of physical memory of a session, mapped or not.
pub const MAX_PHYSICAL: usize = 64 << 10;

/// Most pieces of BAR1's heap that all sessions of a VM may hold. Each takes memory of the host
/// beside its own bytes, and on the `cuda` backend a registration with the driver.
pub const MAX_HEAP_BLOCKS: usize = 64 << 10;
