//! What the command line comes to.

mod access;
mod commands;
mod discovery;

pub(crate) use access::own_key;
pub use commands::Commands;
pub use discovery::Tailscale;

use crate::api::access::Access;
use crate::api::guard::GuardOptions;
use crate::cli::{Args, EngineKind, RuntimeKind, UsageError};
use crate::identity::{self, Identity};
use crate::recording::Record;
use crate::train::{JobFileError, Reference};
use exo_engine_mlx::checkpoint::Adapter;
use exo_models::hub::HubOptions;
use exo_protocol::config::{Discovery, Strategy};
use exo_protocol::topology::Pin;
use exo_protocol::{DType, NodeId};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The port that nodes meet at.
pub(crate) const NODE_PORT: u16 = 50051;

/// Mebibytes of a recording: some days of a node that answers now and then.
const RECORD_LIMIT: u64 = 64;

/// Most answers at a time: each has threads and descriptors of its own.
const PARALLEL_REQUESTS: usize = 512;

/// What a node is to be.
#[derive(Debug)]
pub struct Settings {
    /// Its name.
    pub identity: Identity,
    /// Memory that peers are told of, in MiB.
    pub memory: Option<u64>,
    /// Where peers connect; nowhere if none.
    pub listen: Option<String>,
    /// How peers are found.
    pub discovery: Discovery,
    /// The file that names them.
    pub discovery_file: Option<PathBuf>,
    /// The commands that lead to some of them.
    pub commands: Commands,
    /// The UDP port where they announce themselves.
    pub announcements: Option<u16>,
    /// The TCP port where they do.
    pub visitors: Option<u16>,
    /// Peers are looked for in a tailnet too.
    pub tailscale: Option<Tailscale>,
    /// A peer that announces itself no longer is forgotten after this.
    pub announce_timeout: Duration,
    /// Begin when this many peers are up.
    pub wait_for_peers: usize,
    /// What drives the sockets.
    pub runtime: RuntimeKind,
    /// What computes.
    pub engine: EngineKind,
    /// With how many threads.
    pub threads: Option<usize>,
    /// Where checkpoints of training jobs are.
    pub checkpoints: PathBuf,
    /// What a job learned, to answer with.
    pub adapter: Option<Adapter>,
    /// Where models are looked for first.
    pub models_dirs: Vec<PathBuf>,
    /// Where models come from that are not here.
    pub hub: HubOptions,
    /// Whether models are fetched when they are asked for.
    pub fetches: bool,
    /// Whether files of models are given to peers, and taken from them.
    pub shares: bool,
    /// How long a model stays in memory that nobody uses.
    pub keep_alive: Duration,
    /// The model for requests that name none.
    pub default_model: Option<String>,
    /// What answers are like.
    pub answering: Answering,
    /// Where the API is.
    pub api: (String, u16),
    /// Who may use it.
    pub access: Access,
    /// Answers that are computed at a time.
    pub parallel_requests: usize,
    /// The types in which hidden states travel, preferred first; `float32` is among them.
    pub activations: Vec<DType>,
    /// How models are cut over nodes.
    pub placement: Strategy,
    /// The layers that nodes are to have.
    pub pins: Vec<Pin>,
    /// What is under way has so long to end when the node leaves.
    pub drain: Duration,
    /// What to record.
    pub record: Option<Record>,
    /// Whether the end of standard input is a reason to stop.
    pub stop_with_stdin: bool,
    /// Whether to show the ring live where there is a terminal.
    pub live_view: bool,
}

