//! `exo-node tunnel`: the SSH tunnel that leads to a node which only listens, and what to start here.

use crate::Failed;
use crate::cli::{Args, UsageError};
use crate::settings::NODE_PORT;
use crate::signals::Stop;
use crate::words::quoted;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

/// Local ends are looked for from here on: the first port of the first documents.
const FIRST_PORT: u16 = 49703;

/// What the far side runs. With `-N` in its place there is no session, and ssh holds back a share of
/// all messages for about 42 ms. It ends with its input, so nothing is left when the tunnel is cut.
const WAIT: &str = "echo open; exec cat";

/// First wait before a tunnel is opened again; doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What leads where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// As ssh takes it, `user@host`.
    pub host: String,
    /// Further words for ssh, before the host.
    pub options: Vec<String>,
    /// The node's port: here, and on the far side.
    pub node: (Option<u16>, u16),
    /// The same of its API.
    pub api: (Option<u16>, u16),
    /// Open it and keep it open.
    pub run: bool,
}

/// A flag that only `tunnel` knows, if one is given.
pub(crate) fn stray(args: &Args) -> Option<&'static str> {
    let given = [
        ("--run", args.run),
        ("--remote-node-port", args.remote_node_port.is_some()),
        ("--remote-api-port", args.remote_api_port.is_some()),
        ("--local-node-port", args.local_node_port.is_some()),
        ("--local-api-port", args.local_api_port.is_some()),
    ];
    let mut given = given.into_iter().filter(|(_, given)| *given);
    given.next().map(|(flag, _)| flag)
}

impl Tunnel {
    /// What the command line asks for: `host`, and the words behind it for ssh.
    ///
    /// # Errors
    /// When there is no host, or a word is no option of ssh.
    pub(crate) fn asked<'a>(
        args: &Args,
        host: Option<&str>,
        options: impl Iterator<Item = &'a str>,
    ) -> Result<Self, UsageError> {
        let host = host.filter(|host| !host.starts_with('-'));
        let host = host.ok_or_else(|| {
            UsageError(
            "tunnel needs a host: exo-node tunnel user@host, and words for ssh after -- behind it"
                .into(),
        )
        })?;
        let options: Vec<String> = options.map(str::to_owned).collect();
        if let Some(word) = options.first().filter(|word| !word.starts_with('-')) {
            return Err(UsageError(format!(
                "unexpected word {word:?}; options of ssh come after -- behind the host"
            )));
        }
        let ports = [
            args.local_node_port,
            args.local_api_port,
            args.remote_node_port,
            args.remote_api_port,
        ];
        if ports.contains(&Some(0)) || (ports[0].is_some() && ports[0] == ports[1]) {
            return Err(UsageError(
                "the ports of a tunnel are from 1 to 65535, and not the same twice".into(),
            ));
        }
        Ok(Self {
            host: host.to_owned(),
            options,
            node: (
                args.local_node_port,
                args.remote_node_port.unwrap_or(NODE_PORT),
            ),
            api: (
                args.local_api_port,
                args.remote_api_port.unwrap_or(args.chatgpt_api_port),
            ),
            run: args.run,
        })
    }
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No port is left on this side.
    #[error(
        "no port from {FIRST_PORT} on is free here; choose --local-node-port and --local-api-port"
    )]
    Ports,
    /// There is no ssh.
    #[error("cannot start ssh: {0} (install an SSH client)")]
    Ssh(io::Error),
}

/// Prints the tunnel, or opens it and keeps it until `stop`.
///
/// # Errors
/// When there are no ports, or no ssh.
pub fn tunnel(wanted: &Tunnel, stop: &Stop) -> Result<(), Failed> {
    let plan = Plan::new(wanted)?;
    if !wanted.run {
        println!("{plan}");
        return Ok(());
    }
    keep(&plan, stop)?;
    Ok(())
}

/// A tunnel with all its ports.
#[derive(Debug)]
struct Plan<'a> {
    wanted: &'a Tunnel,
    node: u16,
    api: u16,
}

