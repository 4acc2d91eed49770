//! Peer lists that people write.

use crate::common::{Tally, items, load, same, text};
use crate::fields::plain;
use exo_protocol::discovery::manual;
use serde_json::Value;

const TABLE: &[(&str, &str)] = &[
    (
        "own entry",
        "the own id is missing from the file; the reference then ignores all of it",
    ),
    (
        "lenient entry",
        "the port stands in the address, or capabilities are left out; the reference \
         refuses what its own documents write",
    ),
    (
        "address",
        "an address or port that nobody can connect to, or an IPv6 address without brackets; the \
         reference takes them as they are",
    ),
    (
        "entry",
        "a peer listed twice or without an id, or a truth value in place of a number",
    ),
    (
        "byte-order mark",
        "some editors write one; the reference calls the file broken",
    ),
];

#[test]
fn peer_lists_read_the_same() {
    let file = load("discovery.json");
    let mut tally = Tally::default();
    for case in items(&file["manual"]) {
        let name = text(case, "name");
        let Some(content) = case["config_text"].as_str() else {
            continue;
        };
        let ours = manual::parse(content.as_bytes());
        let (peers, theirs) = match (ours, case.get("parsed").and_then(Value::as_object)) {
            (Err(_), None) => {
                tally.agree();
                continue;
            }
            (Err(error), Some(parsed)) => {
                tally.judge(name, false, strict(content, parsed), error);
                continue;
            }
            (Ok(peers), None) => {
                tally.judge(name, false, lenient(content), format!("{peers:?}"));
                continue;
            }
            (Ok(peers), Some(parsed)) => (peers, parsed),
        };
        let equal = peers.len() == theirs.len()
            && peers.iter().all(|peer| {
                let Some(entry) = theirs.get(peer.id.as_str()) else {
                    return false;
                };
                let machine = peer
                    .capabilities
                    .as_ref()
                    .map_or(Value::Null, |m| plain(&m.to_json()));
                peer.address == format!("{}:{}", text(entry, "address"), entry["port"])
                    && same(&machine, &entry["device_capabilities"])
            });
        tally.judge(name, equal, strict(content, theirs), format!("{peers:?}"));
        let own = text(case, "node_id");
        let listed = items(&case["peers"]);
        if !theirs.contains_key(own) {
            tally.judge(name, listed.len() == peers.len(), Some("own entry"), "");
            continue;
        }
        // Theirs are the healthy ones; every one of them is one of ours.
        let known = listed.iter().all(|listed| {
            peers.iter().any(|peer| {
                peer.id.as_str() != own
                    && listed["id"] == peer.id.as_str()
                    && listed["address"] == peer.address
            })
        });
        tally.judge(name, known, None, format!("{listed:?}"));
    }
    tally.finish(
        "manual discovery",
        TABLE,
        &["address", "entry", "byte-order mark"],
    );
}

/// Why we refuse a file that the reference takes, or read an address differently.
fn strict(content: &str, parsed: &serde_json::Map<String, Value>) -> Option<&'static str> {
    let odd = |entry: &Value| {
        let address = text(entry, "address");
        address.is_empty()
            || address.contains(|c: char| c.is_whitespace() || ":/@\"".contains(c))
            || entry["port"]
                .as_i64()
                .is_none_or(|port| !(1..=65535).contains(&port))
    };
    if parsed.values().any(odd) {
        return Some("address");
    }
    let file: Value = serde_json::from_str(content).ok()?;
    let truth = |entry: &Value| {
        let machine = &entry["device_capabilities"];
        entry["port"].is_boolean()
            || machine["memory"].is_boolean()
            || ["fp32", "fp16", "int8"]
                .iter()
                .any(|key| machine["flops"][key].is_boolean())
    };
    let entries = file["peers"].as_object()?;
    let twice = |id: &String| {
        content
            .matches(&format!("{}:", Value::from(id.as_str())))
            .count()
            > 1
    };
    (entries.keys().any(|id| id.is_empty() || twice(id)) || entries.values().any(truth))
        .then_some("entry")
}

fn lenient(content: &str) -> Option<&'static str> {
    if content.starts_with('\u{feff}') {
        return Some("byte-order mark");
    }
    let file: Value = serde_json::from_str(content).ok()?;
    let short = |entry: &Value| {
        let machine = &entry["device_capabilities"];
        let complete = ["model", "chip", "memory", "flops"]
            .iter()
            .all(|key| !machine[key].is_null())
            && ["fp32", "fp16", "int8"]
                .iter()
                .all(|key| !machine["flops"][key].is_null());
        !complete || (entry.get("port").is_none() && text(entry, "address").contains(':'))
    };
    file["peers"]
        .as_object()?
        .values()
        .any(short)
        .then_some("lenient entry")
}
