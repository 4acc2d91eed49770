//! Peers behind commands, by the command line.

use super::{SettingsError, usage};
use crate::cli::Args;
use crate::words;
use exo_protocol::config::{COMMAND, DirectPeer};
use std::collections::BTreeMap;

/// For each address that the node dials, the program with its arguments.
pub type Commands = BTreeMap<String, Vec<String>>;

/// The commands, and the peers that they lead to.
pub(super) fn commands(args: &Args) -> Result<(Commands, Vec<DirectPeer>), SettingsError> {
    let mut commands = Commands::new();
    let mut peers = Vec::new();
    for text in &args.peer_command {
        let command = words::split(text)
            .map_err(|problem| usage(format!("--peer-command {text:?}: {problem}")))?;
        let address = format!("{COMMAND}{}", text.trim());
        if commands.insert(address.clone(), command).is_some() {
            return Err(usage(format!("--peer-command {text:?} is given twice")));
        }
        let node = None;
        peers.push(DirectPeer { address, node });
    }
    Ok((commands, peers))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{error, of};
    use exo_protocol::config::Discovery;

    #[test]
    fn a_command_is_a_peer() {
        let line = "ssh -p 22 'a b' exo-node connect --stdio";
        let words = ["--node-id", "a", "--peer-command", line];
        let settings = of(&words).expect("a command");
        let address = format!("command {line}");
        let peer = settings.discovery.direct.first().map(|peer| &peer.address);
        assert_eq!(peer, Some(&address));
        let command = settings.commands.get(&address).expect("it is in the table");
        assert_eq!(command[..5], ["ssh", "-p", "22", "a b", "exo-node"]);
        // Nobody is looked for besides.
        assert!(settings.discovery.broadcast.is_none());
        let both = [&words[..], &["--discovery-module", "udp"]].concat();
        let both = of(&both).expect("both").discovery;
        assert!(both.broadcast.is_some() && both.direct.len() == 1);
        assert_eq!(of(&["--node-id", "a"]).expect("none").commands.len(), 0);
        let none = of(&["--node-id", "a", "--discovery-module", "none"]);
        assert_eq!(none.expect("none").discovery, Discovery::default());
    }

    #[test]
    fn a_bad_command_is_told() {
        let told = error("--peer-command 'x");
        assert_eq!(told, "--peer-command \"'x\": a quote ' is not closed");
        let told = error("--peer-command x --peer-command x");
        assert_eq!(told, "--peer-command \"x\" is given twice");
    }
}
