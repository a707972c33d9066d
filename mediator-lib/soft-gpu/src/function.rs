//! Functions of a module: attributes, and compilation at first launch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::analysis::constants;
use crate::analysis::reuse::reuse;
use crate::analysis::varies::{Varies, varies};
use crate::analysis::webs;
use crate::emit::{Mode, emit};
use crate::exec::alu::Isa;
use crate::exec::insn::Program;
use crate::exec::warp::LaneFault;
use crate::ir::Func;
use crate::jit::{self, JitCode};
use crate::launch::{
    CALL_BYTES, Fault, LaunchConfig, LaunchError, MAX_THREADS_PER_BLOCK, Pace, Plan, fault_error,
};
use crate::lower::{Context, SharedVar, lower};
use crate::ptx::ast::{InitValue, Pos, PtxModule, Symbol};
use crate::ptx::types::Space;

/// Most block sizes that compiled code of one kernel is kept for: a program
/// that launches with ever new sizes must not make the host keep them all.
const MAX_VARIANTS: usize = 32;
/// Block sizes whose code outlives the module, for the next load of it: bounds what the
/// cache of modules holds.
const MAX_KEPT_VARIANTS: usize = 2;

/// What all functions of a module share.
#[derive(Debug)]
pub(crate) struct ModuleData {
    pub isa: Isa,
    pub source: Arc<String>,
    pub ptx: Arc<PtxModule>,
    pub addresses: Vec<u64>,
    pub locals: HashMap<(u32, u32), u64>,
}

impl ModuleData {
    /// Whether code for one of them is code for the other.
    pub fn same_place(&self, o: &ModuleData) -> bool {
        Arc::ptr_eq(&self.ptx, &o.ptx)
            && self.isa == o.isa
            && self.addresses == o.addresses
            && self.locals == o.locals
    }
}

/// A parameter of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Byte offset in the parameter block.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// A kernel of a module.
#[derive(Debug)]
pub struct Function {
    name: String,
    index: u32,
    module: Arc<ModuleData>,
    params: Vec<Param>,
    param_bytes: u32,
    max_threads: u32,
    shared: OnceLock<SharedLayout>,
    lowered: OnceLock<Result<Lowered, Refusal>>,
    reference: OnceLock<Arc<Program>>,
    variants: Mutex<HashMap<[u32; 3], Arc<Compiled>>>,
    recent: Mutex<Option<Arc<Plan>>>,
}

#[derive(Debug)]
struct SharedLayout {
    offsets: HashMap<SharedVar, u32>,
    bytes: u32,
}

/// A kernel and all it calls, in the intermediate form.
#[derive(Debug)]
struct Lowered {
    functions: Vec<(u32, Func)>,
    local_bytes: u64,
}

/// Why a kernel cannot be executed.
#[derive(Clone, Debug)]
struct Refusal {
    pos: Pos,
    message: String,
    /// Its operands are wrong, as opposed to not supported.
    wrong: bool,
}

/// Numbers of code, which are never used again.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// Executable code for one block size.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub optimised: Program,
    ntid: [u32; 3],
    jit: OnceLock<Option<JitCode>>,
    /// Launches of it so far.
    pub launches: AtomicU32,
    number: u64,
    /// How long its launches take.
    pub pace: Pace,
    pub reference: Arc<Program>,
    pub static_shared: u32,
    pub local_bytes: u64,
    names: Vec<String>,
    module: Arc<ModuleData>,
}

/// A kernel's functions: itself first, then all that it calls or names.
fn reachable(m: &PtxModule, index: u32) -> Vec<u32> {
    let mut list = vec![index];
    let mut k = 0;
    // Whether all functions are in it whose address is taken.
    let mut all = false;
    while let Some(&f) = list.get(k) {
        k += 1;
        let Some(body) = m.functions.get(f as usize).and_then(|f| f.body()) else {
            continue;
        };
        let mut add = |c: u32| {
            let has_body = m
                .functions
                .get(c as usize)
                .is_some_and(|f| f.defined() && !f.entry);
            if has_body && !list.contains(&c) {
                list.push(c);
            }
        };
        body.callees.iter().for_each(|&c| add(c));
        // Tables of function pointers. What calls through a pointer that it was given may get one of any table, or one
        // that any other function took: the program can read them.
        let calls_pointers = !body.prototypes.is_empty();
        if calls_pointers && !std::mem::replace(&mut all, true) {
            let bodies = m.functions.iter().filter_map(|f| f.body());
            bodies.for_each(|b| b.addressed.iter().for_each(|&c| add(c)));
        }
        let vars: Box<dyn Iterator<Item = _>> = if calls_pointers {
            Box::new(m.vars.iter())
        } else {
            Box::new(
                body.used_vars
                    .iter()
                    .filter_map(|&v| m.vars.get(v as usize)),
            )
        };
        for v in vars {
            for i in &v.init {
                if let InitValue::Address {
                    symbol: Symbol::Function(c),
                    ..
                } = i.value
                {
                    add(c);
                }
            }
        }
    }
    list
}

