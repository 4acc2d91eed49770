//! A question, checked and made ready for the ring.

use crate::library::LibraryError;
use crate::random;
use crate::runtime::CommandError;
use crate::settings::Answering;
use crate::speaker::Speaker;
use exo_models::{ChatMessage, ModelError};
use exo_protocol::engine::Sampling;
use exo_protocol::{RequestId, Submit};
use serde_json::Value;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The model; the default one if none.
    pub model: Option<String>,
    /// The conversation.
    pub messages: Vec<ChatMessage>,
    /// Tools for the chat template.
    pub tools: Option<Value>,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// See [`Sampling`].
    pub temperature: Option<f32>,
    /// See [`Sampling`].
    pub top_p: Option<f32>,
    /// See [`Sampling`].
    pub top_k: Option<u32>,
    /// See [`Sampling`]; random if absent.
    pub seed: Option<u64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
}

/// Why a question was not put to the ring.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such model.
    #[error(transparent)]
    Model(LibraryError),
    /// The model does not take this conversation.
    #[error("{0}")]
    Conversation(ModelError),
    /// The conversation leaves no room for an answer.
    #[error(
        "the prompt has {tokens} tokens, but the context of {model} is {context} tokens, the \
         answer included"
    )]
    TooLong {
        /// Of the prompt.
        tokens: usize,
        /// What the model can look back on.
        context: u32,
        /// The model.
        model: String,
    },
    /// The node does not listen.
    #[error(transparent)]
    Command(CommandError),
}

impl Ask {
    /// What the node is told, and how many tokens the prompt has.
    pub(crate) fn submit(
        &self,
        speaker: &Speaker,
        answering: &Answering,
    ) -> Result<(Submit, usize), AskError> {
        let messages = with_system(&self.messages, answering.system_prompt.as_deref());
        let prompt = speaker
            .render(&messages, self.tools.as_ref())
            .map_err(AskError::Conversation)?;
        let tokens = speaker.encode(&prompt).map_err(AskError::Conversation)?;
        let (prompt_tokens, context) = (tokens.len(), speaker.context());
        let room = u32::try_from(prompt_tokens)
            .ok()
            .and_then(|used| context.checked_sub(used));
        let room = room
            .filter(|&room| room > 0)
            .ok_or_else(|| AskError::TooLong {
                tokens: prompt_tokens,
                context,
                model: speaker.id().to_string(),
            })?;
        let request = RequestId::from(random::uuid());
        let submit = Submit {
            request,
            model: speaker.id(),
            layers: speaker.layers(),
            bytes: speaker.bytes(),
            cost: Default::default(),
            fingerprint: speaker.fingerprint(),
            prompt: prompt.into(),
            tokens,
            end_tokens: speaker.end_tokens(),
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(answering.default_temp),
                top_p: self.top_p.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(0),
                seed: self.seed.unwrap_or_else(random::number),
            },
            max_tokens: room
                .min(self.max_tokens.unwrap_or(u32::MAX))
                .min(answering.max_tokens),
            timeout: answering.timeout,
        };
        Ok((submit, prompt_tokens))
    }
}

/// The conversation with the operator's system message, unless it has one.
fn with_system(messages: &[ChatMessage], system: Option<&str>) -> Vec<ChatMessage> {
    let has_one = messages.iter().any(|message| message.role == "system");
    let added = system.filter(|_| !has_one);
    let added = added.map(|text| ChatMessage {
        role: "system".into(),
        content: text.into(),
    });
    added.into_iter().chain(messages.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_system_message_comes_first_and_only_once() {
        let say = |role: &str| ChatMessage {
            role: role.into(),
            content: "x".into(),
        };
        let roles = |messages: &[ChatMessage], system| -> Vec<String> {
            with_system(messages, system)
                .into_iter()
                .map(|message| message.role)
                .collect()
        };
        assert_eq!(roles(&[say("user")], Some("be kind")), ["system", "user"]);
        assert_eq!(
            roles(&[say("system"), say("user")], Some("be kind")),
            ["system", "user"]
        );
        assert_eq!(roles(&[say("user")], None), ["user"]);
    }
}
