//! An API with short limits, and clients of it.

use exo_node::api::backend::{Backend, ChannelKind};
use exo_node::api::error::ApiError;
use exo_node::api::guard::{Guard, GuardOptions};
use exo_node::api::http::{Reply, Request, Responder};
use exo_node::api::line::LineOptions;
use exo_node::api::service::{Lane, Service};
use exo_node::metrics::{Crowd, LookAtCrowd};
use serde_json::json;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Short limits, so that slow clients are slow only by a test's measure.
pub(crate) const OPTIONS: GuardOptions = GuardOptions {
    head_bytes: 4096,
    head_time: Duration::from_secs(1),
    body_bytes: 1 << 20,
    body_time: Duration::from_secs(1),
    bodies_bytes: 4 << 20,
    connections: 8,
    requests: 50,
    idle_time: Duration::from_millis(200),
    write_time: Duration::from_secs(1),
    linger: Duration::from_secs(1),
    quick: LineOptions {
        slots: 2,
        waiting: 64,
    },
    answers: LineOptions {
        slots: 2,
        waiting: 2,
    },
    watch: LineOptions {
        slots: 2,
        waiting: 0,
    },
};

/// Events of the stream at `/events`.
pub(crate) const EVENTS: usize = 20;

pub(crate) struct Api {
    backend: Arc<Backend>,
    pub(crate) guard: Guard,
    pub(crate) cancelled: Arc<AtomicUsize>,
    /// Events that the client has read: the next one is sent only then.
    pub(crate) read: Arc<AtomicUsize>,
    /// Requests for `/wait` that are being worked on.
    pub(crate) waiting: Arc<AtomicUsize>,
    look: Arc<OnceLock<LookAtCrowd>>,
}

pub(crate) fn api() -> Api {
    api_on(ChannelKind::preferred(), OPTIONS)
}

pub(crate) fn api_on(kind: ChannelKind, options: GuardOptions) -> Api {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let read = Arc::new(AtomicUsize::new(0));
    let waiting = Arc::new(AtomicUsize::new(0));
    let look = Arc::new(OnceLock::new());
    let told = Told {
        look: Arc::clone(&look),
        cancelled: Arc::clone(&cancelled),
        read: Arc::clone(&read),
        waiting: Arc::clone(&waiting),
    };
    let backend = Backend::start(kind, Arc::new(told)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let guard = Guard::start(listener, options, Arc::clone(&backend)).unwrap();
    Api {
        guard,
        backend,
        cancelled,
        read,
        waiting,
        look,
    }
}

/// Answers, and counts what becomes of its answers.
struct Told {
    look: Arc<OnceLock<LookAtCrowd>>,
    cancelled: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
}

impl Service for Told {
    fn admit(&self, request: &Request) -> Result<Lane, Reply> {
        match request.path.as_str() {
            "/wait" => Ok(Lane::Answer),
            "/never" => Err(ApiError::new(403, "never", "never").to_reply()),
            _ => Ok(Lane::Quick),
        }
    }

    fn opened(&self, look: LookAtCrowd) {
        let _ = self.look.set(look);
    }

    fn answer(&self, request: Request, responder: Responder) {
        answer(&request, responder, self);
    }
}

impl Api {
    /// What is told of those who wait.
    pub(crate) fn crowd(&self) -> Crowd {
        self.look.get().unwrap()()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.backend.close();
    }
}

fn answer(request: &Request, responder: Responder, told: &Told) {
    let result = match request.path.as_str() {
        "/wait" => {
            let started = Instant::now();
            told.waiting.fetch_add(1, Ordering::SeqCst);
            while !request.client.gone() && started.elapsed() < PATIENCE {
                thread::sleep(Duration::from_millis(5));
            }
            told.waiting.fetch_sub(1, Ordering::SeqCst);
            let gone = usize::from(request.client.gone());
            told.cancelled.fetch_add(gone, Ordering::SeqCst);
            Ok(())
        }
        "/events" => events(request, responder, &told.read),
        "/torn" => {
            let mut stream = responder.stream("text/plain").unwrap();
            stream.write_all(b"half").unwrap();
            // Unwinds like a panic, without its words in the test's output.
            std::panic::resume_unwind(Box::new(()))
        }
        "/panic" => std::panic::resume_unwind(Box::new(())),
        "/large" => responder.send(&Reply::html("x".repeat(64 << 20))),
        _ => {
            let value = json!({
                "method": request.method, "path": request.path, "bytes": request.body.len(),
                "host": request.header("Host"), "origin": request.header("Origin"),
            });
            responder.send(&Reply::json(200, &value))
        }
    };
    if result.is_err() {
        told.cancelled.fetch_add(1, Ordering::SeqCst);
    }
}

/// Sends each event only when the client has read the one before, or has gone.
fn events(request: &Request, responder: Responder, read: &AtomicUsize) -> io::Result<()> {
    let mut stream = responder.stream("text/event-stream")?;
    for event in 0..EVENTS {
        write!(stream, "data: {event}\n\n")?;
        stream.flush()?;
        let started = Instant::now();
        while read.load(Ordering::SeqCst) <= event
            && !request.client.gone()
            && started.elapsed() < PATIENCE
        {
            thread::sleep(Duration::from_millis(1));
        }
        if request.client.gone() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    Ok(())
}

impl Api {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.guard.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends `bytes` and reads until the connection ends, which is soon when nothing more comes.
    pub(crate) fn talk(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        read_all(&mut stream)
    }

    pub(crate) fn status(&self, bytes: &[u8]) -> u16 {
        status(&self.talk(bytes))
    }

    pub(crate) fn assert_alive(&self) {
        let answer =
            self.talk(b"GET /alive?x=1 HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        assert!(
            answer.contains(r#""path":"/alive","bytes":0,"host":"here""#),
            "{answer}"
        );
    }

    /// Waits until clients that left are no longer counted.
    pub(crate) fn wait_until_alive(&self) {
        let started = Instant::now();
        while self.status(b"GET /alive HTTP/1.1\r\nConnection: close\r\n\r\n") != 200 {
            assert!(started.elapsed() < PATIENCE, "it does not come back");
            thread::sleep(Duration::from_millis(5));
        }
        self.assert_alive();
    }

    pub(crate) fn wait_for_cancel(&self) {
        self.wait_for("a worker hears of it", || {
            self.cancelled.load(Ordering::SeqCst) > 0
        });
    }

    /// Waits until so many requests for `/wait` are being worked on.
    pub(crate) fn wait_for_waiting(&self, count: usize) {
        self.wait_for("so many wait", || {
            self.waiting.load(Ordering::SeqCst) == count
        });
    }

    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "{what}: never");
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
