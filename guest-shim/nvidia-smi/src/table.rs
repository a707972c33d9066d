//! What is printed without options.

use std::fmt::Write;

use crate::gpu::{Gpu, Maybe};
use crate::system::System;

const NA: &str = "N/A";

fn or_na(value: Maybe, show: impl Fn(u64) -> String) -> String {
    value.map_or_else(|| NA.to_owned(), show)
}

fn mode(value: Maybe) -> &'static str {
    match value {
        None => NA,
        Some(0) => "Off",
        Some(_) => "On",
    }
}

/// Cut to a number of characters, as nvidia-smi does: with dots at the end.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{kept}...")
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// The table.
pub fn text(system: &System, gpus: &[Gpu]) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let line = "-".repeat(89);
    let cells = |fill: &str| [fill.repeat(41), fill.repeat(24), fill.repeat(22)];
    let [a, b, c] = cells("-");
    let rule = format!("+{a}+{b}+{c}+");
    writeln!(out, "{}       ", system.time)?;
    writeln!(out, "+{line}+")?;
    writeln!(
        out,
        "| NVIDIA-SMI {:<22} Driver Version: {:<14} CUDA Version: {:<8} |",
        system.driver, system.driver, system.cuda
    )?;
    writeln!(out, "{rule}")?;
    writeln!(
        out,
        "| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |"
    )?;
    writeln!(
        out,
        "| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |"
    )?;
    writeln!(
        out,
        "|                                         |                        |               MIG M. |"
    )?;
    let [a, b, c] = cells("=");
    writeln!(out, "|{a}+{b}+{c}|")?;
    for gpu in gpus {
        let power = |value| or_na(value, |mw| format!("{:>4}W", (mw + 500) / 1000));
        let usage = match gpu.memory {
            Some([total, _, used]) => format!("{:>7}MiB / {:>6}MiB", mib(used), mib(total)),
            None => NA.to_owned(),
        };
        writeln!(
            out,
            "| {:>3}  {:<28}{:>5}  | {:>18} {:>3} | {:>20} |",
            gpu.index,
            cut(&gpu.name, 27),
            mode(gpu.persistence),
            gpu.pci.bus_id(),
            mode(gpu.display_active),
            or_na(gpu.ecc_errors[1], |errors| errors.to_string()),
        )?;
        writeln!(
            out,
            "| {:>3} {:>5}    {:<3}{:>23} | {usage:>22} | {:>7} {:>12} |",
            NA,
            or_na(gpu.temperature, |t| format!("{t}C")),
            or_na(gpu.performance, |state| format!("P{state}")),
            format!(
                "{} / {:>5}",
                power(gpu.power).trim_start(),
                power(gpu.power_limit)
            ),
            or_na(gpu.utilization.map(|u| u.0), |percent| format!(
                "{percent}%"
            )),
            cut(
                &gpu.compute_mode_name()
                    .unwrap_or(NA)
                    .replace("Exclusive_", "E. "),
                12
            ),
        )?;
        writeln!(out, "| {:39} | {:22} | {NA:>20} |", "", "")?;
        writeln!(out, "{rule}")?;
    }
    writeln!(out, "{}", " ".repeat(91))?;
    writeln!(out, "+{line}+")?;
    writeln!(out, "| {:<87} |", "Processes:")?;
    writeln!(
        out,
        "|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |"
    )?;
    writeln!(
        out,
        "|        ID   ID                                                               Usage      |"
    )?;
    writeln!(out, "|{}|", "=".repeat(89))?;
    let mut any = false;
    for gpu in gpus {
        for process in &gpu.processes {
            any = true;
            writeln!(
                out,
                "|  {:>3}   {NA:>3}  {NA:>3}  {:>14}   {:>4}   {:<36}{:>7}MiB |",
                gpu.index,
                process.pid,
                "C",
                cut(&process.name, 36),
                mib(process.used_bytes),
            )?;
        }
    }
    if !any {
        writeln!(out, "| {:<87} |", " No running processes found")?;
    }
    writeln!(out, "+{line}+")?;
    Ok(out)
}

/// `-L`.
pub fn list(gpus: &[Gpu]) -> String {
    let line = |gpu: &Gpu| format!("GPU {}: {} (UUID: {})\n", gpu.index, gpu.name, gpu.uuid);
    gpus.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::sample;

    #[test]
    fn every_line_has_the_tables_width() {
        let mut full = sample();
        full.name = "A name that is much longer than its place".to_owned();
        full.temperature = Some(34);
        full.performance = Some(0);
        full.power = Some(71_499);
        full.power_limit = Some(700_000);
        full.ecc_errors = [Some(0); 4];
        for gpu in [sample(), full] {
            let text = text(&System::sample(), &[gpu]).expect("text");
            for line in text.lines().skip(1) {
                assert_eq!(line.chars().count(), 91, "{line:?}\n{text}");
            }
            assert!(text.contains("1024MiB /  12288MiB |"), "{text}");
            assert!(
                text.contains("4711      C   /usr/bin/llama-server"),
                "{text}"
            );
        }
    }

    #[test]
    fn power_and_temperature_stand_where_scripts_look() {
        let mut gpu = sample();
        gpu.temperature = Some(34);
        gpu.performance = Some(0);
        gpu.power = Some(71_400);
        gpu.power_limit = Some(700_000);
        let text = text(&System::sample(), &[gpu]).expect("text");
        assert!(
            text.contains("| N/A   34C    P0             71W /  700W |"),
            "{text}"
        );
    }

    #[test]
    fn the_list_is_one_line_for_each_device() {
        assert_eq!(
            list(&[sample()]),
            "GPU 0: vGPU software device (UUID: GPU-76677075-2d73-7475-622d-00000000006f)\n"
        );
    }
}
