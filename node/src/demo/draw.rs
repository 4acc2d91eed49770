//! What the demo looks like.

use super::children::Child;
use super::ring::{Hop, Ring};
use super::{Told, Unplug};
use crate::terminal::{Style, printable};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

/// The widest bar of layers.
const BAR: u64 = 40;

/// Columns of an answer.
const WIDTH: usize = 76;

/// Who has which layers, in the order in which a token meets them.
pub(super) fn ring(ring: &Ring, children: &[Child], style: Style) -> String {
    let rows: Vec<Row> = ring
        .stages
        .iter()
        .map(|stage| Row::new(ring, stage, children))
        .collect();
    let names = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(out, "  {} {} layers", style.bold(&ring.model), ring.layers);
    let _ = writeln!(out);
    let last = rows.len().saturating_sub(1);
    for (at, row) in rows.iter().enumerate() {
        let (edge, below) = match at {
            _ if last == 0 => ("⟳ ", "  "),
            0 => ("┌▶", "│ "),
            at if at == last => ("└─", "  "),
            _ => ("│ ", "│ "),
        };
        let name = format!("{:<names$}", row.name);
        let role = match at {
            0 if last == 0 => "",
            0 => "takes the prompt",
            at if at == last => "chooses the token",
            _ => "",
        };
        let line = format!(
            "  {} {} {:<5} {:<4} {:<6} {} {:<13} {}",
            style.dim(edge),
            style.node(row.colour, style.bold(name)),
            row.engine,
            row.runtime,
            row.port,
            style.node(row.colour, &row.bar),
            row.layers,
            style.dim(role),
        );
        let _ = writeln!(out, "{}", line.trim_end());
        if at != last {
            let _ = writeln!(out, "  {}  {}", style.dim(below), style.dim("▼"));
        }
    }
    out
}

struct Row {
    name: String,
    colour: usize,
    engine: String,
    runtime: &'static str,
    port: String,
    bar: String,
    layers: String,
}

impl Row {
    fn new(ring: &Ring, stage: &super::ring::Stage, children: &[Child]) -> Self {
        let found = children
            .iter()
            .enumerate()
            .find(|(_, child)| child.name == stage.node);
        let layers = match stage.end.saturating_sub(stage.start) {
            0 => format!("layer {}", stage.start),
            _ => format!("layers {}-{}", stage.start, stage.end),
        };
        Self {
            name: printable(&stage.node),
            colour: found.map_or(0, |(index, _)| index),
            engine: stage.engine.as_deref().map(printable).unwrap_or_default(),
            runtime: found.map_or("", |(_, child)| child.runtime.name()),
            port: found.map_or(String::new(), |(_, child)| {
                format!(":{}", child.node.port())
            }),
            bar: bar(stage.start, stage.end, ring.layers),
            layers,
        }
    }
}

/// A model's layers from left to right, with those from `start` to `end` filled in.
fn bar(start: u64, end: u64, layers: u64) -> String {
    let width = layers.clamp(1, BAR);
    (0..width)
        .map(|cell| {
            // The layers that share this cell.
            let first = cell * layers / width;
            let last = ((cell + 1) * layers / width).saturating_sub(1).max(first);
            if first <= end && last >= start {
                '█'
            } else {
                '·'
            }
        })
        .collect()
}

/// How it went.
pub(super) fn numbers(told: &Told, style: Style) -> String {
    let mut out = String::new();
    let rate = match (told.tokens.saturating_sub(1), told.rest.as_secs_f64()) {
        (0, _) => 0.0,
        (tokens, seconds) => tokens as f64 / seconds.max(1e-9),
    };
    let _ = writeln!(
        out,
        "  {} {} tokens/s, {} tokens, the first after {}",
        style.dim("speed "),
        style.bold(format!("{rate:.1}")),
        told.tokens,
        time(told.first),
    );
    for (at, hop) in told.hops.iter().enumerate() {
        let title = if at == 0 { "hops  " } else { "      " };
        let Hop {
            from,
            to,
            p50_ms,
            p99_ms,
            ..
        } = hop;
        let way = format!("{} → {}", printable(from), printable(to));
        let _ = writeln!(
            out,
            "  {} {way:<17} p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms",
            style.dim(title)
        );
    }
    if !told.hops.is_empty() {
        let each = told.wire_bytes / told.tokens.max(1);
        let _ = writeln!(
            out,
            "  {} {each} bytes per token over {} hops, prompt included",
            style.dim("wire  "),
            told.hops.len(),
        );
    }
    out
}

/// What was predicted before, and the ring that would have been quicker; from `/v1/plan`.
pub(super) fn predicted(plan: &Value, style: Style) -> String {
    let mut out = String::new();
    let of = |what: &Value| {
        let rate = what["prediction"]["tokens_per_s"].as_f64();
        let text = |rate: f64| format!("{rate:.1} tokens/s");
        // The dummy engine's model costs nothing that anybody knows.
        rate.map(text)
    };
    if let Some(rate) = of(plan) {
        let _ = writeln!(out, "  {} {rate} for this ring", style.dim("plan  "));
    }
    let other = &plan["other"];
    let stages = other["ring"].as_array().map(Vec::as_slice);
    let stage = |stage: &Value| {
        let node = printable(stage["node_id"].as_str().unwrap_or("?"));
        format!("{node} {}-{}", stage["start"], stage["end"])
    };
    let ring: Vec<String> = stages.unwrap_or_default().iter().map(stage).collect();
    if let Some(rate) = of(other) {
        let ring = ring.join(" > ");
        let _ = writeln!(
            out,
            "         {rate} for {ring}, which --placement auto would choose here"
        );
    }
    out
}

