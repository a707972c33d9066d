//! The channel's thread in QEMU, where the channel is served by a worker process.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use vgpu_protocol::regs::ChannelFault;

use super::packet::Report;
use super::process::{self, Pool, Process};
use crate::channel::{Channel, Order};
use crate::device::Shared;
use crate::socket::wait_any;

/// Takes orders until the device goes.
pub fn run(device: &Arc<Shared>, channel: &Arc<Channel>, pool: &Pool) {
    let mut serving: Option<Process> = None;
    loop {
        match channel.states.orders.pop() {
            Some(Order::Open(cancel)) => {
                let opened = pool.take(&cancel).and_then(|process| {
                    let opened = process.open(channel.number, &channel.states.doorbell);
                    opened.map_err(|error| error.to_string())?;
                    Ok(process)
                });
                match opened {
                    Ok(process) => {
                        tracing::debug!(
                            vm_id = device.vm_id,
                            channel = channel.number,
                            worker = process.id(),
                            "a worker process serves the channel"
                        );
                        serving = Some(process);
                    }
                    Err(why) => {
                        tracing::error!(
                            vm_id = device.vm_id,
                            channel = channel.number,
                            why,
                            "no worker process for a session"
                        );
                        channel.fail(ChannelFault::WorkerDied);
                    }
                }
                pool.refill();
            }
            Some(Order::Close) => {
                if let Some(process) = serving.take() {
                    process.close(|report| hear(device, channel, report));
                }
                // What it held is free, however it ended.
                pool.clear(channel.number);
                channel.set_free();
            }
            Some(Order::Exit) => {
                drop(serving.take());
                pool.clear(channel.number);
                return;
            }
            None => {}
        }
        if !channel.states.orders.is_empty() {
            continue;
        }
        let bell = channel
            .states
            .orders_bell
            .as_ref()
            .unwrap_or(&channel.states.doorbell);
        let Some(process) = &mut serving else {
            bell.wait();
            continue;
        };
        match wait_any(&[bell.as_fd(), process.socket().as_fd()], None) {
            Ok(Some(0)) => bell.wait(),
            Ok(Some(_)) => match process.report() {
                Some(report) => hear(device, channel, report),
                None => {
                    let how = process.reap();
                    serving = None;
                    died(device, channel, pool, &how.to_string());
                }
            },
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, channel = channel.number, "cannot wait for a worker process");
                serving = None;
                died(device, channel, pool, "killed");
            }
        }
    }
}

/// Does what a worker process says.
fn hear(device: &Shared, channel: &Channel, report: Report) {
    match report {
        Report::Interrupt => device.raise_irq(channel.number),
        Report::Ready { .. } => {}
        Report::Fault(fault) => channel.fail(fault),
        Report::GuestError(what) => device.guest_error(&what),
        Report::Log(level, text) => process::log(level, &text),
        Report::Refused(why) => process::log(1, &why),
    }
}

/// A worker process has ended that nobody had asked to.
fn died(device: &Shared, channel: &Channel, pool: &Pool, how: &str) {
    device.worker_deaths.fetch_add(1, Ordering::Relaxed);
    let (client, pid) = pool.ledger().who(channel.number).unwrap_or_default();
    pool.clear(channel.number);
    tracing::error!(
        vm_id = device.vm_id,
        channel = channel.number,
        client,
        pid,
        how,
        "the worker process of a session has ended: its guest process gets CUDA_ERROR_DEVICE_UNAVAILABLE, others go on"
    );
    device.record_death(channel.number, &client, pid, how);
    channel.fail(ChannelFault::WorkerDied);
}