impl<'a> Plan<'a> {
    fn new(wanted: &'a Tunnel) -> Result<Self, TunnelError> {
        let taken = [wanted.node.0, wanted.api.0];
        let mut free = (FIRST_PORT..=u16::MAX)
            .filter(|&port| !taken.contains(&Some(port)))
            .filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        let mut choose = |given: Option<u16>| given.or_else(|| free.next());
        let (node, api) = (choose(wanted.node.0), choose(wanted.api.0));
        let (Some(node), Some(api)) = (node, api) else {
            return Err(TunnelError::Ports);
        };
        Ok(Self { wanted, node, api })
    }

    /// The words after `ssh`.
    fn words(&self) -> Vec<String> {
        let forward = |near: u16, far: u16| format!("127.0.0.1:{near}:127.0.0.1:{far}");
        let mut words: Vec<String> = [
            "-o",
            "ExitOnForwardFailure=yes",
            "-o",
            "ServerAliveInterval=5",
            "-o",
            "ServerAliveCountMax=3",
            "-L",
            &forward(self.node, self.wanted.node.1),
            "-L",
            &forward(self.api, self.wanted.api.1),
        ]
        .map(str::to_owned)
        .into();
        words.extend(self.wanted.options.iter().cloned());
        words.extend([self.wanted.host.clone(), WAIT.to_owned()]);
        words
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.words().iter().map(|word| quoted(word)).collect();
        let (host, node, api) = (&self.wanted.host, self.node, self.api);
        writeln!(
            f,
            "# There, a node that only listens: exo-node --node-port {} --chatgpt-api-port {}",
            self.wanted.node.1, self.wanted.api.1
        )?;
        writeln!(
            f,
            "# The tunnel (or exo-node tunnel {host} --run, which keeps it open):"
        )?;
        writeln!(f, "ssh {}", words.join(" "))?;
        writeln!(
            f,
            "# Not ssh -N: without a remote command it holds back a share of all messages for 42 ms."
        )?;
        writeln!(f, "\n# Here, a node that goes through it:")?;
        writeln!(f, "exo-node --peer-host 127.0.0.1 --peer-port {node}")?;
        writeln!(
            f,
            "# or, with a file that names the far node by its id (exo-node --discovery-config-path peers.json):"
        )?;
        writeln!(
            f,
            "{{\"peers\": {{\"ITS-NODE-ID\": {{\"address\": \"127.0.0.1:{node}\"}}}}}}"
        )?;
        write!(f, "\n# The far node's own API: http://127.0.0.1:{api}/v1")
    }
}

/// Opens the tunnel again and again until `stop`.
fn keep(plan: &Plan<'_>, stop: &Stop) -> Result<(), TunnelError> {
    let host = &plan.wanted.host;
    let mut wait = SHORTEST;
    tracing::info!("opening a tunnel to {host}");
    loop {
        let mut ssh = Ssh::start(plan)?;
        let mut opened = false;
        let ended = loop {
            if stop.asked() {
                tracing::info!("closing the tunnel to {host}");
                return Ok(());
            }
            if ssh.is_open() && !opened {
                opened = true;
                wait = SHORTEST;
                tracing::info!(
                    "the tunnel to {host} is open: node 127.0.0.1:{} (exo-node --peer-host \
                     127.0.0.1 --peer-port {0}), API http://127.0.0.1:{}/v1",
                    plan.node,
                    plan.api
                );
            }
            if let Some(ended) = ssh.ended() {
                break ended;
            }
            thread::sleep(LOOK);
        };
        let what = if opened { "is closed" } else { "does not open" };
        tracing::warn!(
            "the tunnel to {host} {what}: ssh ended with {ended}; again in {} s",
            wait.as_secs()
        );
        let until = Instant::now() + wait;
        while Instant::now() < until && !stop.asked() {
            thread::sleep(LOOK);
        }
        wait = (2 * wait).min(LONGEST);
    }
}

/// A running ssh; ended when dropped.
#[derive(Debug)]
struct Ssh {
    child: Child,
    /// A word when the far side says that it is open.
    open: Receiver<()>,
}

