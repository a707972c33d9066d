//! `--query-gpu` and `--query-compute-apps`: values with commas.

use crate::gpu::{Gpu, Maybe, Process};
use crate::system::System;

/// What is printed for a value that a device does not have.
const NA: &str = "[N/A]";

/// A value, and the unit that stands behind it in the heading and after each value.
enum Value {
    Text(String),
    Number(String, &'static str),
}

/// A field that can be asked for.
struct Field {
    /// Its names; the first one is the heading.
    names: &'static [&'static str],
    about: &'static str,
    unit: &'static str,
    get: fn(&System, &Gpu, usize) -> Option<Value>,
}

fn text(value: impl ToString) -> Option<Value> {
    Some(Value::Text(value.to_string()))
}

fn number(value: Maybe, unit: &'static str) -> Option<Value> {
    value.map(|value| Value::Number(value.to_string(), unit))
}

fn mib(bytes: Option<u64>) -> Option<Value> {
    number(bytes.map(|bytes| bytes >> 20), "MiB")
}

fn watts(milliwatts: Maybe) -> Option<Value> {
    milliwatts.map(|mw| Value::Number(format!("{}.{:02}", mw / 1000, mw % 1000 / 10), "W"))
}

fn switch(value: Maybe) -> Option<Value> {
    text(if value? == 0 { "Disabled" } else { "Enabled" })
}

macro_rules! fields {
    ($($($name:literal)+, $unit:literal, $about:literal => |$system:pat_param, $gpu:pat_param, $count:pat_param| $get:expr;)*) => {
        &[$(Field {
            names: &[$($name),+],
            about: $about,
            unit: $unit,
            get: |$system, $gpu, $count| $get,
        },)*]
    };
}