/// What answers are like when nothing else is asked.
#[derive(Clone, Debug)]
pub struct Answering {
    /// Most tokens of any answer.
    pub max_tokens: u32,
    /// The time that one answer may take.
    pub timeout: Duration,
    /// The temperature.
    pub default_temp: f32,
    /// The system message of conversations without one.
    pub system_prompt: Option<String>,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The flags do not go together.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The list of peers cannot be used.
    #[error("{}: {problem}", .file.display())]
    Peers {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The job that `--adapter` names.
    #[error("--adapter: {0}")]
    Adapter(JobFileError),
    /// Something that this version cannot do.
    #[error("{0}")]
    Unavailable(String),
}

impl Settings {
    /// Checks what was asked for. `serving` nodes have a port also when they look for nobody.
    ///
    /// # Errors
    /// When flags are missing, contradict each other or want what is not here, or when the file
    /// that names the peers is bad.
    pub fn new(args: &Args, serving: bool) -> Result<Self, SettingsError> {
        Self::with_engine(args, serving, EngineKind::best())
    }

    /// The same for a node that is to train.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn to_train(args: &Args) -> Result<Self, SettingsError> {
        Self::with_engine(args, false, EngineKind::best_to_train())
    }

    /// The same for a node without any port, whose one peer is there already.
    ///
    /// # Errors
    /// As [`Settings::new`], and when flags want a port.
    pub fn to_connect(args: &Args) -> Result<Self, SettingsError> {
        let mut settings = Self::with_engine(args, false, EngineKind::best())?;
        let given = [
            ("--node-port", args.node_port.is_some()),
            ("--stop-with-stdin", args.stop_with_stdin),
            ("--discovery-module udp", settings.announcements.is_some()),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
            return Err(usage(format!(
                "{flag} does not go with connect: that node has no port, and ends with its input"
            )));
        }
        settings.listen = None;
        Ok(settings)
    }

    /// What clients of the API may cost.
    #[must_use]
    pub fn guard(&self) -> GuardOptions {
        let mut options = GuardOptions::default();
        options.answers.slots = self.parallel_requests;
        // Each answer has a connection, and others come besides.
        let wanted = self.parallel_requests.saturating_mul(2);
        options.connections = options.connections.max(wanted);
        options.quick.waiting = options.connections;
        options
    }

    /// Whether this build has an engine.
    ///
    /// # Errors
    /// How to get it, if not.
    pub fn check_engine(engine: EngineKind) -> Result<(), SettingsError> {
        if engine == EngineKind::Mlx && !exo_engine_mlx::AVAILABLE {
            let why = exo_engine_mlx::MlxError::NotBuilt.to_string();
            return Err(SettingsError::Unavailable(why));
        }
        Ok(())
    }

