//! How far a download is: bars on a terminal, lines elsewhere.

use crate::terminal::{Style, printable};
use exo_models::hub::{Progress, Report, Size};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines where nobody sees bars.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows one download on standard error.
pub(super) struct Bars {
    terminal: Option<MultiProgress>,
    style: Style,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    total: Option<ProgressBar>,
    files: BTreeMap<String, ProgressBar>,
    told: Option<Instant>,
}

impl Bars {
    pub(super) fn new(style: Style) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self {
            terminal: terminal
                .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            style,
            state: Mutex::default(),
        }
    }

    /// The bars go away.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        for bar in std::mem::take(&mut state.files).into_values() {
            bar.finish_and_clear();
        }
        if let Some(bar) = state.total.take() {
            bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, bars: &MultiProgress, report: &Report) {
        let mut state = self.lock();
        let total = state
            .total
            .get_or_insert_with(|| bars.add(bar("{bar:30} {percent:>3} %  {msg}")));
        total.set_length(report.total);
        total.set_position(report.done);
        total.set_message(words(report));
        for file in &report.files {
            if !file.active {
                if let Some(bar) = state.files.remove(&file.name) {
                    bar.finish_and_clear();
                }
                continue;
            }
            let shown = state
                .files
                .entry(file.name.clone())
                .or_insert_with(|| bars.add(bar("{bar:30} {percent:>3} %  {msg}")));
            shown.set_length(file.total);
            shown.set_position(file.done);
            let (name, size) = (printable(&file.name), Size(file.total));
            shown.set_message(self.style.dim(format!("{name}, {size}")).to_string());
        }
    }
}

impl Progress for Bars {
    fn report(&self, report: &Report) {
        if let Some(bars) = &self.terminal {
            return self.draw(bars, report);
        }
        let mut state = self.lock();
        let recent = state.told.is_some_and(|told| told.elapsed() < LINE_EVERY);
        if report.done < report.total && !recent {
            state.told = Some(Instant::now());
            eprintln!("{}: {}", report.repo, words(report));
        }
    }

    fn trouble(&self, trouble: &str) {
        let trouble = printable(trouble);
        match &self.terminal {
            // It stays above the bars.
            Some(bars) => {
                let _ = bars.println(trouble);
            }
            None => eprintln!("{trouble}"),
        }
    }
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style.progress_chars("█▌ "))
}

/// `1.2 GB of 4.9 GB, 3 of 9 files, 32.0 MB/s, 2 min left`.
fn words(report: &Report) -> String {
    let whole = report
        .files
        .iter()
        .filter(|file| file.done == file.total && !file.active);
    let mut words = format!(
        "{} of {}, {} of {} files",
        Size(report.done),
        Size(report.total),
        whole.count(),
        report.files.len()
    );
    if let Some(speed) = report.speed {
        words += &format!(", {}/s", Size(speed as u64));
    }
    if let Some(left) = report.left.filter(|_| report.done < report.total) {
        words += &format!(", {} left", time(left));
    }
    words
}

fn time(left: Duration) -> String {
    match left.as_secs() {
        seconds @ ..60 => format!("{} s", seconds.max(1)),
        seconds @ ..3600 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        for (seconds, wanted) in [
            (0, "1 s"),
            (59, "59 s"),
            (61, "2 min"),
            (7_260, "2 h 1 min"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), wanted);
        }
    }
}
