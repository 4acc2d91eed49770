//! A peer behind a program, whose standard input and output lead to it as those of `ssh` do.

use socket2::Socket;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tracing::debug;

/// How long a program may take to end by itself once its output has ended or its input has.
const GRACE: Duration = Duration::from_secs(1);

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// Most bytes of one line of its complaints.
const LINE: u64 = 1024;

/// Lines that wait to be looked at; later ones are only logged.
const LINES: usize = 64;

/// A running program.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    /// What it says on its standard error; closed with that.
    complaints: Receiver<String>,
}

impl Program {
    /// Starts a program with its arguments, and gives what leads to the peer.
    ///
    /// # Errors
    /// When there is no such program, or no pair of sockets on this system.
    pub fn start(words: &[String]) -> io::Result<(Socket, Self)> {
        let Some((name, arguments)) = words.split_first() else {
            return Err(io::Error::other("the command is empty"));
        };
        let (near, mut command) = joined(name)?;
        command.args(arguments).stderr(Stdio::piped());
        if std::env::var_os("SSH_ASKPASS").is_none() {
            // Nobody is there to be asked for a password: ssh is to fail instead.
            command.env("SSH_ASKPASS", "false");
        }
        command.env("SSH_ASKPASS_REQUIRE", "force");
        let spawned = command.spawn();
        // The far ends of the pair; only the program may have them.
        drop(command);
        let mut child = spawned.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {name}: {error}"))
        })?;
        let (tell, complaints) = mpsc::sync_channel(LINES);
        if let Some(stderr) = child.stderr.take() {
            let program = name.clone();
            let read = move || {
                let mut stderr = BufReader::new(stderr);
                let mut line = Vec::new();
                while matches!(
                    stderr.by_ref().take(LINE).read_until(b'\n', &mut line),
                    Ok(1..)
                ) {
                    let text = String::from_utf8_lossy(&line);
                    let text = text.replace(char::is_control, " ").trim().to_owned();
                    debug!("{program}: {text}");
                    if !text.is_empty() {
                        let _ = tell.try_send(text);
                    }
                    line.clear();
                }
            };
            if let Err(error) = thread::Builder::new().name("exo-stderr".into()).spawn(read) {
                debug!(%error, "what {name} says is lost");
            }
        }
        let name = name.clone();
        let program = Self {
            name,
            child,
            complaints,
        };
        Ok((near, program))
    }

    /// Waits until it has ended, which it is made to if it does not; says how that went.
    #[must_use]
    pub fn end(mut self) -> String {
        let until = Instant::now() + GRACE;
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) if Instant::now() < until => thread::sleep(LOOK),
                _ => break None,
            }
        };
        let name = &self.name;
        let ended = match status {
            Some(status) => format!("{name} ended with {status}"),
            None => format!("{name} was ended"),
        };
        // Children of its own may keep the other end open.
        let mut last = None;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.complaints.recv_timeout(left) {
                Ok(line) => last = Some(line),
                Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break,
            }
        }
        match last {
            Some(line) => format!("{ended}: {line}"),
            None => ended,
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command whose input and output are the far end of a pair.
#[cfg(unix)]
fn joined(program: &str) -> io::Result<(Socket, Command)> {
    use socket2::{Domain, Type};
    use std::os::fd::OwnedFd;
    use std::os::unix::process::CommandExt;

    let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
    let mut command = Command::new(program);
    command.stdin(OwnedFd::from(far.try_clone()?));
    command.stdout(OwnedFd::from(far));
    // An interrupt from the terminal is for the node, which may still need its peers.
    command.process_group(0);
    Ok((near, command))
}

#[cfg(not(unix))]
fn joined(_program: &str) -> io::Result<(Socket, Command)> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "peers behind commands need Unix sockets; reach it through exo-node tunnel",
    ))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::Shutdown;

    fn shell(script: &str) -> (Socket, Program) {
        let words = ["sh", "-c", script].map(str::to_owned);
        Program::start(&words).expect("there is a shell")
    }

    #[test]
    fn its_input_and_output_are_one_socket() {
        let (mut near, program) = shell("cat");
        near.write_all(b"hello").expect("it reads");
        near.shutdown(Shutdown::Write).expect("a socket");
        let mut told = String::new();
        near.read_to_string(&mut told).expect("it writes");
        assert_eq!(told, "hello");
        assert_eq!(program.end(), "sh ended with exit status: 0");
    }

    #[test]
    fn its_last_words_tell_why_it_ended() {
        let (_near, program) = shell("echo a >&2; printf 'no \\033 route\\r\\n\\n' >&2; exit 255");
        assert_eq!(program.end(), "sh ended with exit status: 255: no   route");
    }

    #[test]
    fn one_that_does_not_end_is_made_to() {
        let (_near, program) = shell("echo stays >&2; exec sleep 1000");
        let id = program.child.id().to_string();
        assert_eq!(program.end(), "sh was ended: stays");
        let found = Command::new("kill").args(["-0", &id]).output();
        assert!(!found.expect("there is kill").status.success());
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let error = Program::start(&["/nowhere/ssh".into()]).expect_err("nothing is there");
        let told = error.to_string();
        assert!(
            told.starts_with("cannot start /nowhere/ssh: No such file"),
            "{told}"
        );
        assert!(Program::start(&[]).is_err());
    }
}
