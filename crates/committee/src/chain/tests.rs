//! Chains driven by hand, as an engine would: proposed, judged, final.

pub(crate) mod driver;

use super::*;
use crate::{body, execution::Draft};
use consensus::{Application, Verdict, Work, body_digest};
use driver::{Driver, NOW, admitted, bundle};
use protocol::{
    header::Header,
    limits,
    link::Role,
    pool::{Invite, Redemption, Standing},
};
use registry::{BundleError, Event, Fact, PoolError, keys};
use tokio::sync::oneshot::error::TryRecvError;
use trust::MachineKey;

fn is_valid(verdict: &Verdict) -> bool {
    *verdict == Verdict::Valid
}

#[test]
fn all_members_come_to_the_same_state() {
    let mut driver = Driver::of(4);
    for round in 0..40u64 {
        let said = bundle(&driver, round as usize % 4, round + 1, vec![admitted(round)]);
        driver.hear(&said);
        let block = driver.agree(round as usize % 4);
        assert_eq!(block.header().height, round + 1);
        assert_eq!(body::decode(block.body()).unwrap(), [said]);
    }
    let latest = driver.chains.iter().map(|chain| chain.latest().borrow().clone()).collect::<Vec<_>>();
    for other in &latest {
        assert_eq!(other.header, latest[0].header);
        assert_eq!(other.state.root(), other.header.state);
        assert_eq!(other.anchor.as_ref().unwrap().0.header, other.header);
    }
    assert_eq!(latest[0].header.epoch, 40 / u64::from(driver.genesis.epoch_blocks));
}

#[test]
fn what_is_not_so_is_refused() {
    let mut driver = Driver::of(4);
    driver.agree(0);
    let parent = driver.tip();
    let good = bundle(&driver, 1, 1, vec![admitted(1)]);
    driver.hear(&good);
    let block = driver.chains[0].propose(std::slice::from_ref(&parent), 0, NOW).unwrap();
    let judge = |block: &Block| driver.chains[2].verify(block, std::slice::from_ref(&parent), NOW);
    assert!(is_valid(&judge(&block)));

    let header = block.header();
    let with = |change: &dyn Fn(&mut Header)| {
        let mut changed = header.clone();
        change(&mut changed);
        Block::new(changed, block.body().to_vec()).unwrap()
    };
    let changes: [&dyn Fn(&mut Header); 9] = [
        &|header| header.state[0] ^= 1,
        &|header| header.committee[0] ^= 1,
        &|header| header.next_committee[0] ^= 1,
        &|header| header.parent[0] ^= 1,
        &|header| header.pool.0[0] ^= 1,
        &|header| header.height += 1,
        &|header| header.epoch += 1,
        &|header| header.unix_ms = parent.header().unix_ms,
        // Time is in the state too.
        &|header| header.unix_ms += 1,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        assert!(matches!(judge(&with(change)), Verdict::Invalid(_)), "change {number}");
    }

    let far = |unix_ms| with(&|header| header.unix_ms = unix_ms);
    assert_eq!(judge(&far(NOW + 2_001)), Verdict::Early { until_unix_ms: NOW + 1 });
    assert_eq!(judge(&far(u64::MAX)), Verdict::Early { until_unix_ms: u64::MAX - 2_000 });

    let mut forged = good.clone();
    forged.signature.0[0] ^= 1;
    let mut other_signer = good.clone();
    other_signer.signer = driver.keys[3].id();
    let stranger = driver.signed(&MachineKey::generate(), 1, vec![admitted(1)]);
    let refused = bundle(&driver, 1, 2, vec![Fact::Approved { node: NodeId([99; 32]) }]);
    let bodies: [Vec<&Signed<Bundle>>; 5] =
        [vec![&forged], vec![&other_signer], vec![&stranger], vec![&good, &good], vec![&good, &refused]];
    let carrying = |body: Vec<u8>| {
        let mut changed = header.clone();
        changed.body = body_digest(&body);
        Block::new(changed, body).unwrap()
    };
    for bundles in bodies {
        let verdict = judge(&carrying(body::encode(&bundles).unwrap()));
        assert!(matches!(&verdict, Verdict::Invalid(why) if why.contains("bundle")), "{verdict:?}");
    }
    for garbage in [Vec::new(), vec![255; 40], [block.body(), &[0]].concat()] {
        assert!(matches!(judge(&carrying(garbage)), Verdict::Invalid(_)));
    }
    assert!(matches!(judge(&carrying(body::encode(&[]).unwrap())), Verdict::Invalid(_)), "another state");
    assert!(is_valid(&judge(&block)), "whatever was judged in between");
}