impl Ssh {
    fn start(plan: &Plan<'_>) -> Result<Self, TunnelError> {
        let mut command = Command::new("ssh");
        command.args(plan.words());
        // The far side waits for the end of this pipe, which comes however this process goes.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(TunnelError::Ssh)?;
        let (tell, open) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            let read = move || {
                let mut lines = BufReader::new(output).take(64 << 10);
                let mut line = String::new();
                while matches!(lines.read_line(&mut line), Ok(1..)) {
                    if line.trim_end() == "open" {
                        let _ = tell.send(());
                        break;
                    }
                    line.clear();
                }
                // Nothing more comes, but ssh must not find nobody there.
                let _ = io::copy(&mut lines.into_inner(), &mut io::sink());
            };
            let _ = thread::Builder::new().name("ssh".into()).spawn(read);
        }
        Ok(Self { child, open })
    }

    fn is_open(&self) -> bool {
        match self.open.try_recv() {
            Ok(()) => true,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => false,
        }
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(status.to_string()),
            Err(error) => Some(error.to_string()),
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Tunnel {
        Tunnel {
            host: "me@far".into(),
            options: ["-i", "a key"].map(str::to_owned).into(),
            node: (Some(1001), 50051),
            api: (Some(1002), 52415),
            run: false,
        }
    }

    #[test]
    fn what_is_printed_can_be_run() {
        let wanted = wanted();
        let plan = Plan::new(&wanted).expect("ports are given");
        let told = plan.to_string();
        let line = told.lines().find(|line| line.starts_with("ssh "));
        let words = crate::words::split(line.expect("a command")).expect("words");
        assert_eq!(words[1..], plan.words());
        assert!(
            words.ends_with(&["me@far".into(), WAIT.into()]),
            "{words:?}"
        );
        let has = |word: &str| words.iter().any(|other| other == word);
        assert!(has("127.0.0.1:1001:127.0.0.1:50051"), "{words:?}");
        assert!(has("127.0.0.1:1002:127.0.0.1:52415"), "{words:?}");
        assert!(has("a key") && !has("-N"), "{words:?}");
        let file = told.lines().find(|line| line.starts_with('{'));
        let file = file.expect("a file").as_bytes();
        let peers = exo_protocol::discovery::manual::parse(file).expect("a list of peers");
        assert_eq!(peers[0].address, "127.0.0.1:1001");
    }

    fn asked(line: &str) -> Result<Tunnel, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let Ok(crate::cli::Parsed::Args(args)) = crate::cli::parse(&words) else {
            panic!("{line}");
        };
        let mut words = args.words.iter().map(String::as_str).skip(1);
        let host = words.next();
        Tunnel::asked(&args, host, words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_says_which_tunnel() {
        let plain = asked("tunnel me@far").expect("a tunnel");
        assert_eq!((plain.node, plain.api), ((None, 50051), (None, 52415)));
        assert!(plain.options.is_empty() && !plain.run);
        let told = asked(
            "tunnel --run --local-node-port 1001 --remote-api-port 8 --local-api-port 1002 me@far \
             -- -i key",
        );
        let told = told.expect("a tunnel");
        assert_eq!(
            (told.node, told.api),
            ((Some(1001), 50051), (Some(1002), 8))
        );
        assert_eq!(
            (told.options, told.run),
            (vec!["-i".into(), "key".into()], true)
        );
        for (line, wanted) in [
            ("tunnel", "tunnel needs a host"),
            ("tunnel -- -p 22 host", "tunnel needs a host"),
            ("tunnel host other", "unexpected word \"other\""),
            ("tunnel host --local-api-port 0", "from 1 to 65535"),
            (
                "tunnel host --local-api-port 7 --local-node-port 7",
                "not the same twice",
            ),
        ] {
            let told = asked(line).expect_err(line);
            assert!(told.contains(wanted), "{line}: {told}");
        }
    }

    #[test]
    fn ports_are_free_ones() {
        let mut wanted = wanted();
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = held.local_addr().expect("it is bound").port();
        wanted.node.0 = None;
        wanted.api.0 = None;
        let plan = Plan::new(&wanted).expect("ports");
        assert!(plan.node != plan.api && plan.node != port && plan.api != port);
        assert!(plan.node >= FIRST_PORT && plan.api >= FIRST_PORT);
        let taken = plan.api;
        wanted.node.0 = Some(taken);
        let other = Plan::new(&wanted).expect("ports");
        assert!(other.node == taken && other.api != taken);
    }
}
