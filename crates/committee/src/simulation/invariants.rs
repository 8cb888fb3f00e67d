//! What must hold whatever happens, each in one place. The first violation of a seed is kept.

use crate::{
    body,
    execution::{BundleId, bundle_id},
};
use consensus::{Block, Fault};
use protocol::{header::Header, ids::NodeId, market::HoldId, proof::Digest, signed::Signed};
use registry::{
    Account, Authenticated, BlockContext, Bundle, Event, Genesis, Hold, Record, Registry, State, Totals, keys,
};
use std::collections::{BTreeMap, BTreeSet};
use trust::Strict;

const ACCOUNT: u8 = 0x20;
const HOLD: u8 = 0x21;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

#[derive(Debug)]
pub(super) struct Invariants {
    epoch_blocks: u64,
    honest: BTreeSet<NodeId>,
    /// What the first member that was told of a block was told, by height.
    chain: Vec<(Digest, Header)>,
    /// The state after them, from the genesis on, by no member.
    reference: Registry,
    bundles: BTreeMap<BundleId, u64>,
    told: BTreeMap<BundleId, u64>,
    paid: BTreeSet<(HoldId, Digest)>,
    /// The newest block that each member was told of and has not been excused from.
    reached: BTreeMap<NodeId, u64>,
    violation: Option<Violation>,
}

