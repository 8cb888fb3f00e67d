//! Bundles, invites, approval, labels, policy.

use crate::world::*;
use protocol::{
    grant::{ModelRef, Tier},
    ids::{AccountId, ModelDigest, NodeId, PoolId},
    limits::{BUNDLE_LIFETIME_MS, FACT_BYTES_MAX},
    link::{ModelEntry, Role},
    pool::{Invite, Label, PoolPolicy, Standing},
};
use registry::{
    AgreedEvidence, Authenticated, BlockContext, Bundle, BundleError, Event, Fact, ModelError, PoolError, Rejection,
    keys,
};

const INVITE: NodeId = NodeId([70; 32]);

fn invite(uses: Option<u32>) -> Invite {
    Invite { id: INVITE, standing: Standing::Member, uses, until_unix_ms: None }
}

#[test]
fn a_bundle_counts_once() {
    let mut world = World::founded();
    let fact = |byte| Fact::MeasurementAllowed { measurement: [byte; 32] };
    let bundle = world.bundle(OWNER, vec![fact(1)]);
    world.commit(&bundle).unwrap();
    let revoked = world.bundle(OWNER, vec![Fact::MeasurementRevoked { measurement: [1; 32] }]);
    world.commit(&revoked).unwrap();
    let last = revoked.sequence;
    let replayed = |outcome| assert_eq!(outcome, Err(Rejection::Bundle(BundleError::Replayed { last })));
    replayed(world.commit(&bundle));
    replayed(world.commit(&revoked));
    replayed(world.commit(&Bundle { sequence: 0, ..bundle.clone() }));
    world.commit(&Bundle { sequence: u64::MAX, ..bundle }).unwrap();
}

#[test]
fn a_bundle_counts_whole_or_not_at_all() {
    let mut world = World::founded();
    let before = world.registry.clone();
    let facts = vec![Fact::MeasurementAllowed { measurement: [1; 32] }, Fact::Approved { node: NODE }];
    let bundle = world.bundle(OWNER, facts);
    assert_eq!(world.commit(&bundle), Err(Rejection::UnknownMember));
    assert_eq!(world.registry, before, "its number is not used either");
}

#[test]
fn a_bundle_is_for_one_pool_of_one_author_for_a_short_time() {
    let mut world = World::founded();
    let bundle = world.bundle(OWNER, vec![Fact::MeasurementAllowed { measurement: [1; 32] }]);
    let mut refused = |bundle: Bundle, error| {
        assert_eq!(world.commit(&bundle), Err(Rejection::Bundle(error)));
    };
    refused(Bundle { pool: PoolId([0; 32]), ..bundle.clone() }, BundleError::OtherPool);
    refused(Bundle { facts: Vec::new(), ..bundle.clone() }, BundleError::Size);
    refused(Bundle { not_after_unix_ms: START_MS - 1, ..bundle.clone() }, BundleError::Expired);
    refused(Bundle { not_after_unix_ms: START_MS + BUNDLE_LIFETIME_MS + 1, ..bundle.clone() }, BundleError::Expired);
    let mut by_another = signed(NODE, &bundle);
    assert_eq!(Authenticated::open(&by_another, &Keyed), Err(BundleError::Signature));
    by_another.signer = OWNER.into();
    assert_eq!(Authenticated::open(&by_another, &Keyed), Err(BundleError::Signature));
}

#[test]
fn strangers_leave_no_trace() {
    let mut world = World::trading();
    world.place_hold(100, 3_600_000).unwrap();
    let entries = world.registry.state().entries().count();
    // Both are so already, or would be harmless; but a number for everybody who repeats them would not be.
    let closed = world.closed(NODE);
    assert_eq!(world.says(AccountId([90; 32]), closed), Err(Rejection::UnknownMember));
    assert_eq!(world.registry.state().entries().count(), entries);
}

#[test]
fn time_and_height_only_grow() {
    let mut world = World::founded();
    for (height, unix_ms) in [(world.height, world.now), (world.height + 1, world.now - 1)] {
        let context = BlockContext { height, epoch: 0, unix_ms };
        assert_eq!(world.registry.begin(&context), Err(Rejection::Time));
    }
    // A leap to the end of time costs no more than any block.
    world.registry.begin(&BlockContext { height: u64::MAX, epoch: 0, unix_ms: u64::MAX }).unwrap();
}

