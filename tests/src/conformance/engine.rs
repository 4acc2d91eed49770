//! Engines that compute nothing, and tell what they were asked.

use bytes::Bytes;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent, EngineOutput};
use exo_protocol::{DType, Tensor};

/// The model's name; any name will do.
pub const MODEL: &str = "null";

/// What goes on inside [`NullEngine::execute`] before it answers.
pub type Hook = Box<dyn FnMut(&EngineCommand) + Send>;

/// Answers at once: with the same hidden state, or with token 1, which never ends the answer.
pub struct NullEngine {
    hidden: Tensor,
    hook: Hook,
}

impl NullEngine {
    /// An engine whose hidden states have `width` elements of `float32`.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self::with_hook(width, Box::new(|_| {}))
    }

    /// As [`NullEngine::new`], and `hook` sees every command first.
    ///
    /// # Panics
    /// If the width is absurd.
    #[must_use]
    pub fn with_hook(width: usize, hook: Hook) -> Self {
        let data: Vec<u8> = (0..width * 4).map(|index| index as u8).collect();
        let hidden = Tensor::new(DType::F32, vec![1, 1, width], Bytes::from(data));
        Self {
            hidden: hidden.expect("the bytes match the width"),
            hook,
        }
    }
}

impl Engine for NullEngine {
    fn execute(
        &mut self,
        command: EngineCommand,
        _progress: &mut dyn FnMut(EngineEvent),
    ) -> EngineEvent {
        (self.hook)(&command);
        match command {
            EngineCommand::Load { call, .. } => EngineEvent::Loaded { call, bytes: 0 },
            EngineCommand::Unload { call, .. } => EngineEvent::Unloaded { call },
            EngineCommand::Free { call, .. } => EngineEvent::Freed { call },
            EngineCommand::Forward { call, shard, .. } => {
                let output = if shard.is_last() {
                    EngineOutput::Token {
                        token: 1,
                        end: false,
                    }
                } else {
                    EngineOutput::Hidden(self.hidden.clone())
                };
                EngineEvent::Forwarded {
                    call,
                    output,
                    positions: 1,
                }
            }
        }
    }
}

impl std::fmt::Debug for NullEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NullEngine")
            .field("hidden", &self.hidden)
            .finish_non_exhaustive()
    }
}
