//! The bundle, made and run on this machine as on one with a GPU: what is missing here is skipped with its reason.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::tally::Tally;
use crate::interrupt::Directory;
use crate::{bundle, progress, workspace};

/// Longest time of the whole run, in seconds.
const LIMIT: &str = "600";

/// Makes a bundle without QEMU, whose stages are others, and runs it.
pub fn stage(name: &str) -> Result<Tally> {
    let packed = bundle::small(&workspace::target()?.join("bundle-test"))?;
    let place = Directory::new("vgpu-bundle-test")?;
    let unpack = Command::new("tar")
        .arg("xf")
        .arg(&packed)
        .arg("-C")
        .arg(place.path())
        .status()
        .context("run tar")?;
    ensure!(unpack.success(), "{} cannot be unpacked", packed.display());
    let root = place.path().join("vgpu-stub-bundle");
    let results = place.path().join("results");
    let mut check = Command::new("timeout");
    check
        .args(["--kill-after=10", LIMIT])
        .arg(root.join("check.sh"))
        .arg("--quick")
        .arg("--out")
        .arg(&results)
        // As on a machine that knows nothing of this one.
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("VGPU_LOCAL");
    let mut step = progress::step("bundle: check.sh");
    let ended = step.run(&mut check, &format!("test-{name}"));
    let path = results.join("results.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            ended?;
            return Err(error).with_context(|| path.display().to_string());
        }
    };
    let tally = tally(&serde_json::from_str(&text)?);
    match ended {
        Err(error) if tally.failures.is_empty() => return Err(error),
        _ => step.done(&tally.to_string()),
    }
    Ok(tally)
}

/// Cases and measurements; a column that is missing is one skipped test.
fn tally(results: &Value) -> Tally {
    let mut tally = Tally::default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (name, target) in results["targets"].as_object().into_iter().flatten() {
        if let Some(why) = target["skipped"].as_str() {
            tally.skip(format!("bundle on {name}: {why}"));
        }
    }
    for case in results["cases"].as_array().into_iter().flatten() {
        let name = format!(
            "bundle: {} on {}",
            text(&case["case"]),
            text(&case["target"])
        );
        match case["outcome"].as_str() {
            Some("pass") => tally.add(Tally::passed(1)),
            Some("skip") => {
                // Behind the last colon stands the reason.
                let name = name.replace(": ", " ");
                tally.skip(format!("{name}: {}", text(&case["why"])));
            }
            _ => tally.add(Tally::failed(format!("{name}: {}", text(&case["why"])))),
        }
    }
    let measured = results["measurements"].as_array().map_or(0, Vec::len);
    tally.add(if measured > 0 {
        Tally::passed(measured as u64)
    } else {
        Tally::failed("bundle: nothing was measured".to_owned())
    });
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted() {
        let results = serde_json::json!({
            "targets": {"soft": {"device": "software"}, "cuda": {"skipped": "no driver"}},
            "cases": [
                {"case": "a", "target": "soft", "outcome": "pass", "why": ""},
                {"case": "b: c", "target": "soft", "outcome": "skip", "why": "no file"},
                {"case": "d", "target": "soft", "outcome": "FAIL", "why": "3"},
            ],
            "measurements": [{"measurement": "x", "target": "soft", "median": 1.0}],
        });
        let tally = tally(&results);
        assert_eq!(tally.to_string(), "2 passed, 1 failed, 2 skipped");
        assert_eq!(tally.failures, ["bundle: d on soft: 3"]);
        assert_eq!(
            tally.skips,
            ["bundle on cuda: no driver", "bundle b c on soft: no file"]
        );
    }
}
