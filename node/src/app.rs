//! One node of this machine: its runtime, its engine, its models.

use crate::answer::Answer;
use crate::api::line::{Line, LineOptions};
use crate::api::mark::Mark;
use crate::ask::{Ask, AskError};
use crate::capabilities;
use crate::cli::EngineKind;
use crate::downloads::{BeginError, Downloads};
use crate::engines;
use crate::events::Events;
use crate::library::{Library, LibraryError};
use crate::metrics::Timed;
use crate::plan::PlacementError;
use crate::random;
use crate::recording::{RecordError, Recording};
use crate::runtime::{CommandError, Handle, Options, Runtime, StartError};
use crate::settings::{Answering, Settings};
use crate::sharing::Exchange;
use crate::signals::Stop;
use crate::speaker::Speaker;
use crate::tailscale::Search;
use crate::view::Feed;
use exo_engine_mlx::checkpoint::CheckpointError;
use exo_models::hub::{HubError, Part};
use exo_models::{Catalog, ModelError};
use exo_protocol::engine::{Engine, Shaping};
use exo_protocol::node::{Placement, Question};
use exo_protocol::{Command, Config, NodeId, Status, Submit};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What everybody who uses the node shares.
#[derive(Debug)]
pub struct App {
    node: NodeId,
    handle: Handle,
    events: Arc<Events>,
    library: Arc<Library>,
    downloads: Arc<Downloads>,
    /// Models are fetched when they are asked for.
    fetches: bool,
    answering: Answering,
    keep_alive: Duration,
    /// Nothing new is asked.
    leaving: AtomicBool,
    /// What those who look from afar are told.
    feed: Feed,
    /// What ends the program, where a client may do that.
    quit: OnceLock<Stop>,
    choices: Arc<Line>,
}

/// A started node.
#[derive(Debug)]
pub struct Started {
    /// For the API and the terminal.
    pub app: Arc<App>,
    /// To end it.
    pub runtime: Runtime,
    /// What is written about it, to the end.
    recording: Option<Recording>,
    /// Looks for peers in a tailnet.
    search: Option<Search>,
}

/// Why there is no node.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// There is no thread to look for peers in a tailnet.
    #[error("cannot look for peers in the tailnet: {0}")]
    Tailscale(io::Error),
    /// There is no thread to fetch files of models.
    #[error("cannot fetch models: {0}")]
    Files(io::Error),
    /// The runtime did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// What a job learned cannot be used.
    #[error("--adapter: {0}")]
    Adapter(#[from] CheckpointError),
    /// The default model is not here.
    #[error("--default-model: {0}")]
    DefaultModel(ModelError),
}

/// Nodes of one ring whose clients may all ask as much as this one's at the same time.
const BUSY_NODES: usize = 16;

impl App {
    /// Starts a node.
    ///
    /// # Errors
    /// When the port is taken, the engine does not start, the default model is not here, or the
    /// recording cannot be written.
    pub fn start(settings: &Settings) -> Result<Started, AppError> {
        Self::start_with(settings, None)
    }

