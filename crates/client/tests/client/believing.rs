//! A client and orchestrators that lie to it: nothing is sent to a node, the user hears why, and another is asked.

use crate::{
    Pool,
    agreed::Agreed,
    orchestrator::{Lie, StubOrchestrator},
    read,
    script::Script,
    stub_node::{Begun, StubNode, unix_ms},
    within,
};
use client::{AskError, Client, ClientConfig, verify::OwnPolicy};
use protocol::{
    grant::Grant,
    header::{Committee, Handover, Header},
    ids::NodeId,
    limits,
    pool::Label,
    witness::Lineage,
};
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::{Arc, Mutex},
};
use trust::{MachineKey, light::certify};

/// A pool of so many orchestrators, with one node that all of them grant.
struct Several {
    orchestrators: Vec<StubOrchestrator>,
    node: StubNode,
}

impl Several {
    async fn of(count: usize) -> Self {
        let agreed = Arc::new(Mutex::new(Agreed::of(count, unix_ms())));
        let node = StubNode::start(Begun::default()).await;
        let mut orchestrators = Vec::new();
        for place in 0..count {
            let orchestrator = StubOrchestrator::start_in(Arc::clone(&agreed), place).await;
            orchestrator.add(node.candidate());
            orchestrators.push(orchestrator);
        }
        Self { orchestrators, node }
    }

    fn config(&self) -> ClientConfig {
        let mut ticket = self.orchestrators[0].ticket();
        ticket.orchestrators = self.orchestrators.iter().flat_map(|one| one.ticket().orchestrators).collect();
        // Each client has its own order: this one's is the ticket's.
        let place = |own: NodeId, id: NodeId| BuildHasherDefault::<DefaultHasher>::default().hash_one((own, id));
        let key = std::iter::repeat_with(MachineKey::generate)
            .take(10_000)
            .find(|key| ticket.orchestrators.is_sorted_by_key(|one| place(key.id(), one.id)))
            .expect("one of them has it");
        ClientConfig::new(key, ticket)
    }

    async fn client(&self) -> Client {
        Client::start(self.config()).await.unwrap()
    }
}

async fn ask(client: &Client) -> Result<(), AskError> {
    let script = Script::undisturbed(3);
    let mut answer = within(client.ask("default", script.chat())).await?;
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    Ok(())
}

fn lie(change: impl Fn(&mut Grant) + Send + Sync + 'static) -> Option<Lie> {
    Some(Arc::new(change))
}

