//! Files that people write or download.

use exo_models::gguf::Gguf;
use exo_protocol::discovery::manual;

/// Any text as a discovery file: no panic, and what is accepted has an address to dial.
pub fn discovery(data: &[u8]) {
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

/// Any bytes as a GGUF file: no panic, and no memory by announced sizes (the fuzzer's limit tells).
pub fn gguf(data: &[u8]) {
    let _ = Gguf::parse(data);
}
