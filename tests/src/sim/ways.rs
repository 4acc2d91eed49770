//! Where hosts are: the addresses of each, how quick each is, and what is known of them.
//!
//! The first address of a host is there all the time and stands in discovery files. In some runs
//! hosts have one or two more, which the application names to each of them or which they announce.

use super::pipe::Weather;
use bytes::Bytes;
use exo_protocol::discovery::interface::Interface;
use exo_protocol::rng::Rng;
use exo_protocol::{Discovered, NodeId};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// The port of all addresses but the first ones.
pub(super) const NODE_PORT: u16 = 50_051;

/// With another number the seeds that files of `invariants` name would be of runs with several
/// addresses, and show something else.
const SALT: u64 = 0x7761_7973;

/// One run in so many has hosts with several addresses.
const SEVERAL: u64 = 3;

/// An address: of which host, and which of all that it ever had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) host: usize,
    pub(crate) way: u8,
}

impl Place {
    /// The address of a host that stands in discovery files.
    pub(crate) const fn first(host: usize) -> Self {
        Self { host, way: 0 }
    }

    /// An address that is named or announced beside the first.
    pub(crate) fn ip(self) -> Ipv4Addr {
        let host = u8::try_from(self.host + 1).unwrap_or(u8::MAX);
        Ipv4Addr::new(10, self.way, 0, host)
    }
}

/// An address that there is.
#[derive(Debug, Default)]
struct Address {
    /// Nothing gets through.
    dead: bool,
    /// So much longer it takes in each direction.
    slow: Duration,
    /// By who dials it: there and back. Empty where the links between hosts say it.
    links: Vec<[Weather; 2]>,
}

/// A datagram that is under way.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) to: usize,
    /// The life of whoever is to get it.
    pub(crate) life: u64,
    pub(crate) from: IpAddr,
    pub(crate) payload: Bytes,
}

/// The addresses of all hosts.
#[derive(Debug)]
pub(crate) struct Ways {
    /// Some have several.
    pub(crate) several: bool,
    /// All but the first are announced, instead of named.
    pub(super) announced: bool,
    /// Of its own, so that runs with one address for each host stay what they are.
    pub(super) rng: Rng,
    pub(super) hosts: usize,
    spread: u64,
    all: BTreeMap<Place, Address>,
    last: u8,
    pub(super) mail: BTreeMap<u64, Datagram>,
}

impl Ways {
    /// The addresses of so many hosts that are nobody's clone; only the first ones, unless
    /// `several`, or the seed, says so.
    pub(super) fn new(seed: u64, hosts: usize, several: Option<bool>) -> Self {
        let mut rng = Rng::new(seed ^ SALT);
        let drawn = rng.below(SEVERAL) == 0;
        Self {
            several: several.unwrap_or(drawn),
            announced: rng.below(3) == 0,
            rng,
            hosts,
            spread: 0,
            all: BTreeMap::new(),
            last: 0,
            mail: BTreeMap::new(),
        }
    }

    /// Puts the hosts where they are; latencies are below `spread` microseconds.
    pub(super) fn set_up(&mut self, spread: u64) {
        self.spread = spread;
        // One more is the clone.
        for host in 0..=self.hosts {
            self.all.insert(Place::first(host), Address::default());
        }
        if self.several {
            for host in 0..self.hosts {
                for _ in 0..self.rng.below(3) {
                    self.add(host);
                }
            }
        }
    }

    fn add(&mut self, host: usize) -> Place {
        self.last = self.last.saturating_add(1);
        let (rng, spread) = (&mut self.rng, self.spread);
        let mut link = || Weather {
            latency: Duration::from_micros(50 + rng.below(spread)),
            bytes_per_second: 500_000 << rng.below(8),
        };
        let links = (0..=self.hosts).map(|_| [link(), link()]).collect();
        let place = Place {
            host,
            way: self.last,
        };
        let address = Address {
            links,
            ..Address::default()
        };
        self.all.insert(place, address);
        place
    }

    /// All addresses that there are.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        self.all.keys().copied()
    }

    /// Those of a host.
    pub(crate) fn of(&self, host: usize) -> impl Iterator<Item = Place> {
        self.places().filter(move |place| place.host == host)
    }

    /// Whether anything gets there and back.
    pub(crate) fn works(&self, place: Place) -> bool {
        self.all.get(&place).is_some_and(|address| !address.dead)
    }

    /// What the way is like over this address, where the link between the two hosts is `link`.
    pub(super) fn weather(&self, place: Place, from: usize, to: usize, link: Weather) -> Weather {
        let Some(address) = self.all.get(&place) else {
            return link;
        };
        let back = usize::from(from == place.host);
        let who = if back == 1 { to } else { from };
        let own = address.links.get(who).map_or(link, |links| links[back]);
        Weather {
            latency: own.latency + address.slow,
            ..own
        }
    }

    /// As nodes write it.
    pub(crate) fn name(place: Place) -> String {
        match place.way {
            0 => format!("host:{}", place.host + super::host::PORT),
            _ => format!("{}:{NODE_PORT}", place.ip()),
        }
    }

    /// The address that is written so, if there is one.
    pub(crate) fn find(&self, name: &str) -> Option<Place> {
        self.places().find(|place| Self::name(*place) == name)
    }

    /// Kills an address, or brings it back.
    pub(super) fn kill(&mut self, place: Place, dead: bool) {
        if let Some(address) = self.all.get_mut(&place) {
            address.dead = dead;
        }
    }

    pub(super) fn slow_down(&mut self, place: Place, slow: Duration) {
        if let Some(address) = self.all.get_mut(&place) {
            address.slow = slow;
        }
    }

    /// A host is not there any more, and somewhere else instead.
    pub(super) fn replace(&mut self, place: Place) -> Place {
        self.all.remove(&place);
        self.add(place.host)
    }

    /// What is named to whoever runs under the id of host `own`.
    pub(super) fn named(&self, own: usize) -> Vec<Discovered> {
        let others = self.places().filter(|p| p.way > 0 && p.host != own);
        let discovered = |place: Place| Discovered {
            node: Some(NodeId::from(super::host::name(place.host))),
            address: Self::name(place),
            description: String::from("list"),
            capabilities: None,
        };
        others.map(discovered).collect()
    }

    /// What a host announces itself over.
    pub(super) fn interfaces(&self, host: usize) -> Vec<Interface> {
        let kinds = ["eth", "wlan", "tun"];
        let interface = |place: Place| Interface {
            name: format!("{}{}", kinds[usize::from(place.way) % 3], place.way),
            address: place.ip(),
            broadcast: None,
        };
        let own = self.of(host).filter(|place| place.way > 0);
        own.map(interface).collect()
    }
}
