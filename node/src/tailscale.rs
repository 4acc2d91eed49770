//! Looks for peers in a tailnet: runs the `tailscale` program and asks Tailscale's API, as
//! [`Watch`] wants, and tells the node whom they name.

use crate::logging::DISCOVERY;
use crate::runtime::{CommandError, Handle};
use crate::settings::Tailscale;
use exo_protocol::discovery::tailscale::{Ask, Attributes, MAX_LEN, News, Step, Watch};
use exo_protocol::topology::Capabilities;
use exo_protocol::{Command, Discovered, NodeId};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command as Program, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One answer may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection that only shows whether somebody is there may take this long.
const KNOCK: Duration = Duration::from_secs(2);

/// Until a node that was too busy to listen is told again.
const AGAIN: Duration = Duration::from_secs(1);

/// A search that goes on until this is dropped.
#[derive(Debug)]
pub struct Search {
    _stop: Sender<()>,
}

impl Search {
    /// Begins to look for peers of a node that says this of itself.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        settings: &Tailscale,
        node: NodeId,
        capabilities: Capabilities,
        handle: Handle,
    ) -> io::Result<Self> {
        let own = Attributes {
            node,
            port: settings.node_port,
            capabilities,
        };
        let watch = Watch::new(own, settings.nodes.clone(), settings.key.is_some());
        let way = Way::new(settings);
        let (stop, stopped) = mpsc::channel();
        let tell = move |peers| {
            let source = "tailscale".to_owned();
            handle.command(Command::Discovered { source, peers })
        };
        thread::Builder::new()
            .name("tailscale".to_owned())
            .spawn(move || search(watch, &way, &stopped, tell))?;
        Ok(Self { _stop: stop })
    }
}

/// Asks until it is stopped.
fn search(
    mut watch: Watch,
    way: &Way,
    stopped: &Receiver<()>,
    tell: impl Fn(Vec<Discovered>) -> Result<(), CommandError>,
) {
    let clock = Instant::now();
    let now = || exo_protocol::Instant::after_origin(clock.elapsed());
    let mut untold: Option<Vec<Discovered>> = None;
    loop {
        let mut pause = Duration::ZERO;
        match watch.next(now()) {
            Step::Wait(until) => pause = until - now(),
            Step::Ask(ask) => {
                let answer = way.ask(&ask);
                let answer = answer.as_deref().map_err(Clone::clone);
                for news in watch.done(now(), unix(), &ask, answer) {
                    match news {
                        News::Peers(peers) => untold = Some(peers),
                        News::Trouble(reason) => tracing::warn!(target: DISCOVERY, "{reason}"),
                    }
                }
            }
        }
        if let Some(peers) = &untold {
            match tell(peers.clone()) {
                Ok(()) => untold = None,
                Err(CommandError::Busy) => pause = pause.min(AGAIN),
                Err(_) => return,
            }
        }
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// The time in seconds since 1970.
fn unix() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// How answers are come by.
struct Way {
    program: String,
    api: String,
    tailnet: String,
    key: Option<String>,
    agent: ureq::Agent,
}

impl Way {
    fn new(settings: &Tailscale) -> Self {
        let variable = |name: &str, usual: &str| std::env::var(name).unwrap_or(usual.to_owned());
        Self::with(
            settings,
            variable("EXO_TAILSCALE", "tailscale"),
            variable("EXO_TAILSCALE_API", "https://api.tailscale.com"),
        )
    }

    fn with(settings: &Tailscale, program: String, api: String) -> Self {
        // The key goes where it is meant to go and nowhere else.
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        Self {
            program,
            api,
            tailnet: settings.tailnet.clone(),
            key: settings.key.clone(),
            agent: config.into(),
        }
    }

    fn ask(&self, ask: &Ask) -> Result<Vec<u8>, String> {
        match ask {
            Ask::Status => run(&self.program, &["status", "--json"]),
            Ask::Devices => self.get(&format!("tailnet/{}/devices", self.tailnet)),
            Ask::Attributes { device } => self.get(&format!("device/{}/attributes", word(device)?)),
            Ask::Tell {
                device,
                name,
                value,
            } => {
                let path = format!("device/{}/attributes/{name}", word(device)?);
                let body = serde_json::json!({ "value": value }).to_string();
                let post = self
                    .agent
                    .post(self.url(&path))
                    .header("Authorization", self.authorization())
                    .header("Content-Type", "application/json");
                read(post.send(body))
            }
            Ask::Knock { address } => knock(*address).map_err(|error| error.to_string()),
        }
    }

    fn get(&self, path: &str) -> Result<Vec<u8>, String> {
        let get = self.agent.get(self.url(path));
        read(get.header("Authorization", self.authorization()).call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v2/{path}", self.api)
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.key.as_deref().unwrap_or_default())
    }
}

/// An id as a part of a path.
fn word(id: &str) -> Result<&str, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if id.bytes().all(plain) && !id.is_empty() && !id.starts_with('.') {
        return Ok(id);
    }
    Err(format!("{id:?} is no device's id"))
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>, String> {
    let mut answer = answer.map_err(|error| error.to_string())?;
    let status = answer.status();
    if !status.is_success() {
        let advice = match status.as_u16() {
            401 | 403 => {
                "; is --tailscale-api-key right, and may it read devices and write attributes?"
            }
            404 => "; is --tailnet-name right?",
            _ => "",
        };
        return Err(format!("the API answers {status}{advice}"));
    }
    // One byte more than is read, so that too much is noticed.
    let limit = u64::try_from(MAX_LEN).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let body = answer.body_mut().as_reader();
    body.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn knock(address: SocketAddr) -> io::Result<Vec<u8>> {
    TcpStream::connect_timeout(&address, KNOCK).map(|_| Vec::new())
}

/// What a program prints.
fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut child = Program::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "there is no program {program}; install Tailscale, or name the program in \
                 EXO_TAILSCALE"
            ),
            _ => error.to_string(),
        })?;
    let printed = printed(&mut child);
    // It has ended, or it hangs.
    let _ = child.kill();
    let status = child.wait().map_err(|error| error.to_string())?;
    match printed {
        Some(bytes) if !bytes.is_empty() => Ok(bytes),
        Some(_) => Err(format!("it prints nothing ({status})")),
        None => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// All that it prints, unless it takes too long.
fn printed(child: &mut Child) -> Option<Vec<u8>> {
    let output = child.stdout.take()?;
    let (done, printed) = mpsc::channel();
    let limit = u64::try_from(MAX_LEN).unwrap_or(u64::MAX).saturating_add(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(limit).read_to_end(&mut bytes);
        let _ = done.send(read.map(|_| bytes).unwrap_or_default());
    });
    printed.recv_timeout(PATIENCE).ok()
}

#[cfg(test)]
mod tests;