/// How it went when a node was killed.
pub(super) fn unplugged(unplug: &Unplug, after: &Ring, same: bool, style: Style) -> String {
    let stages: Vec<String> = after
        .stages
        .iter()
        .map(|stage| format!("{} {}-{}", printable(&stage.node), stage.start, stage.end))
        .collect();
    let text = if same {
        "the same as without, word for word"
    } else {
        "another one than without"
    };
    let mut out = String::new();
    let mut line = |title: &str, text: String| {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "  {} {text}", style.dim(title));
    };
    line("pause ", style.bold(time(unplug.pause)).to_string());
    line("ring  ", stages.join(" → "));
    line("text  ", text.to_owned());
    out
}

fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.0} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// Writes text as it comes, word by word, in lines of a readable width.
#[derive(Debug)]
pub struct Wrapped<W> {
    out: W,
    column: usize,
    word: String,
    spaces: usize,
}

impl<W: Write> Wrapped<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self {
            out,
            column: 0,
            word: String::new(),
            spaces: 0,
        }
    }

    /// Takes some more text.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn push(&mut self, text: &str) -> io::Result<()> {
        for letter in text.chars() {
            match letter {
                '\n' => {
                    self.flush_word()?;
                    writeln!(self.out)?;
                    (self.column, self.spaces) = (0, 0);
                }
                letter if letter.is_whitespace() => {
                    self.flush_word()?;
                    self.spaces += 1;
                }
                letter => self.word.push(letter),
            }
        }
        self.out.flush()
    }

    /// Writes a line of its own between the words.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remark(&mut self, line: &str) -> io::Result<()> {
        if self.column > 0 {
            writeln!(self.out)?;
        }
        writeln!(self.out, "\n  {line}\n")?;
        (self.column, self.spaces) = (0, 0);
        self.out.flush()
    }

    /// Writes what is left, and ends the line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.flush_word()?;
        if self.column > 0 {
            writeln!(self.out)?;
        }
        self.out.flush()
    }

    fn flush_word(&mut self) -> io::Result<()> {
        if self.word.is_empty() {
            return Ok(());
        }
        let length = self.word.chars().count();
        if self.column == 0 {
            self.column = 2 + length + self.spaces;
            write!(self.out, "  {:1$}{2}", "", self.spaces, self.word)?;
        } else if self.column + self.spaces + length > WIDTH {
            write!(self.out, "\n  {}", self.word)?;
            self.column = 2 + length;
        } else {
            write!(self.out, "{:1$}{2}", "", self.spaces, self.word)?;
            self.column += self.spaces + length;
        }
        self.spaces = 0;
        self.word.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::Stage;
    use super::*;

    #[test]
    fn a_ring_is_drawn() {
        let stage = |node: &str, start, end| Stage {
            node: node.into(),
            start,
            end,
            engine: Some("cpu".into()),
        };
        let stages = vec![
            stage("node2", 0, 2),
            stage("node10", 3, 5),
            stage("node1", 6, 7),
        ];
        let ring = Ring {
            model: "stories".into(),
            layers: 8,
            stages,
        };
        let wanted = "  stories 8 layers\n\n\
            \x20 ┌▶ node2  cpu               ███····· layers 0-2    takes the prompt\n\
            \x20 │   ▼\n\
            \x20 │  node10 cpu               ···███·· layers 3-5\n\
            \x20 │   ▼\n\
            \x20 └─ node1  cpu               ······██ layers 6-7    chooses the token\n";
        assert_eq!(super::ring(&ring, &[], Style::plain()), wanted);
    }

    #[test]
    fn bars_hold_many_layers() {
        assert_eq!(bar(0, 0, 1), "█");
        assert_eq!(
            bar(0, 39, 80).chars().filter(|&cell| cell == '█').count(),
            20
        );
        assert_eq!(bar(79, 79, 80).chars().last(), Some('█'));
        assert_eq!(bar(0, 0, 0), "█");
    }

    #[test]
    fn text_is_wrapped_at_words() {
        let wrap = |pieces: &[&str]| {
            let mut out = Vec::new();
            let mut wrapped = Wrapped::new(&mut out);
            pieces
                .iter()
                .try_for_each(|piece| wrapped.push(piece))
                .unwrap();
            wrapped.finish().unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            wrap(&["On", "ce upon", " a\n\n", "time"]),
            "  Once upon a\n\n  time\n"
        );
        let long = wrap(&["word ".repeat(40).as_str()]);
        assert!(long.lines().count() > 2 && long.lines().all(|line| line.len() <= WIDTH));
        assert!(
            long.lines()
                .all(|line| line.starts_with("  word") && !line.ends_with(' '))
        );
        assert_eq!(wrap(&[]), "");
    }
}
