use super::*;
use proptest::prelude::*;
use protocol::{codec, ids::NodeId, limits::ANCHOR_BYTES_MAX, signed::Signature};

const NOW: u64 = 1_000_000_000;
const EPOCH_BLOCKS: u64 = limits::EPOCH_BLOCKS_MIN as u64;

struct World {
    keys: Vec<MachineKey>,
    genesis: Genesis,
    pool: PoolId,
    committee: Committee,
}

fn committee(keys: &[MachineKey]) -> Committee {
    Committee::new(keys.iter().map(MachineKey::id).collect()).unwrap()
}

impl World {
    fn of(members: u8) -> Self {
        let keys: Vec<MachineKey> = (1..=members).map(|seed| MachineKey::from_seed(&[seed; 32])).collect();
        let mut genesis = Genesis::new(keys.iter().map(MachineKey::id).collect(), &[7; 32], 1);
        genesis.epoch_blocks = limits::EPOCH_BLOCKS_MIN;
        Self { pool: genesis.pool().unwrap(), committee: committee(&keys), keys, genesis }
    }

    fn light(&self) -> Light {
        Light::new(self.pool, &self.genesis).unwrap()
    }

    fn header(&self, height: u64) -> Header {
        let committee = self.committee.digest();
        Header {
            pool: self.pool,
            epoch: height / EPOCH_BLOCKS,
            height,
            parent: [1; 32],
            unix_ms: NOW + height,
            state: [2; 32],
            body: [3; 32],
            committee,
            next_committee: committee,
        }
    }

    fn anchor(&self, header: &Header) -> Anchor {
        certify(header, &self.committee, &self.keys)
    }

    /// From this committee to that of another world, at the end of an epoch.
    fn hands_over_to(&self, next: &Self, epoch: u64) -> Handover {
        let height = (epoch + 1) * EPOCH_BLOCKS - 1;
        let header = Header { next_committee: next.committee.digest(), ..self.header(height) };
        Handover { last: self.anchor(&header), next: next.committee.clone() }
    }

    /// The same pool under another committee.
    fn later(&self, seed: u8) -> Self {
        let keys = vec![MachineKey::from_seed(&[seed; 32])];
        let committee = committee(&keys);
        Self { keys, committee, genesis: self.genesis.clone(), pool: self.pool }
    }
}

#[test]
fn a_quorum_makes_a_block_final_and_fewer_do_not() {
    for (members, quorum) in [(1, 1), (4, 3), (7, 5), (16, 11)] {
        let world = World::of(members);
        let header = world.header(3);
        for signers in 0..=usize::from(members) {
            let anchor = certify(&header, &world.committee, &world.keys[..signers]);
            let checked = world.light().check(&anchor, NOW);
            let expected = AnchorError::TooFewSignatures { valid: signers, needed: quorum };
            match checked {
                Ok(root) => assert!(signers >= quorum && *root.state() == header.state),
                Err(error) => assert!(signers < quorum && error == expected, "{error}"),
            }
        }
    }
}

#[test]
fn one_false_signature_among_enough_true_ones_spoils_nothing() {
    let world = World::of(4);
    let mut anchor = world.anchor(&world.header(3));
    anchor.certificate.signatures[0] = Signature::of([9; 64]);
    assert!(world.light().check(&anchor, NOW).is_ok());
    anchor.certificate.signatures[2] = anchor.certificate.signatures[1];
    let too_few = Err(AnchorError::TooFewSignatures { valid: 2, needed: 3 });
    assert_eq!(world.light().check(&anchor, NOW), too_few, "one signature counts for one member");
}

