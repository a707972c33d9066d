//! Functions of the program that streams call, in a thread of this library.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::Builder;

use cudarc::driver::sys::CUstream;
use vgpu_protocol::Status;
use vgpu_protocol::calls::stubs;
use vgpu_transport::Channel;

use crate::abi::{Done, Function, Host, INVALID, StreamFunction, Zero, exports};
use crate::capture::Target;
use crate::graph::Work;
use crate::init::driver;

/// What is called.
#[derive(Clone)]
pub enum Call {
    /// `CUhostFn`: only where the stream has no error.
    Host(Function, u64),
    /// `CUstreamCallback`: always, with the stream and its error.
    Stream(StreamFunction, u64, u64),
    /// One of this library's own.
    Own(Arc<dyn Fn() -> Done + Send + Sync>),
}

struct Entry {
    call: Call,
    /// Calls that the host will still ask for.
    expected: u64,
    /// Nobody will expect more.
    last: bool,
}

#[derive(Default)]
struct State {
    entries: HashMap<u64, Entry>,
    /// Calls of all entries that the host will still ask for.
    expected: u64,
    running: bool,
}

/// All functions that the host may ask for.
#[derive(Default)]
pub struct HostFunctions {
    state: Mutex<State>,
    /// Signalled when calls are expected.
    more: Condvar,
    numbers: AtomicU64,
}

impl std::fmt::Debug for HostFunctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostFunctions").finish_non_exhaustive()
    }
}

impl HostFunctions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Gives a function a number.
    pub fn add(&self, call: Call) -> u64 {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            call,
            expected: 0,
            last: false,
        };
        self.state().entries.insert(number, entry);
        number
    }

    /// One more call of the function will be asked for; `last`: and then none.
    pub fn expect(&'static self, channel: &'static Channel, number: u64, last: bool) -> Done {
        let mut state = self.state();
        if !state.running {
            Builder::new()
                .name("cuda-host-func".to_owned())
                .spawn(move || self.serve(channel))
                .map_err(|_| Status::ERROR_OPERATING_SYSTEM)?;
            state.running = true;
        }
        if let Some(entry) = state.entries.get_mut(&number) {
            entry.expected += 1;
            entry.last |= last;
        }
        state.expected += 1;
        self.more.notify_all();
        Ok(())
    }

    /// Nobody will expect more calls of the function.
    pub fn release(&self, number: u64) {
        let mut state = self.state();
        let Some(entry) = state.entries.get_mut(&number) else {
            return;
        };
        entry.last = true;
        if entry.expected == 0 {
            state.entries.remove(&number);
        }
    }

    /// The thread: asks the host only while calls are expected.
    fn serve(&self, channel: &Channel) {
        loop {
            let mut state = self.state();
            while state.expected == 0 {
                state = self.more.wait(state).unwrap_or_else(|e| e.into_inner());
            }
            drop(state);
            let Ok(turn) = channel.next_turn() else {
                return;
            };
            let call = self
                .state()
                .entries
                .get(&turn.number)
                .map(|e| e.call.clone());
            let failed = call.and_then(|call| run(call, turn.status).err());
            if let Some(status) = failed {
                vgpu_transport::log::line(format_args!("a copy of a graph failed: {status}"));
            }
            let mut state = self.state();
            state.expected -= 1;
            if let Some(entry) = state.entries.get_mut(&turn.number) {
                entry.expected = entry.expected.saturating_sub(1);
                if entry.expected == 0 && entry.last {
                    state.entries.remove(&turn.number);
                }
            }
            drop(state);
            channel.turn_done();
        }
    }
}

fn run(call: Call, status: Status) -> Done {
    match call {
        Call::Host(function, data) if status == Status::SUCCESS => function.call(data),
        Call::Stream(function, stream, data) => function.call(stream, status, data),
        Call::Own(own) if status == Status::SUCCESS => own()?,
        Call::Host(..) | Call::Own(_) => {}
    }
    Ok(())
}

/// `cuLaunchHostFunc` of a function that is called once.
fn launch(stream: CUstream, call: Call, zero: Zero) -> Done {
    let driver = driver()?;
    let queue = match driver.target(stream, zero)? {
        Target::Queue(queue) => queue,
        Target::Capture(capture) => {
            return match call {
                Call::Host(function, data) => capture.add(Work::Host { function, data }),
                _ => Err(capture.invalidate(Status::ERROR_STREAM_CAPTURE_UNSUPPORTED)),
            };
        }
    };
    let number = driver.host_functions.add(call);
    driver.host_functions.expect(driver.channel, number, true)?;
    stubs::launch_host_func(driver.channel, queue.ctx_id, queue.id, number)
}

fn host(stream: CUstream, function: Option<Function>, data: Host, zero: Zero) -> Done {
    let function = function.ok_or(INVALID)?;
    launch(stream, Call::Host(function, data.0 as u64), zero)
}

exports! {
    /// Has a function of the program called when the stream comes to it.
    fn cuLaunchHostFunc | cuLaunchHostFunc_ptsz [zero] (
        stream: CUstream, function: Option<Function>, data: Host,
    ) {
        host(stream, function, data, zero)
    }

    /// Has a function of the program called when the stream comes to it. How the waiting thread waits
    /// (`CUhostTaskSyncMode`) is a hint.
    fn cuLaunchHostFunc_v2 | cuLaunchHostFunc_v2_ptsz [zero] (
        stream: CUstream, function: Option<Function>, data: Host, mode: u32,
    ) {
        if mode > 1 {
            return Err(INVALID);
        }
        host(stream, function, data, zero)
    }

    /// Has a function of the program called, whatever has become of the stream. Flags must be 0.
    fn cuStreamAddCallback | cuStreamAddCallback_ptsz [zero] (
        stream: CUstream, function: Option<StreamFunction>, data: Host, flags: u32,
    ) {
        let function = function.ok_or(INVALID)?;
        if flags != 0 {
            return Err(INVALID);
        }
        let given = stream as *mut c_void as u64;
        launch(stream, Call::Stream(function, given, data.0 as u64), zero)
    }
}
