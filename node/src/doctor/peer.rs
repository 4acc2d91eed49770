//! Looks at a peer: who answers there, and how good the way is.

use super::client::{AskError, Client};
use super::facts::{Dialed, Identity, Peer, Source, View, Voice};
use super::http::{self, Web};
use super::link::{Transfer, Trips};
use exo_protocol::Json;
use exo_protocol::topology::EngineInfo;
use exo_protocol::wire::{Hello, Message, TopologyReply};
use serde_json::Value;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Time for a name to become addresses: nothing can hurry the system.
const NAME: Duration = Duration::from_secs(3);

/// Time to connect, for all addresses of a name together.
const CONNECT: Duration = Duration::from_millis(2500);

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Time for all round trips to one peer, each kind of them.
const TRIPS: Duration = Duration::from_millis(1500);

/// Round trips of the smallest message.
const SMALL: usize = 200;

/// Round trips with a hidden state's size, and that size: stalls show with it.
const HOPS: (usize, usize) = (100, 8 << 10);

/// Sizes that are sent, and how often. A health check of up to 1 MiB is read over by any node of
/// ours, and by a reference node at any size.
const SIZES: [(usize, usize); 3] = [(1 << 10, 9), (64 << 10, 5), (1 << 20, 3)];

/// Time for a message of any of these sizes: on a way of 3 Mbit/s the largest takes as long.
const TRANSFER: Duration = Duration::from_secs(3);

/// Who is there: everything but measurements, so that several can be looked at together.
pub(super) fn look(address: &str, source: Source) -> (Peer, Option<Client>) {
    let mut peer = Peer {
        address: address.to_owned(),
        source,
        dialed: Ok(Vec::new()),
        voice: None,
        view: None,
        trips: Trips::default(),
        hops: Trips::default(),
        transfers: Vec::new(),
        near: false,
    };
    let addresses = match resolve(address) {
        Ok(addresses) => addresses,
        Err(reason) => {
            peer.dialed = Err(reason);
            return (peer, None);
        }
    };
    let (dialed, client) = dial(&addresses);
    peer.dialed = Ok(dialed);
    let Some((reached, mut client)) = client else {
        return (peer, None);
    };
    let voice = listen(reached, &mut client, ANSWER);
    let is_node = matches!(voice, Voice::Own(_) | Voice::Reference);
    peer.voice = Some(voice);
    if !is_node {
        return (peer, None);
    }
    peer.view = view(&mut client);
    (peer, Some(client))
}

/// Measures the way to it. One at a time: measurements of two would disturb each other. Ends with
/// the first message that is lost, since its answer may still come.
pub(super) fn measure(peer: &mut Peer, client: &mut Client) {
    let (small, late) = trips(client, 0, SMALL);
    peer.trips = small;
    if late {
        return;
    }
    let (hops, late) = trips(client, HOPS.1, HOPS.0);
    peer.hops = hops;
    if late {
        let bytes = HOPS.1;
        return peer.transfers.push(Transfer { bytes, took: None });
    }
    for (bytes, times) in SIZES {
        let (until, mut all) = (Instant::now() + TRIPS, Vec::new());
        while all.len() < times && (all.is_empty() || Instant::now() < until) {
            match trip(client, bytes, TRANSFER) {
                Ok(took) => all.push(took),
                Err(_) => return peer.transfers.push(Transfer { bytes, took: None }),
            }
        }
        let took = Trips::new(all).median();
        peer.transfers.push(Transfer { bytes, took });
    }
}

/// Whoever answers at an address of this machine.
pub(super) fn voice(address: SocketAddr) -> Option<Voice> {
    let mut client = Client::connect(address, ANSWER).ok()?;
    Some(listen(address, &mut client, ANSWER))
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    let (sender, resolved) = mpsc::channel();
    let name = address.to_owned();
    thread::Builder::new()
        .name("name".to_owned())
        .spawn(move || {
            let found = name.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            let _ = sender.send(found.map_err(|error| error.to_string()));
        })
        .map_err(|error| error.to_string())?;
    match resolved.recv_timeout(NAME) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err("the name has no address".to_owned()),
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer in {} s", NAME.as_secs())),
    }
}

type Reached = Option<(SocketAddr, Client)>;

