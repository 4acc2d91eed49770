//! `exo-node doctor` as people start it, beside what it is to tell apart: real sockets, real nodes.

use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::topology::Capabilities;
use exo_protocol::wire::{DecodeLimits, Decoder, Encoder, Message, TopologyReply};
use exo_tests::process::{NodeProcess, Ring, binary, free_ports, relay};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What the doctor says, and its exit code.
fn doctor(words: &[String]) -> (i32, Value) {
    told(Command::new(binary()), words)
}

fn told(mut command: Command, words: &[String]) -> (i32, Value) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let output = command
        .args(["doctor", "--json", "--inference-engine", "dummy"])
        .args(words)
        .env("EXO_HOME", home.path())
        .output()
        .expect("the doctor starts");
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().expect("it ends by itself"), json)
}

/// Flags of a machine without a node, that listens to nobody.
fn alone() -> Vec<String> {
    let ports = free_ports(2);
    let words = format!(
        "--discovery-module none --node-port {} --chatgpt-api-port {}",
        ports[0], ports[1]
    );
    words.split(' ').map(str::to_owned).collect()
}

/// What was said about a peer.
fn section(json: &Value, peer: impl ToString) -> &Value {
    let peer = peer.to_string();
    let sections = json["sections"].as_array().expect("sections");
    let found = sections.iter().find(|section| section["peer"] == *peer);
    found.unwrap_or_else(|| panic!("nothing about {peer}: {json:#}"))
}

fn this_machine(json: &Value) -> &Value {
    &json["sections"][0]
}

/// The level and the text of a check.
fn finding(section: &Value, check: &str) -> (String, String) {
    let found = findings(section).find(|one| one["check"] == check);
    let found = found.unwrap_or_else(|| panic!("no {check}: {section:#}"));
    let text = |key: &str| found[key].as_str().expect("a text").to_owned();
    (text("level"), text("text"))
}

fn findings(section: &Value) -> impl Iterator<Item = &Value> {
    section["findings"].as_array().expect("findings").iter()
}

/// Takes connections for as long as this process lives, and has each served.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Speaks the base protocol; messages with more payload than this get lost.
fn reference(mut stream: TcpStream, most: usize) {
    let mut decoder = Decoder::new(DecodeLimits::default());
    loop {
        let Ok(count) = stream.read(decoder.space()) else {
            return;
        };
        decoder.advance(count);
        while let Some(message) = decoder.poll().expect("the doctor speaks the protocol") {
            let reply = match message {
                Message::HealthCheckRequest { payload } if payload.len() <= most => {
                    Message::HealthCheckResponse {
                        is_healthy: true,
                        exo: None,
                    }
                }
                Message::HealthCheckRequest { .. } => continue,
                Message::CollectTopologyRequest { .. } => {
                    Message::CollectTopologyResponse(TopologyReply {
                        nodes: vec![("python".into(), Capabilities::unknown())],
                        peer_graph: Vec::new(),
                    })
                }
                other => panic!("a reference node does not expect {other:?}"),
            };
            let encoder = Encoder::new(&reply).expect("small");
            if stream.write_all(&encoder.slices().concat()).is_err() {
                return;
            }
        }
        if count == 0 {
            return;
        }
    }
}

