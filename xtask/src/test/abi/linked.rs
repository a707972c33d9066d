//! A program with NVIDIA's runtime linked into it: it cannot run, and is told what to do.

use super::*;

const SOURCE: &str = "tests/abi/static_runtime.cu";

/// What the library says, once.
const ADVICE: &str = "relink with -cudart shared";

/// Compiles it with the static runtime and runs it.
pub fn run(name: &str, stage: &Path, served: &Served) -> Result<Tally> {
    let toolkit = nvcc::Toolkit::fetch()?;
    let program = stage.join("bin/static-runtime");
    let mut compile = Command::new(toolkit.root.join("bin/nvcc"));
    compile
        .arg(format!("-arch={}", nvcc::ARCHITECTURE))
        .args(["-cudart", "static", "-allow-unsupported-compiler", "-o"])
        .arg(&program)
        .arg(workspace::root().join(SOURCE));
    run::ok(&mut compile)?;
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", "60"])
        .arg(&program)
        .envs(served.environment());
    let output = command
        .output()
        .with_context(|| format!("run {}", run::shown(&command)))?;
    let (said, told) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    let what = format!("{name}: a program with a static runtime");
    // The runtime reports an error of its own; the program ends by itself, with that.
    Ok(if told.matches(ADVICE).count() != 1 {
        Tally::failed(format!(
            "{what} was not told once to {ADVICE}: {told}{said}"
        ))
    } else if output.status.code() != Some(1) || !said.starts_with("cudaGetDeviceCount: ") {
        Tally::failed(format!("{what}: {}, {said}{told}", output.status))
    } else {
        Tally::passed(1)
    })
}
