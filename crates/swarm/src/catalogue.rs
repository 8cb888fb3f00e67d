//! The list of models that this build knows, and the names they answer to.

use crate::entry::{Entry, EntryError};

/// The text of the built-in catalogue, as a person edits it.
const BUILT_IN: &str = include_str!("../catalogue.toml");

/// The alias that always means the pool's default chat model.
pub const DEFAULT_MODEL: &str = "default";

/// Models by name and alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

/// A catalogue that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Not the form of a catalogue.
    #[error("the catalogue is not valid: {0}")]
    Syntax(#[from] toml::de::Error),
    /// An entry contradicts itself.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Two entries have one name, or a name is another entry's alias.
    #[error("two models answer to the name `{0}`")]
    NameTaken(String),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogueFile {
    #[serde(default)]
    model: Vec<Entry>,
}

impl Catalogue {
    /// The catalogue of this build.
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN).expect("the embedded catalogue is parsed by a test")
    }

    /// Reads a catalogue in the form of `catalogue.toml`.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let file: CatalogueFile = toml::from_str(text)?;
        let mut catalogue = Self { entries: Vec::new() };
        for entry in file.model {
            catalogue.add(entry)?;
        }
        Ok(catalogue)
    }

    /// Adds an entry. Its name must be free; its aliases may be shared with other entries.
    pub fn add(&mut self, entry: Entry) -> Result<(), CatalogueError> {
        entry.check()?;
        let clash = |other: &&Entry| other.answers_to(&entry.name) || entry.answers_to(&other.name);
        if self.entries.iter().any(|other| clash(&other)) {
            return Err(CatalogueError::NameTaken(entry.name));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Every entry, in the order of the catalogue.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries that answer to a name, in order of preference; none if nobody knows it. A name has one entry, an alias
    /// may have several: [`fetch_first`](crate::fetch::fetch_first) takes the first that can be had.
    pub fn resolve(&self, name: &str) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.answers_to(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        entry::{Hash, Size},
        origin::Origin,
    };

    #[test]
    fn the_built_in_catalogue_has_what_was_promised() {
        let catalogue = Catalogue::built_in();
        let default: Vec<_> = catalogue.resolve(DEFAULT_MODEL).iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(default, ["smollm2-135m-instruct-q4_1", "smollm2-135m-instruct-q8_0"]);
        for name in [
            "phi-3-mini-4k-instruct",
            "llama-3.2-3b-instruct",
            "gemma-2-2b-it",
            "smollm2-1.7b-instruct",
            "llama-3.1-8b-instruct",
        ] {
            let entry = catalogue.resolve(name)[0];
            assert!(matches!(entry.origins[0], Origin::Hub(_)), "{name}");
            assert_eq!(entry.hash, Hash::Learned, "{name}");
        }
        for entry in catalogue.entries() {
            assert!(!entry.origins.is_empty() && entry.context_tokens.is_some(), "{}", entry.name);
            assert!(entry.memory_bytes_min > entry.size.bytes(), "{}", entry.name);
            assert!(entry.licence.url.is_some(), "{}", entry.name);
        }
    }

    #[test]
    fn the_default_model_is_pinned_and_has_two_origins() {
        let catalogue = Catalogue::built_in();
        let entry = catalogue.resolve(DEFAULT_MODEL)[0];
        assert!(matches!(entry.hash, Hash::Blake3(_)));
        assert_eq!(entry.size, Size::Exact(98_362_432));
        assert!(matches!(entry.origins.as_slice(), [Origin::Hub(_), Origin::PythonPackage(_)]));
    }

    const ENTRY: &str = r#"
        [[model]]
        name = "a"
        aliases = ["default"]
        description = "d"
        licence = { id = "MIT" }
        size = { exact = 1 }
        memory_bytes_min = 2
        quantisation = "F16"
        architecture = "llama"
        hash = "learned"
    "#;

    #[test]
    fn bad_catalogues_are_refused() {
        assert_eq!(Catalogue::parse(ENTRY).unwrap().resolve("DEFAULT").len(), 1);
        assert!(Catalogue::parse("").unwrap().resolve("default").is_empty());
        for (from, to) in [
            ("name = \"a\"", "name = \"../a\""),
            ("exact = 1", "exact = 0"),
            ("exact = 1", "exact = -1"),
            ("\"learned\"", "{ blake3 = \"abc\" }"),
            ("\"learned\"", "\"whatever\""),
            ("hash =", "surprise = 1\nhash ="),
            ("exact", "about\" = 1, \"exact"),
        ] {
            let text = ENTRY.replace(from, to);
            assert_ne!(text, ENTRY);
            assert!(Catalogue::parse(&text).is_err(), "{text}");
        }
        let pinned_about =
            ENTRY.replace("exact", "about").replace("\"learned\"", &format!("{{ blake3 = \"{}\" }}", "ab".repeat(32)));
        assert!(Catalogue::parse(&pinned_about).unwrap_err().to_string().contains("exact size"));
        let twice = format!("{ENTRY}{ENTRY}");
        assert!(matches!(Catalogue::parse(&twice), Err(CatalogueError::NameTaken(_))));
        let learned_from_wheel = format!(
            "{ENTRY}\n[[model.origin]]\nkind = \"python-package\"\npackage = \"p\"\nversion = \"1\"\nmember = \"m\"\nwheel_bytes = 1"
        );
        assert!(matches!(Catalogue::parse(&learned_from_wheel), Err(CatalogueError::Entry(_))));
    }
}
