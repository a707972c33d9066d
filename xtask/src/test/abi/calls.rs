//! Every exported function is called once with nothing but zeros. What is not supported says so by the error that its
//! library documents; what is supported gives the error for a null pointer, or what `tests/abi/calls.txt` says. Each of these
//! results is one that NVIDIA's headers document for the function, but for those that the table marks.

use super::documented::{Documentation, Documented};
use super::*;

/// What a call with zeros gives.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// This result, which the function's own documentation names.
    Result(i32),
    /// This result, which it does not name: the table says why.
    Beyond(i32),
    /// No result: it returns nothing, or text.
    NoResult,
    /// It cannot be called so.
    NotCalled,
}

/// A library: how the table calls it, its error for what it lacks, and its error for a null pointer.
struct Family {
    name: &'static str,
    unsupported: i32,
    null: i32,
}

const CUDA: Family = Family {
    name: "cuda",
    unsupported: 801,
    null: 1,
};
const CUDART: Family = Family {
    name: "cudart",
    unsupported: 801,
    null: 1,
};
const CUBLAS: Family = Family {
    name: "cublas",
    unsupported: 15,
    null: 1,
};
const NVML: Family = Family {
    name: "nvml",
    unsupported: 3,
    null: 2,
};

type Table = BTreeMap<(String, String), Expected>;

/// A line of the table: library, result (`-` none, `skip` not called), names. A result with `*` is not among those that the
/// function's documentation names.
fn table() -> Result<Table> {
    let path = workspace::root().join("tests/abi/calls.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut table = Table::new();
    for line in text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.trim().is_empty())
    {
        let mut words = line.split_whitespace();
        let (Some(family), Some(result)) = (words.next(), words.next()) else {
            bail!("calls.txt: {line}");
        };
        let expected = match result {
            "-" => Expected::NoResult,
            "skip" => Expected::NotCalled,
            number => match number.strip_suffix('*') {
                Some(number) => Expected::Beyond(number.parse().with_context(|| line.to_owned())?),
                None => Expected::Result(number.parse().with_context(|| line.to_owned())?),
            },
        };
        for name in words {
            let old = table.insert((family.to_owned(), name.to_owned()), expected);
            ensure!(old.is_none(), "calls.txt has {name} twice");
        }
    }
    Ok(table)
}

/// All libraries.
pub fn run(
    name: &str,
    stage: &Path,
    documentation: &Documentation,
    served: &Served,
) -> Result<Tally> {
    let program = stage.join("bin/every-call");
    let mut compile = Command::new("cc");
    compile
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"])
        .arg(&program);
    run::ok(
        compile
            .arg(workspace::root().join("tests/abi/every_call.c"))
            .arg("-ldl"),
    )?;
    let table = table()?;
    let mut sum = Tally::default();
    let mut used = BTreeSet::new();
    let mut library = |family: &Family, soname: &str, names: Vec<(String, bool)>| -> Result<()> {
        let step = progress::step(&format!("{name}: every function of {soname}"));
        let documented = documentation.get(family.name);
        let bad = expectations(family, &names, &table, documented, &mut used)
            .and_then(|wanted| check(&program, served, soname, &wanted));
        step.done(&names.len().to_string());
        sum.add(match bad {
            Ok(()) => Tally::passed(1),
            Err(error) => Tally::failed(format!("{name}: every function of {soname}: {error:#}")),
        });
        Ok(())
    };
    library(&CUDA, "libcuda.so.1", coverage::driver()?)?;
    for (_, soname, list) in cudart::exports::LIBRARIES {
        library(&CUDART, soname, cudart::supported(list)?)?;
    }

    for (folder, libraries) in [
        ("cublas", shims::cublas::LIBRARIES),
        ("cublaslt", shims::cublaslt::LIBRARIES),
    ] {
        for (_, soname, list) in libraries {
            library(&CUBLAS, soname, coverage::cublas(folder, list)?)?;
        }
    }
    library(&NVML, "libnvidia-ml.so.1", nvml::supported()?)?;
    let stale: Vec<_> = table.keys().filter(|key| !used.contains(*key)).collect();
    if !stale.is_empty() {
        sum.add(Tally::failed(format!(
            "{name}: calls.txt names what is not supported or not there: {stale:?}"
        )));
    }
    Ok(sum)
}

