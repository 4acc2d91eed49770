//! The command line: the reference's flags, and ours.

mod choices;
mod help;
mod parse;

pub use choices::{Activations, DiscoveryModule, EngineKind, RuntimeKind};
pub use help::{help, version};
pub(crate) use parse::nearest;
pub use parse::{Parsed, UsageError, parse};

use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;

/// Runs one language model across the machines you already have.
#[derive(FromArgs, ArgsInfo, Clone, Debug)]
pub struct Args {
    /// what to do, and with which model
    #[argh(positional)]
    pub words: Vec<String>,

    /// model to run (run, demo)
    #[argh(option, arg_name = "NAME")]
    pub model: Option<String>,
    /// the same as `run NAME`
    #[argh(option, arg_name = "NAME")]
    pub run_model: Option<String>,
    /// what to ask the model (run, demo)
    #[argh(option, arg_name = "TEXT")]
    pub prompt: Option<String>,
    /// most tokens of the answer (run, demo)
    #[argh(option, arg_name = "COUNT")]
    pub max_tokens: Option<u32>,
    /// kill one of the demo's nodes in the middle of the answer, and see it go on
    #[argh(switch)]
    pub unplug: bool,
    /// nodes of the demo's ring; default 3
    #[argh(option, arg_name = "COUNT", default = "3")]
    pub nodes: usize,

    /// this node's name; default one kept in the home folder
    #[argh(option, arg_name = "ID")]
    pub node_id: Option<String>,
    /// address for other nodes; default 0.0.0.0
    #[argh(option, arg_name = "HOST", default = "String::from(\"0.0.0.0\")")]
    pub node_host: String,
    /// port for other nodes; default 50051
    #[argh(option, arg_name = "PORT")]
    pub node_port: Option<u16>,
    /// memory for models that peers are told of; default what this machine has
    #[argh(option, arg_name = "MB")]
    pub node_memory: Option<u64>,
    /// how sockets are driven: smol or std; default smol
    #[argh(option, arg_name = "NAME", default = "RuntimeKind::Smol")]
    pub runtime: RuntimeKind,

    /// how peers are found: manual, direct or none; default none
    #[argh(option, arg_name = "NAME")]
    pub discovery_module: Option<DiscoveryModule>,
    /// file that names the peers (manual)
    #[argh(option, arg_name = "FILE")]
    pub discovery_config_path: Option<PathBuf>,
    /// the peer's host (direct)
    #[argh(option, arg_name = "HOST")]
    pub peer_host: Option<String>,
    /// the peer's port (direct)
    #[argh(option, arg_name = "PORT")]
    pub peer_port: Option<u16>,
    /// the peer's name (direct); default learned from it
    #[argh(option, arg_name = "ID")]
    pub peer_id: Option<String>,
    /// begin when this many peers answer; default 0
    #[argh(option, arg_name = "COUNT", default = "0")]
    pub wait_for_peers: usize,

    /// what computes: cpu, mlx or dummy; default cpu
    #[argh(option, arg_name = "NAME")]
    pub inference_engine: Option<EngineKind>,
    /// threads of the cpu engine; default the machine's cores
    #[argh(option, arg_name = "COUNT")]
    pub threads: Option<usize>,
    /// folder with models, or one model; may be given several times
    #[argh(option, arg_name = "DIR")]
    pub models_dir: Vec<PathBuf>,
    /// the same as --models-dir
    #[argh(option, arg_name = "DIR")]
    pub models_seed_dir: Option<PathBuf>,
    /// model for requests that name none; default llama-3.2-1b if it is here, else stories
    #[argh(option, arg_name = "NAME")]
    pub default_model: Option<String>,

    /// address of the API; default 0.0.0.0
    #[argh(option, arg_name = "HOST", default = "String::from(\"0.0.0.0\")")]
    pub chatgpt_api_host: String,
    /// port of the API; default 52415
    #[argh(option, arg_name = "PORT", default = "52415")]
    pub chatgpt_api_port: u16,
    /// time for one whole answer; default 900
    #[argh(option, arg_name = "SECONDS", default = "900")]
    pub chatgpt_api_response_timeout: u64,
    /// most tokens of any answer; default 10000
    #[argh(option, arg_name = "COUNT", default = "10_000")]
    pub max_generate_tokens: u32,
    /// temperature of requests that give none; default 0
    #[argh(option, arg_name = "NUMBER", default = "0.0")]
    pub default_temp: f32,
    /// system message of chats that have none
    #[argh(option, arg_name = "TEXT")]
    pub system_prompt: Option<String>,

