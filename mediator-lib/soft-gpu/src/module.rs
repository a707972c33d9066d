//! Loaded modules.

use std::collections::HashMap;
use std::sync::Arc;

use crate::exec::alu::Isa;
use crate::function::{Function, ModuleData};
use crate::image::{self, ImageError};
use crate::ir::windows::{FUNCTION_STEP, FUNCTION_WINDOW};
use crate::memory::{AddressSpace, AllocError};
use crate::ptx::ast::{InitValue, PtxModule, Symbol, Variable};
use crate::ptx::types::Space;
use crate::ptx::{self, PtxError};

/// Highest PTX ISA version understood.
pub const MAX_PTX_VERSION: (u32, u32) = (9, 9);
/// Compute capability of the device, as `sm_90`.
pub const COMPUTE_CAPABILITY: u32 = 90;

/// Instructions up to which a module is checked whole when it is loaded; in a
/// larger one a kernel is checked when it is first looked at.
pub const MAX_EAGER_INSTRUCTIONS: usize = 5_000;

/// How to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Check every kernel at once, whatever the size of the module.
    pub eager: bool,
    /// Use at most these vector instructions; none: the best that the host has.
    pub isa: Option<Isa>,
}

/// Why a module could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The PTX text is wrong.
    #[error("{log}")]
    InvalidPtx {
        /// Message in the form of ptxas.
        log: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
    },
    /// The PTX ISA version is newer than what is understood.
    #[error("ptxas fatal   : Unsupported .version {major}.{minor}; current version is '{}.{}'", MAX_PTX_VERSION.0, MAX_PTX_VERSION.1)]
    UnsupportedPtxVersion {
        /// Major.
        major: u32,
        /// Minor.
        minor: u32,
    },
    /// Nothing in the image runs on this device.
    #[error(
        "the image holds no PTX for compute capability 9.0 or below (machine code cannot be executed)"
    )]
    NoBinaryForGpu,
    /// The image is no PTX and no intact fatbin.
    #[error("invalid image: {0}")]
    InvalidImage(String),
    /// No memory for the module's variables.
    #[error(transparent)]
    OutOfMemory(#[from] AllocError),
    /// An `.extern` variable has no definition.
    #[error("Unresolved extern variable '{0}' in whole program compilation")]
    UnresolvedSymbol(String),
}

impl From<ImageError> for LoadError {
    fn from(e: ImageError) -> Self {
        match e {
            ImageError::NoPtx => LoadError::NoBinaryForGpu,
            e => LoadError::InvalidImage(e.to_string()),
        }
    }
}

impl From<PtxError> for LoadError {
    fn from(e: PtxError) -> Self {
        LoadError::InvalidPtx {
            log: format!(
                "ptxas application ptx input, line {}; error   : {}, column {}\nptxas fatal   : Ptx assembly aborted due to errors",
                e.pos.line, e.message, e.pos.column
            ),
            line: e.pos.line,
            column: e.pos.column,
        }
    }
}

/// A module in the memory of a session.
pub struct Module {
    data: Arc<ModuleData>,
    functions: Vec<Arc<Function>>,
    by_name: HashMap<String, usize>,
    globals: HashMap<String, (u64, u64)>,
    allocations: Allocations,
    log: String,
}

/// Device memory that goes away with the module.
struct Allocations {
    space: Arc<AddressSpace>,
    list: Vec<u64>,
}

impl Drop for Allocations {
    fn drop(&mut self) {
        for &a in &self.list {
            let _ = self.space.free(a);
        }
    }
}

