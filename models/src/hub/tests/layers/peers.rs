//! Ranges of bytes that come from other machines.

use std::sync::{Arc, Mutex};

use super::*;
use crate::hub::{PeerPart, Peers, Shared};

/// Another machine's hub, asked in person.
#[derive(Debug)]
struct Neighbour {
    hub: Hub,
    blamed: Mutex<usize>,
    spoil: bool,
}

impl Peers for Neighbour {
    fn part(
        &self,
        name: &str,
        from: u64,
        length: u32,
        _: Option<&str>,
        _: &Cancel,
    ) -> Option<PeerPart> {
        let spoiled = self.spoil && *self.blamed.lock().unwrap() == 0;
        match self.hub.share(name, from, length) {
            Shared::Here(size, mut bytes) | Shared::Coming(size, mut bytes)
                if !bytes.is_empty() =>
            {
                if spoiled {
                    bytes.iter_mut().for_each(|byte| *byte ^= 1);
                }
                Some(PeerPart {
                    node: "n".to_owned(),
                    size,
                    bytes,
                })
            }
            _ => None,
        }
    }

    fn blame(&self, _: &str, _: &str) {
        *self.blamed.lock().unwrap() += 1;
    }
}

fn neighbour(setup: &Setup, spoil: bool) -> Arc<Neighbour> {
    Arc::new(Neighbour {
        hub: setup.hub(),
        blamed: Mutex::default(),
        spoil,
    })
}

#[test]
fn peers_give_the_ranges_that_they_have() {
    let first = stories();
    layers(&first, 1..4).unwrap();
    let second = stories();
    let options = HubOptions {
        peers: Some(neighbour(&first, false)),
        ..second.options()
    };
    let hub = Hub::new(options);
    let pulled = hub
        .pull(&name(), Some(2..6), &(), &Cancel::default())
        .unwrap();
    same(
        &Model::open(&pulled.path).unwrap().weights(2..6).unwrap(),
        2..6,
    );
    // Two of the four layers left the hub.
    let ranges = asked(&second);
    assert!(bytes(&ranges) < published().len() as u64 / 3, "{ranges:?}");
    // A list says what there is in part, so that the hub is not needed at all.
    let third = stories();
    let options = HubOptions {
        offline: true,
        peers: Some(neighbour(&second, false)),
        ..third.options()
    };
    let hub = Hub::new(options);
    let pulled = hub
        .pull(&name(), Some(2..6), &(), &Cancel::default())
        .unwrap();
    same(
        &Model::open(&pulled.path).unwrap().weights(2..6).unwrap(),
        2..6,
    );
    let refused = hub.pull(&name(), Some(0..6), &(), &Cancel::default());
    assert!(
        matches!(refused, Err(HubError::Offline { .. })),
        "{refused:?}"
    );
    assert!(third.server.asked().is_empty());
}

#[test]
fn a_beginning_that_a_peer_spoiled_comes_from_the_hub() {
    let first = stories();
    first.pull().unwrap();
    let second = stories();
    let neighbour = neighbour(&first, true);
    // Nothing but the beginning can be judged before all is here.
    let options = HubOptions {
        peers: Some(neighbour.clone()),
        ..second.options()
    };
    let hub = Hub::new(options);
    hub.pull(&name(), None, &(), &Cancel::default()).ok();
    let wrong = *neighbour.blamed.lock().unwrap();
    *neighbour.blamed.lock().unwrap() = 0;
    second.hub().remove(&name()).unwrap();
    let pulled = hub
        .pull(&name(), Some(2..3), &(), &Cancel::default())
        .unwrap();
    assert!(wrong > 0 && *neighbour.blamed.lock().unwrap() > 0);
    same(
        &Model::open(&pulled.path).unwrap().weights(2..3).unwrap(),
        2..3,
    );
}
