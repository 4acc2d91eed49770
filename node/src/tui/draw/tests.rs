use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

fn row(name: &str, mark: Mark, place: Place) -> Row {
    Row {
        mark,
        place,
        name: name.to_owned(),
        here: name == "node-1",
        layers: "stories 0-3 of 8".to_owned(),
        memory: "23.5 GiB".to_owned(),
        engine: "cpu 0.1.0, float32".to_owned(),
        rtt: "0.21 ms".to_owned(),
        goodput: "940 Mbit/s".to_owned(),
    }
}

fn view() -> View {
    View {
        title: "node-1, 3 nodes".to_owned(),
        nodes: vec![
            row("node-2", Mark::Busy, Place::First),
            row("node-1", Mark::Computing, Place::Last),
            row("node-3", Mark::Down, Place::Outside),
        ],
        tasks: vec![
            Task {
                what: "stories asked here".to_owned(),
                how_far: "34 tokens, 45.2 tokens/s".to_owned(),
                done: None,
            },
            Task {
                what: "loading stories layers 0-3 of 8".to_owned(),
                how_far: "3 of 12 MiB".to_owned(),
                done: Some(250),
            },
        ],
        ..View::default()
    }
}

fn log() -> Vec<String> {
    let line = |number| format!("2026-11-28T20:00:0{number}Z  INFO line {number}");
    (0..9).map(line).collect()
}

fn screen(width: u16, height: u16, view: &View, colours: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test's terminal");
    let (look, log) = (Look { colours }, log());
    terminal
        .draw(|frame| draw(frame, view, "http://127.0.0.1:52415/v1", &log, look))
        .expect("it draws");
    terminal
}

/// What is on a screen, line by line.
fn drawn(width: u16, height: u16, view: &View) -> Vec<String> {
    let terminal = screen(width, height, view, false);
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[test]
fn a_wide_terminal_has_everything() {
    assert_eq!(
        drawn(110, 15, &view()),
        [
            "exo-node node-1, 3 nodes  http://127.0.0.1:52415/v1",
            "┌ring               layers                         memory  round trip    bandwidth  engine───────────────────┐",
            "│╭ ● node-2         stories 0-3 of 8             23.5 GiB     0.21 ms   940 Mbit/s  cpu 0.1.0, float32       │",
            "│╰ ▶ node-1 (here)  stories 0-3 of 8             23.5 GiB     0.21 ms   940 Mbit/s  cpu 0.1.0, float32       │",
            "│  ✗ node-3         stories 0-3 of 8             23.5 GiB     0.21 ms   940 Mbit/s  cpu 0.1.0, float32       │",
            "└────────────────────────────────────────────────────────────────────────────────────────────────────────────┘",
            "┌under way───────────────────────────────────────────────────────────────────────────────────────────────────┐",
            "│stories asked here: 34 tokens, 45.2 tokens/s                                                                │",
            "│loading stories layers 0-3 of 8: 3 of 12 MiB                                        ██████    25%           │",
            "└────────────────────────────────────────────────────────────────────────────────────────────────────────────┘",
            "┌log─────────────────────────────────────────────────────────────────────────────────────────────────────────┐",
            "│2026-11-28T20:00:06Z  INFO line 6                                                                           │",
            "│2026-11-28T20:00:07Z  INFO line 7                                                                           │",
            "│2026-11-28T20:00:08Z  INFO line 8                                                                           │",
            "└────────────────────────────────────────────────────────────────────────────────────────────────────────────┘",
        ]
    );
}

#[test]
fn a_narrow_terminal_has_the_most_important_columns() {
    assert_eq!(
        drawn(60, 12, &view()),
        [
            "exo-node node-1, 3 nodes  http://127.0.0.1:52415/v1",
            "┌ring               layers                         memory──┐",
            "│╭ ● node-2         stories 0-3 of 8             23.5 GiB  │",
            "│╰ ▶ node-1 (here)  stories 0-3 of 8             23.5 GiB  │",
            "│  ✗ node-3         stories 0-3 of 8             23.5 GiB  │",
            "└──────────────────────────────────────────────────────────┘",
            "┌under way─────────────────────────────────────────────────┐",
            "│stories asked here: 34 tokens, 45.2 tokens/s              │",
            "│loading stories layers 0-3 of 8: 3 of 12 MiB              │",
            "└──────────────────────────────────────────────────────────┘",
            "",
            "",
        ]
    );
}

#[test]
fn a_small_terminal_has_the_ring() {
    assert_eq!(
        drawn(24, 6, &view()),
        [
            "exo-node node-1, 3 nodes",
            "┌ring──────────────────┐",
            "│╭ ● node-2            │",
            "│╰ ▶ node-1 (here)     │",
            "│  ✗ node-3            │",
            "└──────────────────────┘",
        ]
    );
}

#[test]
fn no_size_is_too_small() {
    for width in 0..130 {
        for height in 0..20 {
            drawn(width, height, &view());
        }
    }
    drawn(40, 10, &View::default());
}

#[test]
fn colours_are_for_those_who_want_them() {
    let coloured = |colours| {
        let terminal = screen(110, 20, &view(), colours);
        let cells = terminal.backend().buffer().content().iter();
        let plain = Color::Reset;
        cells
            .filter(|cell| cell.fg != plain || cell.bg != plain)
            .count()
    };
    assert!(coloured(true) > 0);
    assert_eq!(coloured(false), 0);
}
