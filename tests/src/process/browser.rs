//! A real Chromium, driven over WebDriver (Debian's `chromium` and `chromium-driver`). What is waited
//! for is looked for inside the page, so that nothing passes unseen between two questions.

use super::{PATIENCE, http};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What makes it small, silent, and the same everywhere.
const FLAGS: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1360,860",
];

/// Keys without a letter, as WebDriver writes them.
pub const ENTER: &str = "\u{e007}";
/// Ends what is under way.
pub const ESCAPE: &str = "\u{e00c}";
/// Held until the end of the keys that are sent with it.
pub const SHIFT: &str = "\u{e008}";
/// As [`SHIFT`].
pub const ALT: &str = "\u{e00a}";

/// A browser with a fresh profile; closed when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts it.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    ///
    /// # Panics
    /// When everything is there, but does not work.
    pub fn start() -> Result<Self, String> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|_| "there is no chromedriver; install chromium and chromium-driver")?;
        let stdout = driver.stdout.take().expect("piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        // It goes on to print, and must not wait for somebody to read it.
        std::thread::spawn(move || lines.for_each(drop));
        let port: u16 = port.expect("chromedriver tells its port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = tempfile::tempdir().expect("a temporary folder");
        let folder = format!("--user-data-dir={}", profile.path().display());
        let flags: Vec<&str> = FLAGS.into_iter().chain([folder.as_str()]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let mut browser = Self {
            driver,
            address,
            session: String::new(),
            _profile: profile,
        };
        let session = browser.send("/session", &wanted);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        let patience = PATIENCE.as_millis() as u64;
        browser.call(
            "/timeouts",
            &json!({"script": patience, "pageLoad": patience}),
        );
        Ok(browser)
    }

    fn send(&self, path: &str, body: &Value) -> Value {
        let (status, text) =
            http::post(self.address, path, body).expect("chromedriver answers HTTP");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(status, 200, "{path} {body}: {text}");
        answer["value"].take()
    }

    fn call(&self, path: &str, body: &Value) -> Value {
        self.send(&format!("/session/{}{path}", self.session), body)
    }

    /// Goes to a page, and waits until it is loaded.
    ///
    /// # Panics
    /// When there is none.
    pub fn open(&self, url: &str) {
        self.call("/url", &json!({ "url": url }));
    }

    /// Runs a script in the page, and gives what it returns.
    ///
    /// # Panics
    /// When it fails.
    pub fn script(&self, script: &str, arguments: &Value) -> Value {
        self.call(
            "/execute/sync",
            &json!({"script": script, "args": arguments}),
        )
    }

    /// What an expression is.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn value(&self, expression: &str) -> Value {
        self.script(&format!("return ({expression})"), &json!([]))
    }

    /// Waits until an expression is true; gives what it is then.
    ///
    /// # Panics
    /// When that does not come within [`PATIENCE`], with what the page shows.
    pub fn wait(&self, expression: &str) -> Value {
        let patience = PATIENCE.as_millis();
        let script = format!(
            "const done = arguments[0];
             const until = performance.now() + {patience} - 5000;
             const name = (part) => part?.id || part?.className || part?.localName;
             const fields = () => [...document.querySelectorAll('input, textarea, select')]
               .map((field) => `\n${{name(field)}} = ${{JSON.stringify(field.value)}}`).join('')
               + `\nthe focus is on ${{name(document.activeElement)}}`;
             const look = () => {{
               let value = null;
               try {{ value = ({expression}); }} catch {{ /* Not there yet. */ }}
               if (value) done({{ value }});
               else if (performance.now() > until) done({{ text: document.body.innerText + fields() }});
               else setTimeout(look, 10);
             }};
             look();"
        );
        let mut found = self.call("/execute/async", &json!({"script": script, "args": []}));
        assert!(
            found.get("text").is_none(),
            "no {expression}; the page shows\n{}\nand says {:#?}",
            found["text"].as_str().unwrap_or_default(),
            self.console()
        );
        found["value"].take()
    }

    fn element(&self, selector: &str) -> String {
        let found = self.call(
            "/element",
            &json!({"using": "css selector", "value": selector}),
        );
        let id = found
            .as_object()
            .and_then(|found| found.values().next()?.as_str());
        id.expect("an element has an id").to_owned()
    }

    /// Presses on an element, as a finger would: it must be there to be seen.
    ///
    /// # Panics
    /// When it is not.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.call(&format!("/element/{element}/click"), &json!({}));
    }

    /// Types into an element.
    ///
    /// # Panics
    /// When it is not there.
    pub fn keys(&self, selector: &str, keys: &str) {
        let element = self.element(selector);
        self.call(&format!("/element/{element}/value"), &json!({"text": keys}));
    }

    /// Types to whatever has the focus.
    ///
    /// # Panics
    /// When the browser refuses.
    pub fn press(&self, keys: &str) {
        let down = |key: char| json!({"type": "keyDown", "value": key.to_string()});
        let up = |key: char| json!({"type": "keyUp", "value": key.to_string()});
        let all = keys.chars().map(down);
        let all: Vec<Value> = all.chain(keys.chars().rev().map(up)).collect();
        let source = json!({"type": "key", "id": "keys", "actions": all});
        self.call("/actions", &json!({"actions": [source]}));
    }

    /// Makes the window this large, as on a phone if `phone`.
    ///
    /// # Panics
    /// When the browser refuses.
    pub fn resize(&self, width: u32, height: u32, phone: bool) {
        let scale = if phone { 1.5 } else { 1.0 };
        self.develop(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}),
        );
    }

    /// Whether the user's system is dark.
    ///
    /// # Panics
    /// When the browser refuses.
    pub fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        self.develop(
            "Emulation.setEmulatedMedia",
            &json!({"features": [{"name": "prefers-color-scheme", "value": value}]}),
        );
    }

    fn develop(&self, command: &str, parameters: &Value) {
        self.call(
            "/goog/cdp/execute",
            &json!({"cmd": command, "params": parameters}),
        );
    }

    /// Errors that the page caused since the last time.
    ///
    /// # Panics
    /// When the browser refuses.
    #[must_use]
    pub fn console(&self) -> Vec<String> {
        let lines = self.call("/se/log", &json!({"type": "browser"}));
        let lines = lines.as_array().cloned().unwrap_or_default();
        let errors = lines.iter().filter(|line| line["level"] == "SEVERE");
        errors.map(|line| line["message"].to_string()).collect()
    }

    /// Writes what is on the screen as a PNG file.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn screenshot(&self, file: &Path) {
        let path = format!("/session/{}/screenshot", self.session);
        let (status, text) = http::get(self.address, &path).expect("chromedriver answers HTTP");
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let mut decode = Command::new("base64")
            .arg("-d")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(file).expect("a writable folder"))
            .spawn()
            .expect("base64 runs");
        let picture = answer["value"].as_str().expect("a picture");
        let mut pipe = decode.stdin.take().expect("piped");
        pipe.write_all(picture.as_bytes()).expect("it reads");
        drop(pipe);
        assert!(decode.wait().is_ok_and(|status| status.success()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes its browser along.
        let _ = http::delete(self.address, &format!("/session/{}", self.session));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
