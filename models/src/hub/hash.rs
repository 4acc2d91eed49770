//! The hashes by which the hub names what is in a file.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What a file has to be: large ones go by SHA-256, small ones as git names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Etag(String);

impl Etag {
    /// From the header of an answer, or the name of a blob: 64 or 40 hexadecimal digits, around
    /// which servers put quotes, mark it as weak, or say how they packed it.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let tag = header.trim();
        let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
        let tag = tag.strip_suffix("-gzip").unwrap_or(tag);
        let digits = tag
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        (digits && matches!(tag.len(), 40 | 64)).then(|| Self(tag.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What hashes a file of `size` bytes in the way of this tag.
    pub(super) fn hasher(&self, size: u64) -> Hasher {
        if self.0.len() == 64 {
            return Hasher::Sha256(Sha256::new());
        }
        let mut hasher = Sha1::new();
        hasher.update(format!("blob {size}\0").as_bytes());
        Hasher::Git(hasher)
    }
}

/// A hash that is not done yet.
#[derive(Clone)]
pub(super) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// Of bytes that are no file.
    pub(super) fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    /// In hexadecimal digits.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Sha256(hasher) => hex(&hasher.finalize()),
            Self::Git(hasher) => hex(&hasher.finalize()),
        }
    }

    /// Takes in all that is left of a file; `told` hears of each piece, and may say no.
    pub(super) fn read(
        &mut self,
        source: &mut impl Read,
        mut told: impl FnMut(usize) -> bool,
    ) -> io::Result<bool> {
        let mut buffer = vec![0; PIECE];
        loop {
            let count = match source.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.update(buffer.get(..count).unwrap_or_default());
            if !told(count) {
                return Ok(false);
            }
        }
    }
}

/// The hash of a file, in the way of `tag`; nothing if `told` said no.
pub(super) fn of_file(
    tag: &Etag,
    path: &Path,
    told: impl FnMut(usize) -> bool,
) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut hasher = tag.hasher(file.metadata()?.len());
    let whole = hasher.read(&mut file, told)?;
    Ok(whole.then(|| hasher.finish()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_dressed() {
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        for header in [
            git.to_owned(),
            format!("\"{git}\""),
            format!("W/\"{git}\""),
            format!("\"{git}-gzip\""),
        ] {
            assert_eq!(Etag::parse(&header).unwrap().as_str(), git);
        }
        let upper = git.to_uppercase();
        for header in ["", "\"cdn\"", "../../x", "ce0136", upper.as_str()] {
            assert_eq!(Etag::parse(header), None, "{header}");
        }
    }

    #[test]
    fn hashes_are_gits_and_sha256s() {
        // `echo hello | git hash-object --stdin`, `echo hello | sha256sum`.
        for wanted in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let tag = Etag::parse(wanted).unwrap();
            let mut hasher = tag.hasher(6);
            hasher.update(b"hel");
            hasher.update(b"lo\n");
            assert_eq!(hasher.finish(), wanted);
        }
    }
}