static GPU_FIELDS: &[Field] = fields! {
    "timestamp", "", "When the values were read, as YYYY/MM/DD HH:MM:SS.msec." => |s, _, _| text(&s.timestamp);
    "driver_version", "", "The version of the host's driver." => |s, _, _| text(&s.driver);
    "count", "", "The number of devices in this system." => |_, _, count| text(count);
    "name" "gpu_name", "", "The device's name." => |_, g, _| text(&g.name);
    "serial" "gpu_serial", "", "The board's serial number." => |_, g, _| text(g.serial.as_ref()?);
    "uuid" "gpu_uuid", "", "The device's UUID." => |_, g, _| text(&g.uuid);
    "pci.bus_id" "gpu_bus_id", "", "Domain, bus and device on the guest's PCI bus." => |_, g, _| text(g.pci.bus_id());
    "pci.domain", "", "PCI domain, in hex." => |_, g, _| text(format!("0x{:04X}", g.pci.domain));
    "pci.bus", "", "PCI bus, in hex." => |_, g, _| text(format!("0x{:02X}", g.pci.bus));
    "pci.device", "", "PCI device number, in hex." => |_, g, _| text(format!("0x{:02X}", g.pci.device));
    "pci.device_id", "", "PCI device and vendor id, in hex." => |_, g, _| text(format!("0x{:08X}", g.pci.id));
    "pci.sub_device_id", "", "PCI subsystem id, in hex." => |_, g, _| text(format!("0x{:08X}", g.pci.subsystem));
    "pcie.link.gen.current" "pcie.link.gen.gpucurrent", "", "Generation of the link to the host." => |_, g, _| number(g.pcie_generation, "");
    "pcie.link.gen.max" "pcie.link.gen.gpumax" "pcie.link.gen.hostmax", "", "Greatest generation of that link." => |_, g, _| number(g.pcie_max_generation, "");
    "pcie.link.width.current", "", "Width of the link to the host." => |_, g, _| number(g.pcie_width, "");
    "pcie.link.width.max", "", "Greatest width of that link." => |_, g, _| number(g.pcie_max_width, "");
    "index", "", "The device's index, from 0." => |_, g, _| text(g.index);
    "display_mode" "display_attached", "", "Whether a display is connected." => |_, g, _| switch(g.display_active);
    "display_active", "", "Whether a display is initialised." => |_, g, _| switch(g.display_active);
    "persistence_mode", "", "Whether the host's driver stays loaded." => |_, g, _| switch(g.persistence);
    "accounting.mode", "", "Accounting of processes: not in a guest." => |_, _, _| None;
    "accounting.buffer_size", "", "Accounting of processes: not in a guest." => |_, _, _| None;
    "driver_model.current", "", "Windows only." => |_, _, _| None;
    "driver_model.pending", "", "Windows only." => |_, _, _| None;
    "vbios_version", "", "The version of the GPU's BIOS." => |_, g, _| text(g.vbios.as_ref()?);
    "inforom.img" "inforom.image", "", "The InfoROM's image version: not in a guest." => |_, _, _| None;
    "inforom.oem", "", "The InfoROM's configuration: not in a guest." => |_, _, _| None;
    "inforom.ecc", "", "The InfoROM's ECC object: not in a guest." => |_, _, _| None;
    "inforom.pwr" "inforom.power", "", "The InfoROM's power object: not in a guest." => |_, _, _| None;
    "gom.current" "gpu_operation_mode.current", "", "GPU operation mode: not in a guest." => |_, _, _| None;
    "gom.pending" "gpu_operation_mode.pending", "", "GPU operation mode: not in a guest." => |_, _, _| None;
    "fan.speed", "%", "Fan speed: not in a guest." => |_, _, _| None;
    "pstate", "", "Performance state, P0 (fastest) to P15." => |_, g, _| text(format!("P{}", g.performance?));
    "clocks_event_reasons.active" "clocks_throttle_reasons.active", "", "Why clocks are low, a set of bits." => |_, g, _| text(format!("0x{:016X}", g.event_reasons?));
    "clocks_event_reasons.gpu_idle" "clocks_throttle_reasons.gpu_idle", "", "Clocks are low because nothing runs." => |_, g, _| reason(g, 0x1);
    "clocks_event_reasons.sw_power_cap" "clocks_throttle_reasons.sw_power_cap", "", "Clocks are low because of the power limit." => |_, g, _| reason(g, 0x4);
    "clocks_event_reasons.hw_slowdown" "clocks_throttle_reasons.hw_slowdown", "", "Clocks are low: the hardware slows down." => |_, g, _| reason(g, 0x8);
    "clocks_event_reasons.sw_thermal_slowdown" "clocks_throttle_reasons.sw_thermal_slowdown", "", "Clocks are low: the driver sees high temperature." => |_, g, _| reason(g, 0x20);
    "clocks_event_reasons.hw_thermal_slowdown" "clocks_throttle_reasons.hw_thermal_slowdown", "", "Clocks are low: the hardware sees high temperature." => |_, g, _| reason(g, 0x40);
    "memory.total", "MiB", "Memory of the device: this VM's share." => |_, g, _| mib(g.memory.map(|m| m[0]));
    "memory.reserved", "MiB", "Memory that the driver keeps of it." => |_, g, _| mib(g.memory.map(|_| 0));
    "memory.used", "MiB", "Memory that this VM's processes hold." => |_, g, _| mib(g.memory.map(|m| m[2]));
    "memory.free", "MiB", "Memory that is left." => |_, g, _| mib(g.memory.map(|m| m[1]));
    "compute_mode", "", "How many processes may use the device." => |_, g, _| text(g.compute_mode_name()?);
    "compute_cap", "", "Compute capability." => |_, g, _| g.capability.and_then(|(major, minor)| text(format!("{major}.{minor}")));
    "utilization.gpu", "%", "Percent of the last second with a kernel running." => |_, g, _| number(g.utilization.map(|u| u.0), "%");
    "utilization.memory", "%", "Percent of it with memory in use." => |_, g, _| number(g.utilization.map(|u| u.1), "%");
    "utilization.encoder", "%", "Percent with the encoder working." => |_, g, _| number(g.encoder, "%");
    "utilization.decoder", "%", "Percent with the decoder working." => |_, g, _| number(g.decoder, "%");
    "encoder.stats.sessionCount", "", "Sessions of the encoder: not in a guest." => |_, _, _| None;
    "ecc.mode.current", "", "Whether ECC is on." => |_, g, _| switch(g.ecc.map(|e| e.0));
    "ecc.mode.pending", "", "Whether ECC is on after the host's reboot." => |_, g, _| switch(g.ecc.map(|e| e.1));
    "ecc.errors.corrected.volatile.total", "", "Corrected errors since the driver was loaded." => |_, g, _| number(g.ecc_errors[0], "");
    "ecc.errors.uncorrected.volatile.total", "", "Uncorrected errors since the driver was loaded." => |_, g, _| number(g.ecc_errors[1], "");
    "ecc.errors.corrected.aggregate.total", "", "Corrected errors in the GPU's life." => |_, g, _| number(g.ecc_errors[2], "");
    "ecc.errors.uncorrected.aggregate.total", "", "Uncorrected errors in the GPU's life." => |_, g, _| number(g.ecc_errors[3], "");
    "temperature.gpu", "", "Temperature in °C." => |_, g, _| number(g.temperature, "");
    "temperature.memory", "", "Temperature of the memory: not in a guest." => |_, _, _| None;
    "power.management", "", "Whether power is managed." => |_, g, _| switch(g.power_limit.map(|_| 1));
    "power.draw" "power.draw.average" "power.draw.instant", "W", "Power that is used." => |_, g, _| watts(g.power);
    "power.limit", "W", "The power limit." => |_, g, _| watts(g.power_limit);
    "enforced.power.limit", "W", "The limit that holds." => |_, g, _| watts(g.power_enforced);
    "power.default_limit", "W", "The default limit." => |_, g, _| watts(g.power_default);
    "power.min_limit", "W", "The least limit." => |_, g, _| watts(g.power_range.map(|r| r.0));
    "power.max_limit", "W", "The greatest limit." => |_, g, _| watts(g.power_range.map(|r| r.1));
    "clocks.current.graphics" "clocks.gr", "MHz", "Clock of the graphics units." => |_, g, _| number(g.clocks[0], "MHz");
    "clocks.current.sm" "clocks.sm", "MHz", "Clock of the multiprocessors." => |_, g, _| number(g.clocks[1], "MHz");
    "clocks.current.memory" "clocks.mem", "MHz", "Clock of the memory." => |_, g, _| number(g.clocks[2], "MHz");
    "clocks.current.video" "clocks.video", "MHz", "Clock of the video units." => |_, g, _| number(g.clocks[3], "MHz");
    "clocks.applications.graphics" "clocks.applications.gr", "MHz", "Application clocks: not in a guest." => |_, _, _| None;
    "clocks.applications.memory" "clocks.applications.mem", "MHz", "Application clocks: not in a guest." => |_, _, _| None;
    "clocks.max.graphics" "clocks.max.gr", "MHz", "Greatest clock of the graphics units." => |_, g, _| number(g.max_clocks[0], "MHz");
    "clocks.max.sm", "MHz", "Greatest clock of the multiprocessors." => |_, g, _| number(g.max_clocks[1], "MHz");
    "clocks.max.memory" "clocks.max.mem", "MHz", "Greatest clock of the memory." => |_, g, _| number(g.max_clocks[2], "MHz");
    "mig.mode.current", "", "Multi-instance GPU: not in a guest." => |_, _, _| None;
    "mig.mode.pending", "", "Multi-instance GPU: not in a guest." => |_, _, _| None;
    "gsp.mode.current", "", "GSP firmware: not in a guest." => |_, _, _| None;
    "addressing_mode", "", "Addressing mode: not in a guest." => |_, _, _| None;
    "retired_pages.single_bit_ecc.count" "retired_pages.sbe", "", "Retired pages: not in a guest." => |_, _, _| None;
    "retired_pages.double_bit.count" "retired_pages.dbe", "", "Retired pages: not in a guest." => |_, _, _| None;
    "retired_pages.pending", "", "Retired pages: not in a guest." => |_, _, _| None;
};