#[test]
fn of_two_who_use_one_invite_at_once_exactly_one_joins() {
    let mut world = World::founded();
    world.owner(Fact::InviteIssued(invite(Some(1)))).unwrap();
    let by = |node: NodeId| joined(INVITE, node, Role::Node);
    world.says(NODE.into(), by(NODE)).unwrap();
    let late = world.says(OTHER_NODE.into(), by(OTHER_NODE));
    assert_eq!(late, Err(Rejection::Pool(PoolError::UnknownInvite)));
    assert!(world.registry.is_member(NODE) && !world.registry.is_member(OTHER_NODE));
    assert_eq!(world.registry.standing(NODE.into()), Some(Standing::Member));
    // Coming again uses nothing up, a removed machine does not come back.
    assert_eq!(world.says(NODE.into(), by(NODE)), Ok(Vec::new()));
    world.owner(Fact::MemberRemoved { node: NODE, at_unix_ms: 1 }).unwrap();
    assert_eq!(world.says(NODE.into(), by(NODE)), Err(Rejection::Removed));
}

#[test]
fn an_invite_is_used_by_its_key_for_a_machine_that_says_so_itself() {
    let mut world = World::founded();
    world.owner(Fact::InviteIssued(invite(None))).unwrap();
    // Somebody who read the log has the id, and the redemption of another.
    let stolen = joined(INVITE, NODE, Role::Node);
    assert_eq!(world.says(OTHER_NODE.into(), stolen), Err(Rejection::NotAllowed));
    let Fact::Joined { mut redemption } = joined(NODE, NODE, Role::Node) else { unreachable!() };
    redemption.signer = INVITE;
    assert_eq!(world.says(NODE.into(), Fact::Joined { redemption }), Err(Rejection::Signature));
    let other_pool = protocol::pool::Redemption { pool: PoolId([0; 32]), keys: vec![(NODE, Role::Node)] };
    let redemption = signed(INVITE, &other_pool);
    assert_eq!(world.says(NODE.into(), Fact::Joined { redemption }), Err(Rejection::Signature));
}

#[test]
fn invites_run_out_are_counted_and_revoked() {
    let mut world = World::founded();
    let now = world.now;
    for bad in [invite(Some(0)), Invite { standing: Standing::Administrator, ..invite(None) }] {
        assert_eq!(world.owner(Fact::InviteIssued(bad)), Err(Rejection::Pool(PoolError::Invite)));
    }
    let limited = Invite { until_unix_ms: Some(now + 1_000), ..invite(Some(3)) };
    world.owner(Fact::InviteIssued(limited.clone())).unwrap();
    world.says(NODE.into(), joined(INVITE, NODE, Role::Node)).unwrap();
    assert_eq!(world.registry.state().read(&keys::invite(INVITE)).unwrap().uses, Some(2));
    let again = world.owner(Fact::InviteIssued(limited));
    assert_eq!(again, Err(Rejection::Pool(PoolError::Invite)), "its uses do not come back");
    world.pass(1_000);
    let late = world.says(OTHER_NODE.into(), joined(INVITE, OTHER_NODE, Role::Node));
    assert_eq!(late, Err(Rejection::Pool(PoolError::InviteExpired)));
    world.owner(Fact::InviteRevoked { invite: INVITE }).unwrap();
    let late = world.says(OTHER_NODE.into(), joined(INVITE, OTHER_NODE, Role::Node));
    assert_eq!(late, Err(Rejection::Pool(PoolError::UnknownInvite)));
    // The secret of the old tickets is an invite like others.
    assert!(world.registry.admits(&SECRET));
    world.owner(Fact::InviteRevoked { invite: NodeId(genesis().secret_hash) }).unwrap();
    assert!(!world.registry.admits(&SECRET));
}

#[test]
fn who_waits_for_approval_takes_no_part() {
    let mut world = World::founded();
    world.owner(Fact::PolicySet(PoolPolicy { needs_approval: true, ..PoolPolicy::default() })).unwrap();
    world.owner(Fact::InviteIssued(invite(None))).unwrap();
    let events = world.says(NODE.into(), joined(INVITE, NODE, Role::Node)).unwrap();
    assert!(events.contains(&Event::ApprovalAwaited { node: NODE }));
    assert!(!world.registry.is_member(NODE) && !world.registry.member(NODE).unwrap().has_role(Role::Node));
    assert_eq!(world.orchestrator(Fact::StarterGranted { node: NODE }), Err(Rejection::Removed));
    let events = world.owner(Fact::Approved { node: NODE }).unwrap();
    assert_eq!(events, [Event::MemberAdmitted { node: NODE, role: Role::Node }]);
    assert!(world.registry.member(NODE).unwrap().has_role(Role::Node));
    assert_eq!(world.owner(Fact::Approved { node: NODE }), Ok(Vec::new()));
}

