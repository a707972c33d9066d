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
    /// A call that has nothing to do is answered in the guest.
    AtMost(&'static str, &'static [&'static str]),
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
    Row::AtMost("cuStreamSynchronize", &["cuStreamSynchronize"]),
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

/// How often all programs of a counters file made one call.
pub fn total(file: &Path, call: &str) -> Result<u64> {
    let sum = added(file, |_| true)?;
    Ok(sum.get(call).copied().unwrap_or_default())
}

/// Adds up the lines of a counters file that belong to one program of one machine.
pub fn of_client(file: &Path, vm_id: u32, client: &str) -> Result<Counts> {
    added(file, |line| {
        let vm = line.get("vm_id").and_then(serde_json::Value::as_u64);
        let name = line.get("client").and_then(serde_json::Value::as_str);
        vm == Some(u64::from(vm_id)) && name == Some(client)
    })
}

/// Adds up the lines that are `wanted`.
fn added(file: &Path, wanted: impl Fn(&serde_json::Value) -> bool) -> Result<Counts> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut sum = Counts::new();
    for line in text.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()))?;
        if !wanted(&line) {
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

/// What one process of a guest did: a line of the counters file.
pub struct Session(serde_json::Value);

impl Session {
    fn counts(&self, member: &str) -> Counts {
        let object = self.0.get(member).and_then(serde_json::Value::as_object);
        object
            .into_iter()
            .flatten()
            .map(|(name, count)| (name.clone(), count.as_u64().unwrap_or_default()))
            .collect()
    }

    /// Kernels that were launched.
    pub fn launches(&self) -> u64 {
        self.counts("kernels").values().sum()
    }

    /// Calls of this name.
    pub fn calls(&self, name: &str) -> u64 {
        self.counts("calls").get(name).copied().unwrap_or_default()
    }

    /// Calls that the guest waited for.
    pub fn waited(&self) -> u64 {
        self.0
            .get("waited")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_default()
    }

    /// Bytes copied: `to_device`, `to_host` or `within`.
    pub fn bytes(&self, way: &str) -> u64 {
        self.counts("bytes").get(way).copied().unwrap_or_default()
    }

    /// The kernels that took longest on the host's processors.
    pub fn times(&self, most: usize) -> String {
        let (times, launches) = (self.counts("microseconds"), self.counts("kernels"));
        let all: u64 = times.values().sum();
        let mut rows: Vec<_> = times.into_iter().map(|(name, time)| (time, name)).collect();
        rows.sort_by(|a, b| b.cmp(a));
        let mut text = format!(
            "{:>9} {:>6} {:>9} {:>9}  kernel\n",
            "ms", "share", "launches", "µs each"
        );
        for (time, name) in rows.into_iter().take(most) {
            let count = launches.get(&name).copied().unwrap_or_default().max(1);
            text.push_str(&format!(
                "{:>9.1} {:>4.0} % {count:>9} {:>9.1}  {}\n",
                time as f64 / 1000.0,
                100.0 * time as f64 / all.max(1) as f64,
                time as f64 / count as f64,
                shortened(&name)
            ));
        }
        text
    }

    /// Calls, bytes, and the kernels that were launched most.
    pub fn table(&self) -> String {
        const SHOWN: usize = 12;
        let calls: u64 = self.counts("calls").values().sum();
        let kernels = self.counts("kernels");
        let mut rows = vec![
            (calls, "calls in all".to_owned()),
            (self.waited(), "of them waited for".to_owned()),
            (self.bytes("to_device"), "bytes to the device".to_owned()),
            (self.bytes("to_host"), "bytes to the host".to_owned()),
            (
                self.launches(),
                format!("launches of {} kernels, most of all:", kernels.len()),
            ),
        ];
        let mut most: Vec<_> = kernels.into_iter().map(|(name, n)| (n, name)).collect();
        most.sort_by(|a, b| b.cmp(a));
        for (count, name) in most.into_iter().take(SHOWN) {
            rows.push((count, format!("  {}", shortened(&name))));
        }
        rows.iter()
            .map(|(count, what)| format!("  {count:>13}  {what}\n"))
            .collect()
    }
}

/// A kernel's name on one line.
fn shortened(name: &str) -> String {
    const WIDTH: usize = 90;
    let cut = name.get(..WIDTH).map(|cut| format!("{cut}…"));
    cut.unwrap_or_else(|| name.to_owned())
}

/// The sessions of a program, in the order in which they ended.
pub fn sessions(file: &Path, client: &str) -> Result<Vec<Session>> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut sessions = Vec::new();
    for line in text.lines() {
        let value: serde_json::Value =
            serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()))?;
        let name = value.get("client").and_then(serde_json::Value::as_str);
        if name.is_some_and(|name| name.rsplit('/').next() == Some(client)) {
            sessions.push(Session(value));
        }
    }
    Ok(sessions)
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
            Row::AtMost(name, functions) => {
                let (host, guest) = (count(mediator, &[*name]), count(program, functions));
                (*name, host, guest, host <= guest)
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
            Row::AtMost(..) if host != guest => "  a stream that has no work left is not asked",
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
