//! Real `exo-node` processes on loopback, and a small HTTP client to talk with them.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a test waits for what must come, on a machine that may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The node's binary, built for the profile that the tests have. `EXO_NODE_BIN` names another.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("EXO_NODE_BIN") {
            return path.into();
        }
        let test = std::env::current_exe().expect("a test knows where it is");
        let profile = test
            .ancestors()
            .find(|folder| folder.ends_with("deps"))
            .and_then(Path::parent)
            .expect("tests run from a deps folder");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--package", "exo-node", "--bin", "exo-node"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "exo-node does not build");
        profile.join(format!("exo-node{}", std::env::consts::EXE_SUFFIX))
    })
}

/// Ports that were free a moment ago.
///
/// # Panics
/// When the system has none.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    listeners
        .iter()
        .map(|listener| {
            listener
                .local_addr()
                .expect("a bound socket has an address")
                .port()
        })
        .collect()
}

/// A running node; killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    /// Its id in the ring.
    pub id: String,
    /// Its HTTP port.
    pub api: u16,
    /// Its ring port.
    pub port: u16,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl NodeProcess {
    /// Starts the node with `arguments` after those that name and place it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(id: &str, port: u16, api: u16, arguments: &[&str], home: &Path) -> Self {
        let mut child = Command::new(binary())
            .args(["--node-id", id, "--node-host", "127.0.0.1"])
            .args([
                "--node-port",
                &port.to_string(),
                "--chatgpt-api-port",
                &api.to_string(),
            ])
            .args(["--chatgpt-api-host", "127.0.0.1", "--disable-tui"])
            .args(arguments)
            .env("EXO_HOME", home.join(id))
            .env("HF_HOME", home.join("hub"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let log = Arc::new(Mutex::new(String::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        let follow = |stream: Box<dyn Read + Send>| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let mut log = log.lock().expect("nobody panics with the log");
                    log.push_str(&line);
                    log.push('\n');
                }
            })
        };
        let readers = streams.into_iter().flatten().map(follow).collect();
        Self {
            child,
            id: id.into(),
            api,
            port,
            log,
            readers,
        }
    }

    /// What it printed so far.
    ///
    /// # Panics
    /// Never in practice: only if a reader of its output panicked.
    pub fn log(&self) -> String {
        self.log.lock().expect("nobody panics with the log").clone()
    }

    /// Waits until `condition` of its topology holds.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`], or the node ends; with its log.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&Value) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "{} ended with {status} before {what}:\n{}",
                    self.id,
                    self.log()
                );
            }
            if let Ok((200, body)) = get(self.api, "/v1/topology")
                && serde_json::from_str(&body).is_ok_and(|topology| condition(&topology))
            {
                return;
            }
            // Not a synchronisation: only to leave the processor to the nodes between two looks.
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!(
            "{}: {what} did not come within {PATIENCE:?}:\n{}",
            self.id,
            self.log()
        );
    }

    /// Ends it without a word, as a power cut would.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Asks it to end, and waits for its exit code.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[cfg(unix)]
    pub fn terminate(&mut self) -> Option<i32> {
        let status = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "kill works");
        self.exit_code()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    pub fn exit_code(&mut self) -> Option<i32> {
        let give_up = Instant::now() + PATIENCE;
        while Instant::now() < give_up {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                // Its last words are read before anybody asks for them.
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
                return status.code();
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("{} does not end:\n{}", self.id, self.log());
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.id, self.log());
        }
    }
}

/// A ring of nodes that all name each other.
#[derive(Debug)]
pub struct Ring {
    /// The nodes, `node-1` first.
    pub nodes: Vec<NodeProcess>,
    folder: tempfile::TempDir,
}

