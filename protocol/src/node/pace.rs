//! Whether the way to a peer is as quick as it was.

use super::Node;
use super::address::median;
use super::output::Event;
use super::peer::PeerKey;
use crate::id::ConnectionId;
use alloc::vec::Vec;
use core::time::Duration;

/// Round trips that are judged together.
const TRIPS: usize = 5;

/// Whether a link is as quick as it was, by the round trips of quiet times.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Vec<Duration>,
    /// The least median so far.
    usual: Option<Duration>,
    /// That it got slower was told.
    told: bool,
}

impl Pace {
    /// A round trip was measured. Says what it is now and what it was before, when it has become
    /// clearly slower: three times, and by what people notice in an answer.
    pub(super) fn note(&mut self, trip: Duration) -> Option<(Duration, Duration)> {
        self.last.push(trip);
        if self.last.len() < TRIPS {
            return None;
        }
        let now = median(core::mem::take(&mut self.last))?;
        let usual = *self.usual.get_or_insert(now);
        self.usual = Some(usual.min(now));
        let slow = now > usual * 3 && now > usual + Duration::from_millis(5);
        let news = slow && !self.told;
        // In between it is neither.
        self.told = slow || self.told && now > usual * 2;
        news.then_some((now, usual))
    }
}

impl Node {
    /// The round trip of a quiet connection was measured: that of the way to its peer counts.
    pub(super) fn pace_of(&mut self, id: ConnectionId, trip: Duration) {
        if let Some(key) = self.used_for(id) {
            self.note_pace(key, trip);
        }
    }

    /// The peer to which a connection is the way.
    pub(super) fn used_for(&self, id: ConnectionId) -> Option<PeerKey> {
        self.peer_of(id).filter(|key| {
            let peer = self.peers.get(key);
            peer.is_some_and(|peer| self.route(peer) == Some(id))
        })
    }

    /// The round trip of the way to a peer was measured while nothing else went over it.
    pub(super) fn note_pace(&mut self, key: PeerKey, trip: Duration) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let (Some((rtt, before)), Some(node)) = (peer.pace.note(trip), peer.node.clone()) {
            let address = peer.address.clone();
            self.tell(Event::LinkSlow {
                node,
                address,
                rtt,
                before,
            });
            self.look_soon(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_got_slower_is_told_once_until_it_is_quick_again() {
        let mut pace = Pace::default();
        let mut note = |micros: u64| {
            let all = (0..TRIPS).map(|_| pace.note(Duration::from_micros(micros)));
            all.flatten().count()
        };
        let told: Vec<usize> = [500, 900, 4000, 48_000, 60_000, 1_400, 48_000, 700, 48_000]
            .map(&mut note)
            .into();
        assert_eq!(told, [0, 0, 0, 1, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn one_slow_answer_is_nothing() {
        let mut pace = Pace::default();
        for round in 0..100 {
            let trip = if round % 5 == 0 { 300 } else { 1 };
            assert_eq!(pace.note(Duration::from_millis(trip)), None);
        }
    }
}
