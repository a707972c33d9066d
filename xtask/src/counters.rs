//! The mediator's counts of calls by name, and whether they agree with what a program counted itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Calls by name.
pub type Counts = BTreeMap<String, u64>;

/// How a function of the driver is counted by the mediator.
enum Row {
    /// Every call of these functions is one call of this row.
    Each(&'static str, &'static [&'static str]),
    /// The first call for a name asks the mediator, further ones are answered in the guest.
    Once(&'static str, &'static [&'static str]),
    /// A copy is one call of the first row, one of the second when it is short, or several of the first when it
    /// is long: together at least as many.
    AtLeast([&'static str; 2], &'static [&'static str]),
}

/// What has to agree. Functions that are answered in the guest (names, attributes, addresses of functions) are
/// not here.
const ROWS: &[Row] = &[
    Row::Each("cuCtxCreate", &["cuCtxCreate"]),
    Row::Each("cuCtxDestroy", &["cuCtxDestroy"]),
    Row::Each("cuCtxSynchronize", &["cuCtxSynchronize"]),
    Row::Each(
        "cuModuleLoadDataEx",
        &["cuModuleLoadData", "cuModuleLoadDataEx"],
    ),
    Row::Each("cuModuleUnload", &["cuModuleUnload"]),
    Row::Once("cuModuleGetFunction", &["cuModuleGetFunction"]),
    Row::Each("cuModuleGetGlobal", &["cuModuleGetGlobal"]),
    Row::Each("cuLaunchKernel", &["cuLaunchKernel"]),
    Row::Each("cuMemAlloc", &["cuMemAlloc"]),
    Row::Each("cuMemFree", &["cuMemFree"]),
    Row::Each("cuMemcpyDtoD", &["cuMemcpyDtoD", "cuMemcpyDtoDAsync"]),
    Row::Each("cuMemsetD", &["cuMemsetD8", "cuMemsetD16", "cuMemsetD32"]),
    Row::Each(
        "cuMemsetD2D",
        &["cuMemsetD2D8", "cuMemsetD2D16", "cuMemsetD2D32"],
    ),
    Row::Each(
        "cuStreamCreateWithPriority",
        &["cuStreamCreate", "cuStreamCreateWithPriority"],
    ),
    Row::Each("cuStreamDestroy", &["cuStreamDestroy"]),
    Row::Each("cuStreamSynchronize", &["cuStreamSynchronize"]),
    Row::Each("cuStreamWaitEvent", &["cuStreamWaitEvent"]),
    Row::Each("cuEventCreate", &["cuEventCreate"]),
    Row::Each("cuEventDestroy", &["cuEventDestroy"]),
    Row::Each("cuEventRecord", &["cuEventRecord"]),
    Row::Each("cuEventSynchronize", &["cuEventSynchronize"]),
    Row::Each("cuEventElapsedTime", &["cuEventElapsedTime"]),
    Row::AtLeast(
        ["cuMemcpyHtoD", "cuMemcpyHtoD_inline"],
        &["cuMemcpyHtoD", "cuMemcpyHtoDAsync"],
    ),
    Row::AtLeast(
        ["cuMemcpyDtoH", "cuMemcpyDtoH_inline"],
        &["cuMemcpyDtoH", "cuMemcpyDtoHAsync"],
    ),
];

/// Adds up the lines of a counters file that belong to one program of one machine.
pub fn of_client(file: &Path, vm_id: u32, client: &str) -> Result<Counts> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut sum = Counts::new();
    for line in text.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()))?;
        let vm = line.get("vm_id").and_then(serde_json::Value::as_u64);
        let name = line.get("client").and_then(serde_json::Value::as_str);
        if vm != Some(u64::from(vm_id)) || name != Some(client) {
            continue;
        }
        let calls = line.get("calls").and_then(serde_json::Value::as_object);
        for (name, count) in
            calls.with_context(|| format!("{}: a line without calls", file.display()))?
        {
            *sum.entry(name.clone()).or_default() += count.as_u64().unwrap_or_default();
        }
    }
    Ok(sum)
}

/// The lines `calls: NAME=COUNT …` that a program printed.
pub fn of_program(output: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for line in output.lines() {
        let Some(words) = line.strip_prefix("calls: ") else {
            continue;
        };
        for word in words.split_whitespace() {
            let (name, count) = word.split_once('=').with_context(|| line.to_owned())?;
            let count: u64 = count.parse().with_context(|| line.to_owned())?;
            *counts.entry(name.to_owned()).or_default() += count;
        }
    }
    if counts.is_empty() {
        bail!("the program printed no counts of calls");
    }
    Ok(counts)
}

/// A table of both; an error names every row that disagrees.
pub fn compare(mediator: &Counts, program: &Counts) -> Result<String> {
    let count = |counts: &Counts, names: &[&str]| -> u64 {
        names.iter().filter_map(|name| counts.get(*name)).sum()
    };
    let mut table = format!("  {:<28} {:>9} {:>9}\n", "call", "mediator", "program");
    let mut wrong = Vec::new();
    for row in ROWS {
        let (name, host, guest, agrees) = match row {
            Row::Each(name, functions) => {
                let (host, guest) = (count(mediator, &[*name]), count(program, functions));
                (*name, host, guest, host == guest)
            }
            Row::Once(name, functions) => {
                let (host, guest) = (count(mediator, &[*name]), count(program, functions));
                (
                    *name,
                    host,
                    guest,
                    host <= guest && (host == 0) == (guest == 0),
                )
            }
            Row::AtLeast(names, functions) => {
                let (host, guest) = (count(mediator, names), count(program, functions));
                (
                    names[0],
                    host,
                    guest,
                    host >= guest && (host == 0) == (guest == 0),
                )
            }
        };
        if host == 0 && guest == 0 {
            continue;
        }
        let note = match row {
            Row::Once(..) if host != guest => {
                "  further calls for a name are answered in the guest"
            }
            Row::AtLeast(..) if host != guest => "  a long copy goes in pieces",
            _ => "",
        };
        table.push_str(&format!("  {name:<28} {host:>9} {guest:>9}{note}\n"));
        if !agrees {
            wrong.push(format!(
                "{name}: {host} in the mediator, {guest} in the program"
            ));
        }
    }
    if !wrong.is_empty() {
        bail!("the counts disagree\n{table}  {}", wrong.join("\n  "));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn agreement_is_exact_but_for_copies() {
        let program = counts(&[
            ("cuLaunchKernel", 7),
            ("cuMemcpyHtoD", 2),
            ("cuMemcpyHtoDAsync", 1),
        ]);
        let split = [
            ("cuLaunchKernel", 7),
            ("cuMemcpyHtoD", 5),
            ("cuMemcpyHtoD_inline", 1),
        ];
        assert!(
            compare(&counts(&split), &program)
                .unwrap()
                .contains("cuLaunchKernel")
        );
        for (launches, copies) in [(6, 5), (8, 5), (7, 2), (7, 0)] {
            let mediator = counts(&[("cuLaunchKernel", launches), ("cuMemcpyHtoD", copies)]);
            assert!(compare(&mediator, &program).is_err(), "{launches} {copies}");
        }
    }

    #[test]
    fn lines_of_other_machines_and_programs_do_not_count() {
        let file = std::env::temp_dir().join(format!("vgpu-counters-{}", std::process::id()));
        let line = |vm_id: u32, client: &str, calls: &str| {
            format!(
                r#"{{"vm_id":{vm_id},"channel":0,"client":"{client}","pid":7,"calls":{calls}}}"#
            )
        };
        let lines = [
            line(111, "a", r#"{"cuInit":1,"cuMemAlloc":2}"#),
            line(112, "a", r#"{"cuInit":5}"#),
            line(111, "b", r#"{"cuInit":9}"#),
            line(111, "a", r#"{"cuInit":1}"#),
        ];
        fs::write(&file, lines.join("\n")).unwrap();
        let sum = counts(&[("cuInit", 2), ("cuMemAlloc", 2)]);
        assert_eq!(of_client(&file, 111, "a").unwrap(), sum);
        assert!(of_client(&file, 113, "a").unwrap().is_empty());
        fs::remove_file(file).unwrap();
    }

    #[test]
    fn program_without_counts_is_an_error() {
        assert_eq!(
            of_program("PASS x\ncalls: cuInit=1 cuX=2\ncalls: cuX=3\n").unwrap(),
            counts(&[("cuInit", 1), ("cuX", 5)])
        );
        assert!(of_program("PASS x\n").is_err());
    }
}
