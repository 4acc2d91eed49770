//! Plans as they travel.

use super::message::{self, ME};
use super::source::Source;
use bytes::Bytes;
use exo_protocol::dummy;

/// What differs between the plans here.
pub(super) struct Plan<'a> {
    pub(super) request: String,
    pub(super) epoch: u8,
    pub(super) origin: &'a str,
    pub(super) fingerprint: u8,
    /// Node, first layer, last layer, positions kept.
    pub(super) ring: Vec<(&'a str, u32, u32, u8)>,
    pub(super) prompt: u8,
    pub(super) max_tokens: u8,
}

impl Plan<'_> {
    pub(super) fn write(&self) -> Bytes {
        let stage = |(node, first, last, keep): &(&str, u32, u32, u8)| {
            format!(r#"["{node}", {first}, {last}, {keep}]"#)
        };
        let ring: Vec<String> = self.ring.iter().map(stage).collect();
        let text = format!(
            r#"{{"request": "{}", "epoch": {}, "origin": "{}", "model": "{}", "layers": {},
            "fingerprint": {}, "ring": [{}], "prompt": {}, "sampling": {{"temperature": 0,
            "top_p": 1, "top_k": 0, "seed": 1}}, "max_tokens": {}}}"#,
            self.request,
            self.epoch,
            self.origin,
            dummy::MODEL,
            dummy::LAYERS,
            self.fingerprint,
            ring.join(", "),
            self.prompt,
            self.max_tokens,
        );
        Bytes::from(text)
    }
}

/// A plan, mostly one that may come from `from`.
pub(super) fn any(source: &mut Source<'_>, from: &str) -> Bytes {
    let request = message::request(source).as_str().to_owned();
    let origin = match source.below(8) {
        0..5 => from,
        5 => "b",
        6 => ME,
        _ => "c",
    };
    let rings: [&[&str]; 12] = [
        &[from, ME],
        &[from, ME],
        &[ME, from],
        &[ME, from],
        &[ME],
        &["c", from, ME],
        &[from, ME, "b"],
        &[ME, "b", from],
        &["c", ME, from],
        &[ME, "c"],
        &["c", "b"],
        &[from, from],
    ];
    let nodes = rings[usize::from(source.below(12))];
    let epoch = source.below(4);
    let keep = if epoch > 0 { source.below(4) } else { 0 };
    let (mut ring, mut next) = (Vec::new(), 0);
    for (index, node) in nodes.iter().enumerate() {
        let layers = match source.below(16) {
            15 => 1 + u32::from(source.below(8)),
            _ if index + 1 == nodes.len() => dummy::LAYERS.saturating_sub(next),
            some => 1 + u32::from(some % 4),
        };
        ring.push((*node, next, (next + layers).saturating_sub(1), keep));
        next += layers;
    }
    let plan = Plan {
        request,
        epoch,
        origin,
        fingerprint: u8::from(source.one_in(8)) * 2,
        ring,
        prompt: 1 + source.below(4),
        max_tokens: 1 + source.below(6),
    };
    plan.write()
}
