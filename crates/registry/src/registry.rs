//! The finalised state with what readers look for at hand.

use crate::{
    Event, Fact, Rejection,
    bundle::Authenticated,
    keys::{self, Key},
    models::Models,
    records::{AgreedFault, Mark, Member, Model, Observed, Params, Record},
    state::{BlockContext, State, Step},
};
use protocol::{
    fault::FaultKind,
    grant::ModelRef,
    header::Committee,
    ids::{AccountId, ModelDigest, NodeId, PoolId},
    link::ModelEntry,
    market::Price,
    pool::{Invite, Listing, Page, PoolPolicy, Standing},
    proof::{Digest, Proof},
    signed::Verifier,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};
use trust::observations::Observations;

/// The agreed state of a pool. [`Registry::default`] is the state before any fact.
///
/// What facts read and write is the [`State`] in it; everything else here is derived from that, to be read quickly and
/// listed, which a tree of hashed keys cannot be. So equal states make equal registries.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    state: State,
    params: Option<Params>,
    committee: Option<Committee>,
    members: BTreeMap<NodeId, Member>,
    models: Models,
    // Of members only.
    observed: BTreeMap<NodeId, Observed>,
    faults: BTreeMap<(NodeId, u64, FaultKind), AgreedFault>,
    policy: Option<PoolPolicy>,
    invites: BTreeMap<NodeId, Invite>,
    standings: BTreeMap<AccountId, Standing>,
    measurements: BTreeMap<[u8; 32], Mark>,
    asks: BTreeMap<(NodeId, ModelDigest), Price>,
    // Machines that belong to another account than their own.
    machines: BTreeMap<AccountId, BTreeSet<NodeId>>,
    // Both ways: who blocks, and who is blocked.
    blocks: BTreeMap<AccountId, BTreeSet<AccountId>>,
}

impl PartialEq for Registry {
    fn eq(&self, other: &Self) -> bool {
        self.state == other.state
    }
}

impl Eq for Registry {}

impl From<State> for Registry {
    fn from(state: State) -> Self {
        let mut registry = Self::default();
        let keys = state.entries().map(|(key, _)| key.to_vec()).collect();
        registry.publish(Step { state, events: Vec::new(), touched: keys });
        registry
    }
}

impl Registry {
    /// Adds one fact of the pool's own orchestrator: what changed by it, nothing if it was so already, or why it is no fact.
    pub fn apply(&mut self, fact: Fact) -> Result<Vec<Event>, Rejection> {
        let step = self.state.apply_own(&fact)?;
        Ok(self.publish(step))
    }

    /// Begins a block: see [`State::begin`].
    pub fn begin(&mut self, context: &BlockContext) -> Result<Vec<Event>, Rejection> {
        let step = self.state.begin(context)?;
        Ok(self.publish(step))
    }

    /// Applies a bundle: see [`State::apply`].
    pub fn commit(&mut self, bundle: &Authenticated, verifier: &dyn Verifier) -> Result<Vec<Event>, Rejection> {
        let step = self.state.apply(bundle, verifier)?;
        Ok(self.publish(step))
    }

