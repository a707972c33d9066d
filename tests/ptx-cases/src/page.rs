//! The table as a page.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::form::{End, Form};

/// Where a real GPU's results differ, by what was asked. Each entry: GPU, form, what differs.
const DIFFERENCES: &[[&str; 3]] = &[];

/// The page.
pub fn text(forms: &[Form]) -> String {
    let mut page = String::from(
        "# PTX coverage\n\n\
         Made by `cargo xtask ptx-coverage` from the table in `tests/ptx-cases`; a test compares them. Every row of the table is a kernel with inputs\n\
         and the results that the PTX ISA asks for. `cargo test -p vgpu-soft-gpu --test conformance` runs all of them in every mode of the software GPU,\n\
         `ptx-conformance` runs them through `libcuda.so.1` on whatever device there is.\n\n\
         *exact*: the bits are compared. *bound*: the result must lie within the error that the ISA states. *refused*: a kernel with it is not loaded, the\n\
         message names instruction, line and kernel, and the other kernels of its module work. A form is an instruction with its modifiers and types. A\n\
         case is one result.\n",
    );
    let count = |f: &dyn Fn(&&Form) -> bool| forms.iter().filter(f).count();
    let cases = |f: &Form| {
        if f.end == End::Output {
            f.want.len()
        } else {
            1
        }
    };
    let _ = writeln!(
        page,
        "\n{} forms are executed ({} within a bound), {} refused; {} cases.\n\n## Differences from a real GPU\n",
        count(&|f| f.end != End::Refused),
        count(&|f| f.bounded()),
        count(&|f| f.end == End::Refused),
        forms.iter().map(cases).sum::<usize>()
    );
    if DIFFERENCES.is_empty() {
        page += "No GPU has been asked yet.\n";
    } else {
        page += "| GPU | form | difference |\n|---|---|---|\n";
        for [gpu, form, what] in DIFFERENCES {
            let _ = writeln!(page, "| {gpu} | `{form}` | {what} |");
        }
    }
    let mut sections: Vec<&str> = vec![];
    for f in forms {
        if !sections.contains(&f.section) {
            sections.push(f.section);
        }
    }
    for section in sections {
        let _ = writeln!(
            page,
            "\n## {section}\n\n| instruction | forms | | | cases |\n|---|---|---|---|---|"
        );
        // (instruction, executed, bound) in the order of the table.
        let mut order: Vec<(String, bool, bool)> = vec![];
        let mut rows: BTreeMap<(String, bool, bool), (Vec<String>, usize)> = BTreeMap::new();
        for f in forms.iter().filter(|f| f.section == section) {
            let key = (f.mnemonic().to_owned(), f.end != End::Refused, f.bounded());
            if !order.contains(&key) {
                order.push(key.clone());
            }
            let row = rows.entry(key).or_default();
            row.0.push(f.opcode.clone());
            row.1 += cases(f);
        }
        for key in order {
            let (forms, cases) = &rows[&key];
            let _ = writeln!(
                page,
                "| `{}` | {} | {} | {} | {cases} |",
                key.0,
                listed(&key.0, forms),
                if key.1 { "executed" } else { "refused" },
                match (key.1, key.2) {
                    (false, _) => "",
                    (_, true) => "bound",
                    _ => "exact",
                }
            );
        }
    }
    page
}

/// Forms behind each other, without the instruction's name in front of each.
fn listed(mnemonic: &str, forms: &[String]) -> String {
    let mut list: Vec<&str> = forms
        .iter()
        .map(|f| f.strip_prefix(mnemonic).unwrap_or(f))
        .filter(|f| !f.is_empty())
        .collect();
    list.sort_unstable();
    list.dedup();
    if list.is_empty() {
        return "1".to_owned();
    }
    format!("{}: `{}`", forms.len(), list.join("` `"))
}
