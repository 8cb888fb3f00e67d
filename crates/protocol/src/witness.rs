//! What an orchestrator shows of the pool's agreed state, so that nobody has to take its word for it.
//!
//! A grant comes with a [`Witness`], each of its candidates with what is [`Shown`] of it. Whoever knows who the committee
//! is (`trust::light`) checks the [`Anchor`], and then the proofs against its root. How the committee came to be, the
//! [`Lineage`] tells, from the genesis that the pool's id is the hash of.

use crate::{
    genesis::Genesis,
    header::{Anchor, Handover},
    proof::Proof,
};
use serde::{Deserialize, Serialize};

/// What is shown of a pool, once for all candidates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The newest block that is final, of which all proofs are.
    pub anchor: Anchor,
    /// Of the pool's policy.
    pub policy: Proof,
    /// That workers of a measurement are allowed, where the policy asks for it: each once, at most
    /// [`crate::limits::MEASUREMENTS_SHOWN_MAX`].
    pub measurements: Vec<([u8; 32], Proof)>,
}

/// What is shown of one candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Of its record as a member.
    pub member: Proof,
    /// Of what it asks for its work with the model. Not needed where its record says that it asks for nothing.
    pub ask: Option<Proof>,
}

/// Records of the pool's state, as they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proofs {
    /// The newest block that is final, of which all proofs are.
    pub anchor: Anchor,
    /// Of what is, or is not, under each of the keys that were asked about, in their order.
    pub proofs: Vec<Proof>,
}

/// What a node is shown on its admission, so that it knows itself whose permits hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// How the committee came to be, from the epoch on that the node knew already.
    pub lineage: Lineage,
    /// The newest block that is final; `None` right after the start of an orchestrator.
    pub anchor: Option<Anchor>,
}

/// How the committee of a pool came to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// How the pool began.
    pub genesis: Genesis,
    /// From one committee to the next, oldest first: of the epochs that were asked for, at most
    /// [`crate::limits::HANDOVERS_MAX`]. More are had by asking again.
    pub handovers: Vec<Handover>,
}
