//! The engines, and the ways in which each computes.

use exo_engine_cpu::{CpuEngine, CpuOptions, Precision};
use exo_engine_mlx::{ComputeDtype, MlxEngine, MlxOptions, WeightForm};
use exo_models::{Model, ModelError};
use exo_protocol::engine::Engine;

/// An engine that shows its logits.
pub trait Subject: Engine {
    /// Of the last position that was sampled.
    fn last_logits(&self) -> Vec<f32>;
}

impl Subject for CpuEngine {
    fn last_logits(&self) -> Vec<f32> {
        Self::last_logits(self).to_vec()
    }
}

impl Subject for MlxEngine {
    fn last_logits(&self) -> Vec<f32> {
        Self::last_logits(self)
    }
}

/// An engine and how it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// engine-cpu as it is by default.
    Cpu,
    /// engine-cpu in single precision throughout.
    CpuSingle,
    /// engine-mlx in single precision, with every weight as single precision.
    Mlx,
    /// engine-mlx in single precision, with packed weights as they are.
    MlxPacked,
    /// engine-mlx in bfloat16, as it is on a GPU for models of that type.
    MlxBf16,
}

/// Checkpoints that are also run in bfloat16. It says little about each family that single precision
/// does not, and nothing on a CPU about experts, which MLX multiplies there in single precision only.
pub const BF16: [&str; 4] = ["llama-bf16", "smollm3", "qwen3-untied", "gemma3_text"];

impl Kind {
    /// Every one that this build has.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::CpuSingle, Self::Cpu];
        if exo_engine_mlx::AVAILABLE {
            all.extend([Self::Mlx, Self::MlxPacked, Self::MlxBf16]);
        }
        all
    }

    /// Whether it is worth a run of this checkpoint: it computes otherwise than the others there.
    #[must_use]
    pub fn looks_at(self, checkpoint: &str) -> bool {
        match self {
            Self::Cpu | Self::CpuSingle | Self::Mlx => true,
            Self::MlxPacked => checkpoint.contains("-mlx-"),
            Self::MlxBf16 => BF16.contains(&checkpoint),
        }
    }

    /// For messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::CpuSingle => "cpu-single",
            Self::Mlx => "mlx",
            Self::MlxPacked => "mlx-packed",
            Self::MlxBf16 => "mlx-bf16",
        }
    }

    /// How far a checkpoint's logits and hidden states may be from golden ones, relative to the
    /// largest of those.
    #[must_use]
    pub fn tolerance(self, checkpoint: &str) -> f32 {
        match self {
            // Golden values are themselves within 2.3e-5 of the truth.
            Self::CpuSingle | Self::Mlx | Self::MlxPacked => 1e-4,
            // Activations have eight bits where weights are packed. The oracle is off by as much
            // when it computes in the half precision that the files are made for.
            // An expert more or less, where two are nearly as good, is more than rounding.
            Self::Cpu if checkpoint.contains("moe-mlx-") => 0.3,
            Self::Cpu if checkpoint.contains("-mlx-") => 0.15,
            // Keys and values are kept in half precision, DeepSeek's compressed.
            Self::Cpu => 2e-2,
            // Eight bits of mantissa in every layer; the oracle is off by half of it as well.
            Self::MlxBf16 => 0.1,
        }
    }

    /// Whether cutting a model or a prompt changes nothing at all.
    #[must_use]
    pub fn exact(self) -> bool {
        matches!(self, Self::Cpu | Self::CpuSingle)
    }

    /// A new engine, to which every name means what `open` gives.
    ///
    /// # Panics
    /// When the machine has no threads left, or the build no such engine.
    #[must_use]
    pub fn engine(
        self,
        open: impl Fn() -> Result<Model, ModelError> + 'static,
    ) -> Box<dyn Subject> {
        let open = Box::new(move |_: &str| open());
        let cpu = |precision, open| -> Box<dyn Subject> {
            let mut options = CpuOptions::default();
            options.threads = 1;
            options.precision = precision;
            Box::new(CpuEngine::new(options, open).expect("threads start"))
        };
        let mlx = |dtype, weights, open| -> Box<dyn Subject> {
            let mut options = MlxOptions::default();
            options.dtype = Some(dtype);
            options.weights = weights;
            Box::new(MlxEngine::new(options, open).expect("MLX is there"))
        };
        match self {
            Self::Mlx => mlx(ComputeDtype::F32, WeightForm::Dense, open),
            Self::MlxPacked => mlx(ComputeDtype::F32, WeightForm::Packed, open),
            Self::MlxBf16 => mlx(ComputeDtype::Bf16, WeightForm::Packed, open),
            Self::Cpu => cpu(Precision::Mixed, open),
            Self::CpuSingle => cpu(Precision::Single, open),
        }
    }
}
