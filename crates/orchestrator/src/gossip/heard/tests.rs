use super::*;
use protocol::{
    grant::{Tier, WorkerEvidence},
    ids::ModelDigest,
    peer::live::{Gone, ProfileWorker},
    sealing::{SealingKey, Suite},
};
use trust::MachineKey;

const OWN: NodeId = NodeId([100; 32]);
const MODEL: ModelDigest = ModelDigest([5; 32]);
const UNIX_MS: u64 = 1_700_000_000_000;
const SILENCE_MS: u64 = 6_000;

fn at(steady_ms: u64) -> Now {
    Now { unix_ms: UNIX_MS + steady_ms, steady_ms }
}

/// Two homes of a node: the one that it prefers, and the other.
fn homes(node: NodeId) -> (NodeId, NodeId) {
    let (one, other) = (NodeId([101; 32]), NodeId([102; 32]));
    if preference(node, one) > preference(node, other) { (one, other) } else { (other, one) }
}

fn profile(node: NodeId, signer: &MachineKey, slots: u32) -> Profile {
    let evidence = WorkerEvidence {
        node,
        model: MODEL,
        measurement: [0; 32],
        keys: vec![SealingKey { suite: Suite::X25519, bytes: vec![9; 32] }],
        tier: Tier::SelfSigned,
        issued_unix_ms: UNIX_MS,
        expires_unix_ms: UNIX_MS + limits::EVIDENCE_LIFETIME_MS,
    };
    let worker = ProfileWorker {
        model: MODEL,
        bytes: 1,
        slots,
        capacity: slots,
        context_tokens: 2048,
        chat: true,
        writes: true,
        evidence: signer.sign(&evidence),
    };
    let addresses = vec!["127.0.0.1:4000".parse().unwrap()];
    Profile { node, label: "machine".to_owned(), addresses, workers: vec![worker] }
}

fn load(profile: &Profile, active_tasks: u32) -> Load {
    Load {
        node: profile.node,
        profile: profile.mark(),
        responsive: true,
        hold: None,
        active_tasks,
        workers: vec![active_tasks],
    }
}

/// A peer that numbers what it says.
struct Speaker {
    id: NodeId,
    round: u64,
    number: u64,
}

impl Speaker {
    fn new(id: NodeId, round: u64) -> Self {
        Self { id, round, number: 0 }
    }

    fn says(&mut self, heard: &mut Heard, gossip: Gossip, now: Now) -> Taken {
        let gossip = Gossip { round: self.round, number: self.number, ..gossip };
        self.number += 1;
        heard.take(self.id, gossip, |_| true, now)
    }

    /// It says a load, and the profile where it is asked for it.
    fn tells(&mut self, heard: &mut Heard, profile: &Profile, active_tasks: u32, now: Now) {
        self.says(heard, loads(vec![load(profile, active_tasks)]), now);
        if heard.asks(9, now).contains(&(self.id, profile.node)) {
            self.says(heard, profiles(vec![profile.clone()]), now);
        }
    }
}

fn loads(loads: Vec<Load>) -> Gossip {
    Gossip { loads, ..Gossip::default() }
}

fn profiles(profiles: Vec<Profile>) -> Gossip {
    Gossip { profiles, ..Gossip::default() }
}

/// Who is believed, and how many tasks it says that there are.
fn believed(heard: &Heard, node: NodeId) -> Option<(NodeId, u32)> {
    let word = heard.word(node)?;
    Some((word.home, word.vetted.map_or(u32::MAX, |vetted| vetted.workers[0].live.active_tasks)))
}

