//! The command line: the reference's flags, and ours.

mod choices;
mod completions;
mod help;
mod man;
mod parse;

pub use choices::{
    Activations, DiscoveryModule, DiscoveryModules, EngineKind, Engines, KeepAlive, Layers,
    OptimizerKind, Placement, RuntimeKind,
};
pub use completions::{Shell, completions};
pub(crate) use help::commands;
pub use help::{help, version};
pub use man::man;
pub(crate) use parse::nearest;
pub use parse::{Parsed, UsageError, parse};

use argh::{ArgsInfo, FromArgs};
use std::path::PathBuf;

/// Runs one language model across the machines you already have.
#[derive(FromArgs, ArgsInfo, Clone, Debug)]
pub struct Args {
    /// what to do, and with which model or peers
    #[argh(positional)]
    pub words: Vec<String>,

    /// model to run (run, demo, bench)
    #[argh(option, arg_name = "NAME")]
    pub model: Option<String>,
    /// the same as `run NAME`
    #[argh(option, arg_name = "NAME")]
    pub run_model: Option<String>,
    /// what to ask the model (run, demo)
    #[argh(option, arg_name = "TEXT")]
    pub prompt: Option<String>,
    /// most tokens of the answer (run, demo); tokens that are written (bench), default 128
    #[argh(option, arg_name = "COUNT")]
    pub max_tokens: Option<u32>,
    /// tokens of the prompt that is measured (bench) or planned for (plan); default 512
    #[argh(option, arg_name = "COUNT")]
    pub prompt_tokens: Option<u32>,
    /// how often each test is repeated (bench); default 5
    #[argh(option, arg_name = "COUNT")]
    pub repeat: Option<u32>,
    /// kill one of the demo's nodes in the middle of the answer, and see it go on
    #[argh(switch)]
    pub unplug: bool,
    /// nodes of the demo's ring; default 3
    #[argh(option, arg_name = "COUNT", default = "3")]
    pub nodes: usize,
    /// what the demo's nodes compute with, in turn: cpu,mlx; default all the same
    #[argh(option, arg_name = "NAMES")]
    pub engines: Option<Engines>,

    /// one JSON document instead of lines (doctor, models, plan)
    #[argh(switch)]
    pub json: bool,
    /// fetch again what turns out to be damaged (models verify)
    #[argh(switch)]
    pub repair: bool,
    /// serve the one peer at the other end of standard input and output (connect)
    #[argh(switch)]
    pub stdio: bool,
    /// only pass standard input and output on to the node that listens there (connect)
    #[argh(option, arg_name = "HOST:PORT")]
    pub to: Option<String>,
    /// open the tunnel and keep it open, instead of printing it (tunnel)
    #[argh(switch)]
    pub run: bool,
    /// port of the far machine's node (tunnel); default 50051
    #[argh(option, arg_name = "PORT")]
    pub remote_node_port: Option<u16>,
    /// port of the far machine's API (tunnel); default 52415
    #[argh(option, arg_name = "PORT")]
    pub remote_api_port: Option<u16>,
    /// port here that leads to the far node (tunnel); default a free one
    #[argh(option, arg_name = "PORT")]
    pub local_node_port: Option<u16>,
    /// port here that leads to the far API (tunnel); default a free one
    #[argh(option, arg_name = "PORT")]
    pub local_api_port: Option<u16>,

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

