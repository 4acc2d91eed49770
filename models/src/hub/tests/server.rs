//! A hub of a few files on this machine, which misbehaves as it is told.
//!
//! It answers as huggingface.co does: a repository's list has its commit and files; `resolve` says
//! which file it is (`X-Linked-Etag`, `X-Linked-Size`, `X-Repo-Commit`) and redirects large ones to
//! another address, the "CDN". Needs nothing of the crate, so that other crates' tests can have it.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit that every branch is.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The token of somebody who may read gated repositories.
pub(crate) const TOKEN: &str = "hf_good";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    List,
    Head,
    Body,
    /// Bodies of large files alone.
    Large,
}

/// What comes instead of the right answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The body ends after so many bytes.
    Cut(usize),
    /// The same without a Content-Length.
    CutUnannounced(usize),
    /// The body stops after so many bytes, and nothing follows.
    Stall(usize),
    /// All of it, whatever range was asked for.
    IgnoreRange,
    /// A range, but another one.
    WrongRange,
    /// The last byte is another one.
    Damage,
    /// Bytes follow that are not announced.
    Longer,
    /// As many bytes are announced and sent.
    Shorter(usize),
    /// Another status, with headers and a body.
    Status(u16, &'static str, &'static str),
    /// The headers are other ones: a page that is no file.
    Page,
}

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) range: Option<String>,
    pub(crate) encoding: Option<String>,
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct State {
    repos: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    gated: Mutex<Vec<String>>,
    renamed: Mutex<BTreeMap<String, String>>,
    faults: Mutex<Vec<(On, Fault, usize)>>,
    asked: Mutex<Vec<Asked>>,
    /// Connections that wait for the end.
    stalled: Mutex<Vec<TcpStream>>,
    stopping: AtomicBool,
}

/// Runs until it is dropped.
pub(crate) struct HubServer {
    address: SocketAddr,
    state: Arc<State>,
}

impl HubServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if let Ok(stream) = stream {
                        // A client that goes away is none of its business.
                        let _ = shared.serve(&stream, address);
                    }
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn put(&self, repo: &str, file: &str, bytes: impl Into<Vec<u8>>) {
        let mut repos = lock(&self.state.repos);
        let files = repos.entry(repo.to_owned()).or_default();
        files.insert(file.to_owned(), bytes.into());
    }

    /// All files of a folder, as a repository.
    pub(crate) fn put_folder(&self, repo: &str, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if let Some(name) = path.file_name().filter(|_| path.is_file()) {
                let bytes = fs::read(&path).expect("a file that can be read");
                self.put(repo, &name.to_string_lossy(), bytes);
            }
        }
    }

    pub(crate) fn gate(&self, repo: &str) {
        lock(&self.state.gated).push(repo.to_owned());
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        lock(&self.state.renamed).insert(from.to_owned(), to.to_owned());
    }

    /// From now on this comes instead, so many times.
    pub(crate) fn fault(&self, on: On, fault: Fault, times: usize) {
        lock(&self.state.faults).push((on, fault, times));
    }

    /// Nothing goes wrong any more, and who waits for the rest of something may ask again.
    pub(crate) fn heal(&self) {
        lock(&self.state.faults).clear();
        self.hang_up();
    }

    fn hang_up(&self) {
        for stream in lock(&self.state.stalled).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.state.asked))
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        self.hang_up();
        // So that it notices.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// The name of a file's content: large ones as LFS has it, others as git.
