//! Activations in the layouts the quantised kernels read.
//!
//! Both hold the same numbers: 32 neighbouring elements share a scale, and each is an 8-bit quant.

/// Eight blocks of 32 quantised elements of one token.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Q8x8 {
    /// The quants, in `-127..=127`.
    pub quants: [[i8; 32]; 8],
    /// Element = quant × scale.
    pub scales: [f32; 8],
    /// Sums of the quants of each half of a block.
    pub sums: [[i32; 8]; 2],
    /// Scale × sum of all quants: what a block's minimum is multiplied with.
    pub weighted: [f32; 8],
}

impl Q8x8 {
    /// Blocks of zeros.
    pub const ZERO: Self = Self {
        quants: [[0; 32]; 8],
        scales: [0.0; 8],
        sums: [[0; 8]; 2],
        weighted: [0.0; 8],
    };

    /// How many of these hold `cols` elements.
    #[must_use]
    pub const fn count(cols: usize) -> usize {
        cols.div_ceil(256)
    }
}

/// Tokens in a [`Q8x16`].
pub const GROUP: usize = 16;

/// One block of 32 elements of [`GROUP`] tokens, four elements of each token in turn.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Q8x16 {
    /// `quants[s][t]` are the elements `4s..4s + 4` of token `t`.
    pub quants: [[[i8; 4]; GROUP]; 8],
    /// Of each token's block.
    pub scales: [f32; GROUP],
    /// Of the halves of each token's block.
    pub sums: [[i32; GROUP]; 2],
    /// Scale × sum of each token's block.
    pub weighted: [f32; GROUP],
}

impl Q8x16 {
    /// A block of zeros.
    pub const ZERO: Self = Self {
        quants: [[[0; 4]; GROUP]; 8],
        scales: [0.0; GROUP],
        sums: [[0; GROUP]; 2],
        weighted: [0.0; GROUP],
    };
}

/// Quantises `x` into `out`, which is padded with zeros.
#[inline(always)]
pub(crate) fn quantise(x: &[f32], out: &mut [Q8x8]) {
    for (chunk, x) in out.iter_mut().zip(x.chunks(256)) {
        if x.len() < 256 {
            *chunk = Q8x8::ZERO;
        }
        for (b, x) in x.chunks_exact(32).enumerate() {
            let mut most = [0f32; 8];
            for x in x.chunks_exact(8) {
                for (most, x) in most.iter_mut().zip(x) {
                    *most = most.max(x.abs());
                }
            }
            let most = most.iter().fold(0f32, |most, x| most.max(*x));
            let scale = most / 127.0;
            let inverse = if most > 0.0 { 127.0 / most } else { 0.0 };
            // Adding 1.5 × 2²³ leaves the integer nearest to a small number, ties to even, in the
            // low bits.
            const MAGIC: f32 = 12_582_912.0;
            let quants = &mut chunk.quants[b];
            let mut sums = [0i32; 2];
            for (half, sum) in sums.iter_mut().enumerate() {
                for i in half * 16..half * 16 + 16 {
                    let quant = (x[i] * inverse + MAGIC).to_bits() as i8;
                    quants[i] = quant;
                    *sum += i32::from(quant);
                }
            }
            chunk.scales[b] = scale;
            chunk.sums[0][b] = sums[0];
            chunk.sums[1][b] = sums[1];
            chunk.weighted[b] = scale * (sums[0] + sums[1]) as f32;
        }
    }
}

/// Interleaves up to [`GROUP`] tokens, each of `blocks.len()` blocks; missing ones become zeros.
#[inline(always)]
pub(crate) fn interleave(tokens: &[&[Q8x8]], blocks: &mut [Q8x16]) {
    for (b, block) in blocks.iter_mut().enumerate() {
        if tokens.len() < GROUP {
            *block = Q8x16::ZERO;
        }
        for (t, token) in tokens.iter().take(GROUP).enumerate() {
            let chunk = &token[b / 8];
            let b = b % 8;
            let (quants, _) = chunk.quants[b].as_chunks::<4>();
            for (row, four) in block.quants.iter_mut().zip(quants) {
                row[t] = *four;
            }
            block.scales[t] = chunk.scales[b];
            block.sums[0][t] = chunk.sums[0][b];
            block.sums[1][t] = chunk.sums[1][b];
            block.weighted[t] = chunk.weighted[b];
        }
    }
}