#[test]
fn blocks_that_are_not_final_are_built_upon_and_executed_when_missing() {
    let mut driver = Driver::of(4);
    let genesis = driver.tip();
    let mut ancestors = vec![genesis];
    for number in 1..=5u64 {
        driver.hear(&bundle(&driver, 0, number, vec![admitted(number)]));
        let block = driver.chains[1].propose(&ancestors, 0, NOW).unwrap();
        assert_eq!(body::decode(block.body()).unwrap().len(), 1, "what an ancestor holds is not said again");
        ancestors.insert(0, block);
    }
    assert_eq!(driver.chains[1].work(&ancestors), Work::Nothing);
    assert_eq!(driver.chains[1].work(&ancestors[1..]), Work::Some);
    // Never asked about the blocks in between.
    assert!(is_valid(&driver.chains[2].verify(&ancestors[0], &ancestors[1..], NOW)));
    let sibling = driver.chains[3].propose(&ancestors[2..], 0, NOW + 7).unwrap();
    assert!(is_valid(&driver.chains[2].verify(&sibling, &ancestors[2..], NOW + 7)));
    assert!(matches!(driver.chains[2].verify(&sibling, &ancestors[1..], NOW), Verdict::Invalid(_)), "another parent");
    for block in ancestors.iter().rev().skip(1) {
        driver.finalise(block);
    }
    assert_eq!(driver.chains[0].latest().borrow().header, *ancestors[0].header());
    // Siblings of what is final lead nowhere.
    assert!(matches!(driver.chains[2].verify(&sibling, &ancestors[2..], NOW + 7), Verdict::Invalid(_)));
    assert_eq!(driver.chains[2].propose(&ancestors[2..], 0, NOW), None);
}

#[test]
fn what_is_final_is_taken_in_once_and_in_order() {
    let mut driver = Driver::of(1);
    let chain = Arc::clone(&driver.chains[0]);
    let mut events = chain.events();
    driver.hear(&bundle(&driver, 0, 1, vec![admitted(1)]));
    let first = driver.agree(0);
    let root = chain.latest().borrow().state.root();
    chain.finalised(first.clone());
    chain.finalised(driver.chains[0].genesis());
    assert_eq!((chain.height(), chain.latest().borrow().state.root()), (1, root));
    assert!(matches!(events.try_recv().unwrap().events[..], [Event::MemberAdmitted { .. }]));
    assert!(events.try_recv().is_err(), "once");
    assert_eq!(chain.failure(), None);

    let second = chain.propose(std::slice::from_ref(&first), 0, NOW).unwrap();
    let mut other = second.header().clone();
    other.state[0] ^= 1;
    chain.finalised(Block::new(other, second.body().to_vec()).unwrap());
    assert!(chain.failure().unwrap().contains("install the version"), "the state would not be the committee's");
    chain.finalised(second);
    assert_eq!(chain.height(), 1, "nothing is taken in any more");
}

#[test]
fn two_that_redeem_one_invite_are_one_too_many() {
    let mut driver = Driver::of(4);
    let invite = MachineKey::generate();
    let issued = Invite { id: invite.id(), standing: Standing::Member, uses: Some(1), until_unix_ms: None };
    driver.hear(&bundle(&driver, 0, 1, vec![Fact::InviteIssued(issued)]));
    driver.agree(0);
    let machines = [MachineKey::generate(), MachineKey::generate()];
    let mut waiting: Vec<_> = machines
        .iter()
        .enumerate()
        .map(|(member, machine)| {
            let redemption = Redemption { pool: driver.pool(), keys: vec![(machine.id(), Role::Node)] };
            let joined = Fact::Joined { redemption: invite.sign(&redemption) };
            let signed = driver.signed(machine, 1, vec![joined]);
            driver.hear(&signed);
            let chain = &driver.chains[member];
            chain.submit(chain.opened(signed, None).unwrap()).unwrap()
        })
        .collect();
    driver.agree(2);
    driver.chains.iter().for_each(|chain| chain.review(chain.awaited(), NOW));
    let outcomes: Vec<_> = waiting.iter_mut().map(|outcome| outcome.try_recv()).collect();
    let joined = |outcome: &Result<Outcome, TryRecvError>| matches!(outcome, Ok(Outcome::Final { events, .. }) if !events.is_empty());
    let refused = |outcome: &Result<Outcome, TryRecvError>| {
        matches!(outcome, Ok(Outcome::Refused(Rejection::Pool(PoolError::UnknownInvite))))
    };
    assert_eq!(outcomes.iter().filter(|outcome| joined(outcome)).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| refused(outcome)).count(), 1, "{outcomes:?}");
    let state = driver.chains[3].latest().borrow().state.clone();
    let members = machines.iter().filter(|machine| state.read(&keys::member(machine.id())).is_some());
    assert_eq!(members.count(), 1);
}