#[test]
fn of_two_homes_the_preferred_one_is_believed_until_it_does_not_hear_the_node() {
    let key = MachineKey::generate();
    let (node, mut heard) = (key.id(), Heard::new(OWN, SILENCE_MS));
    let (first, second) = homes(node);
    let (mut one, mut other) = (Speaker::new(first, 1), Speaker::new(second, 1));
    let profile = profile(node, &key, 4);
    other.says(&mut heard, loads(vec![load(&profile, 2)]), at(0));
    assert_eq!(believed(&heard, node), Some((second, u32::MAX)), "there, and nothing more is known");
    assert_eq!(heard.asks(9, at(0)), [(second, node)]);
    assert!(heard.asks(9, at(1)).is_empty(), "once");
    assert_eq!(heard.asks(9, at(ASKED_AGAIN_MS)), [(second, node)], "lost");
    other.says(&mut heard, profiles(vec![profile.clone()]), at(ASKED_AGAIN_MS));
    assert_eq!(believed(&heard, node), Some((second, 2)));
    // The other home says the same: nothing is to be asked.
    one.tells(&mut heard, &profile, 3, at(2_000));
    assert!(heard.asks(9, at(9_000)).is_empty());
    assert_eq!((believed(&heard, node), heard.first(node)), (Some((first, 3)), Some(first)));
    let unheard = Load { responsive: false, ..load(&profile, 3) };
    one.says(&mut heard, loads(vec![unheard]), at(2_000));
    assert_eq!((heard.first(node), heard.other_home(node)), (Some(second), Some(second)));
    other.says(&mut heard, Gossip { gone: vec![Gone { node, left: false }], ..Gossip::default() }, at(2_000));
    assert_eq!((believed(&heard, node), heard.other_home(node)), (Some((first, 3)), None));
}

#[test]
fn new_evidence_is_asked_for_and_the_old_stands_meanwhile() {
    let key = MachineKey::generate();
    let (node, mut heard) = (key.id(), Heard::new(OWN, SILENCE_MS));
    let (first, second) = homes(node);
    let (mut one, mut other) = (Speaker::new(first, 1), Speaker::new(second, 1));
    let (old, new) = (profile(node, &key, 4), profile(node, &key, 8));
    one.tells(&mut heard, &old, 1, at(0));
    other.tells(&mut heard, &old, 2, at(0));
    one.says(&mut heard, loads(vec![load(&new, 3)]), at(1));
    assert_eq!(believed(&heard, node), Some((second, 2)), "whose profile is known");
    assert_eq!(heard.asks(9, at(1)), [(first, node)]);
    one.says(&mut heard, profiles(vec![new.clone()]), at(2));
    assert_eq!(believed(&heard, node), Some((first, 3)));
    assert!(heard.asks(9, at(9_000)).is_empty(), "the other home will say so too");
}

#[test]
fn forged_evidence_is_passed_over() {
    let (key, liar) = (MachineKey::generate(), MachineKey::generate());
    let (node, mut heard) = (key.id(), Heard::new(OWN, SILENCE_MS));
    let (first, second) = homes(node);
    let (mut lies, mut honest) = (Speaker::new(first, 1), Speaker::new(second, 1));
    let (forged, genuine) = (profile(node, &liar, 4), profile(node, &key, 4));
    lies.tells(&mut heard, &forged, 0, at(0));
    assert_eq!(believed(&heard, node), Some((first, u32::MAX)), "it is there, with nothing to show");
    honest.tells(&mut heard, &genuine, 1, at(0));
    assert_eq!(believed(&heard, node), Some((second, 1)));
    // Another forgery each time does not dislodge what was checked.
    for number in 1..50 {
        lies.tells(&mut heard, &profile(node, &liar, number), 0, at(u64::from(number) * ASKED_AGAIN_MS / 2));
        honest.says(&mut heard, loads(vec![load(&genuine, number)]), at(u64::from(number) * ASKED_AGAIN_MS / 2));
        assert_eq!(believed(&heard, node), Some((second, number)));
    }
    // Nor does a profile that nobody asked for, or another than was named.
    let unasked = profile(node, &key, 9);
    assert!(lies.says(&mut heard, profiles(vec![unasked.clone()]), at(0)).changed.is_empty());
    lies.says(&mut heard, loads(vec![load(&unasked, 0)]), at(200_000));
    heard.asks(9, at(200_000));
    lies.says(&mut heard, profiles(vec![forged]), at(200_000));
    assert_eq!(believed(&heard, node), Some((second, 49)));
}