    /// how hidden states travel: float32, bfloat16, float16, preferred first; default float32
    #[argh(option, arg_name = "TYPES", default = "Activations::default()")]
    pub activation_dtype: Activations,
    /// time for what is under way when told to stop; default 30
    #[argh(option, arg_name = "SECONDS", default = "30")]
    pub drain: u64,
    /// new file for all that this node is told, to replay it; without prompts and answers
    #[argh(option, arg_name = "FILE")]
    pub record: Option<PathBuf>,
    /// record prompts and answers too
    #[argh(switch)]
    pub record_prompts: bool,
    /// most of a recording; default 64
    #[argh(option, arg_name = "MIB")]
    pub record_limit: Option<u64>,
    /// stop when standard input ends, for programs that start nodes
    #[argh(switch)]
    pub stop_with_stdin: bool,

    /// no effect
    #[argh(switch)]
    pub disable_tui: bool,
    /// no effect
    #[argh(switch)]
    pub no_disable_tui: bool,
    /// no effect
    #[argh(switch)]
    pub download_quick_check: bool,
    /// no effect
    #[argh(option, arg_name = "COUNT")]
    pub max_parallel_downloads: Option<String>,
    /// no effect
    #[argh(option, arg_name = "PORT")]
    pub listen_port: Option<String>,
    /// no effect
    #[argh(option, arg_name = "PORT")]
    pub broadcast_port: Option<String>,
    /// no effect
    #[argh(option, arg_name = "SECONDS")]
    pub discovery_timeout: Option<String>,
    /// no effect
    #[argh(option, arg_name = "IDS")]
    pub node_id_filter: Option<String>,
    /// no effect
    #[argh(option, arg_name = "TYPES")]
    pub interface_type_filter: Option<String>,
    /// no effect
    #[argh(option, arg_name = "KEY")]
    pub tailscale_api_key: Option<String>,
    /// no effect
    #[argh(option, arg_name = "NAME")]
    pub tailnet_name: Option<String>,
    /// no effect
    #[argh(option, arg_name = "COUNT")]
    pub iters: Option<String>,
    /// no effect
    #[argh(option, arg_name = "COUNT")]
    pub save_every: Option<String>,
    /// no effect
    #[argh(option, arg_name = "DIR")]
    pub data: Option<String>,
    /// no effect
    #[argh(option, arg_name = "COUNT")]
    pub batch_size: Option<String>,
    /// no effect
    #[argh(option, arg_name = "FILE")]
    pub resume_checkpoint: Option<String>,
    /// no effect
    #[argh(option, arg_name = "DIR")]
    pub save_checkpoint_dir: Option<String>,
}

impl Args {
    /// Flags of the reference that were given and change nothing here.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let filters = [
            ("--max-parallel-downloads", &self.max_parallel_downloads),
            ("--listen-port", &self.listen_port),
            ("--broadcast-port", &self.broadcast_port),
            ("--discovery-timeout", &self.discovery_timeout),
            ("--node-id-filter", &self.node_id_filter),
            ("--interface-type-filter", &self.interface_type_filter),
            ("--tailscale-api-key", &self.tailscale_api_key),
            ("--tailnet-name", &self.tailnet_name),
            ("--iters", &self.iters),
            ("--save-every", &self.save_every),
            ("--data", &self.data),
            ("--batch-size", &self.batch_size),
            ("--resume-checkpoint", &self.resume_checkpoint),
            ("--save-checkpoint-dir", &self.save_checkpoint_dir),
        ];
        let given = filters
            .into_iter()
            .filter(|(_, value)| value.is_some())
            .map(|(name, _)| name);
        given
            .chain(
                self.download_quick_check
                    .then_some("--download-quick-check"),
            )
            .collect()
    }
}
