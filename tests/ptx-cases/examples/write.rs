//! Writes the modules of the table as files, for other tools: `cargo run -p vgpu-ptx-cases --example write -- DIRECTORY`.

use std::path::PathBuf;

use vgpu_ptx_cases::{all, modules};

fn main() -> std::io::Result<()> {
    let directory = PathBuf::from(
        std::env::args()
            .nth(1)
            .unwrap_or_else(|| "ptx-cases".into()),
    );
    std::fs::create_dir_all(&directory)?;
    let forms = all();
    for (i, module) in modules::group(&forms).iter().enumerate() {
        let (version, sm) = module.needs;
        std::fs::write(
            directory.join(format!("{i:03}-{version}-{sm}.ptx")),
            modules::text(&forms, module, false),
        )?;
    }
    Ok(())
}
