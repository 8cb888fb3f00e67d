//! Hashes that were learned at a first fetch and are fixed from then on, in `learned.toml`.

use super::{Store, StoreError, replace};
use crate::digest::Sha256Digest;
use protocol::ids::ModelDigest;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs, io, path::PathBuf};

/// What is known of a model since its first fetch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The hash that names it from then on.
    #[serde(with = "crate::digest::text")]
    pub blake3: ModelDigest,
    /// The hash that the hub published, and that the file had.
    pub sha256: Sha256Digest,
    /// Its size.
    pub bytes: u64,
    /// Where it came from, for people.
    pub origin: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LearnedFile {
    #[serde(default)]
    model: BTreeMap<String, Learned>,
}

impl Store {
    /// The file of learned hashes.
    pub fn learned_path(&self) -> PathBuf {
        self.root.join("learned.toml")
    }

    fn load_learned(&self) -> Result<LearnedFile, StoreError> {
        let path = self.learned_path();
        match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|error: toml::de::Error| StoreError::LearnedDamaged { path, why: error.message().to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LearnedFile::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StoreError::LearnedDamaged { path, why: "not text".to_owned() })
            }
            Err(source) => Err(StoreError::io("read", &path, source)),
        }
    }

    /// What was learned of a model, if it was ever fetched.
    pub fn learned(&self, name: &str) -> Result<Option<Learned>, StoreError> {
        Ok(self.load_learned()?.model.remove(name))
    }

    /// Fixes the hash of a model. What is fixed already stays.
    pub(crate) fn learn(&self, name: &str, learned: Learned) -> Result<(), StoreError> {
        let path = self.learned_path();
        let fail = |source| StoreError::io("write", &path, source);
        // Two fetches of different models may end at the same moment.
        let lock_path = self.partial().join("learned.lock");
        let lock = fs::File::create(&lock_path).map_err(fail)?;
        lock.lock().map_err(fail)?;
        let mut all = self.load_learned()?;
        all.model.entry(name.to_owned()).or_insert(learned);
        let text = toml::to_string(&all).map_err(|error| fail(io::Error::other(error)))?;
        replace(&path, &text).map_err(fail)
    }
}
