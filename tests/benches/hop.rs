//! How long a hand-over between two nodes takes, beside what it costs without us.
//!
//! `docs/PERFORMANCE.md` says what is measured and how to run it. Every far end is a process of its
//! own, as it is in a ring; blocks of all contestants take turns, so that a busy moment of the
//! machine hits all of them.

use exo_protocol::engine::Engine;
use exo_protocol::wire::{Encoder, Message, SendTensor};
use exo_protocol::{Command, DType, Event, Json, Shard, Tensor};
use exo_tests::conformance::engine::{MODEL, NullEngine};
use exo_tests::conformance::host::introduce;
use exo_tests::conformance::{Host, Kind, Setup, submit};
use std::env;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Hand-overs in a block; as many as a node remembers.
const BLOCK: usize = 512;

/// Elements of the hidden state: 8 KiB of `float32`.
const WIDTH: usize = 2048;

/// The empty acknowledgement.
const ACKNOWLEDGEMENT: usize = 13;

const NEAR: &str = "near";
const FAR: &str = "far";

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Where the ends run, unless the system is free to choose: as on two machines, neither slows the
/// other down, and a message wakes a core.
const NEAR_CORE: &str = "0";
const FAR_CORE: &str = "1";

/// Set in a process that runs on the near end's core.
const PLACED: &str = "EXO_HOP_PLACED";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|text| text != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["far", "raw"] => return far_raw(),
        ["far", "std", file] => return far_node(Kind::Std, file.into()),
        ["far", "smol", file] => return far_node(Kind::Smol, file.into()),
        _ => {}
    }
    let (mut rounds, mut free) = (20, false);
    let mut baselines = env::var_os("EXO_BASELINES").is_some();
    let mut rest = words.iter();
    while let Some(&word) = rest.next() {
        match word {
            "--rounds" => rounds = rest.next().ok_or("--rounds takes a number")?.parse()?,
            "--free" => free = true,
            "--baselines" => baselines = true,
            _ => return Err("usage: hop [--rounds N] [--free] [--baselines]".into()),
        }
    }
    if free || env::var_os(PLACED).is_some() {
        return compare(rounds, baselines);
    }
    let mut placed = process::Command::new("taskset");
    placed
        .args(["-c", NEAR_CORE])
        .arg(env::current_exe()?)
        .args(&arguments)
        .env(PLACED, "1");
    match placed.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{status}; with --free, no taskset is used").into()),
        Err(error) => {
            println!("cannot give each end a core of its own: taskset: {error}");
            compare(rounds, baselines)
        }
    }
}

/// What a block of one contestant took.
#[derive(Clone, Copy)]
struct Block {
    p50: Duration,
    p99: Duration,
}

impl Block {
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let at = |percent: usize| samples[(samples.len() - 1) * percent / 100];
        let (p50, p99) = (at(50), at(99));
        Self { p50, p99 }
    }
}