#[test]
fn a_silent_home_speaks_for_nobody_until_it_is_heard_again() {
    let key = MachineKey::generate();
    let (node, mut heard) = (key.id(), Heard::new(OWN, SILENCE_MS));
    let (first, second) = homes(node);
    let (mut one, mut other) = (Speaker::new(first, 1), Speaker::new(second, 1));
    let profile = profile(node, &key, 4);
    one.tells(&mut heard, &profile, 1, at(0));
    other.tells(&mut heard, &profile, 2, at(1));
    other.says(&mut heard, Gossip::default(), at(SILENCE_MS));
    assert!(heard.quiet(|_| true, at(SILENCE_MS - 1)).is_empty());
    assert_eq!(heard.quiet(|_| true, at(SILENCE_MS)), [node].into());
    assert_eq!(believed(&heard, node), Some((second, 2)));
    assert!(heard.quiet(|_| true, at(SILENCE_MS + 1)).is_empty(), "once");
    assert_eq!(heard.quiet(|_| true, at(2 * SILENCE_MS)), [node].into());
    assert_eq!(believed(&heard, node), None);
    // A word without anything in it says that all of it stands.
    let back = one.says(&mut heard, Gossip::default(), at(2 * SILENCE_MS + 1));
    assert_eq!((back.changed, believed(&heard, node)), ([(node, false)].into(), Some((first, 1))));
    // Who is no orchestrator any more, or long silent, is forgotten.
    assert_eq!(heard.quiet(|home| home != first, at(2 * SILENCE_MS + 2)), [node].into());
    assert_eq!(heard.homes(node), []);
    assert!(heard.quiet(|_| true, at(3 * SILENCE_MS + KEPT_MS)).contains(&node));
    assert!(heard.nodes.is_empty() && heard.homes.is_empty());
}

#[test]
fn what_is_missed_is_asked_for_and_what_a_round_leaves_out_is_forgotten() {
    let (key, gone) = (MachineKey::generate(), MachineKey::generate());
    let (mut heard, home) = (Heard::new(OWN, SILENCE_MS), NodeId([101; 32]));
    let profiles = [profile(key.id(), &key, 4), profile(gone.id(), &gone, 4)];
    let mut speaker = Speaker::new(home, 1);
    let both = || loads(profiles.iter().map(|profile| load(profile, 1)).collect());
    speaker.says(&mut heard, Gossip { whole: true, ..both() }, at(0));
    assert_eq!(heard.nodes.len(), 2);
    // Two messages are lost; what comes after them still counts.
    speaker.number += 2;
    let after = speaker.says(&mut heard, loads(vec![load(&profiles[0], 7)]), at(10));
    assert!(after.want_all);
    assert!(!speaker.says(&mut heard, Gossip::default(), at(20)).want_all, "not at once again");
    assert!(speaker.says(&mut heard, Gossip::default(), at(510)).want_all);
    assert_eq!(heard.nodes[&key.id()].words[0].load.active_tasks, 7);
    // A message that was overtaken says nothing any more.
    let late = Gossip { round: 1, number: 1, gone: vec![Gone { node: key.id(), left: true }], ..Gossip::default() };
    assert!(heard.take(home, late, |_| true, at(1_020)).changed.is_empty());
    // The new round is itself interrupted: nothing is forgotten by halves.
    let mut again = Speaker::new(home, 2);
    again.says(&mut heard, loads(vec![load(&profiles[0], 8)]), at(1_030));
    again.number += 1;
    let broken = again.says(&mut heard, Gossip { whole: true, ..Gossip::default() }, at(1_040));
    assert_eq!((broken.changed.len(), heard.nodes.len()), (0, 2));
    let mut third = Speaker::new(home, 3);
    third.says(&mut heard, loads(vec![load(&profiles[0], 9)]), at(1_050));
    let whole = third.says(&mut heard, Gossip { whole: true, ..Gossip::default() }, at(1_060));
    assert_eq!(whole.changed, [(gone.id(), false)].into());
    assert!(!heard.nodes.contains_key(&gone.id()));
    // The middle of a round whose beginning nobody heard: its statements may be old.
    let middle = Gossip { round: 9, number: 4, ..both() };
    let taken = heard.take(home, middle, |_| true, at(3_000));
    assert!(taken.want_all && taken.changed.is_empty() && heard.nodes.len() == 1);
}

