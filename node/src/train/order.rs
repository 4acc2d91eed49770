//! Which batch comes when: of the seed alone, so that a job that was resumed goes on as it would
//! have.

/// The order of `count` batches in one epoch: each once.
///
/// A Fisher-Yates shuffle with SplitMix64, seeded by `seed` and `epoch`.
#[must_use]
pub fn shuffled(count: usize, seed: u64, epoch: u64) -> Vec<u32> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut order: Vec<u32> = (0..count).collect();
    let mut random = SplitMix64(SplitMix64(seed).next() ^ epoch);
    for last in (1..order.len()).rev() {
        order.swap(last, random.below(last as u64 + 1) as usize);
    }
    order
}

/// Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators, 2014.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// A number below `limit`, which is not zero; the bias of 2⁻³² and less does not matter here.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_each_batch_once_and_an_order_of_its_own() {
        let first = shuffled(100, 7, 0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(first, sorted);
        assert_eq!(first, shuffled(100, 7, 0));
        assert_ne!(first, shuffled(100, 7, 1));
        assert_ne!(first, shuffled(100, 8, 0));
        assert_eq!(shuffled(1, 0, 0), [0]);
        assert!(shuffled(0, 0, 0).is_empty());
    }

    #[test]
    fn every_place_gets_every_batch() {
        let mut seen = [[0_u32; 4]; 4];
        for seed in 0..4000 {
            for (place, batch) in shuffled(4, seed, 3).into_iter().enumerate() {
                seen[place][batch as usize] += 1;
            }
        }
        // 1000 each are expected; 150 are five standard deviations.
        let even = |count: &u32| count.abs_diff(1000) < 150;
        assert!(seen.iter().flatten().all(even), "{seen:?}");
    }
}
