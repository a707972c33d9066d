//! The results that NVIDIA's headers document for each function: what stands behind `\return` in the comment before its
//! declaration.

use super::*;

/// What is documented of each library whose headers have comments, by the library's name in `tests/abi/calls.txt`.
pub type Documentation = BTreeMap<&'static str, Documented>;

/// Reads the headers: `include` are the folders of CUDA's versions, from the oldest to the newest.
pub fn read(include: &[PathBuf]) -> Result<Documentation> {
    let newest = include.last().context("no headers")?;
    let of = |files: &[&str]| -> Vec<PathBuf> {
        let all = include
            .iter()
            .flat_map(|folder| files.iter().map(|file| folder.join(file)));
        all.filter(|path| path.is_file()).collect()
    };
    let nvml = nvml::headers()?;
    Ok(Documentation::from([
        (
            "cuda",
            Documented::read(
                &of(&["cuda.h", "cudaProfiler.h"]),
                &newest.join("cuda.h"),
                "CUDAAPI",
                &["CUDA_SUCCESS", "CUDA_ERROR_"],
            )?,
        ),
        (
            "cudart",
            Documented::read(
                &of(&["cuda_runtime_api.h", "cuda_profiler_api.h"]),
                &newest.join("driver_types.h"),
                "CUDARTAPI",
                &["cudaSuccess", "cudaError"],
            )?,
        ),
        (
            "nvml",
            Documented::read(
                &nvml,
                nvml.last().context("no header")?,
                "DECLDIR",
                &["NVML_SUCCESS", "NVML_ERROR_"],
            )?,
        ),
    ]))
}

/// By function: numbers of its results.
pub struct Documented {
    of: BTreeMap<String, BTreeSet<i32>>,
    numbers: BTreeMap<String, i32>,
}

impl Documented {
    /// Reads the comments of some headers, of which each says more, and the numbers of results in another one. `marker` is
    /// what stands before a function's name, `prefixes` begin the names of results.
    fn read(headers: &[PathBuf], results: &Path, marker: &str, prefixes: &[&str]) -> Result<Self> {
        let open = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        let numbers = numbers(&String::from_utf8_lossy(&open(results)?), prefixes);
        let mut of: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for header in headers {
            let text = open(header)?;
            for (name, codes) in comments(&String::from_utf8_lossy(&text), marker) {
                let codes = codes.iter().filter_map(|code| numbers.get(code));
                of.entry(name).or_default().extend(codes);
            }
        }
        ensure!(
            of.len() > 100,
            "the headers document {} functions",
            of.len()
        );
        Ok(Self { of, numbers })
    }

    /// Results of a function, or of the one whose twin or later version it is. `None`: nothing is documented.
    pub fn of(&self, name: &str) -> Option<&BTreeSet<i32>> {
        let plain = ["_ptsz", "_ptds"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        let base = match plain.rsplit_once("_v") {
            Some((base, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => base,
            _ => plain,
        };
        let others = (2..=4).map(|version| format!("{base}_v{version}"));
        [plain.to_owned(), base.to_owned()]
            .into_iter()
            .chain(others)
            .find_map(|name| self.of.get(&name))
            .filter(|codes| !codes.is_empty())
    }

    /// The number of a result.
    pub fn number(&self, code: &str) -> Option<i32> {
        self.numbers.get(code).copied()
    }
}

/// Sources with rows of bad input, by the library whose documentation they are compared with.
const ROWS: [(&str, &str); 3] = [
    ("cuda", "tests/programs/c/driver_errors.c"),
    ("cudart", "tests/programs/cudart/errors.cu"),
    ("nvml", "tests/programs/c/nvml_errors.c"),
];

/// Compares each row `BAD(RESULT, function(…` and `BEYOND(RESULT, function(…` with the documentation: the first kind of result
/// stands in the function's own comment, the other kind does not.
pub fn rows(documentation: &Documentation) -> Result<()> {
    let mut bad = Vec::new();
    for (family, source) in ROWS {
        let documented = documentation.get(family).context(family)?;
        let text = fs::read_to_string(workspace::root().join(source));
        let text = text.with_context(|| format!("read {source}"))?;
        let found = calls(&text);
        ensure!(found.len() > 50, "{source} has {} rows", found.len());
        for (own, result, function) in found {
            let code = documented.number(result);
            let code = code.with_context(|| format!("{source}: there is no {result}"))?;
            if own
                != documented
                    .of(function)
                    .is_some_and(|all| all.contains(&code))
            {
                bad.push(format!("{source}: {function}: {result}"));
            }
        }
    }
    ensure!(bad.is_empty(), "not as the headers say: {}", bad.join("; "));
    Ok(())
}

/// Rows of a source: whether the function's own comment should name the result, the result, and the function.
fn calls(text: &str) -> Vec<(bool, &str, &str)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('(') {
        let own = match text[..at].rsplit(|c: char| !c.is_ascii_alphabetic()).next() {
            Some("BAD") => true,
            Some("BEYOND") => false,
            _ => continue,
        };
        let result = word(&text[at + 1..]);
        let Some(rest) = text[at + 1 + result.len()..].strip_prefix(',') else {
            continue;
        };
        let function = word(rest.trim_start());
        // Not the definition of the macro.
        if rest.trim_start()[function.len()..].starts_with('(') {
            found.push((own, result, function));
        }
    }
    found
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// `NAME = NUMBER` in enumerations.
fn numbers(text: &str, prefixes: &[&str]) -> BTreeMap<String, i32> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim_start();
            let name = word(line);
            let rest = line[name.len()..].trim_start().strip_prefix('=')?;
            let number = word(rest.trim_start()).parse().ok()?;
            prefixes
                .iter()
                .any(|prefix| name.starts_with(prefix))
                .then(|| (name.to_owned(), number))
        })
        .collect()
}

