use super::*;
use alloc::vec;
use proptest::prelude::*;

fn addresses(text: &str) -> Result<Vec<(String, String)>, String> {
    let peers = parse(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(peers
        .into_iter()
        .map(|peer| (peer.id.to_string(), peer.address))
        .collect())
}

fn entry(fields: &str) -> Result<String, String> {
    let peers = addresses(&format!("{{\"peers\": {{\"p\": {{{fields}}}}}}}"))?;
    Ok(peers.into_iter().map(|peer| peer.1).collect())
}

#[test]
fn every_way_to_write_an_address() {
    for (fields, address) in [
        (
            r#""address": "127.0.0.1", "port": 50051"#,
            "127.0.0.1:50051",
        ),
        (r#""address": "127.0.0.1:50052""#, "127.0.0.1:50052"),
        (r#""address": "localhost:5", "port": 5"#, "localhost:5"),
        (
            r#""address": " mac2.local ", "port": "50051""#,
            "mac2.local:50051",
        ),
        (r#""address": "h", "port": 50051.0"#, "h:50051"),
        (r#""address": "h:1", "port": null"#, "h:1"),
        (r#""address": "::1", "port": 7"#, "[::1]:7"),
        (r#""address": "[fe80::1%en0]:65535""#, "[fe80::1%en0]:65535"),
        (
            r#""address": "[::1]", "port": 7, "device_capabilities": null"#,
            "[::1]:7",
        ),
    ] {
        assert_eq!(entry(fields).as_deref(), Ok(address), "{fields}");
    }
}

#[test]
fn every_kind_of_file_that_people_have_is_read() {
    let machine = r#""device_capabilities": {"model": "Mac", "chip": "M3", "memory": 8192,
        "flops": {"fp32": 1.5, "fp16": 3, "int8": 6}}"#;
    // As the reference wants it, the own entry among the peers; with a name for this machine; with
    // the port in the address and no own entry; one end of a tunnel; with the port in both places.
    for (own, fields, address) in [
        (
            true,
            r#""address": "127.0.0.1", "port": 50052"#,
            "127.0.0.1:50052",
        ),
        (
            true,
            r#""address": "localhost", "port": 50052"#,
            "localhost:50052",
        ),
        (false, r#""address": "127.0.0.1:50052""#, "127.0.0.1:50052"),
        (false, r#""address": "127.0.0.1:49703""#, "127.0.0.1:49703"),
        (
            false,
            r#""address": "mac2.local:50051""#,
            "mac2.local:50051",
        ),
        (
            true,
            r#""address": "mac2:50051", "port": 50051"#,
            "mac2:50051",
        ),
    ] {
        let own = match own {
            true => format!(r#""me": {{"address": "127.0.0.1", "port": 50051, {machine}}}, "#),
            false => String::new(),
        };
        for machine in [format!(", {machine}"), String::new()] {
            let text = format!(r#"{{"peers": {{{own}"other": {{{fields}{machine}}}}}}}"#);
            let peers = parse(text.as_bytes()).expect(&text);
            let other = peers.iter().find(|peer| &*peer.id == "other").expect(&text);
            assert_eq!(other.address, address);
            let memory = other.capabilities.as_ref().map(|machine| machine.memory);
            assert_eq!(memory, (!machine.is_empty()).then_some(8192));
            assert_eq!(peers.len(), 1 + usize::from(!own.is_empty()));
        }
    }
}

#[test]
fn a_bad_entry_is_named() {
    for (fields, problem) in [
        (r#""port": 1"#, "\"address\" is missing"),
        (
            r#""address": 5"#,
            "\"address\" must be a text, got an integer",
        ),
        (
            r#""address": "h""#,
            "\"port\" is missing and \"address\" holds none",
        ),
        (
            r#""address": "h", "port": 0"#,
            "\"port\" must be a number from 1 to 65535, got 0",
        ),
        (
            r#""address": "h", "port": "x""#,
            "\"port\" must be a number from 1 to 65535, got \"x\"",
        ),
        (
            r#""address": "h", "port": 1.5"#,
            "1 to 65535, got a fraction",
        ),
        (
            r#""address": "h:1", "port": 2"#,
            "says port 1 and \"port\" says 2",
        ),
        (r#""address": "h:1:2""#, "does not end in a port"),
        (r#""address": "h:65536""#, "does not end in a port"),
        (r#""address": "h:+1""#, "does not end in a port"),
        (r#""address": ":1""#, "holds no host name"),
        (r#""address": "", "port": 1"#, "holds no host name"),
        (
            r#""address": "http://h", "port": 1"#,
            "does not end in a port",
        ),
        (r#""address": "a b", "port": 1"#, "holds no host name"),
        (r#""address": "[1.2.3.4]:5""#, "no IPv6 address in brackets"),
        (
            r#""address": "h", "port": 1, "port": 2"#,
            "\"port\" stands there twice",
        ),
        (
            r#""address": "h", "port": 1, "device_capabilities": {"memory": "much"}"#,
            "\"device_capabilities\": memory: expected an integer, got a text",
        ),
    ] {
        let error = entry(fields).expect_err(fields);
        assert!(error.starts_with("peer \"p\": "), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(error.contains("192.168.1.5"), "{error}");
    }
}

#[test]
fn a_bad_file_is_explained() {
    for text in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"peers": []}"#,
        "\u{feff}{",
        r#"{"peers": {"": {}}}"#,
    ] {
        let error = addresses(text).expect_err(text);
        assert!(error.contains("192.168.1.5"), "{error}");
    }
    let twice = r#"{"peers": {"a": {"address": "h:1"}, "a": {"address": "h:2"}}}"#;
    assert!(addresses(twice).is_err_and(|error| error.starts_with("peer \"a\": listed twice")));
    assert!(matches!(
        parse(&vec![b' '; MAX_LEN + 1]),
        Err(ManualError::TooLarge(_))
    ));
    let many: Vec<String> = (0..=MAX_PEERS).map(|i| format!("\"{i}\": 0")).collect();
    let many = format!("{{\"peers\": {{{}}}}}", many.join(","));
    assert_eq!(
        parse(many.as_bytes()),
        Err(ManualError::TooManyPeers(MAX_PEERS + 1))
    );
}

#[test]
fn comments_marks_and_partial_capabilities_are_fine() {
    let text = "\u{feff}{\"comment\": 1, \"peers\": {\"a\": {\"address\": \"h:1\", \"note\": [],
        \"device_capabilities\": {\"memory\": 512}}, \"b\": {\"address\": \"i:2\"}}}";
    let peers = parse(text.as_bytes()).expect("a list");
    assert_eq!(peers.len(), 2);
    assert_eq!(
        peers[0].capabilities.as_ref().map(|machine| machine.memory),
        Some(512)
    );
    assert_eq!(peers[1].capabilities, None);
    assert_eq!(parse(br#"{"peers": {}}"#), Ok(vec![]));
}

proptest! {
    #[test]
    fn whatever_parses_is_host_and_port(address in "[ -~]{0,24}", port in any::<i64>()) {
        let json = Json::object([("peers", Json::object([("p", Json::object([
            ("address", Json::from(address)), ("port", Json::from(port))]))]))]);
        let mut text = Vec::new();
        json.write(&mut text);
        if let Ok(peers) = parse(&text) {
            let (host, end) = peers[0].address.rsplit_once(':').expect("a colon");
            prop_assert!(!host.is_empty());
            prop_assert_eq!(end.parse::<i64>(), Ok(port));
            prop_assert!(host.starts_with('[') || !host.contains(':'));
        }
    }
}
