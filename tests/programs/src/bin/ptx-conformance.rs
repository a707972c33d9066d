//! Runs every instruction of the PTX ISA on the device, and compares the results with what the ISA asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use vgpu_ptx_cases::form::{End, Form};
use vgpu_ptx_cases::modules::{self, Module as Rows};
use vgpu_test_programs::cuda::{
    self, Arguments, Buffer, Context, Failed, Function, Module, Shape, sys::CUresult,
};

const HELP: &str = "\
Usage: ptx-conformance [--only TEXT] [PTX-DIRECTORY]

The directory is for likeness with the other programs: the kernels are part of this one.

  --only TEXT   run the forms whose name contains TEXT
  --row N       run one row in this process";

#[derive(Default)]
struct Options {
    only: Option<String>,
    row: Option<usize>,
}

/// `None`: something was printed and there is nothing to run.
fn options() -> Result<Option<Options>> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} wants a value\n{HELP}"))
        };
        match word.as_str() {
            "--only" => options.only = Some(value()?),
            "--row" => options.row = Some(value()?.parse().context("--row wants a number")?),
            "--help" => {
                println!("{HELP}");
                return Ok(None);
            }
            other if other.starts_with('-') => bail!("unknown option {other}\n{HELP}"),
            _directory => {}
        }
    }
    Ok(Some(options))
}

/// What became of the forms of one instruction.
#[derive(Default)]
struct Group {
    passed: usize,
    failed: usize,
    skipped: BTreeSet<String>,
}

struct Runner {
    context: Context,
    capability: u32,
    groups: BTreeMap<(usize, String), Group>,
    sections: Vec<&'static str>,
}

impl Runner {
    fn group(&mut self, form: &Form) -> &mut Group {
        let section = self
            .sections
            .iter()
            .position(|s| *s == form.section)
            .unwrap_or_else(|| {
                self.sections.push(form.section);
                self.sections.len() - 1
            });
        let name = form.mnemonic().trim_end_matches(',').to_owned();
        self.groups.entry((section, name)).or_default()
    }

    fn skip(&mut self, form: &Form, why: &str) {
        self.group(form).skipped.insert(why.to_owned());
    }

    fn result(&mut self, form: &Form, problem: Option<String>) {
        let group = self.group(form);
        match problem {
            None => group.passed += 1,
            Some(why) => {
                group.failed += 1;
                println!("FAIL {}: {why}", form.opcode.replace(' ', "_"));
            }
        }
    }

    /// Why rows with these needs cannot run here.
    fn lacks(&self, (_, sm): (u32, u32)) -> Option<String> {
        // An architecture's own instructions are for that one alone.
        let fits = if sm > 900 {
            self.capability == sm / 10
        } else {
            self.capability >= sm
        };
        let name = if sm > 900 {
            format!("{}a", sm / 10)
        } else {
            sm.to_string()
        };
        (!fits).then(|| format!("needs sm_{name}, this is sm_{}", self.capability))
    }

    fn module(&mut self, forms: &[Form], rows: &Rows) {
        if let Some(why) = self.lacks(rows.needs) {
            rows.rows.iter().for_each(|r| self.skip(&forms[*r], &why));
            return;
        }
        match Module::load(&modules::text(forms, rows, false)) {
            Ok(module) => {
                for row in &rows.rows {
                    let form = &forms[*row];
                    let problem = match module.function(&modules::kernel(*row)) {
                        Ok(function) => self.launch(&function, form),
                        Err(error) => Some(format!("{error:#}")),
                    };
                    self.result(form, problem);
                }
            }
            Err(error) if old(&error) => {
                let (version, _) = rows.needs;
                let why = format!(
                    "needs PTX {}.{}, which the driver does not know",
                    version / 10,
                    version % 10
                );
                rows.rows.iter().for_each(|r| self.skip(&forms[*r], &why));
            }
            Err(error) if rows.rows.len() == 1 => {
                let form = &forms[rows.rows[0]];
                self.result(form, Some(format!("does not load: {error:#}")));
            }
            // One of them: alone they show which.
            Err(_) => {
                for row in &rows.rows {
                    self.module(
                        forms,
                        &Rows {
                            needs: rows.needs,
                            rows: vec![*row],
                        },
                    );
                }
            }
        }
    }

