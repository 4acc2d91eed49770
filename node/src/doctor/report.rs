//! What a doctor says: findings, as lines for people and as one document for programs.

use crate::terminal::{Style, printable};
use serde_json::{Value, json};
use std::io::{self, Write};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// May be meant so; worth a look when something does not work.
    Warning,
    /// Something cannot work as it is.
    Problem,
}

impl Level {
    /// Its name, also in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check's name; programs may count on it.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in one line.
    pub text: String,
    /// What to do about it.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            text: text.into(),
            fix: None,
        }
    }

    /// Worth a look.
    pub fn warning(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            fix: Some(fix.into()),
            ..Self::ok(check, text)
        }
    }

    /// Wrong.
    pub fn problem(check: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            level: Level::Problem,
            ..Self::warning(check, text, fix)
        }
    }

    fn json(&self) -> Value {
        json!({
            "check": self.check,
            "level": self.level.name(),
            "text": self.text,
            "fix": self.fix,
        })
    }
}

/// What was found about one thing.
#[derive(Clone, Debug)]
pub struct Section {
    /// The peer's address; none for this machine.
    pub peer: Option<String>,
    /// One for each check.
    pub findings: Vec<Finding>,
    /// What was measured, for programs.
    pub facts: Value,
}

/// All that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// This machine first.
    pub sections: Vec<Section>,
}

impl Report {
    /// The worst of all findings.
    #[must_use]
    pub fn level(&self) -> Level {
        let levels = self.findings().map(|finding| finding.level);
        levels.max().unwrap_or(Level::Ok)
    }

    fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.sections.iter().flat_map(|section| &section.findings)
    }

    fn count(&self, level: Level) -> usize {
        self.findings().filter(|one| one.level == level).count()
    }

    /// One document. Keys are only ever added to it.
    #[must_use]
    pub fn json(&self) -> Value {
        let section = |section: &Section| {
            json!({
                "peer": section.peer,
                "findings": section.findings.iter().map(Finding::json).collect::<Vec<_>>(),
                "facts": section.facts,
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "level": self.level().name(),
            "problems": self.count(Level::Problem),
            "warnings": self.count(Level::Warning),
            "sections": self.sections.iter().map(section).collect::<Vec<_>>(),
        })
    }

    /// A line for each finding, and one for its fix. Names come from peers: nothing in them drives
    /// the terminal.
    ///
    /// # Errors
    /// When nobody takes the lines.
    pub fn write(&self, out: &mut dyn Write, style: Style) -> io::Result<()> {
        for section in &self.sections {
            let title = match &section.peer {
                Some(peer) => printable(peer),
                None => "this machine".to_owned(),
            };
            writeln!(out, "{}", style.bold(title))?;
            for finding in &section.findings {
                let name = finding.level.name();
                let text = one_line(&finding.text);
                match finding.level {
                    Level::Ok => writeln!(out, "  {:<8} {text}", style.dim(name))?,
                    Level::Warning => writeln!(out, "  {:<8} {text}", style.node(1, name))?,
                    Level::Problem => writeln!(out, "  {:<8} {text}", style.red(name))?,
                }
                if let Some(fix) = &finding.fix {
                    writeln!(out, "  {:>8} {}", "→", one_line(fix))?;
                }
            }
        }
        let counted = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            count => format!("{count} {word}s"),
        };
        let (problems, warnings) = (self.count(Level::Problem), self.count(Level::Warning));
        let total = match (problems, warnings) {
            (0, 0) => "all is well".to_owned(),
            (0, _) => counted(warnings, "warning"),
            (_, 0) => counted(problems, "problem"),
            _ => format!(
                "{}, {}",
                counted(problems, "problem"),
                counted(warnings, "warning")
            ),
        };
        writeln!(out, "{}", style.bold(total))
    }
}

fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        let peer = Section {
            peer: Some("a\x1b[2J:1".into()),
            findings,
            facts: json!({"reach": "refused"}),
        };
        let here = Section {
            peer: None,
            findings: vec![Finding::ok("home", "all\nthere")],
            facts: Value::Null,
        };
        Report {
            sections: vec![here, peer],
        }
    }

    fn text(report: &Report) -> String {
        let mut out = Vec::new();
        report.write(&mut out, Style::plain()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_worst_finding_counts() {
        let good = report(Vec::new());
        assert_eq!(good.level(), Level::Ok);
        assert!(text(&good).ends_with("all is well\n"));
        let warned = report(vec![Finding::warning("reach", "slow", "wait")]);
        assert_eq!(warned.level(), Level::Warning);
        assert!(text(&warned).ends_with("\n1 warning\n"));
        let bad = report(vec![
            Finding::warning("reach", "slow", "wait"),
            Finding::problem("reach", "gone", "look"),
            Finding::problem("reach", "gone", "look"),
        ]);
        assert_eq!(bad.level(), Level::Problem);
        assert!(text(&bad).ends_with("\n2 problems, 1 warning\n"));
    }

    #[test]
    fn findings_are_lines_and_a_document() {
        let report = report(vec![Finding::problem("reach", "no\x1b[2J", "do")]);
        let wanted = "this machine\n  ok       all there\na[2J:1\n  problem  no[2J\n         → do\n\
                      1 problem\n";
        assert_eq!(text(&report), wanted);
        let json = report.json();
        assert_eq!(json["level"], "problem");
        assert_eq!(json["sections"][0]["peer"], Value::Null);
        assert_eq!(json["sections"][1]["facts"]["reach"], "refused");
        let finding = &json["sections"][1]["findings"][0];
        assert_eq!(finding["check"], "reach");
        assert_eq!(finding["fix"], "do");
    }
}
