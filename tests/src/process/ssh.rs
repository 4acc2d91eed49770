//! An `sshd` of a test's own (Debian's `openssh-server`), on a loopback port, with keys that nobody
//! else has, and tunnels through it.

use super::{PATIENCE, free_ports};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What `ssh` calls the machine behind the daemon.
pub const HOST: &str = "far";

/// A running daemon, which lets the current user in; stopped when dropped.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
}

impl Sshd {
    /// Starts it.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    ///
    /// # Panics
    /// When everything is there, but does not work.
    pub fn start() -> Result<Self, String> {
        let daemon = [
            "/usr/sbin/sshd",
            "/usr/libexec/sshd",
            "/usr/local/sbin/sshd",
        ]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .ok_or("there is no sshd; install the package openssh-server")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let at = |name: &str| folder.path().join(name);
        for name in ["host", "user"] {
            let mut make = Command::new("ssh-keygen");
            make.args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(name));
            let made = make.status();
            if !made.is_ok_and(|status| status.success()) {
                return Err("ssh-keygen does not work; install the package openssh-client".into());
            }
        }
        let user = output("id", &["-un"]);
        let [port] = free_ports(1)[..] else {
            return Err("no free port".into());
        };
        if user == "root" {
            // Where an sshd of root shuts in what it does not trust; its service makes it otherwise.
            fs::create_dir_all("/run/sshd").map_err(|error| format!("/run/sshd: {error}"))?;
        }
        let public = |name: &str| fs::read_to_string(at(name).with_extension("pub"));
        let host_key = public("host").map_err(|error| error.to_string())?;
        let write =
            |name: &str, text: String| fs::write(at(name), text).expect("a writable folder");
        write("keys", public("user").expect("ssh-keygen made it"));
        write("known", format!("[127.0.0.1]:{port} {host_key}"));
        let path = |name: &str| at(name).display().to_string();
        let (host, keys, pid) = (path("host"), path("keys"), path("pid"));
        write(
            "sshd",
            format!(
                "ListenAddress 127.0.0.1:{port}\nHostKey {host}\nAuthorizedKeysFile {keys}\n\
                 PidFile {pid}\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
                 KbdInteractiveAuthentication no\nMaxStartups 100\n"
            ),
        );
        write(
            "ssh",
            format!(
                "Host {HOST}\nHostName 127.0.0.1\nPort {port}\nUser {user}\nIdentityFile {}\n\
                 IdentitiesOnly yes\nUserKnownHostsFile {}\nBatchMode yes\n",
                path("user"),
                path("known"),
            ),
        );
        let mut command = Command::new(daemon);
        command.args(["-D", "-f"]).arg(at("sshd"));
        command.arg("-E").arg(at("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().map_err(|error| error.to_string())?;
        let mut sshd = Self { child, folder };
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Ok(Some(status)) = sshd.child.try_wait() {
                panic!("sshd ended with {status}:\n{}", sshd.log());
            }
            assert!(Instant::now() < until, "sshd does not listen");
            // Not a synchronisation: only to leave it the processor.
            thread::park_timeout(Duration::from_millis(5));
        }
        Ok(sshd)
    }

    /// The client's configuration: `ssh -F` this [`HOST`].
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("ssh")
    }

    /// What leads to the far side: a program and its first arguments.
    #[must_use]
    pub fn ssh(&self) -> [String; 3] {
        let config = self.config().display().to_string();
        ["ssh".into(), "-F".into(), config]
    }

    /// Opens a tunnel as `exo-node tunnel` advises.
    ///
    /// # Panics
    /// When it does not open.
    #[must_use]
    pub fn tunnel(&self, forwards: &[String]) -> Tunnel {
        let mut words: Vec<String> = self.ssh().into();
        words.extend(["-o", "ExitOnForwardFailure=yes"].map(str::to_owned));
        words.extend(forwards.iter().cloned());
        words.extend([HOST, "echo open; exec cat"].map(str::to_owned));
        Tunnel::open(words)
    }

    /// Its own words.
    #[must_use]
    pub fn log(&self) -> String {
        let mut text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let _ = writeln!(text, "(end of the log of sshd)");
        text
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of sshd ---\n{}", self.log());
        }
    }
}

/// An open tunnel; cut when dropped.
#[derive(Debug)]
pub struct Tunnel {
    words: Vec<String>,
    child: Child,
}

impl Tunnel {
    fn open(words: Vec<String>) -> Self {
        let child = spawn(&words);
        Self { words, child }
    }

    /// Cuts it without a word.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn cut(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a killed child ends");
    }

    /// Opens it anew, at the same ports.
    ///
    /// # Panics
    /// When it does not open.
    pub fn reopen(&mut self) {
        self.child = spawn(&self.words);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the tunnel and waits until the far side says that it is open.
fn spawn(words: &[String]) -> Child {
    let (program, arguments) = words.split_first().expect("a program");
    let mut command = Command::new(program);
    command.args(arguments);
    // What waits on the far side ends with its input, whatever happens here.
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("ssh starts");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    assert_eq!(line, "open\n", "{words:?}");
    // Nothing more comes, and the pipe stays open for as long as the tunnel.
    thread::spawn(move || output.read_to_end(&mut Vec::new()));
    child
}

/// `-L` from a port here to a port of the far side, both on loopback.
#[must_use]
pub fn forward(near: u16, far: u16) -> [String; 2] {
    ["-L".into(), format!("127.0.0.1:{near}:127.0.0.1:{far}")]
}

/// `-R` from a port of the far side to a port here, both on loopback.
#[must_use]
pub fn reverse(far: u16, near: u16) -> [String; 2] {
    ["-R".into(), format!("127.0.0.1:{far}:127.0.0.1:{near}")]
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default()
}
