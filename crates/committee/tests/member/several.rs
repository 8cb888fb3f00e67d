use crate::world::{World, admitted, node, reached};
use committee::{Member, SayError, SnapshotPace, Votes};
use protocol::{
    header::{Committee, Handover, Header},
    link::Role,
    pool::{Invite, Redemption, Standing},
};
use registry::{Bundle, Event, Fact, PoolError, Rejection};
use std::{
    fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use trust::MachineKey;

/// The channel on which the engine fetches old blocks.
const BACKFILL: u8 = 4;
/// The channel on which snapshots are taken, and the first byte of a message with a part.
const CATCH_UP: u8 = 6;
const PART: u8 = 5;

async fn started(world: &World, members: impl IntoIterator<Item = usize>) -> Vec<Member> {
    let starting: Vec<_> = members.into_iter().map(|member| world.start(member)).collect();
    let mut members = Vec::new();
    for member in starting {
        members.push(member.await);
    }
    members
}

async fn stop(members: Vec<Member>) {
    for member in members {
        member.shutdown().await;
    }
}

fn height(member: &Member) -> u64 {
    member.latest().borrow().header.height
}

/// All members come to one height, and have the same root there.
async fn agreed(members: &[Member]) {
    let highest = members.iter().map(height).max().unwrap();
    let mut roots = Vec::new();
    for member in members {
        let mut latest = member.latest();
        let latest = latest.wait_for(|latest| latest.header.height >= highest).await.unwrap().clone();
        roots.push((latest.header.height, latest.header.digest(), latest.state.root()));
    }
    let same: Vec<_> = roots.iter().filter(|(height, ..)| *height == roots[0].0).collect();
    assert!(same.iter().all(|root| **root == roots[0]), "{roots:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_agree_whoever_speaks() {
    let world = World::of(4);
    let members = started(&world, 0..4).await;
    for round in 0..6u64 {
        let said = (0..4u64).map(|member| members[member as usize].say(vec![admitted(round * 4 + member)]));
        let said: Vec<_> = said.collect();
        for said in said {
            assert_eq!(said.await.unwrap().len(), 1);
        }
    }
    // What one was told to be final the others know a moment later.
    for member in &members {
        let registry = member.registry();
        let knows_all = || (0..24).all(|number| registry.read().unwrap().is_member(node(number)));
        member.latest().wait_for(|_| knows_all()).await.unwrap();
        let standing = member.standing();
        assert_eq!((standing.quorum, standing.votes, standing.down, standing.stalled), (3, Votes::Yes, None, None));
        assert!(standing.heard.iter().all(|(_, heard)| heard.is_some()));
        assert_eq!(standing.liars, []);
        let mut latest = member.latest();
        let latest = latest.wait_for(|latest| latest.anchor.is_some()).await.unwrap().clone();
        let (anchor, state) = latest.anchor.as_deref().unwrap().clone();
        assert_eq!(anchor.header.state, state.root());
        assert!(anchor.certificate.signatures.len() >= 3);
    }
    agreed(&members).await;
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_redeem_one_invite_at_two_members_and_one_wins() {
    let world = World::of(4);
    let members = started(&world, 0..4).await;
    let pool = world.genesis.pool().unwrap();
    for round in 0..4 {
        let invite = MachineKey::generate();
        let issued = Invite { id: invite.id(), standing: Standing::Member, uses: Some(1), until_unix_ms: None };
        members[0].say(vec![Fact::InviteIssued(issued)]).await.unwrap();
        let height = height(&members[0]);
        let mut racing = Vec::new();
        for member in &members[round % 3..round % 3 + 2] {
            reached(member, height).await;
            let machine = MachineKey::generate();
            let redemption = Redemption { pool, keys: vec![(machine.id(), Role::Node)] };
            let bundle = Bundle {
                pool,
                author: machine.id().into(),
                sequence: 1,
                not_after_unix_ms: member.latest().borrow().header.unix_ms + 60_000,
                facts: vec![Fact::Joined { redemption: invite.sign(&redemption) }],
            };
            racing.push(member.submit(machine.sign(&bundle)));
        }
        let (second, first) = (racing.pop().unwrap(), racing.pop().unwrap());
        let (first, second) = tokio::join!(first, second);
        let lost = SayError::Rejected(Rejection::Pool(PoolError::UnknownInvite));
        let (won, other) = if first.is_ok() { (first, second) } else { (second, first) };
        assert!(won.unwrap().iter().any(|event| matches!(event, Event::MemberAdmitted { .. })));
        assert_eq!(other, Err(lost));
    }
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_catches_up_by_blocks() {
    let world = World::of(4);
    let mut members = started(&world, 0..4).await;
    members[0].say(vec![admitted(0)]).await.unwrap();
    let away = members.pop().unwrap();
    away.shutdown().await;
    let before = height(&away);
    for number in 1..40 {
        members[number as usize % 3].say(vec![admitted(number)]).await.unwrap();
    }
    assert!(height(&members[0]) > before + 16, "more than an epoch");
    members.push(world.start(3).await);
    reached(&members[3], height(&members[0])).await;
    agreed(&members).await;
    assert_eq!(members[3].standing().votes, Votes::Yes, "it has kept its memory");
    assert_eq!(members[3].say(vec![admitted(100)]).await.unwrap().len(), 1);
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_for_too_long_takes_a_snapshot() {
    let mut world = World::of(4);
    world.snapshots = SnapshotPace { blocks: 8, behind: 12, ..SnapshotPace::default() };
    let mut members = started(&world, 0..4).await;
    members[0].say(vec![admitted(0)]).await.unwrap();
    members.pop().unwrap().shutdown().await;
    for number in 1..80 {
        members[number as usize % 3].say(vec![admitted(number)]).await.unwrap();
    }
    let target = height(&members[0]);
    // Whoever helps first sends parts that are not what they should be.
    let late = world.id(3);
    let (parts, liar) = (Arc::new(AtomicU64::new(0)), Arc::new(OnceLock::new()));
    let (count, first) = (Arc::clone(&parts), Arc::clone(&liar));
    world.network.tamper(move |from, to, channel, message| {
        // Nobody has the blocks any more.
        if (to, channel) == (late, BACKFILL) && count.load(Ordering::Relaxed) < 256 {
            return None;
        }
        if (to, channel, message.first()) != (late, CATCH_UP, Some(&PART)) {
            return Some(message);
        }
        count.fetch_add(1, Ordering::Relaxed);
        let mut message = message.to_vec();
        if from == *first.get_or_init(|| from) {
            *message.last_mut().unwrap() ^= 1;
        }
        Some(message.into())
    });
    let late = world.start(3).await;
    reached(&late, target).await;
    assert!(parts.load(Ordering::Relaxed) >= 256, "by a snapshot, and not by every block");
    let liars: Vec<_> = late.standing().liars.into_iter().map(|(liar, _)| liar).collect();
    assert_eq!(liars, [*liar.get().unwrap()], "who sent what is not true is named, and nobody else");
    members.push(late);
    agreed(&members).await;
    let registry = members[3].registry();
    assert!((0..80).all(|number| registry.read().unwrap().is_member(node(number))));
    assert_eq!(members[3].say(vec![admitted(100)]).await.unwrap().len(), 1);
    stop(members).await;
    // It goes on from what it has taken.
    let members = started(&world, 0..4).await;
    assert!(height(&members[3]) >= target);
    members[3].say(vec![admitted(101)]).await.unwrap();
    agreed(&members).await;
    stop(members).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_lost_its_disk_does_not_vote_before_it_may() {
    let world = World::of(4);
    let mut members = started(&world, 0..4).await;
    for number in 0..20 {
        members[number as usize % 4].say(vec![admitted(number)]).await.unwrap();
    }
    members.pop().unwrap().shutdown().await;
    fs::remove_dir_all(world.folder(3)).unwrap();
    let epoch = members[0].standing().epoch;
    let newcomer = world.start(3).await;
    let mut latest = newcomer.latest();
    latest.wait_for(|latest| latest.header.height >= 16).await.unwrap();
    let Votes::FromEpoch(from) = newcomer.standing().votes else { panic!("{:?}", newcomer.standing()) };
    assert!(from >= epoch + 2, "{from} after {epoch}");
    assert_eq!(newcomer.say(vec![admitted(50)]).await.unwrap().len(), 1, "it may speak");

    // Nor after a restart. The others make blocks without being asked for any, so that its time comes.
    newcomer.shutdown().await;
    let newcomer = world.start(3).await;
    let mut latest = newcomer.latest();
    let blocks = u64::from(world.genesis.epoch_blocks);
    while latest.borrow_and_update().header.height + 1 < from * blocks {
        assert_eq!(newcomer.standing().votes, Votes::FromEpoch(from));
        latest.changed().await.unwrap();
    }
    assert_eq!(newcomer.standing().votes, Votes::Yes);
    // Without another one its vote is needed.
    members.pop().unwrap().shutdown().await;
    assert_eq!(newcomer.say(vec![admitted(51)]).await.unwrap().len(), 1);
    members.push(newcomer);
    agreed(&members).await;
    stop(members).await;
}

/// What handovers say. Each member has its own certificates: which of more than enough signatures it saw first is chance.
fn way(handovers: &[Handover]) -> Vec<(Header, Committee)> {
    handovers.iter().map(|handover| (handover.last.header.clone(), handover.next.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go() {
    let mut world = World::founded(4, 5);
    world.snapshots = SnapshotPace { blocks: 8, behind: 12, ..SnapshotPace::default() };
    let mut members = started(&world, 0..4).await;
    members[0].say(vec![admitted(0)]).await.unwrap();
    let comes = Fact::CommitteeChanged { add: vec![world.id(4)], remove: Vec::new() };
    assert_eq!(members[0].say(vec![comes]).await.unwrap().len(), 1);
    // It knows the founders only, and finds its way.
    let newcomer = world.start(4).await;
    let mut latest = newcomer.latest();
    latest.wait_for(|_| newcomer.standing().votes == Votes::Yes).await.unwrap();
    assert_eq!(newcomer.standing().quorum, 4, "of five");
    members.push(newcomer);
    agreed(&members).await;

    let goes = Fact::CommitteeChanged { add: Vec::new(), remove: vec![world.id(3)] };
    members[0].say(vec![goes]).await.unwrap();
    let is_gone = |member: &Member| !member.standing().committee.unwrap().contains(world.id(3));
    members[0].latest().wait_for(|_| is_gone(&members[0])).await.unwrap();
    let gone = members.remove(3);
    assert_eq!(gone.say(vec![admitted(50)]).await, Err(SayError::Rejected(Rejection::UnknownMember)));
    gone.shutdown().await;
    for number in 100..160 {
        members[number as usize % 4].say(vec![admitted(number)]).await.unwrap();
    }
    let handovers = members[0].handovers(0).await;
    assert_eq!(handovers.len(), 2);
    assert!(handovers[0].next.contains(world.id(4)) && !handovers[1].next.contains(world.id(3)));
    assert_eq!(members[0].handovers(handovers[1].last.header.epoch).await, handovers[1..]);
    assert_eq!(way(&members[3].handovers(0).await), way(&handovers));

    // Who knows nothing but the founders follows the committee to who it is now.
    fs::remove_dir_all(world.folder(3)).unwrap();
    let gone = world.start(3).await;
    reached(&gone, height(&members[0])).await;
    assert_eq!(gone.standing().votes, Votes::NoMember);
    assert_eq!(way(&gone.handovers(0).await), way(&handovers));
    members.push(gone);
    agreed(&members).await;
    stop(members).await;
}
