//! `exo-node demo`: a ring of nodes on this machine, each a process of its own, that answers one
//! question and tells how it went.

mod children;
mod client;
mod draw;
mod ring;

pub use draw::Wrapped;

use crate::cli::EngineKind;
use crate::library::Library;
use crate::settings::Settings;
use crate::signals::Stop;
use crate::terminal::{Style, printable};
use children::{Child, Children};
use client::{Client, Reply};
use exo_models::{Catalog, ModelError};
use ring::{Hop, Ring};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What the demo is to show.
#[derive(Clone, Debug)]
pub struct Demo {
    /// How many nodes.
    pub nodes: usize,
    /// What they compute with, in turn; the settings' engine if nothing is said.
    pub engines: Option<Vec<EngineKind>>,
    /// Whether one of them is killed in the middle of the answer.
    pub unplug: bool,
    /// The model's name or path.
    pub model: String,
    /// The question.
    pub prompt: String,
    /// Most tokens of the answer.
    pub max_tokens: Option<u32>,
}

impl Demo {
    /// What the node of a place computes with.
    fn engine(&self, place: usize, settings: &Settings) -> EngineKind {
        let engines = self.engines.as_deref().unwrap_or_default();
        let chosen = engines.iter().cycle().nth(place);
        chosen.copied().unwrap_or(settings.engine)
    }

    /// Whether the nodes compute with models, and not without any.
    fn has_models(&self, settings: &Settings) -> bool {
        self.engine(0, settings) != EngineKind::Dummy
    }
}

/// The question when none is asked.
pub const PROMPT: &str = "Tell me a story about a fox and the moon.";

/// More processes are no better demonstration.
pub const MOST_NODES: usize = 16;

/// The nodes have found each other by then, or never will.
const MEETING: Duration = Duration::from_secs(30);

/// The ways between the nodes are measured by then, or something keeps them from it.
const MEASURING: Duration = Duration::from_secs(3);

/// Tokens of an answer after which engines know how quick they are with the layers that they have,
/// and nodes how long a step takes from one to the next.
const WARM: u32 = 32;

/// Why the demo went wrong.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A node's process ended.
    #[error("{node} ended ({status}){}", said(lines))]
    Ended {
        /// Which.
        node: String,
        /// How.
        status: String,
        /// Its last words.
        lines: Vec<String>,
    },
    /// A node does not do what it should.
    #[error("{node}: {problem}{}", said(lines))]
    Node {
        /// Which.
        node: String,
        /// What it does instead.
        problem: String,
        /// Its last words.
        lines: Vec<String>,
    },
    /// There is no such model.
    #[error("{0}")]
    Model(ModelError),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The terminal, or the system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn said(lines: &[String]) -> String {
    lines
        .iter()
        .map(|line| format!("\n  | {}", printable(line)))
        .collect()
}

/// Shows it.
///
/// # Errors
/// When a node does not start, or the ring does not answer.
pub fn demo(demo: &Demo, settings: &Settings, stop: &Stop) -> Result<(), DemoError> {
    if demo.has_models(settings) {
        // Better here and once than by every node.
        let library = Library::on_disk(Catalog::new(settings.models_dirs.clone()), None);
        library.name(&demo.model).map_err(DemoError::Model)?;
    }
    let style = Style::stdout();
    let mut out = io::stdout();
    writeln!(out, "\n  {}", style.bold(title(demo.nodes)))?;
    let waiting = Waiting::begin(style, "starting the nodes")?;
    let mut stage = Stage {
        children: Children::start(demo, settings)?,
        stop,
    };
    waiting.next("the nodes look for each other")?;
    stage.meet()?;
    stage.measured()?;
    waiting.next("each node loads its layers")?;
    let ring = stage.load(demo)?;
    drop(waiting);
    write!(out, "\n{}", draw::ring(&ring, stage.children.all(), style))?;
    writeln!(
        out,
        "\n  {} {}\n",
        style.dim(">"),
        style.bold(printable(&demo.prompt))
    )?;
    if demo.unplug {
        let undisturbed = stage.answer(demo, &ring, &mut io::sink(), None)?;
        let mut unplug = Unplug::new(&ring, stage.first()?, undisturbed.tokens, style);
        let told = stage.answer(demo, &ring, &mut out, Some(&mut unplug))?;
        let after = stage.ring()?;
        let same = told.text == undisturbed.text;
        write!(out, "\n{}", draw::unplugged(&unplug, &after, same, style))?;
    } else {
        let plan = stage.plan()?;
        let told = stage.answer(demo, &ring, &mut out, None)?;
        write!(out, "\n{}", draw::numbers(&told, style))?;
        write!(out, "{}", draw::predicted(&plan, style))?;
    }
    out.flush()?;
    stage.children.stop();
    let own = demo.has_models(settings) && demo.model == exo_models::embedded::ID;
    if own {
        writeln!(out, "\n{}", style.dim(FAREWELL))?;
    }
    writeln!(out)?;
    Ok(())
}

