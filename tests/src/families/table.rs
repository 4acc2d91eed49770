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

use Support::{Awaited, Runs};

const fn row(name: &'static str, cpu: Support, mlx: Support) -> Row {
    Row { name, cpu, mlx }
}

/// All of them.
pub const FAMILIES: [Row; 33] = [
    row("llama", Runs, Awaited),
    row("llama-bf16", Runs, Awaited),
    row("llama-f16", Runs, Awaited),
    row("llama-biases", Awaited, Awaited),
    row("llama-tied-linear", Runs, Awaited),
    row("smollm3", Awaited, Awaited),
    row("mistral", Runs, Awaited),
    row("mistral-window", Awaited, Awaited),
    row("qwen2", Runs, Awaited),
    row("qwen2-tied", Runs, Awaited),
    row("qwen3", Awaited, Awaited),
    row("qwen3-untied", Awaited, Awaited),
    row("gemma2", Awaited, Awaited),
    row("gemma2-window", Awaited, Awaited),
    row("gemma3_text", Awaited, Awaited),
    row("gemma3", Awaited, Awaited),
    row("phi3", Runs, Awaited),
    row("phi3-longrope", Awaited, Awaited),
    row("qwen3_moe", Awaited, Awaited),
    row("qwen3_moe-dense-layer", Awaited, Awaited),
    row("deepseek_v2", Awaited, Awaited),
    row("deepseek_v2-groups", Awaited, Awaited),
    row("deepseek_v3", Awaited, Awaited),
    row("deepseek_v3-plain-rope", Awaited, Awaited),
    row("llama-mlx-2bit-g32", Awaited, Awaited),
    row("llama-mlx-3bit-g64", Awaited, Awaited),
    row("llama-mlx-4bit-g64", Awaited, Awaited),
    row("llama-mlx-6bit-g128", Awaited, Awaited),
    row("llama-mlx-8bit-g32", Awaited, Awaited),
    row("qwen3-mlx-4bit-g128", Awaited, Awaited),
    row("qwen3-mlx-mixed", Awaited, Awaited),
    row("qwen3_moe-mlx-4bit-g64", Awaited, Awaited),
    row("qwen3_moe-mlx-8bit-g32", Awaited, Awaited),
];

impl Row {
    /// What the engine of `kind` does with it.
    #[must_use]
    pub fn support(&self, kind: Kind) -> Support {
        match kind {
            Kind::Cpu => self.cpu,
        }
    }
}