/// What each function of a library has to give, which has to be what NVIDIA documents.
fn expectations<'a>(
    family: &Family,
    names: &'a [(String, bool)],
    table: &Table,
    documented: Option<&Documented>,
    used: &mut BTreeSet<(String, String)>,
) -> Result<BTreeMap<&'a str, Expected>> {
    ensure!(names.len() > 30, "it has {} names", names.len());
    let mut wanted = BTreeMap::new();
    let mut bad = Vec::new();
    for (name, supported) in names {
        let key = (family.name.to_owned(), name.clone());
        let expected = match (supported, table.get(&key)) {
            (true, Some(expected)) => {
                used.insert(key);
                *expected
            }
            (true, None) => Expected::Result(family.null),
            (false, _) => Expected::Beyond(family.unsupported),
        };
        if let Some(codes) = documented.and_then(|d| d.of(name)).filter(|_| *supported) {
            match expected {
                Expected::Result(code) if !codes.contains(&code) => {
                    bad.push(format!("{name}: documented are {codes:?}, not {code}"));
                }
                Expected::Beyond(code) if codes.contains(&code) => {
                    bad.push(format!(
                        "{name}: {code} is documented, and marked as if not"
                    ));
                }
                _ => {}
            }
        }
        wanted.insert(name.as_str(), expected);
    }
    ensure!(bad.is_empty(), "calls.txt: {}", bad.join("; "));
    Ok(wanted)
}

fn check(
    program: &Path,
    served: &Served,
    soname: &str,
    wanted: &BTreeMap<&str, Expected>,
) -> Result<()> {
    let list: String = wanted
        .iter()
        .filter(|(_, expected)| **expected != Expected::NotCalled)
        .map(|(name, _)| format!("{name}\n"))
        .collect();
    let results = call(program, served, soname, &list)?;
    let mut bad = Vec::new();
    for (name, expected) in wanted {
        let result = results.get(*name).map(String::as_str);
        let good = match (expected, result) {
            (Expected::NotCalled, _) => true,
            (_, None | Some("crash" | "absent" | "")) => false,
            (Expected::NoResult, Some(_)) => true,
            (Expected::Result(code) | Expected::Beyond(code), Some(result)) => {
                result.parse() == Ok(*code)
            }
        };
        if !good {
            bad.push(format!(
                "{name} gave {}, expected {expected:?}",
                result.unwrap_or("nothing")
            ));
        }
    }
    ensure!(bad.is_empty(), "{}", bad.join("; "));
    Ok(())
}

/// Name and result of each call.
fn call(
    program: &Path,
    served: &Served,
    soname: &str,
    list: &str,
) -> Result<BTreeMap<String, String>> {
    let names = program.with_extension("names");
    fs::write(&names, list)?;
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=10", "120"])
        .arg(program)
        .arg(soname)
        .envs(served.environment())
        .stdin(fs::File::open(&names)?)
        .stderr(Stdio::null());
    // How it ends is seen by its last line.
    let output = command
        .output()
        .with_context(|| format!("run {}", run::shown(&command)))?;
    fs::remove_file(names)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        !text.is_empty(),
        "{} said nothing: {}",
        program.display(),
        output.status
    );
    Ok(text
        .lines()
        .map(|line| {
            let (name, result) = line.split_once(' ').unwrap_or((line, ""));
            (name.to_owned(), result.to_owned())
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = table().expect("the table");
        let of =
            |family: &str, name: &str| table.get(&(family.to_owned(), name.to_owned())).cloned();
        assert_eq!(of("cuda", "cuInit"), Some(Expected::Result(0)));
        assert_eq!(of("nvml", "nvmlErrorString"), Some(Expected::NoResult));
        assert_eq!(
            of("cudart", "cudaCreateChannelDesc"),
            Some(Expected::NotCalled)
        );
        assert_eq!(of("cuda", "cuMemAlloc_v2"), None);
    }
}
