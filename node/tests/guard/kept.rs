//! Several requests of one connection.

use crate::attacked::{Api, EVENTS, OPTIONS, PATIENCE, api, api_on, status};
use exo_node::api::backend::ChannelKind;
use exo_node::api::guard::GuardOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

/// A client that reads no further than one reply.
struct Kept(BufReader<TcpStream>);

#[derive(Debug)]
struct Told {
    status: u16,
    head: String,
    body: String,
}

impl Kept {
    fn new(api: &Api) -> Self {
        Self(BufReader::new(api.connect()))
    }

    fn say(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    fn ask(&mut self, bytes: &[u8]) -> Told {
        self.say(bytes);
        self.told()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn told(&mut self) -> Told {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let line = self.line();
            assert!(!line.is_empty(), "the connection ended: {head}");
            head.push_str(&line);
        }
        let length = head.split("Content-Length: ").nth(1);
        let length = length.map(|rest| rest.split("\r\n").next().unwrap().parse().unwrap());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).unwrap();
        let mut body = String::from_utf8(body).unwrap();
        if head.contains("Transfer-Encoding: chunked") {
            while let Some(chunk) = self.chunk() {
                body.push_str(&chunk);
            }
        }
        let status = status(&head);
        Told { status, head, body }
    }

    /// The next chunk; none behind the last.
    fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(self.line().trim_end(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.0.read_exact(&mut chunk).unwrap();
        let chunk = String::from_utf8(chunk).unwrap();
        let chunk = chunk.strip_suffix("\r\n").unwrap().to_owned();
        (length > 0).then_some(chunk)
    }

    fn rest(mut self) -> String {
        let mut rest = String::new();
        let _ = self.0.read_to_string(&mut rest);
        rest
    }
}

/// Nothing ends by itself while a test looks.
fn patient() -> Api {
    patient_on(ChannelKind::preferred())
}

fn patient_on(kind: ChannelKind) -> Api {
    let options = GuardOptions {
        head_time: PATIENCE,
        body_time: PATIENCE,
        idle_time: PATIENCE,
        ..OPTIONS
    };
    api_on(kind, options)
}

#[test]
fn a_connection_is_kept_until_the_client_wants_no_more() {
    for kind in [ChannelKind::preferred(), ChannelKind::Loopback] {
        let api = patient_on(kind);
        let mut client = Kept::new(&api);
        for number in 0..5 {
            let path = format!("/{number}");
            let told = client.ask(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
            assert!(told.body.contains(&path), "{told:?}");
            assert!(
                told.head.contains("\r\nConnection: keep-alive\r\n"),
                "{told:?}"
            );
            assert!(
                told.head.contains("\r\nKeep-Alive: timeout=30\r\n"),
                "{told:?}"
            );
        }
        let told = client.ask(b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
        assert!(told.body.contains(r#""bytes":3"#), "{told:?}");
        let chunked = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
        assert!(client.ask(chunked).body.contains(r#""bytes":2"#));
        let refused = client.ask(b"GET /never HTTP/1.1\r\n\r\n");
        assert_eq!(refused.status, 403);
        client.say(b"HEAD /b HTTP/1.1\r\n\r\n");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push_str(&client.line());
        }
        assert!(head.contains("Content-Length: "), "{head}");
        let last = client.ask(b"GET /c HTTP/1.1\r\nConnection: Foo, Close\r\n\r\n");
        assert!(last.head.contains("\r\nConnection: close\r\n"), "{last:?}");
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn http_1_0_is_kept_when_it_asks() {
    let api = patient();
    let mut client = Kept::new(&api);
    let kept = client.ask(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(kept.head.contains("Connection: keep-alive"), "{kept:?}");
    let last = client.ask(b"GET /b HTTP/1.0\r\n\r\n");
    assert!(last.head.contains("Connection: close"), "{last:?}");
    assert_eq!(client.rest(), "");
}

#[test]
fn requests_may_come_before_the_answers() {
    let api = patient();
    let mut client = Kept::new(&api);
    client.say(
        b"GET /first HTTP/1.1\r\n\r\nPOST /second HTTP/1.1\r\nContent-Length: 40\r\n\r\n\
          GET /hidden HTTP/1.1\r\nHost: hidden.\r\n\r\n\
          GET /third HTTP/1.1\r\nConnection: close\r\n\r\nGET /unread HTTP/1.1\r\n\r\n",
    );
    for path in ["/first", "/second", "/third"] {
        assert!(client.told().body.contains(path));
    }
    assert_eq!(client.rest(), "");
}

#[test]
fn a_stream_leaves_the_connection_open() {
    let api = patient();
    let mut client = Kept::new(&api);
    api.read.store(EVENTS, Ordering::SeqCst);
    let told = client.ask(b"GET /events HTTP/1.1\r\n\r\n");
    assert!(
        told.head.contains("\r\nConnection: keep-alive\r\n"),
        "{told:?}"
    );
    let wanted: String = (0..EVENTS).map(|n| format!("data: {n}\n\n")).collect();
    assert_eq!(told.body, wanted);
    assert!(
        client
            .ask(b"GET /next HTTP/1.1\r\n\r\n")
            .body
            .contains("/next")
    );
    // HTTP/1.0 knows no chunks: what comes is what was said, and the end is the connection's.
    let old = api.talk(b"GET /events HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(
        old.ends_with(&wanted) && old.contains("Connection: close"),
        "{old}"
    );
}

#[test]
fn what_goes_wrong_here_is_told_apart_from_an_end() {
    let api = patient();
    let mut client = Kept::new(&api);
    client.say(b"GET /torn HTTP/1.1\r\n\r\n");
    let torn = client.rest();
    assert!(torn.ends_with("\r\n4\r\nhalf\r\n"), "{torn}");
    let failed = Kept::new(&api).ask(b"GET /panic HTTP/1.1\r\n\r\n");
    assert_eq!(failed.status, 500);
    assert!(failed.body.contains("internal_error"), "{failed:?}");
    api.assert_alive();
}

#[test]
fn a_kept_connection_ends_after_so_many_requests_or_without_any() {
    let api = patient();
    let mut client = Kept::new(&api);
    for number in 1..=OPTIONS.requests {
        let told = client.ask(b"GET /x HTTP/1.1\r\n\r\n");
        let last = told.head.contains("\r\nConnection: close\r\n");
        assert_eq!(last, number == OPTIONS.requests, "{number}");
    }
    assert_eq!(client.rest(), "");
    drop(api);
    // An idle one hears nothing more.
    let api = self::api();
    let mut client = Kept::new(&api);
    client.ask(b"GET /x HTTP/1.1\r\n\r\n");
    assert_eq!(client.rest(), "");
    assert_eq!(Kept::new(&api).rest(), "");
}

#[test]
fn a_request_that_is_refused_need_not_bring_its_body() {
    let api = patient();
    let mut client = Kept::new(&api);
    let told =
        client.ask(b"POST /never HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(told.status, 403);
    assert!(told.head.contains("\r\nConnection: close\r\n"), "{told:?}");
    assert_eq!(client.rest(), "");
}
