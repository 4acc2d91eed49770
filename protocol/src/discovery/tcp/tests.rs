use super::*;
use alloc::string::{String, ToString};
use alloc::vec;

fn announce() -> Announce {
    Announce {
        node: "a \"{[\\".into(),
        port: 50_051,
        capabilities: Capabilities::unknown(),
    }
}

#[test]
fn it_reads_back() {
    let written = announce();
    assert_eq!(Announce::decode(&written.encode()), Ok(written.clone()));
    assert_eq!(Announce::decode_answer(&written.encode()), Ok(written));
}

#[test]
fn it_may_come_in_any_pieces() {
    let whole = announce().encode();
    for cut in 0..whole.len() {
        let (head, tail) = whole.split_at(cut);
        let mut reader = Reader::default();
        assert!(!reader.push(head), "{cut}");
        assert!(reader.push(tail), "{cut}");
        assert!(reader.push(b"more"), "{cut}");
        assert_eq!(reader.finish(), whole);
    }
    let mut reader = Reader::default();
    assert!(!reader.push(b"\r\n "));
    assert!(reader.push(&[&whole[..], b"\n", &whole[..]].concat()));
    assert_eq!(reader.finish(), whole);
    // It ends too early: what came is all there is.
    let mut reader = Reader::default();
    assert!(!reader.push(&whole[..9]));
    assert_eq!(reader.finish(), &whole[..9]);
}

#[test]
fn what_is_none_is_noticed_early() {
    for junk in [&b"hello"[..], b"}", b"+7"] {
        let mut reader = Reader::default();
        assert!(reader.push(junk));
        let told = Announce::decode(&reader.finish()).expect_err("junk");
        assert!(told.to_string().contains("JSON"), "{told}");
    }
    let mut reader = Reader::default();
    let flood = vec![b'['; 100];
    let mut pushed = 0;
    while !reader.push(&flood) {
        pushed += flood.len();
        assert!(pushed <= MAX_LEN, "it has no end");
    }
    let bytes = reader.finish();
    assert_eq!(bytes.len(), MAX_LEN + 1);
    let error = Announce::decode(&bytes);
    assert_eq!(error, Err(AnnouncementError::TooLong(MAX_LEN + 1)));
}

#[test]
fn what_is_wrong_says_why() {
    let text = announce().encode();
    let text = core::str::from_utf8(&text).expect("it is JSON");
    for (from, to, reason) in [
        ("announce", "discovery", "type"),
        ("50051", "0", "grpc_port"),
        ("50051", "99999", "grpc_port"),
        ("\"node_id\"", "\"id\"", "node_id"),
        ("\"a ", "\"\\u0007 ", "node_id"),
        ("\"memory\"", "\"memories\"", "memory"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text);
        let error = Announce::decode(bad.as_bytes()).expect_err(&bad);
        assert!(error.to_string().contains(reason), "{bad}: {error}");
    }
    let other: String = text.replacen("announce", "anything", 1);
    assert!(Announce::decode_answer(other.as_bytes()).is_ok());
}

#[test]
fn probes_go_to_few_machines_of_each_subnet_and_never_here() {
    let interface = |address: [u8; 4]| Interface {
        name: String::from("eth0"),
        address: address.into(),
        broadcast: None,
    };
    let own = [
        [127, 0, 0, 1],
        [10, 0, 0, 2],
        [10, 0, 0, 7],
        [192, 168, 1, 9],
    ];
    let hosts: Vec<[u8; 4]> = probed(&own.map(interface)).map(|a| a.octets()).collect();
    let expected = [1, 10, 100, 187].map(|host| [10, 0, 0, host]);
    let other = [1, 2, 10, 100, 187].map(|host| [192, 168, 1, host]);
    assert_eq!(hosts, [&expected[..], &other[..]].concat());
}