/// Tries addresses until one takes the connection.
fn dial(addresses: &[SocketAddr]) -> (Vec<(SocketAddr, Dialed)>, Reached) {
    let (mut dialed, until) = (Vec::new(), Instant::now() + CONNECT);
    for (tried, &address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let begun = Instant::now();
        let patience = until.saturating_duration_since(begun) / left;
        match Client::connect(address, patience.max(Duration::from_millis(10))) {
            Ok(client) => {
                dialed.push((address, Dialed::Connected(begun.elapsed())));
                return (dialed, Some((address, client)));
            }
            Err(error) => dialed.push((address, failed(&error))),
        }
    }
    (dialed, None)
}

fn failed(error: &io::Error) -> Dialed {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Dialed::Refused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Dialed::TimedOut,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Dialed::Unreachable
        }
        ErrorKind::PermissionDenied => Dialed::Forbidden,
        _ => Dialed::Failed(error.to_string()),
    }
}

/// What answers to a question of a node.
fn listen(address: SocketAddr, client: &mut Client, patience: Duration) -> Voice {
    match client.identify(patience) {
        Ok(exo) => match exo.as_ref().and_then(identity) {
            Some(identity) => Voice::Own(identity),
            None => Voice::Reference,
        },
        Err(error) => match strange(client.first()) {
            // The same again, so that it can say which node's API it is; or what waits for the rest
            // of a line that never comes.
            Some(Voice::Http(_)) | None => match http::status(address, None, patience) {
                Some(Web::Node(status)) => {
                    let node = status.get("node_id").and_then(Value::as_str);
                    Voice::Http(node.map(str::to_owned))
                }
                Some(Web::Locked) => Voice::Locked,
                Some(Web::Other) => Voice::Http(None),
                None if matches!(error, AskError::Late(_)) => Voice::Silent,
                None => Voice::Closes,
            },
            Some(voice) => voice,
        },
    }
}

/// What the first bytes of a strange answer tell; `None` if there are none.
fn strange(first: &[u8]) -> Option<Voice> {
    match first {
        [] => None,
        // A TLS alert: our question was no greeting of it.
        [0x15, 3, ..] => Some(Voice::Tls),
        _ if first.starts_with(b"HTTP/") => Some(Voice::Http(None)),
        _ if first.starts_with(b"SSH-") => Some(Voice::Ssh),
        _ => Some(Voice::Other(first.to_vec())),
    }
}

fn identity(exo: &Json) -> Option<Identity> {
    let hello = Hello::from_json(exo)?;
    Some(Identity {
        node: hello.node_id,
        incarnation: hello.incarnation,
        version: hello.version,
        engine: exo.get("engine").and_then(EngineInfo::from_json),
    })
}

fn view(client: &mut Client) -> Option<View> {
    let message = Message::CollectTopologyRequest {
        visited: Vec::new(),
        max_depth: 4,
    };
    let reply = client.ask(&message, ANSWER, |message| match message {
        Message::CollectTopologyResponse(reply) => Some(reply),
        _ => None,
    });
    reply.ok().map(told)
}

fn told(reply: TopologyReply) -> View {
    let mut nodes = reply.nodes.into_iter();
    let (node, machine) = nodes.next().unzip();
    View {
        node,
        machine,
        peers: nodes.map(|(id, _)| id).collect(),
    }
}

/// So many trips, or fewer if they take long; and whether one of them was lost.
fn trips(client: &mut Client, bytes: usize, count: usize) -> (Trips, bool) {
    let (until, mut all) = (Instant::now() + TRIPS, Vec::new());
    while all.len() < count && Instant::now() < until {
        match trip(client, bytes, ANSWER) {
            Ok(took) => all.push(took),
            Err(_) => return (Trips::new(all), true),
        }
    }
    (Trips::new(all), false)
}

/// One health check with a payload of this size, which says nothing.
fn trip(client: &mut Client, bytes: usize, patience: Duration) -> Result<Duration, AskError> {
    let payload = vec![b' '; bytes].into();
    let message = Message::HealthCheckRequest { payload };
    let begun = Instant::now();
    client.ask(&message, patience, |message| {
        matches!(message, Message::HealthCheckResponse { .. }).then_some(())
    })?;
    Ok(begun.elapsed())
}
