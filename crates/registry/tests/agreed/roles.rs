//! Who may say what, as a table: every fact that a bundle can bring, from everybody who could say it.

use crate::world::*;
use protocol::{
    fault::FaultKind,
    grant::Tier,
    ids::{AccountId, ModelDigest, NodeId},
    link::Role,
    market::AccountLink,
    pool::{Invite, Label, PoolPolicy, Standing},
};
use registry::{AgreedEvidence, Fact, PoolError, Rejection};
use trust::observations::Observations;

const SECOND_ORCHESTRATOR: AccountId = AccountId([2; 32]);
const ADMINISTRATOR: AccountId = AccountId([3; 32]);
const MEMBER: AccountId = AccountId([4; 32]);
const AUDITOR: AccountId = AccountId([5; 32]);
const NEWCOMER: NodeId = NodeId([6; 32]);

/// An owner who is no orchestrator, so that the two can be told apart.
const FOUNDER: AccountId = AccountId([8; 32]);
const OF_FOUNDER: NodeId = NodeId([9; 32]);

fn world() -> World {
    let mut world = World::trading();
    for (account, standing) in [
        (FOUNDER, Standing::Owner),
        (ADMINISTRATOR, Standing::Administrator),
        (MEMBER, Standing::Member),
        (AUDITOR, Standing::Auditor),
        (NODE.into(), Standing::Member),
    ] {
        world.owner(Fact::StandingGranted { account, standing }).unwrap();
    }
    // The orchestrator is one only: it does not own the pool any more.
    world.says(FOUNDER, Fact::StandingRevoked { account: OWNER }).unwrap();
    let id = NodeId([70; 32]);
    let invite = Invite { id, standing: Standing::Member, uses: None, until_unix_ms: None };
    world.says(FOUNDER, Fact::InviteIssued(invite)).unwrap();
    world.place_hold(1_000, 3_600_000).unwrap();
    world.orchestrator(Fact::ModelAdded(model(7))).unwrap();
    // Machines of people: the founder's and the administrator's own, and one each that is linked.
    for node in [FOUNDER.into(), ADMINISTRATOR.into(), OF_FOUNDER] {
        world.admit(node, Role::Client);
    }
    for (node, account) in [(OF_FOUNDER, FOUNDER), (OTHER_NODE, MEMBER)] {
        let link = signed(node, &AccountLink { pool: pool_id(), account, number: 1 });
        world.says(account, Fact::AccountLinked { link }).unwrap();
    }
    world
}

