//! What nodes tell each other of their downloads.

use super::net::Net;
use crate::config::Config;
use crate::id::{ConnectionId, DialId};
use crate::node::*;
use crate::shard::Shard;
use crate::topology::Capabilities;
use crate::wire::{Download, DownloadState, Message};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::time::Duration;

fn download(start: u32, done: u64) -> Download {
    Download {
        shard: Shard {
            model: "me/tiny".into(),
            start,
            end: start,
            layers: 100,
        },
        state: DownloadState::Coming,
        done,
        total: 100,
        speed: 10,
    }
}

fn over(start: u32, state: DownloadState) -> Download {
    let coming = download(start, 50);
    Download { state, ..coming }
}

fn tell(net: &mut Net, index: usize, download: Download) {
    net.input(index, Input::Command(Command::Downloading(download)));
}

/// What one node shows of another's downloads.
fn shown(net: &Net, at: usize, of: &str) -> Vec<Download> {
    let peers = net.hosts[at].node.status().peers.into_iter();
    let peers = peers.filter(|peer| peer.node.as_deref() == Some(of));
    peers.flat_map(|peer| peer.downloads).collect()
}

/// How often that was told since the last look.
fn told(net: &mut Net) -> usize {
    let sent = core::mem::take(&mut net.sent).into_iter();
    let status = |message: &Message| matches!(message, Message::SendOpaqueStatus { .. });
    sent.filter(|(_, _, message)| status(message)).count()
}

#[test]
fn everybody_hears_how_far_it_is() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    tell(&mut net, 0, download(0, 1));
    for at in [1, 2] {
        assert_eq!(shown(&net, at, "n0"), [download(0, 1)]);
    }
    assert_eq!(shown(&net, 1, "n2"), []);
    assert_eq!(net.hosts[0].node.status().downloads, [download(0, 1)]);
    assert_eq!(told(&mut net), 2);
    // However often it changes, it is told once in a second, and then as it is.
    for done in 2..50 {
        tell(&mut net, 0, download(0, done));
    }
    assert_eq!(told(&mut net), 0);
    net.advance(Duration::from_millis(1100));
    assert_eq!(told(&mut net), 2);
    assert_eq!(shown(&net, 1, "n0"), [download(0, 49)]);
    // Its end is told at once, and others of the same model are not meant by it.
    tell(&mut net, 0, download(7, 1));
    let failed = DownloadState::Failed("no space".into());
    tell(&mut net, 0, over(0, failed.clone()));
    assert_eq!(shown(&net, 2, "n0"), [download(7, 1), over(0, failed)]);
    assert_eq!(net.hosts[0].node.status().downloads, [download(7, 1)]);
    // The next attempt takes its place.
    tell(&mut net, 0, download(0, 51));
    assert_eq!(shown(&net, 2, "n0"), [download(7, 1), download(0, 51)]);
    net.at_rest();
}

#[test]
fn who_comes_later_hears_of_it_and_who_goes_is_forgotten() {
    let mut net = Net::mesh(&[1000, 1000]);
    net.down = vec![1];
    net.advance(Duration::from_secs(5));
    tell(&mut net, 0, download(0, 1));
    tell(&mut net, 0, download(1, 9));
    tell(&mut net, 0, over(1, DownloadState::Here));
    net.down.clear();
    net.advance(Duration::from_secs(60));
    assert_eq!(shown(&net, 1, "n0"), [download(0, 1)]);
    net.kill(0);
    net.advance(Duration::from_secs(60));
    assert_eq!(shown(&net, 1, "n0"), []);
}

#[test]
fn one_that_stands_still_is_told_again_and_one_that_nobody_tells_of_is_forgotten() {
    let mut net = Net::settled(&[1000, 1000]);
    tell(&mut net, 0, download(0, 1));
    told(&mut net);
    net.advance(Duration::from_secs(100));
    assert_eq!(shown(&net, 1, "n0"), [download(0, 1)]);
    assert_eq!(told(&mut net), 10);
    // A word that was lost, as the reference loses them, is no reason to show it for ever.
    net.hosts[0].node.downloads = Default::default();
    net.advance(Duration::from_secs(60));
    assert_eq!(shown(&net, 1, "n0"), []);
}

