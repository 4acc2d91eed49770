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
    /// They come up when somebody has asked for this file in vain.
    missed: Mutex<Option<String>>,
    /// Bytes that they gave.
    given: Mutex<u64>,
    /// They do not answer.
    silent: bool,
}

impl Neighbours {
    pub(super) fn new(setups: &[&Setup]) -> Arc<Self> {
        Arc::new(Self::with(setups))
    }

    /// They come up when somebody has asked for a file in vain.
    pub(super) fn late(setups: &[&Setup], hash: &str) -> Arc<Self> {
        Arc::new(Self {
            missed: Mutex::new(Some(hash.to_owned())),
            ..Self::with(setups)
        })
    }

    /// The same, and then they say nothing.
    pub(super) fn late_and_silent(setups: &[&Setup], hash: &str) -> Arc<Self> {
        Arc::new(Self {
            missed: Mutex::new(Some(hash.to_owned())),
            silent: true,
            ..Self::with(setups)
        })
    }

    /// What they give is wrong until that is said.
    pub(super) fn spoiling(setups: &[&Setup]) -> Arc<Self> {
        Arc::new(Self {
            spoil: true,
            ..Self::with(setups)
        })
    }

    fn with(setups: &[&Setup]) -> Self {
        Self {
            hubs: setups.iter().map(|setup| setup.hub()).collect(),
            preferred: Mutex::default(),
            blamed: Mutex::default(),
            spoil: false,
            missed: Mutex::default(),
            given: Mutex::default(),
            silent: false,
        }
    }

    /// How often somebody was blamed since the last time.
    pub(super) fn blamed(&self) -> usize {
        std::mem::take(&mut self.blamed.lock().unwrap())
    }

    /// How many bytes they gave.
    pub(super) fn given(&self) -> u64 {
        *self.given.lock().unwrap()
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
        cancel: &Cancel,
    ) -> Option<PeerPart> {
        if self.nodes().is_empty() {
            self.missed.lock().unwrap().take_if(|missed| missed == name);
            return None;
        }
        if let Some(prefer) = prefer {
            let asked = (name.to_owned(), prefer.to_owned());
            self.preferred.lock().unwrap().push(asked);
        }
        while self.silent && !cancel.is_cancelled() {
            std::thread::yield_now();
        }
        if cancel.is_cancelled() {
            return None;
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
                    *self.given.lock().unwrap() += bytes.len() as u64;
                    Some(PeerPart { node, size, bytes })
                }
                _ => None,
            }
        })
    }

    fn nodes(&self) -> Vec<String> {
        let up = match *self.missed.lock().unwrap() {
            Some(_) => 0,
            None => self.hubs.len(),
        };
        (0..up).map(|node| node.to_string()).collect()
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
