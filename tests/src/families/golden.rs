//! What the oracle computed.

use super::folder;
use super::tensors;

/// What a checkpoint must give.
#[derive(Clone, Debug)]
pub struct Golden {
    /// A prompt longer than every window.
    pub short: Case,
    /// One that is longer than several windows and than a piece of a prefill.
    pub long: Case,
    /// The logits after the short prompt as the oracle computes them by itself, in the precision
    /// of the file; where that is not float32, and where the oracle can.
    pub native: Option<Vec<f32>>,
}

/// A prompt and what follows.
#[derive(Clone, Debug)]
pub struct Case {
    /// `short` or `long`.
    pub name: &'static str,
    /// Token ids.
    pub prompt: Vec<u32>,
    /// What was chosen after the prompt and after each token chosen before.
    pub tokens: Vec<u32>,
    /// The logits of all vocabulary entries that each of `tokens` was chosen from.
    pub logits: Vec<Vec<f32>>,
    /// What leaves each layer at the last position of the prompt.
    pub hidden: Vec<Vec<f32>>,
}

impl Golden {
    /// Of a checkpoint.
    ///
    /// # Panics
    /// When its file is not there or is damaged.
    #[must_use]
    pub fn of(checkpoint: &str) -> Self {
        let file = folder()
            .join("golden")
            .join(format!("{checkpoint}.safetensors"));
        let tensors = tensors::read(&file);
        let case = |name: &'static str| {
            let tensor = |what: &str| {
                let key = format!("{name}.{what}");
                let found = tensors.get(&key);
                found.unwrap_or_else(|| panic!("{} has no {key}", file.display()))
            };
            let rows = |what: &str| -> Vec<Vec<f32>> {
                let tensor = tensor(what);
                let width = *tensor.shape.last().expect("a matrix");
                let rows = tensor.floats();
                rows.chunks(width).map(<[f32]>::to_vec).collect()
            };
            Case {
                name,
                prompt: tensor("prompt").tokens(),
                tokens: tensor("tokens").tokens(),
                logits: rows("logits"),
                hidden: rows("hidden"),
            }
        };
        Self {
            short: case("short"),
            long: case("long"),
            native: tensors.get("short.native").map(tensors::Entry::floats),
        }
    }
}

impl Case {
    /// The prompt and every chosen token that goes in after it.
    #[must_use]
    pub fn text(&self) -> Vec<u32> {
        let (_, fed) = self.tokens.split_last().expect("tokens");
        [&self.prompt, fed].concat()
    }
}