#[test]
fn whoever_is_no_node_is_told_apart() {
    let silent = listen(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let closes = listen(drop);
    let says = |words: &'static [u8]| {
        listen(move |mut stream| {
            let _ = stream.write_all(words);
            let _ = stream.read_to_end(&mut Vec::new());
        })
    };
    let web = listen(|mut stream| {
        let mut place = [0; 1024];
        let mut line = Vec::new();
        // As most: nothing is said before there is a line.
        while !line.contains(&b'\n') {
            match stream.read(&mut place) {
                Ok(count) if count > 0 => line.extend_from_slice(&place[..count]),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    });
    let refused = SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0]));
    let all = [
        (silent, "nothing"),
        (closes, "closes"),
        (web, "http"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "ssh"),
        (says(b"\x15\x03\x01\x00\x02\x02\x46"), "tls"),
        (says(b"220 mail\r\n"), "unknown"),
    ];
    let mut words = alone();
    words.extend(all.iter().map(|(address, _)| address.to_string()));
    words.extend([refused.to_string(), "nowhere.invalid".to_owned()]);
    let (code, json) = doctor(&words);
    assert_eq!(code, 1);
    assert_eq!(json["problems"], 8, "{json:#}");
    for (address, speaks) in all {
        let section = section(&json, address);
        assert_eq!(section["facts"]["speaks"], speaks, "{section:#}");
        assert_eq!(finding(section, "speaks").0, "problem");
        assert_eq!(finding(section, "reach").0, "ok");
    }
    let refused = section(&json, refused);
    assert_eq!(refused["facts"]["dialed"][0]["result"], "refused");
    assert_eq!(finding(refused, "reach").0, "problem");
    let nowhere = section(&json, "nowhere.invalid:50051");
    assert_eq!(finding(nowhere, "name").0, "problem");
}

#[test]
fn nodes_are_known_and_measured_and_do_not_notice() {
    for runtime in ["std", "smol"] {
        let home = tempfile::tempdir().expect("a temporary folder");
        let ports = free_ports(2);
        let flags = ["--runtime", runtime, "--inference-engine", "dummy"];
        let mut node = NodeProcess::start("there", ports[0], ports[1], &flags, home.path());
        node.wait_for("itself", |topology| topology["nodes"]["there"].is_object());
        let mut words = alone();
        words.extend([node.address.to_string(), node.api.to_string()]);
        let (code, json) = doctor(&words);
        assert_eq!(code, 1, "the API's port is no node's: {json:#}");
        assert_eq!(json["problems"], 1, "{json:#}");
        let there = section(&json, node.address);
        let (level, text) = finding(there, "speaks");
        assert_eq!(level, "ok");
        assert!(
            text.starts_with("exo-node \"there\", computes with dummy"),
            "{text}"
        );
        let facts = &there["facts"];
        assert_eq!(
            (&facts["speaks"], &facts["node_id"]),
            (&"exo-node".into(), &"there".into())
        );
        assert!(facts["round_trip"]["median_ms"].is_f64(), "{facts:#}");
        let goodput = facts["goodput"].as_array().expect("a list");
        assert!(goodput.iter().all(|one| one["ms"].is_f64()), "{facts:#}");
        assert_eq!(goodput.last().expect("three")["bytes"], 1 << 20);
        let (_, text) = finding(section(&json, node.api), "speaks");
        assert!(text.contains("the API of node \"there\""), "{text}");
        node.wait_for("nobody else", |topology| {
            let nobody = topology["exo"]["peers"]
                .as_array()
                .is_some_and(Vec::is_empty);
            nobody
                && topology["nodes"]
                    .as_object()
                    .is_some_and(|nodes| nodes.len() == 1)
        });
        assert!(!node.log().contains("WARN"), "{}", node.log());
    }
}