impl Module {
    /// Loads PTX text (the first NUL ends it) or a fatbin.
    pub fn load(
        image: &[u8],
        opts: &LoadOptions,
        space: &Arc<AddressSpace>,
    ) -> Result<Module, LoadError> {
        let source = image::ptx_text(image, COMPUTE_CAPABILITY)?;
        let ptx = ptx::parse(&source).map_err(|e| {
            // A version from the future explains any syntax error after it.
            match ptx_version(&source).filter(|&v| v > MAX_PTX_VERSION) {
                Some((major, minor)) => LoadError::UnsupportedPtxVersion { major, minor },
                None => e.into(),
            }
        })?;
        if ptx.version > MAX_PTX_VERSION {
            return Err(LoadError::UnsupportedPtxVersion {
                major: ptx.version.0,
                minor: ptx.version.1,
            });
        }
        if ptx.target > COMPUTE_CAPABILITY {
            return Err(LoadError::NoBinaryForGpu);
        }
        let mut allocations = Allocations {
            space: space.clone(),
            list: Vec::new(),
        };
        let mut globals = HashMap::new();
        let mut addresses = Vec::with_capacity(ptx.vars.len());
        for v in &ptx.vars {
            addresses.push(if matches!(v.space, Space::Global | Space::Const) {
                let a = allocate(v, space, &mut allocations)?;
                globals.insert(v.name.clone(), (a, v.bytes));
                a
            } else {
                0
            });
        }
        let mut locals = HashMap::new();
        let mut pending: Vec<(u64, &Variable)> = Vec::new();
        for (f, function) in ptx.functions.iter().enumerate() {
            for (k, v) in function.body.iter().flat_map(|b| &b.vars).enumerate() {
                if matches!(v.space, Space::Global | Space::Const) {
                    let a = allocate(v, space, &mut allocations)?;
                    locals.insert((f as u32, k as u32), a);
                    pending.push((a, v));
                }
            }
        }
        pending.extend(
            addresses
                .iter()
                .copied()
                .zip(&ptx.vars)
                .filter(|(a, _)| *a != 0),
        );
        for (a, v) in pending {
            initialise(a, v, &addresses, space)?;
        }
        let best = Isa::detect();
        let isa = opts.isa.map_or(best, |i| i.min(best));
        let data = Arc::new(ModuleData {
            isa,
            source,
            ptx,
            addresses,
            locals,
        });
        let mut m = Module {
            data,
            functions: Vec::new(),
            by_name: HashMap::new(),
            globals,
            allocations,
            log: String::new(),
        };
        for (k, f) in m.data.ptx.functions.iter().enumerate() {
            if f.entry
                && let Some(f) = Function::new(&m.data, k as u32)
            {
                m.by_name.insert(f.name().to_owned(), m.functions.len());
                m.functions.push(Arc::new(f));
            }
        }
        let size: usize = m
            .data
            .ptx
            .functions
            .iter()
            .filter_map(|f| f.body.as_ref())
            .map(|b| b.insns.len())
            .sum();
        if opts.eager || size <= MAX_EAGER_INSTRUCTIONS {
            m.check()?;
        }
        Ok(m)
    }

    /// Lowers every kernel: wrong operands are an error of the module as they are
    /// for ptxas, and what is not supported appears in the log.
    fn check(&mut self) -> Result<(), LoadError> {
        for f in &self.functions {
            if let Some((pos, log)) = f.wrong() {
                return Err(LoadError::InvalidPtx {
                    log: format!("{log}\nptxas fatal   : Ptx assembly aborted due to errors"),
                    line: pos.line,
                    column: pos.column,
                });
            }
            if let Some(e) = f.unsupported() {
                self.log.push_str(e);
                self.log.push('\n');
            }
        }
        Ok(())
    }

    /// Kernels, in the order of the text.
    pub fn functions(&self) -> &[Arc<Function>] {
        &self.functions
    }

    /// A kernel by name.
    pub fn function(&self, name: &str) -> Option<Arc<Function>> {
        self.by_name
            .get(name)
            .and_then(|&k| self.functions.get(k))
            .cloned()
    }

    /// Address and size of a global or constant variable.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }

    /// What there is to say about the load.
    pub fn info_log(&self) -> &str {
        &self.log
    }

    /// Device memory of the module's variables.
    pub fn allocations(&self) -> &[u64] {
        &self.allocations.list
    }

    /// The parsed text.
    pub(crate) fn ptx(&self) -> &PtxModule {
        &self.data.ptx
    }

    /// PTX version of the text, and its target.
    pub fn version(&self) -> ((u32, u32), u32) {
        (self.ptx().version, self.ptx().target)
    }
}

fn ptx_version(source: &str) -> Option<(u32, u32)> {
    let at = source.find(".version")?;
    let word = source.get(at + 8..)?.split_whitespace().next()?;
    let (major, minor) = word.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn allocate(v: &Variable, space: &AddressSpace, list: &mut Allocations) -> Result<u64, LoadError> {
    if v.external {
        return Err(LoadError::UnresolvedSymbol(v.name.clone()));
    }
    let a = space.alloc(v.bytes.max(1), v.align)?;
    list.list.push(a);
    Ok(a)
}

fn initialise(
    at: u64,
    v: &Variable,
    addresses: &[u64],
    space: &AddressSpace,
) -> Result<(), LoadError> {
    if v.init.is_empty() {
        return Ok(());
    }
    let mut bytes = vec![
        0u8;
        v.init
            .last()
            .map_or(0, |i| i.offset as usize + i.bytes as usize)
    ];
    for i in &v.init {
        let value = match i.value {
            InitValue::Bits(b) => b,
            InitValue::Address { symbol, addend } => {
                let base = match symbol {
                    Symbol::Module(k) => addresses.get(k as usize).copied().unwrap_or(0),
                    Symbol::Function(k) => FUNCTION_WINDOW + u64::from(k) * FUNCTION_STEP,
                    _ => 0,
                };
                base.wrapping_add(addend as u64)
            }
        };
        let raw = value.to_le_bytes();
        let n = (i.bytes as usize).min(8);
        if let (Some(to), Some(from)) = (
            bytes.get_mut(i.offset as usize..i.offset as usize + n),
            raw.get(..n),
        ) {
            to.copy_from_slice(from);
        }
    }
    space
        .write(at, &bytes)
        .map_err(|e| LoadError::InvalidImage(e.to_string()))
}
