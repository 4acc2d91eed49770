//! Weights of a range of layers, under the same names whatever the file format.

mod finite;
mod name;
mod place;
mod view;

use std::{collections::BTreeMap, fmt, ops::Range, path::PathBuf, sync::Arc};

pub use self::name::{FfnPart, LayerWeight, WeightName};
pub(crate) use self::{
    place::Place,
    view::{Located, StoredKind},
};
use crate::{ModelConfig, ModelError, Packing, map::WeightBytes, parts::Lacking};

/// How a weight's numbers are stored.
///
/// The quantised kinds are ggml's: a row is a sequence of blocks, each with its own scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WeightKind {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a 32-bit float.
    Bf16,
    /// 32 values: half scale, 4 bits each.
    Q4_0,
    /// 32 values: half scale and minimum, 4 bits each.
    Q4_1,
    /// 32 values: half scale, 5 bits each.
    Q5_0,
    /// 32 values: half scale and minimum, 5 bits each.
    Q5_1,
    /// 32 values: half scale, 8 bits each.
    Q8_0,
    /// 256 values in 8 groups with 6-bit scales and minima, 4 bits each.
    Q4K,
    /// 256 values in 8 groups with 6-bit scales and minima, 5 bits each.
    Q5K,
    /// 256 values in 16 groups with 8-bit scales, 6 bits each.
    Q6K,
    /// MLX's affine quantisation. The numbers of a row follow each other bit by bit, the lowest
    /// first; scales and biases are apart, in [`WeightView::scales`].
    Packed(Packing),
}

impl WeightKind {
    pub(crate) const NAMES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K";

    /// How many elements make a block, and how many bytes it takes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Packed(Packing { group, bits }) => {
                (group.into(), usize::from(group) * usize::from(bits) / 8)
            }
        }
    }

    /// How many bytes a row of `cols` elements takes; nothing if it does not divide into blocks.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (elements, bytes) = self.block();
        if !cols.is_multiple_of(elements) {
            return None;
        }
        (cols / elements).checked_mul(bytes)
    }
}

impl fmt::Display for WeightKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Packed(Packing { group, bits }) => {
                return write!(f, "{bits}-bit in groups of {group}");
            }
        })
    }
}

/// One weight, where it lies in its file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WeightView {
    /// How the numbers are stored.
    pub kind: WeightKind,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Columns: the contiguous dimension, which is the input's.
    pub cols: usize,
    /// `rows` times `kind.row_bytes(cols)` bytes.
    pub data: WeightBytes,
    /// Of a [`WeightKind::Packed`] weight, and of no other.
    pub scales: Option<Scales>,
}

/// What the numbers of a [`WeightKind::Packed`] weight stand for: `scale * number + bias`.
#[derive(Debug, Clone)]
pub struct Scales {
    /// [`WeightKind::F32`], [`WeightKind::F16`] or [`WeightKind::Bf16`].
    pub kind: WeightKind,
    /// One for each group, `[rows, cols / group]`.
    pub scales: WeightBytes,
    /// The same.
    pub biases: WeightBytes,
}

/// Bytes of the parts of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of each layer in order.
    pub layers: Vec<u64>,
    /// Of the experts of all layers, of which a position uses a few.
    pub experts: u64,
    /// Of the embedding.
    pub embedding: u64,
    /// Of the final norm and of what makes logits, which is the embedding itself where the two are
    /// tied.
    pub head: u64,
}

/// Where tensors are looked up by the names of one file format.
pub(crate) trait TensorFiles: Send + Sync {
    /// Where this format may have the weight, the likeliest place first; never empty.
    fn places(&self, name: WeightName, config: &ModelConfig) -> Vec<Place>;
    /// The tensor of that name; nothing if no file has it.
    fn tensor(&self, name: &str) -> Result<Option<Located<'_>>, ModelError>;
    /// The file to name when a tensor is in none.
    fn whole(&self) -> PathBuf;
}

