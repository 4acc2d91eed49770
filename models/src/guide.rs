//! Answers of a given form: which tokens may come next so that the text can still become one.
//!
//! A [`Grammar`] says what the text has to be, in words that travel (`docs/PROTOCOL.md` §15). A
//! [`Vocabulary`] knows the bytes of a model's tokens and compiles grammars for them into [`Guide`]s, one
//! for each answer; [`Guides`] keeps those of an engine. The work is llguidance's: it walks the
//! vocabulary as a tree of bytes, so that any tokenizer will do, and every step has a limit.

mod grammar;

use std::{collections::BTreeMap, fmt, sync::Arc};

use llguidance::{
    Matcher, ParserFactory,
    api::{ParserLimits, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie},
};

pub use self::grammar::{Free, Grammar, Part};
use crate::{Model, ModelError, Tokenizer};

/// Tokens of more bytes are never chosen under a grammar: the tree of the vocabulary has no room for
/// deeper branches, and real ones have a hundred at most.
const LONGEST: usize = 512;

/// Bytes of the beginning that all texts of a grammar have in common, as far as it is tried.
const BEGINNING: usize = 256;

/// What compiling a grammar and one step of it may take: some tens of milliseconds, and a few dozen
/// megabytes.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 400_000,
    step_max_items: 100_000,
    max_lexer_states: 50_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: false,
    verbose_errors: false,
};

/// The tokens of a model as bytes, for which grammars are compiled.
pub struct Vocabulary {
    factory: ParserFactory,
    size: usize,
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vocabulary({} tokens)", self.size)
    }
}

impl Vocabulary {
    /// Of `tokenizer`, for a model that ends its answers with one of `ends`.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] when no token can end an answer.
    pub fn new(tokenizer: &Tokenizer, ends: &[u32]) -> Result<Self, ModelError> {
        let size = tokenizer.vocab();
        let words: Vec<Vec<u8>> = (0..u32::try_from(size).unwrap_or(u32::MAX))
            .map(|token| tokenizer.bytes(token).unwrap_or_default())
            .map(|bytes| {
                if bytes.len() > LONGEST {
                    Vec::new()
                } else {
                    bytes
                }
            })
            .collect();
        Self::of(&words, ends)
    }

    fn of(words: &[Vec<u8>], ends: &[u32]) -> Result<Self, ModelError> {
        let size = u32::try_from(words.len()).unwrap_or(u32::MAX);
        let ends: Vec<u32> = ends.iter().copied().filter(|&end| end < size).collect();
        let Some(&end) = ends.first() else {
            let why = "the model has no token that ends an answer, so no format can be held";
            return Err(ModelError::grammar(why));
        };
        let trie = TokTrie::from(&TokRxInfo::new(size, end), words).with_eos_tokens(&ends);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &[])
            .map_err(ModelError::grammar)?;
        *factory.limits_mut() = LIMITS;
        factory.quiet();
        Ok(Self {
            factory,
            size: words.len(),
        })
    }

    /// Compiles a grammar.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] in words: it is none, too large, or uses what cannot be held.
    pub fn guide(&self, grammar: &Grammar) -> Result<Guide, ModelError> {
        let grammar = TopLevelGrammar::from_lark(grammar.lark()?);
        let parser = self.factory.create_parser(grammar);
        let matcher = Matcher::new(parser);
        match matcher.get_error() {
            Some(error) => Err(ModelError::grammar(error)),
            None => Ok(Guide {
                matcher,
                size: self.size,
                followed: Vec::new(),
            }),
        }
    }
}

/// Whether a grammar can be held at all, whatever the model: the same as [`Vocabulary::guide`] says,
/// without its vocabulary, and that there is a way through what every answer begins with.
///
/// # Errors
/// [`ModelError::Grammar`].
pub fn check(grammar: &Grammar) -> Result<(), ModelError> {
    let mut words: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    words.push(b"\xff<end>".to_vec());
    let mut guide = Vocabulary::of(&words, &[256])?.guide(grammar)?;
    // Some that name nothing but each other are told from others only then, and some are too large.
    let mut answer = Vec::new();
    while answer.len() < BEGINNING {
        match guide.allowed(&answer)?.only() {
            Some(byte) if byte < 256 => answer.push(byte),
            _ => break,
        }
    }
    Ok(())
}

/// Where an answer is in its grammar.
pub struct Guide {
    matcher: Matcher,
    size: usize,
    followed: Vec<u32>,
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guide({} tokens)", self.followed.len())
    }
}

impl Guide {
    /// The tokens that may come after `answer`, whatever it was asked before.
    ///
    /// # Errors
    /// [`ModelError::Grammar`] when `answer` is no beginning of the grammar's texts, or a step takes
    /// more than its limit.
    pub fn allowed(&mut self, answer: &[u32]) -> Result<Allowed, ModelError> {
        let new = match answer.strip_prefix(self.followed.as_slice()) {
            Some(new) => new,
            None => {
                self.followed.clear();
                self.matcher.reset().map_err(ModelError::grammar)?;
                answer
            }
        };
        self.matcher
            .consume_tokens(new)
            .map_err(ModelError::grammar)?;
        self.followed.extend_from_slice(new);
        let tokens = self.matcher.compute_mask_or_eos();
        Ok(Allowed {
            tokens: tokens.map_err(ModelError::grammar)?,
            size: self.size,
        })
    }
}

/// The tokens that may come next.
pub struct Allowed {
    tokens: SimpleVob,
    size: usize,
}

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Allowed({} tokens)", self.tokens.num_set())
    }
}

impl Allowed {
    /// Whether a token is one of them.
    #[must_use]
    pub fn contains(&self, token: u32) -> bool {
        let known = usize::try_from(token).is_ok_and(|token| token < self.size);
        known && self.tokens.is_allowed(token)
    }

    /// The token, if it is the only one.
    fn only(&self) -> Option<u32> {
        let first = self.tokens.first_bit_set()?;
        let first = u32::try_from(first).ok()?;
        (self.tokens.num_set() == 1).then_some(first)
    }

    /// Makes the logits of all others negative infinity.
    pub fn apply(&self, logits: &mut [f32]) {
        for (token, logit) in (0..).zip(logits) {
            if !self.contains(token) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// The guides of the answers that an engine has under way, by the names of their requests.
#[derive(Debug, Default)]
pub struct Guides {
    all: BTreeMap<String, Guide>,
}

impl Guides {
    /// The tokens that may come after `answer` in a request whose grammar is `grammar`, as text.
    ///
    /// # Errors
    /// [`ModelError::Grammar`], or when the model's tokenizer is broken.
    pub fn allowed(
        &mut self,
        request: &str,
        model: &Model,
        grammar: &str,
        answer: &[u32],
    ) -> Result<Allowed, ModelError> {
        if !self.all.contains_key(request) {
            let guide = model.vocabulary()?.guide(&Grammar::read(grammar)?)?;
            self.all.insert(request.to_owned(), guide);
        }
        match self.all.get_mut(request) {
            Some(guide) => guide.allowed(answer),
            None => Err(ModelError::grammar("a guide was lost")),
        }
    }

    /// Forgets a request.
    pub fn forget(&mut self, request: &str) {
        self.all.remove(request);
    }
}

#[cfg(test)]
mod tests;
