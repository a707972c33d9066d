//! Measures one section on whatever device `libcuda.so.1` has, and prints one JSON object: numbers, or texts that say
//! why there is none.
//!
//! usage: `cuda-measure SECTION [--full|--small|--quick]`

use anyhow::{Context as _, Result, bail};
use vgpu_test_programs::measure::{SECTIONS, Size, section};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let usage = || {
        format!(
            "usage: cuda-measure {} [--full|--small|--quick]",
            SECTIONS.join("|")
        )
    };
    let name = words.next().with_context(usage)?;
    let size = match words.next().as_deref() {
        None | Some("--full") => Size::Full,
        Some("--small") => Size::Small,
        Some("--quick") => Size::Quick,
        Some(other) => bail!("unknown option {other}\n{}", usage()),
    };
    println!("{}", section(&name, size)?.json());
    Ok(())
}
