//! In a ring where nothing strikes, a request takes as long as was predicted of it.

use super::must;
use crate::sim::Forecast;
use std::time::Duration;

/// What is told of links and engines may be a third off before it is told anew.
const OFF: f64 = 0.34;

/// A step in a driver, a message in a queue: beside networks and engines nothing takes longer.
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
        let off = came.abs_diff(predicted).saturating_sub(GRACE);
        let most = predicted.max(came).mul_f64(OFF);
        must(off <= most, || {
            let placement = &seen.placement;
            format!("{what} came after {came:?}, predicted were {predicted:?}: {placement:?}")
        })?;
    }
    Ok(())
}
