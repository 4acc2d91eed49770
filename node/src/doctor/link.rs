//! What round trips tell of a way, without anybody's clock but this machine's.

use std::time::Duration;

/// Round trips in order of their length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trips(Vec<Duration>);

impl Trips {
    /// Sorts them.
    #[must_use]
    pub fn new(mut trips: Vec<Duration>) -> Self {
        trips.sort_unstable();
        Self(trips)
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The shortest.
    #[must_use]
    pub fn min(&self) -> Option<Duration> {
        self.0.first().copied()
    }

    /// The one that `percent` of them are not longer than.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The usual one.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        self.percentile(50)
    }

    /// How far trips usually are from the usual one: the median of the distances from the median,
    /// which single trips that the system held up do not move.
    #[must_use]
    pub fn jitter(&self) -> Option<Duration> {
        let median = self.median()?;
        let distances = self.0.iter().map(|trip| trip.abs_diff(median)).collect();
        Self::new(distances).median()
    }

    /// How many of them took as long as only a delayed acknowledgement takes.
    #[must_use]
    pub fn stalls(&self) -> usize {
        self.between(STALL.0, STALL.1)
    }

    /// How many of them took at least `from` and less than `to`.
    fn between(&self, from: Duration, to: Duration) -> usize {
        let inside = |trip: &&Duration| (from..to).contains(*trip);
        self.0.iter().filter(inside).count()
    }
}

/// Linux holds an acknowledgement back for 40 ms when nothing else is to be sent. Who has switched
/// Nagle's algorithm on waits for it with the rest of a message.
const STALL: (Duration, Duration) = (Duration::from_millis(35), Duration::from_millis(50));

/// A way on which usual trips are longer hides the stall.
const QUICK: Duration = Duration::from_millis(15);

/// Whether the trips have the pattern of `ssh -N -L`: quick, but for a share that waits for a
/// delayed acknowledgement. The share grows with the size of messages; among 2000 trips over such a
/// tunnel it was 2 % with 2 KiB, 8 % with 8 KiB and 17 % with 16 KiB, and none with any other.
#[must_use]
pub fn stalls(trips: &Trips) -> bool {
    let Some(median) = trips.median() else {
        return false;
    };
    let stalls = trips.stalls();
    // One may have any reason; and a way that is merely unsteady has trips of every length.
    median < QUICK
        && stalls >= 2
        && stalls * 100 >= trips.count()
        && stalls >= 2 * trips.between(QUICK, STALL.0)
}

/// Messages of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Bytes of payload.
    pub bytes: usize,
    /// The usual time from the first byte to the answer; none when it did not come in time.
    pub took: Option<Duration>,
}

impl Transfer {
    /// Payload bytes a second, the way back of a small answer included.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.took?.as_secs_f64();
        (seconds > 0.0).then(|| self.bytes as f64 / seconds)
    }
}

/// The smallest size of messages that do not come through where smaller ones do, and the largest
/// size below it.
#[must_use]
pub fn swallowed(transfers: &[Transfer]) -> Option<(usize, usize)> {
    let lost = transfers.iter().find(|transfer| transfer.took.is_none())?;
    let smaller = |one: &&Transfer| one.took.is_some() && one.bytes < lost.bytes;
    let passed = transfers.iter().filter(smaller).map(|one| one.bytes).max();
    Some((lost.bytes, passed.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(trips: &[u64]) -> Trips {
        Trips::new(trips.iter().map(|&us| Duration::from_micros(us)).collect())
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let trips = micros(&[5, 1, 3, 2, 4, 100, 7, 6, 8, 9]);
        let us = Duration::from_micros;
        assert_eq!(trips.min(), Some(us(1)));
        assert_eq!(trips.median(), Some(us(5)));
        assert_eq!(trips.percentile(95), Some(us(100)));
        assert_eq!(trips.percentile(90), Some(us(9)));
        assert_eq!(trips.jitter(), Some(us(2)));
        let none = micros(&[]);
        assert_eq!(
            (none.min(), none.median(), none.jitter()),
            (None, None, None)
        );
        assert!(!stalls(&none));
    }

    /// As measured over OpenSSH 9.2 on loopback: percentiles of 2000 trips.
    fn tunnel(quick: u64, stalled: usize, of: usize) -> Trips {
        let trip = |number: usize| match number < stalled {
            true => 41_000 + 700 * (number as u64 % 4),
            false => quick + 7 * (number as u64 % 11),
        };
        micros(&(0..of).map(trip).collect::<Vec<_>>())
    }

    #[test]
    fn the_tunnel_stall_is_recognised() {
        for stalled in [41, 167, 333] {
            assert!(stalls(&tunnel(140, stalled, 2000)), "{stalled}");
        }
        assert!(stalls(&tunnel(302, 8, 100)));
        // The same tunnel with a remote command, a bare connection, and one with a hiccup.
        for (quick, stalled) in [(167, 0), (27, 0), (300, 1), (300, 19)] {
            assert!(!stalls(&tunnel(quick, stalled, 2000)), "{stalled}");
        }
        // A way of 40 ms is only long.
        assert!(!stalls(&tunnel(40_000, 100, 2000)));
        // Wireless jitter is no stall: it is anywhere.
        let wireless: Vec<u64> = (0..200).map(|n| 3000 + n * n * 4).collect();
        let wireless = micros(&wireless);
        assert!(wireless.stalls() > 2 && !stalls(&wireless));
    }

    #[test]
    fn sizes_that_do_not_pass_are_found() {
        let transfer = |bytes, ms: Option<u64>| Transfer {
            bytes,
            took: ms.map(Duration::from_millis),
        };
        let all = [transfer(1024, Some(1)), transfer(1 << 20, Some(20))];
        assert_eq!(swallowed(&all), None);
        let large = [transfer(1024, Some(1)), transfer(65_536, None)];
        assert_eq!(swallowed(&large), Some((65_536, 1024)));
        assert_eq!(swallowed(&[transfer(1024, None)]), Some((1024, 0)));
        assert_eq!(transfer(2000, Some(2)).rate(), Some(1_000_000.0));
        assert_eq!(transfer(2000, None).rate(), None);
    }
}
