//! A few weight rows, unpacked once and then multiplied with many tokens.

use super::activations::{GROUP, Q8x16};
use super::format::Format;

/// Rows in a [`Panel`].
pub const ROWS: usize = 8;

/// What a panel times a group of tokens gives: `[row][token]`.
pub type Tile = [[f32; GROUP]; ROWS];

/// One block of 32 columns of [`ROWS`] rows.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct PanelBlock {
    /// Unsigned quants.
    pub quants: [[u8; 32]; ROWS],
    /// Scales.
    pub scales: [f32; ROWS],
    /// Minimums.
    pub mins: [f32; ROWS],
    /// Factors of the halves.
    pub factors: [[i32; ROWS]; 2],
}

impl PanelBlock {
    const ZERO: Self = Self {
        quants: [[0; 32]; ROWS],
        scales: [0.0; ROWS],
        mins: [0.0; ROWS],
        factors: [[0; ROWS]; 2],
    };
}

/// Up to [`ROWS`] unpacked rows.
#[derive(Debug)]
pub struct Panel {
    format: Format,
    blocks: Vec<PanelBlock>,
}

impl Default for Panel {
    fn default() -> Self {
        Self {
            format: Format::Q8_0,
            blocks: Vec::new(),
        }
    }
}

impl Panel {
    /// The format the rows came from.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The blocks, in column order.
    #[must_use]
    pub fn blocks(&self) -> &[PanelBlock] {
        &self.blocks
    }

    /// Unpacks `rows` of `row_bytes` each; at most [`ROWS`], missing ones become zeros.
    #[inline(always)]
    pub(crate) fn unpack(&mut self, format: Format, rows: &[u8], row_bytes: usize) {
        self.format = format;
        let blocks = row_bytes / format.unit_bytes() * (format.unit() / 32);
        self.blocks.resize(blocks, PanelBlock::ZERO);
        if rows.len() < ROWS * row_bytes {
            self.blocks.fill(PanelBlock::ZERO);
        }
        for (r, row) in rows.chunks_exact(row_bytes).take(ROWS).enumerate() {
            for (b, panel) in self.blocks.iter_mut().enumerate() {
                let block = format.block(row, b);
                panel.quants[r] = block.quants;
                panel.scales[r] = block.scale;
                panel.mins[r] = block.min;
                panel.factors[0][r] = block.factors[0];
                panel.factors[1][r] = block.factors[1];
            }
        }
    }
}

/// The sum that every kernel ends with: eight partial sums, in one fixed order.
#[inline(always)]
#[must_use]
pub fn tree(lanes: [f32; 8]) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|i| lanes[i] + lanes[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// [`Tile`] in plain code.
#[inline(always)]
pub(crate) fn tile(panel: &Panel, x: &[Q8x16], out: &mut Tile) {
    let offset = panel.format.offset();
    for (r, out) in out.iter_mut().enumerate() {
        for (t, out) in out.iter_mut().enumerate() {
            let mut lanes = [0f32; 8];
            for (b, (w, x)) in panel.blocks.iter().zip(x).enumerate() {
                let half = |half: usize| -> i32 {
                    let product: i32 = (half * 16..half * 16 + 16)
                        .map(|i| i32::from(w.quants[r][i]) * i32::from(x.quants[i / 4][t][i % 4]))
                        .sum();
                    w.factors[half][r] * (product - offset * x.sums[half][t])
                };
                let sum = (half(0) + half(1)) as f32;
                let lane = &mut lanes[b % 8];
                *lane = (w.scales[r] * x.scales[t]).mul_add(sum, *lane);
                *lane = w.mins[r].mul_add(x.weighted[t], *lane);
            }
            *out = tree(lanes);
        }
    }
}
