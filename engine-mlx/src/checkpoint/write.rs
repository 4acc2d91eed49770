//! Writing a checkpoint's file, which only builds with MLX have something to put into.

use super::CheckpointError;
use super::file::METADATA;
use serde_json::{Map, Value, json};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Writes a checkpoint: under another name first, which is changed when everything is on disk, so
/// that a file is whole or not there, whenever the power goes.
///
/// `bytes` gives the little-endian floats of the tensor of that index when its turn comes.
///
/// # Errors
/// When the system refuses, or `bytes` does.
pub(crate) fn write<E: From<CheckpointError>>(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[(String, Vec<i32>)],
    mut bytes: impl FnMut(usize) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let io = |source| CheckpointError::Io {
        file: path.to_owned(),
        source,
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = folder.join(name);
    let mut out = BufWriter::new(File::create(&new).map_err(io)?);
    let header = header(metadata, tensors);
    let length = header.len() as u64;
    let begun = out.write_all(&length.to_le_bytes());
    begun
        .and_then(|()| out.write_all(header.as_bytes()))
        .map_err(io)?;
    for index in 0..tensors.len() {
        out.write_all(&bytes(index)?).map_err(io)?;
    }
    let finish = || {
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The new name is on disk when the folder is.
        File::open(folder)?.sync_all()
    };
    finish().map_err(io)?;
    Ok(())
}

fn header(metadata: &[(&str, String)], tensors: &[(String, Vec<i32>)]) -> String {
    let mut header = Map::new();
    let texts = metadata.iter().map(|(name, text)| (*name, text.as_str()));
    let texts = texts.map(|(name, text)| (name.to_owned(), Value::from(text)));
    header.insert(METADATA.to_owned(), texts.collect::<Map<_, _>>().into());
    let mut offset = 0_u64;
    for (name, shape) in tensors {
        let size = |bytes: u64, size: &i32| bytes * u64::from(size.unsigned_abs());
        let end = offset + shape.iter().fold(4, size);
        let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [offset, end]});
        header.insert(name.clone(), tensor);
        offset = end;
    }
    let mut text = Value::from(header).to_string();
    // What follows is aligned for those who map the file.
    text.extend(std::iter::repeat_n(' ', (8 - text.len() % 8) % 8));
    text
}
