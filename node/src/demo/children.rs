//! The nodes of the demo: processes that never outlive it.

use super::{Demo, DemoError, absolute};
use crate::capabilities;
use crate::cli::RuntimeKind;
use crate::folder::PrivateFolder;
use crate::settings::Settings;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// All nodes; dropping them ends them.
pub(super) struct Children {
    all: Vec<Child>,
    _folder: PrivateFolder,
}

/// One node.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) name: String,
    pub(super) runtime: RuntimeKind,
    pub(super) node: SocketAddr,
    pub(super) api: SocketAddr,
    process: std::process::Child,
    /// Nobody killed it.
    pub(super) lives: bool,
    words: Arc<Mutex<VecDeque<String>>>,
}

/// As many of a node's last lines are kept, and at most as many are shown.
const WORDS: usize = 12;

/// An orderly stop takes less.
const PATIENCE: Duration = Duration::from_secs(3);

impl Children {
    pub(super) fn start(demo: &Demo, settings: &Settings) -> Result<Self, DemoError> {
        let ports = free_ports(demo.nodes * 2)?;
        let (nodes, apis) = ports.split_at(demo.nodes);
        let places: Vec<(String, SocketAddr)> = nodes
            .iter()
            .enumerate()
            .map(|(index, address)| (format!("node{}", index + 1), *address))
            .collect();
        // A whole machine's memory, in equal parts, makes equal shares of the layers.
        let memory = capabilities::detect(settings.memory).memory;
        let share = memory / i64::try_from(demo.nodes).unwrap_or(1);
        let mut children = Self {
            all: Vec::new(),
            _folder: PrivateFolder::create()?,
        };
        let folder = children._folder.path().to_owned();
        for (index, ((name, node), api)) in places.iter().zip(apis).enumerate() {
            let peers = folder.join(format!("{name}.json"));
            fs::write(&peers, peers_file(name, &places))?;
            let runtime = if index % 2 == 0 {
                RuntimeKind::Smol
            } else {
                RuntimeKind::Std
            };
            let mut command = Command::new(std::env::current_exe()?);
            command
                .args([
                    "--node-id",
                    name,
                    "--runtime",
                    runtime.name(),
                    "--stop-with-stdin",
                ])
                .args([
                    "--node-host",
                    "127.0.0.1",
                    "--node-port",
                    &node.port().to_string(),
                ])
                .args(["--chatgpt-api-host", "127.0.0.1"])
                .args(["--chatgpt-api-port", &api.port().to_string()])
                .args(["--node-memory", &share.max(1).to_string()])
                // What answers soonest on one machine is one node, and no ring.
                .args(["--placement", "memory"])
                .args(["--discovery-module", "manual", "--discovery-config-path"])
                .arg(&peers);
            let engine = demo.engine(index, settings);
            command.args(["--inference-engine", engine.name()]);
            pass_on(&mut command, demo, settings);
            children
                .all
                .push(Child::spawn(command, name.clone(), runtime, *node, *api)?);
        }
        Ok(children)
    }

    pub(super) fn all(&self) -> &[Child] {
        &self.all
    }

    pub(super) fn first(&self) -> Option<&Child> {
        self.all.first()
    }

    /// Ends one without a word, as a pulled plug would.
    pub(super) fn kill(&mut self, name: &str) -> io::Result<()> {
        for child in self.all.iter_mut().filter(|child| child.name == name) {
            child.lives = false;
            child.process.kill()?;
        }
        Ok(())
    }