    /// Starts a node with a peer that is there already: what leads to it, and words for it.
    ///
    /// # Errors
    /// As [`App::start`].
    pub fn start_with(
        settings: &Settings,
        accepted: Option<(Socket, String)>,
    ) -> Result<Started, AppError> {
        let mut library = open_library(settings).map_err(AppError::DefaultModel)?;
        if let Some(adapter) = &settings.adapter {
            library.adapt(adapter.identity()?);
        }
        library.keep(engines::kept(settings.engine));
        let library = Arc::new(library);
        let found = capabilities::detect(None);
        let memory = settings
            .memory
            .and_then(|memory| i64::try_from(memory).ok());
        let mut told = found.clone();
        told.memory = memory.unwrap_or(found.memory);
        told.engine = Some(engines::info(settings.engine));
        let node = NodeId::from(settings.identity.id());
        let machine = told.clone();
        let mut config = Config::new(node.clone(), told);
        config.discovery = settings.discovery.clone();
        config.timing.announce_timeout = settings.announce_timeout;
        // The prompt of an answer may be counted as one.
        let forced = u32::try_from(Shaping::FORCED).unwrap_or(u32::MAX);
        config.max_tokens = settings.answering.max_tokens.saturating_add(forced);
        config.activations = settings.activations.clone();
        config.trains = settings.engine.trains();
        let fetches = settings.fetches && settings.engine != EngineKind::Dummy;
        config.fetches = fetches && (settings.shares || !settings.hub.offline);
        config.shares = settings.shares && settings.engine != EngineKind::Dummy;
        config.keep_loaded = Some(settings.keep_alive);
        // Others may have as many clients each, and this node a stage of all of their answers: whoever
        // is refused looks for another ring, which does not help where all nodes are busy.
        let requests = settings.parallel_requests.saturating_mul(BUSY_NODES);
        config.limits.requests = config.limits.requests.max(requests);
        let calls = config.limits.requests.saturating_mul(4);
        config.limits.calls = config.limits.calls.max(calls);
        config.placement = settings.placement;
        config.pins.clone_from(&settings.pins);
        let events = Arc::new(Events::default());
        let exchange = Exchange::new(&events);
        let recording = settings.record.as_ref().map(Recording::start).transpose()?;
        let (record, recording) = recording.unzip();
        let options = Options {
            listen: settings.listen.clone(),
            discovery_file: settings.discovery_file.clone(),
            announcements: settings.announcements,
            commands: settings.commands.clone(),
            accepted,
            visitors: settings.visitors,
            record,
            ..Options::default()
        };
        // Telling peers of more memory than was found is a promise; of less, a wish for fewer
        // layers.
        let limit = memory.unwrap_or(0).max(found.memory);
        let engine = engines::build(settings, limit, Arc::clone(&library));
        let metrics = Arc::clone(events.metrics());
        metrics.engine_is(engines::words(&engines::info(settings.engine)));
        let engine = move || {
            let engine = engine()?;
            Ok(Box::new(Timed::new(engine, metrics)) as Box<dyn Engine>)
        };
        let news = Arc::clone(&events);
        let on_event = move |event| news.handle(event);
        let seed = random::number();
        let runtime = Runtime::start(settings.runtime, config, seed, options, engine, on_event);
        let (runtime, recording) = match (runtime, recording) {
            (Ok(runtime), recording) => (runtime, recording),
            (Err(error), recording) => {
                let _ = recording.map(Recording::discard);
                return Err(error.into());
            }
        };
        let search = settings
            .tailscale
            .as_ref()
            .map(|tailscale| Search::start(tailscale, node.clone(), machine, runtime.handle()));
        let downloads = exchange.start(settings, runtime.handle(), &library);
        let downloads = downloads.map_err(AppError::Files)?;
        let answering = settings.answering.clone();
        let app = Self {
            node,
            handle: runtime.handle(),
            events,
            library,
            downloads,
            fetches,
            answering,
            keep_alive: settings.keep_alive,
            leaving: AtomicBool::new(false),
            feed: Feed::default(),
            quit: OnceLock::new(),
            choices: Line::new(LineOptions {
                slots: settings.parallel_requests,
                // Nobody is here without a worker, of which there are so many.
                waiting: usize::MAX,
            }),
        };
        Ok(Started {
            app: Arc::new(app),
            runtime,
            recording,
            search: search.transpose().map_err(AppError::Tailscale)?,
        })
    }