/// The function behind each comment, with the words of what it returns.
fn comments(text: &str, marker: &str) -> Vec<(String, Vec<String>)> {
    text.split("/**")
        .skip(1)
        .filter_map(|part| {
            let (comment, code) = part.split_once("*/")?;
            let statement = code.split(';').next()?;
            let name = word(statement.split_once(marker)?.1.trim_start());
            let returns = comment
                .split_once("\\return")
                .or_else(|| comment.split_once("@return"))?
                .1;
            let words = returns
                .lines()
                .take_while(|line| {
                    !["\\note", "\\sa", "@see"]
                        .iter()
                        .any(|end| line.contains(end))
                })
                .flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect();
            Some((name.to_owned(), words))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_behind_return() {
        let text = "/**\n * \\brief Waits\n * \\return\n * ::CUDA_SUCCESS,\n * ::CUDA_ERROR_INVALID_VALUE\n \
            * \\notefnerr ::CUDA_ERROR_UNKNOWN\n */\nCUresult CUDAAPI cuWait(int);\nCUresult CUDAAPI cuOther(int);\n";
        let found = comments(text, "CUDAAPI");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "cuWait");
        assert_eq!(found[0].1, ["CUDA_SUCCESS", "CUDA_ERROR_INVALID_VALUE"]);
    }

    #[test]
    fn rows_are_found() {
        let text = "#define BAD(expected, call) x\n    BAD(CUDA_ERROR_INVALID_VALUE, cuInit(1));\n\
            BEYOND(CUDA_ERROR_INVALID_HANDLE,\n    cuModuleUnload(NULL), \"why\");\n";
        assert_eq!(
            calls(text),
            [
                (true, "CUDA_ERROR_INVALID_VALUE", "cuInit"),
                (false, "CUDA_ERROR_INVALID_HANDLE", "cuModuleUnload"),
            ]
        );
    }

    #[test]
    fn a_twin_or_a_version_has_the_results_of_its_name() {
        let numbers = numbers(
            "    CUDA_SUCCESS = 0,\n  CUDA_ERROR_INVALID_VALUE   = 1, /**< one */\n OTHER = 5\n",
            &["CUDA_"],
        );
        assert_eq!(numbers.len(), 2);
        let documented = Documented {
            of: [("cuWait".to_owned(), BTreeSet::from([0, 1]))].into(),
            numbers,
        };
        for name in ["cuWait", "cuWait_ptsz", "cuWait_v2", "cuWait_v2_ptds"] {
            assert_eq!(documented.of(name), Some(&BTreeSet::from([0, 1])), "{name}");
        }
        assert_eq!(documented.of("cuWaitLonger"), None);
        assert_eq!(documented.number("CUDA_ERROR_INVALID_VALUE"), Some(1));
    }
}
