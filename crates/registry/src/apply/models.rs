//! Facts of models.

use crate::{
    Event, ModelError, Rejection,
    draft::Draft,
    keys,
    names::{folded, settled},
    records::Model,
};
use protocol::{ids::ModelDigest, limits, link::ModelEntry};

pub(crate) fn add(draft: &mut Draft, entry: &ModelEntry) -> Result<(), Rejection> {
    if let Some(known) = draft.read(&keys::model(entry.digest)) {
        return if known.is_removed { Err(ModelError::Removed.into()) } else { Ok(()) };
    }
    let (place, count) = (draft.counts().models_ever, draft.counts().models);
    if count as usize >= limits::MODELS_MAX || place as usize >= limits::MODELS_EVER_MAX {
        return Err(Rejection::ModelsFull);
    }
    if entry.licence.len() > limits::LICENCE_BYTES_MAX || entry.licence.chars().any(char::is_control) {
        return Err(ModelError::Licence.into());
    }
    let entry = settled(entry.clone(), |name| draft.has(&keys::model_name(name)))?;
    let digest = entry.digest;
    for name in std::iter::once(&entry.name).chain(&entry.aliases) {
        draft.write(keys::model_name(&folded(name)), &digest);
    }
    draft.write(keys::model_place(place), &digest);
    draft.write(keys::model(digest), &Model { place, entry, is_removed: false });
    draft.count(|counts| (counts.models, counts.models_ever) = (count + 1, place + 1));
    draft.happened(Event::ModelAdded { digest });
    Ok(())
}

/// Its entry stays, and so do its names: they are nobody else's.
pub(crate) fn remove(draft: &mut Draft, digest: ModelDigest) -> Result<(), Rejection> {
    let mut model = draft.read(&keys::model(digest)).ok_or(ModelError::Unknown)?;
    if !std::mem::replace(&mut model.is_removed, true) {
        draft.write(keys::model(digest), &model);
        draft.count(|counts| counts.models -= 1);
        draft.happened(Event::ModelRemoved { digest });
    }
    Ok(())
}
