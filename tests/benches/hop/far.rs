//! Other processes.

use crate::{BLOCK, Block, Contestant, Outcome, PLACED, WIDTH};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{self, Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

/// Where the ends run, unless the system is free to choose: as on two machines, neither slows the
/// other down, and a message wakes a core.
pub(crate) const NEAR_CORE: &str = "0";
pub(crate) const FAR_CORE: &str = "1";

/// A process that ends when its input does.
pub(crate) struct Far {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Far {
    /// A node under the runtime of this name.
    pub(crate) fn node(runtime: &str, file: &Path) -> Outcome<Self> {
        let file = file.to_str().ok_or("a temporary folder")?;
        Self::spawn(&env::current_exe()?, &["far", runtime, file], FAR_CORE)
    }

    /// Starts `program`; its first line is a port.
    pub(crate) fn spawn(program: &Path, arguments: &[&str], core: &str) -> Outcome<Self> {
        let mut command = process::Command::new(program);
        if env::var_os(PLACED).is_some() {
            command = process::Command::new("taskset");
            command.args(["-c", core]).arg(program);
        }
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().ok_or("its output is piped")?);
        let mut far = Self {
            child,
            input,
            output,
            port: 0,
        };
        far.port = far.line()?.trim().parse()?;
        Ok(far)
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same tensor as a unary call of tonic; both ends are processes of `tests/baselines`.
pub(crate) fn tonic() -> Outcome<Contestant> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("baselines")
        .join("Cargo.toml");
    let mut build = process::Command::new(env!("CARGO"));
    let built = build
        .args(["build", "--release", "--manifest-path"])
        .arg(&manifest)
        .status()?;
    if !built.success() {
        return Err("tests/baselines does not build".into());
    }
    let program = manifest.with_file_name("target/release/exo-baselines");
    let server = Far::spawn(&program, &["server"], FAR_CORE)?;
    let (port, width) = (server.port.to_string(), (WIDTH * 4).to_string());
    let mut client = Far::spawn(&program, &["client", &port, &width], NEAR_CORE)?;
    let run = move || {
        let _server = &server;
        writeln!(
            client.input.as_mut().ok_or("its input is piped")?,
            "{BLOCK}"
        )?;
        let line = client.line()?;
        let samples: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        Ok(vec![Block::of(
            samples?.into_iter().map(Duration::from_nanos).collect(),
        )])
    };
    let (run, rows) = (Box::new(run), vec![("unary call", vec![])]);
    Ok(Contestant {
        name: "tonic",
        run,
        rows,
    })
}