/// Columns: orchestrator, owner, administrator, member, auditor, the node itself.
#[rustfmt::skip]
fn table(world: &World) -> Vec<(Fact, [bool; 6])> {
    const T: bool = true;
    const F: bool = false;
    let node = NODE;
    let grant = |standing| Fact::StandingGranted { account: AccountId([60; 32]), standing };
    let revoke = |account| Fact::StandingRevoked { account };
    let evidence = AgreedEvidence { tier: Tier::SelfSigned, digest: [1; 32], until_unix_ms: 9 };
    let invite = Invite { id: NodeId([71; 32]), standing: Standing::Member, uses: None, until_unix_ms: None };
    let labels = vec![Label::new("fast").unwrap()];
    let link = signed(NODE, &AccountLink { pool: pool_id(), account: MEMBER, number: 1 });
    let (member, kind) = (ORCHESTRATOR, FaultKind::NullifyFinalize);
    let fault = Fact::Fault { member, epoch: 0, view: 3, kind, evidence: vec![1] };
    vec![
        //                                                                  orch own adm mem aud self
        (Fact::MemberAdmitted { node: NEWCOMER, role: Role::Node, at_unix_ms: 1 }, [T, F, F, F, F, F]),
        (Fact::ModelAdded(model(9)),                                               [T, F, F, F, F, F]),
        (Fact::Observed { node, epoch: 1, observations: Observations::default() }, [T, F, F, F, F, F]),
        (Fact::EvidenceAgreed { node, evidence },                                  [T, F, F, F, F, F]),
        (Fact::StarterGranted { node },                                            [T, F, F, F, F, F]),
        (Fact::MemberRemoved { node, at_unix_ms: 2 },                              [T, T, T, F, F, F]),
        (Fact::PolicySet(PoolPolicy::default()),                                   [F, T, T, F, F, F]),
        (Fact::InviteIssued(invite),                                               [F, T, T, F, F, F]),
        (Fact::InviteRevoked { invite: NodeId([70; 32]) },                         [F, T, T, F, F, F]),
        (Fact::Approved { node },                                                  [F, T, T, F, F, F]),
        (Fact::Labelled { node, region: None, labels },                            [F, T, T, F, F, F]),
        (Fact::MeasurementAllowed { measurement: [1; 32] },                        [F, T, T, F, F, F]),
        (Fact::MeasurementRevoked { measurement: [1; 32] },                        [F, T, T, F, F, F]),
        (grant(Standing::Owner),                                                   [F, T, F, F, F, F]),
        (grant(Standing::Administrator),                                           [F, T, F, F, F, F]),
        (grant(Standing::Member),                                                  [F, T, T, F, F, F]),
        (grant(Standing::Auditor),                                                 [F, T, T, F, F, F]),
        (revoke(ADMINISTRATOR),                                                    [F, T, F, F, F, F]),
        (revoke(MEMBER),                                                           [F, T, T, F, F, F]),
        (Fact::StandingGranted { account: ADMINISTRATOR, standing: Standing::Member }, [F, T, F, F, F, F]),
        (Fact::AskSet { node, model: ModelDigest([1; 32]), price: Some(PRICE) },   [F, F, F, F, F, T]),
        (Fact::AccountLinked { link },                                             [F, F, F, T, F, F]),
        (joined(NodeId([70; 32]), NODE, Role::Client),                             [T, F, F, F, F, T]),
        (Fact::AccountUnlinked { node: OTHER_NODE },                               [F, F, F, T, F, F]),
        (Fact::BlockSet { other: CLIENT.into(), is_blocked: true },                [F, T, T, T, F, T]),
        (order(protocol::ids::TaskId([41; 16]), NODE, 10, START_MS + 60_000),      [T, T, T, T, T, T]),
        (world.settled(NODE, 1, 1),                                                [T, T, T, T, T, T]),
        (world.claimed(NODE, 1),                                                   [T, T, T, T, T, T]),
        (world.closed(NODE),                                                       [T, T, T, T, T, T]),
        (Fact::CommitteeChanged { add: vec![NODE], remove: Vec::new() },           [F, T, F, F, F, F]),
        (fault,                                                                    [T, F, F, F, F, F]),
        (Fact::ModelRemoved { digest: ModelDigest([7; 32]) },                      [F, T, T, F, F, F]),
        (Fact::MemberRemoved { node: FOUNDER.into(), at_unix_ms: 2 },              [T, T, F, F, F, F]),
        (Fact::MemberRemoved { node: ADMINISTRATOR.into(), at_unix_ms: 2 },        [T, T, T, F, F, F]),
        (Fact::MemberRemoved { node: OF_FOUNDER, at_unix_ms: 2 },                  [T, T, F, F, F, F]),
        (Fact::Genesis(genesis()),                                                 [F, F, F, F, F, F]),
    ]
}

#[test]
fn everybody_says_what_the_table_says() {
    let world = world();
    let authors = [ORCHESTRATOR.into(), FOUNDER, ADMINISTRATOR, MEMBER, AUDITOR, NODE.into()];
    for (fact, row) in table(&world) {
        for (author, may) in authors.into_iter().zip(row) {
            let outcome = world.clone().says(author, fact.clone());
            match may {
                true => assert!(outcome.is_ok(), "{author} may say {fact:?}: {outcome:?}"),
                false => assert_eq!(outcome, Err(Rejection::NotAllowed), "{author} may not say {fact:?}"),
            }
        }
        // Who is nobody in the pool says nothing; nor does somebody who was named for a role he has lost.
        let stranger = world.clone().says(AccountId([99; 32]), fact.clone());
        assert!(matches!(stranger, Err(Rejection::UnknownMember | Rejection::NotAllowed)), "{fact:?}");
        let second = world.clone().says(SECOND_ORCHESTRATOR, fact.clone());
        assert!(second.is_err(), "not an orchestrator of this pool: {fact:?}");
    }
}

#[test]
fn a_pool_keeps_an_owner() {
    let mut world = World::founded();
    let last = Err(Rejection::Pool(PoolError::LastOwner));
    assert_eq!(world.owner(Fact::StandingRevoked { account: OWNER }), last);
    let demoted = Fact::StandingGranted { account: OWNER, standing: Standing::Member };
    assert_eq!(world.owner(demoted.clone()), last);
    world.owner(Fact::StandingGranted { account: FOUNDER, standing: Standing::Owner }).unwrap();
    world.owner(demoted).unwrap();
    assert_eq!(world.owner(Fact::PolicySet(PoolPolicy::default())), Err(Rejection::NotAllowed));
}