#[test]
fn a_node_with_a_link_here_is_only_noted() {
    let key = MachineKey::generate();
    let (node, mut heard) = (key.id(), Heard::new(OWN, SILENCE_MS));
    let mut speaker = Speaker::new(NodeId([101; 32]), 1);
    let profile = profile(node, &key, 4);
    heard.set_direct(node, true);
    assert!(heard.is_first(node), "the only one");
    speaker.says(&mut heard, loads(vec![load(&profile, 1)]), at(0));
    assert!(heard.asks(9, at(0)).is_empty());
    assert_eq!(heard.other_home(node), Some(speaker.id));
    assert_eq!(heard.is_first(node), preference(node, OWN) > preference(node, speaker.id), "one of two");
    heard.set_direct(node, false);
    assert!(!heard.is_first(node));
    assert_eq!(heard.asks(9, at(0)), [(speaker.id, node)], "now it is needed");
}

#[test]
fn only_a_first_home_is_heard_of_what_it_found_out() {
    let key = MachineKey::generate();
    let (node, mut heard) = (key.id(), Heard::new(OWN, SILENCE_MS));
    let (first, second) = homes(node);
    let profile = profile(node, &key, 4);
    let finds = || Gossip {
        loads: vec![load(&profile, 0)],
        seen: vec![Seen { node, rates: Vec::new(), ejected: vec![MODEL] }],
        trials: vec![Trial { node, model: MODEL, passed: true }],
        ..Gossip::default()
    };
    let counts = |taken: Taken| (taken.seen.len(), taken.trials.len());
    assert_eq!(counts(Speaker::new(first, 1).says(&mut heard, finds(), at(0))), (1, 1));
    assert_eq!(counts(Speaker::new(second, 1).says(&mut heard, finds(), at(0))), (0, 0));
    let stranger = Gossip { loads: Vec::new(), ..finds() };
    assert_eq!(counts(Speaker::new(NodeId([103; 32]), 1).says(&mut heard, stranger, at(0))), (0, 0));
}

#[test]
fn a_flood_is_bounded_and_strangers_are_not_kept() {
    let (mut heard, home) = (Heard::new(OWN, SILENCE_MS), NodeId([101; 32]));
    let numbered = |number: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    };
    let said = |numbers: std::ops::Range<u64>| {
        let load = |number| Load {
            node: numbered(number),
            profile: number,
            responsive: true,
            hold: Some(protocol::hold::Hold::WorkerDown { why: "y".repeat(1_000) }),
            active_tasks: 0,
            workers: vec![0; 1_000],
        };
        loads(numbers.map(load).collect())
    };
    let taken = heard.take(home, Gossip { round: 1, ..said(0..100) }, |_| false, at(0));
    assert_eq!((taken.refused, taken.changed.len(), heard.nodes.len()), (100, 0, 0), "none of them a node");
    let most = limits::NODES_MAX as u64;
    for batch in 0..(most / 512 + 8) {
        let gossip = Gossip { round: 1, number: 1 + batch, ..said(512 * batch..512 * (batch + 1)) };
        heard.take(home, gossip, |_| true, at(0));
    }
    assert_eq!((heard.nodes.len(), heard.missing.len()), (limits::NODES_MAX, limits::NODES_MAX));
    let known = &heard.nodes[&numbered(3)].words[0].load;
    assert_eq!(known.workers.len(), limits::MODELS_PER_NODE_MAX);
    assert!(format!("{:?}", known.hold).len() < 2 * limits::WHY_CHARS_MAX);
    assert_eq!(heard.asks(256, at(0)).len(), 256, "a bounded number of signatures at a time");
    // And of messages: what is too much is not read.
    let mut taken = 0;
    for number in 100..10_000u64 {
        let gossip = Gossip { round: 1, number, doubts: vec![Doubt { node: OWN, model: None }], ..Gossip::default() };
        taken += heard.take(home, gossip, |_| true, at(0)).doubts.len();
    }
    assert_eq!(taken, 256, "nor does it have more than so many nodes looked after");
    let later = Gossip { round: 1, number: 10_000, ..Gossip::default() };
    assert!(heard.take(home, later, |_| true, at(1_000)).want_all, "the gap is noticed");
}

