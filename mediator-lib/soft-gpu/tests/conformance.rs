//! The instructions of the PTX ISA, by the table of `tests/ptx-cases`: every row in every form of execution.
#![allow(missing_docs, clippy::unwrap_used)] // a test fails by a panic

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::Data;
use vgpu_ptx_cases::form::{End, Form};
use vgpu_ptx_cases::modules::{self, Module as Rows};
use vgpu_soft_gpu::{
    Abort, AddressSpace, Function, Gpu, Isa, Jit, LaunchConfig, LaunchError, LaunchOptions,
    LoadOptions, Module,
};

/// `(name, reference code, machine code, instruction set)`.
const MODES: [(&str, bool, Jit, Option<Isa>); 6] = [
    ("compiled", false, Jit::Always, None),
    ("interpreted", false, Jit::Never, None),
    ("reference", true, Jit::Never, None),
    ("interpreted for AVX2", false, Jit::Never, Some(Isa::Avx2)),
    (
        "interpreted for x86-64",
        false,
        Jit::Never,
        Some(Isa::Baseline),
    ),
    (
        "reference for x86-64",
        true,
        Jit::Never,
        Some(Isa::Baseline),
    ),
];

struct Runner {
    gpu: Arc<Gpu>,
    space: Arc<AddressSpace>,
    input: u64,
    output: u64,
}

/// Room for the inputs, and for the outputs, of the greatest row.
const ROOM: u64 = 1 << 20;

impl Runner {
    fn new() -> Runner {
        let space = Arc::new(AddressSpace::new(1 << 30).unwrap());
        let alloc = || space.alloc(ROOM, 256).unwrap();
        let (input, output) = (alloc(), alloc());
        Runner {
            gpu: Gpu::new(2).unwrap(),
            space,
            input,
            output,
        }
    }

    fn load(&self, ptx: &str, isa: Option<Isa>) -> Result<Module, String> {
        let options = LoadOptions {
            isa,
            ..LoadOptions::default()
        };
        Module::load(ptx.as_bytes(), &options, &self.space).map_err(|e| e.to_string())
    }

    fn run(
        &self,
        f: &Arc<Function>,
        form: &Form,
        whole: bool,
        reference: bool,
        jit: Jit,
    ) -> Result<Vec<u64>, LaunchError> {
        let bytes = |v: &[u64]| {
            let mut out = Vec::new();
            v.iter().for_each(|x| x.put(&mut out));
            out
        };
        self.space.write(self.input, &bytes(&form.input)).unwrap();
        self.space
            .write(self.output, &vec![0; 8 * form.want.len()])
            .unwrap();
        let mut params = bytes(&[self.input, self.output]);
        form.threads.put(&mut params);
        let (grid, block) = modules::shape(form, whole);
        let cfg = LaunchConfig {
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            dynamic_shared_bytes: 0,
        };
        let opts = LaunchOptions {
            reference,
            jit,
            ..LaunchOptions::default()
        };
        params.resize(f.param_bytes() as usize, 0);
        self.gpu
            .launch(&self.space, f, &cfg, &params, &opts, &Abort::new())?;
        let mut out = vec![0; 8 * form.want.len()];
        self.space.read(self.output, &mut out).unwrap();
        Ok(out.chunks(8).map(u64::get).collect())
    }
}

/// What is wrong with a row, if something is.
fn wrong(result: Result<Vec<u64>, LaunchError>, form: &Form) -> Option<String> {
    match (form.end, result) {
        (End::Output, Ok(out)) => modules::compare(form, &out),
        (End::Output, Err(e)) => Some(e.to_string()),
        (end, Err(e)) if kind(&e) == Some(end) => None,
        (end, r) => Some(format!("expected {end:?}, got {r:?}")),
    }
}

fn kind(e: &LaunchError) -> Option<End> {
    match e {
        LaunchError::MisalignedAddress(_) => Some(End::MisalignedAddress),
        LaunchError::IllegalAddress(_) => Some(End::IllegalAddress),
        LaunchError::Trap(_) => Some(End::Trap),
        _ => None,
    }
}

/// The device is of compute capability 9.0; what of later architectures it executes, it does there.
fn head((version, sm): (u32, u32)) -> String {
    modules::head((version, if (91..=200).contains(&sm) { 90 } else { sm }))
}

fn run_module(forms: &[Form], module: &Rows, runner: &Runner, problems: &mut Vec<String>) {
    // A short form needs fewer of the modes: values that are the same in a warp go other ways only there.
    for whole in [false, true] {
        let text = modules::text(forms, module, whole)
            .replace(&modules::head(module.needs), &head(module.needs));
        for (name, reference, jit, isa) in MODES {
            if whole && (reference || isa == Some(Isa::Avx2)) {
                continue;
            }
            let loaded = match runner.load(&text, isa) {
                Ok(m) => m,
                Err(e) => {
                    let rows: Vec<&str> = module.rows.iter().map(|r| &*forms[*r].opcode).collect();
                    problems.push(format!("{rows:?} do not load: {e}"));
                    return;
                }
            };
            for row in &module.rows {
                let form = &forms[*row];
                if whole && !form.alone {
                    continue;
                }
                let f = loaded.function(&modules::kernel(*row)).unwrap();
                if let Some(why) = f.unsupported() {
                    if name == "compiled" && !whole {
                        problems.push(format!("{}: {why}", form.opcode));
                    }
                    continue;
                }
                let whole_name = if whole { ", one case a block" } else { "" };
                if let Some(why) = wrong(runner.run(&f, form, whole, reference, jit), form) {
                    problems.push(format!("{} ({name}{whole_name}): {why}", form.opcode));
                }
            }
        }
    }
}

