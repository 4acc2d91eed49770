//! A node on a terminal: the live view, and the terminal as it was afterwards. Needs `script`, which
//! makes a terminal; its `-e` hands on the exit code.

#![cfg(target_os = "linux")]

use exo_tests::process::stand::say;
use exo_tests::process::{self, free_ports};
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The view takes the terminal's other screen, and gives it back.
const TAKEN: &str = "\x1b[?1049h";
const GIVEN_BACK: &str = "\x1b[?1049l";

/// The whole screen is cleared.
const CLEARED: &str = "\x1b[2J";

/// Letters get a colour.
const COLOUR: &str = "\x1b[38;5;";

/// A node on a terminal of its own.
struct Terminal {
    script: Child,
    keys: Option<ChildStdin>,
    screen: ChildStdout,
    /// All that came so far.
    seen: String,
    _home: tempfile::TempDir,
}

impl Terminal {
    /// `None`, and a loud word, without `script`. `flags` end the command line, `variables` stand
    /// before it.
    fn start(variables: &str, flags: &str) -> Option<Self> {
        Self::start_then(variables, flags, "")
    }

    /// The same, and `then` is what the shell does afterwards, on the same terminal.
    fn start_then(variables: &str, flags: &str, then: &str) -> Option<Self> {
        if Command::new("script").arg("--version").output().is_err() {
            say("SKIPPED: script is missing, so there is no terminal; apt-get install bsdutils");
            return None;
        }
        let home = tempfile::tempdir().expect("a folder");
        let ports = free_ports(2);
        let exec = if then.is_empty() { "exec" } else { "" };
        let command = format!(
            "stty rows 24 cols 100; {variables} {exec} {} --node-id node-1 --node-host 127.0.0.1 \
             --node-port {} --chatgpt-api-host 127.0.0.1 --chatgpt-api-port {} \
             --inference-engine dummy --discovery-module none --drain 0 {flags}{then}",
            process::binary().display(),
            ports[0],
            ports[1],
        );
        let mut script = Command::new("script")
            .args(["-qefc", &command, "/dev/null"])
            .env("EXO_HOME", home.path())
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was there a moment ago");
        let keys = script.stdin.take();
        let screen = script.stdout.take().expect("piped");
        Some(Self {
            script,
            keys,
            screen,
            seen: String::new(),
            _home: home,
        })
    }

    /// Reads until `text` was on the screen. One word: a view writes no blanks where there are some.
    fn wait_for(&mut self, text: &str) {
        let mut place = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.screen.read(&mut place).unwrap_or(0);
            assert!(count > 0, "no {text:?} in {:?}", self.seen);
            let more = String::from_utf8_lossy(&place[..count]);
            self.seen.push_str(&more);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        let pipe = self.keys.as_mut().expect("open until the end");
        pipe.write_all(keys).expect("somebody listens");
        pipe.flush().expect("somebody listens");
    }

    /// The node's process: the youngest of those that `script` began.
    fn node(&self) -> u32 {
        let mut pid = self.script.id();
        loop {
            let file = format!("/proc/{pid}/task/{pid}/children");
            let children = std::fs::read_to_string(file).expect("it runs");
            match children.split_whitespace().next() {
                Some(child) => pid = child.parse().expect("a number"),
                None => return pid,
            }
        }
    }

    /// Makes the terminal another size, as somebody does who draws at the window's corner.
    fn resize(&self, rows: u16, columns: u16) {
        let place = format!("/proc/{}/fd/1", self.node());
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let size = ["rows", &rows, "cols", &columns];
        let status = Command::new("stty")
            .arg("-F")
            .arg(place)
            .args(size)
            .status();
        assert!(status.expect("stty is there").success());
    }