fn lay_out_shared(m: &PtxModule, functions: &[u32]) -> SharedLayout {
    let mut offsets = HashMap::new();
    let mut at = 0u64;
    let mut unsized_vars = Vec::new();
    let mut place = |key: SharedVar, align: u64, bytes: u64| {
        if offsets.contains_key(&key) {
            return;
        }
        if bytes == 0 {
            unsized_vars.push(key);
            return;
        }
        at = at.next_multiple_of(align.max(1));
        offsets.insert(key, at.min(u64::from(u32::MAX)) as u32);
        at = at.saturating_add(bytes).min(u64::from(u32::MAX));
    };
    for &f in functions {
        let Some(body) = m.functions.get(f as usize).and_then(|f| f.body()) else {
            continue;
        };
        for &v in &body.used_vars {
            if let Some(var) = m.vars.get(v as usize).filter(|v| v.space == Space::Shared) {
                place(SharedVar::Module(v), var.align, var.bytes);
            }
        }
        for (k, var) in body
            .vars
            .iter()
            .enumerate()
            .filter(|(_, v)| v.space == Space::Shared)
        {
            place(SharedVar::Function(f, k as u32), var.align, var.bytes);
        }
    }
    let bytes = at as u32;
    for key in unsized_vars {
        offsets.insert(key, bytes.next_multiple_of(16));
    }
    SharedLayout { offsets, bytes }
}

