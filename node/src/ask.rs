//! A question, checked and made ready for the ring.

mod length;

use crate::downloads::{BeginError, Item};
use crate::library::LibraryError;
use crate::random;
use crate::runtime::CommandError;
use crate::settings::Answering;
use crate::speaker::Speaker;
use exo_models::guide::{self, Grammar};
use exo_models::{Calling, ChatMessage, ModelError};
use exo_protocol::engine::{Sampling, Shaping};
use exo_protocol::{RequestId, Submit};
use serde_json::{Value, json};
use std::sync::Arc;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// The model; the default one if none.
    pub model: Option<String>,
    /// What comes before the answer.
    pub input: Input,
    /// How many answers; one if absent.
    pub choices: Option<usize>,
    /// Most tokens to generate for each.
    pub max_tokens: Option<u32>,
    /// See [`Sampling`].
    pub temperature: Option<f32>,
    /// See [`Sampling`].
    pub top_p: Option<f32>,
    /// See [`Sampling`].
    pub top_k: Option<u32>,
    /// See [`Shaping`].
    pub shaping: Shaping,
    /// See [`Sampling`]; random if absent. Each further choice has the next one.
    pub seed: Option<u64>,
    /// Texts at which an answer ends.
    pub stop: Vec<String>,
    /// What the answer is held to, if it is.
    pub format: Option<Format>,
    /// Whether to tell how likely tokens were, and of how many of the likeliest ones.
    pub scores: Option<u8>,
    /// Whether what comes before the answer is told with it; where scores are told, with its own.
    pub echo: bool,
    /// Whether an assistant's message at the end of a conversation is the beginning of the answer,
    /// which goes on from there.
    pub goes_on: bool,
    /// Whether the model shall not think before it answers, where its template knows how.
    pub thoughtless: bool,
}

/// What an answer is held to.
#[derive(Clone, Debug, PartialEq)]
pub struct Format {
    /// The field that asked for it, which a refusal names.
    pub field: &'static str,
    /// The schema of the JSON that the answer has to be.
    pub schema: Value,
}

impl Format {
    /// Any object.
    #[must_use]
    pub fn object(field: &'static str) -> Self {
        let schema = json!({"type": "object"});
        Self { field, schema }
    }
}

/// What comes before an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A conversation, through the model's chat template.
    Chat {
        /// What was said.
        messages: Vec<ChatMessage>,
        /// Functions that the model may call.
        tools: Option<Tools>,
    },
    /// A text, as it is.
    Text(String),
    /// A text, in tokens of the model.
    Tokens(Vec<u32>),
}

/// Functions that a model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct Tools {
    /// A list of tools in OpenAI's shape, as chat templates take it.
    pub list: Value,
    /// Their names.
    pub names: Vec<String>,
    /// Whether it has to call one: this one, or any.
    pub forced: Option<Option<String>>,
    /// Whether it may call several.
    pub parallel: bool,
    /// Those whose arguments are always held to their schema.
    pub strict: Vec<String>,
}

impl Tools {
    /// How an answer has to begin.
    pub(crate) fn beginning(&self, speaker: &Speaker) -> String {
        let forced = self.forced.as_ref();
        forced.map_or_else(String::new, |name| {
            speaker.tool_format().beginning(name.as_deref())
        })
    }

    /// What an answer has to be, if it is held to anything.
    fn grammar(&self, speaker: &Speaker) -> Option<Grammar> {
        let calling = match &self.forced {
            Some(Some(name)) => Calling::Named(name),
            Some(None) => Calling::Any,
            None if self.strict.is_empty() => return None,
            None => Calling::Free,
        };
        let list = self.list.as_array().map_or(&[][..], Vec::as_slice);
        let functions: Vec<(String, Value)> = self
            .names
            .iter()
            .zip(list)
            .map(|(name, tool)| (name.clone(), self.schema(name, tool)))
            .collect();
        Some(speaker.tool_format().grammar(&functions, calling))
    }

    /// The schema of a function's arguments. Of one that is not strict it need not be one that can
    /// be held: then they are any object.
    fn schema(&self, name: &str, tool: &Value) -> Value {
        let any = || json!({"type": "object"});
        let schema = tool.pointer("/function/parameters").cloned();
        let Some(schema) = schema.filter(Value::is_object) else {
            return any();
        };
        let strict = self.strict.iter().any(|strict| strict == name);
        let held = |schema: &Value| {
            let grammar = Grammar::json(schema.clone());
            grammar.write().is_ok() && guide::check(&grammar).is_ok()
        };
        match strict || held(&schema) {
            true => schema,
            false => any(),
        }
    }
}

impl Default for Input {
    fn default() -> Self {
        Self::Chat {
            messages: Vec::new(),
            tools: None,
        }
    }
}

impl From<Vec<ChatMessage>> for Input {
    fn from(messages: Vec<ChatMessage>) -> Self {
        Self::Chat {
            messages,
            tools: None,
        }
    }
}