/// The lies that an orchestrator can tell by itself, each with what the user hears.
fn lies(agreed: &Agreed) -> Vec<(Lie, &'static str)> {
    let mut lies: Vec<(Lie, &'static str)> = Vec::new();
    let mut add = |lie: Lie, says| lies.push((lie, says));
    let stale = agreed.clone();
    add(
        Arc::new(move |grant| {
            let mut header = grant.witness.anchor.header.clone();
            header.unix_ms -= limits::ROOT_AGE_MS_MAX + 2 * limits::CLOCK_SKEW_MS_MAX;
            grant.witness.anchor = certify(&header, &stale.committee(), &stale.keys);
        }),
        "s old",
    );
    add(Arc::new(|grant| grant.witness.anchor.certificate.signatures.clear()), "not those of the signers");
    add(
        Arc::new(|grant| {
            grant.witness.anchor.certificate.signers = 0;
            grant.witness.anchor.certificate.signatures.clear();
        }),
        "0 of the 1 signatures",
    );
    add(Arc::new(|grant| grant.witness.anchor.header.pool.0[0] ^= 1), "another pool");
    add(Arc::new(|grant| grant.witness.anchor.header.committee[0] ^= 1), "the committee of epoch 0 is not known");
    add(Arc::new(|grant| grant.witness.policy.siblings.clear()), "the proof of the pool's policy does not hold");
    add(Arc::new(|grant| grant.candidates[0].shown = None), "nothing shows that it is a member");
    add(Arc::new(|grant| grant.candidates[0].node.0[0] ^= 1), "does not lead to the root");
    let stranger = MachineKey::generate();
    add(
        Arc::new(move |grant| {
            let permit = grant.candidates[0].permit.decode_unverified().unwrap();
            grant.candidates[0].permit = stranger.sign(&permit);
        }),
        "no orchestrator of this pool",
    );
    lies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_is_told_to_the_user_and_nothing_is_sent() {
    let pool = Several::of(1).await;
    let (client, liar) = (pool.client().await, &pool.orchestrators[0]);
    let agreed = liar.agreed.lock().unwrap().clone();
    for (lie, says) in lies(&agreed) {
        liar.lock().lie = Some(lie);
        let error = ask(&client).await.unwrap_err();
        let AskError::NotBelieved { orchestrator, reason } = &error else { panic!("{says}: {error}") };
        assert!(*orchestrator == liar.id() && reason.contains(says), "{says}: {error}");
    }
    assert_eq!(pool.node.streams(), 0);
    // It is the only one: it is asked again, and believed where it tells the truth.
    liar.lock().lie = None;
    ask(&client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_turns_from_a_liar_to_another() {
    let pool = Several::of(4).await;
    let client = pool.client().await;
    let [liar, honest, ..] = &pool.orchestrators[..] else { unreachable!() };
    liar.lock().lie = lie(|grant| grant.candidates[0].shown = None);
    ask(&client).await.unwrap();
    assert_eq!((liar.lock().requests.len(), honest.lock().requests.len()), (1, 1));
    // And does not come back for a while.
    ask(&client).await.unwrap();
    assert_eq!((liar.lock().requests.len(), honest.lock().requests.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_lie_the_last_one_is_named() {
    let pool = Several::of(2).await;
    let client = pool.client().await;
    for liar in &pool.orchestrators {
        liar.lock().lie = lie(|grant| grant.candidates[0].shown = None);
    }
    let error = ask(&client).await.unwrap_err();
    assert!(
        matches!(&error, AskError::NotBelieved { orchestrator, .. } if *orchestrator == pool.orchestrators[1].id())
    );
    assert_eq!(pool.node.streams(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_that_nobody_signed_is_held_against_whoever_granted_it() {
    let pool = Several::of(2).await;
    let client = pool.client().await;
    let [liar, honest] = &pool.orchestrators[..] else { unreachable!() };
    liar.lock().lie = lie(|grant| grant.candidates[0].evidence.signature.0[0] ^= 1);
    let error = ask(&client).await.unwrap_err();
    assert!(matches!(&error, AskError::NoNode { .. }) && error.to_string().contains("signature"), "{error}");
    assert_eq!(pool.node.streams(), 0);
    ask(&client).await.unwrap();
    assert!(!honest.lock().requests.is_empty(), "the next question goes to another");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_is_the_one_of_the_ticket() {
    let pool = Several::of(2).await;
    let [liar, honest] = &pool.orchestrators[..] else { unreachable!() };
    let genesis = Agreed::of(1, unix_ms()).genesis;
    liar.lock().lineage = Some(Lineage { genesis, handovers: Vec::new() });
    ask(&pool.client().await).await.unwrap();
    assert!(liar.lock().requests.is_empty());
    honest.lock().lineage = liar.lock().lineage.clone();
    let error = Client::start(pool.config()).await.err().unwrap();
    assert!(matches!(&error, AskError::NotBelieved { reason, .. } if reason.contains("another pool's")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_this_client_refuses_is_passed_over() {
    let pool = Several::of(2).await;
    let mut config = pool.config();
    config.own_policy = OwnPolicy { regions: vec![Label::new("north").unwrap()], ..OwnPolicy::default() };
    let client = Client::start(config).await.unwrap();
    let error = ask(&client).await.unwrap_err();
    assert!(matches!(&error, AskError::NoNode { .. }) && error.to_string().contains("own policy"), "{error}");
    assert!(pool.orchestrators[1].lock().requests.is_empty(), "nobody lied");
    assert_eq!(pool.node.streams(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn referees_are_verified_like_candidates() {
    let pool = Pool::of(3).await;
    pool.orchestrator.lock().read_by = Some(vec![1, 2]);
    let forged = MachineKey::generate().id();
    pool.orchestrator.lock().forged_reader = Some(forged);
    let script = Script::undisturbed(40);
    let mut answer = within(pool.client.ask("default", script.chat())).await.unwrap();
    assert_eq!(within(read(&mut answer)).await.unwrap(), script.seen());
    pool.orchestrator.until(|state| !state.readings.is_empty() && !state.outcomes.is_empty()).await;
    pool.client.close().await;
    assert_eq!(pool.nodes.iter().map(StubNode::streams).sum::<usize>(), 1, "nobody else read the answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_seen_is_kept() {
    let pool = Several::of(1).await;
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let config = ClientConfig { keep: Some(folder.path().join("committees")), ..pool.config() };
        Client::start(config)
    };
    let client = start().await.unwrap();
    ask(&client).await.unwrap();
    client.close().await;
    // It needs no genesis now, and takes none.
    let genesis = Agreed::of(1, unix_ms()).genesis;
    pool.orchestrators[0].lock().lineage = Some(Lineage { genesis, handovers: Vec::new() });
    let client = start().await.unwrap();
    ask(&client).await.unwrap();
    // Nor an older state than it has seen in its life before.
    let agreed = pool.orchestrators[0].agreed.lock().unwrap().clone();
    pool.orchestrators[0].lock().lie = lie(move |grant| {
        let mut header = grant.witness.anchor.header.clone();
        header.unix_ms -= 2 * limits::ROOT_BEHIND_MS_MAX;
        grant.witness.anchor = certify(&header, &agreed.committee(), &agreed.keys);
    });
    client.close().await;
    let error = ask(&start().await.unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("older than one that this machine has seen"), "{error}");
    // What is damaged is begun anew, from the ticket.
    pool.orchestrators[0].lock().lineage = None;
    for file in std::fs::read_dir(folder.path().join("committees")).unwrap() {
        std::fs::write(file.unwrap().path(), b"damaged").unwrap();
    }
    ask(&start().await.unwrap()).await.unwrap();
}

/// A committee that has changed: its handover, and a lie that shows a grant under it.
fn changed(agreed: &Agreed, newcomer: &MachineKey) -> (Handover, Lie) {
    let old = agreed.committee();
    let next = Committee::new(vec![agreed.keys[0].id(), newcomer.id()]).unwrap();
    let blocks = u64::from(agreed.genesis.epoch_blocks);
    let last = Header { epoch: 0, height: blocks - 1, next_committee: next.digest(), ..agreed.header() };
    let handover = Handover { last: certify(&last, &old, &agreed.keys), next: next.clone() };
    let keys = [agreed.keys[0].clone(), newcomer.clone()];
    let grant = move |grant: &mut Grant| {
        let header = &grant.witness.anchor.header;
        let (height, committee) = (header.height + blocks, next.digest());
        let header = Header { epoch: 1, height, committee, next_committee: committee, ..header.clone() };
        grant.witness.anchor = certify(&header, &next, &keys);
    };
    (handover, Arc::new(grant))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_the_committee() {
    let pool = Several::of(1).await;
    let (client, orchestrator) = (pool.client().await, &pool.orchestrators[0]);
    ask(&client).await.unwrap();
    let agreed = orchestrator.agreed.lock().unwrap().clone();
    let (handover, lie) = changed(&agreed, &MachineKey::generate());
    orchestrator.lock().lie = Some(lie);
    let error = ask(&client).await.unwrap_err();
    assert!(error.to_string().contains("the committee of epoch 1 is not known"), "{error}");
    // One that nothing leads to.
    let mut gap = handover.clone();
    gap.last.header.committee[0] ^= 1;
    let genesis = agreed.genesis;
    orchestrator.lock().lineage = Some(Lineage { genesis: genesis.clone(), handovers: vec![gap] });
    let error = ask(&client).await.unwrap_err();
    assert!(error.to_string().contains("nothing leads to from epoch 0"), "{error}");
    orchestrator.lock().lineage = Some(Lineage { genesis, handovers: vec![handover] });
    ask(&client).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_tells_a_false_history_is_not_asked_again() {
    let pool = Several::of(2).await;
    let client = pool.client().await;
    let [liar, honest] = &pool.orchestrators[..] else { unreachable!() };
    let agreed = liar.agreed.lock().unwrap().clone();
    let (mut handover, lie) = changed(&agreed, &MachineKey::generate());
    handover.last.certificate.signatures.pop();
    handover.last.certificate.signers &= 1;
    liar.lock().lie = Some(lie);
    liar.lock().lineage = Some(Lineage { genesis: agreed.genesis, handovers: vec![handover] });
    ask(&client).await.unwrap();
    assert_eq!((liar.lock().requests.len(), honest.lock().requests.len()), (1, 1));
}