    /// Everything up to the end, and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut rest = Vec::new();
        self.screen.read_to_end(&mut rest).expect("readable");
        let status = self.script.wait().expect("it ends");
        let seen = std::mem::take(&mut self.seen);
        (seen + &String::from_utf8_lossy(&rest), status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn the_view_gives_the_terminal_back_after_an_interrupt() {
    let Some(mut terminal) = Terminal::start("", "") else {
        return;
    };
    terminal.wait_for(TAKEN);
    terminal.wait_for("alone");
    terminal.wait_for("ready");
    terminal.press(b"\x03");
    let (seen, code) = terminal.end();
    assert_eq!(code, Some(0), "{seen:?}");
    assert_eq!(seen.matches(TAKEN).count(), 1, "{seen:?}");
    let (view, after) = seen.split_once(GIVEN_BACK).expect("given back");
    assert!(view.contains(COLOUR), "{seen:?}");
    assert!(
        view.contains("\x1b[?25l") && view.contains("\x1b[?25h"),
        "{seen:?}"
    );
    assert!(
        after.contains("stopping") && !after.contains(TAKEN),
        "{seen:?}"
    );
}

/// What the shell tells of the terminal once the node is gone.
const SETTINGS: &str = "; echo code $?; stty -a";

/// Lines are edited and echoed again, and keys such as ^C mean what they did.
fn is_as_it_was(after: &str) -> bool {
    let words = ["icanon", "echo", "isig", "opost", "icrnl"];
    let mut settings = after.split([' ', '\r', '\n']);
    let settings: Vec<&str> = settings.by_ref().collect();
    words.iter().all(|word| settings.contains(word))
}

#[test]
fn the_view_gives_the_terminal_back_after_a_signal() {
    let Some(mut terminal) = Terminal::start_then("", "", SETTINGS) else {
        return;
    };
    terminal.wait_for("alone");
    let node = terminal.node().to_string();
    let told = Command::new("kill").args(["-TERM", &node]).status();
    assert!(told.expect("kill is there").success());
    let (seen, _) = terminal.end();
    let (view, after) = seen.split_once(GIVEN_BACK).expect("given back");
    assert!(view.contains("\x1b[?25h"), "the cursor is seen: {seen:?}");
    assert!(after.contains("code 0"), "{seen:?}");
    assert!(is_as_it_was(after), "{after:?}");
}

#[test]
fn the_view_fits_into_a_terminal_that_changes_its_size() {
    let Some(mut terminal) = Terminal::start_then("", "", SETTINGS) else {
        return;
    };
    terminal.wait_for("alone");
    for (rows, columns) in [(12, 40), (1, 1), (40, 120)] {
        terminal.seen.clear();
        terminal.resize(rows, columns);
        // All is drawn anew; what was written before was for another size.
        terminal.wait_for(CLEARED);
        let (_, drawn) = terminal.seen.split_once(CLEARED).expect("it is there");
        terminal.seen = drawn.to_owned();
        if rows == 1 {
            continue;
        }
        terminal.wait_for("alone");
        let places = terminal.seen.split("\x1b[").filter_map(|part| {
            let (place, _) = part.split_once('H')?;
            let (row, column) = place.split_once(';')?;
            Some((row.parse::<u16>().ok()?, column.parse::<u16>().ok()?))
        });
        let places: Vec<(u16, u16)> = places.collect();
        assert!(!places.is_empty(), "{:?}", terminal.seen);
        let fits = |&(row, column): &(u16, u16)| row <= rows && column <= columns;
        assert!(places.iter().all(fits), "{places:?} in {rows} x {columns}");
    }
    terminal.press(b"\x03");
    let (seen, _) = terminal.end();
    let (_, after) = seen.split_once(GIVEN_BACK).expect("given back");
    assert!(after.contains("code 0") && is_as_it_was(after), "{seen:?}");
}

#[test]
fn whoever_wants_lines_gets_lines() {
    for (variables, flags) in [("", "--disable-tui"), ("TERM=dumb", ""), ("TERM=", "")] {
        let Some(mut terminal) = Terminal::start(variables, flags) else {
            return;
        };
        terminal.wait_for("ready");
        terminal.press(b"\x03");
        let (seen, code) = terminal.end();
        assert_eq!(code, Some(0), "{seen:?}");
        assert!(!seen.contains(TAKEN), "{variables} {flags}: {seen:?}");
        assert!(seen.contains("stopping"), "{seen:?}");
    }
}

#[test]
fn without_colours_the_view_has_none() {
    let Some(mut terminal) = Terminal::start("NO_COLOR=1", "") else {
        return;
    };
    terminal.wait_for("alone");
    terminal.press(b"\x03");
    let (seen, _) = terminal.end();
    let (view, _) = seen.split_once(GIVEN_BACK).expect("given back");
    assert!(!view.contains(COLOUR), "{view:?}");
}
