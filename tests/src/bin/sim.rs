//! Runs the simulator over many seeds:
//! `cargo run --release -p exo-tests --bin sim -- --seeds 1000 --hosts 3 [--seed 0]`.

use exo_tests::sim::{self, FaultCounts, Outcome};
use std::process::ExitCode;

struct Arguments {
    seed: u64,
    seeds: u64,
    hosts: usize,
}

fn arguments() -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seed: 0,
        seeds: 100,
        hosts: 3,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} needs a number"))?;
        let number: u64 = value.parse().map_err(|_| format!("{value} is no number"))?;
        match word.as_str() {
            "--seed" => arguments.seed = number,
            "--seeds" => arguments.seeds = number,
            "--hosts" => arguments.hosts = usize::try_from(number).unwrap_or(3).clamp(1, 64),
            _ => return Err(format!("{word} is none of --seed, --seeds, --hosts")),
        }
    }
    Ok(arguments)
}

fn add(total: &mut Outcome, run: &Outcome) {
    total.finished += run.finished;
    total.failed += run.failed;
    total.rejected += run.rejected;
    total.elapsed += run.elapsed;
    total.steps += run.steps;
    let (sum, one) = (&mut total.faults, &run.faults);
    *sum = FaultCounts {
        crash: sum.crash + one.crash,
        reset: sum.reset + one.reset,
        stall: sum.stall + one.stall,
        half_open: sum.half_open + one.half_open,
        slow_engine: sum.slow_engine + one.slow_engine,
        bad_engine: sum.bad_engine + one.bad_engine,
        sleep: sum.sleep + one.sleep,
        cancel: sum.cancel + one.cancel,
    };
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let mut total = Outcome::default();
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        // A run that breaks a rule panics with its seed and the command that repeats it.
        add(&mut total, &sim::run(seed, arguments.hosts));
    }
    println!(
        "{} runs of {} hosts, {:.1} simulated hours, {} steps: {} requests finished, {} failed, {} \
         rejected; {:?}",
        arguments.seeds,
        arguments.hosts,
        total.elapsed.as_secs_f64() / 3600.0,
        total.steps,
        total.finished,
        total.failed,
        total.rejected,
        total.faults,
    );
    ExitCode::SUCCESS
}
