//! The only crate that names a QEMU symbol: bindings, safe wrappers, trampolines