fn reason(gpu: &Gpu, bit: u64) -> Option<Value> {
    text(if gpu.event_reasons? & bit != 0 {
        "Active"
    } else {
        "Not Active"
    })
}

/// A field of a process.
struct AppField {
    names: &'static [&'static str],
    about: &'static str,
    unit: &'static str,
    get: fn(&System, &Gpu, &Process) -> Option<Value>,
}

macro_rules! app_fields {
    ($($($name:literal)+, $unit:literal, $about:literal => |$system:pat_param, $gpu:pat_param, $process:pat_param| $get:expr;)*) => {
        &[$(AppField {
            names: &[$($name),+],
            about: $about,
            unit: $unit,
            get: |$system, $gpu, $process| $get,
        },)*]
    };
}

static APP_FIELDS: &[AppField] = app_fields! {
    "timestamp", "", "When the values were read." => |s, _, _| text(&s.timestamp);
    "gpu_name", "", "The device's name." => |_, g, _| text(&g.name);
    "gpu_bus_id", "", "The device's place on the PCI bus." => |_, g, _| text(g.pci.bus_id());
    "gpu_serial", "", "The board's serial number." => |_, g, _| text(g.serial.as_ref()?);
    "gpu_uuid", "", "The device's UUID." => |_, g, _| text(&g.uuid);
    "pid", "", "The process." => |_, _, p| text(p.pid);
    "process_name" "name", "", "Its name." => |_, _, p| text(&p.name);
    "used_gpu_memory" "used_memory", "MiB", "Device memory that it holds." => |_, _, p| mib(Some(p.used_bytes));
};

