//! The command line.

use anyhow::{Result, bail};

/// Elements where `--n` is not given.
const DEFAULT_N: u32 = 1 << 20;
/// Most elements: 3 GiB of vectors.
const MAX_N: u32 = 1 << 28;

/// What `--help` prints.
pub const HELP: &str = "\
usage: vgpu-ctl COMMAND

  hello                     connect, and print who answers
  run vector_add [--n N]    add two vectors of N floats on the device and check each element
                            (default 1048576, at most 268435456)
  counters                  calls of this connection so far, by name
  regs                      the device's registers and the state of each channel
  reset                     reset every channel: all programs that use the device lose it
  --help                    this text

environment:
  VGPU_DEVICE=0000:00:05.0  which device, where there are several
  VGPU_LOCAL=PATH           the socket of a vgpu-local instead of a PCI device
  VGPU_LOG=1|debug|FILE     print each call
  VGPU_SYNC=1               wait for each call
";

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Connect and say who answers.
    Hello,
    /// Add vectors of so many elements.
    VectorAdd {
        /// The number of elements.
        n: u32,
    },
    /// Print the calls so far.
    Counters,
    /// Print the registers.
    Regs,
    /// Reset every channel.
    Reset,
}

/// Reads the command line, without the program's name.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command> {
    let all: Vec<String> = arguments.collect();
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    Ok(match words[..] {
        ["--help" | "-h" | "help"] => Command::Help,
        ["hello"] => Command::Hello,
        ["counters"] => Command::Counters,
        ["regs"] => Command::Regs,
        ["reset"] => Command::Reset,
        ["run", "vector_add"] => Command::VectorAdd { n: DEFAULT_N },
        ["run", "vector_add", "--n", n] => Command::VectorAdd {
            n: match n.parse() {
                Ok(n) if (1..=MAX_N).contains(&n) => n,
                _ => bail!("--n {n}: not a number from 1 to {MAX_N}"),
            },
        },
        ["run", "vector_add", option, ..] => bail!("run vector_add: unknown option '{option}'"),
        ["run", program, ..] => bail!("run: unknown program '{program}', there is: vector_add"),
        ["run"] => bail!("run: which program? There is: vector_add"),
        [] => bail!("no command"),
        [command, ..] if !matches!(command, "hello" | "counters" | "regs" | "reset") => {
            bail!("unknown command '{command}'")
        }
        [command, extra, ..] => bail!("{command}: unexpected '{extra}'"),
        [command] => bail!("unknown command '{command}'"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command> {
        parse(line.split_whitespace().map(String::from))
    }

    #[test]
    fn commands_are_read() {
        assert_eq!(read("hello").expect("good"), Command::Hello);
        assert_eq!(
            read("run vector_add").expect("good"),
            Command::VectorAdd { n: DEFAULT_N }
        );
        assert_eq!(
            read(&format!("run vector_add --n {MAX_N}")).expect("good"),
            Command::VectorAdd { n: MAX_N }
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (line, expected) in [
            ("", "no command"),
            ("helo", "'helo'"),
            ("hello world", "'world'"),
            ("run", "vector_add"),
            ("run sgemm", "'sgemm'"),
            ("run vector_add --m 3", "'--m'"),
            ("run vector_add --n 0", "--n 0"),
            ("run vector_add --n x", "--n x"),
            ("run vector_add --n 268435457", "268435456"),
        ] {
            let error = read(line).expect_err(line).to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn the_help_names_the_limits_in_force() {
        assert!(HELP.contains(&DEFAULT_N.to_string()) && HELP.contains(&MAX_N.to_string()));
    }
}