pub(crate) fn etag(name: &str, bytes: &[u8]) -> String {
    let digest = if is_large(name) {
        Sha256::digest(bytes).to_vec()
    } else {
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", bytes.len()));
        hash.update(bytes);
        hash.finalize().to_vec()
    };
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_large(name: &str) -> bool {
    name.ends_with(".safetensors") || name.ends_with(".gguf")
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl State {
    fn serve(&self, stream: &TcpStream, address: SocketAddr) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let mut headers = BTreeMap::new();
            loop {
                let mut header = String::new();
                reader.by_ref().take(8192).read_line(&mut header)?;
                let Some((name, value)) = header.trim_end().split_once(": ") else {
                    break;
                };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let asked = Asked {
                line: line.trim_end().to_owned(),
                range: headers.get("range").cloned(),
                encoding: headers.get("accept-encoding").cloned(),
                authorization: headers.get("authorization").cloned(),
            };
            lock(&self.asked).push(asked.clone());
            let mut words = line.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let path = path.split('?').next().unwrap();
            if !self.answer(stream, method == "HEAD", path, &asked, address)? {
                return Ok(());
            }
        }
    }

    /// Whether the connection is kept.
    fn answer(
        &self,
        stream: &TcpStream,
        head: bool,
        path: &str,
        asked: &Asked,
        address: SocketAddr,
    ) -> std::io::Result<bool> {
        let on = match (head, path.starts_with("/api/")) {
            (_, true) => On::List,
            (true, _) => On::Head,
            (false, _) => On::Body,
        };
        let redirects = path.contains("/resolve/") && is_large(path);
        // What goes wrong with a body goes wrong where it comes from.
        let fault = match on == On::Body && redirects {
            true => None,
            false => self.fault(on).or_else(|| {
                let large = path.starts_with("/cdn/");
                large.then(|| self.fault(On::Large)).flatten()
            }),
        };
        let answer = match &fault {
            Some(Fault::Status(status, headers, body)) => {
                let answer = Answer::new(*status).body(*body);
                let headers = headers
                    .split('|')
                    .filter_map(|header| header.split_once(": "));
                headers.fold(answer, |answer, (name, value)| {
                    let mut answer = answer;
                    answer.headers.push((name, value.to_owned()));
                    answer
                })
            }
            Some(Fault::Page) => Answer::new(200)
                .with("Content-Type", "text/html")
                .with("ETag", "\"page\"")
                .body("<html>come back later</html>"),
            fault => self.right(path, asked, address, fault.as_ref()),
        };
        send(stream, head, answer, fault.as_ref(), &self.stalled)
    }

    fn fault(&self, on: On) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let at = faults
            .iter()
            .position(|(when, _, left)| *when == on && *left > 0)?;
        faults[at].2 -= 1;
        Some(faults[at].1.clone())
    }

    fn right(
        &self,
        path: &str,
        asked: &Asked,
        address: SocketAddr,
        fault: Option<&Fault>,
    ) -> Answer {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let not_found = |code: &str| Answer::new(404).with("X-Error-Code", code);
        let known = asked.authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
        let repos = lock(&self.repos);
        match parts.as_slice() {
            ["api", "models", owner, name, "revision", _] => {
                let repo = format!("{owner}/{name}");
                if let Some(new) = lock(&self.renamed).get(&repo) {
                    let target = format!("/api/models/{new}/revision/main?blobs=true");
                    return Answer::new(307).with("Location", target);
                }
                match repos.get(&repo) {
                    Some(files) => list(&repo, files),
                    // The hub does not tell strangers what there is.
                    None if !known => Answer::new(401)
                        .with("X-Error-Message", "Invalid username or password.")
                        .body("Invalid username or password."),
                    None => not_found("RepoNotFound"),
                }
            }
            [owner, name, "resolve", commit, rest @ ..] => {
                let repo = format!("{owner}/{name}");
                if let Some(new) = lock(&self.renamed).get(&repo) {
                    let target = format!("/{new}/resolve/{commit}/{}", rest.join("/"));
                    return Answer::new(307).with("Location", target);
                }
                if lock(&self.gated).contains(&repo) && !known {
                    let answer = Answer::new(if asked.authorization.is_some() {
                        403
                    } else {
                        401
                    });
                    return answer.with("X-Error-Code", "GatedRepo");
                }
                let file = rest.join("/");
                let Some(bytes) = repos.get(&repo).and_then(|files| files.get(&file)) else {
                    return not_found("EntryNotFound");
                };
                let tag = format!("\"{}\"", etag(&file, bytes));
                let answer = Answer::new(302).with("X-Repo-Commit", COMMIT);
                if is_large(&file) {
                    return answer
                        .with("X-Linked-Etag", tag)
                        .with("X-Linked-Size", bytes.len())
                        .with("ETag", "\"x\"")
                        .with("Location", format!("http://{address}/cdn/{repo}/{file}"));
                }
                let mut answer = body(bytes, asked, fault).with("X-Repo-Commit", COMMIT);
                answer.headers.push(("ETag", tag));
                answer
            }
            ["cdn", owner, name, rest @ ..] => {
                let files = repos.get(&format!("{owner}/{name}"));
                let bytes = files.and_then(|files| files.get(&rest.join("/")));
                body(bytes.unwrap(), asked, fault).with("ETag", "\"cdn\"")
            }
            _ => not_found("EntryNotFound"),
        }
    }
}

