//! `vgpu-ctl hello`.

use std::fmt::Write;
use std::time::Instant;

use anyhow::{Result, anyhow};
use vgpu_protocol::PROTOCOL_HASH;
use vgpu_protocol::calls::{CtxId, stubs};
use vgpu_transport::Channel;

/// Round trips to take the median of.
const ROUNDS: usize = 1001;

/// Who answers, and how fast.
pub fn text(channel: &Channel) -> Result<String> {
    let mut out = String::new();
    let hello = channel.hello();
    writeln!(out, "device         {}", channel.bars().found())?;
    writeln!(out, "vm_id          {}", hello.vm_id)?;
    writeln!(out, "backend        {}", hello.backend)?;
    writeln!(
        out,
        "CUDA driver    {}.{}",
        hello.driver_version / 1000,
        hello.driver_version % 1000 / 10
    )?;
    writeln!(out, "protocol hash  {PROTOCOL_HASH:#018x}")?;
    writeln!(out, "channel        {}", channel.number())?;
    let devices =
        stubs::device_table(channel, CtxId(0)).map_err(|s| anyhow!("vgpuDeviceTable: {s}"))?;
    for (i, device) in devices.iter().enumerate() {
        writeln!(
            out,
            "GPU {i}          {}, {} MiB",
            device.name,
            device.total_bytes >> 20
        )?;
    }
    let mut times = Vec::with_capacity(ROUNDS);
    let name = std::env::args().next().unwrap_or_default();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        stubs::hello(channel, CtxId(0), &name, std::process::id())
            .map_err(|s| anyhow!("vgpuHello: {s}"))?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    writeln!(
        out,
        "round trip     {:.1} us (median of {ROUNDS})",
        times[ROUNDS / 2].as_secs_f64() * 1e6
    )?;
    Ok(out)
}
