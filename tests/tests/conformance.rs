//! Both runtimes keep the driver's contract, alone and with each other.

use exo_tests::conformance::Kind::{self, Smol, Std};
use exo_tests::conformance::{asks, broadcast, calls, pairs, rules, streams, weather};
use std::sync::{PoisonError, RwLock};

/// Some checks count what the whole process holds: nothing else runs meanwhile.
static PROCESS: RwLock<()> = RwLock::new(());

fn beside_others(check: fn(Kind), kind: Kind) {
    let _shared = PROCESS.read().unwrap_or_else(PoisonError::into_inner);
    check(kind);
}

fn alone(check: fn(Kind), kind: Kind) {
    let _alone = PROCESS.write().unwrap_or_else(PoisonError::into_inner);
    check(kind);
}

macro_rules! checks {
    ($($runtime:ident = $kind:ident),*: $run:ident $checks:tt) => {
        $(checks!(@ $runtime $kind $run $checks);)*
    };
    (@ $runtime:ident $kind:ident $run:ident { $($module:ident::$check:ident),* $(,)? }) => {
        mod $runtime {
            use super::*;

            $(
                #[test]
                fn $check() {
                    $run($module::$check, $kind);
                }
            )*
        }
    };
}

checks! { on_std = Std, on_smol = Smol: beside_others {
    rules::every_output_of_an_input_is_carried_out,
    rules::deadlines_are_kept,
    rules::silence_is_noticed,
    streams::no_connection_gets_the_answers_of_another,
    streams::opened_comes_first_and_lost_last,
    streams::messages_come_in_order,
    streams::steps_come_in_order,
    streams::messages_wait_in_order,
    streams::sent_means_sent,
    rules::dials_end,
    calls::calls_end,
    calls::what_the_engine_measures_is_told,
    calls::calls_that_wait_come_together,
    calls::a_batch_that_breaks_is_completed,
    calls::a_forgotten_call_is_completed,
    calls::a_stop_leaves_what_waits_unexecuted,
    rules::nobody_holds_up_the_node,
    streams::progress_is_told,
    streams::progress_is_a_sign_of_life,
    rules::a_full_inbox_slows_the_peers_down,
    broadcast::announcements_go_out_and_come_in,
    asks::asks_end,
    asks::visitors_are_answered,
    asks::idle_visitors_keep_nobody_out,
    weather::junk_costs_its_own_connection_only,
    weather::half_a_frame_is_noticed,
    weather::an_oversize_announcement_is_refused,
    weather::a_later_version_is_read_over,
    weather::a_panic_ends_the_runtime,
} }

checks! { alone_on_std = Std, alone_on_smol = Smol: alone {
    weather::two_hundred_visitors_leave_nothing,
    weather::shutdown_leaves_nothing,
} }

macro_rules! pairings {
    ($($pairing:ident = $near:ident, $far:ident;)*) => {
        $(
            mod $pairing {
                use super::*;

                fn pair(check: fn(Kind, Kind)) {
                    let _shared = PROCESS.read().unwrap_or_else(PoisonError::into_inner);
                    check($near, $far);
                }

                #[test]
                fn a_ring_answers_from_both_ends() {
                    pair(pairs::a_ring_answers_from_both_ends);
                }

                #[test]
                fn one_clock_measures_everything() {
                    pair(pairs::one_clock_measures_everything);
                }

                #[test]
                fn a_large_tensor_passes() {
                    pair(pairs::a_large_tensor_passes);
                }

                #[test]
                fn a_node_that_goes_is_missed() {
                    pair(pairs::a_node_that_goes_is_missed);
                }
            }
        )*
    };
}

pairings! {
    std_std = Std, Std;
    smol_smol = Smol, Smol;
    std_smol = Std, Smol;
    smol_std = Smol, Std;
}
