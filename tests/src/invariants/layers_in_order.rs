//! The activation of each position passes every layer exactly once and in order, and every KV cache
//! holds exactly the positions before it.
//!
//! An activation says which position it is of, which token entered there, what the tokens up to it
//! were (a running hash), and how many layers it has passed. A KV cache is the list of those hashes.
//! So a position that is lost, doubled, stale or another request's is seen where it enters a shard.
//!
//! Broken on purpose: a stage takes a plan that keeps more than its KV cache has. Seed 10 with 4 hosts
//! shows it.

use super::must;
use exo_protocol::Shard;

/// What is known of one position of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) position: u32,
    pub(crate) token: u32,
    /// Of all tokens up to this one.
    pub(crate) hash: u64,
    /// Layers passed.
    pub(crate) passed: u32,
}

/// What one shard has computed for one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    /// By position: the hash of all tokens up to it.
    pub(crate) hashes: Vec<u64>,
    /// The token at position zero.
    pub(crate) first: u32,
}

/// The hash of the tokens before, and one more.
pub(crate) fn chain(before: u64, token: u32, position: u32) -> u64 {
    scramble(before ^ u64::from(token) << 32 ^ u64::from(position))
}

/// A bijection that leaves no bit where it was (the finaliser of SplitMix64).
pub(crate) fn scramble(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Cache {
    /// The row of a token that enters the first layer.
    pub(crate) fn enter(&self, token: u32) -> Row {
        let position = u32::try_from(self.hashes.len()).unwrap_or(u32::MAX);
        let before = self.hashes.last().copied().unwrap_or(0);
        Row {
            position,
            token,
            hash: chain(before, token, position),
            passed: 0,
        }
    }

    /// Takes a row through a shard.
    pub(crate) fn pass(&mut self, shard: &Shard, row: &mut Row) -> Result<(), String> {
        let expected = self.enter(row.token);
        must(row.position == expected.position, || {
            format!(
                "{shard}: {row:?} came where position {} belongs",
                expected.position
            )
        })?;
        must(row.hash == expected.hash, || {
            format!("{shard}: {row:?} does not follow what is cached, {expected:?} would")
        })?;
        must(row.passed == shard.start, || {
            format!("{shard}: {row:?} comes from another layer")
        })?;
        if self.hashes.is_empty() {
            self.first = row.token;
        }
        self.hashes.push(row.hash);
        row.passed = shard.end + 1;
        Ok(())
    }
}
