//! Read-only views of whole files, without reading them.
//!
//! The only `unsafe` code of this crate is here.

use std::{fs::File, ops::Deref, ops::Range, path::Path, sync::Arc};

use memmap2::Mmap;

use crate::ModelError;

/// The bytes of a file: mapped from disk, compiled into the binary, or made in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) enum FileBytes {
    Mapped(Arc<Mmap>),
    Static(&'static [u8]),
    Made(Arc<[u8]>),
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
        }
    }
}

impl std::fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Mapped(_) => "mapped",
            Self::Static(_) => "static",
            Self::Made(_) => "made",
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
