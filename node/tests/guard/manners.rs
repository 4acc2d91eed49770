//! What the API owes to clients that behave, and to those that leave.

use crate::attacked::{EVENTS, OPTIONS, api, api_on, read_all};
use exo_node::api::backend::ChannelKind;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

#[test]
fn honest_clients_are_served() {
    for kind in [ChannelKind::preferred(), ChannelKind::Loopback] {
        let api = api_on(kind, OPTIONS);
        api.assert_alive();
        let post = b"POST /echo HTTP/1.0\r\ncontent-length: 5\r\nX-Exo-Guard: 1-1\r\n\r\nhello";
        assert!(
            api.talk(post)
                .contains(r#""method":"POST","path":"/echo","bytes":5"#)
        );
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                        3;x=1\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        assert!(api.talk(chunked).contains(r#""bytes":13"#));
        let large = [
            b"POST / HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n",
            &[b'x'; 1 << 20][..],
        ];
        assert!(api.talk(&large.concat()).contains(r#""bytes":1048576"#));
        let head = api.talk(b"HEAD /x HTTP/1.1\r\n\r\n");
        assert!(
            head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );

        let mut patient = api.connect();
        let expect = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        patient.write_all(expect).unwrap();
        let mut go = [0; 25];
        patient.read_exact(&mut go).unwrap();
        assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
        patient.write_all(b"ok").unwrap();
        assert!(read_all(&mut patient).contains(r#""bytes":2"#));
    }
}

/// The next event is sent only when the one before was read: if anything on the way held events
/// back, nothing would come at all.
#[test]
fn events_arrive_as_they_happen() {
    let api = api();
    let mut stream = api.connect();
    stream.write_all(b"GET /events HTTP/1.1\r\n\r\n").unwrap();
    let (mut text, mut piece) = (String::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut piece).unwrap();
        if count == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
        api.read
            .store(text.matches("data: ").count(), Ordering::SeqCst);
    }
    assert_eq!(text.matches("data: ").count(), EVENTS, "{text}");
}

#[test]
fn a_client_that_hangs_up_cancels_its_request() {
    let api = api();
    let mut stream = api.connect();
    stream
        .write_all(b"POST /wait HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        .unwrap();
    thread::sleep(Duration::from_millis(100));
    assert_eq!(api.cancelled.load(Ordering::SeqCst), 0);
    stream.shutdown(Shutdown::Both).unwrap();
    api.wait_for_cancel();
}

#[test]
fn a_client_that_leaves_a_stream_ends_it() {
    let api = api();
    let mut stream = api.connect();
    stream.write_all(b"GET /events HTTP/1.1\r\n\r\n").unwrap();
    let mut first = [0; 64];
    assert!(stream.read(&mut first).unwrap() > 0);
    drop(stream);
    api.wait_for_cancel();
}

#[test]
fn a_stopped_guard_frees_its_port() {
    let api = api();
    let address: SocketAddr = api.guard.address();
    api.assert_alive();
    drop(api);
    assert!(TcpListener::bind(address).is_ok());
}
