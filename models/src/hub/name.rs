//! What a name means on the hub.

use super::HubError;
use crate::{catalog, embedded, registry};

/// A repository, or one file of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    /// `organisation/name`.
    pub repo: String,
    /// The GGUF file, or the quantisation by which it is called.
    pub file: Option<String>,
}

impl HubName {
    /// Understands a name of the registry, `organisation/name`, and `organisation/name:FILE`, where
    /// `FILE` is a `.gguf` file of the repository or what is special in its name, such as `Q4_K_M`.
    ///
    /// # Errors
    /// When it can be none of these, or is the model that is compiled in.
    pub fn parse(name: &str) -> Result<Self, HubError> {
        if name == embedded::ID {
            return Err(HubError::BuiltIn(name.to_owned()));
        }
        let (repo, file) = match name.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (name, None),
        };
        let plain = |file: &str| super::layout::is_file_name(file) && !file.contains('/');
        let registered = registry::find(repo).and_then(|entry| entry.repos().next());
        let repo = registered.or_else(|| catalog::is_repo(repo).then_some(repo));
        match repo {
            Some(repo) if file.is_none_or(plain) => Ok(Self {
                repo: repo.to_owned(),
                file: file.map(str::to_owned),
            }),
            _ => {
                let known = registry::entries().iter().map(|entry| entry.id);
                Err(HubError::Name {
                    name: name.to_owned(),
                    near: catalog::near::near(name, known),
                })
            }
        }
    }

    /// The one file of those that is meant.
    pub(crate) fn choose<'a>(&self, files: &[&'a str]) -> Result<&'a str, HubError> {
        let models: Vec<&str> = files.iter().copied().filter(|file| is_gguf(file)).collect();
        let choices = || models.iter().map(|file| (*file).to_owned()).collect();
        let Some(wanted) = &self.file else {
            return match models.as_slice() {
                [one] => Ok(one),
                _ => Err(HubError::Choose {
                    repo: self.repo.clone(),
                    choices: choices(),
                }),
            };
        };
        if let Some(exact) = models.iter().find(|file| *file == wanted) {
            return Ok(exact);
        }
        let matching: Vec<&str> = models
            .iter()
            .copied()
            .filter(|file| has_part(file, wanted))
            .collect();
        match matching.as_slice() {
            [one] => Ok(one),
            [] => Err(HubError::NoFile {
                repo: self.repo.clone(),
                what: format!("GGUF file {wanted}"),
                near: choices(),
            }),
            several => Err(HubError::Choose {
                repo: self.repo.clone(),
                choices: several.iter().map(|file| (*file).to_owned()).collect(),
            }),
        }
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}:{file}", self.repo),
            None => f.write_str(&self.repo),
        }
    }
}

pub(super) fn is_gguf(file: &str) -> bool {
    file.ends_with(".gguf")
}

/// Whether `part` stands in a file's name between marks: `Q4_0` in `tiny-Q4_0.gguf`, not in
/// `tiny-IQ4_0.gguf`.
fn has_part(file: &str, part: &str) -> bool {
    let (file, part) = (file.to_lowercase(), part.to_lowercase());
    let mark = |c: Option<char>| c.is_none_or(|c| matches!(c, '-' | '.' | '/'));
    file.match_indices(&part).any(|(at, found)| {
        let before = file.get(..at).and_then(|before| before.chars().next_back());
        let after = file
            .get(at + found.len()..)
            .and_then(|after| after.chars().next());
        mark(before) && mark(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> (String, Option<String>) {
        let name = HubName::parse(name).unwrap();
        (name.repo, name.file)
    }

    #[test]
    fn names_are_repositories_and_files() {
        assert_eq!(parse("me/tiny"), ("me/tiny".to_owned(), None));
        let file = Some("Q4_K_M".to_owned());
        assert_eq!(parse("me/tiny:Q4_K_M"), ("me/tiny".to_owned(), file));
        assert!(parse("llama-3.2-1b").0.contains("Llama-3.2-1B"));
        for name in [
            "",
            "tiny",
            "a/b/c",
            "../x",
            "a/..",
            "me/tiny:",
            "me/tiny:../x",
            "me/tiny:a/b",
            "/x",
            "a b/c",
            "dummy",
        ] {
            assert!(
                matches!(HubName::parse(name), Err(HubError::Name { .. })),
                "{name}"
            );
        }
        assert!(matches!(
            HubName::parse("stories"),
            Err(HubError::BuiltIn(_))
        ));
        let told = HubName::parse("llama-3.2-1c").unwrap_err().to_string();
        assert!(told.contains("did you mean llama-3.2-1b"), "{told}");
    }

    #[test]
    fn a_quantisation_chooses_a_file() {
        let files = [
            "README.md",
            "tiny-IQ4_0.gguf",
            "tiny-Q4_0.gguf",
            "tiny-Q4_K_M.gguf",
            "tiny-Q4_K_S.gguf",
        ];
        let choose = |name: &str| {
            HubName::parse(name)
                .unwrap()
                .choose(&files)
                .map(str::to_owned)
        };
        assert_eq!(choose("me/tiny:q4_0").unwrap(), "tiny-Q4_0.gguf");
        assert_eq!(
            choose("me/tiny:tiny-IQ4_0.gguf").unwrap(),
            "tiny-IQ4_0.gguf"
        );
        assert!(matches!(
            choose("me/tiny:Q4_K"),
            Err(HubError::NoFile { .. })
        ));
        assert!(matches!(
            choose("me/tiny:tiny"),
            Err(HubError::Choose { .. })
        ));
        let told = choose("me/tiny").unwrap_err().to_string();
        assert!(told.contains("as me/tiny:tiny-IQ4_0.gguf"), "{told}");
    }
}
