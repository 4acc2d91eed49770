//! Log lines, as many as `DEBUG`, `DEBUG_DISCOVERY` and `RUST_LOG` ask for.

mod lines;

use crate::terminal::Style;
#[cfg(feature = "tui")]
pub(crate) use lines::{lines, to_terminal, to_view};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The target of everything that is said about finding peers.
pub const DISCOVERY: &str = "exo_node::discovery";

/// Starts logging; `quiet` programs say only what went wrong unless `DEBUG` is set.
pub fn start(quiet: bool) {
    let debug = Variable::read("DEBUG");
    let discovery = Variable::read("DEBUG_DISCOVERY");
    let base = if quiet {
        LevelFilter::WARN
    } else {
        LevelFilter::INFO
    };
    let filter = filter(debug.value, discovery.value, base);
    let rust_log = std::env::var_os("RUST_LOG").unwrap_or_default();
    let rust_log = rust_log.to_string_lossy();
    let (filter, rubbish) = asked(&rust_log, filter);
    let level = level(debug.value, base);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| lines::Writer)
        .with_ansi(Style::stderr().colours())
        .with_target(level > LevelFilter::INFO)
        .with_timer(Clock);
    // Fails only when somebody else logs already, as tests do.
    let _ = tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .try_init();
    for variable in [debug, discovery] {
        if let Some(text) = variable.rubbish {
            tracing::warn!(
                "{}={text:?} is not a number from 0 to 9; ignored",
                variable.name
            );
        }
    }
    if let Some(reason) = rubbish {
        tracing::warn!("RUST_LOG={rust_log:?} is ignored: {reason}; try RUST_LOG=exo_node=debug");
    }
}

/// What `DEBUG` and `DEBUG_DISCOVERY` let through.
fn filter(debug: u32, discovery: u32, base: LevelFilter) -> Targets {
    let level = level(debug, base);
    // The libraries have their say at the very end.
    let others = if debug >= LIBRARIES {
        LevelFilter::DEBUG
    } else {
        LevelFilter::WARN
    };
    Targets::new()
        .with_default(others)
        .with_target("exo_", level)
        // What it says at this level, the node says too.
        .with_target("exo_engine_cpu", engine(level))
        .with_target(DISCOVERY, level.max(self::level(discovery, base)))
}

/// From this `DEBUG` on libraries log, too.
const LIBRARIES: u32 = 9;

/// What `RUST_LOG` lets through, in place of all else; and what is wrong with it.
fn asked(rust_log: &str, otherwise: Targets) -> (Targets, Option<String>) {
    if rust_log.trim().is_empty() {
        return (otherwise, None);
    }
    match rust_log.parse() {
        Ok(targets) => (targets, None),
        Err(error) => (otherwise, Some(ParseError::to_string(&error))),
    }
}

fn engine(level: LevelFilter) -> LevelFilter {
    if level > LevelFilter::INFO {
        level
    } else {
        LevelFilter::WARN
    }
}

/// The reference knows levels up to 9; two of them are enough for what is ours.
fn level(debug: u32, base: LevelFilter) -> LevelFilter {
    match debug {
        0 => base,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

struct Variable {
    name: &'static str,
    value: u32,
    rubbish: Option<String>,
}

impl Variable {
    fn read(name: &'static str) -> Self {
        let text = std::env::var_os(name)
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Self::parse(name, &text)
    }

    fn parse(name: &'static str, text: &str) -> Self {
        match text.trim() {
            "" => Self {
                name,
                value: 0,
                rubbish: None,
            },
            number => match number.parse() {
                Ok(value) => Self {
                    name,
                    value,
                    rubbish: None,
                },
                Err(_) => Self {
                    name,
                    value: 0,
                    rubbish: Some(text.to_owned()),
                },
            },
        }
    }
}

/// Universal time to the second: enough to put two machines' logs side by side.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        w.write_str(&timestamp(since.as_secs()))
    }
}

/// The time in seconds since 1970 as `2026-11-28T16:05:01Z`.
pub(crate) fn timestamp(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The day `days` after 1 January 1970, counted in 400-year cycles of years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (
        cycle * 400 + year_of_cycle + u64::from(month <= 2),
        month,
        day,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn timestamps_follow_the_calendar() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_000_000_000), "2001-09-09T01:46:40Z");
        assert_eq!(timestamp(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn rubbish_in_the_environment_is_told_not_fatal() {
        assert_eq!(Variable::parse("DEBUG", "2").value, 2);
        assert_eq!(Variable::parse("DEBUG", " ").value, 0);
        let rubbish = Variable::parse("DEBUG", "yes");
        assert_eq!(
            (rubbish.value, rubbish.rubbish.as_deref()),
            (0, Some("yes"))
        );
        assert_eq!(level(0, LevelFilter::WARN), LevelFilter::WARN);
        assert_eq!(level(7, LevelFilter::WARN), LevelFilter::TRACE);
    }

    #[test]
    fn each_variable_lets_through_what_it_is_for() {
        let base = LevelFilter::INFO;
        let lets =
            |filter: &Targets, target: &str, level: Level| filter.would_enable(target, &level);
        let quiet = filter(0, 0, LevelFilter::WARN);
        assert!(lets(&quiet, "exo_node::app", Level::WARN));
        assert!(!lets(&quiet, "exo_node::app", Level::INFO));
        let usual = filter(0, 0, base);
        assert!(lets(&usual, "exo_node::app", Level::INFO));
        assert!(!lets(&usual, "exo_engine_cpu", Level::INFO));
        assert!(!lets(&usual, "exo_node::app", Level::DEBUG));
        let more = filter(1, 0, base);
        assert!(lets(&more, "exo_node::app", Level::DEBUG));
        assert!(lets(&more, DISCOVERY, Level::DEBUG));
        assert!(!lets(&more, "tiny_http", Level::DEBUG));
        assert!(lets(&filter(9, 0, base), "tiny_http", Level::DEBUG));
        let peers = filter(0, 2, base);
        assert!(lets(&peers, DISCOVERY, Level::TRACE));
        assert!(!lets(&peers, "exo_node::app", Level::DEBUG));
    }

    #[test]
    fn rust_log_goes_before_all_else_if_it_can_be_read() {
        let usual = || filter(0, 0, LevelFilter::INFO);
        let lets = |filter: &Targets, target: &str| filter.would_enable(target, &Level::DEBUG);
        let (filter, wrong) = asked("warn,exo_node::app=debug", usual());
        assert!(lets(&filter, "exo_node::app") && !lets(&filter, "exo_node::api"));
        assert_eq!(wrong, None);
        let (filter, wrong) = asked(" ", usual());
        assert!(!lets(&filter, "exo_node::app"));
        assert_eq!(wrong, None);
        let (filter, wrong) = asked("exo_node=loud", usual());
        assert!(filter.would_enable("exo_node", &Level::INFO) && wrong.is_some());
    }
}