#[test]
fn who_waits_is_told_what_became_of_it() {
    let mut driver = Driver::of(1);
    let chain = Arc::clone(&driver.chains[0]);
    let submit = |signed| chain.submit(chain.opened(signed, None).unwrap()).unwrap();
    let mut overtaken = submit(bundle(&driver, 0, 5, vec![admitted(5)]));
    // Another bundle with the number after it is final first.
    let signed = bundle(&driver, 0, 6, vec![admitted(6)]);
    let entry = chain.opened(signed, None).unwrap();
    let parent = driver.tip();
    let executed = Executed::known(&parent, chain.latest().borrow().state.clone());
    let context = chain.rules.context(parent.header(), NOW);
    let mut draft = Draft::begin(&chain.rules, &executed, &context).unwrap();
    draft.add(&entry.bundle, entry.id).unwrap();
    let (block, _) = chain.rules.seal(&executed, &context, draft, &[&entry.signed]).unwrap();
    driver.finalise(&block);
    let replayed = Rejection::Bundle(BundleError::Replayed { last: 6 });
    assert!(matches!(overtaken.try_recv(), Ok(Outcome::Refused(rejection)) if rejection == replayed));

    // A day passes, in which nobody made a block.
    let mut late = submit(bundle(&driver, 0, 7, vec![admitted(7)]));
    driver.now += 24 * 3_600_000;
    assert!(matches!(driver.agree(0).body(), [0]), "what has run out does not apply");
    assert!(matches!(
        late.try_recv(),
        Ok(Outcome::Refused(Rejection::Bundle(BundleError::Expired)) | Outcome::Expired)
    ));
    assert!(chain.awaited().is_empty());
}

#[test]
fn blocks_are_full_and_no_fuller() {
    let mut driver = Driver::of(1);
    // More than one block takes, of many authors.
    let authors: Vec<MachineKey> = (0..40).map(|_| MachineKey::generate()).collect();
    let member = |author: &MachineKey| Fact::MemberAdmitted { node: author.id(), role: Role::Client, at_unix_ms: 1 };
    driver.hear(&bundle(&driver, 0, 1, authors.iter().map(member).collect()));
    driver.agree(0);
    for sequence in 1..=10 {
        for author in &authors {
            let facts = (0..64).map(|_| Fact::BlockSet { other: AccountId([7; 32]), is_blocked: true }).collect();
            let signed = driver.signed(author, sequence, facts);
            driver.hear(&signed);
        }
    }
    assert_eq!(driver.chains[0].work(&[driver.tip()]), Work::Full);
    let mut said = 0;
    while said < 400 {
        let block = driver.agree(0);
        assert!(block.body().len() <= limits::BLOCK_BODY_BYTES_MAX);
        let bundles = body::decode(block.body()).unwrap();
        assert!(!bundles.is_empty() && bundles.len() <= 64, "as many as others execute in a moment");
        let mut turns: Vec<NodeId> = bundles.iter().map(|signed| signed.signer).collect();
        turns.sort_unstable();
        turns.dedup();
        assert!(turns.len() >= bundles.len().min(40), "authors take turns");
        said += bundles.len();
    }
    assert_eq!(driver.chains[0].work(&[driver.tip()]), Work::Nothing);
}

#[test]
fn an_accusation_without_evidence_is_none() {
    let driver = Driver::of(4);
    let parent = driver.tip();
    let accused = driver.keys[3].id();
    let kind = protocol::fault::FaultKind::ConflictingNotarize;
    let fact = Fact::Fault { member: accused, epoch: 0, view: 3, kind, evidence: vec![7; 200] };
    let chain = &driver.chains[0];
    let entry = chain.opened(bundle(&driver, 1, 1, vec![fact]), None).unwrap();
    let executed = Executed::known(&parent, chain.latest().borrow().state.clone());
    let context = chain.rules.context(parent.header(), NOW);
    let mut draft = Draft::begin(&chain.rules, &executed, &context).unwrap();
    assert_eq!(draft.add(&entry.bundle, entry.id), Err(Rejection::Signature));
}