impl WeightView {
    /// The tensors that make up the weight found in this one: name, kind, bytes and columns.
    fn parts(&self, tensor: &str) -> Vec<(String, WeightKind, &[u8], usize)> {
        let mut parts = vec![(tensor.to_owned(), self.kind, &*self.data, self.cols)];
        if let (Some(apart), WeightKind::Packed(packing)) = (&self.scales, self.kind) {
            let module = tensor.strip_suffix(".weight").unwrap_or(tensor);
            let groups = self.cols / usize::from(packing.group);
            for (name, bytes) in [("scales", &apart.scales), ("biases", &apart.biases)] {
                parts.push((format!("{module}.{name}"), apart.kind, bytes, groups));
            }
        }
        parts
    }

    /// What of it is not on this machine.
    fn lacking(&self) -> impl Iterator<Item = Lacking> {
        let scales = self.scales.iter();
        let scales = scales.flat_map(|apart| [&apart.scales, &apart.biases]);
        let all = [&self.data].into_iter().chain(scales);
        all.filter_map(WeightBytes::lacking)
    }

    /// How many bytes the weight takes in its file, with its scales.
    fn bytes(&self) -> u64 {
        let scales = self.scales.as_ref();
        let scales = scales.map_or(0, |apart| apart.scales.len() + apart.biases.len());
        self.data.len() as u64 + scales as u64
    }
}

/// The weights of a range of layers: keeps their files mapped. Cheap to clone.
#[derive(Clone)]
pub struct Weights {
    config: Arc<ModelConfig>,
    range: Range<u32>,
    files: Arc<dyn TensorFiles>,
    bytes: u64,
}

impl Weights {
    /// Looks up every weight of the range, so that nothing is missing or misshapen later.
    pub(crate) fn open(
        config: Arc<ModelConfig>,
        range: Range<u32>,
        files: Arc<dyn TensorFiles>,
    ) -> Result<Self, ModelError> {
        let mut weights = Self {
            config,
            range,
            files,
            bytes: 0,
        };
        for name in weights.names() {
            weights.bytes += weights.get(name)?.bytes();
        }
        Ok(weights)
    }

    /// That all of it is on this machine.
    pub(crate) fn check_here(&self) -> Result<(), ModelError> {
        for name in self.names() {
            if self.get(name)?.lacking().next().is_some() {
                let tensor = first_name(&self.files.places(name, &self.config));
                return Err(ModelError::not_here(&self.files.whole(), &tensor));
            }
        }
        Ok(())
    }

