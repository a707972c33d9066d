//! Graphs, captures, functions of the program and the order of streams, each compared with what
//! NVIDIA documents.

use std::process::ExitCode;

use vgpu_test_programs::cases;
use vgpu_test_programs::graphs::CASES;

fn main() -> ExitCode {
    cases::main("cuda-graphs", CASES)
}
