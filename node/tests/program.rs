//! The program as people start it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use exo_protocol::Node as Machine;
use exo_protocol::record::{Log, Trace};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn program(words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exo-node"));
    command.args(words.split_whitespace()).stdin(Stdio::null());
    command
        .env_remove("DEBUG")
        .env_remove("DEBUG_DISCOVERY")
        .env("NO_COLOR", "1");
    // Tests run side by side, and two nodes do not share a home folder's name.
    static HOMES: AtomicUsize = AtomicUsize::new(0);
    let home = HOMES.fetch_add(1, Ordering::Relaxed).to_string();
    command.env(
        "EXO_HOME",
        Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("homes")
            .join(home),
    );
    command
}

fn run(words: &str) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(words).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn usage_errors_are_2_and_failures_are_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for (words, code, told) in [
        ("--promt x", 2, "did you mean --prompt?"),
        ("--node-port x", 2, "--node-port cannot be \"x\""),
        ("rnu", 2, "unknown command \"rnu\"; did you mean run?"),
        (
            "train m",
            2,
            "--data DIR is missing: the folder with train.jsonl",
        ),
        ("eval --data x", 2, "which model?"),
        ("--iters 3", 2, "--iters goes with train or eval"),
        (
            "train m --data x --lora-rank 0",
            2,
            "--lora-rank must be at least 1",
        ),
        ("train m --data x --job-name ../y", 1, "cannot name a job"),
        (
            "train m --data x --prompt y",
            2,
            "--prompt goes with run or demo",
        ),
        (
            "train dummy --inference-engine dummy --data /nowhere",
            1,
            "--data /nowhere: train.jsonl is expected there",
        ),
        ("run a b", 2, "unexpected word \"b\""),
        ("--prompt x", 2, "--prompt goes with run or demo"),
        ("serve --model x", 2, "--model goes with run or demo"),
        (
            "run x --inference-engine dummy",
            1,
            "the dummy engine has one model, dummy",
        ),
        (
            "--record-prompts",
            2,
            "--record-prompts goes with --record FILE",
        ),
        ("demo --record x", 2, "--record goes with serve or run"),
        ("--drain soon", 2, "--drain cannot be \"soon\""),
        (
            "--activation-dtype int8",
            2,
            "it is float32, bfloat16, float16",
        ),
        (
            "run dummy --inference-engine dummy --record Cargo.toml",
            1,
            "--record Cargo.toml: the file exists already",
        ),
        (
            "run dummy --inference-engine dummy --record /nowhere/x",
            1,
            "--record /nowhere/x: No such file",
        ),
        ("demo --engines cpu,dummy", 2, "dummy has no model to share"),
        (
            "demo --engines cpu --inference-engine cpu",
            2,
            "give one of them",
        ),
        ("bench stories --repeat 0", 2, "--repeat must be at least 1"),
        (
            "bench stories --prompt x",
            2,
            "--prompt goes with run or demo",
        ),
        ("run stories --repeat 3", 2, "--repeat goes with bench"),
        ("bench no-such-model", 1, "no-such-model"),
        ("--engines cpu", 2, "--engines goes with run or demo"),
        ("demo --nodes 0", 2, "--nodes must be from 1 to 16"),
        (
            "--discovery-module direct",
            2,
            "needs --peer-host HOST and --peer-port PORT",
        ),
        (
            "--discovery-module mdns",
            2,
            "it is none, or udp, tcp, manual",
        ),
        (
            "--discovery-config-path /nowhere.json",
            1,
            "/nowhere.json: No such file",
        ),
        ("run no-such-model", 1, "no-such-model"),
        ("demo --model no-such-model", 1, "no-such-model"),
        (
            "--default-model no-such-model --chatgpt-api-port 0 --node-port 0",
            1,
            "no-such-model",
        ),
        (
            &format!("--chatgpt-api-host 127.0.0.1 --chatgpt-api-port {port}"),
            1,
            "choose --chatgpt-api-port",
        ),
        (
            &format!("--node-host 127.0.0.1 --node-port {port} --chatgpt-api-port 0"),
            1,
            "choose --node-port",
        ),
    ] {
        let (status, out, error) = run(words);
        assert_eq!((status, out.as_str()), (code, ""), "{words}: {error}");
        assert!(
            error.starts_with("error: ") && error.contains(told),
            "{words}: {error}"
        );
    }
}

