//! The state that facts make.

use crate::{Event, Fact, Genesis, Rejection, models::Models};
use protocol::{
    grant::ModelRef,
    ids::{NodeId, PoolId},
    limits,
    link::{ModelEntry, Role},
};
use std::collections::BTreeMap;
use trust::observations::Observations;

/// The agreed state of a pool. [`Registry::default`] is the state before any fact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    founded: Option<Founded>,
    members: BTreeMap<NodeId, Member>,
    models: Models,
    // Of members only.
    observed: BTreeMap<NodeId, Observed>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Founded {
    pool: PoolId,
    genesis: Genesis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Observed {
    epoch: u64,
    observations: Observations,
}

/// A machine that is or was part of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Since when, in milliseconds since 1970.
    pub admitted_unix_ms: u64,
    /// It may lend itself.
    pub lends: bool,
    /// It may ask.
    pub asks: bool,
    /// When it was removed, in milliseconds since 1970.
    pub removed_unix_ms: Option<u64>,
}

impl Member {
    fn role(&mut self, role: Role) -> &mut bool {
        match role {
            Role::Node => &mut self.lends,
            Role::Client => &mut self.asks,
        }
    }

    /// Whether it may take part in this role.
    pub fn has_role(&self, role: Role) -> bool {
        let mut member = *self;
        self.removed_unix_ms.is_none() && *member.role(role)
    }
}

impl Registry {
    /// Adds one fact to the state: what changed by it, nothing if it was so already, or why it is no fact.
    pub fn apply(&mut self, fact: Fact) -> Result<Vec<Event>, Rejection> {
        if self.founded.is_none() && !matches!(fact, Fact::Genesis(_)) {
            return Err(Rejection::NotFounded);
        }
        let event = match fact {
            Fact::Genesis(genesis) => self.found(genesis)?,
            Fact::MemberAdmitted { node, role, at_unix_ms } => self.admit(node, role, at_unix_ms)?,
            Fact::ModelAdded(entry) => self.models.add(entry)?,
            Fact::MemberRemoved { node, at_unix_ms } => self.remove(node, at_unix_ms)?,
            Fact::Observed { node, epoch, observations } => self.observe(node, epoch, observations)?,
        };
        Ok(event.into_iter().collect())
    }

    fn found(&mut self, genesis: Genesis) -> Result<Option<Event>, Rejection> {
        match &self.founded {
            Some(founded) if founded.genesis == genesis => Ok(None),
            Some(_) => Err(Rejection::FoundedDifferently),
            None => {
                let pool = genesis.pool()?;
                self.founded = Some(Founded { pool, genesis });
                Ok(Some(Event::Founded { pool }))
            }
        }
    }

    fn admit(&mut self, node: NodeId, role: Role, at_unix_ms: u64) -> Result<Option<Event>, Rejection> {
        if !self.members.contains_key(&node) && self.members.len() >= limits::MEMBERS_MAX {
            return Err(Rejection::MembersFull);
        }
        let new = Member { admitted_unix_ms: at_unix_ms, lends: false, asks: false, removed_unix_ms: None };
        let member = self.members.entry(node).or_insert(new);
        if member.removed_unix_ms.is_some() {
            return Err(Rejection::Removed);
        }
        let had_role = std::mem::replace(member.role(role), true);
        Ok((!had_role).then_some(Event::MemberAdmitted { node, role }))
    }

    fn remove(&mut self, node: NodeId, at_unix_ms: u64) -> Result<Option<Event>, Rejection> {
        let member = self.members.get_mut(&node).ok_or(Rejection::UnknownMember)?;
        if member.removed_unix_ms.is_some() {
            return Ok(None);
        }
        member.removed_unix_ms = Some(at_unix_ms);
        self.observed.remove(&node);
        Ok(Some(Event::MemberRemoved { node }))
    }

    fn observe(&mut self, node: NodeId, epoch: u64, observations: Observations) -> Result<Option<Event>, Rejection> {
        let member = self.members.get(&node).ok_or(Rejection::UnknownMember)?;
        if member.removed_unix_ms.is_some() {
            return Err(Rejection::Removed);
        }
        observations.check()?;
        if let Some(agreed) = self.observed.get(&node) {
            if agreed.epoch == epoch && agreed.observations == observations {
                return Ok(None);
            }
            if agreed.epoch >= epoch {
                return Err(Rejection::EpochPassed { epoch: agreed.epoch });
            }
        }
        self.observed.insert(node, Observed { epoch, observations });
        Ok(Some(Event::Observed { node, epoch }))
    }

    /// What was observed of a member, as agreed last.
    pub fn observations(&self, node: NodeId) -> Option<&Observations> {
        self.observed.get(&node).map(|observed| &observed.observations)
    }

    /// Up to which epoch a member's observations are agreed on.
    pub fn observed_epoch(&self, node: NodeId) -> Option<u64> {
        self.observed.get(&node).map(|observed| observed.epoch)
    }