struct Contestant {
    name: &'static str,
    run: Box<dyn FnMut() -> Outcome<Vec<Block>>>,
    /// One row for each kind of block that `run` returns.
    rows: Vec<(&'static str, Vec<Block>)>,
}

fn compare(rounds: usize, baselines: bool) -> Outcome<()> {
    let mut contestants = vec![raw()?, ring("std", Kind::Std)?, ring("smol", Kind::Smol)?];
    if baselines {
        contestants.push(tonic()?);
    }
    for round in 0..=rounds {
        for contestant in &mut contestants {
            let blocks = (contestant.run)()?;
            // The first round warms up.
            if round > 0 {
                for (row, block) in contestant.rows.iter_mut().zip(blocks) {
                    row.1.push(block);
                }
            }
        }
    }
    let placed = env::var_os(PLACED).is_some();
    let placement = if placed {
        "each end on its own core"
    } else {
        "free"
    };
    println!("{rounds} rounds of {BLOCK}, {placement}; medians of the rounds, times in µs");
    println!("{:<24}{:>10}{:>10}{:>12}", "", "p50", "p99", "p50 / raw");
    let raw = contestants[0].rows[0].1.clone();
    for Contestant { name, rows, .. } in &contestants {
        for (what, blocks) in rows {
            let p50 = median(blocks.iter().map(|block| block.p50.as_secs_f64() * 1e6));
            let p99 = median(blocks.iter().map(|block| block.p99.as_secs_f64() * 1e6));
            // Within a round, so that a busy minute of the machine counts for both.
            let rounds = blocks.iter().zip(&raw);
            let ratio = median(rounds.map(|(own, raw)| own.p50.div_duration_f64(raw.p50)));
            let name = format!("{name} {what}");
            println!("{name:<24}{p50:>10.1}{p99:>10.1}{ratio:>12.2}");
        }
    }
    if !baselines {
        println!("with EXO_BASELINES=1 also against tonic (builds tests/baselines first)");
    }
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

// --- nothing but sockets ------------------------------------------------------------------------

/// The bytes that a node of ours sends for a step of a request that is under way.
fn tensor_frame() -> Outcome<Encoder> {
    let step = Json::object([("v", Json::from(1u64)), ("position", Json::from(300u64))]);
    let data = vec![7; WIDTH * 4].into();
    let tensor = Tensor::new(DType::F32, vec![1, 1, WIDTH], data)?;
    let shard = Shard::new(MODEL.into(), 1..2, 2).ok_or("layers")?;
    let message = Message::SendTensorRequest(SendTensor {
        shard,
        tensor,
        request_id: Some("00000000-0000-4000-8000-000000000000".into()),
        inference_state: Some(Json::object([("exo", step)])),
    });
    Ok(Encoder::new(&message)?)
}

fn raw() -> Outcome<Contestant> {
    let mut far = Far::start(&["far", "raw"])?;
    let mut stream = TcpStream::connect(("127.0.0.1", far.port))?;
    stream.set_nodelay(true)?;
    let frame = tensor_frame()?;
    let run = move || {
        let _far = &mut far;
        let mut samples = Vec::with_capacity(BLOCK);
        for _ in 0..BLOCK {
            let start = Instant::now();
            let written = stream.write_vectored(&frame.slices().map(IoSlice::new))?;
            assert_eq!(written, frame.remaining(), "a socket takes it all");
            stream.read_exact(&mut [0; ACKNOWLEDGEMENT])?;
            samples.push(start.elapsed());
        }
        Ok(vec![Block::of(samples)])
    };
    let (run, rows) = (Box::new(run), vec![("ping-pong", vec![])]);
    Ok(Contestant {
        name: "raw",
        run,
        rows,
    })
}

fn far_raw() -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let size = tensor_frame()?.remaining();
    let mut place = vec![0; 64 << 10];
    loop {
        let mut got = 0;
        while got < size {
            match stream.read(&mut place)? {
                0 => return Ok(()),
                n => got += n,
            }
        }
        stream.write_all(&[0; ACKNOWLEDGEMENT])?;
    }
}

// --- two nodes ----------------------------------------------------------------------------------

fn engine() -> Result<Box<dyn Engine>, String> {
    Ok(Box::new(NullEngine::new(WIDTH)))
}

fn setup(name: &str, memory: i64, file: PathBuf) -> Setup {
    let mut setup = Setup::new(name, memory);
    setup.config.discovery = exo_protocol::config::Discovery::Manual;
    setup.config.timing.discovery_every = Duration::from_millis(500);
    Setup {
        discovery_file: Some(file),
        ..setup
    }
}

fn far_node(kind: Kind, file: PathBuf) -> Outcome<()> {
    let host = Host::start_with(kind, setup(FAR, 1000, file), engine, |_| {});
    println!("{}", host.address.port());
    io::stdin().read_to_end(&mut Vec::new())?;
    host.shutdown();
    Ok(())
}

/// A ring of two, and what it told.
struct Ring {
    host: Host,
    finished: Receiver<Vec<Instant>>,
    requests: u64,
    _far: Far,
    _folder: TempDir,
}

impl Ring {
    fn start(kind: Kind, name: &str) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("peers.json");
        let far = Far::start(&["far", name, file.to_str().ok_or("a temporary folder")?])?;
        let (tell, finished) = mpsc::channel();
        let mut tokens = Vec::with_capacity(BLOCK + 1);
        let on_event = move |event| match event {
            Event::Token { .. } => tokens.push(Instant::now()),
            Event::Finished { .. } => {
                let _ = tell.send(tokens.clone());
                tokens.clear();
            }
            Event::Failed { failure, .. } => eprintln!("{failure}"),
            _ => {}
        };
        let host = Host::start_with(kind, setup(NEAR, 1001, file.clone()), engine, on_event);
        let address = ([127, 0, 0, 1], far.port).into();
        introduce(&[(NEAR, host.address), (FAR, address)], &file);
        host.until("a ring of two", |status| {
            let edges = status.topology.edges.values().map(|edges| edges.len());
            edges.sum::<usize>() == 2 && status.peers.iter().all(|peer| peer.up && peer.own)
        });
        Ok(Self {
            host,
            finished,
            requests: 0,
            _far: far,
            _folder: folder,
        })
    }

    fn run(&mut self) -> Outcome<Vec<Block>> {
        self.requests += 1;
        let id = format!("00000000-0000-4000-8000-{:012}", self.requests);
        let most = u32::try_from(BLOCK)? + 1;
        let submit = submit(&id, 2, most, Duration::from_secs(60));
        self.host.command(Command::Submit(submit));
        let tokens = self.finished.recv_timeout(Duration::from_secs(60))?;
        let status = self.host.status();
        let hops = status.peers.first().ok_or("the far node is a peer")?.hops;
        let turns = tokens.windows(2).map(|pair| pair[1] - pair[0]).collect();
        Ok(vec![
            Block {
                p50: hops.p50,
                p99: hops.p99,
            },
            Block::of(turns),
        ])
    }
}

fn ring(name: &'static str, kind: Kind) -> Outcome<Contestant> {
    let mut ring = Ring::start(kind, name)?;
    let run = Box::new(move || ring.run());
    let rows = vec![("hop", vec![]), ("ring turn", vec![])];
    Ok(Contestant { name, run, rows })
}

// --- other processes ----------------------------------------------------------------------------

/// A process that ends when its input does.
struct Far {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Far {
    fn start(arguments: &[&str]) -> Outcome<Self> {
        Self::spawn(&env::current_exe()?, arguments, FAR_CORE)
    }

    /// Starts `program`; its first line is a port.
    fn spawn(program: &Path, arguments: &[&str], core: &str) -> Outcome<Self> {
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
fn tonic() -> Outcome<Contestant> {
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
