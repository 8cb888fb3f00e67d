//! What committees agree on: any bytes are a bundle or an error, any bundle of anybody is applied whole or changes nothing,
//! and every credit stays in its place. Signatures hold here, all of them, so that what is behind them is reached.
#![no_main]

use fuzz::round_trip;
use libfuzzer_sys::fuzz_target;
use protocol::{
    ids::{AccountId, NodeId, PoolId},
    limits::SIGNED_BYTES_MAX,
    link::Role,
    pool::PoolPolicy,
    signed::{Signed, Verifier},
};
use registry::{Account, Authenticated, BlockContext, Bundle, Fact, Genesis, Record, Registry, keys};
use std::sync::LazyLock;

/// Orchestrator, owner, asker and node in one, and the node next door.
const ONE: NodeId = NodeId([1; 32]);
const OTHER: NodeId = NodeId([2; 32]);
const NOW_MS: u64 = 100_000_000;

struct Gullible;

impl Verifier for Gullible {
    fn holds(&self, _: &NodeId, _: &[u8], _: &[u8; 64]) -> bool {
        true
    }
}

static FOUNDED: LazyLock<Registry> = LazyLock::new(|| {
    let mut registry = Registry::default();
    let policy = PoolPolicy { starter_micro: 1_000, issue_micro_max: 10_000, ..PoolPolicy::default() };
    let mut facts = vec![Fact::Genesis(Genesis::new(vec![ONE], &[7; 32], 0)), Fact::PolicySet(policy)];
    for node in [ONE, OTHER] {
        for role in [Role::Node, Role::Client] {
            facts.push(Fact::MemberAdmitted { node, role, at_unix_ms: 0 });
        }
        facts.push(Fact::StarterGranted { node });
    }
    for fact in facts {
        registry.apply(fact).expect("a pool of two begins");
    }
    registry
});

fuzz_target!(|log: Vec<&[u8]>| {
    let mut registry = FOUNDED.clone();
    let pool = registry.pool().expect("the pool is founded");
    for (number, bytes) in (1u64..).zip(log) {
        let unix_ms = NOW_MS + number * u64::from(bytes.first().copied().unwrap_or(0)) * 10_000;
        let _ = registry.begin(&BlockContext { height: number, epoch: number / 4, unix_ms });
        if let Some(signed) = round_trip::<Signed<Bundle>>(bytes, 2 * SIGNED_BYTES_MAX) {
            say(&mut registry, &signed);
        }
        if let Ok(fact) = Fact::decode(bytes) {
            let author = if number % 4 == 0 { OTHER } else { ONE };
            say(&mut registry, &alone(pool, author.into(), number, unix_ms, fact));
        }
    }
    adds_up(&registry);
});

fn alone(pool: PoolId, author: AccountId, sequence: u64, not_after_unix_ms: u64, fact: Fact) -> Signed<Bundle> {
    let bundle = Bundle { pool, author, sequence, not_after_unix_ms, facts: vec![fact] };
    Signed::new(author.into(), &bundle, |_| [0; 64]).expect("a fact fits a bundle")
}

fn say(registry: &mut Registry, signed: &Signed<Bundle>) {
    let Ok(bundle) = Authenticated::open(signed, &Gullible) else { return };
    let root = registry.root();
    match registry.commit(&bundle, &Gullible) {
        Ok(_) => assert!(registry.commit(&bundle, &Gullible).is_err(), "a bundle counts twice"),
        Err(_) => assert_eq!(registry.root(), root, "what is rejected changes nothing"),
    }
}

fn adds_up(registry: &Registry) {
    let accounts = registry.state().entries().filter(|(key, _)| key[0] == 0x20);
    let sum: u64 = accounts
        .map(|(_, value)| Account::decode(value).expect("a value is a record"))
        .map(|account| account.available_micro + account.held_micro)
        .sum();
    let issued = registry.state().read(&keys::totals()).expect("the pool is founded").issued_micro;
    assert_eq!(sum, issued, "credits came or went");
}
