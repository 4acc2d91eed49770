use super::*;
use crate::time::Instant;
use alloc::vec;
use core::time::Duration;

const STATUS: &str = r#"{"Version": "1.90.6", "BackendState": "Running",
  "TailscaleIPs": ["100.101.102.103", "fd7a:115c:a1e0::1"],
  "Self": {"ID": "nOWN1CNTRL", "HostName": "here", "DNSName": "here.tail1234.ts.net.",
    "OS": "linux", "TailscaleIPs": ["100.101.102.103", "fd7a:115c:a1e0::1"], "Online": true,
    "CapMap": {"https://tailscale.com/cap/is-admin": null}},
  "Peer": {
    "nodekey:aa": {"ID": "nMAC2CNTRL", "HostName": "mac2", "OS": "macOS", "Online": true,
      "TailscaleIPs": ["100.64.0.2", "fd7a:115c:a1e0::2"], "LastSeen": "0001-01-01T00:00:00Z"},
    "nodekey:bb": {"ID": "nPHONECNTRL", "HostName": "phone", "OS": "iOS", "Online": false,
      "TailscaleIPs": ["100.64.0.3"]},
    "nodekey:cc": {"ID": "nODDCNTRL", "Online": true, "TailscaleIPs": null}},
  "User": {"1": {"LoginName": "a@example.com"}}}"#;

const DEVICES: &str = r#"{"devices": [
  {"addresses": ["100.101.102.103"], "id": "1001", "nodeId": "nOWN1CNTRL",
    "name": "here.tail1234.ts.net", "lastSeen": "2025-03-01T12:00:00Z"},
  {"addresses": ["100.64.0.2", "fd7a:115c:a1e0::2"], "id": "1002", "nodeId": "nMAC2CNTRL",
    "name": "mac2.tail1234.ts.net", "lastSeen": "2025-03-01T11:59:40Z"},
  {"addresses": ["100.64.0.3"], "id": "1003", "nodeId": "nPHONECNTRL",
    "lastSeen": "2025-03-01T11:59:30Z"},
  {"addresses": ["100.64.0.4"], "id": "1004", "nodeId": "nNEWCNTRL",
    "lastSeen": "2025-03-01T11:59:59Z"}]}"#;

const NOON: i64 = 1_740_830_400;

fn own() -> Attributes {
    Attributes {
        node: "here".into(),
        port: 50_051,
        capabilities: Capabilities::unknown(),
    }
}

fn said(node: &str, port: &str) -> String {
    format!(
        r#"{{"attributes": {{"custom:exo_node_id": "{node}", "custom:exo_node_port": "{port}",
        "custom:exo_device_capability_model": "Mac_Studio", "node:os": "macos",
        "custom:exo_device_capability_chip": "Apple_M3_Ultra",
        "custom:exo_device_capability_memory": "262144",
        "custom:exo_device_capability_flops_fp16": "108.52"}}, "expiries": {{}}}}"#
    )
}

#[test]
fn times_are_read() {
    assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(seconds("2000-02-29T23:59:59Z"), Some(951_868_799));
    assert_eq!(seconds("2025-03-01T12:00:00Z"), Some(NOON));
    assert_eq!(seconds("2025-03-01T12:00:00.123Z"), Some(NOON));
    for bad in [
        "",
        "2025-03-01",
        "2025-13-01T00:00:00Z",
        "2025-03-01T99:00:00Z",
        "T:Z",
    ] {
        assert_eq!(seconds(bad), None, "{bad}");
    }
}

