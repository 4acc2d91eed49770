//! The processor as the layers see it: kernels, threads, and buffers that live from call to call.

use crate::kernels::{Kernels, Panel, Q8x8, ROWS};
use crate::options::Precision;
use crate::unchecked::pool::Pool;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kernels, threads and each thread's scratch.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernels: &'static Kernels,
    pub(crate) pool: Pool,
    /// Whether activations are quantised for weights that are.
    pub(crate) quantises: bool,
    scratch: Vec<Mutex<Scratch>>,
}

/// What a thread needs while it works on a piece.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) floats: Vec<f32>,
    pub(crate) scores: Vec<f32>,
    pub(crate) sums: Vec<f32>,
    pub(crate) chunks: Vec<Q8x8>,
    pub(crate) panel: Panel,
}

/// The first `len` elements of `buffer`, which only ever grows.
pub(crate) fn grown<T: Clone>(buffer: &mut Vec<T>, len: usize, zero: T) -> &mut [T] {
    if buffer.len() < len {
        buffer.resize(len, zero);
    }
    &mut buffer[..len]
}

/// Lends a thread its scratch. Nobody else ever holds it: the lock is for the borrow checker.
pub(crate) fn scratch(of: &[Mutex<Scratch>], worker: usize) -> MutexGuard<'_, Scratch> {
    of[worker].lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    pub(crate) fn new(
        kernels: &'static Kernels,
        threads: usize,
        precision: Precision,
    ) -> std::io::Result<Self> {
        let pool = Pool::new(threads)?;
        let scratch = (0..pool.width()).map(|_| Mutex::default()).collect();
        Ok(Self {
            kernels,
            pool,
            quantises: precision == Precision::Mixed,
            scratch,
        })
    }

    /// The parts, for closures that run on the pool and use the rest.
    pub(crate) fn split(&mut self) -> (&'static Kernels, &mut Pool, &[Mutex<Scratch>]) {
        (self.kernels, &mut self.pool, &self.scratch)
    }

    /// Columns of one piece when `cols` are shared out: a few pieces for each thread, for threads
    /// may be slow, and whole cache lines.
    pub(crate) fn piece(&self, cols: usize) -> usize {
        const EACH: usize = 4;
        match self.pool.width() {
            1 => cols,
            width => (cols / (width * EACH))
                .next_multiple_of(2 * ROWS)
                .max(2 * ROWS),
        }
    }
}
