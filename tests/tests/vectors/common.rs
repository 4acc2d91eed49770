//! Reading the vectors, and the tally of what agreed and what a rule explained.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One of the files.
pub(crate) fn load(name: &str) -> Value {
    let folder = std::env::var_os("EXO_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors"),
        PathBuf::from,
    );
    let path = folder.join(name);
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The items of a list.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

/// The text at `key`.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text at {key} in {value}"))
}

/// Bytes written in hexadecimal.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits");
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hexadecimal") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Whether two values say the same: numbers by value, objects without order.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len()
                && x.iter()
                    .all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        _ => a == b,
    }
}

/// The same value with lists at `path` sorted: those that come from Python's sets.
pub(crate) fn sorted(mut value: Value) -> Value {
    let sort = |list: &mut Value| {
        if let Some(list) = list.as_array_mut() {
            list.sort_by_key(Value::to_string);
        }
    };
    if let Some(visited) = value.get_mut("visited") {
        sort(visited);
    }
    if let Some(graph) = value.get_mut("peer_graph").and_then(Value::as_object_mut) {
        graph.values_mut().for_each(sort);
        graph.retain(|_, edges| edges.as_array().is_none_or(|edges| !edges.is_empty()));
    }
    value
}

/// Counts what agreed, what a rule explained, and what nothing explains.
#[derive(Default)]
pub(crate) struct Tally {
    agreed: usize,
    explained: BTreeMap<&'static str, Vec<String>>,
    unexplained: Vec<String>,
}

impl Tally {
    pub(crate) fn agree(&mut self) {
        self.agreed += 1;
    }

    pub(crate) fn explain(&mut self, rule: &'static str, case: &str) {
        self.explained.entry(rule).or_default().push(case.into());
    }

    pub(crate) fn fail(&mut self, case: &str, why: impl fmt::Display) {
        self.unexplained.push(format!("{case}: {why}"));
    }

    /// Agreement, the first rule that applies, or a failure.
    pub(crate) fn judge(
        &mut self,
        case: &str,
        agrees: bool,
        rule: Option<&'static str>,
        why: impl fmt::Display,
    ) {
        match (agrees, rule) {
            (true, _) => self.agree(),
            (false, Some(rule)) => self.explain(rule, case),
            (false, None) => self.fail(case, why),
        }
    }

    /// Takes over another tally.
    pub(crate) fn add(&mut self, other: Self) {
        self.agreed += other.agreed;
        for (rule, cases) in other.explained {
            self.explained.entry(rule).or_default().extend(cases);
        }
        self.unexplained.extend(other.unexplained);
    }

    /// Prints the outcome; fails on an unexplained difference, and on a rule of `table` that never
    /// applied, unless it stands among the `rare` ones, which only larger sets of vectors need.
    pub(crate) fn finish(self, what: &str, table: &[(&str, &str)], rare: &[&str]) {
        println!("{what}: {self}");
        for (rule, cases) in &self.explained {
            let why = table.iter().find(|(id, _)| id == rule).map(|(_, why)| *why);
            println!(
                "  {rule}: {} cases; {}",
                cases.len(),
                why.expect("a rule of the table")
            );
        }
        assert!(
            self.unexplained.is_empty(),
            "{} unexplained differences:\n{}",
            self.unexplained.len(),
            self.unexplained.join("\n")
        );
        let idle: Vec<_> = table
            .iter()
            .filter(|(id, _)| !self.explained.contains_key(id) && !rare.contains(id))
            .collect();
        if std::env::var_os("EXO_VECTORS").is_none() {
            assert!(idle.is_empty(), "rules that never apply: {idle:?}");
        }
        assert!(self.agreed > 0, "nothing was compared");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let explained: usize = self.explained.values().map(Vec::len).sum();
        write!(f, "{} agree, {explained} differ by rule", self.agreed)
    }
}