    fn with_engine(args: &Args, serving: bool, usual: EngineKind) -> Result<Self, SettingsError> {
        let engine = args.inference_engine.unwrap_or(usual);
        Self::check_engine(engine)?;
        let checkpoints = args.save_checkpoint_dir.clone();
        let checkpoints = checkpoints.unwrap_or_else(|| identity::home().join("checkpoints"));
        let adapter = adapter(args, engine, &checkpoints)?;
        if args.threads == Some(0) {
            return Err(usage("--threads must be at least 1"));
        }
        if !(0.0..=2.0).contains(&args.default_temp) {
            return Err(usage("--default-temp must be from 0 to 2"));
        }
        if args.max_generate_tokens == 0 {
            return Err(usage("--max-generate-tokens must be at least 1"));
        }
        if !(1..=PARALLEL_REQUESTS).contains(&args.max_parallel_requests) {
            return Err(usage(format!(
                "--max-parallel-requests must be from 1 to {PARALLEL_REQUESTS}"
            )));
        }
        if args.chatgpt_api_response_timeout == 0 {
            return Err(usage("--chatgpt-api-response-timeout must be at least 1"));
        }
        let mut peers = discovery::peers(args, serving)?;
        let (commands, behind) = commands::commands(args)?;
        peers.discovery.direct.extend(behind);
        let (discovery, port) = (&peers.discovery, args.listen_port);
        let announcements = discovery.broadcast.is_some().then_some(port);
        let visitors = discovery.tcp.is_some().then_some(port);
        let alone = !peers.are_looked_for() && args.node_port.is_none() && !serving;
        let port = args.node_port.unwrap_or(NODE_PORT);
        let models_dirs: Vec<PathBuf> = args
            .models_dir
            .iter()
            .chain(&args.models_seed_dir)
            .cloned()
            .collect();
        for dir in &models_dirs {
            check_models_dir(dir)?;
        }
        Ok(Self {
            identity: identity(args)?,
            memory: args.node_memory,
            listen: (!alone).then(|| address(&args.node_host, port)),
            discovery: peers.discovery,
            discovery_file: peers.file,
            commands,
            announcements,
            visitors,
            tailscale: peers.tailscale,
            announce_timeout: Duration::from_secs(args.discovery_timeout),
            wait_for_peers: args.wait_for_peers,
            runtime: args.runtime,
            engine,
            threads: args.threads,
            checkpoints,
            adapter,
            models_dirs,
            hub: hub(args)?,
            fetches: !args.no_download,
            shares: !args.no_share,
            keep_alive: args.keep_alive.0,
            default_model: args.default_model.clone(),
            answering: Answering {
                max_tokens: args.max_generate_tokens,
                timeout: Duration::from_secs(args.chatgpt_api_response_timeout),
                default_temp: args.default_temp,
                system_prompt: args.system_prompt.clone(),
            },
            api: (args.chatgpt_api_host.clone(), args.chatgpt_api_port),
            access: access::access(args)?,
            parallel_requests: args.max_parallel_requests,
            activations: args.activation_dtype.0.clone(),
            placement: args.placement.0,
            pins: args.layers.clone().map_or_else(Vec::new, |layers| layers.0),
            drain: Duration::from_secs(args.drain),
            record: record(args)?,
            stop_with_stdin: args.stop_with_stdin,
            live_view: args.no_disable_tui || !args.disable_tui,
        })
    }
}

/// Where models come from, as the environment and the flags say.
pub(crate) fn hub(args: &Args) -> Result<HubOptions, UsageError> {
    let mut options = HubOptions::from_environment();
    options.offline |= args.offline;
    match args.max_parallel_downloads {
        Some(0) => {
            let why = "--max-parallel-downloads must be at least 1";
            return Err(UsageError(why.to_owned()));
        }
        Some(count) => options.parallel = count,
        None => {}
    }
    Ok(options)
}

fn usage(message: impl Into<String>) -> SettingsError {
    SettingsError::Usage(UsageError(message.into()))
}

fn identity(args: &Args) -> Result<Identity, SettingsError> {
    match &args.node_id {
        None => Ok(Identity::stored(&identity::home())),
        Some(id) if id.trim().is_empty() => Err(usage("--node-id must not be empty")),
        Some(id) if !NodeId::is_fit(id) => Err(usage(format!(
            "--node-id must have at most {} bytes that can be printed",
            NodeId::MOST
        ))),
        Some(id) => Ok(Identity::given(id.clone())),
    }
}

fn adapter(
    args: &Args,
    engine: EngineKind,
    checkpoints: &Path,
) -> Result<Option<Adapter>, SettingsError> {
    let Some(text) = &args.adapter else {
        return Ok(None);
    };
    if engine != EngineKind::Mlx {
        return Err(usage(
            "--adapter goes with --inference-engine mlx: no other engine answers with what a job \
             learned",
        ));
    }
    let found = Reference::parse(text, checkpoints).and_then(|job| job.adapter());
    found.map(Some).map_err(SettingsError::Adapter)
}

fn record(args: &Args) -> Result<Option<Record>, SettingsError> {
    let Some(file) = args.record.clone() else {
        let given = [
            ("--record-prompts", args.record_prompts),
            ("--record-limit", args.record_limit.is_some()),
        ];
        return match given.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(usage(format!("{flag} goes with --record FILE"))),
            None => Ok(None),
        };
    };
    let limit = args.record_limit.unwrap_or(RECORD_LIMIT);
    if limit == 0 {
        return Err(usage("--record-limit must be at least 1"));
    }
    Ok(Some(Record {
        file,
        prompts: args.record_prompts,
        limit: limit.saturating_mul(1 << 20),
    }))
}

