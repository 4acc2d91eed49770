//! Ranges of bytes that come from other machines.

use std::sync::Arc;

use super::{super::neighbours::Neighbours, *};

/// Pulls these layers with such neighbours; they are those of the model.
fn right(setup: &Setup, neighbours: &Arc<Neighbours>, offline: bool, layers: Range<u32>) {
    let hub = setup.hub_beside(neighbours, offline);
    let pulled = hub.pull(&name(), Some(layers.clone()), &(), &Cancel::default());
    let model = Model::open(&pulled.unwrap().path).unwrap();
    same(&model.weights(layers.clone()).unwrap(), layers);
}

#[test]
fn peers_give_the_ranges_that_they_have() {
    let first = stories();
    layers(&first, 1..4).unwrap();
    let second = stories();
    right(&second, &Neighbours::new(&[&first]), false, 2..6);
    // Two of the four layers left the hub.
    let ranges = asked(&second);
    assert!(bytes(&ranges) < published().len() as u64 / 3, "{ranges:?}");
    // A list says what there is in part, so that the hub is not needed at all.
    let third = stories();
    let neighbours = Neighbours::new(&[&second]);
    right(&third, &neighbours, true, 2..6);
    let hub = third.hub_beside(&neighbours, true);
    let refused = hub.pull(&name(), Some(0..6), &(), &Cancel::default());
    assert!(
        matches!(refused, Err(HubError::Offline { .. })),
        "{refused:?}"
    );
    // Another one has what this one lacks.
    right(&third, &Neighbours::new(&[&second, &first]), true, 1..6);
    assert!(third.server.asked().is_empty());
}

#[test]
fn a_beginning_that_a_peer_spoiled_comes_from_the_hub() {
    let first = stories();
    first.pull().unwrap();
    let second = stories();
    let neighbours = Neighbours::spoiling(&[&first]);
    // Nothing but the beginning can be judged before all is here.
    let hub = second.hub_beside(&neighbours, false);
    hub.pull(&name(), None, &(), &Cancel::default()).ok();
    assert!(neighbours.blamed() > 0);
    second.hub().remove(&name()).unwrap();
    right(&second, &neighbours, false, 2..3);
    assert!(neighbours.blamed() > 0);
}
