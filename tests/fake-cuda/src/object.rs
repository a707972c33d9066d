//! Contexts, streams and events.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_uint};
use std::time::Duration;

use cudarc::driver::sys::{CUcontext, CUdevice, CUevent, CUstream};

use crate::blas;
use crate::conf::Conf;
use crate::state::{
    CURRENT, Context, Event, Handle, INVALID_HANDLE, INVALID_VALUE, NOT_READY, Op, Pin, State,
    Stream, call, die, lock,
};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxCreate_v2(
    ctx: *mut CUcontext,
    _flags: c_uint,
    device: CUdevice,
) -> u32 {
    call("cuCtxCreate_v2", |s| {
        if device < 100 {
            die(&format!("{device} is no device"));
        }
        let handle = s.handle();
        s.contexts.insert(
            handle,
            Context {
                error: 0,
                limits: BTreeMap::new(),
            },
        );
        let default = Stream {
            ctx: handle,
            default: true,
            blocking: true,
            dying: false,
            ops: VecDeque::new(),
            capture: None,
        };
        s.streams.insert(handle, default);
        CURRENT.with_borrow_mut(|stack| stack.push(handle));
        // SAFETY: NVIDIA's contract.
        unsafe { *ctx = handle as CUcontext };
        Ok(())
    })
}

