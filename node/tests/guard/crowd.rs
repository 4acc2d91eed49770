//! More clients than can be served at once.

use crate::attacked::{Api, OPTIONS, PATIENCE, api, api_on, read_all, status};
use exo_node::api::backend::ChannelKind;
use exo_node::api::guard::GuardOptions;
use exo_node::api::line::LineOptions;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Who is refused hears it within this, as a rule; who does not is asked again.
const MOMENT: Duration = Duration::from_millis(100);

const WAIT: &[u8] = b"GET /wait HTTP/1.1\r\n\r\n";

fn wait(api: &Api) -> TcpStream {
    let mut stream = api.connect();
    stream.write_all(WAIT).unwrap();
    stream
}

#[test]
fn some_are_served_some_wait_and_others_come_again() {
    let api = api();
    let served: Vec<_> = (0..2).map(|_| wait(&api)).collect();
    api.wait_for_waiting(2);
    let queued: Vec<_> = (0..2).map(|_| wait(&api)).collect();
    // Whether both stand in the line already is seen only from who finds no place in it; until
    // then whoever asks would stand in it.
    let refused = (0..1000).find_map(|_| {
        let mut client = wait(&api);
        client.set_read_timeout(Some(MOMENT)).unwrap();
        let answer = read_all(&mut client);
        (!answer.is_empty()).then_some(answer)
    });
    let refused = refused.unwrap();
    assert_eq!(status(&refused), 429, "{refused}");
    assert!(refused.contains("\r\nRetry-After: 1\r\n"), "{refused}");
    assert!(refused.contains(r#""code":"queue_full""#), "{refused}");
    let crowd = api.crowd();
    let line = crowd.lines.iter().find(|line| line.name == "answers");
    let line = *line.unwrap();
    assert_eq!((line.working, line.slots), (2, 2), "{crowd:?}");
    // Who lost patience stands there until that is noticed.
    assert!(line.capacity == 2 && line.waiting <= 2, "{crowd:?}");
    // Who waits may have been heard, or not yet; who is served has been.
    assert!(line.refused >= 1 && crowd.connections >= 2, "{crowd:?}");
    assert_eq!(crowd.most_connections, OPTIONS.connections, "{crowd:?}");
    // What is quick does not stand in that line.
    api.assert_alive();
    assert_eq!(api.waiting.load(Ordering::SeqCst), 2);
    // Those who leave the line make room in it, and never come to a worker.
    drop(queued);
    let stands = (0..1000).find_map(|_| {
        let mut client = wait(&api);
        client.set_read_timeout(Some(MOMENT)).unwrap();
        read_all(&mut client).is_empty().then_some(client)
    });
    assert!(stands.is_some());
    assert_eq!(api.cancelled.load(Ordering::SeqCst), 0);
    drop((stands, served));
    api.wait_for_waiting(0);
    let last = wait(&api);
    api.wait_for_waiting(1);
    drop(last);
    api.wait_for_waiting(0);
}

#[test]
fn who_waits_is_served_when_another_leaves() {
    let api = api();
    let mut served: Vec<_> = (0..2).map(|_| wait(&api)).collect();
    api.wait_for_waiting(2);
    let _queued = wait(&api);
    drop(served.pop());
    api.wait_for("one was cancelled", || {
        api.cancelled.load(Ordering::SeqCst) == 1
    });
    api.wait_for_waiting(2);
}

#[test]
fn large_bodies_share_what_memory_there_is() {
    let options = GuardOptions {
        bodies_bytes: 1000,
        body_time: PATIENCE,
        ..OPTIONS
    };
    let api = api_on(ChannelKind::preferred(), options);
    let post = |length: usize| {
        let head = format!("POST /x HTTP/1.1\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), &vec![b'x'; length]].concat()
    };
    assert_eq!(api.status(&post(1000)), 200);
    assert_eq!(api.status(&post(1001)), 503);
    assert_eq!(api.status(&post(1000)), 200);
    // What was announced and did not come takes nothing.
    let mut slow = api.connect();
    slow.write_all(b"POST /x HTTP/1.1\r\nContent-Length: 900\r\n\r\n")
        .unwrap();
    assert_eq!(api.status(&post(1000)), 200);
}

#[cfg(target_os = "linux")]
mod idle {
    use super::*;
    use std::fs;
    use std::process::Command;

    const CHILD: &str = "EXO_TEST_IDLE";

    /// As many as descriptors allow, up to ten thousand.
    const CLIENTS: usize = 10_000;

    #[test]
    fn ten_thousand_idle_clients_are_nobodys_trouble() {
        if std::env::var_os(CHILD).is_some() {
            return crowd();
        }
        let this = std::env::current_exe().unwrap();
        let script = "ulimit -n $(ulimit -Hn); exec \"$0\" --exact --nocapture --test-threads=1 \
                      crowd::idle::ten_thousand_idle_clients_are_nobodys_trouble";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(this)
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        assert!(text.contains("1 passed"), "{text}");
    }

    fn descriptors() -> usize {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line.unwrap().split_whitespace().nth(3).unwrap();
        soft.parse().unwrap_or(usize::MAX)
    }

    fn resident() -> usize {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    fn crowd() {
        let options = GuardOptions {
            head_time: PATIENCE,
            idle_time: PATIENCE,
            connections: 128,
            quick: LineOptions {
                slots: 16,
                waiting: 128,
            },
            ..OPTIONS
        };
        let api = api_on(ChannelKind::preferred(), options);
        // A stream that was there before, and goes on to the end.
        let mut stream = api.connect();
        stream.write_all(b"GET /events HTTP/1.0\r\n\r\n").unwrap();
        api.assert_alive();
        let count = CLIENTS.min(descriptors().saturating_sub(1000));
        if count < CLIENTS {
            eprintln!("only {count} idle clients: this system allows no more");
        }
        let before = resident();
        let mut idle = Vec::new();
        for number in 0..count {
            idle.push(api.connect());
            if number % 1000 == 0 {
                api.assert_alive();
            }
        }
        api.assert_alive();
        let grown = resident().saturating_sub(before);
        // The clients' own sockets are no memory of this process; a guard that kept all threads
        // would take twice as much for their stacks alone.
        assert!(grown < 64 << 20, "{grown} bytes for {count} idle clients");
        api.read.store(usize::MAX, Ordering::SeqCst);
        let events = read_all(&mut stream);
        assert!(events.ends_with("data: 19\n\n"), "{events}");
        drop(idle);
        api.wait_until_alive();
    }
}
