//! `exo-node bench`: how quickly this node, or its ring, reads and writes tokens.

mod table;

use crate::Failed;
use crate::app::App;
use crate::cli::EngineKind;
use crate::random;
use crate::settings::Settings;
use crate::signals::Stop;
use crate::speaker::Speaker;
use exo_engine_cpu::CpuOptions;
use exo_models::{ModelError, WeightKind, WeightName};
use exo_protocol::engine::Sampling;
use exo_protocol::{Event, Failure, Rejection, Submit};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use table::Row;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The model's name or path; the default one if none.
    pub model: Option<String>,
    /// Tokens of the prompt that is read.
    pub prompt_tokens: u32,
    /// Tokens that are written.
    pub max_tokens: u32,
    /// How often each is measured.
    pub repeat: u32,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The ring failed.
    #[error("{0}")]
    Failed(Failure),
    /// The node did not take the request.
    #[error("{0}")]
    Rejected(Rejection),
    /// The node ended or was silent.
    #[error("the node does not answer any more")]
    Silent,
    /// The model ends its answers at once, whatever it is asked.
    #[error("{model} ended {tries} answers before {wanted} tokens; ask for fewer: --max-tokens")]
    Short {
        /// The model.
        model: String,
        /// Answers that it began.
        tries: u32,
        /// Tokens that each should have had.
        wanted: u32,
    },
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

/// An orderly stop takes no longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers that are begun for one that is long enough: models end theirs where they like.
const TRIES: u32 = 16;

/// Measures, and prints a table. `false` when somebody interrupted it.
///
/// # Errors
/// When there is no such model, the node does not start, or the ring fails.
pub fn bench(settings: &Settings, bench: &Bench, stop: &Stop) -> Result<bool, Failed> {
    let started = App::start(settings)?;
    let app = &started.app;
    app.wait_for_peers(settings.wait_for_peers, &|| stop.asked());
    let result = measure(app, settings, bench, stop);
    started.shutdown(PATIENCE);
    match result {
        Err(Failed::Bench(BenchError::Interrupted)) => Ok(false),
        other => other.map(|()| true),
    }
}

fn measure(app: &App, settings: &Settings, bench: &Bench, stop: &Stop) -> Result<(), Failed> {
    let name = bench.model.as_deref();
    let name = name.map(|name| app.library().name(name)).transpose();
    let name = name.map_err(Failed::Model)?;
    let speaker = app.library().speaker(name.as_deref());
    let speaker = speaker.map_err(crate::ask::AskError::Model)?;
    let bench = bench.within(speaker.context());
    let ring = Ring {
        app,
        speaker: &speaker,
        stop,
    };
    // Every node loads its layers.
    ring.ask(8, 1, 0)?;
    let mut row = Row {
        model: speaker.id().to_string(),
        bytes: speaker.bytes(),
        format: format(&speaker).map_err(Failed::Model)?,
        engine: ring.engines().join(" + "),
        threads: threads(settings),
        nodes: ring.nodes().len().max(1),
        test: String::new(),
        rates: Vec::new(),
    };
    let mut out = io::stdout();
    write!(out, "{}", table::HEAD)?;
    let (prompt, answer) = (bench.prompt_tokens, bench.max_tokens);
    let reads = |turn| {
        let times = ring.ask(prompt, 1, turn)?;
        Ok(f64::from(prompt) / times.first.as_secs_f64())
    };
    row.test = format!("pp{prompt}");
    row.rates = rates(bench.repeat, reads)?;
    writeln!(out, "{row}")?;
    let writes = |turn| {
        let times = ring.write(answer, turn)?;
        Ok(f64::from(answer) / times.rest.as_secs_f64())
    };
    row.test = format!("tg{answer}");
    row.rates = rates(bench.repeat, writes)?;
    writeln!(out, "{row}")?;
    Ok(())
}

/// Tokens per second, so often.
fn rates(
    repeat: u32,
    rate: impl Fn(u32) -> Result<f64, BenchError>,
) -> Result<Vec<f64>, BenchError> {
    (0..repeat).map(rate).collect()
}

impl Bench {
    /// The same for a model with so many positions.
    fn within(&self, context: u32) -> Self {
        let most = context.saturating_sub(1).max(1);
        Self {
            prompt_tokens: self.prompt_tokens.min(most),
            max_tokens: self.max_tokens.min(most.saturating_sub(1)).max(1),
            ..self.clone()
        }
    }
}

/// What is measured.
struct Ring<'a> {
    app: &'a App,
    speaker: &'a Speaker,
    stop: &'a Stop,
}

/// How long an answer took.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// To the first token.
    first: Duration,
    /// From there to the last.
    rest: Duration,
    /// Tokens.
    tokens: u32,
}

