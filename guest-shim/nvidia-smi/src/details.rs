//! `-q`: everything, as sections of names and values; with `-x` as XML.

use crate::gpu::{Gpu, Maybe};
use crate::system::System;

/// Columns before a value.
const VALUE_COLUMN: usize = 42;

/// A line or a section.
pub enum Node {
    Line(&'static str, String),
    /// A section; its third part is the display type of `-d` that shows it, empty for those that only the
    /// whole output has.
    Section(&'static str, Vec<Node>, &'static str),
}

use Node::{Line, Section};

const NA: &str = "N/A";

/// Words that `-d` takes.
pub const DISPLAYS: &[&str] = &[
    "MEMORY",
    "UTILIZATION",
    "ECC",
    "TEMPERATURE",
    "POWER",
    "CLOCK",
    "COMPUTE",
    "PIDS",
    "PERFORMANCE",
];

fn line(name: &'static str, value: Option<impl ToString>) -> Node {
    Line(
        name,
        value.map_or_else(|| NA.to_owned(), |value| value.to_string()),
    )
}

fn unit(name: &'static str, value: Maybe, unit: &str) -> Node {
    line(name, value.map(|value| format!("{value} {unit}")))
}

fn switch(name: &'static str, value: Maybe) -> Node {
    line(
        name,
        value.map(|value| if value == 0 { "Disabled" } else { "Enabled" }),
    )
}

fn watts(name: &'static str, milliwatts: Maybe) -> Node {
    let text = milliwatts.map(|mw| format!("{}.{:02} W", mw / 1000, mw % 1000 / 10));
    line(name, text)
}

fn memory(title: &'static str, memory: Option<[u64; 3]>, reserved: bool) -> Node {
    let mib = |name, which: usize| unit(name, memory.map(|m| m[which] >> 20), "MiB");
    let mut lines = vec![mib("Total", 0)];
    if reserved {
        lines.push(unit("Reserved", memory.map(|_| 0), "MiB"));
    }
    lines.extend([mib("Used", 2), mib("Free", 1)]);
    Section(title, lines, "MEMORY")
}

fn clocks(title: &'static str, clocks: [Maybe; 4]) -> Node {
    let names = ["Graphics", "SM", "Memory", "Video"];
    let lines = names.into_iter().zip(clocks);
    let lines = lines
        .map(|(name, clock)| unit(name, clock, "MHz"))
        .collect();
    Section(title, lines, "CLOCK")
}

fn reasons(gpu: &Gpu) -> Node {
    let active = |name, bit| {
        let text = gpu.event_reasons.map(|all| {
            if all & bit != 0 {
                "Active"
            } else {
                "Not Active"
            }
        });
        line(name, text)
    };
    let lines = vec![
        active("Idle", 0x1),
        active("Applications Clocks Setting", 0x2),
        active("SW Power Cap", 0x4),
        active("HW Slowdown", 0x8),
        active("SW Thermal Slowdown", 0x20),
        active("HW Thermal Slowdown", 0x40),
    ];
    Section("Clocks Event Reasons", lines, "PERFORMANCE")
}

/// All that is said of one device.
fn nodes(gpu: &Gpu) -> Vec<Node> {
    let pci = &gpu.pci;
    let mut processes = Vec::new();
    for process in &gpu.processes {
        processes.push(line("GPU instance ID", None::<u64>));
        processes.push(line("Compute instance ID", None::<u64>));
        let lines = vec![
            line("Type", Some("C")),
            line("Name", Some(&process.name)),
            unit("Used GPU Memory", Some(process.used_bytes >> 20), "MiB"),
        ];
        processes.push(line("Process ID", Some(process.pid)));
        processes.push(Section("", lines, ""));
    }
    let processes = if processes.is_empty() {
        line("Processes", Some("None"))
    } else {
        Section("Processes", processes, "PIDS")
    };
    let ecc = |title, first: usize| {
        let lines = vec![
            line("Correctable", gpu.ecc_errors[first]),
            line("Uncorrectable", gpu.ecc_errors[first + 1]),
        ];
        Section(title, lines, "ECC")
    };
    vec![
        line("Product Name", Some(&gpu.name)),
        line("Product Brand", gpu.brand_name()),
        line("Product Architecture", gpu.architecture_name()),
        switch("Display Mode", gpu.display_active),
        switch("Display Active", gpu.display_active),
        switch("Persistence Mode", gpu.persistence),
        Section(
            "MIG Mode",
            vec![line("Current", None::<u64>), line("Pending", None::<u64>)],
            "",
        ),
        line("Serial Number", gpu.serial.as_ref()),
        line("GPU UUID", Some(&gpu.uuid)),
        line("Minor Number", gpu.minor),
        line("VBIOS Version", gpu.vbios.as_ref()),
        line("MultiGPU Board", Some("No")),
        line("Board ID", gpu.board_id.map(|id| format!("0x{id:x}"))),
        line("Board Part Number", gpu.part_number.as_ref()),
        line(
            "CUDA Compute Capability",
            gpu.capability
                .map(|(major, minor)| format!("{major}.{minor}")),
        ),
        Section(
            "PCI",
            vec![
                line("Bus", Some(format!("0x{:02X}", pci.bus))),
                line("Device", Some(format!("0x{:02X}", pci.device))),
                line("Domain", Some(format!("0x{:04X}", pci.domain))),
                line("Device Id", Some(format!("0x{:08X}", pci.id))),
                line("Bus Id", Some(pci.bus_id())),
                line("Sub System Id", Some(format!("0x{:08X}", pci.subsystem))),
                Section(
                    "GPU Link Info",
                    vec![
                        Section(
                            "PCIe Generation",
                            vec![
                                line("Max", gpu.pcie_max_generation),
                                line("Current", gpu.pcie_generation),
                            ],
                            "",
                        ),
                        Section(
                            "Link Width",
                            vec![
                                line("Max", gpu.pcie_max_width.map(|w| format!("{w}x"))),
                                line("Current", gpu.pcie_width.map(|w| format!("{w}x"))),
                            ],
                            "",
                        ),
                    ],
                    "",
                ),
            ],
            "",
        ),
        line("Fan Speed", None::<u64>),
        Line(
            "Performance State",
            gpu.performance
                .map_or_else(|| NA.to_owned(), |p| format!("P{p}")),
        ),
        reasons(gpu),
        memory("FB Memory Usage", gpu.memory, true),
        memory("BAR1 Memory Usage", gpu.bar1, false),
        Section("Compute Mode", Vec::new(), ""),
        Section(
            "Utilization",
            vec![
                unit("GPU", gpu.utilization.map(|u| u.0), "%"),
                unit("Memory", gpu.utilization.map(|u| u.1), "%"),
                unit("Encoder", gpu.encoder, "%"),
                unit("Decoder", gpu.decoder, "%"),
            ],
            "UTILIZATION",
        ),
        Section(
            "ECC Mode",
            vec![
                switch("Current", gpu.ecc.map(|e| e.0)),
                switch("Pending", gpu.ecc.map(|e| e.1)),
            ],
            "ECC",
        ),
        Section(
            "ECC Errors",
            vec![ecc("Volatile", 0), ecc("Aggregate", 2)],
            "ECC",
        ),
        Section(
            "Temperature",
            vec![
                unit("GPU Current Temp", gpu.temperature, "C"),
                unit("GPU Shutdown Temp", gpu.shutdown, "C"),
                unit("GPU Slowdown Temp", gpu.slowdown, "C"),
            ],
            "TEMPERATURE",
        ),
        Section(
            "GPU Power Readings",
            vec![
                watts("Power Draw", gpu.power),
                watts("Current Power Limit", gpu.power_limit),
                watts("Requested Power Limit", gpu.power_enforced),
                watts("Default Power Limit", gpu.power_default),
                watts("Min Power Limit", gpu.power_range.map(|r| r.0)),
                watts("Max Power Limit", gpu.power_range.map(|r| r.1)),
            ],
            "POWER",
        ),
        clocks("Clocks", gpu.clocks),
        clocks("Max Clocks", gpu.max_clocks),
        processes,
    ]
    .into_iter()
    .map(|node| match node {
        // A line that `-d COMPUTE` shows as well.
        Section("Compute Mode", ..) => line("Compute Mode", gpu.compute_mode_name()),
        node => node,
    })
    .collect()
}

/// Whether `-d` asks for it. Without `-d` all is shown.
fn is_shown(node: &Node, displays: &[String]) -> bool {
    let has = |word: &str| displays.iter().any(|display| display == word);
    displays.is_empty()
        || match node {
            Line("Compute Mode", _) => has("COMPUTE"),
            Line("Performance State", _) => has("PERFORMANCE"),
            Line("Processes", _) => has("PIDS"),
            Line(..) => false,
            Section(_, _, display) => has(display),
        }
}

fn put(out: &mut String, node: &Node, depth: usize) {
    let indent = "    ".repeat(depth);
    match node {
        Line(name, value) => {
            let width = VALUE_COLUMN.saturating_sub(indent.len());
            *out += &format!("{indent}{name:<width$}: {value}\n");
        }
        Section("", nodes, _) => nodes.iter().for_each(|node| put(out, node, depth + 1)),
        Section(name, nodes, _) => {
            *out += &format!("{indent}{name}\n");
            nodes.iter().for_each(|node| put(out, node, depth + 1));
        }
    }
}

/// `-q`, with the display types of `-d`. `count` is the number of all devices.
pub fn text(system: &System, gpus: &[Gpu], count: usize, displays: &[String]) -> String {
    let mut out = String::from("\n==============NVSMI LOG==============\n\n");
    put(&mut out, &line("Timestamp", Some(&system.time)), 0);
    put(&mut out, &line("Driver Version", Some(&system.driver)), 0);
    put(&mut out, &line("CUDA Version", Some(&system.cuda)), 0);
    out.push('\n');
    put(&mut out, &line("Attached GPUs", Some(count)), 0);
    for gpu in gpus {
        out += &format!("GPU {}\n", gpu.pci.bus_id());
        for node in nodes(gpu).iter().filter(|node| is_shown(node, displays)) {
            put(&mut out, node, 1);
        }
        out.push('\n');
    }
    out
}

/// A name as an element's: `FB Memory Usage` is `fb_memory_usage`.
fn tag(name: &str) -> String {
    match name {
        "GPU UUID" => "uuid".to_owned(),
        "Serial Number" => "serial".to_owned(),
        "Process ID" => "pid".to_owned(),
        "Name" => "process_name".to_owned(),
        "Used GPU Memory" => "used_memory".to_owned(),
        "GPU" => "gpu_util".to_owned(),
        "GPU Current Temp" => "gpu_temp".to_owned(),
        other => other.to_lowercase().replace(' ', "_"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn put_xml(out: &mut String, node: &Node, depth: usize) {
    let indent = "\t".repeat(depth);
    match node {
        Line(name, value) => {
            let tag = tag(name);
            *out += &format!("{indent}<{tag}>{}</{tag}>\n", escape(value));
        }
        Section("", nodes, _) => nodes.iter().for_each(|node| put_xml(out, node, depth)),
        Section("Processes", nodes, _) => {
            *out += &format!("{indent}<processes>\n");
            // Four nodes describe each.
            for process in nodes.chunks(4) {
                *out += &format!("{indent}\t<process_info>\n");
                process
                    .iter()
                    .for_each(|node| put_xml(out, node, depth + 2));
                *out += &format!("{indent}\t</process_info>\n");
            }
            *out += &format!("{indent}</processes>\n");
        }
        Section(name, nodes, _) => {
            let tag = tag(name);
            *out += &format!("{indent}<{tag}>\n");
            nodes.iter().for_each(|node| put_xml(out, node, depth + 1));
            *out += &format!("{indent}</{tag}>\n");
        }
    }
}

/// `-q -x`.
pub fn xml(system: &System, gpus: &[Gpu], count: usize) -> String {
    let mut out = String::from("<?xml version=\"1.0\" ?>\n<nvidia_smi_log>\n");
    for (tag, value) in [
        ("timestamp", &system.time),
        ("driver_version", &system.driver),
        ("cuda_version", &system.cuda),
        ("attached_gpus", &count.to_string()),
    ] {
        out += &format!("\t<{tag}>{}</{tag}>\n", escape(value));
    }
    for gpu in gpus {
        out += &format!("\t<gpu id=\"{}\">\n", gpu.pci.bus_id());
        nodes(gpu).iter().for_each(|node| match node {
            Line("Processes", _) => out += "\t\t<processes>\n\t\t</processes>\n",
            node => put_xml(&mut out, node, 2),
        });
        out += "\t</gpu>\n";
    }
    out += "</nvidia_smi_log>\n";
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::sample;

    #[test]
    fn values_stand_in_one_column() {
        let text = text(&System::sample(), &[sample()], 1, &[]);
        for line in text
            .lines()
            .filter(|line| line.contains(" : ") || line.contains(": "))
        {
            assert_eq!(line.find(": "), Some(VALUE_COLUMN), "{line}");
        }
        for wanted in [
            "    Product Name                          : vGPU software device\n",
            "        Total                             : 12288 MiB\n",
            "    Compute Mode                          : Default\n",
            "        GPU                               : 37 %\n",
            "Attached GPUs                             : 1\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
    }

    #[test]
    fn displays_choose_sections() {
        let displays = ["MEMORY".to_owned(), "PIDS".to_owned()];
        let text = text(&System::sample(), &[sample()], 1, &displays);
        assert!(
            text.contains("FB Memory Usage") && text.contains("/usr/bin/llama-server"),
            "{text}"
        );
        assert!(
            !text.contains("Product Name") && !text.contains("Temperature"),
            "{text}"
        );
    }

    #[test]
    fn xml_is_balanced_and_escaped() {
        let mut gpu = sample();
        gpu.processes[0].name = "a<b>&c".to_owned();
        let text = xml(&System::sample(), &[gpu], 1);
        assert!(
            text.contains("<process_name>a&lt;b&gt;&amp;c</process_name>"),
            "{text}"
        );
        assert!(text.contains("<total>12288 MiB</total>"), "{text}");
        let mut open = Vec::new();
        for part in text.split('<').skip(2) {
            let name = part.split(['>', ' ']).next().expect("a name");
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name)),
                None => open.push(name),
            }
        }
        assert!(open.is_empty());
    }
}