impl Invariants {
    pub(super) fn new(genesis: &Genesis, first: &Block, honest: BTreeSet<NodeId>) -> Self {
        let mut reference = Registry::default();
        reference.apply(registry::Fact::Genesis(genesis.clone())).unwrap();
        Self {
            epoch_blocks: genesis.epoch_blocks.into(),
            honest,
            chain: vec![(first.digest(), first.header().clone())],
            reference,
            bundles: BTreeMap::new(),
            told: BTreeMap::new(),
            paid: BTreeSet::new(),
            reached: BTreeMap::new(),
            violation: None,
        }
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn violated(&mut self, invariant: &'static str, what: String) {
        self.violation.get_or_insert(Violation { invariant, what });
    }

    pub(super) fn is_honest(&self, member: NodeId) -> bool {
        self.honest.contains(&member)
    }

    pub(super) fn height(&self) -> u64 {
        self.chain.len() as u64 - 1
    }

    pub(super) fn has(&self, bundle: &BundleId) -> bool {
        self.bundles.contains_key(bundle)
    }

    /// An honest member was told that a block is final, and has this state and failure after it.
    pub(super) fn finalised(&mut self, member: NodeId, block: &Block, state: &State, failure: Option<String>) {
        let height = block.header().height;
        if let Some(failure) = failure {
            return self.violated("validity", format!("{} cannot follow block {height}: {failure}", member.short()));
        }
        if height == self.height() + 1 {
            self.valid(block);
            self.conserved();
        }
        self.agreed(member, block.header());
        let reached = self.reached.entry(member).or_default();
        *reached = height.max(*reached);
        let agreed = self.chain.get(height as usize).map(|(_, header)| header.state);
        if agreed != Some(state.root()) {
            self.violated("agreement", format!("{} has another state after block {height}", member.short()));
        }
    }

    /// Agreement: one block for each height.
    fn agreed(&mut self, member: NodeId, header: &Header) {
        let height = header.height;
        match self.chain.get(height as usize) {
            Some((digest, _)) if *digest == header.digest() => {}
            Some(_) => self.violated("agreement", format!("{} has another block {height}", member.short())),
            None => self.violated("agreement", format!("{} has block {height}, which nobody else has", member.short())),
        }
    }

    /// Validity: the block follows the one before, and its bundles lead to the state that it names.
    fn valid(&mut self, block: &Block) {
        let header = block.header();
        let wrong = match self.executed(block) {
            Err(why) => Some(why),
            Ok(()) if self.reference.root() != header.state => Some("it leads to another state".to_owned()),
            Ok(()) => None,
        };
        if let Some(why) = wrong {
            self.violated("validity", format!("block {}: {why}", header.height));
        }
        self.chain.push((block.digest(), header.clone()));
        let height = header.height;
        let missing: Vec<_> = self.told.iter().filter(|(id, at)| **at == height && !self.has(id)).collect();
        if !missing.is_empty() {
            self.violated(
                "durability",
                format!("callers were told of {} bundles that are not in block {height}", missing.len()),
            );
        }
    }

    fn executed(&mut self, block: &Block) -> Result<(), String> {
        let header = block.header();
        let (parent, below) = self.chain.last().expect("there is a genesis");
        if header.parent != *parent
            || header.unix_ms <= below.unix_ms
            || header.height / self.epoch_blocks != header.epoch
        {
            return Err("its header does not follow".to_owned());
        }
        let context = BlockContext { height: header.height, epoch: header.epoch, unix_ms: header.unix_ms };
        self.reference.begin(&context).map_err(|why| why.to_string())?;
        let bundles = body::decode(block.body()).ok_or("its body is none")?;
        for signed in &bundles {
            let before = self.reference.state().clone();
            let bundle = Authenticated::open(signed, &Strict).map_err(|why| why.to_string())?;
            let events = self.reference.commit(&bundle, &Strict).map_err(|why| why.to_string())?;
            self.paid_once(&before, &events);
            self.said_once(signed, header.height);
        }
        let state = self.reference.state();
        let committee = state.committee().ok_or("nobody agrees")?;
        let is_last = (header.height + 1).is_multiple_of(self.epoch_blocks);
        let next = if is_last { state.next_committee().ok_or("nobody agrees next")? } else { committee.clone() };
        if (header.committee, header.next_committee) != (committee.digest(), next.digest()) {
            return Err("it names other committees".to_owned());
        }
        Ok(())
    }

    /// Conservation: what accounts have is what was issued, and what they hold is what their holds have left.
    fn conserved(&mut self) {
        let state = self.reference.state();
        let totals: Totals = state.read(&keys::totals()).unwrap_or_default();
        if let Err(what) = balanced(state.entries(), totals) {
            self.violated("conservation", what);
        }
    }

    /// Conservation: nobody is paid twice from one order.
    fn paid_once(&mut self, before: &State, events: &[Event]) {
        for event in events {
            let Event::Settled { hold, .. } = event else { continue };
            let order = before.read(&keys::hold(*hold)).map_or([0; 32], |hold: Hold| hold.order);
            if !self.paid.insert((*hold, order)) {
                self.violated("conservation", format!("{hold:?} is settled twice"));
            }
        }
    }

    /// Validity: a bundle counts once.
    fn said_once(&mut self, signed: &Signed<Bundle>, height: u64) {
        if let Some(before) = self.bundles.insert(bundle_id(signed), height) {
            self.violated("validity", format!("a bundle of block {before} counts again in {height}"));
        }
    }

    /// Durability: somebody is told that a bundle is final in a block of this height.
    pub(super) fn told(&mut self, bundle: BundleId, height: u64) {
        if height > self.height() {
            self.told.insert(bundle, height);
        } else if !self.has(&bundle) {
            self.violated("durability", format!("a caller was told of a bundle that is in no block up to {height}"));
        }
    }

    /// Durability: a member that starts again has everything that it was told to be final, in the agreed order.
    pub(super) fn started(&mut self, member: NodeId, header: &Header) {
        let reached = self.reached.get(&member).copied().unwrap_or(0);
        if header.height < reached {
            self.violated("durability", format!("{} had block {reached}, and has {}", member.short(), header.height));
        }
        self.agreed(member, header);
    }

    /// What a member had is lost with its disk.
    pub(super) fn excuse(&mut self, member: NodeId) {
        self.reached.remove(&member);
    }

    /// Durability: an honest key never signs what contradicts what it has signed.
    pub(super) fn accused(&mut self, fault: &Fault) {
        if self.is_honest(fault.member) {
            let Fault { member, epoch, view, kind, .. } = fault;
            self.violated("durability", format!("{} signed {kind:?} in epoch {epoch}, round {view}", member.short()));
        }
    }

    /// Liveness: what is said when all is well again is final in time.
    pub(super) fn live(&mut self, is_final: bool, lag: &str) {
        if !is_final {
            self.violated("liveness", format!("what was said is not final after a minute without faults: {lag}"));
        }
    }

    /// Liveness: nobody stops by itself without a fault of its disk.
    pub(super) fn stopped(&mut self, member: NodeId, why: &str) {
        self.violated("liveness", format!("{} has stopped: {why}", member.short()));
    }
}

/// Whether the books of a state are balanced.
fn balanced<'a>(entries: impl Iterator<Item = (&'a [u8], &'a [u8])>, totals: Totals) -> Result<(), String> {
    let (mut all, mut held, mut owed) = (0u128, BTreeMap::new(), BTreeMap::new());
    for (key, value) in entries {
        match key.first() {
            Some(&ACCOUNT) => {
                let account = Account::decode(value).ok_or("an account has another form")?;
                all += u128::from(account.available_micro) + u128::from(account.held_micro);
                if account.held_micro > 0 {
                    held.insert(key[1..].to_vec(), account.held_micro);
                }
            }
            Some(&HOLD) => {
                let hold = Hold::decode(value).ok_or("a hold has another form")?;
                if hold.rest_micro > hold.amount_micro {
                    return Err("more is left of a hold than was held".to_owned());
                }
                if hold.rest_micro > 0 {
                    *owed.entry(hold.payer.0.to_vec()).or_insert(0) += hold.rest_micro;
                }
            }
            _ => {}
        }
    }
    if all != u128::from(totals.issued_micro) {
        return Err(format!("{} were issued, and accounts have {all}", totals.issued_micro));
    }
    if held != owed { Err("accounts hold something else than their holds have left".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(available_micro: u64, held_micro: u64) -> Vec<u8> {
        Account { available_micro, held_micro, ..Account::default() }.encode().unwrap()
    }

    #[test]
    fn books_that_are_not_balanced_are_seen() {
        let (one, other) = (account(70, 0), account(30, 0));
        let (first, second) = ([ACCOUNT, 1], [ACCOUNT, 2]);
        let books = [(&first[..], &one[..]), (&second[..], &other[..])];
        let issued = |issued_micro| Totals { issued_micro };
        assert_eq!(balanced(books.into_iter(), issued(100)), Ok(()));
        assert!(balanced(books.into_iter(), issued(99)).is_err(), "credits out of nothing");
        assert!(balanced(books.into_iter(), issued(101)).is_err(), "credits are gone");
        let held = account(70, 30);
        let books = [(&first[..], &held[..])];
        assert!(balanced(books.into_iter(), issued(100)).is_err(), "held for nothing");
    }
}