#[test]
fn signatures_are_those_of_the_signers_that_are_named() {
    let world = World::of(4);
    let honest = world.anchor(&world.header(3));
    let check = |change: &dyn Fn(&mut Certificate)| {
        let mut anchor = honest.clone();
        change(&mut anchor.certificate);
        world.light().check(&anchor, NOW).err()
    };
    assert_eq!(check(&|_| {}), None);
    assert_eq!(check(&|certificate| certificate.signers |= 1 << 4), Some(AnchorError::Signers));
    assert_eq!(check(&|certificate| certificate.signers = 0b0111), Some(AnchorError::Signers));
    assert_eq!(
        check(&|certificate| certificate.signatures = vec![Signature::of([0; 64]); 70]),
        Some(AnchorError::Signers)
    );
    let none = Some(AnchorError::TooFewSignatures { valid: 0, needed: 3 });
    assert_eq!(check(&|certificate| certificate.signatures.reverse()), none);
    // Signed for another round of the engine.
    assert_eq!(check(&|certificate| certificate.view += 1), none);
    // A committee of sixteen uses every bit.
    let world = World::of(16);
    let anchor = world.anchor(&world.header(3));
    assert_eq!(anchor.certificate.signers, u16::MAX);
    assert!(world.light().check(&anchor, NOW).is_ok());
}

#[test]
fn what_was_signed_for_another_pool_kind_or_header_counts_for_nothing() {
    let world = World::of(4);
    let header = world.header(3);
    let other_pool = Header { pool: PoolId([4; 32]), ..header.clone() };
    assert_eq!(world.light().check(&world.anchor(&other_pool), NOW), Err(AnchorError::OtherPool));
    let none = Err(AnchorError::TooFewSignatures { valid: 0, needed: 3 });
    // The signatures of another pool's block under this one's header: the namespace differs.
    let borrowed = Anchor { header: header.clone(), ..world.anchor(&other_pool) };
    assert_eq!(world.light().check(&borrowed, NOW), none);
    let changed = Anchor { header: Header { state: [9; 32], ..header.clone() }, ..world.anchor(&header) };
    assert_eq!(world.light().check(&changed, NOW), none);
    let other_epoch = Header { epoch: 1, ..header };
    assert_eq!(world.light().check(&world.anchor(&other_epoch), NOW), Err(AnchorError::OtherEpoch { epoch: 1 }));
}

/// A vote to notarise is not one to finalise, though the same member signs the same proposal.
#[test]
fn a_notarisation_is_no_finalisation() {
    let world = World::of(1);
    let mut anchor = world.anchor(&world.header(3));
    let message = anchor.certificate.message(&anchor.header);
    let place = message.windows(9).position(|window| window == b"_FINALIZE").unwrap();
    let mut notarize = message.clone();
    notarize.splice(place..place + 9, *b"_NOTARIZE");
    assert_eq!(notarize.len(), message.len());
    let signature = ed25519_dalek::Signer::sign(&ed25519_dalek::SigningKey::from_bytes(&[1; 32]), &notarize);
    anchor.certificate.signatures = vec![Signature::of(signature.to_bytes())];
    let none = Err(AnchorError::TooFewSignatures { valid: 0, needed: 1 });
    assert_eq!(world.light().check(&anchor, NOW), none);
}

#[test]
fn a_committee_of_strangers_is_not_known() {
    let (world, strangers) = (World::of(4), World::of(4).later(99));
    let header = strangers.header(3);
    assert_eq!(world.light().check(&strangers.anchor(&header), NOW), Err(AnchorError::UnknownCommittee { epoch: 0 }));
    // Under the pool's own committee's name, their signatures hold for nobody.
    let disguised = certify(&world.header(3), &strangers.committee, &strangers.keys);
    let too_few = Err(AnchorError::TooFewSignatures { valid: 0, needed: 3 });
    assert_eq!(world.light().check(&disguised, NOW), too_few);
    let mut genesis = world.genesis.clone();
    genesis.orchestrators.push(NodeId([50; 32]));
    assert_eq!(Light::new(world.pool, &genesis).err(), Some(LineageError::OtherPool));
}