#[test]
fn mlx_answers_or_says_how_to_get_it() {
    let words = "run stories --prompt x --max-tokens 8";
    let (status, out, error) = run(&format!("{words} --inference-engine mlx"));
    if exo_engine_mlx::AVAILABLE {
        assert_eq!((status, error.as_str()), (0, ""));
        let (_, cpu, _) = run(&format!("{words} --inference-engine cpu"));
        assert_eq!(out, cpu);
    } else {
        assert_eq!((status, out.as_str()), (1, ""));
        assert!(error.contains("engine-mlx/setup-linux"), "{error}");
    }
}

#[test]
fn help_and_version_are_output() {
    let (status, out, _) = run("--version");
    let version = format!("exo-node {}\nengines: cpu, ", env!("CARGO_PKG_VERSION"));
    assert!(status == 0 && out.starts_with(&version), "{out}");
    let (status, out, _) = run("--help");
    assert!(
        status == 0 && out.contains("--discovery-config-path FILE"),
        "{out}"
    );
}

#[test]
fn run_prints_the_answer_and_nothing_else() {
    for flags in ["--runtime smol", "--runtime=std --max-tokens=20"] {
        let (status, out, error) = run(&format!("run dummy --inference-engine dummy {flags}"));
        assert_eq!(
            (status, out, error.as_str()),
            (0, "dummy".repeat(9) + "\n", "")
        );
    }
    let (status, out, _) = run("run --prompt x --inference-engine dummy");
    assert_eq!((status, out), (0, "dummy".repeat(9) + "\n"));
    let (status, out, error) = run("run stories --prompt hello --max-tokens 4 --node-id x");
    assert!(
        status == 0 && out.trim().len() > 2 && out.ends_with('\n'),
        "{out}{error}"
    );
}

/// How many entries a recording has; all of them must come out as they did.
fn replay(bytes: &[u8]) -> u64 {
    let mut log = Log::read(bytes).unwrap();
    let head = log.head.clone();
    let mut trace = Trace::new(head.prompts);
    let mut node = Machine::new(head.config, head.seed, head.start);
    let mut count = 0;
    for entry in &mut log {
        let entry = entry.unwrap();
        match entry.input {
            Some(input) => node.handle_input(entry.at, input),
            None => node.handle_timeout(entry.at),
        }
        while let Some(output) = node.poll_output() {
            trace.output(&output);
        }
        assert_eq!(entry.trace, Some(trace.hash()), "entry {}", entry.number);
        count = entry.number;
    }
    assert_eq!(log.left(), 0);
    count
}

#[test]
fn a_recorded_run_can_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    for runtime in ["smol", "std"] {
        for prompts in [false, true] {
            let file = folder.path().join(format!("{runtime}{prompts}"));
            let flag = if prompts { "--record-prompts" } else { "" };
            let words = format!(
                "run dummy --inference-engine dummy --runtime {runtime} --record {} {flag}",
                file.display()
            );
            let (status, out, error) = run(&words);
            assert_eq!((status, out), (0, "dummy".repeat(9) + "\n"), "{error}");
            let bytes = std::fs::read(&file).unwrap();
            assert!(replay(&bytes) > 10);
            let prompt = b"dummy_tokenized_prompt";
            let said = bytes.windows(prompt.len()).any(|window| window == prompt);
            assert_eq!(said, prompts);
        }
    }
}

#[test]
fn rubbish_in_debug_is_told() {
    let mut command = program("run dummy --inference-engine dummy");
    let output = command.env("DEBUG", "yes").output().unwrap();
    assert!(output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("DEBUG=\"yes\" is not a number"), "{error}");
}

