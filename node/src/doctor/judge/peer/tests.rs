use super::super::super::facts::Identity;
use super::super::super::link::Trips;
use super::super::super::report::Level;
use super::*;

const PLACE: &str = "192.168.1.9:50051";

fn place() -> SocketAddr {
    PLACE.parse().unwrap()
}

fn peer(dialed: Dialed) -> Peer {
    Peer {
        address: PLACE.into(),
        source: Source::Given,
        dialed: Ok(vec![(place(), dialed)]),
        voice: None,
        view: None,
        trips: Trips::default(),
        hops: Trips::default(),
        transfers: Vec::new(),
        near: true,
    }
}

fn up(voice: Voice) -> Peer {
    Peer {
        voice: Some(voice),
        ..peer(Dialed::Connected(Duration::from_micros(300)))
    }
}

fn own() -> Peer {
    up(Voice::Own(Identity {
        node: "b".into(),
        incarnation: 1,
        version: 2,
        engine: None,
    }))
}

fn trips(us: impl IntoIterator<Item = u64>) -> Trips {
    Trips::new(us.into_iter().map(Duration::from_micros).collect())
}

fn only(peer: &Peer) -> Finding {
    let all = judge(peer);
    assert_eq!(all.len(), 1, "{all:#?}");
    all[0].clone()
}

#[test]
fn ways_that_fail_are_told_apart() {
    for (dialed, words, fix) in [
        (Dialed::Refused, "nobody listens", "start exo-node there"),
        (Dialed::TimedOut, "drops it", "isolation"),
        (Dialed::Unreachable, "no way there", "one network or VPN"),
        (Dialed::Forbidden, "own firewall", "this machine's firewall"),
        (Dialed::Failed("odd".into()), "odd", "check the address"),
    ] {
        let mut peer = peer(dialed);
        let found = only(&peer);
        assert_eq!((found.check, found.level), ("reach", Level::Problem));
        assert!(found.text.contains(words), "{found:?}");
        assert!(found.fix.unwrap().contains(fix));
        peer.source = Source::Heard;
        let heard = only(&peer);
        assert_eq!(heard.check, "one_way");
        assert!(heard.text.starts_with("it announces itself, but"));
    }
    let mut came = peer(Dialed::Refused);
    came.source = Source::Known { up: true };
    assert_eq!(only(&came).level, Level::Ok);
    came.source = Source::Known { up: false };
    assert_eq!(only(&came).level, Level::Problem);
    let mut far = peer(Dialed::TimedOut);
    far.near = false;
    assert!(only(&far).fix.unwrap().contains("another network"));
    let mut tunnel = peer(Dialed::Refused);
    tunnel.dialed = Ok(vec![(([127, 0, 0, 1], 1).into(), Dialed::Refused)]);
    assert!(only(&tunnel).fix.unwrap().contains("tunnel"));
    tunnel.dialed = Err("no such host".into());
    assert_eq!(only(&tunnel).check, "name");
}

#[test]
fn of_several_addresses_one_is_enough_and_the_others_are_told() {
    let mut peer = peer(Dialed::TimedOut);
    let other: SocketAddr = "[fd00::9]:50051".parse().unwrap();
    peer.dialed = Ok(vec![
        (other, Dialed::Unreachable),
        (place(), Dialed::Connected(Duration::from_millis(1))),
    ]);
    let found = only(&peer);
    assert_eq!((found.check, found.level), ("reach", Level::Warning));
    assert!(found.fix.unwrap().contains(PLACE));
    peer.dialed = Ok(vec![
        (other, Dialed::Unreachable),
        (place(), Dialed::Refused),
    ]);
    assert!(only(&peer).text.contains("refused"), "it tells more");
}

#[test]
fn who_answers_is_told_apart() {
    let own = judge(&own());
    assert!(own.iter().all(|one| one.level == Level::Ok), "{own:#?}");
    assert!(own[1].text.starts_with("exo-node \"b\""), "{own:#?}");
    assert_eq!(judge(&up(Voice::Reference))[1].level, Level::Ok);
    for (voice, words, fix) in [
        (
            Voice::Http(Some("c".into())),
            "API of node \"c\"",
            "192.168.1.9:50051",
        ),
        (Voice::Http(None), "web server", "192.168.1.9:50051"),
        (Voice::Ssh, "secure shell", "exo-node tunnel"),
        (Voice::Tls, "TLS", "port for nodes"),
        (Voice::Silent, "says nothing", "anew"),
        (Voice::Closes, "closes them", "far end"),
        (
            Voice::Other(b"* OK\x1b".to_vec()),
            "* OK\\x1b",
            "port for nodes",
        ),
    ] {
        let all = judge(&up(voice));
        assert_eq!((all[1].check, all[1].level), ("speaks", Level::Problem));
        assert!(all[1].text.contains(words), "{all:#?}");
        let told = all[1].fix.clone().unwrap();
        assert!(told.contains(fix), "{told}");
    }
}

#[test]
fn slow_and_unsteady_ways_are_told() {
    let find = |trips: Trips| {
        let all = judge(&Peer { trips, ..own() });
        all[2].clone()
    };
    let good = find(trips((0..200).map(|n| 200 + n)));
    assert_eq!((good.check, good.level), ("round_trip", Level::Ok));
    let far = find(trips((0..200).map(|n| 50_000 + n)));
    assert_eq!(far.level, Level::Warning);
    assert!(far.text.contains("at most 40 tokens"), "{far:?}");
    let unsteady = find(trips((0..200).map(|n| if n < 180 { 900 } else { 60_000 })));
    assert_eq!(unsteady.level, Level::Warning);
    assert!(unsteady.text.ends_with("it is unsteady"), "{unsteady:?}");
}

#[test]
fn a_tunnel_without_a_session_is_told() {
    let stalled = trips((0..100).map(|n| if n < 8 { 42_000 + n } else { 200 + n }));
    for (small, hops) in [
        (Trips::default(), stalled.clone()),
        (stalled, Trips::default()),
    ] {
        let peer = Peer {
            trips: small,
            hops,
            ..own()
        };
        let all = judge(&peer);
        let found = all.iter().find(|one| one.check == "tunnel_stall").unwrap();
        assert_eq!(found.level, Level::Warning);
        assert!(found.text.starts_with("8 of 100"), "{found:?}");
    }
}

#[test]
fn large_messages_that_get_lost_are_told() {
    let transfer = |bytes, took: Option<u64>| Transfer {
        bytes,
        took: took.map(Duration::from_millis),
    };
    let mut peer = own();
    peer.transfers = vec![transfer(1024, Some(1)), transfer(1 << 20, Some(10))];
    let all = judge(&peer);
    assert!(all.iter().all(|one| one.level == Level::Ok), "{all:#?}");
    let text = "sends 1 KiB in 1.00 ms (8 Mbit/s), 1 MiB in 10 ms (839 Mbit/s)";
    assert_eq!(all.last().unwrap().text, text);
    peer.transfers = vec![transfer(1024, Some(1)), transfer(1 << 16, None)];
    let lost = judge(&peer).pop().unwrap();
    assert_eq!((lost.check, lost.level), ("large_messages", Level::Problem));
    assert!(
        lost.text
            .starts_with("messages of 1 KiB come through, but none of 64 KiB")
    );
}
