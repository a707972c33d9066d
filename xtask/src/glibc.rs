//! Which glibc a built file needs.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run;

/// The newest version of glibc whose symbols the file asks for; `None` where it asks for none.
pub fn needed(file: &Path) -> Result<Option<(u32, u32)>> {
    let symbols = run::stdout(Command::new("objdump").arg("-T").arg(file))?;
    Ok(symbols.lines().filter_map(version).max())
}

/// The version on a line of `objdump -T`, such as `… *UND* 0000 (GLIBC_2.34) dlsym`.
fn version(line: &str) -> Option<(u32, u32)> {
    let rest = line.split_once("GLIBC_")?.1;
    let text = rest
        .split(|c: char| c != '.' && !c.is_ascii_digit())
        .next()?;
    let mut numbers = text.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_symbol_table() {
        let line = "0000000000000000      DF *UND*\t0000000000000000 (GLIBC_2.34) dlsym";
        assert_eq!(version(line), Some((2, 34)));
        assert_eq!(version("0 DF *UND* 0 GLIBC_2.2.5 memcpy"), Some((2, 2)));
        assert_eq!(version("0 DF *UND* 0 (GCC_3.0)  _Unwind_Resume"), None);
        assert!((2, 34) > (2, 31) && (2, 2) < (2, 31));
    }

    #[test]
    fn a_program_of_this_machine_needs_some_glibc() {
        let own = std::env::current_exe().unwrap();
        assert!(needed(&own).unwrap().is_some());
    }
}
