//! Puts a view on the screen, whatever its size.

use crate::view::{Mark, Place, Row, Task, View};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Gauge, Paragraph};

/// Lines that a block's frame takes.
const BORDER: u16 = 2;

/// A log of fewer lines is none.
const LOG: u16 = 3;

/// The bar of a task that has an end.
const BAR: u16 = 24;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
}

impl Look {
    fn in_colour(self, colour: Color) -> Style {
        if self.colours {
            Style::new().fg(colour)
        } else {
            Style::new()
        }
    }

    fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn mark(self, mark: Mark) -> Span<'static> {
        match mark {
            Mark::Down => Span::styled("✗", self.in_colour(Color::Red)),
            Mark::Idle => Span::raw("○"),
            Mark::Busy => Span::styled("●", self.in_colour(Color::Green)),
            Mark::Computing => Span::styled("▶", self.in_colour(Color::Green)),
        }
    }

    fn line(self, line: &str) -> Line<'_> {
        let style = if line.contains(" ERROR ") {
            self.in_colour(Color::Red)
        } else if line.contains(" WARN ") {
            self.in_colour(Color::Yellow)
        } else {
            Style::new()
        };
        Line::styled(line, style)
    }
}

/// Draws everything: the view, where the API is, and the last lines of the log.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, url: &str, log: &[String], look: Look) {
    let area = frame.area();
    let nodes = height(view.nodes.len());
    let tasks = height(view.tasks.len());
    // The log gives way first, then the tasks, then the nodes.
    let room = area.height.saturating_sub(1);
    let nodes = nodes.min(room);
    let tasks = if view.tasks.is_empty() {
        0
    } else {
        tasks.min(room - nodes)
    };
    let tasks = if tasks > BORDER { tasks } else { 0 };
    let log_room = room - nodes - tasks;
    let heights = [1, nodes, tasks, if log_room >= LOG { log_room } else { 0 }];
    let [top, ring, under_way, rest] =
        Layout::vertical(heights.map(Constraint::Length)).areas(area);
    title(frame, top, view, url, look);
    if ring.height > BORDER {
        table(frame, ring, &view.nodes, look);
    }
    if under_way.height > BORDER {
        progress(frame, under_way, &view.tasks, look);
    }
    if rest.height >= LOG {
        let inner = usize::from(rest.height - BORDER);
        let last = log.len().saturating_sub(inner);
        let lines = log.iter().skip(last).map(|line| look.line(line));
        let lines = Paragraph::new(lines.collect::<Vec<_>>());
        frame.render_widget(lines.block(block("log")), rest);
    }
}

fn height(lines: usize) -> u16 {
    u16::try_from(lines)
        .unwrap_or(u16::MAX)
        .saturating_add(BORDER)
}

fn block(title: &str) -> Block<'_> {
    Block::new().borders(Borders::ALL).title(title)
}

fn title(frame: &mut Frame<'_>, area: Rect, view: &View, url: &str, look: Look) {
    let mut line = vec![
        Span::styled("exo-node ", look.strong()),
        Span::raw(&view.title),
    ];
    let wide = usize::from(area.width) >= 12 + view.title.len() + url.len();
    if wide && !url.is_empty() {
        line.push(Span::raw("  "));
        line.push(Span::styled(url, look.in_colour(Color::Cyan)));
    }
    frame.render_widget(Line::from(line), area);
}

/// A column: its header, how wide it is, and what it has of a node.
struct Column {
    header: &'static str,
    width: u16,
    text: fn(&Row) -> &str,
    right: bool,
}

/// The most important ones first: on a narrow terminal the last ones are missing.
const COLUMNS: [Column; 5] = [
    Column {
        header: "layers",
        width: 26,
        text: |row| &row.layers,
        right: false,
    },
    Column {
        header: "memory",
        width: 9,
        text: |row| &row.memory,
        right: true,
    },
    Column {
        header: "round trip",
        width: 10,
        text: |row| &row.rtt,
        right: true,
    },
    Column {
        header: "bandwidth",
        width: 11,
        text: |row| &row.goodput,
        right: true,
    },
    Column {
        header: "engine",
        width: 20,
        text: |row| &row.engine,
        right: false,
    },
];

fn table(frame: &mut Frame<'_>, area: Rect, rows: &[Row], look: Look) {
    let inner = block("").inner(area);
    let name = |row: &Row| row.name.chars().count() + if row.here { 7 } else { 0 };
    let longest = rows.iter().map(name).max().unwrap_or(0);
    let name_width = u16::try_from(longest).unwrap_or(u16::MAX).clamp(4, 24);
    let mut left = inner.width.saturating_sub(5 + name_width);
    let mut columns = Vec::new();
    for column in &COLUMNS {
        if left < column.width + 2 {
            break;
        }
        left -= column.width + 2;
        columns.push(column);
    }
    let lines = rows.iter().map(|row| {
        let gutter = match row.place {
            Place::Outside => "  ",
            Place::Alone => "╶ ",
            Place::First => "╭ ",
            Place::Between => "│ ",
            Place::Last => "╰ ",
        };
        let mut name = row.name.clone();
        if row.here {
            name.push_str(" (here)");
        }
        let mut spans = vec![
            Span::raw(gutter),
            look.mark(row.mark),
            Span::raw(" "),
            Span::styled(
                fit(&name, name_width, false),
                if row.here {
                    look.strong()
                } else {
                    Style::new()
                },
            ),
        ];
        for column in &columns {
            spans.push(Span::raw("  "));
            spans.push(Span::raw(fit(
                (column.text)(row),
                column.width,
                column.right,
            )));
        }
        Line::from(spans)
    });
    let mut headers = String::from("ring");
    headers.push_str(&" ".repeat(usize::from(name_width)));
    for column in &columns {
        headers.push_str("  ");
        headers.push_str(&fit(column.header, column.width, column.right));
    }
    let headers = if columns.is_empty() {
        "ring".to_owned()
    } else {
        headers
    };
    let titled = block(headers.trim_end());
    frame.render_widget(
        Paragraph::new(lines.collect::<Vec<_>>()).block(titled),
        area,
    );
}

/// A text of exactly this width.
fn fit(text: &str, width: u16, right: bool) -> String {
    let width = usize::from(width);
    let mut short: String = text.chars().take(width).collect();
    if text.chars().count() > width {
        short.pop();
        short.push('…');
    }
    if right {
        format!("{short:>width$}")
    } else {
        format!("{short:<width$}")
    }
}

fn progress(frame: &mut Frame<'_>, area: Rect, tasks: &[Task], look: Look) {
    let titled = block("under way");
    let inner = titled.inner(area);
    frame.render_widget(titled, area);
    for (task, y) in tasks.iter().zip(inner.y..inner.bottom()) {
        let line = Rect {
            y,
            height: 1,
            ..inner
        };
        let words = match &*task.how_far {
            "" => task.what.clone(),
            how_far => format!("{}: {how_far}", task.what),
        };
        let room = usize::from(line.width) > words.chars().count() + usize::from(BAR);
        let Some(done) = task.done.filter(|_| room) else {
            frame.render_widget(Line::raw(words), line);
            continue;
        };
        let [text, bar] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(BAR)]).areas(line);
        frame.render_widget(Line::raw(words), text);
        let gauge = Gauge::default()
            .gauge_style(look.in_colour(Color::Green))
            .ratio(f64::from(done.min(1000)) / 1000.0);
        frame.render_widget(gauge, bar);
    }
}

#[cfg(test)]
mod tests;
