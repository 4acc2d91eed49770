//! A node is recorded, and its recording is replayed.

use exo_protocol::dummy::{DummyEngine, END_TOKEN, LAYERS, MODEL};
use exo_protocol::engine::{Engine, Sampling};
use exo_protocol::record::{Log, LogError, Recorder, Recording, Trace};
use exo_protocol::topology::Capabilities;
use exo_protocol::{Command, Config, Input, Instant, Node, Output, Submit};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const START: Instant = Instant::from_nanos(5);

fn config() -> Config {
    Config::new("alone".into(), Capabilities::unknown())
}

fn submit() -> Input {
    Input::Command(Command::Submit(Submit {
        request: "r".into(),
        model: MODEL.into(),
        layers: LAYERS,
        bytes: 0,
        cost: Default::default(),
        fingerprint: 0,
        prompt: "a secret question".into(),
        tokens: vec![1],
        end_tokens: vec![END_TOKEN],
        sampling: Sampling::default(),
        max_tokens: 20,
        timeout: Duration::from_secs(60),
        trace: false,
    }))
}

/// A node alone answers one question; what was recorded of it, and how often it was called.
fn record(prompts: bool, limit: usize) -> (Vec<u8>, u64) {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&bytes);
    let append = Box::new(move |more: &[u8]| {
        let mut bytes = to.lock().expect("nobody panics");
        let fits = bytes.len() + more.len() <= limit;
        if fits {
            bytes.extend_from_slice(more);
        }
        fits
    });
    let recorder = Recorder { prompts, append };
    let mut recording = Recording::start(recorder, &config(), 7, START);
    let mut node = Node::new(config(), 7, START);
    let mut engine = DummyEngine::new();
    let mut inputs: VecDeque<Option<Input>> = [None, Some(submit()), None].into();
    let (mut now, mut calls) = (START, 0);
    while let Some(input) = inputs.pop_front() {
        now = now + Duration::from_millis(3);
        calls += 1;
        recording.input(now, input.as_ref());
        match input {
            Some(input) => node.handle_input(now, input),
            None => node.handle_timeout(now),
        }
        while let Some(output) = node.poll_output() {
            recording.output(&output);
            if let Output::Compute(command) = output {
                let event = engine.execute(command, &mut |_| {});
                inputs.push_back(Some(Input::Engine(event)));
            }
        }
        if !recording.commit() {
            break;
        }
    }
    let bytes = bytes.lock().expect("nobody panics").clone();
    (bytes, calls)
}

/// Entries that replayed, and the first that did not.
fn replay(bytes: &[u8]) -> Result<(u64, Option<u64>), LogError> {
    let mut log = Log::read(bytes)?;
    let head = log.head.clone();
    let mut trace = Trace::new(head.prompts);
    let mut node = Node::new(head.config, head.seed, head.start);
    let mut good = 0;
    for entry in &mut log {
        let entry = entry?;
        match entry.input {
            Some(input) => node.handle_input(entry.at, input),
            None => node.handle_timeout(entry.at),
        }
        while let Some(output) = node.poll_output() {
            trace.output(&output);
        }
        if entry.trace.is_some_and(|expected| expected != trace.hash()) {
            return Ok((good, Some(entry.number)));
        }
        good += 1;
    }
    Ok((good, None))
}

#[test]
fn a_recording_replays_with_prompts_and_without() {
    for prompts in [true, false] {
        let (bytes, calls) = record(prompts, usize::MAX);
        assert!(calls > 10, "it answers");
        assert_eq!(replay(&bytes), Ok((calls, None)));
        let secret = bytes.windows(6).any(|window| window == b"secret");
        assert_eq!(secret, prompts);
        let log = Log::read(&bytes).expect("a head");
        assert_eq!((log.head.seed, log.head.start), (7, START));
        assert_eq!(format!("{:?}", log.head.config), format!("{:?}", config()));
    }
}

#[test]
fn a_recording_may_end_anywhere() {
    let (bytes, calls) = record(true, usize::MAX);
    let head = bytes.len() - entries(&bytes).iter().sum::<usize>();
    let mut last = 0;
    for end in 0..bytes.len() {
        match replay(&bytes[..end]) {
            Ok((good, wrong)) => {
                assert!(end >= head && good >= last && good <= calls);
                assert_eq!(wrong, None);
                last = good;
            }
            Err(error) => assert!(end < head, "{end}: {error}"),
        }
    }
    // The last one lacks its trace only.
    assert_eq!(last, calls);
}

#[test]
fn a_limit_ends_it_between_two_writes() {
    let (whole, calls) = record(false, usize::MAX);
    let limit = whole.len() - 100;
    let (cut, fewer) = record(false, limit);
    assert!(fewer < calls && cut.len() <= limit);
    assert_eq!(cut, whole[..cut.len()]);
    assert!(replay(&cut).is_ok_and(|(good, wrong)| good > 3 && wrong.is_none()));
    let (none, _) = record(false, 10);
    assert!(none.is_empty());
}

/// The length of each entry.
fn entries(bytes: &[u8]) -> Vec<usize> {
    let mut log = Log::read(bytes).expect("a head");
    let mut left = log.left();
    let mut lengths = Vec::new();
    while let Some(entry) = log.next() {
        entry.expect("a good entry");
        lengths.push(left - log.left());
        left = log.left();
    }
    lengths
}

#[test]
fn a_changed_byte_is_found_at_its_entry() {
    let (bytes, _) = record(true, usize::MAX);
    let lengths = entries(&bytes);
    let mut start = bytes.len() - lengths.iter().sum::<usize>();
    for (index, length) in lengths.iter().enumerate() {
        let number = index as u64 + 1;
        let (body, trace) = (start + 2, start + length - 1);
        start += length;
        let mut changed = bytes.clone();
        changed[body] ^= 1;
        let problem = "its bytes were changed";
        assert_eq!(replay(&changed), Err(LogError::Entry { number, problem }));
        let mut changed = bytes.clone();
        changed[trace] ^= 1;
        assert_eq!(replay(&changed), Ok((number - 1, Some(number))));
    }
}

#[test]
fn what_is_no_recording_is_told() {
    let (bytes, _) = record(true, usize::MAX);
    for other in [&b""[..], b"EXO", b"something else", b"\x7fELF4444444"] {
        assert_eq!(replay(other), Err(LogError::Foreign));
    }
    let mut other = bytes.clone();
    other[7] = 9;
    let version = LogError::Version {
        expected: 1,
        got: 9,
    };
    assert_eq!(replay(&other), Err(version));
    let mut other = bytes;
    other[20] ^= 1;
    assert_eq!(
        replay(&other),
        Err(LogError::Head("its bytes were changed"))
    );
}
