//! One model of the catalogue: what it is, what it needs, under which licence, and how its file is recognised.

use crate::origin::Origin;
use protocol::{ids::ModelDigest, limits};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Unique name: lower case letters, digits and `._-`.
    pub name: String,
    /// Other names. Several entries may share one: the first that can be had answers to it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// One line for people.
    pub description: String,
    /// What its authors allow.
    pub licence: Licence,
    /// Size of the file.
    pub size: Size,
    /// Tokens of context it was trained for; `None`: only the file itself knows.
    #[serde(default)]
    pub context_tokens: Option<u32>,
    /// Least memory of a machine that serves it, in bytes: weights, a context of 4,096 tokens and working buffers.
    pub memory_bytes_min: u64,
    /// How its weights are quantised, in the words of GGUF.
    pub quantisation: String,
    /// Architecture, in the words of GGUF.
    pub architecture: String,
    /// How its file is recognised.
    pub hash: Hash,
    /// Where its file can be had, tried in this order.
    #[serde(default, rename = "origin")]
    pub origins: Vec<Origin>,
}

/// What the authors of a model allow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// SPDX identifier; `LicenseRef-…` where SPDX has none.
    pub id: String,
    /// Where its text is.
    #[serde(default)]
    pub url: Option<String>,
    /// The authors' own repository asks for an account that has accepted the licence before it serves files.
    #[serde(default)]
    pub gated: bool,
}

/// Size of a file of weights, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// Known to the byte.
    Exact(u64),
    /// Reported, never verified by us: an eighth more or less is accepted, and learned with the hash.
    About(u64),
}

impl Size {
    /// The number of bytes, for people and for estimates.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Exact(bytes) | Self::About(bytes) => bytes,
        }
    }

    /// Whether a file of this many bytes can be the one meant.
    pub fn accepts(self, offered: u64) -> bool {
        match self {
            Self::Exact(bytes) => offered == bytes,
            Self::About(bytes) => offered.abs_diff(bytes) <= bytes / 8,
        }
    }
}

/// How the file of an entry is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hash {
    /// Pinned: only the file with this BLAKE3 hash is this model.
    Blake3(#[serde(with = "crate::digest::text")] ModelDigest),
    /// Learned at the first fetch: the hub's published SHA-256 is verified while downloading, and the BLAKE3 hash of
    /// that very file is fixed in the store from then on. The first fetch trusts the hub, every later one does not.
    Learned,
}

/// An entry that contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("model `{name}`: {why}")]
pub struct EntryError {
    name: String,
    why: String,
}

impl Entry {
    /// Checks everything that can be checked without the file.
    pub fn check(&self) -> Result<(), EntryError> {
        let refuse = |why: String| Err(EntryError { name: self.name.chars().take(80).collect(), why });
        if let Some(bad) = std::iter::once(&self.name).chain(&self.aliases).find(|name| !name_is_valid(name)) {
            return refuse(format!("`{bad}` is not a model name: lower case letters, digits and `._-`"));
        }
        if self.size.bytes() == 0 {
            return refuse("has no size".to_owned());
        }
        if matches!((self.hash, self.size), (Hash::Blake3(_), Size::About(_))) {
            return refuse("a pinned hash needs an exact size".to_owned());
        }
        for origin in &self.origins {
            if let Err(error) = origin.check() {
                return refuse(error.to_string());
            }
            if self.hash == Hash::Learned && !matches!(origin, Origin::Hub(_)) {
                return refuse(format!("{origin} publishes no hash of the file to learn from"));
            }
        }
        Ok(())
    }

    /// Whether this entry answers to a name, by its own name or by an alias. Case does not matter.
    pub fn answers_to(&self, name: &str) -> bool {
        std::iter::once(&self.name).chain(&self.aliases).any(|own| own.eq_ignore_ascii_case(name))
    }

    /// An entry for a file that its owner named on the command line. Its facts come from the file's name; the worker
    /// reads the real ones from the file, inside the sandbox.
    pub fn of_local_file(path: &Path, digest: ModelDigest, bytes: u64) -> Self {
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            name: model_name_from(&stem),
            aliases: Vec::new(),
            description: format!("local file {}", path.display()),
            licence: Licence { id: "LicenseRef-unknown".to_owned(), url: None, gated: false },
            size: Size::Exact(bytes),
            context_tokens: None,
            memory_bytes_min: bytes.saturating_add(bytes / 4).saturating_add(256 << 20),
            quantisation: quantisation_in(&stem).unwrap_or("unknown").to_owned(),
            architecture: "unknown".to_owned(),
            hash: Hash::Blake3(digest),
            origins: Vec::new(),
        }
    }
}

fn name_is_valid(name: &str) -> bool {
    (1..=limits::MODEL_NAME_CHARS_MAX).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

/// The nearest valid model name to any text.
fn model_name_from(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c.to_ascii_lowercase() } else { '-' };
    let name: String = text.chars().map(plain).take(limits::MODEL_NAME_CHARS_MAX).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

/// The quantisation that a file name mentions (`…-Q4_K_M`, `….IQ3_XS`, `…-f16`), as it is spelled there.
fn quantisation_in(stem: &str) -> Option<&str> {
    stem.rsplit(['.', '-']).find(|part| {
        let part = part.to_ascii_lowercase();
        let digits =
            part.strip_prefix("iq").or(part.strip_prefix('q')).or(part.strip_prefix("bf")).or(part.strip_prefix('f'));
        digits.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_file_becomes_a_valid_entry_whatever_its_name() {
        for (file, name, quantisation) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1", "Q4_1"),
            ("My Model (final).gguf", "my-model--final-", "unknown"),
            ("Llama-3.1-8B-Q4_K_M.gguf", "llama-3.1-8b-q4_k_m", "Q4_K_M"),
            ("..gguf", "model", "unknown"),
            ("ж.gguf", "model", "unknown"),
        ] {
            let entry = Entry::of_local_file(Path::new(file), ModelDigest([1; 32]), 10);
            assert_eq!((entry.name.as_str(), entry.quantisation.as_str()), (name, quantisation), "{file}");
            assert_eq!(entry.check(), Ok(()), "{file}");
        }
    }

    #[test]
    fn sizes_accept_what_they_should() {
        assert!(Size::Exact(100).accepts(100) && !Size::Exact(100).accepts(101) && !Size::Exact(100).accepts(99));
        assert!(Size::About(800).accepts(900) && Size::About(800).accepts(700) && !Size::About(800).accepts(901));
        assert!(!Size::About(u64::MAX).accepts(0));
    }
}
