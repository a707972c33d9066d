//! The command line.

use crate::details::DISPLAYS;
use crate::query::{AppQuery, Format, GpuQuery, help_apps, help_gpu};

/// What `--help` prints.
pub const HELP: &str = "\
nvidia-smi of vgpu-stub: shows the device of this virtual machine, as NVIDIA's program of this name shows GPUs.

usage: nvidia-smi [OPTION]...

  -h, --help                     this text
  --version                      versions of driver, NVML and CUDA
  -L, --list-gpus                one line for each device
  -i, --id=LIST                  only these: indices, UUIDs or PCI places, with commas
  -f, --filename=FILE            print into a file
  -l, --loop=SECONDS             print again and again
  -lms, --loop-ms=MILLISECONDS   the same

  -q, --query                    everything
  -d, --display=TYPES            only MEMORY, UTILIZATION, ECC, TEMPERATURE, POWER, CLOCK, COMPUTE, PIDS,
                                 PERFORMANCE (with -q; several with commas)
  -x, --xml-format               as XML (with -q)

  --query-gpu=FIELDS             these values; needs --format
  --query-compute-apps=FIELDS    these values of each process; needs --format
  --format=csv[,noheader][,nounits]
  --help-query-gpu               the fields
  --help-query-compute-apps

What a device does not have is shown as N/A. A guest cannot change the host's GPU: there are no options that set, and
commands that watch or change GPUs (dmon, pmon, topo, mig ...) end with status 3.
";

/// What is printed.
pub enum Output {
    /// A text that needs no device.
    Text(String),
    /// Versions.
    Version,
    /// The table.
    Table,
    /// `-L`.
    List,
    /// `-q`.
    Details { displays: Vec<String>, xml: bool },
    /// `--query-gpu`.
    Gpus(GpuQuery, Format),
    /// `--query-compute-apps`.
    Apps(AppQuery, Format),
}

/// What the command line says.
pub struct Options {
    pub output: Output,
    /// Names of `-i`; empty for all.
    pub ids: Vec<String>,
    pub file: Option<String>,
    /// Milliseconds between two outputs.
    pub interval_ms: Option<u64>,
}

/// Splits `--name=value`, `-n value` and `-nvalue` into names and values.
struct Words<'a> {
    rest: std::slice::Iter<'a, String>,
}

impl<'a> Words<'a> {
    fn value(&mut self, name: &str, attached: Option<&'a str>) -> Result<&'a str, String> {
        match attached {
            Some(value) => Ok(value),
            None => self
                .rest
                .next()
                .map(String::as_str)
                .ok_or_else(|| format!("Option \"{name}\" needs a value")),
        }
    }
}

/// Commands of NVIDIA's program that watch, change or connect GPUs in ways that a guest's device does not have.
const COMMANDS: &[&str] = &[
    "dmon",
    "pmon",
    "daemon",
    "replay",
    "topo",
    "drain",
    "nvlink",
    "c2c",
    "clocks",
    "encodersessions",
    "fbcsessions",
    "vgpu",
    "mig",
    "compute-policy",
    "boost-slider",
    "power-hint",
    "power-smoothing",
    "power-profiles",
    "conf-compute",
    "gpm",
    "pci",
    "prm",
    "rusd",
];

/// What is said of a command that there is not.
pub fn unsupported(word: &str) -> Option<String> {
    COMMANDS.contains(&word).then(|| {
        format!(
            "\"{word}\" is not supported by the device of this virtual machine. Please run 'nvidia-smi -h' for what is."
        )
    })
}

/// Reads the command line, without the program's name.
pub fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut words = Words {
        rest: arguments.iter(),
    };
    let (mut query, mut xml, mut list, mut version) = (false, false, false, false);
    let (mut displays, mut ids) = (Vec::new(), Vec::new());
    let (mut gpus, mut apps, mut format) = (None, None, None);
    let (mut file, mut interval_ms) = (None, None);
    while let Some(word) = words.rest.next() {
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        match name {
            "-h" | "--help" => return Ok(plain(Output::Text(HELP.to_owned()))),
            "--help-query-gpu" => return Ok(plain(Output::Text(help_gpu()))),
            "--help-query-compute-apps" => return Ok(plain(Output::Text(help_apps()))),
            "--version" => version = true,
            "-L" | "--list-gpus" => list = true,
            "-q" | "--query" => query = true,
            "-x" | "--xml-format" => xml = true,
            "-i" | "--id" => {
                let value = words.value(name, attached)?;
                ids.extend(value.split(',').map(|id| id.trim().to_owned()));
            }
            "-d" | "--display" => {
                for display in words.value(name, attached)?.split(',') {
                    let display = display.trim().to_uppercase();
                    if !DISPLAYS.contains(&display.as_str()) {
                        return Err(format!(
                            "Display type \"{display}\" is not one of {}",
                            DISPLAYS.join(", ")
                        ));
                    }
                    displays.push(display);
                }
            }
            "-f" | "--filename" => file = Some(words.value(name, attached)?.to_owned()),
            "-l" | "--loop" => {
                // Without a number: every 5 seconds.
                let seconds = match attached {
                    Some(text) => text,
                    None => match words.rest.as_slice().first() {
                        Some(next) if next.parse::<u64>().is_ok() => words.value(name, None)?,
                        _ => "5",
                    },
                };
                interval_ms = Some(interval(name, seconds)?.saturating_mul(1000));
            }
            "-lms" | "--loop-ms" => {
                interval_ms = Some(interval(name, words.value(name, attached)?)?);
            }
            "--query-gpu" => gpus = Some(GpuQuery::parse(words.value(name, attached)?)?),
            "--query-compute-apps" => apps = Some(AppQuery::parse(words.value(name, attached)?)?),
            "--format" => format = Some(Format::parse(words.value(name, attached)?)?),
            _ => {
                return Err(format!(
                    "Invalid combination of input arguments: \"{word}\" is not known. Please run 'nvidia-smi -h' for help."
                ));
            }
        }
    }
    let need_format = || {
        format.ok_or_else(|| "\"--format=\" switch is missing. Available formats: csv".to_owned())
    };
    let output = match (gpus, apps) {
        (Some(_), Some(_)) => {
            return Err("Only one --query-* switch can be used at a time.".to_owned());
        }
        (Some(query), None) => Output::Gpus(query, need_format()?),
        (None, Some(query)) => Output::Apps(query, need_format()?),
        (None, None) if format.is_some() => {
            return Err("\"--format=\" can only be used with a --query-* switch".to_owned());
        }
        (None, None) if version => Output::Version,
        (None, None) if list => Output::List,
        (None, None) if query => Output::Details { displays, xml },
        (None, None) if xml || !displays.is_empty() => {
            return Err("-d and -x can only be used with -q".to_owned());
        }
        (None, None) => Output::Table,
    };
    Ok(Options {
        output,
        ids,
        file,
        interval_ms,
    })
}

