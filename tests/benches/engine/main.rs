//! Tokens per second of both engines, on one node and on two, beside mlx-lm and llama.cpp.
//!
//! `docs/PERFORMANCE.md` says what is measured and how to run it. All contestants of a format take
//! turns, so that a busy moment of the machine hits all of them; a ratio is the median of the ratios
//! within a turn.

mod ours;
mod reference;

use exo_models::Model;
use std::env;
use std::path::{Path, PathBuf};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// What is measured: so many tokens are read, and then, of another request, so many are written.
#[derive(Clone, Copy, Debug)]
struct Test {
    prompt: u32,
    answer: u32,
}

/// What one part of a test took, in seconds.
#[derive(Clone, Copy, Debug)]
struct Took {
    time: f64,
    /// Of processors, over all threads: other work on the machine disturbs it less.
    processor: f64,
}

/// Tokens per second.
#[derive(Clone, Copy, Debug)]
struct Rate {
    time: f64,
    processor: f64,
}

impl Rate {
    fn new(tokens: u32, took: Took) -> Self {
        Self {
            time: f64::from(tokens) / took.time,
            processor: f64::from(tokens) / took.processor,
        }
    }
}

/// What a contestant did in a turn.
#[derive(Clone, Copy, Debug)]
struct Speed {
    read: Rate,
    write: Rate,
}

/// One of the two.
type Pick = fn(&Speed) -> Rate;

struct Contestant {
    engine: String,
    nodes: usize,
    threads: Option<usize>,
    run: Box<dyn FnMut(Test) -> Outcome<Speed>>,
    speeds: Vec<Speed>,
}

struct Options {
    test: Test,
    turns: usize,
    threads: usize,
    formats: Vec<String>,
    engines: Vec<String>,
}

const USAGE: &str = "usage: engine [--turns N] [--prompt N] [--answer N] [--threads N] \
                     [--formats gguf,f32,f16,4bit] [--engines cpu,mlx]";

fn main() -> Outcome<()> {
    let options = options()?;
    let Some(gguf) = env::var_os("EXO_TEST_MODEL").map(PathBuf::from) else {
        println!("SKIPPED: EXO_TEST_MODEL names no GGUF file");
        return Ok(());
    };
    let pythons: Vec<PathBuf> = env::var_os("EXO_ORACLE_PYTHON")
        .map(|list| env::split_paths(&list).collect())
        .unwrap_or_default();
    let folders = reference::folders(&pythons, &gguf)?;
    println!(
        "{} turns; reading {} tokens, writing {}; {} threads of engine-cpu and llama.cpp, MLX \
         chooses its own",
        options.turns, options.test.prompt, options.test.answer, options.threads
    );
    for format in &options.formats {
        let path = match (format.as_str(), &folders) {
            ("gguf", _) => gguf.clone(),
            (name, Some(folders)) => folders.join(name),
            (name, None) => {
                println!("SKIPPED: {name} is made with mlx-lm: see EXO_ORACLE_PYTHON");
                continue;
            }
        };
        compare(format, &path, &pythons, &options)?;
    }
    Ok(())
}

fn options() -> Outcome<Options> {
    let mut options = Options {
        test: Test {
            prompt: 512,
            answer: 128,
        },
        turns: 5,
        threads: std::thread::available_parallelism()?.get(),
        formats: ["gguf", "f32"].map(str::to_owned).to_vec(),
        engines: ["cpu", "mlx"].map(str::to_owned).to_vec(),
    };
    let mut words = env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--turns" => options.turns = value()?.parse()?,
            "--prompt" => options.test.prompt = value()?.parse()?,
            "--answer" => options.test.answer = value()?.parse()?,
            "--threads" => options.threads = value()?.parse()?,
            "--engines" => options.engines = value()?.split(',').map(str::to_owned).collect(),
            "--formats" => options.formats = value()?.split(',').map(str::to_owned).collect(),
            _ => return Err(USAGE.into()),
        }
    }
    if options.turns == 0 || options.test.prompt == 0 || options.test.answer == 0 {
        return Err(USAGE.into());
    }
    Ok(options)
}

fn compare(format: &str, path: &Path, pythons: &[PathBuf], options: &Options) -> Outcome<()> {
    let model = Model::open(path)?;
    let mut contestants = Vec::new();
    let wanted = |engine: &ours::Engine| options.engines.iter().any(|name| name == engine.name());
    for engine in ours::Engine::all().into_iter().filter(wanted) {
        for nodes in [1, 2] {
            contestants.push(ours::contestant(&model, engine, nodes, options.threads)?);
        }
    }
    contestants.extend(reference::contestants(
        format,
        path,
        pythons,
        options.threads,
    )?);
    for turn in 0..=options.turns {
        for contestant in &mut contestants {
            // The first turn warms up, with a little.
            let test = match turn {
                0 => Test {
                    prompt: 32,
                    answer: 4,
                },
                _ => options.test,
            };
            let speed = (contestant.run)(test).map_err(|error| {
                format!("{}, {} nodes: {error}", contestant.engine, contestant.nodes)
            })?;
            if turn > 0 {
                contestant.speeds.push(speed);
            }
        }
    }
    print(format, &contestants, options.test);
    Ok(())
}

/// One row for each contestant and test, and what it is measured by: the same engine on one node,
/// and the other implementation; in parentheses by processor time.
fn print(format: &str, contestants: &[Contestant], test: Test) {
    println!();
    println!(
        "| format | engine | threads | nodes | test | tokens/s | by processor time | to one node | \
         to the other |"
    );
    println!("| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |");
    let tests: [(String, Pick); 2] = [
        (format!("pp{}", test.prompt), |speed| speed.read),
        (format!("tg{}", test.answer), |speed| speed.write),
    ];
    for (name, of) in &tests {
        for own in contestants {
            let ratio = |other: Option<&Contestant>| match other {
                Some(other) => {
                    let turns = || own.speeds.iter().zip(&other.speeds);
                    let time = turns().map(|(own, other)| of(own).time / of(other).time);
                    let processor =
                        turns().map(|(own, other)| of(own).processor / of(other).processor);
                    format!("{:.2} ({:.2})", median(time), median(processor))
                }
                None => String::new(),
            };
            let alone = contestants
                .iter()
                .find(|other| other.engine == own.engine && own.nodes > 1 && other.nodes == 1);
            let rival = contestants
                .iter()
                .find(|other| Some(other.engine.as_str()) == rival(&own.engine));
            let (mean, deviation) = spread(own.speeds.iter().map(|speed| of(speed).time));
            let processor = median(own.speeds.iter().map(|speed| of(speed).processor));
            println!(
                "| {format} | {} | {} | {} | {name} | {mean:.1} ± {deviation:.1} | \
                 {processor:.1} | {} | {} |",
                own.engine,
                own.threads.map_or(String::new(), |n| n.to_string()),
                own.nodes,
                ratio(alone),
                ratio(rival),
            );
        }
    }
}

/// What an engine of ours is measured by.
fn rival(engine: &str) -> Option<&'static str> {
    match engine {
        "engine-mlx" => Some("mlx-lm"),
        "engine-cpu" => Some("llama.cpp"),
        _ => None,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The mean, and the sample's standard deviation.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let values: Vec<f64> = values.collect();
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