/// Waits for work in flight, and lets other threads in meanwhile.
pub fn wait_for_context(key: Handle) {
    loop {
        let mut s = lock();
        s.conf.release |= s.reread().release;
        s.run(true);
        if s.ctx_is_idle(key) {
            return;
        }
        drop(s);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxDestroy_v2(ctx: CUcontext) -> u32 {
    let key = ctx as usize;
    wait_for_context(key);
    call("cuCtxDestroy_v2", |s| {
        let Some(context) = s.contexts.remove(&key) else {
            die(&format!("{key:#x} is no context"))
        };
        blas::context_goes(key, context.error == 0);
        CURRENT.with_borrow_mut(|stack| {
            if stack.last() == Some(&key) {
                stack.pop();
            }
        });
        s.streams.retain(|_, o| o.ctx != key);
        s.events.retain(|_, o| o.ctx != key);
        let modules: Vec<usize> = s
            .modules
            .iter()
            .filter(|(_, m)| m.ctx == key)
            .map(|(k, _)| *k)
            .collect();
        s.functions.retain(|_, f| !modules.contains(&f.module));
        s.modules.retain(|_, o| o.ctx != key);
        s.links.retain(|_, o| o.ctx != key);
        s.memory.retain(|_, o| o.ctx != key);
        s.graphs.retain(|_, o| o.ctx != key);
        s.execs.retain(|_, o| o.0 != key);
        let (gone, kept) = std::mem::take(&mut s.pins)
            .into_iter()
            .partition(|p| p.ctx == key);
        s.pins = kept;
        gone.iter().for_each(|pin: &Pin| s.must_be_unread(pin));
        if context.error == 0 {
            Ok(())
        } else {
            Err(context.error)
        }
    })
}

impl State {
    fn reread(&self) -> Conf {
        Conf::read(&crate::conf::own_path().with_extension("conf"))
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetCurrent(ctx: CUcontext) -> u32 {
    call("cuCtxSetCurrent", |s| {
        let key = ctx as usize;
        if key != 0 && !s.contexts.contains_key(&key) {
            die(&format!("{key:#x} is no context"));
        }
        CURRENT.with_borrow_mut(|stack| {
            stack.pop();
            if key != 0 {
                stack.push(key);
            }
        });
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxPopCurrent_v2(ctx: *mut CUcontext) -> u32 {
    call("cuCtxPopCurrent_v2", |_| {
        let popped = CURRENT
            .with_borrow_mut(Vec::pop)
            .ok_or(crate::state::INVALID_CONTEXT)?;
        // SAFETY: NVIDIA's contract.
        unsafe { *ctx = popped as CUcontext };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSynchronize() -> u32 {
    call("cuCtxSynchronize", |s| {
        let ctx = s.current()?;
        s.must_be_idle("cuCtxSynchronize", ctx);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetLimit(value: *mut usize, limit: c_uint) -> u32 {
    call("cuCtxGetLimit", |s| {
        let ctx = s.current()?;
        let default = match limit {
            0 => 1024,
            1 | 2 => 1 << 20,
            3..=7 => 1,
            _ => return Err(INVALID_VALUE),
        };
        let set = s
            .contexts
            .get(&ctx)
            .and_then(|c| c.limits.get(&limit).copied());
        // SAFETY: NVIDIA's contract.
        unsafe { *value = set.unwrap_or(default) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuCtxSetLimit(limit: c_uint, value: usize) -> u32 {
    call("cuCtxSetLimit", |s| {
        let ctx = s.current()?;
        s.must_be_idle("cuCtxSetLimit", ctx);
        if let Some(context) = s.contexts.get_mut(&ctx) {
            context.limits.insert(limit, value);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuCtxGetStreamPriorityRange(
    least: *mut c_int,
    greatest: *mut c_int,
) -> u32 {
    call("cuCtxGetStreamPriorityRange", |s| {
        s.current()?;
        // SAFETY: NVIDIA's contract.
        unsafe { (*least, *greatest) = (0, -5) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuStreamCreateWithPriority(
    stream: *mut CUstream,
    flags: c_uint,
    _priority: c_int,
) -> u32 {
    call("cuStreamCreateWithPriority", |s| {
        let ctx = s.current()?;
        let handle = s.handle();
        let new = Stream {
            ctx,
            default: false,
            blocking: flags & 1 == 0,
            dying: false,
            ops: VecDeque::new(),
            capture: None,
        };
        s.streams.insert(handle, new);
        // SAFETY: NVIDIA's contract.
        unsafe { *stream = handle as CUstream };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamDestroy_v2(stream: CUstream) -> u32 {
    call("cuStreamDestroy_v2", |s| {
        let stream_of = s.stream(stream as usize)?;
        stream_of.dying = true;
        if stream_of.ops.is_empty() {
            s.streams.remove(&(stream as usize));
        }
        s.run(false);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamQuery(stream: CUstream) -> u32 {
    call("cuStreamQuery", |s| {
        s.run(true);
        s.stream(stream as usize)?;
        let key = if stream.is_null() {
            s.current()?
        } else {
            stream as usize
        };
        if s.is_idle(key) {
            Ok(())
        } else {
            Err(NOT_READY)
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamSynchronize(stream: CUstream) -> u32 {
    call("cuStreamSynchronize", |s| {
        s.stream(stream as usize)?;
        let key = if stream.is_null() {
            s.current()?
        } else {
            stream as usize
        };
        if !s.is_idle(key) {
            die("cuStreamSynchronize would wait for work in flight, in a way that cannot be ended");
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuStreamWaitEvent(stream: CUstream, event: CUevent, flags: c_uint) -> u32 {
    call("cuStreamWaitEvent", |s| {
        if s.stream(stream as usize)?.capture.is_some() {
            if flags != 1 {
                die("an event of another stream is waited for in a capture");
            }
            return s.submit(stream as usize, Op::WaitNode(event as usize));
        }
        let generation = s.event(event as usize)?.recorded;
        s.submit(
            stream as usize,
            Op::Wait {
                event: event as usize,
                generation,
            },
        )
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventCreate(event: *mut CUevent, flags: c_uint) -> u32 {
    call("cuEventCreate", |s| {
        let ctx = s.current()?;
        let handle = s.handle();
        s.events.insert(
            handle,
            Event {
                ctx,
                timing: flags & 2 == 0,
                recorded: 0,
                reached: 0,
                time: 0,
            },
        );
        // SAFETY: NVIDIA's contract.
        unsafe { *event = handle as CUevent };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventDestroy_v2(event: CUevent) -> u32 {
    call("cuEventDestroy_v2", |s| {
        s.event(event as usize)?;
        s.events.remove(&(event as usize));
        Ok(())
    })
}

fn record(s: &mut State, event: CUevent, stream: CUstream) -> Result<(), u32> {
    let event_ctx = s.event(event as usize)?.ctx;
    if s.stream(stream as usize)?.ctx != event_ctx {
        return Err(INVALID_HANDLE);
    }
    if s.stream(stream as usize)?.capture.is_some() {
        return s.submit(stream as usize, Op::RecordNode(event as usize));
    }
    let recorded = s.event(event as usize)?;
    recorded.recorded += 1;
    let generation = recorded.recorded;
    s.submit(
        stream as usize,
        Op::Record {
            event: event as usize,
            generation,
        },
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecord(event: CUevent, stream: CUstream) -> u32 {
    call("cuEventRecord", |s| record(s, event, stream))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventRecordWithFlags(event: CUevent, stream: CUstream, flags: c_uint) -> u32 {
    call("cuEventRecordWithFlags", |s| {
        if flags > 1 {
            Err(INVALID_VALUE)
        } else {
            record(s, event, stream)
        }
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuEventQuery(event: CUevent) -> u32 {
    call("cuEventQuery", |s| {
        s.run(true);
        let event = s.event(event as usize)?;
        if event.reached >= event.recorded {
            Ok(())
        } else {
            Err(NOT_READY)
        }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuEventElapsedTime_v2(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> u32 {
    call("cuEventElapsedTime_v2", |s| {
        let time_of = |event: &mut Event| match event {
            e if !e.timing || e.recorded == 0 => Err(INVALID_HANDLE),
            e if e.reached < e.recorded => Err(NOT_READY),
            e => Ok(e.time),
        };
        let start = time_of(s.event(start as usize)?)?;
        let end = time_of(s.event(end as usize)?)?;
        // SAFETY: NVIDIA's contract.
        unsafe { *milliseconds = (end as f32) - (start as f32) };
        Ok(())
    })
}