    /// The bytes that are not, of which file.
    pub(crate) fn lacking(&self) -> Result<BTreeMap<String, Vec<Range<u64>>>, ModelError> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for name in self.names() {
            for (file, range) in self.get(name)?.lacking() {
                all.entry(file).or_default().push(range);
            }
        }
        Ok(all)
    }

    fn names(&self) -> Vec<WeightName> {
        WeightName::of_range(&self.range, &self.config)
    }

    /// How many bytes each layer of the range takes in its files, and the ends of the model that
    /// belong to it.
    ///
    /// # Errors
    /// When a weight is missing or misshapen.
    pub fn sizes(&self) -> Result<Sizes, ModelError> {
        let mut sizes = Sizes {
            layers: vec![0; self.range.len()],
            ..Sizes::default()
        };
        for name in self.names() {
            let bytes = self.get(name)?.bytes();
            let layer = match name {
                WeightName::TokenEmbedding => &mut sizes.embedding,
                WeightName::OutputNorm | WeightName::Output => &mut sizes.head,
                WeightName::Layer(layer, weight) => {
                    if matches!(weight, LayerWeight::Expert(..)) {
                        sizes.experts += bytes;
                    }
                    let index = layer.saturating_sub(self.range.start) as usize;
                    match sizes.layers.get_mut(index) {
                        Some(layer) => layer,
                        None => continue,
                    }
                }
            };
            *layer += bytes;
        }
        if self.config.tied_embeddings && self.range.end == self.config.layers {
            sizes.head += sizes.embedding;
        }
        Ok(sizes)
    }

    /// How many bytes all weights of the range take in their files, each counted once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads all weights of the range once, and checks that their numbers are finite: of quantised
    /// ones, their scales. After it, they are in memory as far as there is room. It costs little
    /// more than reading them.
    ///
    /// `report` is told how many bytes of [`bytes`](Self::bytes) were read, every few MiB and at the
    /// end.
    ///
    /// # Errors
    /// [`ModelError::NotFinite`] for the first number that is none or infinite.
    pub fn check_numbers(&self, report: &mut dyn FnMut(u64)) -> Result<(), ModelError> {
        const STEP: u64 = 8 << 20;
        let (mut done, mut told) = (0, 0);
        for name in self.names() {
            let places = self.files.places(name, &self.config);
            let Some((view, place)) = self.look_up(name, &places)? else {
                continue;
            };
            for (tensor, kind, bytes, cols) in view.parts(&place.tensor) {
                let row_bytes = kind.row_bytes(cols).unwrap_or(0).max(1);
                // Whole rows, so that blocks stay whole.
                let piece = (STEP as usize).next_multiple_of(row_bytes);
                for (index, bytes) in bytes.chunks(piece).enumerate() {
                    if let Some(block) = finite::first_bad_block(kind, bytes) {
                        let row = (block * kind.block().1 + index * piece) / row_bytes;
                        let row = place.first_row + row;
                        return Err(self.not_finite(tensor, row, kind)?);
                    }
                    done += bytes.len() as u64;
                    if done - told >= STEP {
                        told = done;
                        report(done);
                    }
                }
            }
        }
        if done > told {
            report(done);
        }
        Ok(())
    }

    fn not_finite(
        &self,
        tensor: String,
        row: usize,
        kind: WeightKind,
    ) -> Result<ModelError, ModelError> {
        let found = self.files.tensor(&tensor)?;
        let file = found.map_or_else(|| self.files.whole(), |found| found.path.to_owned());
        Ok(ModelError::NotFinite {
            file,
            tensor,
            row,
            kind,
        })
    }

    /// A weight that must be there.
    pub fn get(&self, name: WeightName) -> Result<WeightView, ModelError> {
        self.find(name)?.ok_or_else(|| ModelError::MissingTensor {
            file: self.files.whole(),
            tensor: first_name(&self.files.places(name, &self.config)),
        })
    }

    /// A weight that may be absent: an output head that is tied to the embedding, biases of a
    /// family that has none. (That the file lacks a weight which the configuration calls for is
    /// also an answer of `None`; use [`get`](Self::get) for those.)
    pub fn find(&self, name: WeightName) -> Result<Option<WeightView>, ModelError> {
        if !name.belongs_to(&self.range, &self.config) {
            // Asking for what this model has not is fine, asking for another node's part is not.
            let everything = 0..self.config.layers;
            if !name.belongs_to(&everything, &self.config) && self.in_range(name) {
                return Ok(None);
            }
            return Err(ModelError::NotLoaded {
                weight: format!("{name:?}"),
                range: self.range.clone(),
            });
        }
        let places = self.files.places(name, &self.config);
        Ok(self.look_up(name, &places)?.map(|(view, _)| view))
    }

    fn look_up<'a>(
        &self,
        name: WeightName,
        places: &'a [Place],
    ) -> Result<Option<(WeightView, &'a Place)>, ModelError> {
        let (rows, _) = name.shape(&self.config);
        view::find(&*self.files, &self.config, places, rows)
    }

    /// The layers that were loaded.
    pub fn layers(&self) -> Range<u32> {
        self.range.clone()
    }

    /// A bias may be asked of a model that has none, but only of a layer that is here.
    fn in_range(&self, name: WeightName) -> bool {
        match name {
            WeightName::Layer(layer, _) => self.range.contains(&layer),
            _ => true,
        }
    }
}

/// What to call a weight that is nowhere.
pub(crate) fn first_name(places: &[Place]) -> String {
    let first = places.first();
    first.map(|place| place.tensor.clone()).unwrap_or_default()
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Weights({:?} of {})",
            self.range,
            self.files.whole().display()
        )
    }
}

#[cfg(test)]
mod tests;
