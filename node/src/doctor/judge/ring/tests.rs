use super::super::super::facts::{Dialed, KnownPeer, View};
use super::super::super::link::Trips;
use super::super::super::report::Level;
use super::*;
use std::time::Duration;

fn peer(node: &str, incarnation: u64, lists: &[&str]) -> Peer {
    let address = format!("10.0.0.9:{incarnation}");
    Peer {
        dialed: Ok(vec![(
            address.parse().unwrap(),
            Dialed::Connected(Duration::ZERO),
        )]),
        address,
        source: Source::Given,
        voice: Some(Voice::Own(Identity {
            node: node.into(),
            incarnation,
            version: 2,
            engine: None,
        })),
        view: Some(View {
            node: Some(node.into()),
            machine: None,
            peers: lists.iter().map(|&id| id.into()).collect(),
        }),
        trips: Trips::default(),
        hops: Trips::default(),
        transfers: Vec::new(),
        near: true,
    }
}

fn here() -> Here {
    Here {
        node: Some("a".into()),
        incarnation: Some(7),
        stored: None,
    }
}

fn running(up: &[&str]) -> Running {
    let known = |&id: &&str| KnownPeer {
        node: Some(id.into()),
        address: "10.0.0.9:1".into(),
        up: true,
    };
    Running {
        node: "a".into(),
        version: None,
        incarnation: Some(7),
        peers: up.iter().map(known).collect(),
    }
}

fn level(peer: &Peer, up: &[&str]) -> (Level, String) {
    let running = running(up);
    let all = judge(peer, &here(), Some(&running), None);
    assert_eq!((all.len(), all[0].check), (1, "one_way"), "{all:#?}");
    (all[0].level, all[0].text.clone())
}

#[test]
fn one_way_is_told_from_both() {
    assert_eq!(level(&peer("b", 1, &["a"]), &["b"]).0, Level::Ok);
    let (worst, text) = level(&peer("b", 1, &[]), &["b"]);
    assert_eq!(worst, Level::Warning);
    assert!(text.contains("which does not know it"), "{text}");
    let (worst, text) = level(&peer("b", 1, &["a"]), &["c"]);
    assert_eq!(worst, Level::Warning);
    assert!(text.contains("not connected to it"), "{text}");
    let (worst, text) = level(&peer("b", 1, &["c"]), &[]);
    assert_eq!(worst, Level::Warning);
    assert!(text.contains("not in one ring"), "{text}");
}

#[test]
fn without_a_node_here_there_is_nothing_to_compare() {
    let nobody = Here::default();
    assert!(judge(&peer("b", 1, &["a"]), &nobody, None, None).is_empty());
    // Its API is not known, but its id is.
    let found = judge(&peer("b", 1, &["a"]), &here(), None, None);
    assert_eq!(found[0].level, Level::Ok);
}

#[test]
fn who_is_near_should_be_heard() {
    let from: IpAddr = [10, 0, 0, 9].into();
    let heard = [(from, "c".to_owned())];
    let find = |peer: &Peer, heard: &[(IpAddr, String)]| {
        let all = judge(peer, &Here::default(), None, Some(heard));
        all.first().map(|one| (one.check, one.level))
    };
    let silent = Some(("not_heard", Level::Warning));
    assert_eq!(find(&peer("b", 1, &[]), &heard), silent);
    assert_eq!(find(&peer("c", 1, &[]), &heard), None);
    let mut far = peer("b", 1, &[]);
    far.near = false;
    assert_eq!(find(&far, &heard), None);
}

#[test]
fn clones_are_told_and_the_same_node_twice_is_none() {
    let twice = [peer("b", 1, &[]), peer("b", 1, &[]), peer("c", 2, &[])];
    assert!(duplicates(&here(), &twice).is_empty());
    let own = [peer("a", 7, &[])];
    assert!(duplicates(&here(), &own).is_empty());
    assert_eq!(judge(&own[0], &here(), None, None)[0].check, "same_node");
    let clone = [peer("a", 8, &[])];
    let found = duplicates(&here(), &clone);
    assert_eq!((found.len(), found[0].level), (1, Level::Problem));
    assert!(found[0].text.contains("this machine"), "{found:?}");
    let resting = Here {
        stored: Some("a".into()),
        ..Here::default()
    };
    let found = duplicates(&resting, &clone);
    assert_eq!((found.len(), found[0].check), (1, "duplicate_id"));
    let others = [peer("b", 1, &[]), peer("b", 2, &[])];
    let found = duplicates(&Here::default(), &others);
    assert!(
        found[0].text.contains("10.0.0.9:1 and at 10.0.0.9:2"),
        "{found:?}"
    );
}
