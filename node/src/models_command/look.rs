//! What is here, and what a model is.

use super::table::Table;
use super::{Models, ModelsError, tell_json};
use crate::terminal::Style;
use exo_models::hub::{Size, part_bytes};
use exo_models::{CatalogEntry, Model, ModelConfig};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;

/// A model in a list.
struct Row {
    entry: CatalogEntry,
    /// Bytes on disk; those that are compiled in take none.
    on_disk: u64,
    /// All its weights are here.
    whole: bool,
}

impl Models {
    pub(super) fn list(&self, out: &mut impl Write) -> Result<(), ModelsError> {
        let mut rows = Vec::new();
        for entry in self.catalog.list() {
            let whole = match &entry.path {
                Some(path) => Model::open(path).is_ok_and(|model| is_whole(&model)),
                None => true,
            };
            rows.push(Row {
                on_disk: entry.path.as_deref().map_or(0, on_disk),
                whole,
                entry,
            });
        }
        // Downloads that were begun, or are none that an engine knows.
        let cached = self.hub.cached().into_iter();
        let others = cached.filter(|repo| {
            let mut paths = rows.iter().filter_map(|row| row.entry.path.as_ref());
            !paths.any(|path| path.starts_with(&repo.path))
        });
        let others: Vec<_> = others.collect();
        if self.json {
            let models: Vec<Value> = rows.iter().map(Row::json).collect();
            let others: Vec<Value> = others
                .iter()
                .map(|repo| json!({"repo": repo.repo, "path": repo.path, "bytes": repo.bytes}))
                .collect();
            return tell_json(out, &json!({"models": models, "other_repos": others}));
        }
        let mut table = Table::new(["MODEL", "FAMILY", "LAYERS", "ON DISK", "WHERE"]);
        for row in &rows {
            let size = match (&row.entry.path, row.whole) {
                (None, _) => "built in".to_owned(),
                (_, true) => Size(row.on_disk).to_string(),
                (_, false) => {
                    let (here, all) = (Size(row.on_disk), Size(row.entry.bytes));
                    format!("{here} of {all}")
                }
            };
            let place = row.entry.path.as_ref();
            table.row([
                row.entry.id.clone(),
                format!("{:?}", row.entry.family),
                row.entry.layers.to_string(),
                size,
                place.map_or_else(String::new, |path| path.display().to_string()),
            ]);
        }
        for repo in &others {
            let size = Size(repo.bytes.saturating_add(repo.parts)).to_string();
            let what = if repo.incomplete.saturating_add(repo.parts) > 0 {
                "incomplete"
            } else {
                "?"
            };
            let place = repo.path.display().to_string();
            table.row([
                repo.repo.clone(),
                what.to_owned(),
                "?".to_owned(),
                size,
                place,
            ]);
        }
        table.write(out, Style::stdout())?;
        Ok(())
    }

    pub(super) fn info(&self, name: &str, out: &mut impl Write) -> Result<(), ModelsError> {
        let model = self
            .catalog
            .resolve(name)
            .map_err(|source| ModelsError::Model {
                name: name.to_owned(),
                source: Box::new(source),
            })?;
        let config = model.config();
        let here = self
            .catalog
            .list()
            .into_iter()
            .find(|entry| entry.id == name);
        let path = here.and_then(|entry| entry.path);
        let facts = [
            ("model", json!(model.id())),
            ("family", json!(format!("{:?}", config.family))),
            ("layers", json!(config.layers)),
            ("hidden", json!(config.hidden)),
            ("heads", json!(config.heads)),
            ("kv_heads", json!(config.kv_heads)),
            ("vocabulary", json!(config.vocab)),
            ("context", json!(config.context)),
            ("weights", json!(config.weight_bytes)),
            ("layers_here", json!(layers_here(&model, config))),
            ("path", json!(path)),
        ];
        if self.json {
            let all = facts
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value));
            return tell_json(out, &Value::Object(all.collect()));
        }
        for (name, value) in facts {
            let text = match (name, &value) {
                ("weights", _) => Size(config.weight_bytes).to_string(),
                ("path", Value::Null) => continue,
                (_, Value::String(text)) => text.clone(),
                (_, value) => value.to_string(),
            };
            writeln!(out, "{:<12} {text}", name.replace('_', " "))?;
        }
        Ok(())
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "model": self.entry.id,
            "family": format!("{:?}", self.entry.family),
            "layers": self.entry.layers,
            "bytes": self.entry.bytes,
            "on_disk": self.on_disk,
            "whole": self.whole,
            "path": self.entry.path,
        })
    }
}

fn is_whole(model: &Model) -> bool {
    model.weights(0..model.config().layers).is_ok()
}

/// The layers whose weights are on this machine: `0-7, 12-15`.
fn layers_here(model: &Model, config: &ModelConfig) -> String {
    if is_whole(model) {
        return "all".to_owned();
    }
    let here = |layer: &u32| model.weights(*layer..layer + 1).is_ok();
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for layer in (0..config.layers).filter(here) {
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == layer => *end = layer,
            _ => ranges.push((layer, layer)),
        }
    }
    let ranges: Vec<String> = ranges
        .iter()
        .map(|(start, end)| match start == end {
            true => start.to_string(),
            false => format!("{start}-{end}"),
        })
        .collect();
    match ranges.as_slice() {
        [] => "none".to_owned(),
        ranges => ranges.join(", "),
    }
}

/// Bytes of a file, or of the files of a model's folder; through links, as the cache has them.
fn on_disk(path: &Path) -> u64 {
    if path.is_file() {
        return fs::metadata(path).map_or(0, |file| file.len());
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| fs::metadata(entry.path()).ok());
    files
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum::<u64>()
        .saturating_add(part_bytes(path))
}
