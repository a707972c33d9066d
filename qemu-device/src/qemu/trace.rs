//! Joins `tracing` to QEMU's trace events: `-trace 'vgpu_stub_*'` shows the life of a call,
//! from the register access to the backend and back.

use std::io::{self, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::{Level, Metadata};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use vgpu_ffi::log;

/// Warnings and errors that go to QEMU's standard error. A guest can cause some: without a
/// bound it could fill the host's disk with them.
const MAX_REPORTS: u32 = 64;

/// Installs the subscriber; further calls do nothing.
pub(super) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Asked anew for each event: the monitor can switch trace events on and off.
        let wanted = dynamic_filter_fn(|metadata, _| {
            *metadata.level() <= Level::WARN || log::trace_enabled()
        });
        let lines = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .without_time()
            .with_level(false)
            .with_writer(QemuLog)
            .with_filter(wanted);
        // Another library in this process that has installed its own keeps it.
        let _ = tracing_subscriber::registry().with(lines).try_init();
    });
}

/// Makes a [`Line`] for each event.
struct QemuLog;

impl<'a> MakeWriter<'a> for QemuLog {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Level::TRACE)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line {
        Line(*metadata.level())
    }
}

/// One event; `tracing` writes it in one piece.
struct Line(Level);

impl Write for Line {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(text);
        let line = line.trim_end();
        log::trace(line);
        if self.0 <= Level::WARN {
            report(self.0, line);
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn report(level: Level, line: &str) {
    static REPORTS: AtomicU32 = AtomicU32::new(0);
    let count = REPORTS.fetch_add(1, Ordering::Relaxed);
    if count > MAX_REPORTS {
        // Stays there, so that the counter never wraps.
        REPORTS.store(MAX_REPORTS + 1, Ordering::Relaxed);
    } else if count == MAX_REPORTS {
        log::warn_report("vgpu-stub: further messages are shown with -trace vgpu_stub_call only");
    } else if level == Level::ERROR {
        log::error_report(&format!("vgpu-stub: {line}"));
    } else {
        log::warn_report(&format!("vgpu-stub: {line}"));
    }
}