fn report(problems: &[String]) {
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// The rows in a few tests, so that they share the machine's processors.
fn run_part(part: usize) {
    let forms = vgpu_ptx_cases::all();
    let runner = Runner::new();
    let mut problems = vec![];
    for (_, module) in modules::group(&forms)
        .iter()
        .enumerate()
        .filter(|(i, _)| i % 4 == part)
    {
        run_module(&forms, module, &runner, &mut problems);
    }
    report(&problems);
}

#[test]
fn rows_give_what_the_isa_asks_for_1() {
    run_part(0);
}

#[test]
fn rows_give_what_the_isa_asks_for_2() {
    run_part(1);
}

#[test]
fn rows_give_what_the_isa_asks_for_3() {
    run_part(2);
}

#[test]
fn rows_give_what_the_isa_asks_for_4() {
    run_part(3);
}

#[test]
fn what_is_not_executed_is_refused_and_the_rest_loads() {
    let forms = vgpu_ptx_cases::all();
    let good = forms.iter().position(|f| f.opcode == "add.u32").unwrap();
    let runner = Runner::new();
    let mut problems = vec![];
    for (row, form) in forms
        .iter()
        .enumerate()
        .filter(|(_, f)| f.end == End::Refused)
    {
        let mut text = head(form.needs);
        text += &form.kernel("bad", false);
        text += &forms[good].kernel("good", false);
        let line = 1 + text
            .lines()
            .position(|l| l.starts_with(&form.opcode))
            .unwrap_or(usize::MAX - 1);
        let module = match runner.load(&text, None) {
            Ok(m) => m,
            Err(e) => {
                problems.push(format!(
                    "{row}, {}: the module does not load: {e}",
                    form.opcode
                ));
                continue;
            }
        };
        match module.function("bad").unwrap().unsupported() {
            None => problems.push(format!("{}: is not refused", form.opcode)),
            Some(why) => {
                for part in [
                    format!("unsupported instruction '{}'", form.opcode),
                    format!("line {line}"),
                    "kernel 'bad'".to_owned(),
                ] {
                    if !why.contains(&part) {
                        problems.push(format!(
                            "{}: the message lacks \"{part}\": {why}",
                            form.opcode
                        ));
                    }
                }
                if !module.info_log().contains(&form.opcode) {
                    problems.push(format!(
                        "{}: the log does not name it: {}",
                        form.opcode,
                        module.info_log()
                    ));
                }
            }
        }
        let f = module.function("good").unwrap();
        if let Some(why) = wrong(
            runner.run(&f, &forms[good], false, false, Jit::Never),
            &forms[good],
        ) {
            problems.push(format!("beside {}: {why}", form.opcode));
        }
    }
    report(&problems);
}

#[test]
fn every_instruction_of_the_isa_has_a_row() {
    let forms = vgpu_ptx_cases::all();
    let mut covered = BTreeSet::new();
    for form in &forms {
        // A row's code may have several; its name lists those that it is about.
        covered.extend(
            form.opcode
                .split([',', '/', ' '])
                .filter_map(|w| w.split('.').next()),
        );
        covered.insert(form.mnemonic());
    }
    let missing: Vec<_> = vgpu_soft_gpu::MNEMONICS
        .iter()
        .filter(|m| !covered.contains(**m))
        .collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    let known: BTreeSet<_> = vgpu_soft_gpu::MNEMONICS.iter().copied().collect();
    for form in forms.iter().filter(|f| !f.opcode.starts_with('%')) {
        let name = form.mnemonic().split([',', ' ', '/']).next().unwrap();
        assert!(known.contains(name), "{} is no instruction", form.opcode);
    }
}

#[test]
fn the_page_is_up_to_date() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/specs/ptx-coverage.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == vgpu_ptx_cases::page::text(&vgpu_ptx_cases::all()),
        "run `cargo xtask ptx-coverage`"
    );
}

#[test]
fn faults_name_kernel_and_line() {
    let forms = vgpu_ptx_cases::all();
    let runner = Runner::new();
    for form in forms
        .iter()
        .filter(|f| !matches!(f.end, End::Output | End::Refused))
    {
        let text = modules::head(form.needs) + &form.kernel("k", false);
        let f = runner.load(&text, None).unwrap().function("k").unwrap();
        let fault = match runner.run(&f, form, false, false, Jit::Never) {
            Err(
                LaunchError::IllegalAddress(f)
                | LaunchError::MisalignedAddress(f)
                | LaunchError::Trap(f),
            ) => f,
            other => panic!("{}: {other:?}", form.opcode),
        };
        assert_eq!(&*fault.kernel, "k", "{}", form.opcode);
        let line = text.lines().nth(fault.line as usize - 1).unwrap();
        assert!(
            line.contains(&*fault.instruction),
            "{}: line {} is {line}",
            form.opcode,
            fault.line
        );
    }
}
