//! The view as one text, for everybody who looks at it from afar.

use super::{Facts, Mark, Model, Place, Row, Task, View};
use crate::view::model::one_line;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// As many may look at a time: each costs a connection and a thread.
const LISTENERS: usize = 16;

/// What all who look from afar are told.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    shown: Mutex<Shown>,
    listeners: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shown {
    model: Model,
    view: View,
    look: Look,
}

/// What there is to see.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Grows when the text changes; the first is 1.
    pub(crate) version: u64,
    /// The view, as a JSON object in one line.
    pub(crate) text: Arc<str>,
}

impl Default for Look {
    fn default() -> Self {
        Self {
            version: 0,
            text: "{}".into(),
        }
    }
}

/// One who looks; gone when dropped.
#[derive(Debug)]
pub(crate) struct Listener<'a>(&'a AtomicUsize);

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Feed {
    /// As many may look at a time.
    pub(crate) const MOST: usize = LISTENERS;

    /// One more who looks, if there is a place.
    pub(crate) fn enter(&self) -> Option<Listener<'_>> {
        let listener = Listener(&self.listeners);
        let before = self.listeners.fetch_add(1, Ordering::AcqRel);
        (before < LISTENERS).then_some(listener)
    }

    /// Looks at what is.
    pub(crate) fn look(&self, now: Instant, facts: &Facts) -> Look {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let view = shown.model.look(now, facts);
        if shown.look.version == 0 || view != shown.view {
            let text = view_json(&one_line(&facts.node), &view).to_string();
            shown.look = Look {
                version: shown.look.version.wrapping_add(1).max(1),
                text: text.into(),
            };
            shown.view = view;
        }
        shown.look.clone()
    }
}

fn view_json(node: &str, view: &View) -> Value {
    json!({
        "node_id": node,
        "version": env!("CARGO_PKG_VERSION"),
        "title": view.title,
        "nodes": view.nodes.iter().map(row_json).collect::<Value>(),
        "ring": view.ring.iter().map(|stage| json!({
            "node_id": stage.node,
            "model": stage.model,
            "start": stage.first,
            "end": stage.last,
            "layers": stage.layers,
        })).collect::<Value>(),
        "tasks": view.tasks.iter().map(task_json).collect::<Value>(),
        // A tenth is as fine as anybody reads.
        "tokens_per_s": view.rate.map(|rate| (rate * 10.0).round() / 10.0),
    })
}

fn row_json(row: &Row) -> Value {
    let state = match row.mark {
        Mark::Down => "down",
        Mark::Idle => "idle",
        Mark::Busy => "busy",
        Mark::Computing => "computing",
    };
    json!({
        "node_id": row.name,
        "here": row.here,
        "state": state,
        "in_ring": row.place != Place::Outside,
        "layers": row.layers,
        "memory": row.memory,
        "engine": row.engine,
        "round_trip": row.rtt,
        "bandwidth": row.goodput,
    })
}

fn task_json(task: &Task) -> Value {
    json!({"what": task.what, "how_far": task.how_far, "thousandths": task.done})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::facts::NodeFacts;

    fn facts(names: &[&str]) -> Facts {
        let node = |name: &&str| NodeFacts {
            name: (*name).to_owned(),
            up: true,
            ..NodeFacts::default()
        };
        Facts {
            node: names[0].to_owned(),
            nodes: names.iter().map(node).collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn only_what_changed_is_new() {
        let feed = Feed::default();
        let now = Instant::now();
        let first = feed.look(now, &facts(&["a"]));
        assert_eq!(first.version, 1);
        assert_eq!(feed.look(now, &facts(&["a"])).version, 1);
        let second = feed.look(now, &facts(&["a", "b<i>\n"]));
        assert_eq!(second.version, 2);
        let told: Value = serde_json::from_str(&second.text).unwrap();
        assert_eq!(told["title"], "a, 2 nodes");
        assert_eq!(told["nodes"][1]["node_id"], "b<i> ");
        assert_eq!(told["nodes"][1]["state"], "idle");
        assert_eq!(told["tokens_per_s"], Value::Null);
        // Events are told apart by empty lines.
        assert!(!second.text.contains('\n'));
    }

    #[test]
    fn no_more_look_than_there_are_places() {
        let feed = Feed::default();
        let all: Vec<Listener<'_>> = (0..LISTENERS).filter_map(|_| feed.enter()).collect();
        assert_eq!(all.len(), LISTENERS);
        assert!(feed.enter().is_none() && feed.enter().is_none());
        drop(all);
        assert!(feed.enter().is_some());
    }
}
