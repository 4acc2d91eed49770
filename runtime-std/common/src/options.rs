//! What drivers are told.

use exo_protocol::record::Recorder;
use socket2::Socket;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a runtime needs to know besides the node's own [`Config`](exo_protocol::Config).
#[derive(Debug)]
pub struct Options {
    /// Where to accept connections, `host:port`; port 0 takes any. Nowhere when absent.
    pub listen: Option<String>,
    /// The file that manual discovery reads.
    pub discovery_file: Option<PathBuf>,
    /// The UDP port where announcements of other nodes come; nowhere when absent.
    pub announcements: Option<u16>,
    /// Commands that lead to peers: what the node dials for each
    /// ([`COMMAND`](exo_protocol::config::COMMAND)), and the program with its arguments. Nothing else
    /// is ever started.
    pub commands: BTreeMap<String, Vec<String>>,
    /// A connection that is there already, with words for what is at its other end.
    pub accepted: Option<(Socket, String)>,
    /// The TCP port where other nodes announce themselves; nowhere when absent.
    pub visitors: Option<u16>,
    /// How many inputs may wait for the node before readers stop reading and commands are refused.
    pub inbox: usize,
    /// Takes down what the node is told.
    pub record: Option<Recorder>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: None,
            discovery_file: None,
            announcements: None,
            commands: BTreeMap::new(),
            accepted: None,
            visitors: None,
            inbox: 1024,
            record: None,
        }
    }
}
