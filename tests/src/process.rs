//! Real `exo-node` processes, [`ring`]s of them, a small [`http`] client to talk with them, the
//! [`story`] that they are asked for, and a [`stand`] where they are disturbed at it.

pub mod browser;
#[cfg(target_os = "linux")]
pub mod find;
pub mod http;
mod ports;
pub mod relay;
pub mod ring;
#[cfg(unix)]
pub mod ssh;
pub mod stand;
pub mod story;

pub use http::{get, open, post};
pub use ports::free_ports;
pub use ring::{Member, Ring};

use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
        // What cargo tells tests of their package is not for a build: some build scripts (ring's) run
        // anew when it changes, and all that depends on them is compiled again, each time.
        for (name, _) in std::env::vars_os() {
            let told = name.to_str().unwrap_or_default();
            if told.starts_with("CARGO_PKG_") || told.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&name);
            }
        }
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let status = build.status().expect("cargo runs");
        assert!(status.success(), "exo-node does not build");
        profile.join(format!("exo-node{}", std::env::consts::EXE_SUFFIX))
    })
}

/// Where a node runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address, for peers and clients.
    pub host: IpAddr,
    /// Its ring port.
    pub port: u16,
    /// Its HTTP port.
    pub api: u16,
    /// The network namespace that it lives in, if not this process's.
    pub namespace: Option<String>,
}

/// A running node; killed when dropped.
#[derive(Debug)]
pub struct NodeProcess {
    child: Child,
    place: Place,
    /// Its id in the ring.
    pub id: String,
    /// Where its HTTP API is.
    pub api: SocketAddr,
    /// Where its peers connect.
    pub address: SocketAddr,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl NodeProcess {
    /// Starts the node on loopback, with `arguments` after those that name and place it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(id: &str, port: u16, api: u16, arguments: &[&str], home: &Path) -> Self {
        let place = Place {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port,
            api,
            namespace: None,
        };
        Self::start_at(id, &place, arguments, home)
    }

    /// Starts the node at a place, with `arguments` after those that name and place it.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_at<S: AsRef<OsStr>>(
        id: &str,
        place: &Place,
        arguments: &[S],
        home: &Path,
    ) -> Self {
        let (host, port, api) = (place.host.to_string(), place.port, place.api);
        let (port, api) = (port.to_string(), api.to_string());
        let own = ["--node-id", id, "--node-host", &host, "--node-port", &port];
        let served = ["--chatgpt-api-port", &api, "--chatgpt-api-host", &host];
        let mut all: Vec<&OsStr> = own.iter().chain(&served).map(OsStr::new).collect();
        // So that every node has layers: on one machine one node alone is quicker.
        let quiet = ["--disable-tui", "--placement", "memory"];
        all.extend(quiet.map(OsStr::new));
        all.extend(arguments.iter().map(AsRef::as_ref));
        Self::start_plain(id, place, &all, home)
    }

    /// Starts the program with these words and no others; they should put it at `place`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_plain<S: AsRef<OsStr>>(
        id: &str,
        place: &Place,
        arguments: &[S],
        home: &Path,
    ) -> Self {
        let mut command = match &place.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary());
                command
            }
            None => Command::new(binary()),
        };
        // A test with a hub writes where it is; all others ask nobody.
        let hub = std::fs::read_to_string(home.join("hub-endpoint"));
        let hub = hub.unwrap_or_else(|_| "http://127.0.0.1:9".to_owned());
        let mut child = command
            .args(arguments)
            .env("EXO_HOME", home.join(id))
            .env("HF_HOME", home.join(id).join("hf"))
            .env("HF_ENDPOINT", hub.trim())
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
            place: place.clone(),
            id: id.into(),
            api: SocketAddr::new(place.host, place.api),
            address: SocketAddr::new(place.host, place.port),
            log,
            readers,
        }
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has printed `words`, at or behind `from`; gives where they end.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub fn wait_for_words(&self, words: &str, from: usize) -> usize {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            if let Some(at) = log.get(from..).and_then(|log| log.find(words)) {
                return from + at + words.len();
            }
            assert!(Instant::now() < give_up, "no {words:?} in\n{log}");
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Where it runs.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its number for the system.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
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
        let mut seen = String::new();
        while Instant::now() < give_up {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "{} ended with {status} before {what}:\n{}",
                    self.id,
                    self.log()
                );
            }
            if let Ok((200, body)) = get(self.api, "/v1/topology") {
                if serde_json::from_str(&body).is_ok_and(|topology| condition(&topology)) {
                    return;
                }
                seen = body;
            }
            // Not a synchronisation: only to leave the processor to the nodes between two looks.
            std::thread::park_timeout(Duration::from_millis(20));
        }
        panic!(
            "{}: {what} did not come within {PATIENCE:?}; its topology is {seen}\n{}",
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

    /// Sends it a signal, such as `STOP`.
    ///
    /// # Panics
    /// When the system refuses.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &process]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill works");
    }

    /// Asks it to end, and waits for its exit code.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`].
    #[cfg(unix)]
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
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