#[test]
fn there_is_a_limit_to_what_is_told_and_kept() {
    let mut net = Net::settled(&[1000, 1000]);
    for start in 0..100 {
        tell(&mut net, 0, over(start, DownloadState::Stopped));
    }
    let kept = shown(&net, 1, "n0");
    assert_eq!(kept.len(), 32);
    assert_eq!(kept.last(), Some(&over(99, DownloadState::Stopped)));
    told(&mut net);
    for start in 0..100 {
        tell(&mut net, 0, download(start, 1));
    }
    assert_eq!(net.hosts[0].node.status().downloads.len(), 32);
    assert_eq!(told(&mut net), 32);
    assert_eq!(shown(&net, 1, "n0").len(), 32);
}

#[test]
fn nobody_speaks_for_another_node() {
    let mut net = Net::settled(&[1000, 1000, 1000]);
    let connection = net.hosts[0].node.connection_to("n1").expect("it is up");
    for node in ["n2", "n0", "nobody"] {
        let message = Message::SendOpaqueStatus {
            request_id: None,
            status: download(0, 1).to_status(&node.into()),
        };
        let bytes = 9;
        let came = Input::Received {
            connection,
            message,
            bytes,
        };
        net.input(0, came);
    }
    for node in ["n1", "n2"] {
        assert_eq!(shown(&net, 0, node), []);
    }
}

/// A node with one reference peer, `ref`, and its connection to that one.
fn beside_the_reference() -> (Node, ConnectionId) {
    let mut config = Config::new("a".into(), Capabilities::unknown());
    config.discovery.file = true;
    let mut node = Node::new(config, 1, Instant::ZERO);
    let connection = ConnectionId(1);
    let file = br#"{"peers": {"ref": {"address": "host:1"}}}"#;
    take(
        &mut node,
        Input::DiscoveryFile(Ok(Bytes::from_static(file))),
    );
    let opened = Input::Opened {
        connection,
        origin: Origin::Dialed(DialId(1)),
        remote: String::from("host:1"),
    };
    take(&mut node, opened);
    let message = Message::HealthCheckResponse {
        is_healthy: true,
        exo: None,
    };
    receive(&mut node, connection, message);
    assert!(node.status().peers[0].up);
    (node, connection)
}

fn take(node: &mut Node, input: Input) -> Vec<Message> {
    node.handle_timeout(Instant::ZERO);
    node.handle_input(Instant::ZERO, input);
    let outputs = core::iter::from_fn(|| node.poll_output());
    let sent = outputs.filter_map(|output| match output {
        Output::Send { message, .. } => Some(message),
        _ => None,
    });
    sent.collect()
}

fn receive(node: &mut Node, connection: ConnectionId, message: Message) {
    let bytes = 9;
    let came = Input::Received {
        connection,
        message,
        bytes,
    };
    take(node, came);
}

#[test]
fn reference_nodes_are_told_and_tell() {
    let (mut node, connection) = beside_the_reference();
    let sent = take(
        &mut node,
        Input::Command(Command::Downloading(download(0, 1))),
    );
    let status = download(0, 1).to_status(&"a".into());
    let wanted = Message::SendOpaqueStatus {
        request_id: Some(String::new()),
        status,
    };
    assert_eq!(sent.last(), Some(&wanted));
    // The reference opens another connection for what it has to say.
    let inbound = ConnectionId(2);
    let opened = Input::Opened {
        connection: inbound,
        origin: Origin::Accepted,
        remote: String::from("host:5"),
    };
    take(&mut node, opened);
    for connection in [inbound, connection] {
        let message = Message::SendOpaqueStatus {
            request_id: Some(String::new()),
            status: download(4, 20).to_status(&"ref".into()),
        };
        receive(&mut node, connection, message);
        assert_eq!(node.status().peers[0].downloads, [download(4, 20)]);
    }
}