/// Prints what telling and hearing of many nodes costs; run it with `--nocapture`.
#[test]
fn ten_thousand_nodes() {
    use crate::gossip::telling::Telling;
    use protocol::codec;
    use std::time::{Duration, Instant};
    const NODES: u32 = 10_000;
    const PEER: NodeId = NodeId([101; 32]);
    let profiles: BTreeMap<NodeId, Profile> = (0..NODES)
        .map(|number| {
            let mut seed = [0; 32];
            seed[..4].copy_from_slice(&number.to_be_bytes());
            let key = MachineKey::from_seed(&seed);
            (key.id(), profile(key.id(), &key, 4))
        })
        .collect();
    let (mut telling, mut heard) = (Telling::new(0), Heard::new(OWN, SILENCE_MS));
    telling.peers(&[PEER], || profiles.keys().copied().collect(), 0);
    let (mut bytes, mut took, mut ticks) = (0, Duration::ZERO, 0);
    // A home and who listens to it, in ticks of 100 ms, until everything is known.
    loop {
        let now = at(100 * ticks);
        ticks += 1;
        for (_, node) in heard.asks(256, now) {
            telling.profiles(PEER, [node]);
        }
        let messages = std::iter::from_fn(|| {
            telling.next(PEER, 500, now.steady_ms, |node, parts, gossip| {
                if parts.load {
                    gossip.loads.push(load(&profiles[&node], 1));
                }
                if parts.profile {
                    gossip.profiles.push(profiles[&node].clone());
                }
                80 + 600 * usize::from(parts.profile)
            })
        });
        for message in messages.take(8).collect::<Vec<_>>() {
            let encoded = codec::encode(&message, limits::GOSSIP_BYTES_MAX).unwrap();
            bytes += encoded.len();
            let begun = Instant::now();
            let message = codec::decode(&encoded, limits::GOSSIP_BYTES_MAX).unwrap();
            heard.take(PEER, message, |_| true, now);
            took += begun.elapsed();
        }
        if heard.missing.is_empty() && heard.nodes.len() == NODES as usize {
            break;
        }
        assert!(ticks < 1_000);
    }
    let known = profiles.keys().filter(|node| heard.word(**node).is_some_and(|word| word.vetted.is_some())).count();
    assert_eq!(known, profiles.len());
    profiles.keys().for_each(|node| telling.changed(*node, crate::gossip::Parts { load: true, ..Default::default() }));
    let mut loads = 0;
    while let Some(message) = telling.next(PEER, u64::MAX, 0, |node, _, gossip| {
        gossip.loads.push(load(&profiles[&node], 2));
        80
    }) {
        loads += codec::encode(&message, limits::GOSSIP_BYTES_MAX).unwrap().len();
    }
    println!(
        "{NODES} nodes, one worker each: all known after {ticks} ticks of 100 ms, {:.1} MB and {:.2} s of one processor; \
         a change of each: {:.0} kB",
        bytes as f64 / 1e6,
        took.as_secs_f64(),
        loads as f64 / 1e3,
    );
}
