//! Loaded modules.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cache::{self, Parsed, Placed};
use crate::exec::alu::Isa;
use crate::function::{Function, ModuleData};
use crate::image::{self, ImageError};
use crate::ir::SystemCall;
use crate::ir::windows::{FUNCTION_STEP, FUNCTION_WINDOW};
use crate::memory::{AddressSpace, AllocError, MIN_ALIGN};
use crate::ptx::ast::{InitValue, Linkage, PtxFunction, PtxModule, Symbol, Variable};
use crate::ptx::link::{Input, link};
use crate::ptx::types::Space;
use crate::ptx::{self, PtxError};

/// Highest PTX ISA version understood.
pub const MAX_PTX_VERSION: (u32, u32) = (9, 9);
/// Compute capability of the device, as `sm_90`.
pub const COMPUTE_CAPABILITY: u32 = 90;

/// Bytes of PTX up to which a module is checked whole when it is loaded; in a larger one a
/// function is parsed and checked when it is first looked at.
pub const MAX_EAGER_BYTES: usize = 256 << 10;

/// How to load.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadOptions {
    /// Check every kernel at once, whatever the size of the module.
    pub eager: bool,
    /// Use at most these vector instructions; none: the best that the host has.
    pub isa: Option<Isa>,
    /// Neither look for the module among those loaded before nor keep it for later.
    pub private: bool,
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
    /// The linker's log: symbols that are missing or have several definitions.
    #[error("{0}")]
    UnresolvedSymbols(String),
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

impl Drop for Module {
    fn drop(&mut self) {
        self.functions.iter().for_each(|f| f.trim());
    }
}

impl Drop for Allocations {
    fn drop(&mut self) {
        for &a in &self.list {
            let _ = self.space.free(a);
        }
    }
}

/// Finds memory for all managed variables of a module: so many bytes, at a multiple of
/// [`MANAGED_ALIGN`].
pub type ManagedMemory<'a> = &'a mut dyn FnMut(u64) -> Result<u64, AllocError>;

/// Alignment of the memory of managed variables: the largest that a variable may ask for.
pub const MANAGED_ALIGN: u64 = 4096;

impl Module {
    /// Loads PTX text (the first NUL ends it) or a fatbin. Managed variables are like others.
    pub fn load(
        image: &[u8],
        opts: &LoadOptions,
        space: &Arc<AddressSpace>,
    ) -> Result<Module, LoadError> {
        Module::load_beside(image, opts, space, None)
    }

