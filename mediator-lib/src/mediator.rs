//! One mediator per device: it chooses the backend and opens sessions.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use vgpu_protocol::Status;

use crate::arena::Arena;
use crate::backend::cuda::{CudaBackend, CudaUnavailable};
use crate::backend::soft::SoftBackend;
use crate::backend::{Backend, SessionContext};
use crate::budget::Budget;
use crate::callbacks::Callbacks;
use crate::cancel::Cancel;
use crate::captured::Captured;
use crate::counters::{self, Counters};
use crate::heap::Heap;
use crate::ledger::Ledger;
use crate::processes::Processes;
use crate::session::Session;
use crate::waker::Waker;

/// The `backend` property.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// The host's GPU where there is one, else the software GPU.
    #[default]
    Auto,
    /// The host's NVIDIA driver.
    Cuda,
    /// The software GPU.
    Soft,
}

/// What the device's properties say about its mediator.
#[derive(Clone, Default)]
pub struct MediatorConfig {
    /// The `vm_id` property.
    pub vm_id: u32,
    /// The `backend` property.
    pub backend: BackendChoice,
    /// The `gpu` property: index or UUID of the host's GPU.
    pub gpu: Option<String>,
    /// The `memory` property: the VM's share of device memory in bytes; `None` for all of it.
    pub memory_bytes: Option<u64>,
    /// File to which each closed channel appends its calls by name.
    pub counters_file: Option<PathBuf>,
    /// BAR1's heap.
    pub heap: Arc<Heap>,
    /// What is shared with other processes, where this one serves one channel of the device.
    pub ledger: Option<Ledger>,
    /// The text that kernels make this process write, where it serves one session only.
    pub captured: Option<Arc<dyn Captured>>,
}

impl std::fmt::Debug for MediatorConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediatorConfig")
            .field("vm_id", &self.vm_id)
            .field("backend", &self.backend)
            .field("gpu", &self.gpu)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

/// Why there is no mediator.
#[derive(Debug, thiserror::Error)]
pub enum MediatorError {
    /// The host's GPU cannot be used.
    #[error("backend=cuda: {0}")]
    Cuda(#[from] CudaUnavailable),
    /// `gpu` names a GPU, but the software GPU was chosen.
    #[error(
        "gpu={0} names a GPU of the host, which backend=soft does not use: leave gpu out or use backend=cuda"
    )]
    GpuWithSoft(String),
    /// The software GPU could not start.
    #[error("backend=soft: cannot start the software GPU: {0}")]
    Soft(#[source] std::io::Error),
    /// `memory` is more than the GPU has, or nothing.
    #[error("memory={asked} bytes: allowed are 1 MiB to the GPU's {total} bytes")]
    Memory {
        /// The property's value.
        asked: u64,
        /// Memory of the GPU.
        total: u64,
    },
}

/// Smallest share of device memory: below it not even a context's own needs fit.
const MIN_MEMORY_BYTES: u64 = 1 << 20;

/// See the module's documentation.
pub struct Mediator {
    vm_id: u32,
    backend: Arc<dyn Backend>,
    budget: Arc<Budget>,
    processes: Arc<Processes>,
    counters_file: Option<PathBuf>,
    counters_lock: Mutex<()>,
    ledger: Option<Ledger>,
    captured: Option<Arc<dyn Captured>>,
    heap: Arc<Heap>,
}

impl std::fmt::Debug for Mediator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mediator")
            .field("vm_id", &self.vm_id)
            .field("backend", &self.backend.name())
            .finish()
    }
}

impl Mediator {
    /// Opens the backend that `config` asks for.
    pub fn new(config: MediatorConfig) -> Result<Arc<Mediator>, MediatorError> {
        let backend = open_backend(&config)?;
        let total = backend.total_memory_bytes();
        let share = config.memory_bytes.unwrap_or(total);
        if !(MIN_MEMORY_BYTES..=total).contains(&share) {
            return Err(MediatorError::Memory {
                asked: share,
                total,
            });
        }
        tracing::info!(
            vm_id = config.vm_id,
            backend = backend.name(),
            memory_bytes = share,
            "mediator ready"
        );
        Ok(Arc::new(Mediator {
            vm_id: config.vm_id,
            backend,
            budget: Budget::new(share),
            processes: Arc::new(Processes::new(config.ledger)),
            counters_file: config.counters_file,
            counters_lock: Mutex::new(()),
            ledger: config.ledger,
            captured: config.captured,
            heap: config.heap,
        }))
    }

    /// `soft` or `cuda`.
    pub fn backend_name(&self) -> &'static str {
        self.backend.name()
    }

    /// What `cuDriverGetVersion` answers, and the GPU's memory in bytes.
    pub fn facts(&self) -> (i32, u64) {
        let backend = &self.backend;
        (backend.driver_version(), backend.total_memory_bytes())
    }

    /// BAR1's heap.
    pub fn heap(&self) -> &Arc<Heap> {
        &self.heap
    }

    /// The VM's share of device memory.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Opens a session for a channel.
    ///
    /// # Errors
    /// What the backend says, `ERROR_OUT_OF_MEMORY` most likely.
    pub fn open(
        self: &Arc<Self>,
        channel: u32,
        arena: Arena,
        cancel: Arc<Cancel>,
    ) -> Result<Session, Status> {
        let waker = Arc::<Waker>::default();
        let budget = match self.ledger {
            None => self.budget.part(),
            Some(ledger) => Budget::shared(self.budget.limit(), ledger.device_memory(channel)),
        };
        if self.ledger.is_some() {
            self.heap.serve(channel);
        }
        let context = SessionContext {
            vm_id: self.vm_id,
            callbacks: Arc::new(Callbacks::new(Arc::clone(&waker))),
            waker,
            channel,
            arena,
            cancel,
            budget,
            captured: self.captured.clone(),
            processes: Arc::clone(&self.processes),
            counters: Arc::new(Counters::default()),
            heap: Arc::clone(&self.heap),
        };
        let backend = Arc::clone(&self.backend).open(context.clone())?;
        Ok(Session::new(Arc::clone(self), context, backend))
    }

    /// Appends a closed channel's line to the counters file.
    pub(crate) fn record_counters(&self, line: &str) {
        let Some(path) = &self.counters_file else {
            return;
        };
        let _guard = self
            .counters_lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        counters::record(path, line);
    }
}

fn open_backend(config: &MediatorConfig) -> Result<Arc<dyn Backend>, MediatorError> {
    let soft = || {
        SoftBackend::new()
            .map(|b| b as Arc<dyn Backend>)
            .map_err(MediatorError::Soft)
    };
    let gpu = config.gpu.as_deref();
    match (config.backend, gpu) {
        (BackendChoice::Soft, Some(gpu)) => Err(MediatorError::GpuWithSoft(gpu.to_owned())),
        (BackendChoice::Soft, None) => soft(),
        (BackendChoice::Cuda, _) | (BackendChoice::Auto, Some(_)) => {
            Ok(CudaBackend::open_driver(gpu)?)
        }
        (BackendChoice::Auto, None) => match CudaBackend::open_driver(None) {
            Ok(cuda) => Ok(cuda),
            Err(reason) => {
                tracing::info!(%reason, "no GPU of the host is used: the software GPU computes");
                soft()
            }
        },
    }
}
