//! One body, two backends.

mod contexts;
mod events;
mod faults;
mod host_memory;
mod launches;
mod limits;
mod link;
mod mapped;
mod memory;
mod modules;
mod output;
mod random;

use std::process::{Command, ExitCode};

use vgpu_conformance::Bench;
use vgpu_fake_cuda as _; // Built, so that it can be loaded.
use vgpu_mediator::BackendChoice;
use vgpu_test_harness::fake_driver::FakeDriver;
use vgpu_test_harness::runner::{self, Skip, Test};

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
    host_memory::copies_touch_no_arena,
    host_memory::kernels_read_and_write_it,
    host_memory::the_end_of_a_piece_is_the_end,
    host_memory::other_sessions_do_not_reach_it,
    host_memory::bad_frees,
    host_memory::all_of_the_heap_and_no_more,
    host_memory::the_end_of_a_session_clears_it,
    host_memory::a_destroyed_context_frees_it,
    mapped::a_pool_grows_in_one_large_reservation,
    mapped::memory_seen_at_two_places,
    mapped::access_that_was_not_given,
    mapped::kernels_write_only_where_they_may,
    mapped::bad_mappings,
    mapped::other_sessions_do_not_see_mappings,
    events::streams_have_the_guest_s_names,
    events::unknown_streams_and_events,
    events::work_on_streams_is_done_when_they_are_synchronized,
    events::time_between_events,
    events::events_without_time,
    events::a_stream_waits_for_an_event,
    modules::globals_are_initialized,
    modules::kernels_are_listed,
    modules::names_that_are_not_there,
    modules::broken_ptx_names_its_line,
    modules::a_missing_operand_never_executes,
    modules::images_that_are_none,
    modules::unloaded_modules,
    modules::a_version_from_the_future,
    modules::attributes_of_a_kernel,
    link::two_texts_become_one_module,
    link::what_cannot_be_linked_says_why,
    launches::a_vector_sum,
    launches::geometry_that_is_too_large_or_nothing,
    launches::parameters_of_another_length,
    launches::shared_memory_beyond_the_block_s,
    launches::kernels_in_order_on_one_stream,
    launches::divergence_and_barriers,
    launches::attributes_that_are_hints_or_none,
    launches::blocks_of_a_cooperative_grid_meet,
    launches::atomics_of_many_blocks,
    launches::a_kernel_that_waits_for_what_is_posted_later,
    faults::an_illegal_address_ends_its_context,
    faults::another_session_does_not_notice,
    faults::posted_errors_come_back_once,
    faults::handles_of_other_sessions,
};

/// Limits of this project and what takes the time of a GPU.
const SOFT: &[Body] = bodies! {
    faults::cancel_ends_an_endless_kernel,
    faults::a_busy_stream_is_not_ready,
    host_memory::kernels_of_other_sessions_do_not_reach_it,
    limits::contexts,
    limits::streams,
    limits::events,
    limits::modules,
    limits::functions,
    limits::rows,
    limits::inline_copies,
    limits::logs,
    link::machine_code_is_not_linked,
    output::printf_in_order_of_launches,
    output::the_printf_fifo_is_bounded,
    output::text_that_nobody_takes_is_bounded,
    output::a_failed_assertion_ends_its_context,
    output::the_device_heap,
    output::the_stack_s_limit,
    random::calls,
};

/// Set in the process that runs [`random::calls`] against the fake driver.
const ON_FAKE: &str = "VGPU_RANDOM_ON_FAKE";

/// The random calls reach the `cuda` backend on a driver that ends its process at the first handle or address that
/// was passed on unchecked, or at a call that would wait where it cannot be stopped.
fn random_calls_on_the_fake_driver() -> Result<(), Skip> {
    let driver = FakeDriver::new("memory 1073741824");
    let output = Command::new(std::env::current_exe().expect("path"))
        .env(ON_FAKE, "1")
        .env("VGPU_LIBCUDA", &driver.library)
        .env("VGPU_LIBNVML", "none")
        .output()
        .expect("the test program starts");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn main() -> ExitCode {
    if std::env::var_os(ON_FAKE).is_some() {
        random::calls(&Bench(BackendChoice::Cuda));
        return ExitCode::SUCCESS;
    }
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
    let fake = Test::new("random::calls_fake_driver", random_calls_on_the_fake_driver);
    runner::main(both.chain(soft).chain([fake]).collect())
}
