//! The ledger a second time, from the registry's events alone.

use protocol::{ids::AccountId, market::HoldId};
use registry::{Account, Event, Hold, Model, Place, Posting, Record, Registry, keys};
use std::collections::{BTreeMap, BTreeSet};

/// Balances, and what was settled.
#[derive(Default)]
pub(crate) struct Books {
    available: BTreeMap<AccountId, i128>,
    held: BTreeMap<AccountId, i128>,
    issued: i128,
    settled: BTreeSet<HoldId>,
    holding: BTreeSet<HoldId>,
    pub(crate) settlements: u64,
    pub(crate) refused_lines: u64,
    pub(crate) committees: u64,
}

impl Books {
    fn side(&mut self, place: Place, amount: i128) {
        let balance = match place {
            Place::Issue => &mut self.issued,
            Place::Available(account) => self.available.entry(account).or_default(),
            Place::Held(account) => self.held.entry(account).or_default(),
        };
        *balance += amount;
        assert!(*balance >= 0 || place == Place::Issue, "{place:?} is below zero");
    }

    pub(crate) fn note(&mut self, event: &Event) {
        match *event {
            Event::Posted(Posting { from, to, amount_micro, hold }) => {
                assert!(amount_micro > 0);
                self.side(from, -i128::from(amount_micro));
                self.side(to, i128::from(amount_micro));
                if let (Place::Available(_), Place::Held(_), Some(hold)) = (from, to, hold) {
                    self.holding.insert(hold);
                    self.settled.remove(&hold);
                }
            }
            Event::Settled { hold, .. } => {
                self.settlements += 1;
                assert!(self.holding.contains(&hold), "settled without a hold");
                assert!(self.settled.insert(hold), "settled twice");
            }
            Event::LineRefused { .. } => self.refused_lines += 1,
            Event::CommitteeChanged { .. } => self.committees += 1,
            _ => {}
        }
    }

    /// The registry says the same, and every hold is somebody's.
    pub(crate) fn check(&self, registry: &Registry) {
        let sum = self.issued + self.available.values().sum::<i128>() + self.held.values().sum::<i128>();
        assert_eq!(sum, 0, "postings sum to zero");
        let (mut left, mut counted) = (BTreeMap::<AccountId, i128>::new(), [0u32; 256]);
        let (mut models, mut today) = (0, BTreeMap::<AccountId, u64>::new());
        for (key, value) in registry.state().entries() {
            counted[usize::from(key[0])] += 1;
            match key[0] {
                0x20 => {
                    let id = AccountId(key[1..].try_into().unwrap());
                    let account = Account::decode(value).unwrap();
                    let of = |book: &BTreeMap<AccountId, i128>| book.get(&id).copied().unwrap_or(0);
                    assert_eq!(i128::from(account.available_micro), of(&self.available));
                    assert_eq!(i128::from(account.held_micro), of(&self.held));
                }
                0x21 => {
                    let hold = Hold::decode(value).unwrap();
                    assert!(hold.claimed_micro() <= hold.rest_micro && hold.rest_micro <= hold.amount_micro);
                    *left.entry(hold.payer).or_default() += i128::from(hold.rest_micro);
                    let payer = registry.state().read(&keys::account(hold.payer)).unwrap();
                    if payer.day == hold.day {
                        *today.entry(hold.payer).or_default() += hold.rest_micro;
                    }
                }
                0x31 => models += u32::from(!Model::decode(value).unwrap().is_removed),
                _ => {}
            }
        }
        left.retain(|_, rest| *rest != 0);
        let held: BTreeMap<_, _> =
            self.held.iter().filter(|(_, held)| **held != 0).map(|(id, held)| (*id, *held)).collect();
        assert_eq!(left, held, "what accounts hold is what their holds have left");
        let counts = registry.state().read(&keys::counts()).unwrap();
        assert_eq!([counts.accounts, counts.holds, counts.blocks], [0x20, 0x21, 0x24].map(|key: usize| counted[key]));
        assert_eq!([counts.authors, counts.faults, counts.members], [0x50, 0x60, 0x10].map(|key: usize| counted[key]));
        assert_eq!([counts.models, counts.models_ever], [models, counted[0x31]]);
        for (payer, held) in today {
            assert!(
                held <= registry.state().read(&keys::account(payer)).unwrap().day_micro,
                "held today, not spent today"
            );
        }
        let issued = registry.state().read(&keys::totals()).unwrap().issued_micro;
        assert_eq!(i128::from(issued), -self.issued);
    }
}
