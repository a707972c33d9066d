//! The same test bodies on each target.

use anyhow::Result;

use crate::Options;
use crate::report::{Outcome, Report};
use crate::target::Target;

/// Programs that print `PASS`, `FAIL` or `SKIP` and a name on a line of its own for each case.
const PROGRAMS: [&str; 5] = [
    "cuda-kernels",
    "cuda-errors",
    "cuda-graphs",
    "cuda-memory",
    "ptx-conformance",
];

/// Runs them all.
pub fn run(options: &Options, targets: &[Target], report: &mut Report) -> Result<()> {
    let ptx = options.root.join("ptx");
    let ptx = ptx.to_string_lossy();
    for program in PROGRAMS {
        for target in targets {
            let ended = target.run(program, &[&ptx], program)?;
            let mut cases = 0;
            for (name, outcome) in ended.stdout.lines().filter_map(case) {
                cases += 1;
                report.case(&format!("{program}: {name}"), target.name, outcome);
            }
            if !ended.status.is_some_and(|status| status.success()) || cases == 0 {
                let why = format!("{cases} cases, then: {}", ended.complaint);
                report.case(
                    &format!("{program} as a whole"),
                    target.name,
                    Outcome::Failed(why),
                );
            }
        }
    }
    Ok(())
}

/// Name and outcome of a line.
fn case(line: &str) -> Option<(&str, Outcome)> {
    let (word, rest) = line.split_once(' ')?;
    let (name, text) = rest.split_once([' ', ':']).unwrap_or((rest, ""));
    let text = text.trim().to_owned();
    let outcome = match word {
        "PASS" => Outcome::Passed,
        "FAIL" => Outcome::Failed(text),
        "SKIP" => Outcome::Skipped(text),
        _ => return None,
    };
    Some((name, outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_programs_are_cases() {
        assert_eq!(
            case("PASS saxpy n=[1, 33] (5 ms)"),
            Some(("saxpy", Outcome::Passed))
        );
        assert_eq!(
            case("FAIL atomics: element 3 is 0"),
            Some(("atomics", Outcome::Failed("element 3 is 0".to_owned())))
        );
        assert_eq!(case("PASS name"), Some(("name", Outcome::Passed)));
        assert_eq!(case("all 22 kernels passed"), None);
    }
}
