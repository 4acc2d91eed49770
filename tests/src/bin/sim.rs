//! Runs the simulator over many seeds, with all cores:
//! `cargo run --release -p exo-tests --bin sim -- --seeds 1000 --hosts 3 [--hosts-to 7] [--seed 0]
//! [--trace]`; with `--predictions` rings in which nothing strikes, and whether requests take as long
//! there as was predicted.
//!
//! Or replays what `exo-node --record` wrote, and says at which entry the node does something else:
//! `cargo run --release -p exo-tests --bin sim -- --replay FILE`.

use exo_tests::invariants::{determinism, replays};
use exo_tests::replay::replay;
use exo_tests::sim::{self, Outcome, Violation};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// One seed in so many runs twice, to compare, and another one with every node written down and
/// replayed.
const TWICE: u64 = 128;

/// One seed in so many is of a ring in which nothing strikes, to see what predictions are worth.
const FORETOLD: u64 = 32;

#[derive(Clone)]
struct Arguments {
    seed: u64,
    seeds: u64,
    hosts: u64,
    hosts_to: u64,
    trace: bool,
    predictions: bool,
    replay: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seed: 0,
        seeds: 100,
        hosts: 3,
        hosts_to: 0,
        trace: false,
        predictions: false,
        replay: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let field = match word.as_str() {
            "--seed" => &mut arguments.seed,
            "--seeds" => &mut arguments.seeds,
            "--hosts" => &mut arguments.hosts,
            "--hosts-to" => &mut arguments.hosts_to,
            "--trace" => {
                arguments.trace = true;
                continue;
            }
            "--predictions" => {
                arguments.predictions = true;
                continue;
            }
            "--replay" => {
                let file = words.next().ok_or("--replay needs a file")?;
                arguments.replay = Some(file.into());
                continue;
            }
            _ => {
                return Err(format!(
                    "{word} is none of --seed, --seeds, --hosts, --hosts-to, --trace, --predictions, --replay"
                ));
            }
        };
        let value = words.next().ok_or(format!("{word} needs a number"))?;
        *field = value.parse().map_err(|_| format!("{value} is no number"))?;
    }
    arguments.hosts = arguments.hosts.clamp(1, 63);
    arguments.hosts_to = arguments.hosts_to.clamp(arguments.hosts, 63);
    Ok(arguments)
}

impl Arguments {
    /// How many hosts the run of `seed` has.
    fn hosts(&self, seed: u64) -> usize {
        let hosts = self.hosts + seed % (self.hosts_to - self.hosts + 1);
        usize::try_from(hosts).unwrap_or(1)
    }

    fn run(&self, seed: u64) -> Result<Outcome, Box<Violation>> {
        let hosts = self.hosts(seed);
        if self.predictions || seed % FORETOLD == FORETOLD / 4 && !self.trace {
            sim::forecast(seed, hosts, self.trace)
        } else if self.trace {
            sim::trace(seed, hosts)
        } else if seed.is_multiple_of(TWICE) {
            determinism::check(seed, hosts)
        } else if seed % TWICE == TWICE / 2 {
            replays::check(seed, hosts)
        } else {
            sim::run(seed, hosts)
        }
    }
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(file) = &arguments.replay {
        return match replay(file) {
            Ok(report) => {
                println!("{report}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let begun = Instant::now();
    let threads = match thread::available_parallelism() {
        Ok(cores) if !arguments.trace => cores.get(),
        _ => 1,
    };
    let (next, violations) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut total = Outcome::default();
    thread::scope(|scope| {
        let work = || {
            let mut sum = Outcome::default();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= arguments.seeds {
                    return sum;
                }
                match arguments.run(arguments.seed.wrapping_add(index)) {
                    Ok(outcome) => sum.add(&outcome),
                    Err(violation) => {
                        violations.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{violation}");
                    }
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            // A run that panics is a violation, so no worker does.
            if let Ok(sum) = worker.join() {
                total.add(&sum);
            }
        }
    });
    let violations = violations.into_inner();
    println!(
        "{} runs of {}-{} hosts, {:.1} simulated hours, {} steps, trace {:016x}: {} requests finished, \
         {} failed, {} rejected, {} orphaned, {} recoveries, {} changes of address, {} predictions; {} training jobs ended, {} failed, {} \
         resumed; faults: {}; {violations} violations",
        arguments.seeds,
        arguments.hosts,
        arguments.hosts_to,
        total.elapsed.as_secs_f64() / 3600.0,
        total.steps,
        total.trace,
        total.finished,
        total.failed,
        total.rejected,
        total.orphaned,
        total.recovered,
        total.moved,
        total.predicted,
        total.trained,
        total.untrained,
        total.resumed,
        total.faults,
    );
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{seconds:.1} s, {:.1} runs/s",
        arguments.seeds as f64 / seconds
    );
    if violations == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