impl Ring {
    /// Starts one node for each entry of `runtimes`, with the seed's flags and mirrored discovery
    /// files, and waits until every node sees every other.
    ///
    /// # Panics
    /// When a node does not start, or they do not find each other.
    pub fn start(runtimes: &[&str], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let count = runtimes.len();
        let ports = free_ports(2 * count);
        let (ring, api) = ports.split_at(count);
        let nodes = runtimes.iter().zip(ring).zip(api).enumerate();
        let nodes: Vec<NodeProcess> = nodes
            .map(|(index, ((runtime, &port), &api))| {
                let id = format!("node-{}", index + 1);
                let file = folder
                    .path()
                    .join(format!("peer_config_{}.json", index + 1));
                std::fs::write(&file, peer_config(ring, index)).expect("a writable folder");
                let file = file.to_string_lossy();
                let mut all = vec!["--runtime", runtime, "--node-memory", "4096"];
                if count > 1 {
                    all.extend([
                        "--discovery-module",
                        "manual",
                        "--discovery-config-path",
                        &file,
                    ]);
                }
                all.extend(arguments);
                NodeProcess::start(&id, port, api, &all, folder.path())
            })
            .collect();
        let mut ring = Self { nodes, folder };
        ring.wait_until_whole();
        ring
    }

    /// Waits until every node sees every other and knows that it is seen.
    ///
    /// # Panics
    /// When that does not happen within [`PATIENCE`].
    pub fn wait_until_whole(&mut self) {
        let count = self.nodes.len();
        for node in &mut self.nodes {
            node.wait_for("all nodes to see each other", |topology| {
                let edges = |from: &Value| from.as_array().map_or(0, Vec::len);
                let graph = topology["peer_graph"].as_object();
                topology["nodes"]
                    .as_object()
                    .map_or(0, serde_json::Map::len)
                    == count
                    && graph.map_or(0, |graph| graph.values().map(edges).sum())
                        == count * (count - 1)
            });
        }
    }

    /// Where the discovery files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// The discovery file of node `own`, in the form of the seed's documents: `host:port`, no entry for
/// the node itself.
fn peer_config(ports: &[u16], own: usize) -> String {
    let peers: serde_json::Map<String, Value> = ports
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != own)
        .map(|(index, port)| {
            let peer = json!({
                "address": format!("127.0.0.1:{port}"),
                "device_capabilities": {
                    "model": "Unknown Model",
                    "chip": "Unknown Chip",
                    "memory": 0,
                    "flops": {"fp32": 0, "fp16": 0, "int8": 0}
                }
            });
            (format!("node-{}", index + 1), peer)
        })
        .collect();
    json!({ "peers": peers }).to_string()
}

/// `GET` on loopback: status and body.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    request(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
    )
}

/// `POST` of a JSON document on loopback: status and body.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn post(port: u16, path: &str, document: &Value) -> io::Result<(u16, String)> {
    let mut response = open(port, path, document)?;
    let mut body = String::new();
    let status = response.status;
    response.body.read_to_string(&mut body)?;
    Ok((status, body))
}

/// A response whose body is still coming; chunks are joined.
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Box<dyn BufRead>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// `POST`, leaving the body to be read as it comes.
///
/// # Errors
/// Of the connection, or when what comes back is not HTTP.
pub fn open(port: u16, path: &str, document: &Value) -> io::Result<Response> {
    let body = document.to_string();
    let length = body.len();
    send(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ),
    )
}

fn request(port: u16, text: &str) -> io::Result<(u16, String)> {
    let mut response = send(port, text)?;
    let mut body = String::new();
    response.body.read_to_string(&mut body)?;
    Ok((response.status, body))
}

fn send(port: u16, text: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let bad = || io::Error::other("not an HTTP response");
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(bad)?;
    let mut chunked = false;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(bad());
        }
        if line == "\r\n" {
            break;
        }
        let header = line.to_ascii_lowercase();
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
    }
    let body: Box<dyn BufRead> = if chunked {
        Box::new(BufReader::new(Chunks {
            inner: reader,
            left: 0,
            done: false,
        }))
    } else {
        Box::new(reader)
    };
    Ok(Response { status, body })
}

/// Joins the chunks of a chunked body.
struct Chunks<R> {
    inner: R,
    left: usize,
    done: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.done {
            let mut line = String::new();
            self.inner.read_line(&mut line)?;
            if line == "\r\n" {
                line.clear();
                self.inner.read_line(&mut line)?;
            }
            let size = line.trim().split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("{line:?} is no chunk size")))?;
            self.done = self.left == 0;
        }
        if self.done {
            return Ok(0);
        }
        let most = buffer.len().min(self.left);
        let read = self
            .inner
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}