    /// This node's name.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// What the node knows right now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.handle.status()
    }

    /// How the node would place a model right now. Nothing is begun.
    ///
    /// # Errors
    /// Why it could not be placed.
    pub fn placement(&self, question: &Question) -> Result<Placement, PlacementError> {
        self.handle.placement(question).map_err(PlacementError)
    }

    /// The models here.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// The models that come.
    #[must_use]
    pub fn downloads(&self) -> &Downloads {
        &self.downloads
    }

    /// Whether a model that is not here is fetched when it is asked for.
    #[must_use]
    pub fn fetches(&self) -> bool {
        let options = self.downloads.hub().options();
        self.fetches && (!options.offline || options.peers.is_some())
    }

    /// The node's news.
    #[must_use]
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Where answers for clients wait until they may be computed: as many as a request has choices.
    pub(crate) fn choices(&self) -> &Arc<Line> {
        &self.choices
    }

    /// What those who look from afar are told.
    pub(crate) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Lets clients of this machine end the program by `stop`.
    pub(crate) fn let_quit(&self, stop: Stop) {
        let _ = self.quit.set(stop);
    }

    /// Ends the program as an interrupt would, where that is allowed.
    pub(crate) fn quit(&self) {
        match self.quit.get() {
            Some(stop) => stop.ask(),
            None => tracing::warn!("a client asked for the end; interrupt this program instead"),
        }
    }

    /// What answers are like when nothing else is asked.
    #[must_use]
    pub fn answering(&self) -> &Answering {
        &self.answering
    }

    /// How long a model stays in memory that nobody uses.
    pub(crate) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    /// The text and the tokens that the ring would be given.
    ///
    /// # Errors
    /// When the model is not here, or does not take the conversation.
    pub fn encode(&self, ask: &Ask) -> Result<(String, Vec<u32>), AskError> {
        let speaker = self.speaker(ask.model.as_deref())?;
        ask.prompt(&speaker, &self.answering)
    }

    /// The model that a client means. One that is not here is fetched, if that is wanted: first
    /// what tells what it is, and each stage fetches the weights of its layers.
    fn speaker(&self, name: Option<&str>) -> Result<Speaker, AskError> {
        let missing = match self.library.speaker(name) {
            Err(error @ LibraryError::NotFound { .. }) if self.fetches() => error,
            found => return found.map_err(AskError::Model),
        };
        let begun = name.map(|name| self.downloads.begin(name, Part::Front));
        Err(match begun {
            Some(Ok(item)) => AskError::Downloading(Box::new(item)),
            None | Some(Err(BeginError::Hub(HubError::Name { .. }))) => AskError::Model(missing),
            Some(Err(error)) => AskError::Fetch(error),
        })
    }

    /// Asks the ring; logs call the question as `mark` does.
    ///
    /// # Errors
    /// When the model is not here, the conversation does not fit it, or the node is busy or leaves.
    pub fn ask(&self, ask: &Ask, mark: &Mark) -> Result<Answer, AskError> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err(AskError::Command(CommandError::Leaving));
        }
        let speaker = self.speaker(ask.model.as_deref())?;
        Answer::start(
            self.handle.clone(),
            Arc::clone(&self.events),
            &speaker,
            ask,
            &self.answering,
            mark,
        )
    }

    /// This node in Prometheus's text format.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.events.metrics().render(&self.status())
    }

    /// Tells the node something; never waits.
    ///
    /// # Errors
    /// When it is too busy to listen, leaves, or has ended already.
    pub fn command(&self, command: Command) -> Result<(), CommandError> {
        if self.leaving.load(Ordering::Relaxed) {
            return Err(CommandError::Leaving);
        }
        self.handle.command(command)
    }

    /// Gives the node a request as it is; [`Events::of`] tells what comes of it.
    ///
    /// # Errors
    /// When it is too busy to listen or has ended already.
    pub fn submit(&self, submit: Submit) -> Result<(), CommandError> {
        self.handle.command(Command::Submit(submit))
    }

    /// Waits until `count` peers answer, or `stop` says not to.
    pub fn wait_for_peers(&self, count: usize, stop: &dyn Fn() -> bool) {
        let mut told = Instant::now();
        let mut first = true;
        loop {
            let up = self.status().peers.iter().filter(|peer| peer.up).count();
            if up >= count || stop() {
                return;
            }
            if first || told.elapsed() > Duration::from_secs(10) {
                tracing::info!("waiting for peers: {up} of {count} are up");
                (told, first) = (Instant::now(), false);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Tells the node to leave its ring in order: nothing new begins, what is under way goes on.
    /// When nothing depends on it any more, [`Events::drained`] says so.
    ///
    /// # Errors
    /// When it is too busy to listen or has ended already.
    pub fn drain(&self) -> Result<(), CommandError> {
        self.leaving.store(true, Ordering::Relaxed);
        self.handle.command(Command::Drain)
    }

    /// Tells the node to end its requests.
    ///
    /// # Errors
    /// When it is too busy to listen or has ended already.
    pub fn stop(&self) -> Result<(), CommandError> {
        self.events.stopping();
        self.handle.command(Command::Stop)
    }
}

/// A node of this process was left before its threads had ended.
static LEFT_RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether a node of this process was left before its threads had ended. Then the process has to
/// end without the libraries' own clearing up: MLX's waits for an engine that computes, which waits
/// for what MLX has cleared up.
#[must_use]
pub fn left_running() -> bool {
    LEFT_RUNNING.load(Ordering::Relaxed)
}

impl Started {
    /// Where peers connect.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.runtime.local_addr()
    }

    /// Ends the node in order: running requests hear of it, peers are told, threads end. Takes no
    /// longer than `patience`, whatever the engine is at.
    pub fn shutdown(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        // Requests of clients that are still being told why they end.
        let grace = Instant::now() + patience / 2;
        if self.app.stop().is_ok() {
            while Instant::now() < grace {
                let status = self.app.status();
                if status.stopping && !status.requests.iter().any(|request| request.origin) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let (ended, end) = std::sync::mpsc::channel();
        drop(self.search);
        let (runtime, recording) = (self.runtime, self.recording);
        let closing = std::thread::Builder::new()
            .name("closing".to_owned())
            .spawn(move || {
                runtime.shutdown();
                let _ = ended.send(());
            });
        let rest = deadline.saturating_duration_since(Instant::now());
        if closing.is_err() || end.recv_timeout(rest).is_err() {
            LEFT_RUNNING.store(true, Ordering::Relaxed);
        }
        // It holds what happened up to here.
        drop(recording);
    }
}

fn open_library(settings: &Settings) -> Result<Library, ModelError> {
    if settings.engine == EngineKind::Dummy {
        return Ok(Library::dummy());
    }
    let catalog = || Catalog::in_cache(settings.models_dirs.clone(), settings.hub.cache.clone());
    let Some(name) = &settings.default_model else {
        return Ok(Library::on_disk(catalog(), None));
    };
    // The name may be a path; peers and clients know the model by its own name.
    let id = Library::on_disk(catalog(), None).name(name)?;
    let library = Library::on_disk(catalog(), Some(id));
    library.name(name)?;
    Ok(library)
}

impl From<LibraryError> for AskError {
    fn from(error: LibraryError) -> Self {
        Self::Model(error)
    }
}
