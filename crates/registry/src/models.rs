//! The models of a pool, by name and digest: derived from the state, for readers.

use crate::names::{DEFAULT, folded};
use protocol::{grant::ModelRef, ids::ModelDigest, limits, link::ModelEntry};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Models {
    // In the order in which they came; the first is the default.
    entries: Vec<ModelEntry>,
    by_digest: BTreeMap<ModelDigest, usize>,
    // Folded names and aliases.
    by_name: BTreeMap<String, usize>,
}

impl Models {
    pub(crate) fn push(&mut self, entry: ModelEntry) {
        let at = self.entries.len();
        // Models stay as they are, so each comes once.
        if self.by_digest.insert(entry.digest, at).is_none() {
            for name in std::iter::once(&entry.name).chain(&entry.aliases) {
                self.by_name.insert(folded(name), at);
            }
            self.entries.push(entry);
        }
    }

    pub(crate) fn get(&self, model: &ModelRef) -> Option<&ModelEntry> {
        let at = match model {
            ModelRef::Digest(digest) => *self.by_digest.get(digest)?,
            // A longer name is no model's: nothing of its length is copied.
            ModelRef::Name(name) if name.len() > limits::MODEL_NAME_CHARS_MAX => return None,
            ModelRef::Name(name) if name.eq_ignore_ascii_case(DEFAULT) => 0,
            ModelRef::Name(name) => *self.by_name.get(&folded(name))?,
        };
        self.entries.get(at)
    }

    pub(crate) fn all(&self) -> &[ModelEntry] {
        &self.entries
    }
}
