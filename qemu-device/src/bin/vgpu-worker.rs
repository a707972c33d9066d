//! Serves one session of a vgpu-stub device with `isolation=process`; started by the device.

use std::process::ExitCode;

fn main() -> ExitCode {
    vgpu_stub::isolation::serve::main()
}