    fn launch(&self, function: &Function, form: &Form) -> Option<String> {
        match self.output(function, form) {
            Ok(output) => modules::compare(form, &output),
            Err(error) => Some(format!("{error:#}")),
        }
    }

    fn output(&self, function: &Function, form: &Form) -> Result<Vec<u64>> {
        let input = Buffer::from(&form.input)?;
        let output = Buffer::<u64>::zeros(form.want.len())?;
        let (grid, block) = modules::shape(form, false);
        let arguments = Arguments::new()
            .with(input.address())
            .with(output.address())
            .with(form.threads);
        function.launch(Shape::grid(grid, block), None, &arguments)?;
        self.context.synchronize()?;
        output.read()
    }
}

/// Whether the driver is older than the module's PTX.
fn old(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("CUDA_ERROR_UNSUPPORTED_PTX_VERSION")
}

/// The error that ends the launch.
fn expected(end: End) -> CUresult {
    match end {
        End::IllegalAddress => CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        End::MisalignedAddress => CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        _ => CUresult::CUDA_ERROR_LAUNCH_FAILED,
    }
}

/// A row that ends its context, and so has a process of its own.
fn run_alone(row: usize) -> Option<String> {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(error.to_string()),
    };
    match Command::new(program)
        .args(["--row", &row.to_string()])
        .output()
    {
        Err(error) => Some(error.to_string()),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn run_here(form: &Form, runner: &Runner) -> Result<()> {
    let module = Module::load(&(modules::head(form.needs) + &form.kernel("k", false)))?;
    let function = module.function("k")?;
    let result = runner.output(&function, form);
    if form.end == End::Output {
        return match modules::compare(form, &result?) {
            None => Ok(()),
            Some(why) => bail!("{why}"),
        };
    }
    match result {
        Ok(_) => bail!("no error, expected {:?}", expected(form.end)),
        Err(error) => match error.downcast_ref::<Failed>() {
            Some(failed) if failed.result == expected(form.end) => Ok(()),
            _ => Err(error.context(format!("expected {:?}", expected(form.end)))),
        },
    }
}

fn run(options: &Options) -> Result<()> {
    let mut forms = vgpu_ptx_cases::all();
    cuda::init()?;
    let context = Context::primary()?;
    let capability = cuda::compute_capability()?;
    let mut runner = Runner {
        context,
        capability,
        groups: BTreeMap::new(),
        sections: vec![],
    };
    if let Some(row) = options.row {
        return run_here(forms.get(row).context("no such row")?, &runner);
    }
    if let Some(only) = &options.only {
        forms.retain(|f| f.opcode.contains(only));
    }
    println!("device: {}, sm_{capability}", cuda::device_name()?);
    for rows in modules::group(&forms) {
        let (lasting, ending): (Vec<usize>, Vec<usize>) = rows
            .rows
            .iter()
            .partition(|r| forms[**r].end == End::Output);
        if !lasting.is_empty() {
            runner.module(
                &forms,
                &Rows {
                    needs: rows.needs,
                    rows: lasting,
                },
            );
        }
        for row in ending {
            match runner.lacks(rows.needs) {
                Some(why) => runner.skip(&forms[row], &why),
                // The row's number is that of the whole table.
                None if options.only.is_some() => {
                    runner.skip(&forms[row], "runs only with the whole table")
                }
                None => {
                    let problem = run_alone(row);
                    runner.result(&forms[row], problem);
                }
            }
        }
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for ((section, name), group) in &runner.groups {
        let label = format!("{}/{name}", runner.sections[*section].replace(' ', "-"));
        passed += group.passed;
        failed += group.failed;
        if group.failed == 0 && group.passed > 0 {
            println!("PASS {label} {} forms", group.passed);
        } else if group.failed > 0 {
            println!(
                "FAIL {label}: {} of {} forms differ",
                group.failed,
                group.passed + group.failed
            );
        }
        for why in &group.skipped {
            skipped += 1;
            println!("SKIP {label} {why}");
        }
    }
    println!("{passed} forms passed, {failed} differ, {skipped} groups were not run");
    if failed > 0 {
        bail!("{failed} forms differ");
    }
    Ok(())
}

fn main() -> ExitCode {
    let result = match options() {
        Ok(Some(options)) => run(&options),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ptx-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}