#[test]
fn roots_are_fresh_and_never_much_older_than_the_newest_seen() {
    let world = World::of(1);
    let anchor = world.anchor(&world.header(3));
    let made = anchor.header.unix_ms;
    let (age, skew) = (limits::ROOT_AGE_MS_MAX, limits::CLOCK_SKEW_MS_MAX);
    assert!(world.light().check(&anchor, made + age + skew).is_ok());
    let mut light = world.light();
    assert_eq!(light.check(&anchor, made + age + skew + 1), Err(AnchorError::Stale { age_ms: age + skew + 1 }));
    assert!(light.check_within(&anchor, 2 * age, made + age + skew + 1).is_ok(), "the pool's policy may say otherwise");
    assert!(light.check(&anchor, made + age + skew + 1).is_err(), "what is remembered is not fresh for ever");
    assert!(light.check_within(&anchor, u64::MAX, u64::MAX).is_ok());
    let ahead_ms = skew + 1;
    assert_eq!(world.light().check(&anchor, made - ahead_ms), Err(AnchorError::FromTheFuture { ahead_ms }));
    assert!(world.light().check(&anchor, made - skew).is_ok());

    let mut newer = world.header(5);
    newer.unix_ms = made + limits::ROOT_BEHIND_MS_MAX;
    light.check(&world.anchor(&newer), made).unwrap();
    assert!(light.check(&anchor, made).is_ok(), "orchestrators are not equally quick");
    newer.unix_ms += 1;
    light.check(&world.anchor(&newer), made).unwrap();
    let behind_ms = limits::ROOT_BEHIND_MS_MAX + 1;
    assert_eq!(light.check(&anchor, made), Err(AnchorError::OlderThanSeen { behind_ms }));
    // Nor after a restart.
    let kept = Checkpoint::decode(&light.checkpoint().encode()).unwrap();
    let mut restarted = Light::resume(world.pool, kept).unwrap();
    assert_eq!(restarted.check(&anchor, made), Err(AnchorError::OlderThanSeen { behind_ms }));
}

#[test]
fn a_block_is_verified_once() {
    let world = World::of(4);
    let anchor = world.anchor(&world.header(3));
    let mut light = world.light();
    let root = light.check(&anchor, NOW).unwrap();
    let mut unsigned = anchor.clone();
    unsigned.certificate.signatures.clear();
    assert_eq!(light.check(&unsigned, NOW), Ok(root), "the block is final, whoever shows it");
    for height in 4..8 + REMEMBERED_MAX as u64 {
        light.check(&world.anchor(&world.header(height)), NOW).unwrap();
    }
    assert!(light.check(&unsigned, NOW).is_err(), "not all are remembered");
}

#[test]
fn committees_hand_over_one_after_another() {
    let (first, second, third) = (World::of(4), World::of(4).later(50), World::of(4).later(51));
    let handovers = [first.hands_over_to(&second, 2), second.hands_over_to(&third, 5)];
    let mut light = first.light();
    let gap = HandoverError::Gap { known: 0, epoch: 5 };
    assert_eq!(light.advance(&handovers[1]), Err(gap));
    assert_eq!(light.advance(&handovers[0]), Ok(true));
    assert_eq!((light.epoch(), light.committee()), (3, &second.committee));
    // The committee before may still be shown for its own time, but not beyond.
    assert!(light.check(&first.anchor(&first.header(3 * EPOCH_BLOCKS - 2)), NOW).is_ok());
    let usurped = first.header(3 * EPOCH_BLOCKS);
    assert_eq!(light.check(&first.anchor(&usurped), NOW), Err(AnchorError::UnknownCommittee { epoch: 3 }));
    assert!(light.check(&second.anchor(&second.header(3 * EPOCH_BLOCKS)), NOW).is_ok());
    assert_eq!(light.advance(&handovers[1]), Ok(true));
    assert_eq!(light.advance(&handovers[0]), Ok(false), "known already");
    assert_eq!(light.epoch(), 6);
    let late = Err(AnchorError::UnknownCommittee { epoch: 2 });
    assert_eq!(light.check(&first.anchor(&first.header(3 * EPOCH_BLOCKS - 3)), NOW), late);
    let resumed = Light::resume(first.pool, light.checkpoint()).unwrap();
    assert_eq!((resumed.epoch(), resumed.committee()), (6, &third.committee));
    assert_eq!(Light::resume(PoolId([0; 32]), light.checkpoint()).err(), Some(CheckpointError::OtherPool));
}

