//! The worker process: `vgpu-worker`.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use vgpu_mediator::{Captured, Ledger, Mediator};

use super::own::{self, OwnText};
use super::packet::{MAX_PACKET_BYTES, Order, Report, Setup, VERSION};
use crate::channel::{Channel, OnFault};
use crate::config::{Config, Properties};
use crate::device::{Host, Shared};
use crate::doorbell::Doorbell;
use crate::memory::SharedMemory;
use crate::socket::Connection;
use crate::worker;

const BY_HAND: &str = "\
vgpu-worker: QEMU's device vgpu-stub and vgpu-local start this program, with isolation=process: it serves one
process of the guest, so that a crash of the driver or a kernel that never ends takes nothing else along.";

/// Serves one session.
pub fn main() -> ExitCode {
    let Ok(socket) = own::take_socket() else {
        eprintln!("{BY_HAND}");
        return ExitCode::from(2);
    };
    let socket = Arc::new(socket);
    // What is left is this process's end: it says why.
    if let Err(why) = serve(&socket) {
        report(&socket, &Report::Refused(why));
        return ExitCode::FAILURE;
    }
    // Without the driver's exit handlers.
    own::exit()
}

/// A packet that cannot be sent has nobody to read it: QEMU is gone, and this process with it.
fn report(socket: &Connection, report: &Report) {
    if socket.send(&report.to_bytes(), &[]).is_err() {
        own::exit();
    }
}

fn serve(socket: &Arc<Connection>) -> Result<(), String> {
    let mut packet = vec![0; MAX_PACKET_BYTES];
    let broken = || "the first packet is not what it should be".to_owned();
    let (bytes, fds) = socket
        .receive_with_fds(&mut packet)
        .map_err(|error| error.to_string())?;
    let order = packet.get(..bytes).and_then(Order::parse);
    let Some(Order::Setup(setup)) = order else {
        // QEMU has gone before it began, or is another version altogether.
        return Err(broken());
    };
    if setup.version != VERSION {
        return Err(format!(
            "the program vgpu-worker is not of the same version as the device: install both from one build ({:#x}, {VERSION:#x})",
            setup.version
        ));
    }
    start_log(socket, setup.trace);
    let text = OwnText::capture().map_err(|error| error.to_string())?;
    let Ok([bar1, ledger]) = <[_; 2]>::try_from(fds) else {
        return Err(broken());
    };
    let config = config(&setup)?;
    let os = |error: io::Error| error.to_string();
    let layout = config.layout;
    let bar1 = SharedMemory::from_fd(bar1, layout.bar1_bytes).map_err(os)?;
    let ledger_memory = SharedMemory::from_fd(ledger, Ledger::BYTES).map_err(os)?;
    let ledger = Ledger::new(ledger_memory.window()).map_err(|error| error.to_string())?;
    let mut mediator = config.mediator.clone();
    mediator.ledger = Some(ledger);
    mediator.heap = bar1.heap(layout.heap(), Some(ledger));
    mediator.captured = Some(text as Arc<dyn Captured>);
    let mediator = Mediator::new(mediator).map_err(|error| error.to_string())?;
    let ready = Report::Ready {
        soft: mediator.backend_name() == "soft",
        total_bytes: mediator.facts().1,
    };
    report(socket, &ready);

    let (bytes, mut fds) = socket
        .receive_with_fds(&mut packet)
        .map_err(|error| error.to_string())?;
    let order = packet.get(..bytes).and_then(Order::parse);
    let (number, doorbell) = match (order, fds.pop()) {
        (Some(Order::Open(number)), Some(doorbell)) if number < layout.channels => {
            (number, Doorbell::from_fd(doorbell))
        }
        // The device has gone, or nobody needs this one.
        _ => return Ok(()),
    };
    let to_host = Arc::clone(socket);
    let heard = OnFault(Box::new(move |fault| {
        report(&to_host, &Report::Fault(fault));
    }));
    let channel = Channel::in_worker(number, doorbell, ledger.interrupts(number), heard);
    let channel = Arc::new(channel);
    let host = Arc::new(Supervisor(Arc::clone(socket)));
    let assembly = ledger.assembly(number);
    let shared = Shared::in_worker(config, bar1.window(), mediator, host, assembly);
    let shared = Arc::new(shared);
    channel.serve();
    let orders = (Arc::clone(socket), Arc::clone(&channel));
    std::thread::Builder::new()
        .name("vgpu-orders".to_owned())
        .spawn(move || take_orders(&orders.0, &orders.1))
        .map_err(os)?;
    worker::run(&shared, &channel);
    Ok(())
}

/// Ends the session when QEMU says so, and everything when QEMU has gone.
fn take_orders(socket: &Connection, channel: &Channel) {
    let mut packet = [0; 64];
    loop {
        let order = match socket.receive(&mut packet) {
            Ok(bytes @ 1..) => packet.get(..bytes).and_then(Order::parse),
            // Whatever the driver is doing: with QEMU this process ends.
            _ => own::exit(),
        };
        if order == Some(Order::Close) {
            channel.release();
            channel.exit();
        }
    }
}

fn config(setup: &Setup) -> Result<Config, String> {
    let properties = Properties {
        vm_id: setup.vm_id,
        channels: setup.channels,
        bar1_size: setup.bar1_size,
        memory: setup.memory,
        backend: setup.backend.clone(),
        gpu: setup.gpu.clone(),
        ..Properties::default()
    };
    Config::from_properties(&properties).map_err(|error| error.to_string())
}

/// What the device needs is in QEMU.
struct Supervisor(Arc<Connection>);

impl Host for Supervisor {
    fn raise_irq(&self, _channel: u32) {
        report(&self.0, &Report::Interrupt);
    }
    fn lower_irq(&self) {}
    fn guest_error(&self, message: &str) {
        report(&self.0, &Report::GuestError(message.to_owned()));
    }
    fn warn(&self, message: &str) {
        tracing::warn!("{message}");
    }
}

/// Sends this process's log to QEMU. Its own standard error is the guest's.
fn start_log(socket: &Arc<Connection>, trace: bool) {
    let level = if trace {
        LevelFilter::TRACE
    } else {
        LevelFilter::INFO
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .without_time()
        .with_level(false)
        .with_writer(ToQemu(Arc::clone(socket)))
        .with_filter(level);
    // The only one in this program.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    let to_host = Arc::clone(socket);
    std::panic::set_hook(Box::new(move |info| {
        report(&to_host, &Report::Log(1, info.to_string()));
    }));
}

#[derive(Clone)]
struct ToQemu(Arc<Connection>);

struct Line<'a>(&'a Connection, u8);

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl<'a> MakeWriter<'a> for ToQemu {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0, 5)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line(&self.0, number(*metadata.level()))
    }
}

impl Write for Line<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(text).trim_end().to_owned();
        report(self.0, &Report::Log(self.1, line));
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
