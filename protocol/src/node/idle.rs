//! Layers that nothing uses: how long they stay, and for what they leave.

use super::Node;
use crate::id::ModelId;
use crate::shard::Shard;
use crate::time::Instant;
use alloc::vec::Vec;
use core::time::Duration;

impl Node {
    /// Whether a request or a job has a stage of these layers.
    pub(super) fn is_used(&self, shard: &Shard) -> bool {
        let mut jobs = self.job_stages.values();
        self.sessions.values().any(|s| s.shard() == Some(shard))
            || jobs.any(|s| s.shard() == Some(shard))
    }

    /// What is loaded and not used, the least recently used first.
    fn idle(&self) -> Vec<Shard> {
        let uses = self.desk.last_uses();
        let mut idle: Vec<(Instant, &Shard)> = uses
            .filter(|(shard, _)| !self.is_used(shard))
            .map(|(shard, used)| (used, shard))
            .collect();
        idle.sort();
        idle.into_iter().map(|(_, shard)| shard.clone()).collect()
    }

    /// A stage of these layers is over.
    pub(super) fn rests(&mut self, shard: &Shard) {
        self.desk.rests(shard, self.now);
    }

    /// Before layers are loaded: other cuts of the same model leave, a ring that changed its cuts
    /// must not need the memory of both. Other models stay, if they are to be kept.
    pub(super) fn make_room(&mut self, shard: &Shard) {
        let keeps = self.config.keep_loaded.is_some();
        for idle in self.idle() {
            if !keeps || idle.model == shard.model {
                self.unload(idle);
            }
        }
    }

    /// The least recently used models leave until all weights together take no more than half of
    /// this node's memory: the other half is for KV caches.
    pub(super) fn keep_half_free(&mut self) {
        let memory = u64::try_from(self.config.capabilities.memory).unwrap_or(0);
        let half = memory.saturating_mul(1 << 19);
        if half == 0 {
            return;
        }
        for idle in self.idle() {
            let loaded = self.desk.loaded();
            let bytes = loaded.iter().map(|shard| self.desk.bytes(shard));
            if bytes.fold(0, u64::saturating_add) <= half {
                return;
            }
            self.unload(idle);
        }
    }

    /// Layers did not fit: whether others left for them, so that another attempt is worth it.
    pub(super) fn press(&mut self, shard: &Shard) -> bool {
        if self.desk.pressed.contains(shard) || !self.is_used(shard) {
            return false;
        }
        let idle = self.idle();
        let some = !idle.is_empty();
        for idle in idle {
            self.unload(idle);
        }
        if some {
            self.desk.pressed.push(shard.clone());
        }
        some
    }

    /// The application wants a model's layers given back.
    pub(super) fn unload_model(&mut self, model: &ModelId) {
        for idle in self.idle() {
            if idle.model == *model {
                self.unload(idle);
            }
        }
    }

    /// Gives back what was not used for long enough.
    pub(super) fn unload_idle(&mut self) {
        let Some(keep) = self.config.keep_loaded else {
            return;
        };
        let now = self.now;
        let due = |(shard, used): (&Shard, Instant)| {
            (used + keep <= now && !self.is_used(shard)).then(|| shard.clone())
        };
        let due: Vec<Shard> = self.desk.last_uses().filter_map(due).collect();
        for shard in due {
            self.unload(shard);
        }
    }

    /// When that is due next.
    pub(super) fn next_idle(&self) -> Instant {
        let Some(keep) = self.config.keep_loaded.filter(|&keep| keep < Duration::MAX) else {
            return Instant::FAR_FUTURE;
        };
        let uses = self.desk.last_uses();
        let idle = uses.filter(|(shard, _)| !self.is_used(shard));
        let due = idle.map(|(_, used)| used + keep);
        due.min().unwrap_or(Instant::FAR_FUTURE)
    }
}
