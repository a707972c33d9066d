//! Pinned, managed and pooled memory and its copies, each compared with what
//! NVIDIA documents.

use std::process::ExitCode;

use vgpu_test_programs::cases;
use vgpu_test_programs::memory::CASES;

fn main() -> ExitCode {
    cases::main("cuda-memory", CASES)
}