#[test]
fn the_pool_describes_its_members_and_proves_it() {
    let mut world = World::founded();
    world.admit(NODE, Role::Node);
    let [north, fast, warm] = ["north", "fast", "warm"].map(|text| Label::new(text).unwrap());
    let labelled = |labels| Fact::Labelled { node: NODE, region: Some(north.clone()), labels };
    for bad in [vec![warm.clone(), fast.clone()], vec![fast.clone(), fast.clone()]] {
        assert_eq!(world.owner(labelled(bad)), Err(Rejection::Pool(PoolError::Labels)));
    }
    world.owner(labelled(vec![fast.clone(), warm])).unwrap();
    let evidence = AgreedEvidence { tier: Tier::SelfSigned, digest: [1; 32], until_unix_ms: 9 };
    world.orchestrator(Fact::EvidenceAgreed { node: NODE, evidence }).unwrap();
    let key = keys::member(NODE);
    let (root, proof) = (world.registry.root(), world.registry.prove(&key));
    let member = key.check(&proof, &root).unwrap().unwrap();
    assert_eq!((member.region, member.evidence), (Some(north), Some(evidence)));
    // After its removal the old proof holds under the old root only, and the new one says so.
    world.owner(Fact::MemberRemoved { node: NODE, at_unix_ms: 3 }).unwrap();
    assert!(key.check(&proof, &world.registry.root()).is_err());
    let member = key.check(&world.registry.prove(&key), &world.registry.root()).unwrap().unwrap();
    assert!(!member.has_role(Role::Node));
    let stranger = keys::member(OTHER_NODE);
    assert_eq!(stranger.check(&world.registry.prove(&stranger), &world.registry.root()), Ok(None));
}

#[test]
fn what_was_revoked_does_not_come_back_with_a_second_role() {
    let mut world = World::founded();
    world.owner(Fact::InviteIssued(invite(None))).unwrap();
    world.says(NODE.into(), joined(INVITE, NODE, Role::Node)).unwrap();
    world.owner(Fact::StandingRevoked { account: NODE.into() }).unwrap();
    world.says(NODE.into(), joined(INVITE, NODE, Role::Client)).unwrap();
    assert_eq!(world.registry.standing(NODE.into()), None);
    assert!(world.registry.member(NODE).unwrap().has_role(Role::Client));
}

#[test]
fn facts_are_short_in_bundles_too() {
    let mut world = World::founded();
    let evidence = vec![0; FACT_BYTES_MAX];
    let kind = protocol::fault::FaultKind::NullifyFinalize;
    let long = Fact::Fault { member: ORCHESTRATOR, epoch: 0, view: 0, kind, evidence };
    assert!(long.encode().is_err());
    assert_eq!(world.owner(long), Err(Rejection::Bundle(BundleError::FactTooLong)));
    // Many that are short are not long.
    let facts = (0..=255).map(|byte| Fact::MeasurementAllowed { measurement: [byte; 32] }).collect();
    let bundle = world.bundle(OWNER, facts);
    assert!(signed(OWNER.into(), &bundle).payload.len() < FACT_BYTES_MAX);
    world.commit(&bundle).unwrap();
    let models =
        (0..=255).map(|byte| Fact::ModelAdded(ModelEntry { licence: "x".repeat(150), ..model(byte) })).collect();
    let bundle = world.bundle(OWNER, models);
    assert!(signed(OWNER.into(), &bundle).payload.len() > FACT_BYTES_MAX);
    world.commit(&bundle).unwrap();
}

