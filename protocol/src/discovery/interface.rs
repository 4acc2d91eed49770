//! Network interfaces: what kind they are, by their names, and where each one's broadcasts go.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// An address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The system's name for it, such as `en0`.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Where its subnet's broadcasts go, where the system tells.
    pub broadcast: Option<Ipv4Addr>,
}

/// How fast an interface usually is, and what it is called: the reference's table, which goes by
/// names alone. Of two ways to a peer the one with the higher number is tried first.
#[must_use]
pub fn kind(name: &str) -> (i64, &'static str) {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let wireless = begins(&["wlan", "wifi", "wl"]) || matches!(name, "en0" | "en1");
    if begins(&["docker", "br-", "veth", "cni", "flannel", "calico", "weave"])
        || name.contains("bridge")
    {
        (7, "Container Virtual")
    } else if begins(&["lo"]) {
        (6, "Loopback")
    } else if begins(&["tb", "nx", "ten"]) {
        (5, "Thunderbolt")
    } else if begins(&["eth", "en"]) && !begins(&["en0", "en1"]) {
        (4, "Ethernet")
    } else if wireless {
        (3, "WiFi")
    } else if begins(&["tun", "tap", "vtun", "utun", "gif", "stf", "awdl", "llw"]) {
        (1, "External Virtual")
    } else {
        (2, "Other")
    }
}

impl Interface {
    /// Where an announcement over it goes: its subnet, and whoever listens on the same wire with
    /// another idea of the subnet.
    #[must_use]
    pub fn targets(&self) -> Vec<Ipv4Addr> {
        let mut targets = Vec::new();
        targets.extend(self.broadcast);
        if !targets.contains(&Ipv4Addr::BROADCAST) {
            targets.push(Ipv4Addr::BROADCAST);
        }
        targets
    }

    /// The order in which the reference announces: link-local addresses first, then private ones,
    /// public ones, and the machine itself.
    #[must_use]
    pub fn order(&self) -> u8 {
        if self.address.is_link_local() {
            0
        } else if self.address.is_private() {
            1
        } else if self.address.is_loopback() {
            3
        } else {
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn names_tell_kinds_as_in_the_reference() {
        for (names, expected) in [
            (
                &["docker0", "br-1f", "veth9a", "bridge0", "mybridge"][..],
                (7, "Container Virtual"),
            ),
            (&["lo", "lo0"], (6, "Loopback")),
            (&["tb0", "nx1", "ten2"], (5, "Thunderbolt")),
            (&["eth0", "enp3s0", "eno1", "ens5", "en5"], (4, "Ethernet")),
            (&["wlan0", "wlp2s0", "wifi0", "en0", "en1"], (3, "WiFi")),
            (&["tun0", "utun3", "awdl0"], (1, "External Virtual")),
            (
                &[
                    "en10",
                    "en11",
                    "virbr0",
                    "ppp0",
                    "bond0",
                    "tailscale0",
                    "wg0",
                    "ib0",
                ],
                (2, "Other"),
            ),
        ] {
            for name in names {
                assert_eq!(kind(name), expected, "{name}");
            }
        }
    }

    #[test]
    fn announcements_go_to_the_subnet_and_to_everybody() {
        let mut interface = Interface {
            name: "eth0".into(),
            address: Ipv4Addr::new(10, 0, 0, 7),
            broadcast: Some(Ipv4Addr::new(10, 0, 0, 255)),
        };
        let (subnet, all) = (Ipv4Addr::new(10, 0, 0, 255), Ipv4Addr::BROADCAST);
        assert_eq!(interface.targets(), vec![subnet, all]);
        interface.broadcast = Some(all);
        assert_eq!(interface.targets(), vec![all]);
        interface.broadcast = None;
        assert_eq!(interface.targets(), vec![all]);
        let order = |address: [u8; 4]| {
            let address = address.into();
            Interface {
                address,
                ..interface.clone()
            }
            .order()
        };
        assert_eq!(order([169, 254, 1, 1]), 0);
        assert_eq!(order([172, 31, 0, 1]), 1);
        assert_eq!(order([100, 64, 0, 1]), 2);
        assert_eq!(order([127, 0, 0, 1]), 3);
    }
}
