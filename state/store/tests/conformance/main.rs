//! What every engine behind [`setpoint_store::Log`] must do.
//!
//! One list of properties, run on each engine that is named at the end; a case is called after both. Another engine is held to it by an
//! `impl Engine` and a line there. `sqlite` has what is asked of the engine that ships alone.

mod changes;
mod client;
mod compacting;
mod engine;
mod linear;
mod model;
mod reading;
mod rules;
mod sqlite;
mod watching;
mod writing;

macro_rules! cases {
    ($engine:ident is $value:path: $($room:ident { $($property:ident)* })*) => {
        mod $engine {
            $(mod $room {
                $(#[tokio::test(flavor = "multi_thread")]
                async fn $property() {
                    crate::$room::$property(&$value).await;
                })*
            })*
        }
    };
}

macro_rules! held_to_the_suite {
    ($($engine:ident is $value:path;)*) => {
        $(cases! { $engine is $value:
            writing {
                compare_and_swap_holds
                of_many_swaps_of_one_revision_one_wins
                a_deleted_key_that_comes_back_begins_a_new_life
                values_of_every_kind_come_back_as_they_were
                a_refresh_is_seen_at_once_by_readers_and_watchers
                refreshes_and_puts_at_once_share_one_order
                refreshes_are_there_after_a_clean_close
                a_refresh_of_a_key_that_keeps_its_history_is_part_of_it
            }
            reading {
                an_empty_log_is_empty
                the_past_stays_readable
                the_future_is_refused
                lists_come_in_pages
                pages_of_one_revision_agree_amid_writes
                counts_agree_with_lists
                a_prefix_is_bytes_and_nothing_else
            }
            watching {
                watchers_see_each_change_once
                a_watch_goes_on_from_any_revision
                a_quiet_prefix_gets_a_bookmark_once_the_past_is_through
                the_first_bookmark_comes_after_the_past_and_before_the_rest
                no_bookmark_runs_ahead_of_a_change
            }
            changes {
                changes_are_what_a_watch_would_have_told
                changes_are_never_complete_beyond_what_has_happened
                changes_before_the_horizon_are_gone
                changes_carry_their_times
                a_moment_names_the_newest_revision_by_then
                a_moment_that_is_forgotten_is_none
                the_window_says_what_can_be_read
            }
            compacting {
                compaction_ends_the_past
                compaction_amid_reads_and_watches_makes_no_answer_wrong
                a_reopened_log_goes_on_where_it_was
                no_revision_comes_twice_across_compaction_and_reopen
            }
            rules {
                the_recent_past_of_keys_without_history_is_read_from_memory
                keys_without_history_have_no_past_after_a_reopen
                keys_without_history_are_forgotten_beyond_what_memory_holds
                what_expires_is_deleted_and_watchers_see_it
                beyond_their_greatest_number_the_longest_unwritten_go
                sealed_values_read_back
            }
            linear {
                histories_of_many_clients_are_linearizable
                histories_amid_compaction_are_linearizable
            }
        })*
    };
}

held_to_the_suite! {
    sqlite_on_disk is crate::engine::OnDisk;
    sqlite_in_memory is crate::engine::InMemory;
    the_model is crate::model::Model;
}
