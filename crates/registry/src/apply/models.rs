//! Facts of models.

use crate::{
    Event, ModelError, Rejection,
    draft::Draft,
    keys,
    names::{folded, settled},
    records::Model,
};
use protocol::{limits, link::ModelEntry};

pub(crate) fn add(draft: &mut Draft, entry: &ModelEntry) -> Result<(), Rejection> {
    if draft.has(&keys::model(entry.digest)) {
        return Ok(());
    }
    let place = draft.counts().models;
    if place as usize >= limits::MODELS_MAX {
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
    draft.write(keys::model(digest), &Model { place, entry });
    draft.count(|counts| counts.models += 1);
    draft.happened(Event::ModelAdded { digest });
    Ok(())
}
