//! Which checkpoints there are, and what each engine does with them.

use super::Kind;

/// A checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name of its folder.
    pub name: &'static str,
    /// What engine-cpu does with it.
    pub cpu: Support,
    /// What engine-mlx does with it.
    pub mlx: Support,
}

/// What an engine does with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It computes with it.
    Runs,
    /// It refuses to load it, by design, and says these words.
    Refuses(&'static str),
    /// Its author is at it: not run, unless `EXO_FAMILY` names the checkpoint.
    Awaited,
}

use Support::{Refuses, Runs};

/// DeepSeek's attention is for the engine that has GPUs to run such models on.
const LATENT: Support = Refuses("latent attention");

const fn row(name: &'static str, cpu: Support, mlx: Support) -> Row {
    Row { name, cpu, mlx }
}

/// All of them.
pub const FAMILIES: [Row; 33] = [
    row("llama", Runs, Runs),
    row("llama-bf16", Runs, Runs),
    row("llama-f16", Runs, Runs),
    row("llama-biases", Runs, Runs),
    row("llama-tied-linear", Runs, Runs),
    row("smollm3", Runs, Runs),
    row("mistral", Runs, Runs),
    row("mistral-window", Runs, Runs),
    row("qwen2", Runs, Runs),
    row("qwen2-tied", Runs, Runs),
    row("qwen3", Runs, Runs),
    row("qwen3-untied", Runs, Runs),
    row("gemma2", Runs, Runs),
    row("gemma2-window", Runs, Runs),
    row("gemma3_text", Runs, Runs),
    row("gemma3", Runs, Runs),
    row("phi3", Runs, Runs),
    row("phi3-longrope", Runs, Runs),
    row("qwen3_moe", Runs, Runs),
    row("qwen3_moe-dense-layer", Runs, Runs),
    row("deepseek_v2", LATENT, Runs),
    row("deepseek_v2-groups", LATENT, Runs),
    row("deepseek_v3", LATENT, Runs),
    row("deepseek_v3-plain-rope", LATENT, Runs),
    row("llama-mlx-2bit-g32", Runs, Runs),
    row("llama-mlx-3bit-g64", Runs, Runs),
    row("llama-mlx-4bit-g64", Runs, Runs),
    row("llama-mlx-6bit-g128", Runs, Runs),
    row("llama-mlx-8bit-g32", Runs, Runs),
    row("qwen3-mlx-4bit-g128", Runs, Runs),
    row("qwen3-mlx-mixed", Runs, Runs),
    row("qwen3_moe-mlx-4bit-g64", Runs, Runs),
    row("qwen3_moe-mlx-8bit-g32", Runs, Runs),
];

impl Row {
    /// What the engine of `kind` does with it.
    #[must_use]
    pub fn support(&self, kind: Kind) -> Support {
        match kind {
            Kind::Cpu | Kind::CpuSingle => self.cpu,
            Kind::Mlx | Kind::MlxPacked | Kind::MlxBf16 => self.mlx,
        }
    }
}
