//! Versions, processes' names and what a machine has beside devices.

use std::ffi::{c_char, c_void};
use std::fs;

use vgpu_protocol::calls::{NvmlSystem, stubs};

use crate::abi::{Out, exports};
use crate::result::{Done, Return, of_status};
use crate::state::{self, NO_CTX};

fn versions() -> Done<NvmlSystem> {
    state::check()?;
    stubs::nvml_system(state::library()?, NO_CTX).map_err(of_status)
}

fn cuda_version(version: Out<i32>) -> Done {
    version.check()?;
    version.set(state::library()?.connect().map_err(of_status)?)
}

/// The program's path, as the guest's kernel knows it.
fn process_name(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    (!first.is_empty()).then(|| String::from_utf8_lossy(first).into_owned())
}

exports! {
    /// The version of the host's driver.
    fn nvmlSystemGetDriverVersion(text: Out<c_char>, length: u32) {
        state::check()?;
        text.check()?;
        text.set_text(&versions()?.driver_version, length)
    }

    /// The version of the host's NVML.
    fn nvmlSystemGetNVMLVersion(text: Out<c_char>, length: u32) {
        state::check()?;
        text.check()?;
        text.set_text(&versions()?.nvml_version, length)
    }

    /// What cuDriverGetVersion answers. Needs no initialisation.
    fn nvmlSystemGetCudaDriverVersion | nvmlSystemGetCudaDriverVersion_v2(version: Out<i32>) {
        cuda_version(version)
    }

    /// The path of a process of this guest, cut to `length`.
    fn nvmlSystemGetProcessName(pid: u32, text: Out<c_char>, length: u32) {
        state::check()?;
        text.check()?;
        let of_host = || {
            let all = stubs::nvml_processes(state::library()?, NO_CTX).map_err(of_status)?;
            let found = all.into_iter().find(|process| process.pid == pid);
            found.map(|process| process.client).ok_or(Return::NotFound)
        };
        let mut name = match process_name(pid) {
            Some(name) => name,
            None => of_host()?,
        };
        let room = (length as usize).checked_sub(1).ok_or(Return::InvalidArgument)?;
        while name.len() > room {
            name.pop();
        }
        text.set_text(&name, length)
    }

    /// S-class units: a guest has none.
    fn nvmlUnitGetCount(count: Out<u32>) {
        state::check()?;
        count.set(0)
    }

    /// Host interface cards of S-class units: none.
    fn nvmlSystemGetHicVersion(count: Out<u32>, _entries: Out<c_void>) {
        state::check()?;
        count.set(0)
    }

    /// GPUs that the driver was told to leave alone: none.
    fn nvmlGetExcludedDeviceCount | nvmlGetBlacklistDeviceCount(count: Out<u32>) {
        count.set(0)
    }
}