#[test]
fn rings_are_seen_from_inside() {
    let ring = Ring::start(&["std", "smol"], &["--inference-engine", "dummy"]);
    let home = tempfile::tempdir().expect("a temporary folder");
    let ports = free_ports(3);
    let flags = ["--inference-engine", "dummy"];
    let mut stranger = NodeProcess::start("stranger", ports[0], ports[1], &flags, home.path());
    stranger.wait_for("itself", |topology| {
        topology["nodes"]["stranger"].is_object()
    });
    // It has the id of a node in the ring: its home folder was copied.
    let mut clone = NodeProcess::start("node-2", ports[2], free_ports(1)[0], &flags, home.path());
    clone.wait_for("itself", |topology| topology["nodes"]["node-2"].is_object());
    let place = ring.nodes[0].place();
    let words = format!(
        "--discovery-module none --node-host 127.0.0.1 --node-port {} --chatgpt-api-host 127.0.0.1 \
         --chatgpt-api-port {} {} {} {}",
        place.port, place.api, ring.nodes[1].address, stranger.address, clone.address
    );
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let (code, json) = doctor(&words);
    assert_eq!(code, 1);
    let here = this_machine(&json);
    let (level, text) = finding(here, "node_port");
    assert_eq!(level, "ok");
    assert!(text.starts_with("exo-node \"node-1\""), "{text}");
    assert_eq!(finding(here, "api_port").0, "ok");
    assert_eq!(here["facts"]["node"]["node_id"], "node-1");
    let (level, text) = finding(here, "duplicate_id");
    assert_eq!(level, "problem");
    assert!(
        text.contains("\"node-2\"") && text.contains(&clone.address.to_string()),
        "{text}"
    );
    let (level, text) = finding(section(&json, ring.nodes[1].address), "one_way");
    assert_eq!(
        (level.as_str(), text.contains("in one ring")),
        ("ok", true),
        "{text}"
    );
    let (level, text) = finding(section(&json, stranger.address), "one_way");
    assert_eq!(
        (level.as_str(), text.contains("not in one ring")),
        ("warning", true)
    );
}

#[test]
fn a_reference_node_is_asked_only_what_it_knows() {
    let whole = listen(|stream| reference(stream, usize::MAX));
    let narrow = listen(|stream| reference(stream, 32 << 10));
    let mut words = alone();
    words.extend([whole.to_string(), narrow.to_string()]);
    let (code, json) = doctor(&words);
    assert_eq!(code, 1);
    let whole = section(&json, whole);
    assert_eq!(whole["facts"]["speaks"], "base protocol");
    assert_eq!(whole["facts"]["node_id"], "python");
    assert!(
        findings(whole).all(|one| one["level"] != "problem"),
        "{whole:#}"
    );
    let (level, text) = finding(section(&json, narrow), "large_messages");
    assert_eq!(level, "problem");
    assert!(
        text.starts_with("messages of 1 KiB come through, but none of 64 KiB"),
        "{text}"
    );
}

#[test]
fn a_tunnel_that_stalls_is_recognised() {
    let node = listen(|stream| {
        stream.set_nodelay(true).expect("a socket's option");
        reference(stream, usize::MAX);
    });
    // As `ssh -N -L`: a share of the trips takes 40 ms more, here half of it each way.
    let stalls = relay::open(node, |piece| match piece % 16 {
        5 => Duration::from_millis(19),
        _ => Duration::ZERO,
    });
    let plain = relay::open(node, |_| Duration::ZERO);
    // Where other tests keep the processor busy, trips of any length may hide the pattern.
    let recognised = (0..10).any(|_| {
        let mut words = alone();
        words.extend([stalls.to_string(), plain.to_string()]);
        let (_, json) = doctor(&words);
        let told = |way: SocketAddr| section(&json, way)["facts"]["tunnel_stall"] == true;
        if told(stalls) {
            assert_eq!(finding(section(&json, stalls), "tunnel_stall").0, "warning");
        }
        told(stalls) && !told(plain)
    });
    assert!(recognised);
}

#[test]
fn ports_that_others_have_are_told() {
    let taken = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let udp = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let udp_port = udp.local_addr().expect("it is bound").port();
    let words = format!(
        "--node-port {port} --chatgpt-api-port {} --listen-port {udp_port}",
        free_ports(1)[0]
    );
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let (code, json) = doctor(&words);
    assert_eq!(code, 1);
    let here = this_machine(&json);
    let (level, text) = finding(here, "node_port");
    assert_eq!(level, "problem");
    assert!(text.contains("taken by another program"), "{text}");
    assert_eq!(finding(here, "udp_port").0, "problem");
}