    /// Every member's observations, by its id.
    pub fn all_observations(&self) -> impl Iterator<Item = (NodeId, &Observations)> {
        self.observed.iter().map(|(node, observed)| (*node, &observed.observations))
    }

    /// The pool's id, once it is founded.
    pub fn pool(&self) -> Option<PoolId> {
        self.founded.as_ref().map(|founded| founded.pool)
    }

    /// Machines whose permits hold in the pool.
    pub fn orchestrators(&self) -> &[NodeId] {
        self.founded.as_ref().map_or(&[], |founded| &founded.genesis.orchestrators)
    }

    /// Whether this is the secret that admits. Takes the same time for every wrong secret.
    pub fn admits(&self, secret: &[u8; 32]) -> bool {
        // The comparison of BLAKE3 hashes is constant in time.
        self.founded.as_ref().is_some_and(|founded| blake3::hash(secret) == founded.genesis.secret_hash)
    }

    /// A machine that is or was part of the pool.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Whether the machine is part of the pool, in whatever role.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.member(node).is_some_and(|member| member.removed_unix_ms.is_none())
    }

    /// The model that a reference means. Case does not matter in names; `default` is the first model.
    pub fn model(&self, model: &ModelRef) -> Option<&ModelEntry> {
        self.models.get(model)
    }

    /// Every model in the order in which they came; the first is the default.
    pub fn models(&self) -> &[ModelEntry] {
        self.models.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GenesisError, ModelError};
    use protocol::ids::ModelDigest;

    const NODE: NodeId = NodeId([9; 32]);

    fn genesis() -> Genesis {
        Genesis::new(vec![NodeId([1; 32])], &[7; 32], 5)
    }

    fn founded() -> Registry {
        let mut registry = Registry::default();
        registry.apply(Fact::Genesis(genesis())).unwrap();
        registry
    }

    fn model(name: &str, aliases: &[&str], byte: u8) -> ModelEntry {
        ModelEntry {
            name: name.to_owned(),
            aliases: aliases.iter().map(|&alias| alias.to_owned()).collect(),
            digest: ModelDigest([byte; 32]),
            bytes: 1,
            licence: "MIT".to_owned(),
            created_unix_s: 1,
        }
    }

    fn name_of<'a>(registry: &'a Registry, name: &str) -> Option<&'a str> {
        registry.model(&ModelRef::Name(name.to_owned())).map(|entry| entry.name.as_str())
    }

    #[test]
    fn a_pool_is_named_by_its_genesis_and_founded_once() {
        let mut registry = Registry::default();
        let admitted = Fact::MemberAdmitted { node: NODE, role: Role::Node, at_unix_ms: 1 };
        assert_eq!(registry.apply(admitted), Err(Rejection::NotFounded));
        assert!(!registry.admits(&[7; 32]));
        let mut registry = founded();
        assert_eq!(registry.pool(), Some(genesis().pool().unwrap()));
        assert_eq!(registry.apply(Fact::Genesis(genesis())), Ok(Vec::new()));
        let other = Genesis { created_unix_ms: 6, ..genesis() };
        assert_ne!(other.pool(), genesis().pool());
        assert_eq!(registry.apply(Fact::Genesis(other)), Err(Rejection::FoundedDifferently));
        assert!(registry.admits(&[7; 32]) && !registry.admits(&[8; 32]));
    }

    #[test]
    fn a_genesis_names_each_orchestrator_once() {
        let with = |orchestrators| Genesis { orchestrators, ..genesis() }.pool();
        assert_eq!(with(Vec::new()), Err(GenesisError::NoOrchestrator));
        assert_eq!(with(vec![NODE, NodeId([1; 32]), NODE]), Err(GenesisError::Repeated));
        let many = (0..=limits::ORCHESTRATORS_MAX as u8).map(|byte| NodeId([byte; 32])).collect();
        assert_eq!(with(many), Err(GenesisError::TooManyOrchestrators));
    }

    #[test]
    fn a_removed_member_stays_removed() {
        let mut registry = founded();
        let admitted = |role| Fact::MemberAdmitted { node: NODE, role, at_unix_ms: 1 };
        let removed = Fact::MemberRemoved { node: NODE, at_unix_ms: 2 };
        assert_eq!(registry.apply(removed.clone()), Err(Rejection::UnknownMember));
        let event = Event::MemberAdmitted { node: NODE, role: Role::Node };
        assert_eq!(registry.apply(admitted(Role::Node)), Ok(vec![event]));
        assert_eq!(registry.apply(admitted(Role::Node)), Ok(Vec::new()));
        assert!(registry.member(NODE).unwrap().has_role(Role::Node));
        assert!(!registry.member(NODE).unwrap().has_role(Role::Client));
        assert!(registry.is_member(NODE));
        assert_eq!(registry.apply(removed.clone()), Ok(vec![Event::MemberRemoved { node: NODE }]));
        assert_eq!(registry.apply(removed), Ok(Vec::new()));
        assert_eq!(registry.apply(admitted(Role::Client)), Err(Rejection::Removed));
        assert!(!registry.is_member(NODE) && !registry.member(NODE).unwrap().has_role(Role::Node));
    }

    #[test]
    fn members_are_observed_once_an_epoch_and_others_never() {
        let mut registry = founded();
        let observed = |epoch, memory_mib| Fact::Observed {
            node: NODE,
            epoch,
            observations: Observations { memory_mib, ..Observations::default() },
        };
        assert_eq!(registry.apply(observed(1, 1)), Err(Rejection::UnknownMember));
        registry.apply(Fact::MemberAdmitted { node: NODE, role: Role::Node, at_unix_ms: 1 }).unwrap();
        assert_eq!(registry.apply(observed(5, 1)), Ok(vec![Event::Observed { node: NODE, epoch: 5 }]));
        assert_eq!(registry.apply(observed(5, 1)), Ok(Vec::new()));
        for stale in [observed(5, 2), observed(4, 1)] {
            assert_eq!(registry.apply(stale), Err(Rejection::EpochPassed { epoch: 5 }));
        }
        assert_eq!(registry.apply(observed(6, 2)), Ok(vec![Event::Observed { node: NODE, epoch: 6 }]));
        assert_eq!(registry.observations(NODE).map(|seen| seen.memory_mib), Some(2));
        let mut impossible = Observations::default();
        impossible.network.loss_ppm = 2_000_000;
        let fact = Fact::Observed { node: NODE, epoch: 7, observations: impossible };
        assert!(matches!(registry.apply(fact), Err(Rejection::Observations(_))));
        registry.apply(Fact::MemberRemoved { node: NODE, at_unix_ms: 2 }).unwrap();
        assert_eq!(registry.observations(NODE), None);
        assert_eq!(registry.apply(observed(8, 1)), Err(Rejection::Removed));
    }

    #[test]
    fn names_keep_their_meaning_whoever_comes_later() {
        let mut registry = founded();
        for (entry, name) in [
            (model("Tiny", &["default", "small", "SMALL", "tiny", "", "sp ace"], 1), "Tiny"),
            (model("tiny", &["small", "mini"], 2), "tiny@02020202"),
            (model("MINI", &[], 3), "MINI@03030303"),
            (model("default", &["other"], 4), "default@04040404"),
        ] {
            let digest = entry.digest;
            assert_eq!(registry.apply(Fact::ModelAdded(entry)), Ok(vec![Event::ModelAdded { digest }]));
            assert_eq!(registry.model(&ModelRef::Digest(digest)).unwrap().name, name);
        }
        for (asked, found) in [
            ("default", Some("Tiny")),
            ("DeFault", Some("Tiny")),
            ("small", Some("Tiny")),
            ("tiny", Some("Tiny")),
            ("mini", Some("tiny@02020202")),
            ("Mini@03030303", Some("MINI@03030303")),
            ("other", Some("default@04040404")),
            ("", None),
            ("nobody", None),
        ] {
            assert_eq!(name_of(&registry, asked), found, "{asked}");
        }
        assert_eq!(registry.models()[0].aliases, ["small"]);
        assert_eq!(registry.apply(Fact::ModelAdded(model("again", &[], 1))), Ok(Vec::new()));
        assert_eq!(name_of(&registry, "again"), None);
    }

    #[test]
    fn models_are_bounded() {
        let mut registry = founded();
        let rejected = |error: ModelError| Err(Rejection::Model(error));
        for bad in ["", "sp ace", "ж", "new\nline", &"x".repeat(limits::MODEL_NAME_CHARS_MAX + 1)] {
            assert_eq!(registry.apply(Fact::ModelAdded(model(bad, &[], 1))), rejected(ModelError::Name), "{bad:?}");
        }
        let licence = "x".repeat(limits::LICENCE_BYTES_MAX + 1);
        let long = ModelEntry { licence, ..model("a", &[], 1) };
        assert_eq!(registry.apply(Fact::ModelAdded(long)), rejected(ModelError::Licence));
        let names: Vec<String> = (0..100).map(|number| format!("alias-{number}")).collect();
        let aliases: Vec<&str> = names.iter().map(String::as_str).collect();
        let longest = "x".repeat(limits::MODEL_NAME_CHARS_MAX);
        for number in 0..limits::MODELS_MAX {
            let mut entry = model(&longest, &aliases, 0);
            entry.digest.0[..2].copy_from_slice(&(number as u16).to_be_bytes());
            registry.apply(Fact::ModelAdded(entry)).unwrap();
        }
        assert_eq!(registry.models()[0].aliases.len(), limits::MODEL_ALIASES_MAX);
        assert!(registry.models().iter().all(|entry| entry.name.len() <= limits::MODEL_NAME_CHARS_MAX));
        assert_eq!(registry.apply(Fact::ModelAdded(model("more", &[], 255))), Err(Rejection::ModelsFull));
    }
}
