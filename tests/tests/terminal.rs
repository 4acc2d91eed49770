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
        if Command::new("script").arg("--version").output().is_err() {
            say("SKIPPED: script is missing, so there is no terminal; apt-get install bsdutils");
            return None;
        }
        let home = tempfile::tempdir().expect("a folder");
        let ports = free_ports(2);
        let command = format!(
            "stty rows 24 cols 100; {variables} exec {} --node-id node-1 --node-host 127.0.0.1 \
             --node-port {} --chatgpt-api-host 127.0.0.1 --chatgpt-api-port {} \
             --inference-engine dummy --discovery-module none --drain 0 {flags}",
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