/// Nobody should take the small model for all there is.
const FAREWELL: &str = "  That was a model of a few megabytes, small enough to be part of this \
                        program. Another one:\n  exo-node demo --model FOLDER-OR-FILE.gguf";

fn title(nodes: usize) -> String {
    match nodes {
        1 => "one model on one node".to_owned(),
        nodes => format!("one model over {nodes} nodes"),
    }
}

/// What is waited for, on a line that goes away; nothing where it could not.
struct Waiting(Style);

impl Waiting {
    fn begin(style: Style, what: &str) -> io::Result<Self> {
        let waiting = Self(style);
        waiting.next(what)?;
        Ok(waiting)
    }

    fn next(&self, what: &str) -> io::Result<()> {
        if self.0.colours() {
            let mut out = io::stdout();
            write!(out, "\r\x1b[K  {}", self.0.dim(format_args!("{what} …")))?;
            out.flush()?;
        }
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.colours() {
            let mut out = io::stdout();
            // A terminal that is gone needs no tidying.
            let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
        }
    }
}

/// What can be told when the answer is there.
#[derive(Debug, Default)]
struct Told {
    text: String,
    tokens: u64,
    first: Duration,
    rest: Duration,
    finish: String,
    hops: Vec<Hop>,
    wire_bytes: u64,
}

/// The nodes, and whoever may want it to end.
struct Stage<'a> {
    children: Children,
    stop: &'a Stop,
}

