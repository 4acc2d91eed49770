//! What one hostile client can do to the API: nothing.
//!
//! Each of these stops or blocks a bare tiny_http server.

use crate::attacked::{OPTIONS, PATIENCE, api, api_on, read_all, status};
use exo_node::api::backend::ChannelKind;
use exo_node::api::guard::GuardOptions;
use exo_node::api::line::LineOptions;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

#[test]
fn attack_1_an_enormous_length_is_refused() {
    let api = api();
    for length in [
        "60000000000",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        let request = format!("POST /x HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(api.status(request.as_bytes()), 413);
    }
    let chunk = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
    assert_eq!(api.status(chunk), 413);
    let answer = api.talk(b"POST /x HTTP/1.1\r\nContent-Length: 1048577\r\n\r\nx");
    assert!(
        answer.contains(r#"{"error":{"message":"the body is larger than"#),
        "{answer}"
    );
    api.assert_alive();
}

#[test]
fn attack_2_a_body_that_never_comes_times_out() {
    let api = api();
    let mut slow: Vec<_> = (0..4).map(|_| api.connect()).collect();
    for stream in &mut slow {
        stream
            .write_all(b"POST /x HTTP/1.1\r\nContent-Length: 2000\r\n\r\nabc")
            .unwrap();
    }
    api.assert_alive();
    assert!(
        slow.iter_mut()
            .all(|stream| status(&read_all(stream)) == 408)
    );
    api.assert_alive();
}

#[test]
fn attack_4_pipelined_requests_are_answered_in_turn_and_counted() {
    let api = api();
    let requests = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100_000);
    let mut stream = api.connect();
    stream.set_nonblocking(true).unwrap();
    let _ = stream.write(&requests);
    api.assert_alive();
    stream.set_nonblocking(false).unwrap();
    let answers = read_all(&mut stream);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), OPTIONS.requests);
    assert_eq!(answers.matches("Connection: close").count(), 1);
}

#[test]
fn attack_5_half_open_connections_end() {
    let api = api();
    let mut half: Vec<_> = (0..OPTIONS.connections - 1)
        .map(|_| api.connect())
        .collect();
    for stream in &mut half {
        stream.write_all(b"GET / HT").unwrap();
    }
    api.assert_alive();
    assert!(
        half.iter_mut()
            .all(|stream| status(&read_all(stream)) == 408)
    );
}

#[test]
fn attack_5_when_all_places_are_taken_slow_clients_give_way() {
    let options = GuardOptions {
        head_time: PATIENCE,
        body_time: PATIENCE,
        ..OPTIONS
    };
    let api = api_on(ChannelKind::preferred(), options);
    let mut half: Vec<_> = (0..OPTIONS.connections).map(|_| api.connect()).collect();
    for (number, stream) in half.iter_mut().enumerate() {
        let begun = [
            &b"GET / HT"[..],
            b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
        ];
        stream.write_all(begun[number % 2]).unwrap();
    }
    // Nobody is slow at first; then somebody is, and hears nothing of it but the end.
    api.wait_until_alive();
    let ended = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut [0; 64]) {
            Ok(told) => {
                assert_eq!(told, 0, "the time for a request is not over yet");
                true
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    };
    assert!(half.iter_mut().any(ended));
}

