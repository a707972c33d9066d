//! libnvidia-ml.so.1 for the guest: NVIDIA's Management Library over libcuda's channel.
//!
//! | module | holds |
//! |---|---|
//! | [`abi`] | what crosses the C ABI: pointers of the program, the `exports!` macro |
//! | [`result`] | NVML's results, and what they are for a `CUresult` |
//! | [`structs`] | NVML's structs |
//! | [`state`] | initialisation, and the devices |
//! | [`pci`] | where a device is on the guest's PCI bus |
//! | [`init`], [`system`], [`device`], [`identity`], [`memory`], [`sensors`], [`ecc`], [`process`], [`topology`] | the calls, by noun |
//! | [`unsupported`] | every other name of nvml.h |
//!
//! Each call does what the NVML API Reference Guide says, or returns an error that it documents. Memory and
//! processes are those of this VM; what sensors say is asked of the host's NVML. Nothing is made up: where there
//! is no number, the answer is NVML_ERROR_NOT_SUPPORTED.

mod abi;
mod device;
mod ecc;
mod identity;
mod init;
mod memory;
mod pci;
mod process;
mod result;
mod sensors;
mod state;
mod structs;
mod system;
mod topology;
mod unsupported;

#[cfg(test)]
mod tests;
