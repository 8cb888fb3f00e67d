//! Members with real storage, over channels of one process.

#![expect(clippy::unwrap_used, reason = "clippy knows test functions, but not what they call")]

mod hub;
mod seeds;
mod toy;

use bytes::{Bytes, BytesMut};
use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::simplex::{
    scheme::ed25519::Scheme,
    types::{Notarize, Proposal, Vote},
};
use commonware_consensus::types::{Epoch, Round, View};
use commonware_cryptography::{Signer as _, blake3::Digest, ed25519::PrivateKey};
use consensus::{Start, StartError, verify_fault};
use hub::{Hub, agree};
use protocol::header::{self, Committee};
use toy::{POISON, POOL, Plan, committee, key};

fn always(committee: Committee) -> Plan {
    Plan::from([(0, committee)])
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_goes_on_where_it_stopped() {
    let hub = Hub::new(8, always(committee([0])));
    let first = hub.member(0).await;
    for number in 0..20 {
        first.toy.submit(number);
        first.toy.has(number).await;
    }
    assert!(first.consensus.standing().borrow().votes);
    first.consensus.stop().await;
    let before = first.toy.chain();
    assert!(before.len() > 20, "a block for each number, and the genesis");
    assert_eq!(first.toy.anchors().len(), before.len() - 1, "alone every block has its own certificate");
    assert_eq!(first.consensus.standing().borrow().down.as_deref(), Some("it was stopped"));
    assert_eq!(first.consensus.block(1).await, None, "it is gone");

    // Another application without any state is told everything again.
    let second = hub.member(0).await;
    assert_eq!(second.toy.chain()[..before.len()], before[..]);
    assert_eq!(second.consensus.processed(), second.toy.height());
    second.toy.submit(20);
    second.toy.has(20).await;
    assert_eq!(second.consensus.block(5).await.as_ref(), before.get(5));
    second.toy.check(&second.consensus.anchor(5).await.unwrap());
    second.consensus.stop().await;
    agree([&first, &second]);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_of_four_go_on_and_the_fourth_catches_up() {
    let hub = Hub::new(64, always(committee(0..4)));
    let mut four = Vec::new();
    for index in 0..4 {
        four.push(hub.member(index).await);
    }
    for (number, local) in four.iter().enumerate() {
        local.toy.submit(number as u64);
    }
    for local in &four {
        for number in 0..4 {
            local.toy.has(number).await;
        }
        assert_eq!(local.consensus.heard().len(), 3, "everybody has heard the other three");
    }

    let gone = four.remove(3);
    gone.consensus.stop().await;
    let height = four[0].toy.height() + 6;
    four[1].toy.submit(100);
    for local in &four {
        local.toy.has(100).await;
        local.toy.reaches(height).await;
    }
    agree(four.iter().chain([&gone]));

    let back = hub.member(3).await;
    back.toy.has(100).await;
    four[2].toy.submit(101);
    back.toy.submit(102);
    for local in four.iter().chain([&back]) {
        local.toy.has(101).await;
        local.toy.has(102).await;
    }
    agree(four.iter().chain([&back]));
    for local in four.iter().chain([&back]) {
        assert!(local.toy.faults.borrow().is_empty(), "whoever comes back contradicts nobody");
        local.consensus.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committee_hands_over_at_the_end_of_an_epoch() {
    let hub = Hub::new(8, Plan::from([(0, committee(0..4)), (2, committee(1..5))]));
    let mut five = Vec::new();
    for index in 0..5 {
        five.push(hub.member(index).await);
    }
    assert!(!five[4].consensus.standing().borrow().votes, "it is no member yet");
    // Work before, at and after the boundaries.
    for number in 0..32 {
        five.iter().for_each(|local| local.toy.submit(number));
        five[1].toy.has(number).await;
    }
    for local in &five[1..] {
        local.toy.reaches(26).await;
    }
    let mut standing = five[4].consensus.standing();
    standing.wait_for(|standing| standing.votes).await.unwrap();
    // The one that left still learns what is final.
    five[0].toy.reaches(20).await;
    assert!(!five[0].consensus.standing().borrow().votes);
    agree(&five);
    // The new committee needs the new member once another is gone.
    five[2].consensus.stop().await;
    five[4].toy.submit(1000);
    for index in [1, 3, 4] {
        five[index].toy.has(1000).await;
    }
    agree(&five);
    for local in &five {
        local.consensus.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_without_its_disk_follows_in_silence_until_its_epoch() {
    let hub = Hub::new(16, always(committee(0..4)));
    let mut four = Vec::new();
    for index in 0..4 {
        four.push(hub.member(index).await);
    }
    four[0].toy.submit(1);
    for local in &four {
        local.toy.has(1).await;
    }
    four.pop().unwrap().consensus.stop().await;

    let amnesiac = hub.member_with(3, "b", |config| config.signs_from_epoch = 2).await.unwrap();
    assert!(!amnesiac.consensus.standing().borrow().votes);
    amnesiac.toy.has(1).await;
    let mut standing = amnesiac.consensus.standing();
    standing.wait_for(|standing| standing.votes).await.unwrap();
    assert_eq!(standing.borrow().epoch, 2);
    let anchors = four[0].toy.anchors();
    let place = committee(0..4).members().iter().position(|member| *member == key(3).id()).unwrap();
    let signed = |epoch: u64| {
        let of_epoch = anchors.iter().filter(|anchor| anchor.header.epoch == epoch);
        of_epoch.filter(|anchor| anchor.certificate.signers >> place & 1 == 1).count()
    };
    assert_eq!(signed(1), 0, "it said nothing in an epoch in which it might have voted before");
    four.push(amnesiac);
    // Now without another: the three have to be these.
    four.remove(0).consensus.stop().await;
    four[0].toy.submit(2);
    for local in &four {
        local.toy.has(2).await;
    }
    agree(&four);
    for local in &four {
        local.consensus.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_saves_the_blocks_before_it() {
    let hub = Hub::new(16, always(committee(0..4)));
    let mut three = Vec::new();
    for index in 0..3 {
        three.push(hub.member(index).await);
    }
    three[0].toy.reaches(40).await;
    for (disk, wanted) in
        [("middle", (|height| height % 16 == 6) as fn(u64) -> bool), ("end", |height| height % 16 == 15)]
    {
        let snapshot = three[0].anchor(wanted).await.expect("most blocks have a certificate of their own");
        let Start::After { block, anchor } = &snapshot else { unreachable!() };
        let mut false_anchor = anchor.clone();
        false_anchor.certificate.view += 1;
        let forged = Start::After { block: block.clone(), anchor: false_anchor };
        let refused = hub.member_with(3, disk, |config| config.start = forged).await.err();
        assert!(matches!(refused, Some(StartError::Anchor)), "{refused:?}");

        for life in 0..2 {
            let start = snapshot.clone();
            let late = hub.member_with(3, disk, |config| config.start = start).await.unwrap();
            assert_eq!(late.toy.chain()[0], *block);
            let number = life + u64::from(block.digest()[0]) * 2 + 100;
            late.toy.submit(number);
            for local in three.iter().chain([&late]) {
                local.toy.has(number).await;
            }
            agree(three.iter().chain([&late]));
            assert_eq!(late.consensus.block(1).await, None, "nobody has sent it old blocks");
            late.consensus.stop().await;
        }
    }
    for local in &three {
        local.consensus.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_of_a_member_holds_nobody_up() {
    let hub = Hub::new(8, always(committee(0..4)));
    let mut three = Vec::new();
    for index in 0..3 {
        three.push(hub.member(index).await);
    }
    for round in 0..64_u64 {
        for channel in 0..=consensus::CHANNELS {
            for local in 0..3 {
                let noise = blake3::hash(&round.to_le_bytes());
                let epoch = [0, 1, 2, u64::MAX][round as usize % 4].to_le_bytes();
                hub.say(3, local, channel, Bytes::from([&epoch[..], noise.as_bytes()].concat()));
                hub.say(3, local, channel, Bytes::from_static(b"short"));
            }
        }
        three[round as usize % 3].toy.submit(round);
    }
    for local in &three {
        for number in 0..64 {
            local.toy.has(number).await;
        }
        local.toy.reaches(20).await;
    }
    agree(&three);
    for local in &three {
        assert!(local.toy.faults.borrow().is_empty(), "rubbish proves nothing");
        local.consensus.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_votes_for_two_blocks_is_named() {
    let hub = Hub::new(1 << 10, always(committee(0..4)));
    let mut three = Vec::new();
    for index in 0..3 {
        three.push(hub.member(index).await);
    }
    // The fourth is nothing but its key.
    let private = |index| PrivateKey::decode(Bytes::from_owner(key(index).seed())).unwrap();
    let members = commonware_utils::ordered::Set::from_iter_dedup((0..4).map(|index| private(index).public_key()));
    let liar = Scheme::signer(&header::namespace(POOL), members, private(3)).unwrap();
    let vote = |view: u64, payload: u8| {
        let round = Round::new(Epoch::zero(), View::new(view));
        let proposal = Proposal::new(round, View::new(view - 1), Digest([payload; 32]));
        let vote = Vote::Notarize(Notarize::sign(&liar, proposal).unwrap()).encode();
        let mut message = BytesMut::from(&0_u64.to_le_bytes()[..]);
        message.extend_from_slice(&vote);
        message.freeze()
    };
    let mut standing = three[0].consensus.standing();
    let mut faults = three[0].toy.faults.subscribe();
    // It lies in one round after the other until one of the lies comes in time.
    while faults.borrow().is_empty() {
        let view = standing.borrow_and_update().view + 1;
        hub.say(3, 0, 0, vote(view, 1));
        hub.say(3, 0, 0, vote(view, 2));
        tokio::select! {
            changed = standing.changed() => changed.unwrap(),
            changed = faults.changed() => changed.unwrap(),
        }
    }
    let fault = faults.borrow()[0].clone();
    assert_eq!(
        (fault.member, fault.epoch, fault.kind),
        (key(3).id(), 0, protocol::fault::FaultKind::ConflictingNotarize)
    );
    assert!(verify_fault(POOL, &committee(0..4), &fault));
    agree(&three);
    for local in &three {
        local.consensus.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_engine_panics_is_down_and_says_why() {
    let hub = Hub::new(8, always(committee([0])));
    let fallen = hub.member(0).await;
    fallen.toy.submit(POISON);
    let mut standing = fallen.consensus.standing();
    let down = standing.wait_for(|standing| standing.down.is_some()).await.unwrap().down.clone();
    assert!(down.unwrap().contains("poisoned"));
    assert_eq!(fallen.consensus.block(1).await, None);
    fallen.consensus.stop().await;
    // The block is final all the same: the member is told of it again, and falls again.
    let refused = hub.member_with(0, "a", |_| {}).await.err();
    assert!(matches!(&refused, Some(StartError::Engine(why)) if why.contains("poisoned")), "{refused:?}");
}