/// Why a question was not put to the ring.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such model.
    #[error(transparent)]
    Model(LibraryError),
    /// The model is on its way.
    #[error("{} is being downloaded: {}", .0.model, .0.words())]
    Downloading(Box<Item>),
    /// The model is not here, and cannot be fetched.
    #[error(transparent)]
    Fetch(BeginError),
    /// The model does not take this conversation.
    #[error("{0}")]
    Conversation(ModelError),
    /// A format that answers cannot be held to.
    #[error("{field}: answers cannot be held to it: {why}")]
    Format {
        /// The field of the question.
        field: &'static str,
        /// Why not.
        why: String,
    },
    /// A token that the model does not have.
    #[error("{field}: token {token} is none of {model}, which has {vocab}, from 0")]
    Token {
        /// The field of the question.
        field: &'static str,
        /// The token.
        token: u32,
        /// How many there are.
        vocab: u32,
        /// The model.
        model: String,
    },
    /// The conversation leaves no room for an answer.
    #[error(
        "the prompt has {more}{tokens} tokens, but the context of {model} is {context} tokens, the \
         answer included"
    )]
    TooLong {
        /// `more than `, if nobody counted all of them.
        more: &'static str,
        /// Of the prompt.
        tokens: usize,
        /// What the model can look back on.
        context: u32,
        /// The model.
        model: String,
    },
    /// A prompt whose tokens are too many to be told how likely they were.
    #[error(
        "the prompt has {tokens} tokens, but how likely they were is told of {most} at most; leave \
         echo or logprobs away"
    )]
    Echo {
        /// Of the prompt.
        tokens: usize,
        /// As many are told.
        most: usize,
    },
    /// The node does not listen.
    #[error(transparent)]
    Command(CommandError),
}

impl Ask {
    /// What the node is told, one for each choice, and how many tokens the prompt has.
    ///
    /// Where scores of the prompt are wanted, all of it but its first token is an answer that is
    /// forced: the last stage then has the logits of each of its positions.
    pub(crate) fn submits(
        &self,
        speaker: &Speaker,
        answering: &Answering,
    ) -> Result<(Vec<Submit>, usize), AskError> {
        let (prompt, mut tokens) = self.prompt(speaker, answering)?;
        for (token, _) in &self.shaping.bias {
            known(*token, speaker, "logit_bias")?;
        }
        let (prompt_tokens, context) = (tokens.len(), speaker.context());
        let room = u32::try_from(prompt_tokens)
            .ok()
            .and_then(|used| context.checked_sub(used));
        let room = room
            .filter(|&room| room > 0)
            .ok_or_else(|| AskError::TooLong {
                more: "",
                tokens: prompt_tokens,
                context,
                model: speaker.id().to_string(),
            })?;
        let seed = self.seed.unwrap_or_else(random::number);
        let forced = match self.echo && self.scores.is_some() {
            true => tokens.split_off(tokens.len().min(1)),
            false => Vec::new(),
        };
        if forced.len() > Shaping::FORCED {
            return Err(AskError::Echo {
                tokens: prompt_tokens,
                most: Shaping::FORCED + 1,
            });
        }
        let forced_tokens = u32::try_from(forced.len()).unwrap_or(u32::MAX);
        let shaping = Shaping {
            grammar: self.grammar(speaker)?,
            forced,
            ..self.shaping.clone()
        };
        let first = Submit {
            request: RequestId::from(random::uuid()),
            model: speaker.id(),
            layers: speaker.layers(),
            bytes: speaker.bytes(),
            cost: speaker.cost(),
            fingerprint: speaker.fingerprint(),
            prompt: prompt.into(),
            tokens,
            end_tokens: speaker.end_tokens(),
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(answering.default_temp),
                top_p: self.top_p.unwrap_or(1.0),
                top_k: self.top_k.unwrap_or(0),
                seed,
                shaping: (!shaping.is_nothing()).then(|| Arc::new(shaping)),
                scores: self.scores,
            },
            max_tokens: room
                .min(self.max_tokens.unwrap_or(u32::MAX))
                .min(answering.max_tokens)
                .saturating_add(forced_tokens),
            timeout: answering.timeout,
            trace: false,
        };
        let mut submits = vec![first.clone()];
        for further in 1..self.choices.unwrap_or(1) {
            let mut submit = first.clone();
            submit.request = RequestId::from(random::uuid());
            submit.sampling.seed = seed.wrapping_add(further as u64);
            submits.push(submit);
        }
        Ok((submits, prompt_tokens))
    }

    /// What the answer has to be, if it is held to anything, in the form that travels.
    fn grammar(&self, speaker: &Speaker) -> Result<Option<Arc<str>>, AskError> {
        let tools = match &self.input {
            // The dummy engine says the same whatever it is asked.
            Input::Chat {
                tools: Some(tools), ..
            } if !matches!(speaker, Speaker::Dummy) => {
                tools.grammar(speaker).map(|grammar| ("tools", grammar))
            }
            _ => None,
        };
        let format = self.format.as_ref();
        let format = format.map(|format| (format.field, Grammar::json(format.schema.clone())));
        let (field, grammar) = match (tools, format) {
            (None, None) => return Ok(None),
            (Some(only), None) | (None, Some(only)) => only,
            // Whoever has to call says nothing else; whoever may, says it in the form.
            (Some((field, mut grammar)), Some((_, format))) => {
                let forced = matches!(&self.input,
                    Input::Chat { tools: Some(tools), .. } if tools.forced.is_some());
                if !forced {
                    grammar.any.extend(format.any);
                    grammar.free = guide::Free::None;
                }
                (field, grammar)
            }
        };
        let failed = |error: ModelError| AskError::Format {
            field,
            why: error.to_string(),
        };
        if matches!(speaker, Speaker::Dummy) {
            let why = "the dummy engine has no format".to_owned();
            return Err(AskError::Format { field, why });
        }
        // What is too long to travel is not compiled, which takes seconds then.
        let text = grammar.write().map_err(failed)?;
        guide::check(&grammar).map_err(failed)?;
        Ok(Some(text.into()))
    }

    /// The text and the tokens before the answer.
    ///
    /// # Errors
    /// When the model does not take them.
    pub(crate) fn prompt(
        &self,
        speaker: &Speaker,
        answering: &Answering,
    ) -> Result<(String, Vec<u32>), AskError> {
        let text = match &self.input {
            Input::Chat { messages, tools } => {
                let messages = with_system(messages, answering.system_prompt.as_deref());
                let forced = tools.as_ref().is_some_and(|tools| tools.forced.is_some());
                let (said, begun) = match self.goes_on && !forced {
                    true => begun(&messages),
                    false => (&messages[..], ""),
                };
                let list = tools.as_ref().map(|tools| &tools.list);
                let text = speaker.render(said, list, !self.thoughtless);
                let text = text.map_err(AskError::Conversation)?;
                let beginning = tools.as_ref().map(|tools| tools.beginning(speaker));
                text + begun + &beginning.unwrap_or_default()
            }
            Input::Text(text) => text.clone(),
            Input::Tokens(tokens) => {
                length::check(tokens.len(), "", speaker)?;
                for token in tokens {
                    known(*token, speaker, "prompt")?;
                }
                let text = speaker.decode(tokens).map_err(AskError::Conversation)?;
                return Ok((text, tokens.clone()));
            }
        };
        if let Some(more_than) = length::beyond(&text, speaker)? {
            length::check(more_than, "more than ", speaker)?;
        }
        let tokens = speaker.encode(&text).map_err(AskError::Conversation)?;
        Ok((text, tokens))
    }
}

