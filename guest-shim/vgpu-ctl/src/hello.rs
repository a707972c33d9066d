//! `vgpu-ctl hello`.

use std::time::Instant;

use anyhow::{Result, anyhow};
use vgpu_protocol::PROTOCOL_HASH;
use vgpu_protocol::calls::{CtxId, stubs};
use vgpu_transport::Channel;

/// Round trips to take the median of.
const ROUNDS: usize = 1001;

/// Prints who answers, and how fast.
pub fn hello(channel: &Channel) -> Result<()> {
    let hello = channel.hello();
    println!("device         {}", channel.bars().found());
    println!("vm_id          {}", hello.vm_id);
    println!("backend        {}", hello.backend);
    println!(
        "CUDA driver    {}.{}",
        hello.driver_version / 1000,
        hello.driver_version % 1000 / 10
    );
    println!("protocol hash  {PROTOCOL_HASH:#018x}");
    println!("channel        {}", channel.number());
    let devices =
        stubs::device_table(channel, CtxId(0)).map_err(|s| anyhow!("vgpuDeviceTable: {s}"))?;
    for (i, device) in devices.iter().enumerate() {
        println!(
            "GPU {i}          {}, {} MiB",
            device.name,
            device.total_bytes >> 20
        );
    }
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        stubs::hello(channel, CtxId(0), "vgpu-ctl", std::process::id())
            .map_err(|s| anyhow!("vgpuHello: {s}"))?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!(
        "round trip     {:.1} us (median of {ROUNDS})",
        times[ROUNDS / 2].as_secs_f64() * 1e6
    );
    Ok(())
}
