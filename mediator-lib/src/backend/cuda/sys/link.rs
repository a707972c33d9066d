//! The driver's linker.

use std::ffi::CString;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::Arc;

use cudarc::driver::sys;
use vgpu_protocol::Status;
use vgpu_protocol::limits::MAX_JIT_LOG_BYTES;

use super::code::{
    ERROR_LOG_BUFFER, ERROR_LOG_BYTES, INFO_LOG_BUFFER, INFO_LOG_BYTES, JitLogs, NumericOption,
};
use super::object::Context;
use super::{check, need, text_until_nul};

/// A linker; destroyed on drop.
#[derive(Debug)]
pub struct Link {
    ctx: Arc<Context>,
    raw: sys::CUlinkState,
    /// Where the driver writes its logs as long as the linker lives.
    info: Box<[u8]>,
    error: Box<[u8]>,
}

// SAFETY: as for `Context`; the buffers are the value's own.
unsafe impl Send for Link {}

impl Link {
    /// `cuLinkCreate`.
    pub fn create(ctx: &Arc<Context>, options: &[NumericOption]) -> Result<Link, Status> {
        let _alive = ctx.enter()?;
        let f = need(ctx.functions().cuLinkCreate_v2)?;
        let log = || vec![0u8; MAX_JIT_LOG_BYTES as usize].into_boxed_slice();
        let mut link = Link {
            ctx: Arc::clone(ctx),
            raw: null_mut(),
            info: log(),
            error: log(),
        };
        let bytes = without_provenance_mut(MAX_JIT_LOG_BYTES as usize);
        let mut numbers = vec![
            INFO_LOG_BUFFER,
            INFO_LOG_BYTES,
            ERROR_LOG_BUFFER,
            ERROR_LOG_BYTES,
        ];
        let mut values = vec![
            link.info.as_mut_ptr().cast(),
            bytes,
            link.error.as_mut_ptr().cast(),
            bytes,
        ];
        numbers.extend(options.iter().map(|o| o.option));
        values.extend(options.iter().map(NumericOption::as_pointer));
        let mut raw = null_mut();
        // SAFETY:
        // - both lists have as many entries as the count says;
        // - the two logs are as long as the options beside them say, and live as long as the
        //   linker: `raw` is destroyed before them; all other values are numbers.
        check(unsafe {
            f(
                numbers.len() as u32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
                &mut raw,
            )
        })?;
        link.raw = raw;
        Ok(link)
    }

    /// `cuLinkAddData`. The logs come with either result.
    pub fn add(
        &mut self,
        kind: u32,
        data: &[u8],
        name: &str,
        options: &[NumericOption],
    ) -> (Result<(), Status>, JitLogs) {
        let added = self.add_raw(kind, data, name, options);
        (added, self.logs())
    }

    fn add_raw(
        &mut self,
        kind: u32,
        data: &[u8],
        name: &str,
        options: &[NumericOption],
    ) -> Result<(), Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuLinkAddData_v2)?;
        let name = CString::new(name).map_err(|_| Status::ERROR_INVALID_VALUE)?;
        // The driver's signature is not const; it gets a copy of its own.
        let mut data = data.to_vec();
        let mut numbers: Vec<u32> = options.iter().map(|o| o.option).collect();
        let mut values: Vec<_> = options.iter().map(NumericOption::as_pointer).collect();
        // SAFETY:
        // - a linker of a context that is alive;
        // - so many bytes of data, which the driver does not keep ("ownership of data is retained
        //   by the caller"); a NUL-terminated name;
        // - both lists have as many entries as the count says, and all values are numbers.
        check(unsafe {
            f(
                self.raw,
                kind,
                data.as_mut_ptr().cast(),
                data.len(),
                name.as_ptr(),
                numbers.len() as u32,
                numbers.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        })
    }

    /// `cuLinkComplete`: the image, at most `max` bytes of it.
    pub fn complete(&mut self, max: usize) -> (Result<Vec<u8>, Status>, JitLogs) {
        let image = self.complete_raw(max);
        (image, self.logs())
    }

    fn complete_raw(&mut self, max: usize) -> Result<Vec<u8>, Status> {
        let _alive = self.ctx.enter()?;
        let f = need(self.ctx.functions().cuLinkComplete)?;
        let (mut image, mut bytes) = (null_mut(), 0);
        // SAFETY: a linker of a context that is alive; writes an address and a length.
        check(unsafe { f(self.raw, &mut image, &mut bytes) })?;
        if image.is_null() || bytes > max {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        // SAFETY: the driver says that so many bytes are there; they are its own until the linker
        // is destroyed, and nothing changes them meanwhile.
        Ok(unsafe { std::slice::from_raw_parts(image.cast::<u8>(), bytes) }.to_vec())
    }

    fn logs(&mut self) -> JitLogs {
        let logs = JitLogs {
            info: text_until_nul(&self.info),
            error: text_until_nul(&self.error),
        };
        // The next call's logs are its own.
        self.info.fill(0);
        self.error.fill(0);
        logs
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.raw.is_null() {
            return;
        }
        // Where the context is gone its linkers are too.
        let Ok(_alive) = self.ctx.enter() else { return };
        if let Some(f) = self.ctx.functions().cuLinkDestroy {
            // SAFETY: created by `create`, destroyed once, before the logs that it writes to.
            unsafe { f(self.raw) };
        }
    }
}
