//! The device in QEMU.

mod configuration;
mod driver;
mod lifecycle;
mod wiring;

use std::process::ExitCode;

use vgpu_qtest::{Board, binary};
use vgpu_test_harness::device_bodies;
use vgpu_test_harness::runner::{self, Test};

macro_rules! bodies {
    ($($module:ident::$name:ident,)*) => {
        vec![$((
            concat!("device::", stringify!($module), "::", stringify!($name)),
            vgpu_test_harness::bodies::$module::$name::<Board> as fn(),
        ),)*]
    };
}

macro_rules! own {
    ($($module:ident::$name:ident,)*) => {
        vec![$((concat!(stringify!($module), "::", stringify!($name)), $module::$name as fn()),)*]
    };
}

fn main() -> ExitCode {
    let own: Vec<(&str, fn())> = own! {
        configuration::h100_identity,
        configuration::stub_identity,
        configuration::bar1_has_the_size_that_was_asked_for,
        configuration::help_tells_every_property,
        configuration::bad_values_are_refused_by_name,
        configuration::values_at_their_limits,
        driver::hosts_that_cannot_be_used_are_refused_with_the_remedy,
        driver::a_host_without_cublas_says_so_and_starts,
        driver::a_failure_in_mid_stream_is_the_guests_error,
        driver::a_gpu_that_falls_off_the_bus_takes_nothing_else_along,
        driver::sessions_are_in_processes_of_their_own,
        wiring::a_doorbell_write_is_an_eventfd,
        wiring::the_interrupt_pin,
        wiring::masked_messages_stay_pending,
        wiring::messages_to_the_device_itself,
        wiring::the_device_behind_a_root_port,
        wiring::two_devices,
        lifecycle::a_machine_reset_in_mid_command,
        lifecycle::a_bus_reset,
        lifecycle::hot_unplug_frees_everything,
        lifecycle::hot_unplug_of_a_computing_device,
        lifecycle::quit_with_an_endless_kernel,
        lifecycle::migration_is_refused,
        lifecycle::savevm_is_refused,
    };
    let bodies: Vec<(&str, fn())> = device_bodies!(bodies);
    let test = |(name, body): (&str, fn())| {
        Test::new(name, move || {
            binary()?;
            body();
            Ok(())
        })
    };
    runner::main(own.into_iter().chain(bodies).map(test).collect())
}
