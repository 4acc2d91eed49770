//! `exo-node trace`: what a token's way through the ring costs, stage by stage.

use super::AsideError;
use super::api::Api;
use crate::cli::{Args, UsageError};
use crate::random;
use crate::terminal::printable;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Tokens of the answer if nobody says how many.
const TOKENS: u32 = 64;

/// The table of a request that was traced, or of one that is asked now.
pub(super) fn trace(args: &Args, words: &[&str], api: &Api) -> Result<String, AsideError> {
    let id = match (words, &args.prompt) {
        (&[id], None) => id.to_owned(),
        (&[], Some(prompt)) => ask(args, prompt, api)?,
        _ => {
            let message = "trace needs the id of a request that was sent with X-Exo-Trace: 1, or \
                           --prompt TEXT";
            return Err(UsageError(message.into()).into());
        }
    };
    let (status, value) = api.get(&format!("/v1/trace/{id}"))?;
    if status != 200 {
        return Err(api.refused("/v1/trace", status, &value));
    }
    Ok(match args.json {
        true => format!("{value:#}\n"),
        false => table(&value),
    })
}

/// Asks the node, and waits for the answer; gives the request's id.
fn ask(args: &Args, prompt: &str, api: &Api) -> Result<String, AsideError> {
    let id = random::uuid();
    let mut question = json!({
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": args.max_tokens.unwrap_or(TOKENS),
    });
    if let Some(model) = &args.model {
        question["model"] = json!(model);
    }
    let path = "/v1/chat/completions";
    let (status, value) = api.post_traced(path, &question, &id)?;
    if status != 200 {
        return Err(api.refused(path, status, &value));
    }
    Ok(id)
}

fn table(value: &Value) -> String {
    let mut out = String::new();
    let word = |value: &Value| printable(value.as_str().unwrap_or("?"));
    let stages = value["stages"].as_array().map_or(&[][..], Vec::as_slice);
    // Writing into a String cannot fail.
    let _ = writeln!(
        out,
        "request {}, {}: {} tokens over {} {}, {}, {} ms to the first",
        word(&value["id"]),
        word(&value["model"]),
        value["tokens"],
        stages.len(),
        if stages.len() == 1 { "stage" } else { "stages" },
        word(&value["state"]),
        number(&value["first_token_ms"]),
    );
    let columns = ["wait", "compute", "write", "wire"];
    let _ = write!(
        out,
        "\n{:<20} {:>9} {:>6}",
        "milliseconds", "layers", "steps"
    );
    for column in columns {
        let _ = write!(out, " {:>17}", format!("{column} p50/p99"));
    }
    let _ = writeln!(out);
    for stage in stages {
        let layers = format!("{}-{}", stage["start"], stage["end"]);
        let node = word(&stage["node_id"]);
        let _ = write!(
            out,
            "{node:<20} {layers:>9} {:>6}",
            stage["steps"].to_string()
        );
        for column in columns {
            let _ = write!(out, " {:>17}", both(&stage[format!("{column}_ms")]));
        }
        let _ = writeln!(out);
    }
    let (sum, measured) = (&value["sum_ms"], &value["inter_token_ms"]);
    let _ = writeln!(out, "\nsum over the stages    {}", both(sum));
    let _ = writeln!(
        out,
        "from token to token    {}, as measured here",
        both(measured)
    );
    if let (Some(sum), Some(measured)) = (sum["p50"].as_f64(), measured["p50"].as_f64()) {
        let rest = measured - sum;
        let _ = match rest < 0.0 {
            false => writeln!(out, "not accounted for      {rest:.3} of the median"),
            // Where nodes share a machine, the one that was woken takes the processor from the write.
            true => writeln!(
                out,
                "at the same time       {:.3} of the median: what a stage sends is read before its \
                 write ends",
                -rest
            ),
        };
    }
    out
}

fn number(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |number| format!("{number:.3}"))
}

fn both(value: &Value) -> String {
    format!("{}/{}", number(&value["p50"]), number(&value["p99"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_a_table() {
        let spread = |p50: f64| json!({"count": 3, "p50": p50, "p99": 2.0 * p50});
        let value = json!({
            "id": "mine", "model": "m", "tokens": 3, "state": "finished", "first_token_ms": 12.5,
            "stages": [{
                "node_id": "no\u{1b}de", "start": 0, "end": 7, "steps": 3, "wait_ms": spread(0.25),
                "compute_ms": spread(4.0), "write_ms": spread(0.125), "wire_ms": spread(0.5),
            }],
            "sum_ms": spread(4.875),
            "inter_token_ms": spread(5.0),
        });
        let mut at_once = value.clone();
        at_once["sum_ms"] = spread(5.5);
        let at_once = table(&at_once);
        assert!(
            at_once.contains("at the same time       0.500"),
            "{at_once}"
        );
        assert!(!at_once.contains("not accounted"), "{at_once}");
        let text = table(&value);
        for words in [
            "request mine, m: 3 tokens over 1 stage, finished, 12.500 ms to the first",
            "node                       0-7      3       0.250/0.500       4.000/8.000",
            "sum over the stages    4.875/9.750",
            "from token to token    5.000/10.000",
            "not accounted for      0.125",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        let nothing = table(&json!({"stages": [], "sum_ms": spread(0.0)}));
        assert!(nothing.contains("-/-"), "{nothing}");
    }
}
