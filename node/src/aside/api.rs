//! The API of the node that runs here.

use super::{AsideError, key_error};
use crate::cli::Args;
use crate::settings::own_key;
use crate::terminal::printable;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;
use ureq::{Agent, RequestBuilder};

/// Asks a node.
pub(super) struct Api {
    base: String,
    agent: Agent,
    /// What the node wants of its clients.
    authorization: Option<String>,
}

/// The key is secret.
impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Somebody who is there begins to answer by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node says is shorter.
const LONGEST: u64 = 8 << 20;

impl Api {
    /// The one that these flags would start, with the key that they give.
    pub(super) fn new(args: &Args) -> Result<Self, AsideError> {
        let key = own_key(args).map_err(key_error)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_connect(Some(PATIENCE))
            .build();
        Ok(Self {
            base: base(&args.chatgpt_api_host, args.chatgpt_api_port),
            agent: config.into(),
            authorization: key.map(|key| format!("Bearer {key}")),
        })
    }

    /// `GET`: the status, and the JSON that came.
    pub(super) fn get(&self, path: &str) -> Result<(u16, Value), AsideError> {
        let url = format!("{}{path}", self.base);
        let request = self.with_key(self.agent.get(&url));
        let request = request
            .config()
            .timeout_recv_response(Some(PATIENCE))
            .build();
        let answer = request.call().map_err(|error| self.nobody(&error))?;
        self.read(answer)
    }

    /// `POST` of a question that is to be traced under this id, however long its answer takes.
    pub(super) fn post_traced(
        &self,
        path: &str,
        document: &Value,
        id: &str,
    ) -> Result<(u16, Value), AsideError> {
        let request = self.with_key(self.agent.post(format!("{}{path}", self.base)));
        let request = request.header("Content-Type", "application/json");
        let request = request
            .header("X-Request-Id", id)
            .header("X-Exo-Trace", "1");
        let answer = request.send(document.to_string().as_bytes());
        self.read(answer.map_err(|error| self.nobody(&error))?)
    }

    /// An answer that is none.
    pub(super) fn refused(&self, path: &str, status: u16, value: &Value) -> AsideError {
        let message = value["error"]["message"].as_str().unwrap_or("nothing more");
        let (url, message) = (format!("{}{path}", self.base), printable(message));
        match status {
            401 => AsideError::Locked { url, message },
            _ => AsideError::Refused {
                url,
                status,
                message,
            },
        }
    }

    fn with_key<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("Authorization", value),
            None => request,
        }
    }

    fn read(
        &self,
        mut answer: ureq::http::Response<ureq::Body>,
    ) -> Result<(u16, Value), AsideError> {
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(LONGEST);
        let body = body.read_to_vec().map_err(|error| self.nobody(&error))?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    fn nobody(&self, error: &ureq::Error) -> AsideError {
        AsideError::Nobody {
            url: self.base.clone(),
            reason: error.to_string(),
        }
    }
}

/// Where a node that serves at `host` is reached from its own machine.
fn base(host: &str, port: u16) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => format!("http://127.0.0.1:{port}"),
        Ok(IpAddr::V6(address)) if address.is_unspecified() => format!("http://[::1]:{port}"),
        Ok(IpAddr::V6(address)) => format!("http://[{address}]:{port}"),
        _ => format!("http://{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_serves_everywhere_is_reached_here() {
        assert_eq!(base("0.0.0.0", 1), "http://127.0.0.1:1");
        assert_eq!(base("[::]", 2), "http://[::1]:2");
        assert_eq!(base("fe80::1", 3), "http://[fe80::1]:3");
        assert_eq!(base("box.local", 4), "http://box.local:4");
    }
}