#[test]
fn every_false_handover_has_its_name() {
    let (first, second) = (World::of(4), World::of(4).later(50));
    let honest = first.hands_over_to(&second, 2);
    let advance = |change: &dyn Fn(&mut Header), next: &Committee, signers: usize| {
        let mut header = honest.last.header.clone();
        change(&mut header);
        let last = certify(&header, &first.committee, &first.keys[..signers]);
        first.light().advance(&Handover { last, next: next.clone() }).err()
    };
    let next = &second.committee;
    assert_eq!(advance(&|_| {}, next, 4), None);
    let too_few = AnchorError::TooFewSignatures { valid: 2, needed: 3 };
    assert_eq!(advance(&|_| {}, next, 2), Some(too_few.into()));
    assert_eq!(advance(&|_| {}, &World::of(4).later(60).committee, 4), Some(HandoverError::OtherCommittee));
    let height = honest.last.header.height - 1;
    assert_eq!(advance(&|header| header.height -= 1, next, 4), Some(HandoverError::NotLast { height }));
    assert_eq!(advance(&|header| header.pool = PoolId([0; 32]), next, 4), Some(AnchorError::OtherPool.into()));
    assert_eq!(advance(&|header| header.epoch = 7, next, 4), Some(AnchorError::OtherEpoch { epoch: 7 }.into()));
}

#[test]
fn a_checkpoint_is_read_whole_or_not_at_all() {
    let world = World::of(16);
    let bytes = world.light().checkpoint().encode();
    assert!(bytes.len() <= limits::CHECKPOINT_BYTES_MAX);
    for cut in 0..bytes.len() {
        assert!(Checkpoint::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut newer = bytes.clone();
    newer[0] = 2;
    assert_eq!(Checkpoint::decode(&newer), Err(CheckpointError::Form));
    let mut without_blocks = bytes;
    assert_eq!(u32::from(std::mem::take(&mut without_blocks[33])), limits::EPOCH_BLOCKS_MIN);
    assert!(Light::resume(world.pool, Checkpoint::decode(&without_blocks).unwrap()).is_err());
}

proptest! {
    /// Whatever comes, it is judged, and nothing that is not signed counts.
    #[test]
    fn hostile_anchors_and_handovers_neither_pass_nor_panic(
        members in 1u8..=16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        height in any::<u64>(),
        now in any::<u64>(),
    ) {
        let world = World::of(members);
        let honest = world.hands_over_to(&world.later(77), height / EPOCH_BLOCKS % (1 << 40));
        let mut bytes = codec::encode(&honest, 2 * ANCHOR_BYTES_MAX).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let Ok(handover) = codec::decode::<Handover>(&bytes, 2 * ANCHOR_BYTES_MAX) else { return Ok(()) };
        let is_header = handover.last.header == honest.last.header;
        let mut light = world.light();
        let checked = light.check_within(&handover.last, u64::MAX, now);
        prop_assert!(is_header || checked.is_err(), "another header passed");
        let advanced = light.advance(&handover);
        prop_assert!((is_header && handover.next == honest.next) || advanced.is_err(), "another committee passed");
    }

    #[test]
    fn any_bytes_are_an_anchor_a_checkpoint_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600), now in any::<u64>()) {
        let world = World::of(4);
        if let Ok(anchor) = codec::decode::<Anchor>(&bytes, ANCHOR_BYTES_MAX) {
            prop_assert!(world.light().check(&anchor, now).is_err());
        }
        if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
            prop_assert!(Light::resume(world.pool, checkpoint).is_err());
        }
    }
}
