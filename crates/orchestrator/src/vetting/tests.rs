use super::*;
use protocol::{
    ipc::ModelFacts,
    link::ModelEntry,
    sealing::{SealingKey, Suite},
};
use trust::MachineKey;

const NOW: Now = Now { unix_ms: 1_700_000_000_000, steady_ms: 0 };

fn worker(signer: &MachineKey, about: NodeId, model: u8) -> WorkerState {
    let digest = ModelDigest([model; 32]);
    let evidence = WorkerEvidence {
        node: about,
        model: digest,
        measurement: [0; 32],
        keys: vec![SealingKey { suite: Suite::X25519, bytes: vec![9; 32] }],
        tier: Tier::SelfSigned,
        issued_unix_ms: NOW.unix_ms,
        expires_unix_ms: NOW.unix_ms + 60_000,
    };
    WorkerState {
        model: ModelEntry {
            name: format!("model-{model}"),
            aliases: Vec::new(),
            digest,
            bytes: 1,
            licence: "MIT".to_owned(),
            created_unix_s: 0,
        },
        facts: ModelFacts {
            architecture: "test".to_owned(),
            context_tokens: 100,
            slots: u32::MAX,
            embedding_length: 0,
            chat: true,
        },
        evidence: signer.sign(&evidence),
        active_tasks: 0,
        capacity: u32::MAX,
    }
}

fn state(workers: Vec<WorkerState>) -> NodeState {
    let addresses = vec!["127.0.0.1:4000".parse().unwrap()];
    NodeState { label: "machine".to_owned(), addresses, workers, active_tasks: 0, hold: None }
}

fn holds(vetted: &Vetted) -> Vec<Option<Hold>> {
    vetted.workers.iter().map(|worker| worker.live.hold.clone()).collect()
}

#[test]
fn only_a_node_s_own_evidence_is_believed() {
    let (node, liar) = (MachineKey::generate(), MachineKey::generate());
    let mut vetter = Vetter::new(node.id());
    let mut other_model = worker(&node, node.id(), 4);
    other_model.evidence = worker(&node, node.id(), 1).evidence;
    let mut huge = worker(&node, node.id(), 5);
    huge.evidence.payload = vec![0; limits::EVIDENCE_BYTES_MAX + 1];
    let workers = vec![
        worker(&node, node.id(), 1),
        worker(&liar, node.id(), 2),
        worker(&liar, liar.id(), 3),
        other_model,
        huge,
        worker(&node, node.id(), 6),
    ];
    let vetted = vetter.vet(state(workers), &[(ModelDigest([6; 32]), "no room".to_owned())], NOW);
    let holds = holds(&vetted);
    assert_eq!(holds[0], None);
    for (at, why) in
        [(1, "another machine"), (2, "another machine"), (3, "another model"), (4, "bytes"), (5, "no room")]
    {
        assert!(holds[at].as_ref().unwrap().to_string().contains(why), "{:?}", holds[at]);
        assert!(vetted.workers[at].evidence.is_none());
    }
}

#[test]
fn checking_signatures_is_bounded_and_repetition_is_free() {
    let node = MachineKey::generate();
    let mut vetter = Vetter::new(node.id());
    let same = worker(&node, node.id(), 1);
    for _ in 0..10 * CHECKS_BURST {
        assert_eq!(holds(&vetter.vet(state(vec![same.clone()]), &[], NOW)), [None]);
    }
    let mut refused = 0;
    for number in 0..2 * CHECKS_BURST {
        let mut changed = same.clone();
        changed.evidence.signature.0[..4].copy_from_slice(&number.to_be_bytes());
        let vetted = vetter.vet(state(vec![changed]), &[], NOW);
        let why = holds(&vetted)[0].as_ref().unwrap().to_string();
        refused += u32::from(why.contains("too often"));
    }
    assert_eq!(refused, CHECKS_BURST + 1, "the first check of all came out of the same burst");
}

#[test]
fn whatever_a_node_says_is_kept_within_bounds() {
    let node = MachineKey::generate();
    let mut vetter = Vetter::new(node.id());
    let one = worker(&node, node.id(), 1);
    let mut large = state(vec![one.clone(); 3 * limits::MODELS_PER_NODE_MAX]);
    large.label = "\u{1b}[31mred\n".to_owned() + &"x".repeat(1000);
    large.addresses = vec!["127.0.0.1:4000".parse().unwrap(); 1000];
    large.hold = Some(Hold::WorkerDown { why: "y".repeat(100_000) });
    let vetted = vetter.vet(large, &[], NOW);
    assert!(vetted.label.starts_with("[31mred") && vetted.label.chars().count() == limits::LABEL_CHARS_MAX);
    assert_eq!(vetted.addresses.len(), limits::ADDRESSES_MAX);
    assert_eq!(vetted.hold, Some(Hold::WorkerDown { why: "y".repeat(limits::WHY_CHARS_MAX) }));
    assert_eq!(vetted.workers.len(), 1, "one worker for each model");
    assert_eq!(vetted.workers[0].live.slots, limits::SLOTS_MAX);
    assert_eq!(vetted.workers[0].live.capacity, CAPACITY_MAX);

    let nowhere = ["0.0.0.0:4000", "224.0.0.1:4000", "127.0.0.1:0"];
    let unreachable = NodeState { addresses: nowhere.map(|a| a.parse().unwrap()).to_vec(), ..state(vec![one]) };
    let vetted = vetter.vet(unreachable, &[], NOW);
    assert_eq!(vetted.hold.unwrap().to_string(), "what it says of itself does not hold: it announces no address");
}