fn check_models_dir(dir: &Path) -> Result<(), SettingsError> {
    fs::metadata(dir).map(drop).map_err(|error| {
        SettingsError::Unavailable(format!("--models-dir {}: {error}", dir.display()))
    })
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Parsed, parse};

    pub(super) fn settings(line: &str) -> Result<Settings, SettingsError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        of(&words)
    }

    pub(super) fn of(words: &[&str]) -> Result<Settings, SettingsError> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        match parse(&words) {
            Ok(Parsed::Args(args)) => Settings::new(&args, true),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn error(line: &str) -> String {
        settings(line).unwrap_err().to_string()
    }

    #[test]
    fn what_is_recorded_is_said() {
        assert_eq!(settings("--node-id a").unwrap().record, None);
        let mut wanted = Record {
            file: "x".into(),
            prompts: false,
            limit: 64 << 20,
        };
        let plain = settings("--node-id a --record x").unwrap();
        assert_eq!(plain.record.as_ref(), Some(&wanted));
        wanted.prompts = true;
        wanted.limit = 3 << 20;
        let line = "--node-id a --record=x --record-prompts --record-limit 3";
        assert_eq!(settings(line).unwrap().record, Some(wanted));
    }

    #[test]
    fn float32_is_always_taken() {
        let plain = settings("--node-id a").unwrap();
        assert_eq!(plain.activations, [DType::F32]);
        let half = settings("--node-id a --activation-dtype bfloat16,float16").unwrap();
        assert_eq!(half.activations, [DType::Bf16, DType::F16, DType::F32]);
        assert_eq!(half.drain, Duration::from_secs(30));
    }

    #[test]
    fn mlx_computes_where_it_was_built_in() {
        let asked = settings("--node-id a --inference-engine mlx");
        if exo_engine_mlx::AVAILABLE {
            assert_eq!(asked.unwrap().engine, EngineKind::Mlx);
        } else {
            let told = asked.unwrap_err().to_string();
            assert!(told.contains("engine-mlx/setup-linux"), "{told}");
            assert!(told.contains("--inference-engine cpu"), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_is_told_in_one_line() {
        for (line, wanted) in [
            (
                "--discovery-module udp --node-port 0",
                "--node-port, --listen-port and --broadcast-port cannot be 0",
            ),
            (
                "--discovery-timeout 0",
                "--discovery-timeout must be at least 1",
            ),
            ("--discovery-module manual", "needs --discovery-config-path"),
            (
                "--peer-host a",
                "--peer-host \"a\" has no port; write HOST:PORT, or give --peer-port",
            ),
            (
                "--discovery-config-path /nowhere/x.json",
                "/nowhere/x.json: No such file",
            ),
            (
                "--models-dir /nowhere/models",
                "--models-dir /nowhere/models: No such file",
            ),
            ("--threads 0", "--threads must be at least 1"),
            (
                "--inference-engine cpu --adapter x",
                "--adapter goes with --inference-engine mlx",
            ),
            (
                "--max-parallel-requests 0",
                "--max-parallel-requests must be from 1 to 512",
            ),
            ("--default-temp 3", "--default-temp must be from 0 to 2"),
            ("--default-temp NaN", "--default-temp must be from 0 to 2"),
            (
                "--record-prompts",
                "--record-prompts goes with --record FILE",
            ),
            ("--record-limit 3", "--record-limit goes with --record FILE"),
            (
                "--record x --record-limit 0",
                "--record-limit must be at least 1",
            ),
            (
                "--max-generate-tokens 0",
                "--max-generate-tokens must be at least 1",
            ),
        ] {
            let told = error(line);
            assert!(told.contains(wanted), "{line}: {told}");
        }
    }
}
