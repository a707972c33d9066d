//! Graphs, captures, functions of the program in streams, and the order of streams.

mod capture;
mod contexts;
mod explicit;
mod functions;
mod ordering;
pub(crate) mod raw;
mod update;

use crate::cases::Case;

/// All of them.
pub const CASES: &[Case] = &[
    ("capture_linear", capture::linear),
    ("capture_forked", capture::forked),
    ("capture_illegal", capture::illegal),
    ("capture_modes", capture::modes),
    ("capture_dependencies", capture::dependencies),
    ("capture_to_graph", capture::to_graph),
    ("nodes_of_every_kind", explicit::every_kind),
    ("edges", explicit::edges),
    ("clones", explicit::clones),
    ("children", explicit::children),
    ("bad_graphs", explicit::bad),
    ("user_objects", explicit::user_objects),
    ("params", explicit::params),
    ("dot", explicit::dot),
    ("updates", update::table),
    ("update_of_nodes", update::nodes),
    ("switched_off", update::switched_off),
    ("host_functions", functions::in_order),
    ("host_function_of_a_graph", functions::in_graph),
    ("stream_callbacks", functions::callbacks),
    ("many_behind_a_function", functions::many_behind),
    ("memory_words", functions::words),
    ("events_of_contexts", contexts::events),
    ("bad_events_of_contexts", contexts::bad_events),
    ("legacy_stream", ordering::legacy),
    ("random_orders", ordering::random),
];
