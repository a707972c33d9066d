//! Build script of the device library.

fn main() {
    // Set by vgpu-ffi's build script where QEMU's headers are at hand. Feature `qemu` without
    // them (a plain `cargo build --all-features`) leaves the glue to QEMU out.
    println!("cargo::rustc-check-cfg=cfg(vgpu_qemu)");
    println!("cargo::rerun-if-env-changed=DEP_VGPU_QEMU_AVAILABLE");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("DEP_VGPU_QEMU_AVAILABLE").is_some() {
        println!("cargo::rustc-cfg=vgpu_qemu");
    }
}
