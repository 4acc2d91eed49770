//! How long a hand-over between two nodes takes, beside what it costs without us.
//!
//! `docs/PERFORMANCE.md` says what is measured and how to run it. Every far end is a process of its
//! own, as it is in a ring; blocks of all contestants take turns, so that a busy moment of the
//! machine hits all of them.

mod far;
mod hand;
mod raw;
mod ring;

use exo_protocol::engine::Engine;
use exo_tests::conformance::Kind;
use exo_tests::conformance::engine::NullEngine;
use far::NEAR_CORE;
use std::env;
use std::process;
use std::time::Duration;

/// Hand-overs in a block; as many as a node remembers.
const BLOCK: usize = 512;

/// Elements of the hidden state: 8 KiB of `float32`.
const WIDTH: usize = 2048;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Set in a process that runs on the near end's core.
const PLACED: &str = "EXO_HOP_PLACED";

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args()
        .skip(1)
        .filter(|text| text != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["far", "raw"] => return raw::far(),
        ["far", "std", file] => return ring::far(Kind::Std, file.into()),
        ["far", "smol", file] => return ring::far(Kind::Smol, file.into()),
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
    let mut contestants = vec![raw::contestant()?];
    for (name, kind) in [("std", Kind::Std), ("smol", Kind::Smol)] {
        contestants.push(hand::base(name)?);
        contestants.push(hand::extension(name)?);
        contestants.push(ring::contestant(name, kind)?);
    }
    if baselines {
        contestants.push(far::tonic()?);
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

fn engine() -> Result<Box<dyn Engine>, String> {
    Ok(Box::new(NullEngine::new(WIDTH)))
}