impl Function {
    pub(crate) fn new(module: &Arc<ModuleData>, index: u32) -> Option<Function> {
        let f = module.ptx.functions.get(index as usize)?;
        if !f.defined() {
            return None;
        }
        let params: Vec<Param> = f
            .params
            .iter()
            .map(|p| Param {
                offset: p.offset,
                size: p.bytes,
            })
            .collect();
        Some(Function {
            name: f.name.clone(),
            index,
            module: module.clone(),
            param_bytes: params.last().map_or(0, |p| p.offset + p.size),
            params,
            max_threads: f.max_threads,
            shared: OnceLock::new(),
            lowered: OnceLock::new(),
            reference: OnceLock::new(),
            variants: Mutex::new(HashMap::new()),
            recent: Mutex::new(None),
        })
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Parameters in order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bytes of the parameter block.
    pub fn param_bytes(&self) -> u32 {
        self.param_bytes
    }

    /// Statically allocated shared memory.
    pub fn static_shared_bytes(&self) -> u32 {
        self.shared().bytes
    }

    fn shared(&self) -> &SharedLayout {
        self.shared.get_or_init(|| {
            let m = &self.module.ptx;
            lay_out_shared(m, &reachable(m, self.index))
        })
    }

    /// Local memory per thread that the kernel itself declares.
    pub fn local_bytes_per_thread(&self) -> u32 {
        let body = self
            .module
            .ptx
            .functions
            .get(self.index as usize)
            .and_then(|f| f.body());
        let bytes: u64 = body.map_or(0, |b| {
            b.vars
                .iter()
                .filter(|v| v.space == Space::Local)
                .map(|v| v.bytes)
                .sum()
        });
        bytes.min(u64::from(u32::MAX)) as u32
    }

    /// Constant memory of the module that the kernel names.
    pub fn const_bytes(&self) -> u32 {
        let m = &self.module.ptx;
        let body = m.functions.get(self.index as usize).and_then(|f| f.body());
        let vars = body.map_or(&[][..], |b| &b.used_vars[..]);
        let used = vars
            .iter()
            .filter_map(|&v| m.vars.get(v as usize))
            .filter(|v| v.space == Space::Const);
        used.map(|v| v.bytes).sum::<u64>().min(u64::from(u32::MAX)) as u32
    }

    /// Registers per thread: the number of virtual ones, at most 255.
    pub fn registers(&self) -> u32 {
        let body = self
            .module
            .ptx
            .functions
            .get(self.index as usize)
            .and_then(|f| f.body());
        body.map_or(1, |b| b.regs.len()).clamp(1, 255) as u32
    }

    /// Most threads of a block.
    pub fn max_threads_per_block(&self) -> u32 {
        match self.max_threads {
            0 => MAX_THREADS_PER_BLOCK,
            n => n.min(MAX_THREADS_PER_BLOCK),
        }
    }

    /// PTX version as `cuFuncGetAttribute` has it: the virtual architecture for which the function was compiled, 75 for
    /// compute_75. CUB chooses by it how many threads its kernels have.
    pub fn ptx_version(&self) -> u32 {
        self.module.ptx.target
    }

    /// Binary version: compute capability 9.0.
    pub fn binary_version(&self) -> u32 {
        90
    }

    /// What of the kernel is not supported, with its place.
    pub fn unsupported(&self) -> Option<&str> {
        self.lower().as_ref().err().map(|r| r.message.as_str())
    }

    /// What is wrong with the kernel, if it is more than not supported.
    pub(crate) fn wrong(&self) -> Option<(Pos, &str)> {
        let refusal = self.lower().as_ref().err().filter(|r| r.wrong)?;
        Some((refusal.pos, &refusal.message))
    }

    fn lower(&self) -> &Result<Lowered, Refusal> {
        self.lowered.get_or_init(|| {
            let m = &self.module;
            let cx = Context {
                source: &m.source,
                module: &m.ptx,
                addresses: &m.addresses,
                shared: &self.shared().offsets,
                locals: &m.locals,
            };
            let mut functions = Vec::new();
            for index in reachable(&m.ptx, self.index) {
                let mut f = lower(&cx, index).map_err(|e| {
                    let message = format!(
                        "ptxas application ptx input, line {}; error   : {}, column {}, in kernel '{}'",
                        e.pos.line, e.message, e.pos.column, self.name
                    );
                    tracing::warn!("{message}");
                    Refusal { pos: e.pos, message, wrong: !e.message.starts_with("unsupported") }
                })?;
                webs::split(&mut f);
                constants::propagate(&mut f);
                reuse(&mut f);
                functions.push((index, f));
            }
            let calls = functions.len().saturating_sub(1) as u64;
            let own: u64 = functions.iter().map(|(_, f)| u64::from(f.local_bytes)).sum();
            let local_bytes = own + calls * CALL_BYTES;
            Ok(Lowered { functions, local_bytes })
        })
    }

    /// Why two runs of the kernel with such blocks need not agree; nothing where they must. For tests, which compare
    /// forms of execution.
    pub fn varies(&self, block: [u32; 3]) -> Vec<Varies> {
        let threads = block.iter().fold(1u64, |n, &b| n.saturating_mul(b.into()));
        self.lower().as_ref().map_or_else(
            |_| Vec::new(),
            |l| {
                let functions: Vec<&Func> = l.functions.iter().map(|(_, f)| f).collect();
                varies(&functions, threads.is_multiple_of(32))
            },
        )
    }

    /// Drops code that is not worth keeping once a module that holds the kernel is gone.
    pub(crate) fn trim(&self) {
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        let more = variants.len().saturating_sub(MAX_KEPT_VARIANTS);
        let surplus: Vec<[u32; 3]> = variants.keys().take(more).copied().collect();
        for ntid in surplus {
            variants.remove(&ntid);
        }
        drop(variants);
        self.keep_plan(None);
    }

    /// Compiles the kernel for a block size, ahead of its first launch.
    pub fn prepare(&self, block: [u32; 3]) -> Result<(), String> {
        self.compile(block).map(|_| ())
    }

    /// Bytes of registers that a thread of the kernel has while its block runs, calls not included: in the optimised code for a
    /// block size, and in the reference code. A warp has 32 times as much in one piece.
    pub fn register_bytes(&self, block: [u32; 3]) -> Result<[u32; 2], String> {
        let (compiled, _) = self.compile(block)?;
        let of = |p: &Program| p.functions.first().map_or(0, |f| f.frame_bytes / 32);
        Ok([of(&compiled.optimised), of(&compiled.reference)])
    }

    /// The plan of a launch, and whether the kernel was compiled for it just now. That of the last launch is
    /// kept: nearly always it is the next one's.
    pub(crate) fn plan(
        &self,
        config: &LaunchConfig,
        stack: u64,
    ) -> Result<(Arc<Plan>, bool), LaunchError> {
        // Not locked while the kernel is compiled, which locks and takes long.
        if let Some(plan) = self.recent_plan().filter(|plan| plan.is_for(config, stack)) {
            return Ok((plan, false));
        }
        let (plan, fresh) = Plan::new(self, config, stack)?;
        let plan = Arc::new(plan);
        self.keep_plan(Some(plan.clone()));
        Ok((plan, fresh))
    }

    fn keep_plan(&self, plan: Option<Arc<Plan>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *recent, plan);
        drop(recent);
        drop(before);
    }