/// What `--format` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    pub header: bool,
    pub units: bool,
}

impl Format {
    /// `csv[,noheader][,nounits]`.
    pub fn parse(text: &str) -> Result<Format, String> {
        let mut format = Format {
            header: true,
            units: true,
        };
        let mut csv = false;
        for word in text.split(',').map(str::trim) {
            match word {
                "csv" => csv = true,
                "noheader" => format.header = false,
                "nounits" => format.units = false,
                other => {
                    return Err(format!(
                        "Invalid format \"{other}\": allowed are csv, noheader and nounits"
                    ));
                }
            }
        }
        if csv {
            Ok(format)
        } else {
            Err("--format= must name csv".to_owned())
        }
    }
}

fn heading(name: &str, unit: &str) -> String {
    if unit.is_empty() {
        name.to_owned()
    } else {
        format!("{name} [{unit}]")
    }
}

fn cell(value: Option<Value>, format: Format) -> String {
    match value {
        None => NA.to_owned(),
        Some(Value::Text(text)) => text,
        Some(Value::Number(number, unit)) if format.units && !unit.is_empty() => {
            format!("{number} {unit}")
        }
        Some(Value::Number(number, _)) => number,
    }
}

/// The names, as given and in the order given; an error names one that is not known.
fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn unknown(name: &str) -> String {
    format!("Field \"{name}\" is not a valid field to query.")
}

