//! How much of the machine the engine may use.

/// Limits of a [`CpuEngine`](crate::CpuEngine).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuOptions {
    /// Threads that compute, the one that calls the engine being one of them; at least one.
    pub threads: usize,
    /// Bytes that the weights of all loaded shards and all KV caches may take together; none for
    /// no limit.
    pub memory_limit: Option<u64>,
    /// Most positions of a request; zero for what the model was trained with. Never more than that.
    pub max_context: u32,
    /// Read all weights once while loading, with progress, and refuse them when one is infinite or
    /// no number. Otherwise they come from disk when they are first multiplied.
    pub read_ahead: bool,
    /// How exactly products and KV caches are computed.
    pub precision: Precision,
}

/// How exactly a [`CpuEngine`](crate::CpuEngine) computes. Activations between layers, norms and
/// sums are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Quantised weights multiply with activations of 8 bits, keys and values are kept in half
    /// precision: fast, and far below what quantising the weights has cost.
    #[default]
    Mixed,
    /// Everything is `f32`: many times slower, and twice the KV cache. What to compare with.
    Single,
}

impl Default for CpuOptions {
    /// All cores of an idle machine; one less when others are at work; the model's context, no
    /// limit on memory.
    fn default() -> Self {
        Self {
            threads: default_threads(),
            memory_limit: None,
            max_context: 0,
            read_ahead: true,
            precision: Precision::default(),
        }
    }
}

/// A thread that waits for a core that somebody else uses holds up all others: better one fewer.
fn default_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let busy = busy_cores().unwrap_or(0.0) > 0.5;
    if busy {
        cores.saturating_sub(1).max(1)
    } else {
        cores
    }
}

/// How many threads ran or waited to run over the last minute, where the system tells.
fn busy_cores() -> Option<f32> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
