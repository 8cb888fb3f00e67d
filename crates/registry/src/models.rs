//! The models of a pool, by name and digest: derived from the state, for readers.

use crate::{
    names::{DEFAULT, folded},
    records::Model,
};
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
    /// Takes over records that have changed: models that came, or were removed.
    pub(crate) fn update(&mut self, mut changed: Vec<Model>) {
        // Models stay as they are otherwise, so each comes once, after those that are there.
        changed.sort_unstable_by_key(|model| model.place);
        for model in changed {
            let is_here = self.by_digest.contains_key(&model.entry.digest);
            match model.is_removed {
                false if !is_here => self.push(model.entry),
                true if is_here => self.remove(model.entry.digest),
                _ => {}
            }
        }
    }

    fn push(&mut self, entry: ModelEntry) {
        let at = self.entries.len();
        self.by_digest.insert(entry.digest, at);
        for name in std::iter::once(&entry.name).chain(&entry.aliases) {
            self.by_name.insert(folded(name), at);
        }
        self.entries.push(entry);
    }

    fn remove(&mut self, digest: ModelDigest) {
        let left = std::mem::take(self).entries.into_iter().filter(|entry| entry.digest != digest);
        left.for_each(|entry| self.push(entry));
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
