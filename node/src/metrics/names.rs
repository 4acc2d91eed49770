//! Names as values of labels.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names of which there are never more than a time series database can bear.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeSet<String>>);

impl Names {
    /// As many are told apart.
    const MOST: usize = 64;

    /// `name`, or `other` when there are too many already.
    pub(super) fn label(&self, name: &str) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if name.is_empty() || known.contains(name) {
            return name.to_owned();
        }
        if known.len() >= Self::MOST {
            return "other".to_owned();
        }
        known.insert(name.to_owned());
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_are_one() {
        let names = Names::default();
        for number in 0..Names::MOST {
            let name = format!("m{number}");
            assert_eq!(names.label(&name), name);
        }
        assert_eq!(names.label("one more"), "other");
        assert_eq!(names.label("m0"), "m0");
        assert_eq!(names.label(""), "");
    }
}
