//! Tests of the device that run on any [`Machine`](crate::Machine): the same bodies check the
//! device alone in this process and the device in QEMU.

#[allow(missing_docs, reason = "the names say it")]
pub mod bounded;
#[allow(missing_docs, reason = "the names say it")]
pub mod calls;
#[allow(missing_docs, reason = "the names say it")]
pub mod channels;
#[allow(missing_docs, reason = "the names say it")]
pub mod hostile;
#[allow(missing_docs, reason = "the names say it")]
pub mod interrupts;
#[allow(missing_docs, reason = "the names say it")]
pub mod registers;

/// Invokes `$then!` with module and name of every body.
#[macro_export]
macro_rules! device_bodies {
    ($then:ident) => {
        $then! {
            registers::control_registers_reset_and_access,
            registers::channel_registers_reset_and_access,
            registers::other_sizes_and_alignments_reach_nothing,
            registers::holes_read_zero_and_ignore_writes,
            registers::the_reset_key,
            registers::a_library_of_another_build,
            channels::claim_and_release,
            channels::a_claim_clears_the_indices,
            channels::a_claimed_channel_cannot_be_claimed,
            channels::channels_that_the_device_does_not_have,
            channels::all_channels_at_once,
            channels::device_reset_frees_every_channel,
            channels::release_and_claim_many_times,
            calls::device_memory_round_trip,
            calls::copies_through_the_arena,
            calls::a_kernel_adds_vectors,
            calls::broken_ptx_names_line_and_column,
            calls::posted_errors_wait_for_a_call_that_waits,
            calls::counters_agree_with_what_was_called,
            calls::unknown_calls_are_refused,
            calls::malformed_payloads_are_refused,
            calls::a_message_longer_than_the_ring,
            calls::a_reply_longer_than_a_record,
            calls::a_sleeping_worker_needs_the_doorbell,
            calls::a_burst_needs_few_doorbells,
            calls::many_calls_wrap_both_rings,
            calls::sessions_do_not_share_handles,
            calls::memory_is_given_back,
            calls::reset_ends_an_endless_kernel,
            hostile::impossible_ends,
            hostile::impossible_lengths,
            hostile::impossible_reply_heads,
            hostile::fragments_that_do_not_continue,
            hostile::messages_at_and_above_their_limit,
            hostile::any_header,
            hostile::a_guest_that_never_reads_its_replies,
            hostile::half_messages_hold_bounded_memory,
            hostile::work_that_piles_up_waits_at_the_ring,
            hostile::random_bytes_everywhere,
            hostile::a_ring_rewritten_while_it_is_read,
            hostile::words_of_the_host_rewritten,
            hostile::doorbell_floods,
            bounded::a_guest_that_rings_without_writing,
            bounded::a_guest_that_does_nothing_wakes_nobody,
            bounded::a_guest_that_holds_its_ring_full,
            bounded::a_guest_that_claims_all_channels,
            bounded::a_reset_under_load_leaves_nothing,
            bounded::bars_that_are_hidden_while_work_is_in_flight,
            interrupts::a_parked_guest_is_interrupted,
            interrupts::nobody_is_interrupted_who_did_not_ask,
            interrupts::channels_have_their_own_bits,
        }
    };
}
