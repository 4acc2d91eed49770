//! What the API adds to each token: the same node of this process, asked with and without it.

use crate::client::Client;
use exo_models::ChatMessage;
use exo_node::answer::Progress;
use exo_node::api::server::{self, Server};
use exo_node::app::{App, Started};
use exo_node::ask::{Ask, Input};
use exo_node::cli::{self, Parsed};
use exo_node::settings::Settings;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROMPT: &str = "Tell me a story about a fox.";

/// Answers of each kind, in turn, so that a busy machine is busy for both.
const ROUNDS: usize = 8;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn measure() {
    let words = "--node-id alone --inference-engine cpu --discovery-module none";
    let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
    let Ok(Parsed::Args(args)) = cli::parse(&words) else {
        panic!("these are flags")
    };
    let settings = Settings::new(&args, false).expect("settings");
    let started = App::start(&settings).expect("a node");
    let listener = server::bind("127.0.0.1", 0).expect("a port");
    let api = listener.local_addr().expect("an address");
    let app = Arc::clone(&started.app);
    let server = Server::start(listener, app, settings.access.clone(), settings.guard());
    let server = server.expect("an API");
    let mut client = Client::connect(api);
    let (mut bare, mut served) = (Vec::new(), Vec::new());
    // The first one loads the model.
    let _ = direct(&started);
    for _ in 0..ROUNDS {
        bare.extend(direct(&started));
        served.extend(over_http(&mut client));
    }
    println!("between two tokens | p50 | p99 | count");
    let [bare, served] = [("ring alone", bare), ("over the API", served)].map(|(name, gaps)| {
        let count = gaps.len();
        let (half, most) = percentiles(gaps);
        println!("{name:18} | {half:?} | {most:?} | {count}");
        (half, most)
    });
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64().max(1e-9);
    println!(
        "the API takes {:.2} times as long at p50, {:.2} times at p99",
        ratio(served.0, bare.0),
        ratio(served.1, bare.1)
    );
    drop(server);
    started.shutdown(Duration::from_secs(2));
}

/// Gaps between the pieces of an answer that is asked for without HTTP.
fn direct(started: &Started) -> Vec<Duration> {
    let ask = Ask {
        input: Input::from(vec![ChatMessage::new("user", PROMPT)]),
        temperature: Some(0.0),
        ..Ask::default()
    };
    let mut answer = started
        .app
        .ask(&ask, &Default::default())
        .expect("an answer");
    let (mut gaps, mut last) = (Vec::new(), None);
    loop {
        match answer.next_of(PATIENCE).1 {
            Progress::Text(_) => gaps.extend(gap(&mut last)),
            Progress::Finished(_) => return gaps,
            other => panic!("{other:?}"),
        }
    }
}

fn over_http(client: &mut Client) -> Vec<Duration> {
    let body = json!({
        "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "stream": true,
    });
    client.send("POST", "/v1/chat/completions", &body.to_string());
    assert_eq!(client.head(), 200);
    let (mut gaps, mut last) = (Vec::new(), None);
    while let Some(chunk) = client.chunk() {
        // What was said while this side did not read comes together: no time between them.
        let pieces = chunk.matches("\"content\":\"").count();
        let pieces = pieces - chunk.matches("\"role\"").count().min(pieces);
        for _ in 0..pieces {
            gaps.extend(gap(&mut last));
        }
    }
    gaps
}

fn gap(last: &mut Option<Instant>) -> Option<Duration> {
    let now = Instant::now();
    last.replace(now).map(|last| now - last)
}

fn percentiles(mut gaps: Vec<Duration>) -> (Duration, Duration) {
    gaps.sort_unstable();
    let at = |share: f64| {
        let index = (gaps.len() as f64 * share) as usize;
        let last = gaps.len().saturating_sub(1);
        gaps.get(index.min(last)).copied().unwrap_or_default()
    };
    (at(0.5), at(0.99))
}
