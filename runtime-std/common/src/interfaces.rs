//! This machine's addresses.

use exo_protocol::Input;
use exo_protocol::discovery::interface::Interface;
use if_addrs::{IfAddr, Ifv4Addr};
use std::net::Ipv4Addr;

/// The answer to [`Output::ListInterfaces`](exo_protocol::Output::ListInterfaces). The system has
/// it at hand.
#[must_use]
pub fn list() -> Input {
    let all = if_addrs::get_if_addrs().map_err(|error| error.to_string());
    Input::Interfaces(all.map(|all| {
        let v4 = all.into_iter().filter_map(|found| match found.addr {
            IfAddr::V4(address) => Some((found.name, address)),
            IfAddr::V6(_) => None,
        });
        v4.map(|(name, address)| Interface {
            name,
            address: address.ip,
            broadcast: broadcast(&address),
        })
        .collect()
    }))
}

/// Where broadcasts of the address' subnet go: the loopback interface has an address for them too,
/// though the system may not say so.
fn broadcast(address: &Ifv4Addr) -> Option<Ipv4Addr> {
    let computed = || address.ip | !address.netmask;
    let alone = address.netmask == Ipv4Addr::BROADCAST;
    address.broadcast.or_else(|| (!alone).then(computed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_addresses() {
        let Input::Interfaces(Ok(interfaces)) = list() else {
            panic!("no interfaces");
        };
        let loopback = interfaces.iter().find(|i| i.address == Ipv4Addr::LOCALHOST);
        let broadcast = loopback.expect("loopback is there").broadcast;
        assert_eq!(broadcast, Some(Ipv4Addr::new(127, 255, 255, 255)));
    }
}
