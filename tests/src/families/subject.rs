//! The engines, and the ways in which each computes.

use exo_engine_cpu::{CpuEngine, CpuOptions};
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

/// An engine and how it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// engine-cpu as it is by default.
    Cpu,
}

impl Kind {
    /// Every one that this build has.
    #[must_use]
    pub fn all() -> Vec<Self> {
        vec![Self::Cpu]
    }

    /// For messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
        }
    }

    /// How far logits may be from golden ones, relative to the largest of those.
    #[must_use]
    pub fn tolerance(self) -> f32 {
        match self {
            // Keys and values are kept in half precision.
            Self::Cpu => 2e-2,
        }
    }

    /// Whether cutting a model or a prompt changes nothing at all.
    #[must_use]
    pub fn exact(self) -> bool {
        match self {
            Self::Cpu => true,
        }
    }

    /// A new engine, to which every name means what `open` gives.
    ///
    /// # Panics
    /// When the machine has no threads left.
    #[must_use]
    pub fn engine(
        self,
        open: impl Fn() -> Result<Model, ModelError> + 'static,
    ) -> Box<dyn Subject> {
        let open = Box::new(move |_: &str| open());
        match self {
            Self::Cpu => {
                let mut options = CpuOptions::default();
                options.threads = 1;
                Box::new(CpuEngine::new(options, open).expect("threads start"))
            }
        }
    }
}
