//! A few weight rows, unpacked once and then multiplied with many tokens.

use super::activations::{GROUP, Q8x16};
use super::format::{Block, Format};
use super::packed::PackedRows;

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

/// What the numbers in a [`Panel`] mean, which decides how they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Quants are below two to the power of this.
    pub bits: u8,
    /// What is taken off every quant.
    pub offset: i32,
    /// Blocks have minimums; the offset is zero then.
    pub mins: bool,
    /// The halves of blocks have factors.
    pub factors: bool,
}

impl Form {
    /// That of a format's blocks.
    #[must_use]
    pub const fn of(format: Format) -> Self {
        Self {
            bits: match format {
                Format::Q4_0 | Format::Q4_1 | Format::Q4K => 4,
                Format::Q5_0 | Format::Q5_1 | Format::Q5K => 5,
                Format::Q6K => 6,
                Format::Q8_0 => 8,
            },
            offset: format.offset(),
            mins: format.has_min(),
            factors: matches!(format, Format::Q6K),
        }
    }

    /// That of packed weights with `bits` bits.
    #[must_use]
    pub const fn packed(bits: u8) -> Self {
        Self {
            bits,
            offset: 0,
            mins: true,
            factors: false,
        }
    }
}

/// Up to [`ROWS`] unpacked rows.
#[derive(Debug)]
pub struct Panel {
    form: Form,
    blocks: Vec<PanelBlock>,
}

impl Default for Panel {
    fn default() -> Self {
        Self {
            form: Form::of(Format::Q8_0),
            blocks: Vec::new(),
        }
    }
}

impl Panel {
    /// What the numbers mean.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The blocks, in column order.
    #[must_use]
    pub fn blocks(&self) -> &[PanelBlock] {
        &self.blocks
    }

    /// Unpacks `rows` of `row_bytes` each; at most [`ROWS`], missing ones become zeros.
    #[inline(always)]
    pub(crate) fn unpack(&mut self, format: Format, rows: &[u8], row_bytes: usize) {
        self.form = Form::of(format);
        let blocks = row_bytes / format.unit_bytes() * (format.unit() / 32);
        self.clear(blocks, rows.len() / row_bytes);
        for (r, row) in rows.chunks_exact(row_bytes).take(ROWS).enumerate() {
            for (b, panel) in self.blocks.iter_mut().enumerate() {
                panel.set(r, &format.block(row, b));
            }
        }
    }

    /// The same for packed rows.
    #[inline(always)]
    pub(crate) fn unpack_packed(&mut self, rows: &PackedRows<'_>) {
        self.form = Form::packed(rows.bits);
        self.clear(rows.blocks(), rows.rows);
        for r in 0..rows.rows.min(ROWS) {
            for (b, panel) in self.blocks.iter_mut().enumerate() {
                panel.set(r, &rows.block(r, b));
            }
        }
    }

    /// Room for rows of `blocks` blocks; zeros if not all of them will be filled.
    #[inline(always)]
    fn clear(&mut self, blocks: usize, rows: usize) {
        self.blocks.resize(blocks, PanelBlock::ZERO);
        if rows < ROWS {
            self.blocks.fill(PanelBlock::ZERO);
        }
    }
}

impl PanelBlock {
    #[inline(always)]
    fn set(&mut self, row: usize, block: &Block) {
        self.quants[row] = block.quants;
        self.scales[row] = block.scale;
        self.mins[row] = block.min;
        self.factors[0][row] = block.factors[0];
        self.factors[1][row] = block.factors[1];
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
    let offset = panel.form.offset;
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
