//! Our list of the driver's names against NVIDIA's headers.

use super::*;

/// Headers that declare functions of the driver. The last ones are not in every package.
const FILES: [&str; 5] = [
    "cuda.h",
    "cudaProfiler.h",
    "cudaGL.h",
    "cudaEGL.h",
    "cudaVDPAU.h",
];
const TYPEDEFS: [&str; 5] = [
    "cudaTypedefs.h",
    "cudaProfilerTypedefs.h",
    "cudaGLTypedefs.h",
    "cudaEGLTypedefs.h",
    "cudaVDPAUTypedefs.h",
];

/// A line of our list: symbol, and name for cuGetProcAddress with the version of CUDA that brought this ABI.
type Line = (String, Option<(String, u32)>);

/// Our list.
fn listed() -> Result<Vec<Line>> {
    let path = workspace::root().join("guest-shim/libcuda/symbols.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            Ok(match words.as_slice() {
                [symbol] => ((*symbol).to_owned(), None),
                [symbol, name, version] => (
                    (*symbol).to_owned(),
                    Some(((*name).to_owned(), version.parse()?)),
                ),
                _ => bail!("symbols.txt: {line}"),
            })
        })
        .collect()
}

fn text(folder: &Path, files: &[&str]) -> Result<String> {
    let mut all = String::new();
    for (i, file) in files.iter().enumerate() {
        match fs::read_to_string(folder.join(file)) {
            Ok(text) => all.push_str(&text),
            Err(error) if i == 0 => return Err(error).context(folder.display().to_string()),
            Err(_) => {}
        }
    }
    Ok(all)
}

/// Every function that the headers declare, with every name that their macros give it.
pub fn names(folder: &Path) -> Result<()> {
    let text = text(folder, &FILES)?;
    let listed: BTreeSet<String> = listed()?.into_iter().map(|(symbol, _)| symbol).collect();
    let declared = declared(&text);
    ensure!(
        declared.len() > 300,
        "the headers declare {} functions",
        declared.len()
    );
    let missing: Vec<_> = declared.difference(&listed).cloned().collect();
    ensure!(
        missing.is_empty(),
        "symbols.txt lacks {}",
        missing.join(", ")
    );
    Ok(())
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect()
}

fn is_function(name: &str) -> bool {
    name.strip_prefix("cu")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// Names that stand after `CUDAAPI`, and those that `#define`s make of them.
fn declared(text: &str) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = text
        .split("CUDAAPI ")
        .skip(1)
        .map(|rest| word(rest.trim_start()))
        .filter(|name| is_function(name))
        .collect();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some("#define"), Some(name), Some(to)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if !is_function(name) {
            continue;
        }
        // `#define cuMemcpy __CUDA_API_PTDS(cuMemcpy)`: with per-thread default streams it is cuMemcpy_ptds.
        let inside = |prefix: &str| to.strip_prefix(prefix).map(word);
        if let Some(of) = inside("__CUDA_API_PTDS(") {
            names.insert(format!("{of}_ptds"));
        } else if let Some(of) = inside("__CUDA_API_PTSZ(") {
            names.insert(format!("{of}_ptsz"));
        } else if is_function(to) {
            names.insert(word(to));
        }
    }
    names
}

/// Every `PFN_name_vVERSION` of the headers: what cuGetProcAddress gives for the name from that version on.
pub fn versions(folder: &Path) -> Result<()> {
    let text = text(folder, &TYPEDEFS)?;
    let listed = listed()?;
    let all: BTreeSet<&str> = listed.iter().map(|(symbol, _)| symbol.as_str()).collect();
    // The symbol that a version of a name has: the newest that is not newer.
    let newest = |name: &str, version: u32| {
        let of_name = listed
            .iter()
            .filter_map(|(symbol, of)| Some((symbol, of.as_ref()?)));
        of_name
            .filter(|(_, (base, since))| base == name && *since <= version)
            .max_by_key(|(_, (_, since))| *since)
            .map(|(symbol, _)| symbol.as_str())
    };
    let ours: BTreeSet<(&str, u32)> = listed
        .iter()
        .filter_map(|(_, of)| of.as_ref().map(|(name, version)| (name.as_str(), *version)))
        .collect();
    let mut missing = BTreeSet::new();
    let wanted = typedefs(&text);
    ensure!(
        wanted.len() > 300,
        "the headers name {} versions",
        wanted.len()
    );
    for (name, version, twin) in &wanted {
        let found = if twin.is_empty() {
            ours.contains(&(name.as_str(), *version))
        } else {
            // Twins came later than some of their names.
            newest(name, *version)
                .is_some_and(|symbol| all.contains(format!("{symbol}_{twin}").as_str()))
        };
        if !found {
            missing.insert(format!("{name} {version} {twin}"));
        }
    }
    ensure!(missing.is_empty(), "symbols.txt lacks {missing:?}");
    Ok(())
}

/// Name, version, and the end of the twin with per-thread default streams.
fn typedefs(text: &str) -> BTreeSet<(String, u32, String)> {
    text.split("(CUDAAPI *PFN_")
        .skip(1)
        .filter_map(|rest| {
            let whole = word(rest);
            let (name, end) = whole.rsplit_once("_v")?;
            let (version, twin) = end.split_once('_').unwrap_or((end, ""));
            Some((name.to_owned(), version.parse().ok()?, twin.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_declarations_and_macros() {
        let text = "#define cuMemcpy __CUDA_API_PTDS(cuMemcpy)\n#define cuCtxCreate cuCtxCreate_v2\n\
                    #define cuStreamQuery   __CUDA_API_PTSZ(cuStreamQuery)\n#define CUDA_VERSION 13000\n\
                    CUresult CUDAAPI cuInit(unsigned int Flags);\nCUresult CUDAAPI\ncuX(void);\n";
        let names: Vec<_> = declared(text).into_iter().collect();
        assert_eq!(
            names,
            [
                "cuCtxCreate_v2",
                "cuInit",
                "cuMemcpy_ptds",
                "cuStreamQuery_ptsz"
            ]
        );
    }

    #[test]
    fn versions_come_from_types_of_functions() {
        let text = "typedef CUresult (CUDAAPI *PFN_cuInit_v2000)(unsigned int);\n\
                    typedef CUresult (CUDAAPI *PFN_cuMemcpy_v7000_ptds)(int);";
        let all: Vec<_> = typedefs(text).into_iter().collect();
        assert_eq!(
            all,
            [
                ("cuInit".to_owned(), 2000, String::new()),
                ("cuMemcpy".to_owned(), 7000, "ptds".to_owned())
            ]
        );
    }
}
