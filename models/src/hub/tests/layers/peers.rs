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

/// The name of the weights.
fn hash() -> String {
    server::etag(WEIGHTS, &published())
}

#[test]
fn a_peer_that_comes_up_is_asked_while_the_hub_sends() {
    let first = stories();
    first.pull().unwrap();
    // Whole: something came from the hub, in one answer, and most did not.
    let second = stories();
    let neighbours = Neighbours::late(&[&first], &hash());
    let hub = second.hub_beside(&neighbours, false);
    hub.pull(&name(), None, &(), &Cancel::default()).unwrap();
    assert_eq!(second.ranges(), [None]);
    assert_eq!(second.cached(WEIGHTS).unwrap(), published());
    let (given, all) = (neighbours.given(), published().len() as u64);
    assert!(
        (all / 2..all - 500_000).contains(&given),
        "{given} of {all}"
    );
    // In part: of half of the layers.
    let third = stories();
    third
        .hub()
        .pull_part(&name(), Part::Front, &(), &Cancel::default())
        .unwrap();
    asked(&third);
    let neighbours = Neighbours::late(&[&first], &hash());
    right(&third, &neighbours, false, 2..6);
    let ranges = asked(&third);
    let (given, all) = (neighbours.given(), part_bytes(&snapshot(&third)));
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(
        (all / 2..all - 500_000).contains(&given),
        "{given} of {all}"
    );
}

#[test]
fn a_peer_that_comes_up_and_does_not_have_it_costs_nothing() {
    let nothing = Setup::empty();
    for late in [Neighbours::late, Neighbours::late_and_silent] {
        let second = stories();
        let front = Part::Front;
        let hub = second.hub();
        hub.pull_part(&name(), front, &(), &Cancel::default())
            .unwrap();
        asked(&second);
        let neighbours = late(&[&nothing], &hash());
        right(&second, &neighbours, false, 2..6);
        assert_eq!(asked(&second).len(), 1);
        // Once it was asked, and not again.
        assert_eq!(neighbours.preferred(&hash()).len(), 1);
        let third = stories();
        let neighbours = late(&[&nothing], &hash());
        let hub = third.hub_beside(&neighbours, false);
        hub.pull(&name(), None, &(), &Cancel::default()).unwrap();
        assert_eq!(third.ranges(), [None]);
        assert_eq!(neighbours.preferred(&hash()).len(), 1);
    }
}
