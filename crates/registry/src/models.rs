//! The models of a pool, by name and digest.

use crate::{
    Event, ModelError, Rejection,
    names::{DEFAULT, folded, settled},
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
    pub(crate) fn add(&mut self, entry: ModelEntry) -> Result<Option<Event>, Rejection> {
        if self.by_digest.contains_key(&entry.digest) {
            return Ok(None);
        }
        if self.entries.len() >= limits::MODELS_MAX {
            return Err(Rejection::ModelsFull);
        }
        if entry.licence.len() > limits::LICENCE_BYTES_MAX || entry.licence.chars().any(char::is_control) {
            return Err(ModelError::Licence.into());
        }
        let entry = settled(entry, |name| self.by_name.contains_key(name))?;
        let (digest, at) = (entry.digest, self.entries.len());
        for name in std::iter::once(&entry.name).chain(&entry.aliases) {
            self.by_name.insert(folded(name), at);
        }
        self.by_digest.insert(digest, at);
        self.entries.push(entry);
        Ok(Some(Event::ModelAdded { digest }))
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