    /// The same with memory for managed variables, which kernels reach and which stays the caller's.
    /// Nobody is asked where there are none.
    pub fn load_beside(
        image: &[u8],
        opts: &LoadOptions,
        space: &Arc<AddressSpace>,
        managed: Option<ManagedMemory<'_>>,
    ) -> Result<Module, LoadError> {
        let linked = image::linked_texts(image)?;
        let chosen = match linked {
            Some(_) => None,
            None => Some(image::choose(image, COMPUTE_CAPABILITY)?),
        };
        let before = chosen
            .as_ref()
            .filter(|_| !opts.private)
            .and_then(|c| cache::parsed(c.bytes()));
        let (source, ptx) = match (&before, linked, &chosen) {
            (Some(p), ..) => (p.source.clone(), p.ptx.clone()),
            (None, Some(texts), _) => linked_module(texts)?,
            (None, None, Some(c)) => {
                let source = Arc::new(c.text()?);
                let ptx = parse_scope(&source)?;
                // A function with a second name is resolved as the linker does.
                if ptx.aliases.is_empty() {
                    (source, Arc::new(ptx))
                } else {
                    linked_module(vec![source.as_ref().clone()])?
                }
            }
            (None, None, None) => return Err(LoadError::NoBinaryForGpu),
        };
        let eager = opts.eager || source.len() <= MAX_EAGER_BYTES;
        check_bodies(
            &source,
            ptx.functions.iter().filter(|f| eager || f.has_statics()),
        )?;
        let mut allocations = Allocations {
            space: space.clone(),
            list: Vec::new(),
        };
        let mut globals = HashMap::new();
        let mut addresses = Vec::with_capacity(ptx.vars.len());
        let managed = match managed {
            Some(find) => place_managed(&ptx.vars, find)?,
            None => HashMap::new(),
        };
        for (k, v) in ptx.vars.iter().enumerate() {
            addresses.push(if matches!(v.space, Space::Global | Space::Const) {
                let a = match managed.get(&k) {
                    Some(a) => *a,
                    None => allocate(v, space, &mut allocations)?,
                };
                globals.insert(v.name.clone(), (a, v.bytes));
                a
            } else {
                0
            });
        }
        let mut locals = HashMap::new();
        let mut pending: Vec<(u64, &Variable)> = Vec::new();
        for (f, function) in ptx.functions.iter().enumerate() {
            let body = function.has_statics().then(|| function.body()).flatten();
            for (k, v) in body.iter().flat_map(|b| &b.vars).enumerate() {
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
        if before.is_none()
            && !opts.private
            && let Some(chosen) = &chosen
        {
            let parsed = Parsed {
                source: data.source.clone(),
                ptx: data.ptx.clone(),
            };
            cache::keep(chosen.bytes(), &parsed);
        }
        let known = cache::placed(&data);
        let data = known.as_ref().map_or(data, |k| k.data.clone());
        let mut m = Module {
            data,
            functions: Vec::new(),
            by_name: HashMap::new(),
            globals,
            allocations,
            log: String::new(),
        };
        m.functions = match known {
            Some(k) => k.functions,
            None => {
                let own = |(k, f): (usize, &PtxFunction)| {
                    let f = f.entry.then(|| Function::new(&m.data, k as u32));
                    f.flatten().map(Arc::new)
                };
                let list = m.data.ptx.functions.iter().enumerate();
                let placed = Placed {
                    functions: list.filter_map(own).collect(),
                    data: m.data.clone(),
                };
                cache::place(&placed);
                placed.functions
            }
        };
        for (k, f) in m.functions.iter().enumerate() {
            m.by_name.insert(f.name().to_owned(), k);
        }
        if eager {
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

    /// Whether it calls device `malloc` or `free`: its context needs a heap.
    pub fn uses_heap(&self) -> bool {
        let mut external = self.data.ptx.functions.iter().filter(|f| !f.defined());
        external.any(|f| {
            matches!(
                SystemCall::of(&f.name),
                Some(SystemCall::Malloc | SystemCall::Free)
            )
        })
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

/// An error of the text; a version from the future explains any syntax error after it.
fn wrong(source: &str, e: PtxError) -> LoadError {
    match ptx_version(source).filter(|&v| v > MAX_PTX_VERSION) {
        Some((major, minor)) => LoadError::UnsupportedPtxVersion { major, minor },
        None => e.into(),
    }
}

fn check_bodies<'a>(
    source: &str,
    mut functions: impl Iterator<Item = &'a PtxFunction>,
) -> Result<(), LoadError> {
    functions.try_for_each(|f| match f.parsed() {
        Some(Err(e)) => Err(wrong(source, e.clone())),
        _ => Ok(()),
    })
}

/// Parses the module scope of a text and checks that this device can execute it.
fn parse_scope(source: &Arc<String>) -> Result<PtxModule, LoadError> {
    let ptx = ptx::parse(source).map_err(|e| wrong(source, e))?;
    if ptx.version > MAX_PTX_VERSION {
        return Err(LoadError::UnsupportedPtxVersion {
            major: ptx.version.0,
            minor: ptx.version.1,
        });
    }
    if ptx.target > COMPUTE_CAPABILITY {
        return Err(LoadError::NoBinaryForGpu);
    }
    Ok(ptx)
}

/// The same with all bodies.
pub(crate) fn parse_text(source: &Arc<String>) -> Result<PtxModule, LoadError> {
    let ptx = parse_scope(source)?;
    check_bodies(source, ptx.functions.iter())?;
    Ok(ptx)
}

/// Several texts as one module.
fn linked_module(texts: Vec<String>) -> Result<(Arc<String>, Arc<PtxModule>), LoadError> {
    let mut inputs = Vec::new();
    for text in texts {
        let source = Arc::new(text);
        inputs.push(Input {
            name: format!("input {}", inputs.len() + 1),
            module: parse_text(&source)?,
            source,
        });
    }
    let (source, ptx) = link(inputs).map_err(LoadError::UnresolvedSymbols)?;
    Ok((Arc::new(source), Arc::new(ptx)))
}

fn ptx_version(source: &str) -> Option<(u32, u32)> {
    let at = source.find(".version")?;
    let word = source.get(at + 8..)?.split_whitespace().next()?;
    let (major, minor) = word.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Addresses of a module's managed variables, by their places in the list.
fn place_managed(
    vars: &[Variable],
    find: ManagedMemory<'_>,
) -> Result<HashMap<usize, u64>, LoadError> {
    let mut places = HashMap::new();
    let mut end = 0u64;
    for (k, v) in vars.iter().enumerate() {
        if !v.managed || v.space != Space::Global {
            continue;
        }
        if v.linkage == Linkage::Extern {
            return Err(LoadError::UnresolvedSymbol(v.name.clone()));
        }
        // An overflow is more than anybody has.
        let at = end.checked_next_multiple_of(v.align.max(MIN_ALIGN));
        let at = at.unwrap_or(u64::MAX);
        places.insert(k, at);
        end = at.saturating_add(v.bytes.max(1));
    }
    if end > 0 {
        let base = find(end)?;
        places
            .values_mut()
            .for_each(|at| *at = at.wrapping_add(base));
    }
    Ok(places)
}

fn allocate(v: &Variable, space: &AddressSpace, list: &mut Allocations) -> Result<u64, LoadError> {
    if v.linkage == Linkage::Extern {
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
