//! One body, two backends.

mod contexts;
mod events;
mod faults;
mod launches;
mod limits;
mod memory;
mod modules;
mod random;

use std::process::ExitCode;

use vgpu_conformance::Bench;
use vgpu_mediator::BackendChoice;
use vgpu_test_harness::runner::{self, Test};

type Body = (&'static str, fn(&Bench));

macro_rules! bodies {
    ($($module:ident::$name:ident,)*) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn(&Bench)),)*]
    };
}

/// Bodies for both backends.
const BOTH: &[Body] = bodies! {
    contexts::nothing_works_before_init,
    contexts::init_takes_no_flags,
    contexts::only_device_0_exists,
    contexts::the_primary_context_counts_its_users,
    contexts::own_contexts,
    contexts::unknown_contexts,
    contexts::a_destroyed_context_frees_all_it_had,
    contexts::limits_of_a_context,
    contexts::the_device_table,
    memory::addresses_are_aligned,
    memory::bad_sizes,
    memory::copies_of_every_size,
    memory::copies_through_the_arena,
    memory::copies_within_the_device,
    memory::copies_past_the_end,
    memory::double_and_foreign_frees,
    memory::sets_of_each_width,
    memory::sets_of_rows,
    memory::bad_sets,
    memory::pitched_memory,
    memory::the_vm_s_share,
    events::streams_have_the_guest_s_names,
    events::unknown_streams_and_events,
    events::work_on_streams_is_done_when_they_are_synchronized,
    events::time_between_events,
    events::events_without_time,
    events::a_stream_waits_for_an_event,
    modules::globals_are_initialized,
    modules::names_that_are_not_there,
    modules::broken_ptx_names_its_line,
    modules::a_missing_operand_never_executes,
    modules::images_that_are_none,
    modules::unloaded_modules,
    modules::a_version_from_the_future,
    modules::attributes_of_a_kernel,
    launches::a_vector_sum,
    launches::geometry_that_is_too_large_or_nothing,
    launches::parameters_of_another_length,
    launches::shared_memory_beyond_the_block_s,
    launches::kernels_in_order_on_one_stream,
    launches::divergence_and_barriers,
    launches::atomics_of_many_blocks,
    faults::an_illegal_address_ends_its_context,
    faults::another_session_does_not_notice,
    faults::posted_errors_come_back_once,
    faults::handles_of_other_sessions,
};

/// Limits of this project and what takes the time of a GPU.
const SOFT: &[Body] = bodies! {
    faults::cancel_ends_an_endless_kernel,
    faults::a_busy_stream_is_not_ready,
    limits::contexts,
    limits::streams,
    limits::events,
    limits::modules,
    limits::functions,
    limits::rows,
    limits::inline_copies,
    limits::logs,
    random::calls,
};

fn main() -> ExitCode {
    let twin = |(name, body): Body, choice, suffix: &str| {
        Test::new(format!("{name}_{suffix}"), move || {
            let bench = Bench(choice);
            bench.available()?;
            body(&bench);
            Ok(())
        })
    };
    let both = BOTH.iter().flat_map(|body| {
        [
            twin(*body, BackendChoice::Soft, "soft"),
            twin(*body, BackendChoice::Cuda, "cuda"),
        ]
    });
    let soft = SOFT
        .iter()
        .map(|body| twin(*body, BackendChoice::Soft, "soft"));
    runner::main(both.chain(soft).collect())
}