    /// how peers are found: udp, tcp, manual, direct, tailscale, with commas, or none; default udp
    #[argh(option, arg_name = "NAMES")]
    pub discovery_module: Option<DiscoveryModules>,
    /// UDP port, and TCP port, where announcements of others come (udp, tcp); default 5678
    #[argh(option, arg_name = "PORT", default = "5678")]
    pub listen_port: u16,
    /// UDP port to which this node announces itself (udp); default 5678
    #[argh(option, arg_name = "PORT", default = "5678")]
    pub broadcast_port: u16,
    /// time after which a silent peer that cannot be reached is forgotten (udp, tcp); default 30
    #[argh(option, arg_name = "SECONDS", default = "30")]
    pub discovery_timeout: u64,
    /// the only nodes that count, with commas (udp, tcp, tailscale)
    #[argh(option, arg_name = "IDS")]
    pub node_id_filter: Option<String>,
    /// the only types of interfaces that count, such as Ethernet,WiFi (udp)
    #[argh(option, arg_name = "TYPES")]
    pub interface_type_filter: Option<String>,
    /// nodes to announce this one to, each HOST or HOST:PORT, with commas (tcp)
    #[argh(option, arg_name = "HOSTS")]
    pub tcp_seeds: Option<String>,
    /// announce this node to hosts 1, 2, 10, 100 and 187 of its subnets too (tcp)
    #[argh(switch)]
    pub tcp_probe: bool,
    /// file that names the peers (manual)
    #[argh(option, arg_name = "FILE")]
    pub discovery_config_path: Option<PathBuf>,
    /// a peer's host, or HOST:PORT; may be given several times (direct)
    #[argh(option, arg_name = "HOST")]
    pub peer_host: Vec<String>,
    /// port of peers whose host is given without one (direct)
    #[argh(option, arg_name = "PORT")]
    pub peer_port: Option<u16>,
    /// the name of each such peer, in turn (direct); default learned from them
    #[argh(option, arg_name = "ID")]
    pub peer_id: Vec<String>,
    /// command that leads to a peer, such as "ssh HOST exo-node connect --stdio"; may be repeated
    #[argh(option, arg_name = "COMMAND")]
    pub peer_command: Vec<String>,
    /// key of Tailscale's API, to tell and learn ids of nodes (tailscale)
    #[argh(option, arg_name = "KEY")]
    pub tailscale_api_key: Option<String>,
    /// the tailnet (tailscale); default the one of the key
    #[argh(option, arg_name = "NAME")]
    pub tailnet_name: Option<String>,
    /// begin when this many peers answer; default 0
    #[argh(option, arg_name = "COUNT", default = "0")]
    pub wait_for_peers: usize,

    /// what computes: cpu, mlx or dummy; default mlx on Apple Silicon, else cpu
    #[argh(option, arg_name = "NAME")]
    pub inference_engine: Option<EngineKind>,
    /// threads of the cpu engine; default the machine's cores; MLX chooses its own
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

    /// files that are downloaded at the same time; default 8
    #[argh(option, arg_name = "COUNT")]
    pub max_parallel_downloads: Option<usize>,
    /// time after which an unused model leaves the memory: 30s, 5m, 1h, 0, or forever; default 5m
    #[argh(option, arg_name = "TIME", default = "KeepAlive::default()")]
    pub keep_alive: KeepAlive,
    /// fetch no model only because it is asked for; models pull and the API's downloads still do
    #[argh(switch)]
    pub no_download: bool,
    /// give no files of models to peers, and take none from them
    #[argh(switch)]
    pub no_share: bool,
    /// download nothing, as with HF_HUB_OFFLINE=1
    #[argh(switch)]
    pub offline: bool,

