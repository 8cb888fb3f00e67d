//! What a pool is by agreement: who stands how in it, who may join, and what its policy is.

use crate::{
    grant::{Locality, Tier},
    ids::{ModelDigest, NodeId, PoolId},
    limits,
    link::Role,
    signed::Signable,
};
use serde::{Deserialize, Serialize};

/// How an account stands in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Reads everything, changes nothing.
    Auditor,
    /// Lends and asks.
    Member,
    /// Decides who takes part, and under which policy.
    Administrator,
    /// Names the administrators too.
    Owner,
}

/// Leave to join. Its id is the public half of a key pair whose secret half is what an invited person is given: the secret
/// is never shown to anybody, not even when it is used, so an invite for many cannot be taken from the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The public key.
    pub id: NodeId,
    /// How whoever uses it stands afterwards; below [`Standing::Administrator`].
    pub standing: Standing,
    /// How often it can be used; `None`: any number of times.
    pub uses: Option<u32>,
    /// Until when, in milliseconds since 1970; `None`: until it is revoked.
    pub until_unix_ms: Option<u64>,
}

/// One use of an invite, signed with the invite's key. It names who joins by it: nobody else can use it.
///
/// A home has several keys: one that lends its machine, and some that ask. One use brings all of them in, so that an invite
/// for one person admits that person's machine once, whichever of its keys comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redemption {
    /// Which pool.
    pub pool: PoolId,
    /// Who joins, and as what: at most [`limits::REDEMPTION_KEYS_MAX`], each once, and at most one that lends.
    pub keys: Vec<(NodeId, Role)>,
}

impl Redemption {
    /// Whether it is one that can count.
    pub fn is_valid(&self) -> bool {
        let lenders = self.keys.iter().filter(|(_, role)| *role == Role::Node).count();
        let is_once = |at: usize| !self.keys[..at].iter().any(|(key, _)| *key == self.keys[at].0);
        (1..=limits::REDEMPTION_KEYS_MAX).contains(&self.keys.len())
            && lenders <= 1
            && (0..self.keys.len()).all(is_once)
    }
}

/// What members and auditors can have listed of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listing {
    /// Machines that are or were members, by their ids.
    Members,
    /// Invites that are not used up, by their ids.
    Invites,
    /// Accounts that stand in some way.
    Standings,
    /// Measurements of workers that are allowed.
    Measurements,
}

/// A part of a list, ascending. What the pool says of each entry is proven to whoever asks
/// ([`crate::link::Question::Prove`]); that none is left out is the orchestrator's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// At most [`limits::LISTED_MAX`].
    pub ids: Vec<[u8; 32]>,
    /// Whether there are more behind the last one.
    pub has_more: bool,
}

impl Signable for Redemption {
    const CONTEXT: &'static str = "darkbloom/redemption/1";
}

/// A name that the pool gives: of a region, or of a property of machines. Lower-case ASCII letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label(String);

/// A text that is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a label has 1 to {} lower-case letters, digits and hyphens", limits::POOL_LABEL_CHARS_MAX)]
pub struct LabelError;

impl Label {
    /// The label of a text.
    pub fn new(text: impl Into<String>) -> Result<Self, LabelError> {
        let label = Self(text.into());
        if label.is_valid() { Ok(label) } else { Err(LabelError) }
    }

    /// Whether it is one: what was received need not be.
    pub fn is_valid(&self) -> bool {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=limits::POOL_LABEL_CHARS_MAX).contains(&self.0.len()) && self.0.bytes().all(allowed)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A pool's policy. Orchestrators and clients enforce it alike; a client's own policy can only narrow it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolPolicy {
    /// The least tier of a worker.
    pub tier_min: Tier,
    /// How far tasks of its members may travel.
    pub locality_max: Locality,
    /// The only models that may be used, ascending; `None`: all of the pool's.
    pub models: Option<Vec<ModelDigest>>,
    /// The only regions whose nodes may serve, ascending; empty: all.
    pub regions: Vec<Label>,
    /// Nobody keeps prompts or answers beyond the task.
    pub retains_nothing: bool,
    /// Only workers whose measurement is allowed may serve.
    pub measured_only: bool,
    /// Who joins waits for an administrator.
    pub needs_approval: bool,
    /// What an account is given when its first machine joins, in micro-credits.
    pub starter_micro: u64,
    /// What the pool gives to all accounts together, in micro-credits.
    pub issue_micro_max: u64,
    /// What one account may hold for tasks on one day (UTC), in micro-credits; what returns on that day does not count.
    /// `None`: what it has.
    pub day_micro_max: Option<u64>,
    /// Orders of one account that have not run out, those that are settled included.
    pub holds_per_account_max: u32,
    /// How old a root may be for what it proves to count, in milliseconds.
    pub root_age_ms_max: u64,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            tier_min: Tier::SelfSigned,
            locality_max: Locality::Pool,
            models: None,
            regions: Vec::new(),
            retains_nothing: false,
            measured_only: false,
            needs_approval: false,
            starter_micro: 0,
            issue_micro_max: 0,
            day_micro_max: None,
            holds_per_account_max: 1_024,
            root_age_ms_max: limits::ROOT_AGE_MS_MAX,
        }
    }
}

impl PoolPolicy {
    /// Whether it is in the one form in which it may be agreed on: ascending, and within the limits.
    pub fn is_valid(&self) -> bool {
        let models = self.models.as_deref().unwrap_or_default();
        models.len() <= limits::POLICY_MODELS_MAX
            && models.windows(2).all(|pair| pair[0] < pair[1])
            && are_valid(&self.regions, limits::POLICY_REGIONS_MAX)
            && self.issue_micro_max <= limits::ISSUE_MICRO_MAX
    }
}

/// Whether labels are valid, ascending, and at most `max`.
pub fn are_valid(labels: &[Label], max: usize) -> bool {
    labels.len() <= max && labels.iter().all(Label::is_valid) && labels.windows(2).all(|pair| pair[0] < pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_use_of_an_invite_is_for_one_home() {
        let of = |keys: &[(u8, Role)]| {
            let keys = keys.iter().map(|(key, role)| (NodeId([*key; 32]), *role)).collect();
            Redemption { pool: PoolId([0; 32]), keys }.is_valid()
        };
        assert!(of(&[(1, Role::Node), (2, Role::Client), (3, Role::Client)]));
        assert!(!of(&[]) && !of(&[(1, Role::Node), (2, Role::Node)]) && !of(&[(1, Role::Client), (1, Role::Node)]));
        assert!(!of(&[(1, Role::Client), (2, Role::Client), (3, Role::Client), (4, Role::Client), (5, Role::Client)]));
    }

    #[test]
    fn labels_and_policies_have_one_form() {
        for bad in ["", "A", "a b", "ä", &"a".repeat(limits::POOL_LABEL_CHARS_MAX + 1)] {
            assert_eq!(Label::new(bad), Err(LabelError), "{bad:?}");
        }
        let [a, b] = ["a-1", "b"].map(|text| Label::new(text).unwrap());
        let with = |regions| PoolPolicy { regions, ..PoolPolicy::default() };
        assert!(with(vec![a.clone(), b.clone()]).is_valid());
        assert!(!with(vec![b.clone(), a.clone()]).is_valid() && !with(vec![a.clone(), a]).is_valid());
        assert!(!PoolPolicy { issue_micro_max: u64::MAX, ..PoolPolicy::default() }.is_valid());
        assert!(Standing::Auditor < Standing::Member && Standing::Administrator < Standing::Owner);
    }
}