#[test]
fn a_removed_model_stays_removed_and_keeps_its_names_from_others() {
    let mut world = World::founded();
    for byte in [1, 2, 3] {
        world.orchestrator(Fact::ModelAdded(model(byte))).unwrap();
    }
    let digest = |byte| ModelDigest([byte; 32]);
    let removed = |byte| Fact::ModelRemoved { digest: digest(byte) };
    assert_eq!(world.owner(removed(9)), Err(Rejection::Model(ModelError::Unknown)));
    assert_eq!(world.owner(removed(1)), Ok(vec![Event::ModelRemoved { digest: digest(1) }]));
    assert_eq!(world.owner(removed(1)), Ok(Vec::new()));
    let named =
        |world: &World, name: &str| world.registry.model(&ModelRef::Name(name.to_owned())).map(|entry| entry.digest);
    assert_eq!(named(&world, "default"), Some(digest(2)), "the first of those that are there");
    assert_eq!((named(&world, "model-1"), named(&world, "model-3")), (None, Some(digest(3))));
    assert_eq!(world.registry.model(&ModelRef::Digest(digest(1))), None);
    assert_eq!(world.orchestrator(Fact::ModelAdded(model(1))), Err(Rejection::Model(ModelError::Removed)));
    // A later model of the same name gets another.
    let later = ModelEntry { digest: digest(4), ..model(1) };
    world.orchestrator(Fact::ModelAdded(later)).unwrap();
    assert_eq!((named(&world, "model-1"), named(&world, "model-1@04040404")), (None, Some(digest(4))));
    let again = registry::Registry::from(world.registry.state().clone());
    assert_eq!(again.models(), world.registry.models());
    assert_eq!(again.models().iter().map(|entry| entry.digest).collect::<Vec<_>>(), [2, 3, 4].map(digest));
    for byte in [2, 3, 4] {
        world.owner(removed(byte)).unwrap();
    }
    assert_eq!((named(&world, "default"), world.registry.models().len()), (None, 0));
}

#[test]
fn one_use_brings_a_household_that_is_approved_and_removed_together() {
    let mut world = World::founded();
    let policy = protocol::pool::PoolPolicy { needs_approval: true, ..Default::default() };
    world.owner(Fact::PolicySet(policy)).unwrap();
    world.owner(Fact::InviteIssued(invite(Some(1)))).unwrap();
    let of = |keys: &[(NodeId, Role)]| {
        let redemption = protocol::pool::Redemption { pool: crate::world::pool_id(), keys: keys.to_vec() };
        Fact::Joined { redemption: signed(INVITE, &redemption) }
    };
    let two = of(&[(NODE, Role::Node), (OTHER_NODE, Role::Node)]);
    assert_eq!(world.says(NODE.into(), two), Err(Rejection::Pool(PoolError::Redemption)), "one lends");
    let both = of(&[(NODE, Role::Node), (OTHER_NODE, Role::Client)]);
    world.says(NODE.into(), both.clone()).unwrap();
    assert_eq!(world.says(OTHER_NODE.into(), both), Ok(Vec::new()), "it is in already");
    let are_members = |world: &World| [NODE, OTHER_NODE].map(|key| world.registry.is_member(key));
    assert_eq!(are_members(&world), [false, false], "they wait for an approval");
    world.owner(Fact::Approved { node: OTHER_NODE }).unwrap();
    assert_eq!(are_members(&world), [true, true]);
    world.owner(Fact::MemberRemoved { node: NODE, at_unix_ms: 1 }).unwrap();
    assert_eq!(are_members(&world), [false, false]);
    assert_eq!(world.registry.standing(OTHER_NODE.into()), None);
}

#[test]
fn an_auditor_is_invited_to_read_and_takes_no_part() {
    let mut world = World::founded();
    world.owner(Fact::InviteIssued(Invite { standing: Standing::Auditor, ..invite(Some(1)) })).unwrap();
    world.says(NODE.into(), joined(INVITE, NODE, Role::Client)).unwrap();
    assert!(world.registry.may_read(NODE) && !world.registry.is_member(NODE));
    assert_eq!(world.says(NODE.into(), joined(INVITE, NODE, Role::Client)), Ok(Vec::new()), "it is in already");
    let standings = world.registry.list(protocol::pool::Listing::Standings, None, 1);
    assert!(standings.has_more && standings.ids.len() == 1, "{standings:?}");
    let last = world.registry.list(protocol::pool::Listing::Standings, Some([255; 32]), 9);
    assert!(last.ids.is_empty() && !last.has_more);
    world.owner(Fact::StandingRevoked { account: NODE.into() }).unwrap();
    assert!(!world.registry.may_read(NODE));
}
