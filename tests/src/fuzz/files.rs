//! Files that people write or download.

use exo_models::gguf::Gguf;
use exo_protocol::NodeId;
use exo_protocol::discovery::announcement::Announcement;
use exo_protocol::discovery::tcp::{self, Announce, Reader};
use exo_protocol::discovery::{manual, tailscale};

/// Any bytes as whatever discovery reads: no panic, and what is accepted can be printed and dialled.
pub fn discovery(data: &[u8]) {
    announcements(data);
    tailnet(data);
    if let Ok(peers) = manual::parse(data) {
        for peer in peers {
            let port = peer
                .address
                .rsplit_once(':')
                .map(|(_, port)| port.parse::<u16>());
            assert!(
                matches!(port, Some(Ok(1..))),
                "{:?} cannot be dialled",
                peer.address
            );
        }
    }
}

fn announcements(data: &[u8]) {
    let (mut whole, mut pieces) = (Reader::default(), Reader::default());
    let done = whole.push(data);
    let done_too = data.chunks(7).fold(false, |_, piece| pieces.push(piece));
    assert!(
        done == done_too || data.is_empty(),
        "cutting changes nothing"
    );
    let bytes = whole.finish();
    assert_eq!(bytes, pieces.finish());
    assert!(bytes.len() <= tcp::MAX_LEN + 1);
    let said = [Announce::decode(&bytes), Announce::decode_answer(&bytes)];
    for said in said.into_iter().flatten() {
        assert!(NodeId::is_fit(&said.node) && said.port > 0);
        assert_eq!(Announce::decode(&said.encode()).as_ref(), Ok(&said));
    }
    if let Ok(said) = Announcement::decode(data) {
        assert!(NodeId::is_fit(&said.node) && said.port > 0);
    }
}

fn tailnet(data: &[u8]) {
    let _ = tailscale::status(data);
    let _ = tailscale::devices(data, 1_740_830_400);
    if let Ok(Some(said)) = tailscale::attributes(data) {
        assert!(NodeId::is_fit(&said.node) && said.port > 0);
    }
}

/// Any bytes as a GGUF file: no panic, and no memory by announced sizes (the fuzzer's limit tells).
pub fn gguf(data: &[u8]) {
    let _ = Gguf::parse(data);
}
