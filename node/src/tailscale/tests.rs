use super::*;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

fn settings(key: Option<&str>) -> Tailscale {
    Tailscale {
        node_port: 50_051,
        key: key.map(str::to_owned),
        tailnet: "example.com".to_owned(),
        nodes: Vec::new(),
    }
}

fn own() -> Attributes {
    Attributes {
        node: "here".into(),
        port: 50_051,
        capabilities: Capabilities::unknown(),
    }
}

/// An API that knows one other device. It tells the first line and the body of each request.
fn api() -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut first, mut length, mut key) = (String::new(), 0, false);
            stream.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if line.is_empty() {
                    break;
                }
                key |= line == "authorization: bearer tskey-1";
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let (status, answer) = match first.as_str() {
                _ if !key => ("403 Forbidden", "{}"),
                line if line.contains("/tailnet/example.com/devices ") => (
                    "200 OK",
                    r#"{"devices": [{"id": "7", "nodeId": "nB", "addresses": ["100.64.0.2"],
                        "lastSeen": "2999-01-01T00:00:00Z"}]}"#,
                ),
                line if line.starts_with("GET ") && line.contains("/device/7/attributes ") => (
                    "200 OK",
                    r#"{"attributes": {"custom:exo_node_id": "there_1",
                        "custom:exo_node_port": "50052"}}"#,
                ),
                line if line.starts_with("POST ") => ("200 OK", "{}"),
                _ => ("404 Not Found", "{}"),
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let body = String::from_utf8(body).unwrap();
            let _ = tell.send((first.trim().to_owned(), body));
        }
    });
    (format!("http://{address}"), heard)
}

#[cfg(unix)]
#[test]
fn a_tailnet_is_asked_and_told() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("tailscale");
    let script = "#!/bin/sh\n[ \"$*\" = 'status --json' ] && echo '{\"BackendState\": \
                  \"Running\", \"Self\": {\"ID\": \"nA\"}, \"Peer\": {}}'\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (api, heard) = api();
    let program = program.to_str().unwrap().to_owned();
    let way = Way::with(&settings(Some("tskey-1")), program, api);
    let (stop, stopped) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let searching = thread::spawn(move || {
        search(
            Watch::new(own(), Vec::new(), true),
            &way,
            &stopped,
            |peers| {
                tell.send(peers).unwrap();
                Ok(())
            },
        );
    });
    let peers = told.recv_timeout(6 * PATIENCE).unwrap();
    let [peer] = &peers[..] else {
        panic!("{peers:?}");
    };
    assert_eq!(peer.node.as_deref(), Some("there-1"));
    assert_eq!(peer.address, "100.64.0.2:50052");
    drop(stop);
    searching.join().unwrap();
    let heard: Vec<(String, String)> = heard.try_iter().collect();
    let id = heard
        .iter()
        .find(|(line, _)| line.contains("custom:exo_node_id"));
    let (line, body) = id.unwrap_or_else(|| panic!("{heard:?}"));
    assert!(
        line.starts_with("POST /api/v2/device/nA/attributes/"),
        "{line}"
    );
    assert_eq!(body, r#"{"value":"here"}"#);
}

#[test]
fn what_does_not_answer_says_why() {
    let (api, _heard) = api();
    let program = "/nowhere/tailscale".to_owned();
    let way = Way::with(&settings(Some("wrong")), program, api);
    let told = way.ask(&Ask::Status).unwrap_err();
    assert!(told.contains("install Tailscale"), "{told}");
    let told = way.ask(&Ask::Devices).unwrap_err();
    assert!(
        told.contains("403") && told.contains("--tailscale-api-key"),
        "{told}"
    );
    for device in ["../x", "", ".", "a b", "a/b"] {
        let device = device.to_owned();
        assert!(way.ask(&Ask::Attributes { device }).is_err());
    }
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    assert!(way.ask(&Ask::Knock { address: closed }).is_err());
}