    /// Takes over a state that a step led to from this one: what changed.
    pub fn publish(&mut self, step: Step) -> Vec<Event> {
        let Step { state, events, touched } = step;
        self.state = state;
        let mut models = Vec::new();
        for key in touched {
            let Some((prefix, ids)) = key.split_first() else { continue };
            let id = <[u8; 32]>::try_from(ids).ok();
            let node = || id.map(NodeId);
            match *prefix {
                keys::PARAMS => self.params = self.state.read(&keys::params()),
                keys::COMMITTEE => self.committee = self.state.committee(),
                keys::MEMBER => {
                    let account = |registry: &Self| registry.members.get(&node()?)?.account;
                    let before = account(self);
                    refresh(&self.state, &mut self.members, node(), keys::member);
                    let after = account(self);
                    if let Some(node) = node().filter(|_| before != after) {
                        self.moved(node, before, after);
                    }
                }
                keys::ASK => {
                    if let Some((node, model)) = pair(ids) {
                        let (node, model) = (NodeId(node), ModelDigest(model));
                        match self.state.read(&keys::ask(node, model)) {
                            Some(price) => drop(self.asks.insert((node, model), price)),
                            None => drop(self.asks.remove(&(node, model))),
                        }
                    }
                }
                keys::BLOCK => {
                    if let Some((one, other)) = pair(ids) {
                        self.note_block(AccountId(one), AccountId(other));
                    }
                }
                keys::OBSERVED => refresh(&self.state, &mut self.observed, node(), keys::observed),
                keys::MODEL => {
                    models.extend(self.state.tree.get(&key).and_then(Model::decode));
                }
                keys::FAULT => {
                    let fault = self.state.tree.get(&key).and_then(AgreedFault::decode);
                    self.faults.extend(fault.map(|fault| ((fault.member, fault.epoch, fault.kind), fault)));
                }
                keys::POLICY => self.policy = self.state.read(&keys::policy()),
                keys::INVITE => refresh(&self.state, &mut self.invites, node(), keys::invite),
                keys::STANDING => refresh(&self.state, &mut self.standings, id.map(AccountId), keys::standing),
                keys::MEASUREMENT => refresh(&self.state, &mut self.measurements, id, |id| keys::measurement(&id)),
                _ => {}
            }
        }
        self.models.update(models);
        events
    }

    /// A machine belongs to another account.
    fn moved(&mut self, node: NodeId, before: Option<AccountId>, after: Option<AccountId>) {
        if let Some(machines) = before.and_then(|account| self.machines.get_mut(&account)) {
            machines.remove(&node);
        }
        if let Some(account) = after {
            self.machines.entry(account).or_default().insert(node);
        }
        self.machines.retain(|account, machines| Some(*account) != before || !machines.is_empty());
    }

    fn note_block(&mut self, one: AccountId, other: AccountId) {
        let is_blocked = self.is_blocked(one, other);
        for (by, of) in [(one, other), (other, one)] {
            let others = self.blocks.entry(by).or_default();
            if is_blocked {
                others.insert(of);
            } else {
                others.remove(&of);
            }
            if others.is_empty() {
                self.blocks.remove(&by);
            }
        }
    }

    /// What a machine asks for its work with a model; `None`: nothing.
    pub fn ask(&self, node: NodeId, model: ModelDigest) -> Option<Price> {
        self.asks.get(&(node, model)).copied()
    }

    /// Whether anybody asks anything.
    pub fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// Who earns and spends for a machine.
    pub fn account_of(&self, node: NodeId) -> AccountId {
        self.member(node).map_or(node.into(), |member| member.account_of(node))
    }

    /// The machines of an account.
    pub fn machines_of(&self, account: AccountId) -> Vec<NodeId> {
        let own = NodeId::from(account);
        let linked = self.machines.get(&account).into_iter().flatten().copied();
        let is_own = self.member(own).is_some_and(|member| member.account_of(own) == account);
        linked.filter(|node| *node != own).chain(is_own.then_some(own)).collect()
    }

    /// Accounts that this one has nothing to do with, whichever of both said so.
    pub fn blocked_of(&self, account: AccountId) -> impl Iterator<Item = AccountId> {
        self.blocks.get(&account).into_iter().flatten().copied()
    }

    /// The state, to be forked, proven from, and kept.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The hash of everything that was agreed on.
    pub fn root(&self) -> Digest {
        self.state.root()
    }

    /// A proof of what is, or is not, under a key: [`Key::check`] reads it.
    pub fn prove<R: Record>(&self, key: &Key<R>) -> Proof {
        self.state.prove(key)
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
        self.params.as_ref().map(|params| params.pool)
    }

    /// Machines whose permits hold in the pool.
    pub fn orchestrators(&self) -> &[NodeId] {
        self.committee.as_ref().map_or(&[], Committee::members)
    }

