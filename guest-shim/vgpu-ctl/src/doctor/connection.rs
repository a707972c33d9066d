//! Calls through to the host, up to a kernel.

use std::time::Instant;

use vgpu_protocol::PROTOCOL_HASH;
use vgpu_protocol::calls::{CtxId, stubs};
use vgpu_transport::process;

use crate::report::Report;
use crate::vector_add;

/// Calls of which the median is taken.
const ROUNDS: usize = 101;
/// Elements of the kernel's vectors.
const ELEMENTS: u32 = 1 << 16;

/// Connects, asks, computes. False where there is no connection.
pub fn check(report: &mut Report) -> bool {
    let channel = match process::connect() {
        Ok(channel) => channel,
        Err(error) => {
            report.wrong("connection", error);
            return false;
        }
    };
    let hello = channel.hello();
    report.good(
        "connection",
        format_args!(
            "vm_id {}, channel {}, backend {}, CUDA {}.{}",
            hello.vm_id,
            channel.number(),
            hello.backend,
            hello.driver_version / 1000,
            hello.driver_version % 1000 / 10
        ),
    );
    report.good(
        "versions",
        format_args!("guest package and host agree (protocol {PROTOCOL_HASH:#018x})"),
    );
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        if let Err(status) = stubs::hello(channel, CtxId(0), "vgpu-doctor", std::process::id()) {
            report.wrong("calls", format_args!("a call fails: {status}"));
            return false;
        }
        times.push(start.elapsed());
    }
    times.sort_unstable();
    report.good(
        "calls",
        format_args!(
            "{:.1} us for one that waits",
            times[ROUNDS / 2].as_secs_f64() * 1e6
        ),
    );
    match vector_add::run(channel, ELEMENTS) {
        Ok(_) => report.good(
            "kernel",
            format_args!("{ELEMENTS} elements were added, each is right"),
        ),
        Err(error) => report.wrong("kernel", format_args!("{error:#}")),
    }
    true
}