/// A serving node that is ready.
struct Node {
    process: Child,
    lines: Vec<String>,
}

impl Node {
    fn start(words: &str) -> Self {
        let flags = "--inference-engine dummy --node-host 127.0.0.1 --node-port 0 \
                     --chatgpt-api-host 127.0.0.1 --chatgpt-api-port 0 --node-id x";
        let mut command = program(&format!("{words} {flags}"));
        let mut process = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        let mut reader = BufReader::new(process.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(
                reader.read_line(&mut line).unwrap() > 0,
                "it ended: {lines:?}"
            );
            lines.push(line);
            if lines.last().unwrap().contains("ready") {
                break;
            }
        }
        // Somebody has to read on, or the node would wait for us.
        thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        Self { process, lines }
    }

    fn end(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it does not stop"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_node_stops_in_order_when_told() {
    for (signal, words) in [
        ("-TERM", ""),
        ("-INT", "run"),
        ("-TERM", "serve --runtime std"),
    ] {
        let node = Node::start(words);
        assert!(node.lines[0].contains("node x"), "{:?}", node.lines);
        let pid = node.process.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(node.end().code(), Some(0), "{words}");
    }
}

#[test]
fn a_node_on_a_leash_stops_with_its_master() {
    let mut node = Node::start("--stop-with-stdin");
    drop(node.process.stdin.take());
    assert_eq!(node.end().code(), Some(0));
}

#[test]
fn the_demo_shows_a_ring_that_answers() {
    let (status, out, error) = run("demo --inference-engine dummy --nodes 2");
    assert_eq!((status, error.as_str()), (0, ""), "{out}");
    for told in [
        "one model over 2 nodes",
        "dummy 8 layers",
        "takes the prompt",
        "layers 4-7    chooses the token",
        &"dummy".repeat(9),
        "tokens/s, 10 tokens",
        "node1 → node2",
        "bytes per token over 2 hops",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
    assert!(!out.contains('\x1b'), "{out}");
}

#[test]
fn the_demo_mixes_engines() {
    let engines = if exo_engine_mlx::AVAILABLE {
        "mlx,cpu"
    } else {
        "cpu,cpu"
    };
    let (status, out, error) = run(&format!(
        "demo --engines {engines} --nodes 2 --max-tokens 8"
    ));
    assert_eq!((status, error.as_str()), (0, ""), "{out}");
    for (node, engine) in ["node1", "node2"].into_iter().zip(engines.split(',')) {
        let row = format!("{node} {engine} ");
        assert!(out.contains(&row), "{row}: {out}");
    }
    assert!(out.contains("tokens/s, 8 tokens"), "{out}");
}

#[test]
fn the_benchmark_prints_a_row_for_each_test() {
    let small = "bench stories --prompt-tokens 16 --max-tokens 8 --repeat 2 --threads 1";
    let (status, out, error) = run(&format!("{small} --inference-engine cpu"));
    assert_eq!((status, error.as_str()), (0, ""), "{out}");
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let [head, _, reads, writes] = &rows[..] else {
        panic!("{out}");
    };
    let column = |row: &[&str], name: &str| {
        let at = head.iter().position(|head| *head == name);
        row[at.unwrap_or_else(|| panic!("no {name}: {out}"))].to_owned()
    };
    for (row, test) in [(reads, "pp16"), (writes, "tg8")] {
        for (name, value) in [
            ("model", "stories"),
            ("format", "F16"),
            ("engine", "cpu"),
            ("threads", "1"),
            ("nodes", "1"),
            ("test", test),
        ] {
            assert_eq!(column(row, name), value, "{out}");
        }
        let rate = column(row, "tokens/s");
        let (mean, _) = rate.split_once(" ± ").expect("a mean and its spread");
        assert!(mean.parse::<f64>().expect("a number") > 0.0, "{out}");
    }
}