impl Ring<'_> {
    /// An answer with so many tokens after its first.
    fn write(&self, tokens: u32, turn: u32) -> Result<Times, BenchError> {
        let wanted = tokens.saturating_add(1);
        for salt in 0..TRIES {
            let times = self.ask(1, wanted, turn + salt)?;
            if times.tokens == wanted {
                return Ok(times);
            }
        }
        let model = self.speaker.id().to_string();
        Err(BenchError::Short {
            model,
            tries: TRIES,
            wanted,
        })
    }

    /// An answer of at most so many tokens to a prompt of tokens that mean nothing; other ones for
    /// another salt.
    fn ask(&self, prompt: u32, most: u32, salt: u32) -> Result<Times, BenchError> {
        let vocab = self.speaker.vocab().max(1);
        let token = |at: u32| at.wrapping_mul(7).wrapping_add(salt.wrapping_mul(31)) % vocab;
        let submit = Submit {
            request: random::uuid().into(),
            model: self.speaker.id(),
            layers: self.speaker.layers(),
            bytes: self.speaker.bytes(),
            cost: self.speaker.cost(),
            fingerprint: self.speaker.fingerprint(),
            prompt: "".into(),
            tokens: (1..=prompt).map(token).collect(),
            end_tokens: Vec::new(),
            sampling: Sampling::default(),
            max_tokens: most,
            timeout: self.app.answering().timeout,
            trace: false,
        };
        let request = submit.request.clone();
        let news = self.app.events().of(request.clone());
        let begin = Instant::now();
        let result = self.app.submit(submit).map_err(|_| BenchError::Silent);
        let result = result.and_then(|()| self.listen(&news, begin));
        self.app.events().forget(&request);
        result
    }

    fn listen(
        &self,
        news: &std::sync::mpsc::Receiver<Event>,
        begin: Instant,
    ) -> Result<Times, BenchError> {
        let (mut first, mut last) = (None, begin);
        loop {
            match news.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Token { .. }) => {
                    last = Instant::now();
                    first.get_or_insert(last);
                }
                Ok(Event::Finished { tokens, .. }) => {
                    let first = first.unwrap_or(last);
                    return Ok(Times {
                        first: first - begin,
                        rest: last - first,
                        tokens,
                    });
                }
                Ok(Event::Failed { failure, .. }) => return Err(BenchError::Failed(failure)),
                Ok(Event::Rejected { rejection, .. }) => {
                    return Err(BenchError::Rejected(rejection));
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if self.stop.asked() => {
                    return Err(BenchError::Interrupted);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(BenchError::Silent),
            }
        }
    }

    /// The nodes of the ring that answered last, in its order.
    fn nodes(&self) -> Vec<exo_protocol::NodeId> {
        let rings = self.app.events().rings();
        let ring = rings.get(&self.speaker.id());
        let stages = ring.into_iter().flatten();
        stages.map(|stage| stage.node.clone()).collect()
    }

    /// What they compute with, each once.
    fn engines(&self) -> Vec<String> {
        let status = self.app.status();
        let mut engines = Vec::new();
        for node in self.nodes() {
            let node = status.topology.nodes.get(&node);
            let engine = node.and_then(|node| node.engine.as_ref());
            let name = engine.map_or_else(|| "?".to_owned(), |engine| engine.name.clone());
            if !engines.contains(&name) {
                engines.push(name);
            }
        }
        engines
    }
}

/// Threads of this node's engine, if it lets itself be told.
fn threads(settings: &Settings) -> Option<usize> {
    let usual = || CpuOptions::default().threads;
    (settings.engine == EngineKind::Cpu).then(|| settings.threads.unwrap_or_else(usual))
}

/// The format that most of a model's weights have.
fn format(speaker: &Speaker) -> Result<String, ModelError> {
    let Speaker::Model { model, .. } = speaker else {
        return Ok(String::new());
    };
    let range = 0..speaker.layers();
    let weights = model.weights(range.clone())?;
    let mut bytes: BTreeMap<String, usize> = BTreeMap::new();
    for name in WeightName::of_range(&range, model.config()) {
        let Some(view) = weights.find(name)? else {
            continue;
        };
        let kind: WeightKind = view.kind;
        *bytes.entry(kind.to_string()).or_default() += view.data.len();
    }
    let most = bytes.into_iter().max_by_key(|(_, bytes)| *bytes);
    Ok(most.map_or_else(String::new, |(kind, _)| kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_context_makes_short_tests() {
        let bench = Bench {
            model: None,
            prompt_tokens: 512,
            max_tokens: 128,
            repeat: 5,
        };
        let sizes = |context| {
            let bench = bench.within(context);
            (bench.prompt_tokens, bench.max_tokens)
        };
        assert_eq!(sizes(8192), (512, 128));
        assert_eq!(sizes(512), (511, 128));
        assert_eq!(sizes(100), (99, 98));
        assert_eq!(sizes(1), (1, 1));
    }
}