#[test]
fn ids_survive_and_the_reference_reads_what_it_can() {
    let uuid = "8f1b2c3d-0a0b-4c0d-8e0f-102030405060";
    assert_eq!(encode(uuid), uuid.replace('-', "_"));
    assert_eq!(encode("mac2.local"), "mac2.local");
    for id in [
        uuid,
        "a_b",
        "_",
        "..5f",
        "a..5f",
        ".",
        "..",
        "...",
        "a.5fb",
        "._",
        "_.",
        ".-.",
        "\u{df} x",
        "mac-2_b.c",
    ] {
        let written = encode(id);
        let fit = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        assert!(written.chars().all(fit), "{written}");
        assert_eq!(decode(&written).as_deref(), Some(id), "{written}");
    }
    assert_eq!(decode("mac_2"), Some(String::from("mac-2")));
    assert_eq!(decode("..ff"), None);
}

#[test]
fn attributes_read_back() {
    let written = own().encode();
    assert_eq!(written.len(), 8);
    let get = |name| {
        written
            .iter()
            .find(|(n, _)| *n == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(get(NODE), Some("here"));
    assert_eq!(get(MODEL), Some("Unknown_Model"));
    let read = attributes(said("mac_2", "50051").as_bytes()).expect("it is right");
    let read = read.expect("a node");
    assert_eq!((&*read.node, read.port), ("mac-2", 50_051));
    let machine = &read.capabilities;
    assert_eq!(
        (&*machine.model, &*machine.chip),
        ("Mac Studio", "Apple M3 Ultra")
    );
    assert_eq!(
        (machine.memory, machine.flops.fp16, machine.flops.int8),
        (262_144, 108.52, 0.0)
    );
    assert_eq!(clean("Mac (M3) ünï"), "Mac__M3___n_");
    for nobody in [r#"{"attributes": {}}"#, &said("", "1")] {
        assert_eq!(attributes(nobody.as_bytes()), Ok(None));
    }
    for bad in [
        "{}",
        "[]",
        "",
        &said("a", "0"),
        &said("a", "65536"),
        &said("..1b", "1"),
    ] {
        assert!(attributes(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn the_status_says_who_is_there() {
    let read = status(STATUS.as_bytes()).expect("it is right");
    assert_eq!(read.own, "nOWN1CNTRL");
    let peers: Vec<(&str, bool)> = read.peers.iter().map(|p| (&*p.id, p.active)).collect();
    assert_eq!(peers, [("nMAC2CNTRL", true), ("nPHONECNTRL", false)]);
    let stopped = STATUS.replace("Running", "Stopped");
    let told = status(stopped.as_bytes())
        .expect_err("it is stopped")
        .to_string();
    assert!(told.contains("tailscale up"), "{told}");
    assert!(status(b"{}").is_err());
    let alone = r#"{"BackendState": "Running", "Self": {"ID": "n"}, "Peer": null}"#;
    assert_eq!(status(alone.as_bytes()).map(|read| read.peers), Ok(vec![]));
}

/// Lets a watch ask for this long, and answers.
fn watch(
    watch: &mut Watch,
    from: Instant,
    span: Duration,
    answer: impl Fn(&Ask) -> Result<String, String>,
) -> (Vec<Ask>, Vec<News>) {
    let (mut now, end) = (from, from + span);
    let (mut asks, mut news) = (vec![], vec![]);
    loop {
        match watch.next(now) {
            Step::Wait(until) if until > end => return (asks, news),
            Step::Wait(until) => {
                assert!(until > now);
                now = until;
            }
            Step::Ask(ask) => {
                assert!(asks.len() < 5000, "it has no end");
                let answer = answer(&ask);
                let bytes = answer.as_ref().map(String::as_bytes).map_err(Clone::clone);
                news.extend(watch.done(now, NOON, &ask, bytes));
                asks.push(ask);
            }
        }
    }
}

#[test]
fn the_api_names_nodes_and_never_this_one() {
    let mut tailnet = Watch::new(own(), vec![], true);
    let (asks, news) = watch(
        &mut tailnet,
        Instant::ZERO,
        Duration::from_secs(14),
        |ask| {
            Ok(match ask {
                Ask::Status => STATUS.into(),
                Ask::Devices => DEVICES.into(),
                Ask::Attributes { device } if device == "1002" => said("mac_2", "50052"),
                // A node with this one's id, as a cloned home has it.
                Ask::Attributes { .. } => said("here", "50051"),
                Ask::Tell { .. } => "{}".into(),
                Ask::Knock { .. } => return Err("never".into()),
            })
        },
    );
    let count = |test: fn(&&Ask) -> bool| asks.iter().filter(test).count();
    assert_eq!(count(|ask| matches!(ask, Ask::Devices)), 3, "{asks:?}");
    assert_eq!(count(|ask| matches!(ask, Ask::Status)), 1);
    assert_eq!(count(|ask| matches!(ask, Ask::Tell { .. })), 8, "each once");
    let own = |ask: &&Ask| matches!(ask, Ask::Attributes { device } if device == "1001");
    assert_eq!(count(own), 0, "it does not ask for itself");
    assert_eq!(count(|ask| matches!(ask, Ask::Attributes { .. })), 2);
    let [News::Peers(peers)] = &news[..] else {
        panic!("{news:?}");
    };
    let [peer] = &peers[..] else {
        panic!("{peers:?}");
    };
    assert_eq!(peer.node.as_deref(), Some("mac-2"));
    assert_eq!(
        (&*peer.address, &*peer.description),
        ("100.64.0.2:50052", "TS")
    );
}

#[test]
fn what_fails_is_told_once_asked_less_often_and_costs_nobody_else() {
    let mut tailnet = Watch::new(own(), vec![], true);
    let hour = Duration::from_secs(3600);
    let (asks, news) = watch(&mut tailnet, Instant::ZERO, hour, |ask| match ask {
        Ask::Status => Ok(STATUS.into()),
        Ask::Devices => Ok(DEVICES.into()),
        Ask::Attributes { device } if device == "1002" => Err("the API answers 500".into()),
        Ask::Attributes { .. } => Ok(said("new", "1")),
        _ => Err("the API answers 403".into()),
    });
    let failing = |ask: &&Ask| matches!(ask, Ask::Attributes { device } if device == "1002");
    let failing = asks.iter().filter(failing).count();
    assert!((25..=45).contains(&failing), "{failing} asks in an hour");
    let troubles = news.iter().filter(|news| matches!(news, News::Trouble(_)));
    assert_eq!(troubles.count(), 2, "{news:?}");
    assert!(
        news.iter()
            .any(|news| matches!(news, News::Peers(peers) if peers.len() == 1))
    );
    let (asks, news) = watch(
        &mut Watch::new(own(), vec![], true),
        Instant::ZERO,
        hour,
        |_| Err("there is no such program".into()),
    );
    assert!(asks.len() < 45, "{}", asks.len());
    assert_eq!(news.len(), 1);
}

#[test]
fn without_a_key_those_who_open_count() {
    let mut tailnet = Watch::new(own(), vec![], false);
    let span = Duration::from_secs(100);
    let (asks, news) = watch(&mut tailnet, Instant::ZERO, span, |ask| match ask {
        Ask::Status => Ok(STATUS.into()),
        Ask::Knock { address } if address.to_string() == "100.64.0.2:50051" => Ok(String::new()),
        _ => Err("refused".into()),
    });
    assert!(
        !asks
            .iter()
            .any(|ask| matches!(ask, Ask::Devices | Ask::Tell { .. }))
    );
    let [News::Peers(peers)] = &news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(peers.len(), 1);
    assert_eq!(
        (&peers[0].node, &*peers[0].address),
        (&None, "100.64.0.2:50051")
    );
    // It goes offline.
    let later = Instant::ZERO + span;
    let gone = STATUS.replace("\"Online\": true", "\"Online\": false");
    let (_, news) = watch(&mut tailnet, later, Duration::from_secs(20), |_| {
        Ok(gone.clone())
    });
    assert_eq!(news, [News::Peers(vec![])]);
}
