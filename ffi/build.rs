//! Reads QEMU's headers and compiles the C shim.
//!
//! Meson sets `VGPU_QEMU_SRC` (a patched source tree) and `VGPU_QEMU_BUILD` (its
//! configured build directory, generated headers included). Without them this
//! crate is empty, so that the workspace builds on any machine.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Functions that the wrappers call.
const FUNCTIONS: &[&str] = &[
    "bql_locked",
    "device_class_set_legacy_reset",
    "device_class_set_props_n",
    "error_free",
    "error_get_pretty",
    "event_notifier_init_fd",
    "memory_region_add_eventfd",
    "memory_region_del_eventfd",
    "memory_region_init_io",
    "memory_region_init_ram_from_fd",
    "migrate_add_blocker",
    "migrate_del_blocker",
    "msix_enabled",
    "msix_init_exclusive_bar",
    "msix_notify",
    "msix_uninit_exclusive_bar",
    "msix_vector_unuse",
    "msix_vector_use",
    "object_class_property_set_description",
    "pci_register_bar",
    "pci_set_irq",
    "pcie_cap_exit",
    "pcie_endpoint_cap_init",
    "qemu_add_exit_notifier",
    "qemu_bh_delete",
    "qemu_bh_new_full",
    "qemu_bh_schedule",
    "qemu_remove_exit_notifier",
    "type_register_static",
    "vgpu_shim_.*",
];

/// Types that the wrappers name; what they contain follows.
const TYPES: &[&str] = &[
    "DeviceCategory",
    "DeviceClass",
    "DeviceState",
    "Error",
    "EventNotifier",
    "InterfaceInfo",
    "MemoryRegion",
    "MemoryRegionOps",
    "Notifier",
    "ObjectClass",
    "PCIDevice",
    "PCIDeviceClass",
    "Property",
    "QEMUBH",
    "TypeInfo",
];

/// Constants and variables.
const VARS: &[&str] = &[
    "PCI_BASE_ADDRESS_.*",
    "PCI_CLASS_.*",
    "PCI_DEVICE_ID",
    "PCI_INTERRUPT_PIN",
    "PCI_REVISION_ID",
    "PCI_SUBSYSTEM_.*",
    "PCI_VENDOR_ID",
    "QEMU_PCI_CAP_EXPRESS",
    "RAM_SHARED",
    "qdev_prop_size",
    "qdev_prop_string",
    "qdev_prop_uint32",
];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(vgpu_qemu)");
    println!("cargo::rustc-check-cfg=cfg(qemu_class_data_const)");
    println!("cargo::rerun-if-env-changed=VGPU_QEMU_SRC");
    println!("cargo::rerun-if-env-changed=VGPU_QEMU_BUILD");
    let (Some(source), Some(build)) = (dir("VGPU_QEMU_SRC"), dir("VGPU_QEMU_BUILD")) else {
        return;
    };
    println!("cargo::rustc-cfg=vgpu_qemu");
    println!("cargo::metadata=available=1");
    if version(&source) >= (10, 1) {
        // From 10.1 on QOM takes class data and interface lists as const.
        println!("cargo::rustc-cfg=qemu_class_data_const");
    }
    let flags = compiler_flags(&source, &build);
    bindings(&flags);
    shim(&flags);
}

fn dir(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).filter(|v| !v.is_empty())?;
    let path = PathBuf::from(value);
    assert!(path.is_dir(), "{name}={}: not a directory", path.display());
    Some(path)
}

/// Major and minor number from QEMU's VERSION file.
fn version(source: &Path) -> (u32, u32) {
    let file = source.join("VERSION");
    println!("cargo::rerun-if-changed={}", file.display());
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|e| panic!("{}: {e}: is this a QEMU source tree?", file.display()));
    let mut numbers = text.trim().split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!(
            "{}: {:?} is not a version such as 10.0.3",
            file.display(),
            text.trim()
        ),
    }
}

/// The include paths of QEMU's own target-independent objects.
fn compiler_flags(source: &Path, build: &Path) -> Vec<String> {
    let mut flags: Vec<String> = ["-std=gnu11", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64"]
        .iter()
        .map(ToString::to_string)
        .collect();
    flags.extend(
        ["-fno-strict-aliasing", "-fwrapv"]
            .iter()
            .map(ToString::to_string),
    );
    for path in [
        build.to_path_buf(),
        build.join("qapi"),
        source.join("include"),
        source.to_path_buf(),
    ] {
        flags.push(format!("-I{}", path.display()));
    }
    // QEMU's copy of the kernel's headers; `asm` lies in the build directory.
    for path in [source, build] {
        flags.push("-isystem".to_owned());
        flags.push(path.join("linux-headers").display().to_string());
    }
    let output = Command::new(env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into()))
        .args(["--cflags", "glib-2.0"])
        .output()
        .expect("pkg-config cannot be run: install pkg-config");
    assert!(
        output.status.success(),
        "pkg-config --cflags glib-2.0: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    flags.extend(
        String::from_utf8_lossy(&output.stdout)
            .split_whitespace()
            .map(str::to_owned),
    );
    flags
}

fn bindings(flags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(flags)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(false)
        .layout_tests(false)
        .merge_extern_blocks(true)
        .generate_comments(false);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARS {
        builder = builder.allowlist_var(name);
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    builder
        .generate()
        .expect("bindgen cannot read QEMU's headers")
        .write_to_file(out.join("bindings.rs"))
        .expect("cannot write bindings.rs");
}

fn shim(flags: &[String]) {
    for file in ["src/shim.c", "src/shim.h"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut build = cc::Build::new();
    build.file("src/shim.c").warnings(false);
    for flag in flags {
        build.flag(flag);
    }
    build.compile("vgpu_shim");
}
