//! What a request is called, and how its reply is counted.

use crate::metrics::Metrics;
use crate::random;
use std::sync::Arc;

/// What a request is called in logs and in its reply, and whether its way is to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    id: Arc<str>,
    trace: bool,
}

impl Mark {
    /// The client's own id is taken if it is no longer than this.
    const LONGEST: usize = 128;

    /// By the headers `X-Request-Id` and `X-Exo-Trace`. An id that would not be one word in a log
    /// gets another in its place.
    #[must_use]
    pub fn new(id: Option<&str>, trace: Option<&str>) -> Self {
        let fits = |id: &&str| {
            let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
            (1..=Self::LONGEST).contains(&id.len()) && id.bytes().all(letter)
        };
        Self {
            id: match id.filter(fits) {
                Some(id) => id.into(),
                None => random::uuid().into(),
            },
            trace: trace == Some("1"),
        }
    }

    /// What it is called.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether its way is to be traced.
    #[must_use]
    pub fn trace(&self) -> bool {
        self.trace
    }
}

impl Default for Mark {
    fn default() -> Self {
        Self::new(None, None)
    }
}

/// Counts one reply; one that nobody takes as 499, as web servers do.
#[derive(Debug)]
pub(super) struct Account {
    metrics: Arc<Metrics>,
    route: &'static str,
    model: Option<String>,
    status: u16,
}

impl Account {
    pub(super) fn new(metrics: Arc<Metrics>, route: &'static str) -> Self {
        Self {
            metrics,
            route,
            model: None,
            status: 499,
        }
    }

    pub(super) fn of_model(&mut self, model: &str) {
        self.model = Some(model.to_owned());
    }

    pub(super) fn replied(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let model = self.model.as_deref().unwrap_or_default();
        self.metrics.replied(self.route, self.status, model);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_id_is_taken_if_it_is_one_word() {
        for id in ["a", "4bf92f35-77b3:4d.a_3", &"x".repeat(128)] {
            assert_eq!(Mark::new(Some(id), None).id(), id);
        }
        for id in ["", "a b", "a\u{1b}[31m", "{}", "\u{e9}", &"x".repeat(129)] {
            assert_ne!(Mark::new(Some(id), None).id(), id);
        }
        assert_ne!(Mark::default().id(), Mark::default().id());
    }

    #[test]
    fn traces_are_asked_for() {
        assert!(Mark::new(None, Some("1")).trace());
        assert!(!Mark::new(None, Some("0")).trace());
        assert!(!Mark::default().trace());
    }
}
