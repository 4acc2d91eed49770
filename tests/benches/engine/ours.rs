//! Nodes of this process, which talk over TCP as those of different machines do.

use crate::{Contestant, Outcome, Rate, Speed, Test, Took};
use exo_engine_cpu::{CpuEngine, CpuOptions};
use exo_engine_mlx::{MlxEngine, MlxOptions};
use exo_models::Model;
use exo_protocol::config::DirectPeer;
use exo_protocol::engine::Sampling;
use exo_protocol::{Command, Event, Submit};
use exo_tests::conformance::{Host, Kind, NEVER, Setup};
use std::time::Instant;

/// An engine of ours.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Cpu,
    Mlx,
}

impl Engine {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Mlx => "mlx",
        }
    }

    /// Those that this build has.
    pub(crate) fn all() -> Vec<Self> {
        let mlx = exo_engine_mlx::AVAILABLE.then_some(Self::Mlx);
        [Some(Self::Cpu), mlx].into_iter().flatten().collect()
    }
}

/// Answers that are begun for one that is long enough: models end theirs where they like.
const TRIES: u32 = 16;

pub(crate) fn contestant(
    model: &Model,
    engine: Engine,
    nodes: usize,
    threads: usize,
) -> Outcome<Contestant> {
    let mut hosts: Vec<Host> = Vec::new();
    for number in 0..nodes {
        let mut setup = Setup::new(&format!("node{number}"), 4096);
        let known = hosts.iter().map(|host| DirectPeer {
            address: host.address.to_string(),
            node: None,
        });
        let known: Vec<DirectPeer> = known.collect();
        if !known.is_empty() {
            setup.config.discovery.direct = known;
        }
        let model = model.clone();
        let open = Box::new(move |_: &str| Ok(model.clone()));
        hosts.push(Host::start(Kind::Smol, setup, move || match engine {
            Engine::Cpu => {
                let mut options = CpuOptions::default();
                options.threads = threads;
                let engine = CpuEngine::new(options, open).map_err(|error| error.to_string())?;
                Ok(Box::new(engine))
            }
            Engine::Mlx => {
                let engine = MlxEngine::new(MlxOptions::default(), open);
                Ok(Box::new(engine.map_err(|error| error.to_string())?))
            }
        }));
    }
    for host in &hosts {
        host.until("a ring", |status| {
            let edges = status.topology.edges.values().map(|edges| edges.len());
            edges.sum::<usize>() == nodes * (nodes - 1)
        });
    }
    let mut ring = Ring {
        hosts,
        model: model.clone(),
        asked: 0,
    };
    Ok(Contestant {
        engine: format!("engine-{}", engine.name()),
        nodes,
        threads: matches!(engine, Engine::Cpu).then_some(threads),
        run: Box::new(move |test| ring.measure(test)),
        speeds: Vec::new(),
    })
}

/// Nodes; the first one is asked.
struct Ring {
    hosts: Vec<Host>,
    model: Model,
    asked: u64,
}

/// How long an answer took: to its first token, and from there to its last.
struct Times {
    first: Took,
    rest: Took,
    tokens: u32,
}

/// A moment: of time, and of the processor time that all threads have taken. All nodes are in this
/// process, and only those that are asked do anything.
#[derive(Clone, Copy)]
struct Moment {
    time: Instant,
    processor: f64,
}

impl Moment {
    fn now() -> Self {
        // Fields 14 and 15 of the line, counted after the name in parentheses: hundredths of
        // seconds.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let fields = fields.split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
        Self {
            time: Instant::now(),
            processor: ticks / 100.0,
        }
    }

    fn until(self, end: Self) -> Took {
        Took {
            time: (end.time - self.time).as_secs_f64(),
            processor: end.processor - self.processor,
        }
    }
}

impl Ring {
    fn measure(&mut self, test: Test) -> Outcome<Speed> {
        let prompt: Vec<u32> = (0..test.prompt).map(|at| 1000 + 7 * at).collect();
        let read = self.ask(prompt, 1)?;
        let write = self.write(test.answer)?;
        Ok(Speed {
            read: Rate::new(test.prompt, read.first),
            write: Rate::new(test.answer, write.rest),
        })
    }

    fn write(&mut self, answer: u32) -> Outcome<Times> {
        for salt in 0..TRIES {
            let times = self.ask(vec![1000 + salt], answer + 1)?;
            if times.tokens == answer + 1 {
                return Ok(times);
            }
        }
        Err(format!("{TRIES} answers ended before {answer} tokens").into())
    }

    fn ask(&mut self, tokens: Vec<u32>, most: u32) -> Outcome<Times> {
        let config = self.model.config();
        self.asked += 1;
        let submit = Submit {
            request: format!("r{}", self.asked).as_str().into(),
            model: self.model.id().into(),
            layers: config.layers,
            bytes: config.weight_bytes,
            cost: Default::default(),
            // The folders that are made have no tokenizer, and so no fingerprint.
            fingerprint: self.model.fingerprint().unwrap_or(0),
            prompt: "".into(),
            tokens,
            end_tokens: vec![],
            sampling: Sampling::default(),
            max_tokens: most,
            timeout: NEVER,
            trace: false,
        };
        let host = self.hosts.first().ok_or("a ring has nodes")?;
        let begin = Moment::now();
        host.command(Command::Submit(submit));
        let (mut first, mut last, mut stages) = (None, begin.time, 0);
        let tokens = host.event(|event| match event {
            Event::Accepted { ring, .. } => {
                stages = ring.len();
                None
            }
            Event::Token { .. } => {
                first.get_or_insert_with(Moment::now);
                last = Instant::now();
                None
            }
            Event::Finished { tokens, .. } => Some(Ok(tokens)),
            Event::Failed { failure, .. } => Some(Err(failure.to_string())),
            Event::Rejected { rejection, .. } => Some(Err(rejection.to_string())),
            _ => None,
        })?;
        if stages != self.hosts.len() {
            return Err(format!("{stages} stages on {} nodes", self.hosts.len()).into());
        }
        let first = first.ok_or("an answer has a token")?;
        let end = Moment {
            time: last,
            ..Moment::now()
        };
        Ok(Times {
            first: begin.until(first),
            rest: first.until(end),
            tokens,
        })
    }
}
