//! What must hold in every run of the simulator, one property per file.
//!
//! Each file begins with its property. A checker looks at what it is given and says in words what
//! is wrong; the simulator adds the seed, the time and the command that shows it again.

pub(crate) mod best_address;
pub mod determinism;
pub(crate) mod downloads_seen;
pub(crate) mod everything_ends;
pub(crate) mod jobs_end;
pub(crate) mod layers_in_order;
pub(crate) mod limits;
pub(crate) mod losses_once_in_order;
pub(crate) mod nothing_impossible;
pub(crate) mod nothing_left;
pub(crate) mod peers_stay;
pub(crate) mod placement_covers;
pub(crate) mod prediction_holds;
pub mod replays;
pub(crate) mod tokens_once_in_order;

/// Says what is wrong, unless `holds`.
pub(crate) fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
