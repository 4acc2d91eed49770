//! Other machines that may have files.

use std::sync::{Arc, Mutex};

use super::*;
use crate::hub::{PeerPart, Peers, Shared};

/// Their hubs, asked in person.
#[derive(Debug)]
pub(super) struct Neighbours {
    hubs: Vec<Hub>,
    /// Who is asked for a piece first, and of what: nothing is asked of nobody in particular.
    preferred: Mutex<Vec<(String, String)>>,
    blamed: Mutex<usize>,
    spoil: bool,
}

impl Neighbours {
    pub(super) fn new(setups: &[&Setup]) -> Arc<Self> {
        Arc::new(Self::with(setups, false))
    }

    /// What they give is wrong until that is said.
    pub(super) fn spoiling(setups: &[&Setup]) -> Arc<Self> {
        Arc::new(Self::with(setups, true))
    }

    fn with(setups: &[&Setup], spoil: bool) -> Self {
        Self {
            hubs: setups.iter().map(|setup| setup.hub()).collect(),
            preferred: Mutex::default(),
            blamed: Mutex::default(),
            spoil,
        }
    }

    /// How often somebody was blamed since the last time.
    pub(super) fn blamed(&self) -> usize {
        std::mem::take(&mut self.blamed.lock().unwrap())
    }

    /// Who was asked for that before all others.
    pub(super) fn preferred(&self, name: &str) -> Vec<String> {
        let preferred = self.preferred.lock().unwrap();
        let of_it = preferred.iter().filter(|(asked, _)| asked == name);
        of_it.map(|(_, node)| node.clone()).collect()
    }
}

impl Peers for Neighbours {
    fn part(
        &self,
        name: &str,
        from: u64,
        length: u32,
        prefer: Option<&str>,
        _: &Cancel,
    ) -> Option<PeerPart> {
        if let Some(prefer) = prefer {
            let asked = (name.to_owned(), prefer.to_owned());
            self.preferred.lock().unwrap().push(asked);
        }
        let spoiled = self.spoil && *self.blamed.lock().unwrap() == 0;
        let mut nodes = self.nodes();
        nodes.sort_by_key(|node| Some(node.as_str()) != prefer);
        nodes.into_iter().find_map(|node| {
            let hub = self.hubs.get(node.parse::<usize>().unwrap())?;
            match hub.share(name, from, length) {
                Shared::Here(size, mut bytes) | Shared::Coming(size, mut bytes)
                    if !bytes.is_empty() =>
                {
                    if spoiled {
                        bytes.iter_mut().for_each(|byte| *byte ^= 1);
                    }
                    Some(PeerPart { node, size, bytes })
                }
                _ => None,
            }
        })
    }

    fn nodes(&self) -> Vec<String> {
        (0..self.hubs.len()).map(|node| node.to_string()).collect()
    }

    fn blame(&self, _: &str, _: &str) {
        *self.blamed.lock().unwrap() += 1;
    }
}

impl Setup {
    /// The hub of whoever has these neighbours, and, offline, nobody else.
    pub(super) fn hub_beside(&self, neighbours: &Arc<Neighbours>, offline: bool) -> Hub {
        Hub::new(HubOptions {
            offline,
            peers: Some(neighbours.clone()),
            ..self.options()
        })
    }
}
