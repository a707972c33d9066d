//! The driver's state, from cuInit to the end of the process or to fork.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::thread;

use vgpu_protocol::Status;
use vgpu_protocol::calls::{CtxId, StreamId, stubs};
use vgpu_transport::{Channel, process};

use crate::abi::{Done, Global, INVALID, Out, exports};
use crate::capture::Captures;
use crate::ctx::Ctx;
use crate::device::Device;
use crate::event::Event;
use crate::func::Function;
use crate::graph::{Graph, NodeRef};
use crate::graph_exec::Exec;
use crate::graph_memory::GraphMemory;
use crate::handles::{Kind, Registry};
use crate::host::HostMemory;
use crate::hostfn::HostFunctions;
use crate::library::{Kernel, Library};
use crate::link::Link;
use crate::mem::Alloc;
use crate::module::Module;
use crate::pool::{Pool, Pools};
use crate::stream::Stream;
use crate::user_object::UserObject;
use crate::virtual_memory::VirtualMemory;

/// All that this process knows of the device.
pub struct Driver {
    epoch: u64,
    /// The way to the host.
    pub channel: &'static Channel,
    /// The devices, by ordinal.
    pub devices: Vec<Device>,
    /// Live contexts.
    pub contexts: Registry<Ctx>,
    /// The primary context of each device, once it was asked for.
    pub primaries: Mutex<Vec<Option<Arc<Ctx>>>>,
    /// Loaded modules.
    pub modules: Registry<Module>,
    /// Loaded libraries.
    pub libraries: Registry<Library>,
    /// Kernels of libraries.
    pub kernels: Registry<Kernel>,
    /// Linkers.
    pub links: Registry<Link>,
    /// Kernels that were looked up.
    pub functions: Registry<Function>,
    /// Streams.
    pub streams: Registry<Stream>,
    /// Events.
    pub events: Registry<Event>,
    /// Host memory that the device reaches.
    pub host_memory: RwLock<HostMemory>,
    /// Pools of memory in stream order.
    pub mem_pools: Registry<Pool>,
    /// Which of them the devices take from.
    pub pools: Pools,
    /// Memory of graphs by its address.
    pub graph_memories: Mutex<HashMap<u64, Weak<GraphMemory>>>,
    /// Device memory by its first address.
    pub allocs: RwLock<BTreeMap<u64, Alloc>>,
    /// Graphs, those inside of others' nodes too.
    pub graphs: Registry<Graph>,
    /// Their nodes.
    pub graph_nodes: Registry<NodeRef>,
    /// Executable graphs.
    pub graph_execs: Registry<Exec>,
    /// Objects of the program that graphs keep.
    pub user_objects: Registry<UserObject>,
    /// Captures that go on.
    pub captures: Captures,
    /// Streams that capture.
    pub capturing: AtomicUsize,
    /// Functions of the program that streams call.
    pub host_functions: HostFunctions,
    /// Streams for copies of graphs, by context.
    pub copy_streams: Mutex<HashMap<u32, StreamId>>,
    /// Bytes that allocation nodes hold.
    pub graph_bytes: AtomicU64,
    graph_ids: AtomicU32,
    /// What is mapped, by virtual memory management.
    pub virtual_memory: Mutex<VirtualMemory>,
    stream_ids: AtomicU32,
    event_ids: AtomicU32,
    unique_ids: AtomicU64,
}

static DRIVER: Global<Driver> = Global::new();
/// Epoch (plus one) of the thread that is in cuInit; 0: nobody. What a parent's thread was doing
/// at fork does not hold up the child.
static STARTING: AtomicU64 = AtomicU64::new(0);

/// The driver, after cuInit in this process.
pub fn driver() -> Done<&'static Driver> {
    DRIVER
        .get()
        .filter(|d| d.epoch == process::epoch())
        .ok_or(Status::ERROR_NOT_INITIALIZED)
}

impl Driver {
    /// Names a new stream: never 0, which is the default stream.
    pub fn new_stream_id(&self) -> u32 {
        self.stream_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Names a new executable graph.
    pub fn new_graph_id(&self) -> u32 {
        self.graph_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Names a new event.
    pub fn new_event_id(&self) -> u32 {
        self.event_ids.fetch_add(1, Ordering::Relaxed)
    }

    /// A number that no other context, stream or allocation of this process has.
    pub fn unique_id(&self) -> u64 {
        self.unique_ids.fetch_add(1, Ordering::Relaxed)
    }

    fn start() -> Done<Driver> {
        let channel = connect()?;
        channel.on_output(crate::output::take);
        stubs::init(channel, CtxId(0), 0)?;
        let table = stubs::device_table(channel, CtxId(0))?;
        let address = channel.address();
        let devices: Vec<Device> = table.into_iter().map(|i| Device::new(i, address)).collect();
        if devices.is_empty() {
            return Err(Status::ERROR_NO_DEVICE);
        }
        Ok(Driver {
            epoch: process::epoch(),
            channel,
            primaries: Mutex::new(vec![None; devices.len()]),
            devices,
            contexts: Registry::new(Kind::Context),
            modules: Registry::new(Kind::Module),
            libraries: Registry::new(Kind::Library),
            kernels: Registry::new(Kind::Kernel),
            links: Registry::new(Kind::Link),
            functions: Registry::new(Kind::Function),
            streams: Registry::new(Kind::Stream),
            events: Registry::new(Kind::Event),
            host_memory: RwLock::default(),
            mem_pools: Registry::new(Kind::MemPool),
            pools: Pools::default(),
            graph_memories: Mutex::default(),
            allocs: RwLock::new(BTreeMap::new()),
            graphs: Registry::new(Kind::Graph),
            graph_nodes: Registry::new(Kind::GraphNode),
            graph_execs: Registry::new(Kind::GraphExec),
            user_objects: Registry::new(Kind::UserObject),
            captures: Captures::default(),
            capturing: AtomicUsize::new(0),
            host_functions: HostFunctions::default(),
            copy_streams: Mutex::default(),
            graph_bytes: AtomicU64::new(0),
            graph_ids: AtomicU32::new(1),
            virtual_memory: Mutex::default(),
            stream_ids: AtomicU32::new(1),
            event_ids: AtomicU32::new(1),
            unique_ids: AtomicU64::new(1),
        })
    }
}

/// Opens the channel. The reason of a failure is told once: programs show only a number.
pub fn connect() -> Done<&'static Channel> {
    static TOLD: AtomicBool = AtomicBool::new(false);
    process::connect().map_err(|error| {
        if !TOLD.swap(true, Ordering::Relaxed) {
            vgpu_transport::log::line(format_args!("{error}"));
        }
        error.status()
    })
}

fn init() -> Done {
    let own = process::epoch() + 1;
    loop {
        if driver().is_ok() {
            return Ok(());
        }
        let seen = STARTING.load(Ordering::Acquire);
        let busy = seen == own;
        if !busy
            && STARTING
                .compare_exchange(seen, own, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        {
            // Another thread may have finished between the two looks.
            let started = match driver() {
                Ok(_) => Ok(()),
                Err(_) => Driver::start().map(|d| DRIVER.set(Box::leak(Box::new(d)))),
            };
            STARTING.store(0, Ordering::Release);
            return started;
        }
        thread::yield_now();
    }
}

exports! {
    /// Initialises the driver API. Flags must be 0.
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(INVALID);
        }
        init()
    }

    /// The version of CUDA that the host's driver supports.
    fn cuDriverGetVersion(version: Out<i32>) {
        version.check()?;
        version.set(connect()?.hello().driver_version)
    }
}
