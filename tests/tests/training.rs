//! Real nodes learn: a ring as one node does, and on after what kills it.
//!
//! Without MLX in the build there is nobody who learns, and these tests say that they were skipped.

use exo_tests::process::{NodeProcess, PATIENCE, free_ports};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Folders of a test, and the nodes' places.
struct Classroom {
    folder: TempDir,
    helper: u16,
    helper_api: u16,
    own: u16,
    own_api: u16,
}

impl Classroom {
    /// Nothing without MLX.
    fn new(test: &str) -> Option<Self> {
        if !exo_engine_mlx::AVAILABLE {
            eprintln!("SKIPPED {test}: this build has no MLX");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let ports = free_ports(4);
        let room = Self {
            folder,
            helper: ports[0],
            helper_api: ports[1],
            own: ports[2],
            own_api: ports[3],
        };
        let story = |n: usize| {
            let animal = ["fox", "owl", "cat", "hare", "frog"][n % 5];
            let rest = ["It sang.", "It was happy.", "Then it slept in a tree."][n % 3];
            format!("{{\"text\": \"The {animal} flew to the moon. {rest}\"}}\n")
        };
        let write = |file: &str, range: std::ops::Range<usize>| {
            let text: String = range.map(story).collect();
            std::fs::write(room.data().join(file), text).expect("it is written");
        };
        write("train.jsonl", 0..11);
        write("test.jsonl", 11..14);
        Some(room)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where a node's checkpoints are.
    fn checkpoints(&self, node: &str) -> PathBuf {
        self.folder.path().join(node).join("checkpoints")
    }

    /// A node that waits for work.
    fn helper(&self, arguments: &[&str]) -> NodeProcess {
        let arguments = [
            &[
                "serve",
                "--inference-engine",
                "mlx",
                "--node-memory",
                "4096",
            ],
            arguments,
        ];
        let (port, api) = (self.helper, self.helper_api);
        let mut node =
            NodeProcess::start("helper", port, api, &arguments.concat(), self.folder.path());
        node.wait_for("it serves", |_| true);
        node
    }

    /// A command of a node of its own.
    fn alone(&self, arguments: &[&str]) -> NodeProcess {
        let data = self.data();
        let data = data.to_str().expect("a plain path");
        let mut all = vec!["--inference-engine", "mlx", "--node-memory", "4096"];
        all.extend(arguments);
        if arguments.first() != Some(&"run") {
            all.extend(["--data", data]);
        }
        NodeProcess::start("own", self.own, self.own_api, &all, self.folder.path())
    }

    /// The same, with the helper in the ring.
    fn together(&self, arguments: &[&str]) -> NodeProcess {
        let port = self.helper.to_string();
        let ring = [
            "--peer-host",
            "127.0.0.1",
            "--peer-port",
            &port,
            "--wait-for-peers",
            "1",
        ];
        self.alone(&[arguments, &ring].concat())
    }
}

/// `train stories` with small steps, each of them told.
fn lesson<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let usual = [
        "train",
        "stories",
        "--batch-size",
        "2",
        "--learning-rate",
        "0.003",
        "--steps-per-report",
        "1",
        "--seed",
        "3",
    ];
    [&usual, more].concat()
}

/// The losses that were printed, by step.
fn losses(log: &str) -> Vec<(u32, f32)> {
    let read = |line: &str| {
        let (step, rest) = line.strip_prefix("step ")?.split_once(": loss ")?;
        let loss = rest.split(',').next()?;
        Some((step.parse().ok()?, loss.parse().ok()?))
    };
    log.lines().filter_map(read).collect()
}

/// Waits for the end of a command that is to succeed; its losses, and what it said.
fn done(mut node: NodeProcess) -> (Vec<(u32, f32)>, String) {
    let code = node.exit_code();
    let log = node.log();
    assert_eq!(code, Some(0), "{log}");
    (losses(&log), log)
}

/// Waits until a node has said something.
fn wait_for(node: &NodeProcess, words: &str) {
    let give_up = Instant::now() + PATIENCE;
    while !node.log().contains(words) {
        assert!(Instant::now() < give_up, "no {words:?} in\n{}", node.log());
        // Not a synchronisation: only to leave the processor to the nodes between two looks.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Printed with four decimals, and computed in another order.
fn assert_same(a: &[(u32, f32)], b: &[(u32, f32)]) {
    assert!(!a.is_empty(), "no losses were told");
    assert_eq!(a.len(), b.len(), "{a:?}\n{b:?}");
    for (one, other) in a.iter().zip(b) {
        let same = one.0 == other.0 && (one.1 - other.1).abs() < 5e-4;
        assert!(same, "{a:?}\n{b:?}");
    }
}

fn test_loss(log: &str) -> f32 {
    let told = log.lines().find_map(|line| line.strip_prefix("test loss "));
    let loss = told.and_then(|told| told.split(',').next());
    loss.and_then(|loss| loss.parse().ok())
        .unwrap_or_else(|| panic!("no test loss in\n{log}"))
}

fn answer(mut node: NodeProcess) -> String {
    assert_eq!(node.exit_code(), Some(0), "{}", node.log());
    node.log()
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        let name = entry.expect("it can be read").file_name();
        name.into_string().expect("a plain name")
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_ring_learns_what_one_node_learns_and_answers_with_it() {
    let Some(room) = Classroom::new("a_ring_learns_what_one_node_learns_and_answers_with_it")
    else {
        return;
    };
    let steps = ["--iters", "12", "--save-every", "6"];
    let (one, log) = done(room.alone(&lesson(&[&steps[..], &["--job-name", "alone"]].concat())));
    assert!(log.contains("stories over own (layers 0-7)"), "{log}");
    assert!(one[11].1 < one[0].1 * 0.7, "{one:?}");

    let mut helper = room.helper(&["--runtime", "std"]);
    let ring = [&steps[..], &["--job-name", "ring"]].concat();
    let (two, log) = done(room.together(&lesson(&ring)));
    assert!(
        log.contains("(layers 0-3)") && log.contains("(layers 4-7)"),
        "{log}"
    );
    assert_same(&one, &two);
    let mut saved = files(&room.checkpoints("helper").join("ring"));
    saved.extend(files(&room.checkpoints("own").join("ring")));
    saved.sort();
    let wanted = [
        "0-3-12.safetensors",
        "0-3-6.safetensors",
        "4-7-12.safetensors",
        "4-7-6.safetensors",
        "job.json",
    ];
    assert_eq!(saved, wanted);

    // What the ring learned, the ring knows, without having been started anew.
    let (_, before) = done(room.together(&["eval", "stories"]));
    let (_, after) = done(room.together(&["eval", "stories", "--resume-checkpoint", "ring"]));
    assert!(
        after.contains("with what ring learned in 12 steps"),
        "{after}"
    );
    assert!(
        test_loss(&after) < test_loss(&before) * 0.8,
        "{before}{after}"
    );

    // A node that answers with it, and one that does not know it.
    let ask = [
        "run",
        "stories",
        "--prompt",
        "A story, please.",
        "--max-tokens",
        "24",
    ];
    let plain = answer(room.alone(&ask));
    let adapted = answer(room.alone(&[&ask[..], &["--adapter", "alone"]].concat()));
    assert_ne!(plain, adapted);
    let by_steps = [&ask[..], &["--adapter", "alone:6"]].concat();
    assert_ne!(answer(room.alone(&by_steps)), adapted);
    let (_, log) = done(room.alone(&["eval", "stories", "--adapter", "alone"]));
    assert!(
        (test_loss(&log) - test_loss(&after)).abs() < 1e-3,
        "{log}{after}"
    );
    let mut refused = room.together(&[&ask[..], &["--adapter", "ring"]].concat());
    assert_eq!(refused.exit_code(), Some(1));
    let log = refused.log();
    assert!(log.contains("is another model"), "{log}");
    assert!(log.contains("has no checkpoint of layers"), "{log}");
    assert_eq!(helper.terminate(), Some(0));
}

#[test]
fn a_job_goes_on_after_a_node_was_killed() {
    let Some(room) = Classroom::new("a_job_goes_on_after_a_node_was_killed") else {
        return;
    };
    let through = ["--iters", "6", "--save-every", "3", "--job-name", "through"];
    let (through, _) = done(room.alone(&lesson(&through)));
    let long = lesson(&[
        "--iters",
        "1000",
        "--save-every",
        "3",
        "--job-name",
        "lesson",
    ]);

    // The one who drives it, in the middle of a step.
    let mut helper = room.helper(&[]);
    let mut driver = room.together(&long);
    wait_for(&driver, "step 3: saved");
    driver.kill();
    assert_same(&through[..3], &losses(&driver.log())[..3]);
    let goes_on = ["--iters", "6", "--resume-checkpoint", "lesson:3"];
    let (rest, log) = done(room.together(&lesson(&goes_on)));
    assert!(log.contains("going on after step 3"), "{log}");
    assert_same(&through[3..], &rest);

    // Another one; its checkpoints survive it.
    let longer = [
        "--iters",
        "1000",
        "--save-every",
        "2",
        "--resume-checkpoint",
        "lesson:3",
    ];
    let mut driver = room.together(&lesson(&longer));
    wait_for(&driver, "step 4: saved");
    helper.kill();
    assert_eq!(driver.exit_code(), Some(1));
    let log = driver.log();
    assert!(
        log.contains("go on from the checkpoint with --resume-checkpoint lesson:"),
        "{log}"
    );
    let _helper = room.helper(&[]);
    let goes_on = ["--iters", "6", "--resume-checkpoint", "lesson:4"];
    let (rest, _) = done(room.together(&lesson(&goes_on)));
    assert_same(&through[4..], &rest);
}

#[cfg(unix)]
#[test]
fn an_interrupted_job_leaves_nothing_half() {
    let Some(room) = Classroom::new("an_interrupted_job_leaves_nothing_half") else {
        return;
    };
    let long = [
        "--iters",
        "100000",
        "--save-every",
        "2",
        "--job-name",
        "lesson",
    ];
    let mut driver = room.alone(&lesson(&long));
    wait_for(&driver, "step 2: saved");
    driver.signal("INT");
    assert_eq!(driver.exit_code(), Some(130));
    let log = driver.log();
    assert!(
        log.contains("go on from the checkpoint with --resume-checkpoint lesson:"),
        "{log}"
    );
    let left = files(&room.checkpoints("own").join("lesson"));
    assert!(left.contains(&"job.json".to_owned()), "{left:?}");
    assert!(left.iter().all(|name| !name.ends_with(".new")), "{left:?}");
    // The name is taken; the job's own flags are known.
    let mut again = room.alone(&lesson(&["--job-name", "lesson"]));
    assert_eq!(again.exit_code(), Some(1));
    assert!(again.log().contains("exists already"), "{}", again.log());
    let other = lesson(&["--resume-checkpoint", "lesson", "--lora-rank", "3"]);
    let mut other = room.alone(&other);
    assert_eq!(other.exit_code(), Some(2));
    let told = other.log();
    assert!(
        told.contains("what is trained is another than the resumed job began with"),
        "{told}"
    );
}

#[test]
fn a_ring_without_an_engine_that_trains_says_so() {
    let Some(room) = Classroom::new("a_ring_without_an_engine_that_trains_says_so") else {
        return;
    };
    let data = room.data();
    let data = data.to_str().expect("a plain path");
    let arguments = lesson(&["--inference-engine", "cpu", "--data", data]);
    let (port, api) = (room.helper, room.helper_api);
    let mut node = NodeProcess::start("cpu", port, api, &arguments, room.folder.path());
    assert_eq!(node.exit_code(), Some(1));
    let log = node.log();
    assert!(
        log.contains("no node here can train; left out: cpu has an engine that does not train"),
        "{log}"
    );
}

#[test]
fn a_real_model_learns_over_a_ring_as_alone() {
    let Some(path) = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from) else {
        eprintln!(
            "SKIPPED a_real_model_learns_over_a_ring_as_alone: EXO_TEST_MODEL names no model"
        );
        return;
    };
    let Some(room) = Classroom::new("a_real_model_learns_over_a_ring_as_alone") else {
        return;
    };
    let (folder, name) = (
        path.parent().expect("a file"),
        path.file_stem().expect("a file"),
    );
    let (folder, name) = (
        folder.to_str().expect("plain"),
        name.to_str().expect("plain"),
    );
    let lesson = |job| {
        let steps = [
            "train",
            name,
            "--models-dir",
            folder,
            "--iters",
            "3",
            "--batch-size",
            "2",
        ];
        let told = [
            "--steps-per-report",
            "1",
            "--lora-layers",
            "4",
            "--job-name",
            job,
        ];
        [&steps[..], &told, &["--learning-rate", "0.0005"]].concat()
    };
    let (one, _) = done(room.alone(&lesson("alone")));
    let _helper = room.helper(&["--models-dir", folder]);
    let (two, log) = done(room.together(&lesson("ring")));
    assert!(
        log.contains("(layers 0-14)") && log.contains("(layers 15-29)"),
        "{log}"
    );
    assert_same(&one, &two);
    assert!(one[1].1 < one[0].1, "{one:?}");
}
