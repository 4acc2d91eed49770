//! Tokens per second, of a prompt and of an answer, and beside another implementation.
//!
//! ```text
//! EXO_TEST_MODEL=model.gguf EXO_THREADS=2 \
//!     EXO_ORACLE_PYTHON=venv/bin/python cargo bench -p exo-engine-cpu --bench tokens
//! ```
//!
//! `EXO_ORACLE_PYTHON` is a Python that has `llama_cpp`; without it only our own numbers come.
//! The two run in turns, several times, and the median counts: other work on the machine then
//! slows both. With one thread, tokens per second of processor time (Linux) are told as well: they
//! hardly depend on what else the machine does.

use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_models::Model;
use exo_protocol::Shard;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent, EngineInput, Sampling};
use exo_protocol::id::{CallId, ModelId, RequestId};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const PROMPT: usize = 512;
const ANSWER: usize = 128;
const TURNS: usize = 5;

const ORACLE: &str = r#"
import sys, time, llama_cpp
path, threads, prompt, answer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
model = llama_cpp.Llama(path, n_ctx=2048, n_threads=threads, n_threads_batch=threads, verbose=False)
tokens = [1000 + 7 * i for i in range(prompt)]
def timed(tokens):
    start = time.perf_counter(), time.process_time()
    for part in tokens:
        model.eval(part)
        llama_cpp.llama_synchronize(model._ctx.ctx)
    return time.perf_counter() - start[0], time.process_time() - start[1]
model.eval(tokens[:32])
model.reset()
prefill = timed([tokens])
model.reset()
model.eval(tokens[:32])
decode = timed([[1000 + i] for i in range(answer)])
print(*(prompt / time for time in prefill), *(answer / time for time in decode))
"#;

/// Tokens per second.
#[derive(Clone, Copy, Debug)]
struct Speed {
    prefill: f64,
    /// Per second of processor time.
    prefill_cpu: f64,
    decode: f64,
    decode_cpu: f64,
}

/// Seconds since `start`, and seconds of processor time that all threads have taken.
fn now(start: Instant) -> (f64, f64) {
    // Fields 14 and 15 of the line, counted after the name in parentheses: hundredths of seconds.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    (start.elapsed().as_secs_f64(), ticks / 100.0)
}

fn ours(path: &Path, threads: usize) -> Result<Speed, Box<dyn Error>> {
    let mut options = CpuOptions::default();
    options.threads = threads;
    let opened = path.to_owned();
    let mut engine = CpuEngine::new(options, Box::new(move |_| Model::open(&opened)))?;
    let layers = Model::open(path)?.config().layers;
    let shard = Shard::new(ModelId::from("bench"), 0..layers, layers).ok_or("no layers")?;
    let load = EngineCommand::Load {
        call: CallId(0),
        shard: shard.clone(),
    };
    done(engine.execute(load, &mut |_| {}))?;
    let origin = Instant::now();
    let mut timed = |mut position: u32, parts: Vec<Vec<u32>>| {
        let start = now(origin);
        for tokens in parts {
            let count = u32::try_from(tokens.len())?;
            let forward = EngineCommand::Forward {
                call: CallId(1),
                shard: shard.clone(),
                request: RequestId::from("bench"),
                position,
                input: EngineInput::Tokens(tokens),
                sampling: Some(Sampling::default()),
            };
            done(engine.execute(forward, &mut |_| {}))?;
            position += count;
        }
        let end = now(origin);
        Ok::<_, Box<dyn Error>>((end.0 - start.0, end.1 - start.1))
    };
    let tokens: Vec<u32> = (0..PROMPT as u32).map(|i| 1000 + 7 * i).collect();
    let warm = tokens.get(..32).ok_or("the prompt is too short")?.to_vec();
    timed(0, vec![warm.clone()])?;
    let prefill = timed(0, vec![tokens])?;
    timed(0, vec![warm])?;
    let decode = timed(32, (0..ANSWER as u32).map(|i| vec![1000 + i]).collect())?;
    Ok(Speed {
        prefill: PROMPT as f64 / prefill.0,
        prefill_cpu: PROMPT as f64 / prefill.1,
        decode: ANSWER as f64 / decode.0,
        decode_cpu: ANSWER as f64 / decode.1,
    })
}

fn done(event: EngineEvent) -> Result<(), Box<dyn Error>> {
    match event {
        EngineEvent::Failed { failure, .. } => Err(failure.message.into()),
        _ => Ok(()),
    }
}

fn oracle(python: &str, path: &Path, threads: usize) -> Result<Speed, Box<dyn Error>> {
    let output = Command::new(python)
        .args(["-c", ORACLE])
        .arg(path)
        .args([threads, PROMPT, ANSWER].map(|number| number.to_string()))
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    match *numbers?.as_slice() {
        [prefill, prefill_cpu, decode, decode_cpu] => Ok(Speed {
            prefill,
            prefill_cpu,
            decode,
            decode_cpu,
        }),
        _ => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
    }
}

fn median(speeds: &[Speed], of: impl Fn(&Speed) -> f64) -> f64 {
    let mut values: Vec<f64> = speeds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Box<dyn Error>> {
    let Some(path) = std::env::var_os("EXO_TEST_MODEL").map(PathBuf::from) else {
        println!("SKIPPED: EXO_TEST_MODEL names no model");
        return Ok(());
    };
    let threads = match std::env::var("EXO_THREADS") {
        Ok(threads) => threads.parse()?,
        Err(_) => CpuOptions::default().threads,
    };
    let python = std::env::var("EXO_ORACLE_PYTHON").ok();
    println!("{threads} threads; prompt of {PROMPT} tokens, answer of {ANSWER}; tokens/s");
    let (mut us, mut them) = (Vec::new(), Vec::new());
    for turn in 1..=TURNS {
        let tell = |who: &str, speed: &Speed| {
            println!(
                "turn {turn}  {who:7} prefill {:7.1}  decode {:6.1}",
                speed.prefill, speed.decode
            );
        };
        us.push(ours(&path, threads).inspect(|speed| tell("ours", speed))?);
        if let Some(python) = &python {
            them.push(oracle(python, &path, threads).inspect(|speed| tell("oracle", speed))?);
        }
    }
    type Pick = fn(&Speed) -> f64;
    let mut rows: Vec<(&str, Pick)> = vec![
        ("prefill", |speed| speed.prefill),
        ("decode", |speed| speed.decode),
    ];
    if threads == 1 {
        rows.push(("prefill by processor time", |speed| speed.prefill_cpu));
        rows.push(("decode by processor time", |speed| speed.decode_cpu));
    }
    for (what, of) in rows {
        let (us, them) = (median(&us, of), median(&them, of));
        println!(
            "median {what}: ours {us:.1}, oracle {them:.1}, ratio {:.2}",
            us / them
        );
    }
    Ok(())
}