#[test]
fn attack_5_more_than_can_be_served_hear_so() {
    let options = GuardOptions {
        answers: LineOptions {
            slots: OPTIONS.connections,
            waiting: 0,
        },
        ..OPTIONS
    };
    let api = api_on(ChannelKind::preferred(), options);
    let mut busy: Vec<_> = (0..OPTIONS.connections).map(|_| api.connect()).collect();
    for stream in &mut busy {
        stream.write_all(b"GET /wait HTTP/1.1\r\n\r\n").unwrap();
    }
    api.wait_for_waiting(OPTIONS.connections);
    let answer = api.talk(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("too_many_connections"), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    drop(busy);
    api.wait_until_alive();
}

#[test]
fn attack_6_an_endless_header_is_cut_off() {
    let api = api();
    for line in [format!("X: {}", "a".repeat(8000)), "A: b\r\n".repeat(2000)] {
        assert_eq!(
            api.status(format!("GET / HTTP/1.1\r\n{line}").as_bytes()),
            431
        );
    }
    api.assert_alive();
}

#[test]
fn attack_7_a_client_that_does_not_read_is_dropped() {
    let api = api();
    let mut stream = api.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\n\r\n").unwrap();
    api.assert_alive();
    api.wait_for_cancel();
    api.assert_alive();
}

#[test]
fn attack_8_clients_that_reset_do_no_harm() {
    let api = api();
    for _ in 0..100 {
        // Unread input at the close makes it a reset.
        let mut stream = api.connect();
        let _ = stream.write_all(b"GET /x HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n");
        drop(stream);
    }
    api.wait_until_alive();
}

#[test]
fn attack_9_no_request_hides_in_another() {
    let api = api();
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for headers in [
        "Content-Length: +5",
        "Content-Length: 5, 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: abc",
        "Content-Length:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        " Content-Length: 5",
        "X: 1\r\n Content-Length: 5",
        "Host: a\r\nHost: b",
        "Authorization: Bearer a\r\nAuthorization: Bearer b",
        "X: a\0b",
        "no colon",
        ": no name",
    ] {
        let request = format!("POST /x HTTP/1.1\r\n{headers}\r\n\r\n{hidden}");
        let answer = api.talk(request.as_bytes());
        assert_eq!(status(&answer), 400, "{headers:?}: {answer}");
        assert_eq!(
            answer.matches("Server: ").count(),
            1,
            "{headers:?}: {answer}"
        );
    }
    for body in [
        "zz\r\n",
        "5\r\nabcdefgh\r\n0\r\n\r\n",
        "-1\r\n",
        "\r\n",
        "3\nabc\n",
    ] {
        let request = format!("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(api.status(request.as_bytes()), 400, "{body:?}");
    }
    api.assert_alive();
}

#[test]
fn attack_10_odd_request_lines_get_an_answer() {
    let api = api();
    for (line, wanted) in [
        (&b"GET /x HTTP/1.1\nHost: x\n\n"[..], 400),
        (b"GET /x HTTP/2.0\r\n\r\n", 505),
        (b"GET  /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x\r\n\r\n", 400),
        (b"GET /x HTTP/1.1 \r\n\r\n", 400),
        (b"get /x HTTP/1.1\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\n\r\n\r\n", 400),
        (b"\r\nGET /x HTTP/1.1\r\n\r\n", 200),
        (b"FOO /x HTTP/1.1\r\nA: \xc3\xa9\r\n\r\n", 200),
    ] {
        assert_eq!(
            api.status(line),
            wanted,
            "{}",
            String::from_utf8_lossy(line)
        );
    }
    api.assert_alive();
}

/// Attack 3 needs a process of its own: it uses up the file descriptors.
#[cfg(target_os = "linux")]
mod descriptors {
    use super::*;
    use std::fs::File;
    use std::process::Command;

    const CHILD: &str = "EXO_TEST_DESCRIPTORS";

    #[test]
    fn attack_3_running_out_of_descriptors_is_survived() {
        if std::env::var_os(CHILD).is_some() {
            return starve();
        }
        let this = std::env::current_exe().unwrap();
        let script = "ulimit -n 64 && exec \"$0\" --exact --nocapture --test-threads=1 \
                      attacks::descriptors::attack_3_running_out_of_descriptors_is_survived";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(this)
            .env(CHILD, "1")
            .output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("1 passed"), "{text}");
    }

    /// Takes every descriptor but `spare`, talks to the API, gives them back, and talks again.
    fn starve() {
        let api = api();
        api.assert_alive();
        for spare in 0..6 {
            let mut stream = api.connect();
            let mut taken = Vec::new();
            while let Ok(file) = File::open("/dev/null") {
                taken.push(file);
            }
            taken.truncate(taken.len().saturating_sub(spare));
            let _ = stream.write_all(b"GET /x HTTP/1.1\r\n\r\n");
            thread::sleep(Duration::from_millis(150));
            drop(taken);
            drop(stream);
            api.wait_until_alive();
        }
    }
}
