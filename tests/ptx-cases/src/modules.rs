//! Rows as PTX modules: many kernels in each, so that few loads do for all.

use crate::form::{End, Form};

/// Kernels in one module.
const MOST: usize = 48;

/// A module.
pub struct Module {
    /// The PTX version (times ten) and architecture that it needs.
    pub needs: (u32, u32),
    /// Indices of its rows; the kernel of row `n` is `k` and that number.
    pub rows: Vec<usize>,
}

/// The kernel's name.
pub fn kernel(row: usize) -> String {
    format!("k{row}")
}

/// All rows in modules by what they need. Rows that are refused come in modules of their own, with one row that works.
pub fn group(forms: &[Form]) -> Vec<Module> {
    let mut out: Vec<Module> = vec![];
    for (row, form) in forms.iter().enumerate() {
        if form.end == End::Refused {
            continue;
        }
        match out
            .iter_mut()
            .rev()
            .find(|m| m.needs == form.needs && m.rows.len() < MOST)
        {
            Some(m) => m.rows.push(row),
            None => out.push(Module {
                needs: form.needs,
                rows: vec![row],
            }),
        }
    }
    out
}

/// The head of a module.
pub fn head((version, sm): (u32, u32)) -> String {
    let sm = if sm > 900 {
        format!("{}a", sm / 10)
    } else {
        sm.to_string()
    };
    format!(
        ".version {}.{}\n.target sm_{sm}\n.address_size 64\n",
        version / 10,
        version % 10
    )
}

/// The text of a module; `whole` as for [`Form::kernel`].
pub fn text(forms: &[Form], module: &Module, whole: bool) -> String {
    let mut s = head(module.needs);
    for row in &module.rows {
        s += &forms[*row].kernel(&kernel(*row), whole);
    }
    s
}

/// Grid and block of a launch.
pub fn shape(form: &Form, whole: bool) -> (u32, u32) {
    if whole {
        (form.threads, 32)
    } else {
        (form.threads.div_ceil(form.block), form.block)
    }
}

/// What is wrong with the output, if something is.
pub fn compare(form: &Form, output: &[u64]) -> Option<String> {
    let bad: Vec<usize> = (0..form.want.len())
        .filter(|i| !form.want[*i].holds(output.get(*i).copied().unwrap_or(0)))
        .collect();
    let first = *bad.first()?;
    let outputs = form.outputs.len().max(1);
    let thread = first / outputs;
    let n = form.inputs.len();
    let input = form
        .input
        .get(thread * n..(thread + 1) * n)
        .unwrap_or_default();
    Some(format!(
        "{} of {} results differ; first of thread {thread}, output {}: got {:#x}, expected {:x?}, inputs {input:x?}",
        bad.len(),
        form.want.len(),
        first % outputs,
        output.get(first).copied().unwrap_or(0),
        form.want[first]
    ))
}