    /// Finds out whether they all run.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        self.all.iter_mut().try_for_each(Child::check)
    }

    /// Ends them in order; those that do not listen, at once.
    pub(super) fn stop(&mut self) {
        for child in &mut self.all {
            drop(child.process.stdin.take());
        }
        let deadline = Instant::now() + PATIENCE;
        for child in &mut self.all {
            while matches!(child.process.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            let _ = child.process.kill();
            let _ = child.process.wait();
        }
        self.all.clear();
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The flags that are the same for all nodes.
fn pass_on(command: &mut Command, demo: &Demo, settings: &Settings) {
    if demo.has_models(settings) {
        command.arg("--default-model");
        // The nodes start where this process did, but a path should not depend on it.
        let path = Path::new(&demo.model);
        let is_path = path.components().count() > 1 && path.exists();
        command.arg(if is_path {
            absolute(path)
        } else {
            path.to_owned()
        });
    }
    for dir in &settings.models_dirs {
        command.arg("--models-dir").arg(absolute(dir));
    }
    if let Some(threads) = settings.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let types: Vec<&str> = settings
        .activations
        .iter()
        .map(|dtype| dtype.name())
        .collect();
    command.args(["--activation-dtype", &types.join(",")]);
    let answering = &settings.answering;
    command.args(["--default-temp", &answering.default_temp.to_string()]);
    if let Some(text) = &answering.system_prompt {
        command.args(["--system-prompt", text]);
    }
}

impl Child {
    fn spawn(
        mut command: Command,
        name: String,
        runtime: RuntimeKind,
        node: SocketAddr,
        api: SocketAddr,
    ) -> io::Result<Self> {
        // Standard input is the leash: it ends with this process, however this process ends.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.env("NO_COLOR", "1");
        let mut process = command.spawn()?;
        let words = Arc::default();
        let child = |process, words| Self {
            name,
            runtime,
            node,
            api,
            process,
            lives: true,
            words,
        };
        if let Some(stderr) = process.stderr.take() {
            let kept = Arc::clone(&words);
            let listening = thread::Builder::new().spawn(move || listen(stderr, &kept));
            if let Err(error) = listening {
                let _ = process.kill();
                return Err(error);
            }
        }
        Ok(child(process, words))
    }

    fn check(&mut self) -> Result<(), DemoError> {
        let ended = self.process.try_wait()?.filter(|_| self.lives);
        let Some(status) = ended else {
            return Ok(());
        };
        // Its last words may still be on their way.
        thread::sleep(Duration::from_millis(50));
        let (node, status) = (self.name.clone(), status.to_string());
        Err(DemoError::Ended {
            node,
            status,
            lines: self.lines(),
        })
    }

    /// The error that this node is to blame for.
    pub(super) fn fault(&self, problem: impl Into<String>) -> DemoError {
        DemoError::Node {
            node: self.name.clone(),
            problem: problem.into(),
            lines: self.lines(),
        }
    }

    fn lines(&self) -> Vec<String> {
        self.words
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

fn listen(stderr: ChildStderr, words: &Mutex<VecDeque<String>>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() >= WORDS {
            words.pop_front();
        }
        words.push_back(line);
    }
}

/// Ports that were free a moment ago, all at the same time.
fn free_ports(count: usize) -> io::Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    listeners.iter().map(TcpListener::local_addr).collect()
}

/// Everybody but `name`, in the format of manual discovery.
fn peers_file(name: &str, places: &[(String, SocketAddr)]) -> String {
    let others = places.iter().filter(|(other, _)| other != name);
    let peers: Map<String, Value> = others
        .map(|(other, address)| {
            (
                other.clone(),
                json!({"address": address.ip().to_string(), "port": address.port()}),
            )
        })
        .collect();
    json!({ "peers": peers }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_told_of_the_others() {
        let ports = free_ports(4).unwrap();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 4);
        let places: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(at, port)| (format!("node{at}"), *port))
            .collect();
        let peers = exo_protocol::discovery::manual::parse(peers_file("node2", &places).as_bytes());
        let peers = peers.unwrap();
        let names: Vec<&str> = peers.iter().map(|peer| peer.id.as_str()).collect();
        assert_eq!(names, ["node0", "node1", "node3"]);
        assert_eq!(peers[0].address, ports[0].to_string());
    }
}