fn plain(output: Output) -> Options {
    Options {
        output,
        ids: Vec::new(),
        file: None,
        interval_ms: None,
    }
}

fn interval(name: &str, text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!(
            "Option \"{name}\": \"{text}\" is not a number from 1 on"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        parse(&words)
    }

    #[test]
    fn commands_that_there_are_not_are_known_by_name() {
        for command in ["dmon", "pmon", "topo", "mig"] {
            let text = unsupported(command).expect("is one");
            assert!(
                text.starts_with(&format!("\"{command}\" is not supported")),
                "{text}"
            );
        }
        assert!(unsupported("-L").is_none() && unsupported("").is_none());
    }

    #[test]
    fn outputs_are_chosen() {
        assert!(matches!(read("").expect("good").output, Output::Table));
        assert!(matches!(read("-L").expect("good").output, Output::List));
        assert!(matches!(
            read("--version").expect("good").output,
            Output::Version
        ));
        assert!(matches!(
            read("-q -x").expect("good").output,
            Output::Details { xml: true, .. }
        ));
        let query = read("--query-gpu=name,uuid --format=csv,noheader").expect("good");
        assert!(matches!(
            query.output,
            Output::Gpus(
                _,
                Format {
                    header: false,
                    units: true
                }
            )
        ));
        let query = read("--query-gpu name --format csv").expect("good");
        assert!(matches!(query.output, Output::Gpus(..)));
    }

    #[test]
    fn options_take_their_values() {
        let options = read("-i 0,GPU-1 -l 3 -f out").expect("good");
        assert_eq!(options.ids, ["0", "GPU-1"]);
        assert_eq!(options.interval_ms, Some(3000));
        assert_eq!(options.file.as_deref(), Some("out"));
        assert_eq!(read("-l").expect("good").interval_ms, Some(5000));
        assert_eq!(read("--loop-ms=20").expect("good").interval_ms, Some(20));
        let Output::Details { displays, .. } = read("-q -d memory,PIDS").expect("good").output
        else {
            panic!("not -q");
        };
        assert_eq!(displays, ["MEMORY", "PIDS"]);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("--frobnicate", "--frobnicate"),
            ("-q -d FISH", "FISH"),
            ("--query-gpu=name", "--format"),
            ("--query-gpu=nam --format=csv", "\"nam\""),
            ("--query-gpu=name --format=json", "json"),
            ("--format=csv", "--format="),
            ("-l 0", "0"),
            ("-i", "needs a value"),
            ("-x", "-q"),
            (
                "--query-gpu=name --query-compute-apps=pid --format=csv",
                "one",
            ),
        ] {
            let error = read(line).err().expect(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