/// Refuses what is no token of the model; `field` is where it came from.
fn known(token: u32, speaker: &Speaker, field: &'static str) -> Result<(), AskError> {
    let vocab = speaker.vocab();
    if token < vocab {
        return Ok(());
    }
    Err(AskError::Token {
        field,
        token,
        vocab,
        model: speaker.id().to_string(),
    })
}

/// The conversation with the operator's system message, unless it has one.
fn with_system(messages: &[ChatMessage], system: Option<&str>) -> Vec<ChatMessage> {
    let has_one = messages.iter().any(|message| message.role == "system");
    let added = system.filter(|_| !has_one);
    let added = added.map(|text| ChatMessage::new("system", text));
    added.into_iter().chain(messages.iter().cloned()).collect()
}

/// What was said, and how the answer to it begins: with the assistant's words at the end, if there are any.
fn begun(messages: &[ChatMessage]) -> (&[ChatMessage], &str) {
    match messages.split_last() {
        Some((last, said))
            if last.role == "assistant" && last.tool_calls.is_empty() && !said.is_empty() =>
        {
            (said, &last.content)
        }
        _ => (messages, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_goes_on_from_the_assistants_words_at_the_end() {
        let say = |role: &str| ChatMessage::new(role, role);
        let called = ChatMessage {
            tool_calls: vec![json!({})],
            ..say("assistant")
        };
        for (messages, kept, beginning) in [
            (vec![say("user"), say("assistant")], 1, "assistant"),
            (vec![say("user")], 1, ""),
            (vec![say("user"), called], 2, ""),
            // There is nothing that this would answer.
            (vec![say("assistant")], 1, ""),
            (vec![], 0, ""),
        ] {
            let (said, begun) = begun(&messages);
            assert_eq!((said.len(), begun), (kept, beginning), "{messages:?}");
        }
    }

    #[test]
    fn the_operators_system_message_comes_first_and_only_once() {
        let say = |role: &str| ChatMessage::new(role, "x");
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

    #[test]
    fn a_format_that_cannot_be_held_is_told_by_the_name_it_came_with() {
        for field in ["response_format", "text.format", "output_config.format"] {
            let ask = Ask {
                format: Some(Format::object(field)),
                ..Ask::default()
            };
            let refused = ask.grammar(&Speaker::Dummy).unwrap_err();
            assert!(
                matches!(refused, AskError::Format { field: told, .. } if told == field),
                "{refused:?}"
            );
        }
    }
}