    /// Whether this is the secret that admits. Takes the same time for every wrong secret.
    pub fn admits(&self, secret: &[u8; 32]) -> bool {
        // The comparison of BLAKE3 hashes is constant in time.
        self.params.as_ref().is_some_and(|params| {
            let id = NodeId(params.genesis.secret_hash);
            blake3::hash(secret) == params.genesis.secret_hash && self.state.read(&keys::invite(id)).is_some()
        })
    }

    /// The pool's policy, once it is founded.
    pub fn policy(&self) -> Option<&PoolPolicy> {
        self.policy.as_ref()
    }

    /// Whether workers of this measurement are allowed.
    pub fn allows(&self, measurement: &[u8; 32]) -> bool {
        self.measurements.contains_key(measurement)
    }

    /// At most `max` entries of a list behind one of them, ascending, and whether there are more.
    pub fn list(&self, what: Listing, after: Option<[u8; 32]>, max: usize) -> Page {
        fn page<K: Ord + Copy, V>(of: &BTreeMap<K, V>, after: Option<K>, max: usize, id: fn(K) -> [u8; 32]) -> Page {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut behind = of.range((from, Bound::Unbounded)).map(|(key, _)| id(*key));
            let ids = behind.by_ref().take(max).collect();
            Page { ids, has_more: behind.next().is_some() }
        }
        match what {
            Listing::Members => page(&self.members, after.map(NodeId), max, |node| node.0),
            Listing::Invites => page(&self.invites, after.map(NodeId), max, |invite| invite.0),
            Listing::Standings => page(&self.standings, after.map(AccountId), max, |account| account.0),
            Listing::Measurements => page(&self.measurements, after, max, |measurement| measurement),
        }
    }

    /// How an account stands.
    pub fn standing(&self, account: AccountId) -> Option<Standing> {
        self.standings.get(&account).copied()
    }

    /// Whether a key is an account that reads the pool by its standing, without being a member: an auditor's, or of those who
    /// decide.
    pub fn may_read(&self, key: NodeId) -> bool {
        self.standing(key.into()).is_some_and(|standing| standing != Standing::Member)
    }

    /// Whether one of two accounts wants nothing to do with the other.
    pub fn is_blocked(&self, one: AccountId, other: AccountId) -> bool {
        [(one, other), (other, one)].into_iter().any(|(by, of)| self.state.read(&keys::block(by, of)).is_some())
    }

    /// A machine that is or was part of the pool.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// Every machine that is or was part of the pool, by its id.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(node, member)| (*node, member))
    }

    /// Whether the machine is part of the pool, in whatever role.
    pub fn is_member(&self, node: NodeId) -> bool {
        self.member(node).is_some_and(Member::is_active)
    }

    /// The model that a reference means. Case does not matter in names; `default` is the first model.
    pub fn model(&self, model: &ModelRef) -> Option<&ModelEntry> {
        self.models.get(model)
    }

    /// How members of committees have contradicted themselves, by member and epoch.
    pub fn faults(&self) -> impl Iterator<Item = &AgreedFault> {
        self.faults.values()
    }

    /// Every model in the order in which they came; the first is the default.
    pub fn models(&self) -> &[ModelEntry] {
        self.models.all()
    }
}

/// Two ids, one behind the other.
fn pair(ids: &[u8]) -> Option<([u8; 32], [u8; 32])> {
    let (one, other) = ids.split_at_checked(32)?;
    Some((one.try_into().ok()?, other.try_into().ok()?))
}

fn refresh<I: Ord + Copy, R: Record>(
    state: &State,
    index: &mut BTreeMap<I, R>,
    id: Option<I>,
    key: impl Fn(I) -> Key<R>,
) {
    let Some(id) = id else { return };
    match state.read(&key(id)) {
        Some(record) => drop(index.insert(id, record)),
        None => drop(index.remove(&id)),
    }
}

#[cfg(test)]
mod tests;