fn list(repo: &str, files: &BTreeMap<String, Vec<u8>>) -> Answer {
    let siblings: Vec<String> = files
        .iter()
        .map(|(name, bytes)| format!("{{\"rfilename\":{name:?},\"size\":{}}}", bytes.len()))
        .collect();
    let siblings = siblings.join(",");
    let list = format!("{{\"id\":{repo:?},\"sha\":{COMMIT:?},\"siblings\":[{siblings}]}}");
    Answer::new(200)
        .with("Content-Type", "application/json")
        .body(list)
}

fn body(bytes: &[u8], asked: &Asked, fault: Option<&Fault>) -> Answer {
    let mut bytes = bytes.to_vec();
    if let (Some(Fault::Damage), Some(last)) = (fault, bytes.last_mut()) {
        *last ^= 1;
    }
    let range = asked
        .range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes="));
    let range = range.and_then(|range| range.split_once('-'));
    let from: Option<usize> = range.and_then(|(from, _)| from.parse().ok());
    let last = range.and_then(|(_, last)| last.parse::<usize>().ok());
    let end = last.map_or(bytes.len(), |last| (last + 1).min(bytes.len()));
    match (from, fault) {
        (Some(from), _) if from >= bytes.len() => {
            Answer::new(416).with("Content-Range", format!("bytes */{}", bytes.len()))
        }
        (Some(from), fault) if !matches!(fault, Some(Fault::IgnoreRange)) => {
            let said = match fault {
                Some(Fault::WrongRange) => 0,
                _ => from,
            };
            let range = format!("bytes {said}-{}/{}", end - 1, bytes.len());
            Answer::new(206)
                .with("Content-Range", range)
                .body(&bytes[from..end])
        }
        _ => Answer::new(200).body(bytes),
    }
}

fn send(
    mut stream: &TcpStream,
    head: bool,
    mut answer: Answer,
    fault: Option<&Fault>,
    stalled: &Mutex<Vec<TcpStream>>,
) -> std::io::Result<bool> {
    let unannounced = matches!(fault, Some(Fault::CutUnannounced(_) | Fault::Longer));
    let mut length = answer.body.len();
    if let Some(Fault::Shorter(count)) = fault {
        length = *count;
        answer.body.truncate(*count);
    }
    if let Some(Fault::Longer) = fault {
        answer.body.extend([b'x'; 1000]);
    }
    let mut text = format!("HTTP/1.1 {} x\r\n", answer.status);
    for (name, value) in &answer.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    match unannounced {
        true => text.push_str("Connection: close\r\n\r\n"),
        false => text.push_str(&format!("Content-Length: {length}\r\n\r\n")),
    }
    stream.write_all(text.as_bytes())?;
    if head {
        return Ok(true);
    }
    match fault {
        Some(Fault::Cut(count) | Fault::CutUnannounced(count)) => {
            let count = (*count).min(answer.body.len());
            stream.write_all(&answer.body[..count])?;
            stream.shutdown(Shutdown::Both)?;
            return Ok(false);
        }
        Some(Fault::Stall(count)) => {
            stream.write_all(&answer.body[..(*count).min(answer.body.len())])?;
            lock(stalled).push(stream.try_clone()?);
            return Ok(false);
        }
        _ => stream.write_all(&answer.body)?,
    }
    if unannounced {
        stream.shutdown(Shutdown::Both)?;
    }
    Ok(!unannounced)
}
