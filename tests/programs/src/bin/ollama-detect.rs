//! What Ollama, ggml and node-llama-cpp would decide on this machine: is there a GPU, and which.

use std::process::ExitCode;

use anyhow::Result;
use vgpu_test_programs::detect::{self, Found};

/// A program's way of looking, by name.
type Way = (&'static str, fn() -> Result<Found>);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let all = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--all"] => true,
        _ => {
            eprintln!(
                "usage: ollama-detect [--all]\n--all: what node-llama-cpp misses is a failure, too"
            );
            return ExitCode::from(2);
        }
    };
    let mut good = true;
    let mut found: Vec<Found> = Vec::new();
    let ways: [Way; 3] = [
        ("ollama-current", detect::ollama_current),
        ("ollama-2025", detect::ollama_2025),
        ("ggml-memory", detect::ggml_memory),
    ];
    for (name, way) in ways {
        match way() {
            Ok(device) => {
                println!("PASS {name}: {device}");
                found.push(device);
            }
            Err(reason) => {
                good = false;
                println!("FAIL {name}: library=cpu: {reason:#}");
            }
        }
    }
    // A program that finds two different devices uses none of them, or one twice.
    let same = found.windows(2).all(|two| {
        let of = |device: &Found| {
            (
                device.library.clone(),
                device.name.clone(),
                device.compute,
                device.total_bytes,
            )
        };
        of(&two[0]) == of(&two[1])
    });
    if same {
        println!("PASS all ways find the same device");
    } else {
        good = false;
        println!("FAIL the ways disagree");
    }
    match detect::node_llama_cpp() {
        Ok(files) => println!("PASS node-llama-cpp: {files}"),
        Err(reason) if all => {
            good = false;
            println!("FAIL node-llama-cpp: {reason:#}");
        }
        Err(reason) => println!("note node-llama-cpp: {reason:#}"),
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