impl Stage<'_> {
    /// Waits until every node knows that every node found every other.
    fn meet(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + MEETING;
        let count = self.children.all().len();
        for index in 0..count {
            loop {
                self.check()?;
                let Some(child) = self.children.all().get(index) else {
                    break;
                };
                let seen = Client::new(child.api).get("/v1/topology").ok();
                if seen.is_some_and(|topology| ring::met(&topology) == count) {
                    break;
                }
                if Instant::now() > deadline {
                    let problem = format!("not all {count} nodes found each other");
                    return Err(child.fault(problem));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Waits for a while until the node that predicts knows how far the nodes are apart.
    fn measured(&mut self) -> Result<(), DemoError> {
        let deadline = Instant::now() + MEASURING;
        loop {
            self.check()?;
            let seen = Client::new(self.first()?.api).get("/v1/topology").ok();
            if seen.is_some_and(|seen| ring::measured(&seen)) || Instant::now() > deadline {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A first question, so that when it counts every node has loaded its layers and measured how
    /// quick its engine is with them.
    fn load(&mut self, demo: &Demo) -> Result<Ring, DemoError> {
        let mut reply = self.ask(demo, Some(WARM))?;
        while self.line(&mut reply)?.is_some() {}
        self.ring()
    }

    /// The ring that answered last.
    fn ring(&self) -> Result<Ring, DemoError> {
        let child = self.first()?;
        let topology = Client::new(child.api)
            .get("/v1/topology")
            .map_err(|e| child.fault(e))?;
        Ring::read(&topology).ok_or_else(|| child.fault("it does not tell its ring"))
    }

    /// What the first node predicts for this ring, and which one it would choose.
    fn plan(&self) -> Result<Value, DemoError> {
        let child = self.first()?;
        Client::new(child.api)
            .get("/v1/plan")
            .map_err(|error| child.fault(error))
    }

    fn answer(
        &mut self,
        demo: &Demo,
        ring: &Ring,
        out: &mut impl Write,
        mut unplug: Option<&mut Unplug>,
    ) -> Result<Told, DemoError> {
        let before = self.hops()?;
        let begin = Instant::now();
        let mut reply = self.ask(demo, demo.max_tokens)?;
        let mut told = Told::default();
        let mut text = Wrapped::new(out);
        let mut first = None;
        while let Some(line) = self.line(&mut reply)? {
            let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else {
                continue;
            };
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            if let Some(message) = event["error"]["message"].as_str() {
                text.finish()?;
                return Err(self.first()?.fault(message));
            }
            if let Some(piece) = event["choices"][0]["delta"]["content"].as_str()
                && !piece.is_empty()
            {
                first.get_or_insert_with(|| begin.elapsed());
                told.text.push_str(piece);
                text.push(&printable(piece))?;
                if let Some(unplug) = unplug.as_deref_mut()
                    && unplug.is_time()
                {
                    text.remark(&unplug.line())?;
                    self.children.kill(&unplug.node)?;
                    unplug.killed();
                }
            }
            if let Some(finish) = event["choices"][0]["finish_reason"].as_str() {
                told.finish = finish.to_owned();
            }
            if let Some(tokens) = event["usage"]["completion_tokens"].as_u64() {
                told.tokens = tokens;
            }
        }
        text.finish()?;
        if told.finish.is_empty() {
            return Err(self.first()?.fault("the answer broke off"));
        }
        told.first = first.unwrap_or_default();
        told.rest = begin.elapsed().saturating_sub(told.first);
        told.hops = self.hops()?;
        told.hops.sort_by_key(|hop| ring.place(&hop.from));
        let sum = |hops: &[Hop]| hops.iter().map(|hop| hop.bytes).sum::<u64>();
        told.wire_bytes = sum(&told.hops).saturating_sub(sum(&before));
        Ok(told)
    }

    fn ask(&mut self, demo: &Demo, max_tokens: Option<u32>) -> Result<Reply, DemoError> {
        let body = json!({
            "messages": [{"role": "user", "content": demo.prompt}],
            "max_tokens": max_tokens,
            "seed": 1,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        let api = self.first()?.api;
        let result = Client::new(api).post("/v1/chat/completions", &body, &mut || self.check());
        result.map_err(|error| match error {
            client::Error::Checked(error) => error,
            client::Error::Problem(problem) => self
                .children
                .first()
                .map_or(DemoError::Interrupted, |child| child.fault(problem)),
        })
    }

    fn line(&mut self, reply: &mut Reply) -> Result<Option<String>, DemoError> {
        let line = reply.line(&mut || self.check());
        line.map_err(|error| match error {
            client::Error::Checked(error) => error,
            client::Error::Problem(problem) => self
                .children
                .first()
                .map_or(DemoError::Interrupted, |child| child.fault(problem)),
        })
    }

    fn hops(&self) -> Result<Vec<Hop>, DemoError> {
        let mut hops = Vec::new();
        for child in self.children.all().iter().filter(|child| child.lives) {
            let status = Client::new(child.api)
                .get("/v1/status")
                .map_err(|e| child.fault(e))?;
            hops.extend(ring::hops(&child.name, &status));
        }
        Ok(hops)
    }

    fn first(&self) -> Result<&Child, DemoError> {
        self.children.first().ok_or(DemoError::Interrupted)
    }

    /// Whether all is well.
    fn check(&mut self) -> Result<(), DemoError> {
        if self.stop.asked() {
            return Err(DemoError::Interrupted);
        }
        self.children.check()
    }
}

/// Pulling the plug of one node, and what came of it.
#[derive(Debug)]
struct Unplug {
    node: String,
    layers: (u64, u64),
    /// After so many pieces of text.
    after: u64,
    pieces: u64,
    /// When the last piece came, once the node is gone.
    last: Option<Instant>,
    /// The longest that the text stood still since.
    pause: Duration,
    style: Style,
}

impl Unplug {
    /// Of a stage that is not the one that was asked, if there is one; in the middle of an answer
    /// of `tokens` tokens.
    fn new(ring: &Ring, asked: &Child, tokens: u64, style: Style) -> Self {
        let mut others = ring.stages.iter().filter(|stage| stage.node != asked.name);
        // The second, so that there is somebody before it and behind it.
        let stage = others.clone().nth(1).or_else(|| others.next());
        Self {
            node: stage.map_or_else(String::new, |stage| stage.node.clone()),
            layers: stage.map_or((0, 0), |stage| (stage.start, stage.end)),
            after: tokens / 3,
            pieces: 0,
            last: None,
            pause: Duration::ZERO,
            style,
        }
    }

    /// A piece of text came: whether the node is to go now.
    fn is_time(&mut self) -> bool {
        self.pieces += 1;
        if let Some(last) = &mut self.last {
            self.pause = self.pause.max(last.elapsed());
            *last = Instant::now();
        }
        self.last.is_none() && self.pieces >= self.after
    }

    fn killed(&mut self) {
        self.last = Some(Instant::now());
    }

    fn line(&self) -> String {
        let (start, end) = self.layers;
        let node = printable(&self.node);
        let line = format!("── {node}, which has layers {start}-{end}, is killed ──");
        self.style.red(line).to_string()
    }
}

/// Where models are that a node of the demo may need.
fn absolute(path: &std::path::Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