    /// The plan of the last launch.
    pub(crate) fn recent_plan(&self) -> Option<Arc<Plan>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.clone()
    }

    /// Code for a block size, and whether it was made just now.
    pub(crate) fn compile(&self, ntid: [u32; 3]) -> Result<(Arc<Compiled>, bool), String> {
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = variants.get(&ntid) {
            return Ok((c.clone(), false));
        }
        let lowered = self.lower().as_ref().map_err(|r| r.message.clone())?;
        let code = |mode| emit(&lowered.functions, mode, self.module.isa);
        let reference = match self.reference.get() {
            Some(known) => known.clone(),
            None => {
                let new = Arc::new(code(Mode::Reference)?);
                self.reference.get_or_init(|| new).clone()
            }
        };
        let c = Arc::new(Compiled {
            optimised: code(Mode::Optimised(ntid))?,
            ntid,
            jit: OnceLock::new(),
            launches: AtomicU32::new(0),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            pace: Pace::default(),
            reference,
            static_shared: self.shared().bytes,
            local_bytes: lowered.local_bytes,
            names: lowered
                .functions
                .iter()
                .map(|(_, f)| f.name.clone())
                .collect(),
            module: self.module.clone(),
        });
        if variants.len() >= MAX_VARIANTS {
            variants.clear();
        }
        variants.insert(ntid, c.clone());
        Ok((c, true))
    }
}

impl Compiled {
    /// Name of the kernel.
    pub fn kernel(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Machine code for the optimised code, if it was compiled.
    pub fn jit(&self) -> Option<&JitCode> {
        self.jit.get()?.as_ref()
    }

    /// Compiles to machine code, once. Where that is not possible the interpreter remains.
    pub fn compile_jit(&self, f: &Function) -> Option<&JitCode> {
        let make = || {
            let lowered = f.lower().as_ref().ok()?;
            let isa = self.module.isa;
            match jit::compile(&self.optimised, &lowered.functions, self.ntid, isa) {
                Ok(code) => {
                    let [all, called] = code.counts();
                    tracing::debug!(
                        "{}: compiled {all} operations, {called} of them as calls, to {} bytes",
                        f.name,
                        code.bytes()
                    );
                    Some(code)
                }
                Err(e) => {
                    tracing::debug!("{}: interpreted: {e}", f.name);
                    None
                }
            }
        };
        self.jit.get_or_init(make).as_ref()
    }

    /// Its number among all code.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Counts a launch; whether it is not the first.
    pub fn again(&self) -> bool {
        // Which of the later ones it is does not matter.
        self.launches.load(Ordering::Relaxed) > 0
            || self.launches.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// The error of a fault at an operation.
    pub fn error(
        &self,
        program: &Program,
        fault: LaneFault,
        pc: u32,
        block: [u32; 3],
        thread: [u32; 3],
    ) -> LaunchError {
        let site = program
            .insns
            .get(pc as usize)
            .and_then(|i| program.sites.get(i.site as usize));
        let (function, site) = site.copied().unwrap_or_default();
        let text = self
            .module
            .source
            .get(site.text.0 as usize..site.text.1 as usize)
            .unwrap_or("");
        let name = |k: usize| {
            self.names
                .get(k)
                .map(|n| n.as_str().into())
                .unwrap_or_default()
        };
        fault_error(
            fault.kind,
            Fault {
                kernel: name(0),
                function: name(function as usize),
                instruction: text.split_whitespace().collect::<Vec<_>>().join(" ").into(),
                line: site.pos.line,
                block,
                thread,
                address: fault.addr,
                bytes: fault.bytes,
                space: fault.space,
                write: fault.write,
            },
        )
    }
}
