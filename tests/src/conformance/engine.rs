//! Engines that compute nothing, and tell what they were asked.

use bytes::Bytes;
use exo_protocol::engine::{Engine, EngineCommand, EngineEvent, EngineInput, EngineOutput};
use exo_protocol::{DType, Tensor};

/// The model's name; any name will do.
pub const MODEL: &str = "null";

/// What goes on inside [`NullEngine::execute`] before it answers.
pub type Hook = Box<dyn FnMut(&EngineCommand) + Send>;

/// Answers at once: with the same hidden state for every position, or with token 1, which never ends
/// the answer, if it is to choose one.
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

    /// The hidden state of so many positions, all the same.
    fn rows(&self, positions: usize) -> Tensor {
        if positions == 1 {
            return self.hidden.clone();
        }
        let data = self.hidden.data().repeat(positions);
        let width = self.hidden.data().len() / 4;
        let rows = Tensor::new(DType::F32, vec![1, positions, width], Bytes::from(data));
        rows.expect("the bytes match the positions")
    }
}

/// How many positions an input has.
fn positions(input: &EngineInput) -> usize {
    match input {
        EngineInput::Text(_) => 1,
        EngineInput::Tokens(tokens) => tokens.len(),
        EngineInput::Hidden(tensor) => tensor.shape().get(1).copied().unwrap_or(1),
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
            EngineCommand::Load { call, .. } => EngineEvent::Loaded {
                call,
                bytes: 0,
                fingerprint: 0,
            },
            EngineCommand::Unload { call, .. } => EngineEvent::Unloaded { call },
            EngineCommand::Free { call, .. } => EngineEvent::Freed { call },
            EngineCommand::Train(command) => {
                EngineEvent::unsupported(command.call(), "it does not train")
            }
            EngineCommand::Forward {
                call,
                shard,
                input,
                sampling,
                ..
            } => {
                let positions = positions(&input);
                let output = match sampling {
                    _ if !shard.is_last() => EngineOutput::Hidden(self.rows(positions)),
                    None => EngineOutput::Nothing,
                    Some(_) => EngineOutput::Token {
                        token: 1,
                        end: false,
                    },
                };
                EngineEvent::Forwarded {
                    call,
                    output,
                    positions: positions as u32,
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
