//! In a ring where nothing strikes, and in which there is nothing new to be measured, a request takes
//! as long as was predicted of it.
//!
//! Broken on purpose: stages take the embedding and the head for work at every position, seed 1 with 4
//! hosts shows it; a prompt counts as one piece, seed 0 with 3 hosts; of a token only the way forth
//! counts, and not back to the first stage, seed 94 with 5 hosts.

use super::must;
use crate::sim::Forecast;
use std::time::Duration;

/// What is told of links and engines has two digits, at first, and each may be off by a twentieth. (It
/// may be a third off before it is told anew, but here it does not change.)
const OFF: f64 = 0.1;

/// Beside networks and engines nothing takes longer.
const GRACE: Duration = Duration::from_millis(2);

/// Both times are about what was predicted.
pub(crate) fn check(seen: &Forecast) -> Result<(), String> {
    let (ring, told) = (&seen.ring, &seen.placement.ring);
    must(ring == told, || {
        format!("{told:?} was told, {ring:?} taken")
    })?;
    let pairs = [
        ("the first token", seen.predicted.first, seen.first),
        ("each further token", seen.predicted.token, seen.token),
    ];
    for (what, predicted, came) in pairs {
        let off = came.abs_diff(predicted).saturating_sub(GRACE + seen.skew);
        let most = predicted.max(came).mul_f64(OFF);
        must(off <= most, || {
            let placement = &seen.placement;
            format!("{what} came after {came:?}, predicted were {predicted:?}: {placement:?}")
        })?;
    }
    Ok(())
}
