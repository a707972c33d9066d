//! What must fail, and how: one row per kind of bad input, with the error that NVIDIA documents.

mod contexts;
mod faults;
mod handles;
mod lookup;
mod modules;
mod values;

use anyhow::{Result, bail};

use crate::cuda::Failed;
use crate::cuda::sys::CUresult;

/// One kind of bad input.
pub struct Row {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// Where it runs.
    pub place: Place,
    /// Does the wrong thing and looks at what comes back; gets the text of `misc.ptx`.
    pub run: fn(&str) -> Result<()>,
}

/// Where a row runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the others, in a context that outlives them.
    Shared,
    /// In a process of its own, with a context: it leaves the context unusable.
    Alone,
    /// In a process of its own before cuInit.
    BeforeInit,
}

const fn row(name: &'static str, place: Place, run: fn(&str) -> Result<()>) -> Row {
    Row { name, place, run }
}

/// All of them.
pub const ROWS: &[Row] = &[
    row(
        "not_initialized",
        Place::BeforeInit,
        values::not_initialized,
    ),
    row("init_flags", Place::Shared, values::init_flags),
    row("device_ordinal", Place::Shared, values::device_ordinal),
    row(
        "null_result_pointer",
        Place::Shared,
        values::null_result_pointer,
    ),
    row("zero_bytes", Place::Shared, values::zero_bytes),
    row("too_many_bytes", Place::Shared, values::too_many_bytes),
    row("no_context", Place::Shared, values::no_context),
    row(
        "copy_past_the_end",
        Place::Shared,
        values::copy_past_the_end,
    ),
    row(
        "memset_past_the_end",
        Place::Shared,
        values::memset_past_the_end,
    ),
    row("error_names", Place::Shared, values::error_names),
    row("broken_ptx", Place::Shared, modules::broken_ptx),
    row("not_an_image", Place::Shared, modules::not_an_image),
    row("unknown_function", Place::Shared, modules::unknown_function),
    row("unknown_global", Place::Shared, modules::unknown_global),
    row("too_many_threads", Place::Shared, modules::too_many_threads),
    row("no_threads", Place::Shared, modules::no_threads),
    row(
        "too_much_shared_memory",
        Place::Shared,
        modules::too_much_shared_memory,
    ),
    row("null_handles", Place::Shared, handles::null_handles),
    row("foreign_handles", Place::Alone, handles::foreign_handles),
    row(
        "destroyed_handles",
        Place::Alone,
        handles::destroyed_handles,
    ),
    row("double_free", Place::Shared, handles::double_free),
    row("free_inside", Place::Shared, handles::free_inside),
    row(
        "event_not_recorded",
        Place::Shared,
        handles::event_not_recorded,
    ),
    row(
        "event_without_time",
        Place::Shared,
        handles::event_without_time,
    ),
    row(
        "handles_of_another_context",
        Place::Shared,
        contexts::handles_of_another_context,
    ),
    row("after_destroy", Place::Shared, contexts::after_destroy),
    row(
        "destroyed_while_current",
        Place::Shared,
        contexts::destroyed_while_current,
    ),
    row("unknown_numbers", Place::Shared, contexts::unknown_numbers),
    row("negative_sizes", Place::Shared, contexts::negative_sizes),
    row(
        "overlapping_copies",
        Place::Shared,
        contexts::overlapping_copies,
    ),
    row("memory_runs_out", Place::Shared, contexts::memory_runs_out),
    row("not_there", Place::Shared, contexts::not_there),
    row("proc_address", Place::Shared, lookup::proc_address),
    row("proc_address_first_abi", Place::Shared, lookup::first_abi),
    row("proc_address_unknown", Place::Shared, lookup::unknown),
    row(
        "proc_address_old_version",
        Place::Shared,
        lookup::old_version,
    ),
    row("unsupported_call", Place::Shared, lookup::unsupported_call),
    row("illegal_address", Place::Alone, faults::illegal_address),
    row(
        "misaligned_address",
        Place::Alone,
        faults::misaligned_address,
    ),
    row(
        "works_after_another_process_failed",
        Place::Shared,
        faults::still_works,
    ),
];

/// Passes when the call failed with one of these.
pub fn fails(result: Result<(), Failed>, expected: &[CUresult]) -> Result<()> {
    match result {
        Err(failed) if expected.contains(&failed.result) => Ok(()),
        Err(failed) => bail!("{failed}, expected {expected:?}"),
        Ok(()) => bail!("success, expected {expected:?}"),
    }
}

/// Passes when the call failed so, or else the wait behind it: a call that is not waited for may report its
/// failure later, as the documentation of each says ("may also return error codes from previous, asynchronous
/// launches").
pub fn fails_now_or_later(result: Result<(), Failed>, expected: &[CUresult]) -> Result<()> {
    if result.is_err() {
        return fails(result, expected);
    }
    // SAFETY: no preconditions.
    fails(unsafe { crate::call!(cuCtxSynchronize()) }, expected)
}
