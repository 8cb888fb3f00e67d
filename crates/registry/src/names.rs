//! Who may have which name.

use crate::ModelError;
use protocol::{ids::ModelDigest, limits, link::ModelEntry};

/// Always the pool's default model; no model's own.
pub(crate) const DEFAULT: &str = "default";
/// Hexadecimal digits of the digest behind a name that another model has.
const DIGEST_CHARS: usize = 8;

/// The form under which names are compared.
pub(crate) fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
}

pub(crate) fn is_name(name: &str) -> bool {
    (1..=limits::MODEL_NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The entry with names that are free: first come, first served. A name that is taken gets the beginning of the digest
/// behind it; aliases that are taken, invalid, repeated or too many fall away.
pub(crate) fn settled(mut entry: ModelEntry, is_taken: impl Fn(&str) -> bool) -> Result<ModelEntry, ModelError> {
    if !is_name(&entry.name) {
        return Err(ModelError::Name);
    }
    let is_free = |name: &str| name != DEFAULT && !is_taken(name);
    if !is_free(&folded(&entry.name)) {
        entry.name = distinguished(&entry.name, entry.digest);
        if !is_free(&folded(&entry.name)) {
            return Err(ModelError::NameTaken);
        }
    }
    let mut own = vec![folded(&entry.name)];
    entry.aliases.retain(|alias| {
        let name = folded(alias);
        let keep = own.len() <= limits::MODEL_ALIASES_MAX && is_name(alias) && is_free(&name) && !own.contains(&name);
        if keep {
            own.push(name);
        }
        keep
    });
    Ok(entry)
}

fn distinguished(name: &str, digest: ModelDigest) -> String {
    let room = limits::MODEL_NAME_CHARS_MAX - DIGEST_CHARS - 1;
    let name = &name[..name.len().min(room)];
    format!("{name}@{}", &digest.to_string()[..DIGEST_CHARS])
}