#[test]
fn who_announces_itself_and_cannot_be_reached_is_told() {
    let ports = free_ports(4);
    let (udp, ghost) = (ports[0], ports[1]);
    let over = AtomicBool::new(false);
    let (code, json) = thread::scope(|scope| {
        scope.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let machine = Capabilities::unknown();
            let words = Announcement::over("eth0", "ghost".into(), ghost, machine).encode();
            while !over.load(Ordering::Relaxed) {
                // Nobody may listen yet.
                let _ = socket.send_to(&words, (Ipv4Addr::LOCALHOST, udp));
                thread::park_timeout(Duration::from_millis(50));
            }
        });
        let words = format!(
            "--node-port {} --chatgpt-api-port {} --listen-port {udp}",
            ports[2], ports[3]
        );
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let told = doctor(&words);
        over.store(true, Ordering::Relaxed);
        told
    });
    assert_eq!(code, 1);
    let (level, text) = finding(this_machine(&json), "others_heard");
    assert_eq!(
        (level.as_str(), text.contains("\"ghost\"")),
        ("ok", true),
        "{text}"
    );
    let address = SocketAddr::from(([127, 0, 0, 1], ghost));
    let (level, text) = finding(section(&json, address), "one_way");
    assert_eq!(level, "problem");
    assert!(text.starts_with("it announces itself, but"), "{text}");
}

#[test]
fn a_login_is_no_peer() {
    let output = Command::new(binary())
        .args(["doctor", "me@there"])
        .output()
        .expect("the doctor starts");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("exo-node tunnel me@there"), "{said}");
}

/// What only routes do. Needs `ip` and the right to make a network namespace; says loudly what is
/// missing.
#[cfg(target_os = "linux")]
#[test]
fn ways_that_lead_nowhere_are_told_apart() {
    let name = format!("exo-doctor-{}", std::process::id());
    let ip = |words: &str| -> Result<(), String> {
        let output = Command::new("ip").args(words.split(' ')).output();
        let output = output.map_err(|error| format!("ip: {error} (apt-get install iproute2)"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        output
            .status
            .success()
            .then_some(())
            .ok_or(format!("ip {words}: {said}"))
    };
    // Nobody is at the far end of the wire, so what goes there is lost, as in a firewall that drops
    // it; the neighbour is given, or the system would find that out.
    let laid = [
        format!("netns add {name}"),
        format!("-n {name} link set lo up"),
        format!("-n {name} link add eth0 type veth peer name far"),
        format!("-n {name} link set far up"),
        format!("-n {name} addr add 10.249.1.1/24 brd + dev eth0"),
        format!("-n {name} link set eth0 up"),
        format!("-n {name} neigh add 10.249.1.9 lladdr 02:00:00:00:00:09 dev eth0"),
        format!("-n {name} route add unreachable 10.249.2.0/24"),
        format!("-n {name} route add prohibit 10.249.3.0/24"),
    ];
    let result = laid.iter().try_for_each(|words| ip(words));
    let told = result.map(|()| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name]).arg(binary());
        let words = ["10.249.1.9", "10.249.2.9", "10.249.3.9", "10.249.4.9"];
        told(command, &words.map(str::to_owned))
    });
    let _ = ip(&format!("netns del {name}"));
    let (code, json) = match told {
        Ok(told) => told,
        Err(reason) => {
            eprintln!("SKIPPED: ways that lead nowhere: {reason}");
            return;
        }
    };
    assert_eq!(code, 1);
    for (host, result) in [
        (1, "timeout"),
        (2, "unreachable"),
        (3, "forbidden"),
        (4, "unreachable"),
    ] {
        let section = section(&json, format!("10.249.{host}.9:50051"));
        assert_eq!(
            section["facts"]["dialed"][0]["result"], result,
            "{section:#}"
        );
        assert_eq!(finding(section, "reach").0, "problem");
    }
    // The only interface has broadcasts, and they come back.
    assert_eq!(finding(this_machine(&json), "own_broadcast").0, "ok");
    assert_eq!(finding(this_machine(&json), "others_heard").0, "ok");
}
