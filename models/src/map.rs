//! Read-only views of whole files, without reading them.
//!
//! The only `unsafe` code of this crate is here.

use std::{fs::File, ops::Deref, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;

use crate::{ModelError, parts::Lacking, ranges::Ranges};

/// The bytes of a file: mapped from disk, compiled into the binary, or made in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) enum FileBytes {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    Made(Arc<[u8]>),
    /// A file with holes.
    Part(Arc<PartMap>),
}

/// A file of which only some bytes are here; the others read as zeros.
pub(crate) struct PartMap {
    map: FileBytes,
    /// What the whole file is called.
    name: String,
    have: Ranges,
}

impl FileBytes {
    /// Maps `file`; pages are read when they are first touched.
    #[expect(unsafe_code, reason = "mapping a file cannot be expressed safely")]
    pub(crate) fn map(file: &Path) -> Result<Self, ModelError> {
        let open = File::open(file).map_err(|e| ModelError::io(file, e))?;
        // SAFETY: the map is private, read-only, and kept alive by the `Arc` for as long as any
        // view of it. What the type system cannot promise is that nobody else changes the file
        // meanwhile. If somebody overwrites it, weights change under the model and it computes
        // nonsense; nothing is addressed by those bytes, because headers are parsed once into
        // owned values that were checked against the length of the map, and that does not change.
        // If somebody truncates it, touching the lost pages ends the process with SIGBUS. Every
        // program that maps models lives with both; downloaders replace files by renaming, which
        // leaves an existing map whole.
        let map = unsafe { Mmap::map(&open) }.map_err(|e| ModelError::io(file, e))?;
        Ok(Self::Mapped(Arc::new(map)))
    }

    /// Maps a file of which only some bytes are here.
    pub(crate) fn map_part(file: &Path, name: String, have: Ranges) -> Result<Self, ModelError> {
        let map = Self::map(file)?;
        Ok(Self::Part(Arc::new(PartMap { map, name, have })))
    }

    /// The beginning, as far as it is here.
    pub(crate) fn beginning(&self) -> &[u8] {
        match self {
            Self::Part(part) => {
                let end = usize::try_from(part.have.run(0)).unwrap_or(usize::MAX);
                self.get(..end.min(self.len())).unwrap_or_default()
            }
            whole => whole,
        }
    }

    /// The bytes of a range, with the file's name, unless all of them are here.
    pub(crate) fn lacks(&self, range: &Range<usize>) -> Option<Lacking> {
        let Self::Part(part) = self else {
            return None;
        };
        let range = range.start as u64..range.end as u64;
        (!part.have.covers(&range)).then(|| (part.name.clone(), range))
    }

    /// A view of part of the file, or nothing if the file is shorter than that.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<WeightBytes> {
        self.get(range.clone())?;
        Some(WeightBytes {
            file: self.clone(),
            range,
        })
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Made(bytes) => bytes,
            Self::Part(part) => &part.map,
        }
    }
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Mapped(_) => "mapped",
            Self::Static(_) => "static",
            Self::Made(_) => "made",
            Self::Part(_) => "some of",
        };
        write!(f, "{kind} {} bytes", self.len())
    }
}

/// The bytes of one tensor, as they are in the file. Cheap to clone; keeps the file mapped.
///
/// No alignment is promised: read numbers with `from_le_bytes`, or copy.
#[derive(Clone)]
pub struct WeightBytes {
    file: FileBytes,
    range: Range<usize>,
}

impl WeightBytes {
    /// What of it is not on this machine.
    pub(crate) fn lacking(&self) -> Option<Lacking> {
        self.file.lacks(&self.range)
    }
}

/// Weights that are in no file, such as those by which an engine measures itself.
impl From<Arc<[u8]>> for WeightBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        let range = 0..bytes.len();
        Self {
            file: FileBytes::Made(bytes),
            range,
        }
    }
}

impl Deref for WeightBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // Checked when the view was made, and neither a map nor a static ever shrinks.
        self.file.get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for WeightBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for WeightBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bytes {:?} of {:?}", self.range, self.file)
    }
}
