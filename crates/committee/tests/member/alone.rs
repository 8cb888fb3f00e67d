use crate::world::{World, admitted, node, nonsense, reached};
use committee::{Member, SayError, SnapshotPace, StartError};
use registry::{Event, Rejection};
use std::{fs, sync::Arc};

fn height(member: &Member) -> u64 {
    member.latest().borrow().header.height
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_is_final_and_survives_a_restart() {
    let world = World::of(1);
    let member = world.start(0).await;
    let mut events = member.events();
    let said = member.say(vec![admitted(1), admitted(2)]).await.unwrap();
    assert!(matches!(said[..], [Event::MemberAdmitted { .. }, Event::MemberAdmitted { .. }]));
    let happened = events.recv().await.unwrap();
    assert_eq!(happened.events, said);
    assert_eq!(member.say(vec![admitted(1)]).await, Ok(Vec::new()), "it is so already");
    assert_eq!(member.say(vec![nonsense()]).await, Err(SayError::Rejected(Rejection::UnknownMember)));
    let root = member.registry().read().unwrap().root();
    assert_eq!(member.latest().borrow().state.root(), root);
    member.shutdown().await;
    assert_eq!(member.say(vec![admitted(3)]).await, Err(SayError::ShuttingDown));

    let member = world.start(0).await;
    assert!(height(&member) >= happened.height);
    assert_eq!(member.registry().read().unwrap().root(), member.latest().borrow().state.root());
    assert_eq!(member.say(vec![admitted(1), admitted(2)]).await, Ok(Vec::new()));
    assert_eq!(member.say(vec![admitted(3)]).await.unwrap().len(), 1, "its numbers go on");
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_dropped_keeps_what_was_final() {
    let mut world = World::of(1);
    world.snapshots = SnapshotPace { blocks: 5, ..SnapshotPace::default() };
    for life in 0..4 {
        let member = world.start(0).await;
        for number in 0..life * 5 {
            assert_eq!(member.say(vec![admitted(number)]).await, Ok(Vec::new()), "fact {number} in life {life}");
        }
        for number in life * 5..(life + 1) * 5 {
            assert_eq!(member.say(vec![admitted(number)]).await.unwrap().len(), 1);
        }
        // No shutdown: the next one waits until the engine has let go of the folder.
        drop(member);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_fail_for_each_other() {
    let world = World::of(1);
    let member = Arc::new(world.start(0).await);
    let callers: Vec<_> = (0..200u64)
        .map(|number| {
            let member = Arc::clone(&member);
            let facts = match number % 10 {
                7 => vec![admitted(10_000 + number), nonsense()],
                8 => vec![admitted(3)],
                _ => vec![admitted(number), admitted(1_000 + number)],
            };
            tokio::spawn(async move { (number, member.say(facts).await) })
        })
        .collect();
    let mut threes = 0;
    for caller in callers {
        let (number, said) = caller.await.unwrap();
        match number % 10 {
            7 => assert_eq!(said, Err(SayError::Rejected(Rejection::UnknownMember))),
            8 => threes += said.unwrap().len(),
            3 if number == 3 => threes += said.unwrap().len() - 1,
            _ => assert_eq!(said.unwrap().len(), 2, "caller {number}"),
        }
    }
    assert_eq!(threes, 1, "twenty-one say it, and it becomes so once");
    assert!(height(&member) < 100, "many callers share a bundle");
    let registry = member.registry();
    for number in (0..200).filter(|number| number % 10 == 7) {
        let is_member = registry.read().unwrap().is_member(node(10_000 + number));
        assert!(!is_member, "all of a caller's facts, or none");
    }
    let too_many = (0..257).map(admitted).collect();
    assert_eq!(member.say(too_many).await, Err(SayError::TooLong));
    member.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_snapshot_falls_back_to_the_one_before() {
    let mut world = World::of(1);
    world.snapshots = SnapshotPace { blocks: 4, ..SnapshotPace::default() };
    let member = world.start(0).await;
    for number in 0..40 {
        member.say(vec![admitted(number)]).await.unwrap();
    }
    let reached_height = height(&member);
    member.shutdown().await;
    let folder = world.folder(0).join("snapshots");
    let files = || {
        let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    assert_eq!(files().len(), 2, "the two newest are kept");
    let kept: Vec<_> = files().into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect();
    let (bytes, newest) = kept.last().unwrap();
    for torn in [bytes[..bytes.len() / 2].to_vec(), Vec::new(), flipped(bytes, 700), flipped(bytes, bytes.len() - 40)] {
        fs::write(newest, &torn).unwrap();
        let member = world.start(0).await;
        assert!(fs::read(newest).map_or(true, |found| found != torn), "what is damaged is not kept");
        reached(&member, reached_height).await;
        assert_eq!(member.say((0..40).map(admitted).collect()).await, Ok(Vec::new()));
        member.shutdown().await;
        for file in files() {
            fs::remove_file(file).unwrap();
        }
        for (bytes, file) in &kept {
            fs::write(file, bytes).unwrap();
        }
    }
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 16;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_has_one_member_of_one_pool() {
    let world = World::of(1);
    let member = world.start(0).await;
    let second = Member::start(world.config(0), world.network.join(world.id(0))).await;
    assert!(matches!(second, Err(StartError::InUse(_))));
    member.shutdown().await;
    let mut config = world.config(0);
    config.genesis.created_unix_ms += 1;
    let other = Member::start(config, world.network.join(world.id(0))).await;
    assert!(matches!(other, Err(StartError::OtherPool(_))));
}
