//! One mediator per device: it chooses the backend and opens sessions.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use vgpu_protocol::Status;

use crate::arena::Arena;
use crate::backend::cuda::{CudaBackend, CudaUnavailable};
use crate::backend::soft::SoftBackend;
use crate::backend::{Backend, SessionContext};
use crate::budget::Budget;
use crate::cancel::Cancel;
use crate::counters::Counters;
use crate::session::Session;

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
#[derive(Clone, Debug, Default)]
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
    counters_file: Option<PathBuf>,
    counters_lock: Mutex<()>,
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
            counters_file: config.counters_file,
            counters_lock: Mutex::new(()),
        }))
    }

    /// `soft` or `cuda`.
    pub fn backend_name(&self) -> &'static str {
        self.backend.name()
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
        let context = SessionContext {
            vm_id: self.vm_id,
            channel,
            arena,
            cancel,
            budget: Arc::clone(&self.budget),
            counters: Arc::new(Counters::default()),
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
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| {
                // One write per line: two VMs may share the file.
                file.write_all(format!("{line}\n").as_bytes())
            });
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "cannot write the counters file");
        }
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