    /// folder with train.jsonl, valid.jsonl and test.jsonl (train, eval)
    #[argh(option, arg_name = "DIR")]
    pub data: Option<PathBuf>,
    /// steps in all, those of a resumed checkpoint among them; default 1000
    #[argh(option, arg_name = "COUNT")]
    pub iters: Option<u32>,
    /// sequences of a step; default 4
    #[argh(option, arg_name = "COUNT")]
    pub batch_size: Option<u32>,
    /// most tokens of a sequence, the rest is cut off; default 2048
    #[argh(option, arg_name = "COUNT")]
    pub max_seq_length: Option<u32>,
    /// learn only the last message of a conversation
    #[argh(switch)]
    pub mask_prompt: bool,
    /// how far parameters go in a step; default 0.00001
    #[argh(option, arg_name = "NUMBER")]
    pub learning_rate: Option<f32>,
    /// how they go: adamw or sgd; default adamw
    #[argh(option, arg_name = "NAME")]
    pub optimizer: Option<OptimizerKind>,
    /// what adamw takes off parameters in each step; default 0.01
    #[argh(option, arg_name = "NUMBER")]
    pub weight_decay: Option<f32>,
    /// inner width of the adapters; default 8
    #[argh(option, arg_name = "COUNT")]
    pub lora_rank: Option<u32>,
    /// what adapters are multiplied by; default 20
    #[argh(option, arg_name = "NUMBER")]
    pub lora_scale: Option<f32>,
    /// the last layers of the model, this many, get adapters; 0 for all; default 16
    #[argh(option, arg_name = "COUNT")]
    pub lora_layers: Option<u32>,
    /// train all weights of this many last layers instead of adapters; 0 for all layers
    #[argh(option, arg_name = "COUNT")]
    pub full_layers: Option<u32>,
    /// decides the order of the data and the first numbers of adapters; default 0
    #[argh(option, arg_name = "NUMBER")]
    pub seed: Option<u64>,
    /// steps from one printed loss to the next; default 10
    #[argh(option, arg_name = "COUNT")]
    pub steps_per_report: Option<u32>,
    /// steps from one validation to the next; default 200
    #[argh(option, arg_name = "COUNT")]
    pub steps_per_eval: Option<u32>,
    /// batches of a validation, 0 for all; default 25
    #[argh(option, arg_name = "COUNT")]
    pub val_batches: Option<u32>,
    /// steps from one checkpoint to the next; default 100
    #[argh(option, arg_name = "COUNT")]
    pub save_every: Option<u32>,
    /// where this node's checkpoints are; default in the home folder
    #[argh(option, arg_name = "DIR")]
    pub save_checkpoint_dir: Option<PathBuf>,
    /// go on with a job: its name or folder, and perhaps :STEPS
    #[argh(option, arg_name = "JOB")]
    pub resume_checkpoint: Option<String>,
    /// name of the job, which is its folder's; default the model's and the time
    #[argh(option, arg_name = "NAME")]
    pub job_name: Option<String>,
    /// answer with what a job learned: its name or folder, and perhaps :STEPS (mlx engine)
    #[argh(option, arg_name = "JOB")]
    pub adapter: Option<String>,

    /// address of the API; default 0.0.0.0
    #[argh(option, arg_name = "HOST", default = "String::from(\"0.0.0.0\")")]
    pub chatgpt_api_host: String,
    /// port of the API; default 52415
    #[argh(option, arg_name = "PORT", default = "52415")]
    pub chatgpt_api_port: u16,
    /// key that clients have to send, trace and doctor do; may be given again, also as EXO_API_KEY
    #[argh(option, arg_name = "KEY")]
    pub api_key: Vec<String>,
    /// file with such keys, one on each line
    #[argh(option, arg_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// further name of this machine that clients may use; may be given several times
    #[argh(option, arg_name = "HOST")]
    pub api_host_name: Vec<String>,
    /// origin of a web site that may use the API from browsers; may be given several times
    #[argh(option, arg_name = "ORIGIN")]
    pub cors_origin: Vec<String>,
    /// answers that are computed at a time, others wait; default 32
    #[argh(option, arg_name = "COUNT", default = "32")]
    pub max_parallel_requests: usize,
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

    /// how models are cut over nodes: auto, where they answer soonest, or memory; default auto
    #[argh(option, arg_name = "NAME", default = "Placement::default()")]
    pub placement: Placement,
    /// the layers that each node is to have: node-1=0-15,node-2=16-29
    #[argh(option, arg_name = "LAYERS")]
    pub layers: Option<Layers>,
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

    /// plain lines instead of the live view of the ring, which serve shows on a terminal
    #[argh(switch)]
    pub disable_tui: bool,
    /// the live view after all
    #[argh(switch)]
    pub no_disable_tui: bool,
    /// no effect
    #[argh(switch)]
    pub download_quick_check: bool,
}

impl Args {
    /// Flags of the reference that were given and change nothing here.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let quick_check = self.download_quick_check;
        Vec::from_iter(quick_check.then_some("--download-quick-check"))
    }
}