/// Columns of `--query-gpu`, ready to print rows.
pub struct GpuQuery(Vec<(String, &'static Field)>);

impl GpuQuery {
    /// Reads the list of fields.
    pub fn parse(list: &str) -> Result<GpuQuery, String> {
        let find = |name: &str| GPU_FIELDS.iter().find(|field| field.names.contains(&name));
        let columns =
            names(list).map(|name| Ok((name.to_owned(), find(name).ok_or_else(|| unknown(name))?)));
        Ok(GpuQuery(columns.collect::<Result<_, String>>()?))
    }

    /// The heading.
    pub fn header(&self) -> String {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(name, field)| heading(name, field.unit))
            .collect();
        all.join(", ") + "\n"
    }

    /// A line for each device.
    pub fn rows(&self, system: &System, gpus: &[Gpu], count: usize, format: Format) -> String {
        let row = |gpu: &Gpu| {
            let all: Vec<String> = self
                .0
                .iter()
                .map(|(_, field)| cell((field.get)(system, gpu, count), format))
                .collect();
            all.join(", ") + "\n"
        };
        gpus.iter().map(row).collect()
    }
}

/// Columns of `--query-compute-apps`.
pub struct AppQuery(Vec<(String, &'static AppField)>);

impl AppQuery {
    /// Reads the list of fields.
    pub fn parse(list: &str) -> Result<AppQuery, String> {
        let find = |name: &str| APP_FIELDS.iter().find(|field| field.names.contains(&name));
        let columns =
            names(list).map(|name| Ok((name.to_owned(), find(name).ok_or_else(|| unknown(name))?)));
        Ok(AppQuery(columns.collect::<Result<_, String>>()?))
    }

    /// The heading.
    pub fn header(&self) -> String {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(name, field)| heading(name, field.unit))
            .collect();
        all.join(", ") + "\n"
    }

    /// A line for each process.
    pub fn rows(&self, system: &System, gpus: &[Gpu], format: Format) -> String {
        let mut out = String::new();
        for gpu in gpus {
            for process in &gpu.processes {
                let all: Vec<String> = self
                    .0
                    .iter()
                    .map(|(_, field)| cell((field.get)(system, gpu, process), format))
                    .collect();
                out += &(all.join(", ") + "\n");
            }
        }
        out
    }
}

fn describe<'a>(fields: impl Iterator<Item = (&'a [&'a str], &'a str)>) -> String {
    let one = |(names, about): (&[&str], &str)| {
        let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        format!("{}\n{about}\n\n", quoted.join(" or "))
    };
    fields.map(one).collect()
}

/// `--help-query-gpu`.
pub fn help_gpu() -> String {
    "List of valid properties to query for the switch \"--query-gpu=\":\n\n".to_owned()
        + &describe(GPU_FIELDS.iter().map(|field| (field.names, field.about)))
}

/// `--help-query-compute-apps`.
pub fn help_apps() -> String {
    "List of valid properties to query for the switch \"--query-compute-apps=\":\n\n".to_owned()
        + &describe(APP_FIELDS.iter().map(|field| (field.names, field.about)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gpu::sample;

    const PLAIN: Format = Format {
        header: true,
        units: true,
    };

    #[test]
    fn values_come_in_the_order_asked_for_with_units() {
        let query =
            GpuQuery::parse("name, memory.total,utilization.gpu,power.draw").expect("known");
        assert_eq!(
            query.header(),
            "name, memory.total [MiB], utilization.gpu [%], power.draw [W]\n"
        );
        let system = System::sample();
        let rows = query.rows(&system, &[sample()], 1, PLAIN);
        assert_eq!(rows, "vGPU software device, 12288 MiB, 37 %, [N/A]\n");
        let bare = Format {
            units: false,
            ..PLAIN
        };
        let rows = query.rows(&system, &[sample()], 1, bare);
        assert_eq!(rows, "vGPU software device, 12288, 37, [N/A]\n");
    }

    #[test]
    fn the_heading_repeats_the_name_that_was_asked_for() {
        let query = GpuQuery::parse("gpu_name,clocks.sm").expect("known");
        assert_eq!(query.header(), "gpu_name, clocks.sm [MHz]\n");
    }

    #[test]
    fn unknown_fields_are_named() {
        let error = GpuQuery::parse("name,memory.totall")
            .err()
            .expect("unknown");
        assert!(error.contains("\"memory.totall\""), "{error}");
        assert!(AppQuery::parse("pidd").is_err());
    }

    #[test]
    fn formats_are_read() {
        assert_eq!(Format::parse("csv"), Ok(PLAIN));
        assert_eq!(
            Format::parse("csv,noheader, nounits"),
            Ok(Format {
                header: false,
                units: false
            })
        );
        assert!(Format::parse("xml").is_err() && Format::parse("noheader").is_err());
    }

    #[test]
    fn processes_have_a_line_each() {
        let query = AppQuery::parse("pid,process_name,used_memory").expect("known");
        assert_eq!(query.header(), "pid, process_name, used_memory [MiB]\n");
        let rows = query.rows(&System::sample(), &[sample()], PLAIN);
        assert_eq!(rows, "4711, /usr/bin/llama-server, 1024 MiB\n");
    }

    #[test]
    fn every_field_has_its_own_name_and_can_be_asked_for() {
        let mut seen = BTreeSet::new();
        for field in GPU_FIELDS {
            for name in field.names {
                assert!(seen.insert(*name), "{name} twice");
                let query = GpuQuery::parse(name).expect("known");
                let rows = query.rows(&System::sample(), &[sample()], 1, PLAIN);
                assert!(!rows.trim().is_empty(), "{name}");
                assert!(help_gpu().contains(&format!("\"{name}\"")));
            }
        }
        assert!(seen.len() > 90, "{}", seen.len());
    }

    #[test]
    fn power_is_in_watts_with_two_digits() {
        let mut gpu = sample();
        gpu.power = Some(71_040);
        let rows =
            GpuQuery::parse("power.draw")
                .expect("known")
                .rows(&System::sample(), &[gpu], 1, PLAIN);
        assert_eq!(rows, "71.04 W\n");
    }
}
