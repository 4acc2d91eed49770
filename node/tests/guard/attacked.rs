//! An API with short limits, and clients of it.

use exo_node::api::backend::{Backend, ChannelKind, Handler};
use exo_node::api::guard::{Guard, GuardOptions};
use exo_node::api::http::{Reply, Request, Responder};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Short limits, so that slow clients are slow only by a test's measure.
pub(crate) const OPTIONS: GuardOptions = GuardOptions {
    head_bytes: 4096,
    head_time: Duration::from_millis(300),
    body_bytes: 1 << 20,
    body_time: Duration::from_millis(300),
    connections: 8,
    write_time: Duration::from_millis(300),
    linger: Duration::from_millis(300),
};

pub(crate) struct Api {
    backend: Arc<Backend>,
    pub(crate) guard: Guard,
    pub(crate) cancelled: Arc<AtomicUsize>,
}

pub(crate) fn api() -> Api {
    api_on(ChannelKind::preferred(), OPTIONS)
}

pub(crate) fn api_on(kind: ChannelKind, options: GuardOptions) -> Api {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cancelled);
    let handler: Handler = Arc::new(move |request, responder| answer(&request, responder, &count));
    let backend = Backend::start(kind, handler).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let guard = Guard::start(listener, options, Arc::clone(&backend)).unwrap();
    Api {
        guard,
        backend,
        cancelled,
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.backend.close();
    }
}

fn answer(request: &Request, responder: Responder, cancelled: &AtomicUsize) {
    let result = match request.path.as_str() {
        "/wait" => {
            let started = Instant::now();
            while !request.client.gone() && started.elapsed() < Duration::from_secs(5) {
                thread::sleep(Duration::from_millis(5));
            }
            cancelled.fetch_add(usize::from(request.client.gone()), Ordering::SeqCst);
            Ok(())
        }
        "/events" => events(responder),
        "/large" => responder.send(&Reply::html("x".repeat(64 << 20))),
        _ => {
            let value = json!({
                "method": request.method, "path": request.path, "bytes": request.body.len(),
                "host": request.host, "origin": request.origin,
            });
            responder.send(&Reply::json(200, &value))
        }
    };
    if result.is_err() {
        cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

fn events(responder: Responder) -> io::Result<()> {
    let mut stream = responder.stream("text/event-stream")?;
    for event in 0..20 {
        write!(stream, "data: {event}\n\n")?;
        stream.flush()?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Api {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.guard.address()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        stream
    }

    /// Sends `bytes` and reads to the end.
    pub(crate) fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    }

    pub(crate) fn status(&self, bytes: &[u8]) -> u16 {
        status(&self.talk(bytes))
    }

    pub(crate) fn assert_alive(&self) {
        let answer = self.talk(b"GET /alive?x=1 HTTP/1.1\r\nHost: here\r\n\r\n");
        assert!(
            answer.contains(r#""path":"/alive","bytes":0,"host":"here""#),
            "{answer}"
        );
    }

    pub(crate) fn wait_for_cancel(&self) {
        let started = Instant::now();
        while self.cancelled.load(Ordering::SeqCst) == 0 {
            assert!(
                started.elapsed() < Duration::from_secs(4),
                "nobody was told"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

pub(crate) fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn status(answer: &str) -> u16 {
    answer
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0)
}
