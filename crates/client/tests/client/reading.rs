//! What a client reads of a pool is proven, or not believed.

use crate::{
    agreed::Agreed,
    orchestrator::{FalseProof, StubOrchestrator},
    within,
};
use client::{AskError, Client, ClientConfig};
use protocol::{
    ids::NodeId,
    limits,
    pool::{Listing, PoolPolicy},
    witness::Proofs,
};
use registry::{Fact, keys};
use std::sync::{Arc, Mutex};
use trust::{MachineKey, light::certify};

async fn client_of(orchestrators: &[StubOrchestrator]) -> Client {
    let mut ticket = orchestrators[0].ticket();
    ticket.orchestrators = orchestrators.iter().flat_map(|one| one.ticket().orchestrators).collect();
    within(Client::start(ClientConfig::new(MachineKey::generate(), ticket))).await.unwrap()
}

fn now() -> u64 {
    protocol::time::unix_ms(std::time::SystemTime::now())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_lists_are_read_to_their_end() {
    let orchestrator = StubOrchestrator::start().await;
    let nodes: Vec<NodeId> = (1..=40).map(|byte| NodeId([byte; 32])).collect();
    nodes.iter().for_each(|node| orchestrator.agreed.lock().unwrap().admit(*node));
    let client = client_of(std::slice::from_ref(&orchestrator)).await;
    let ids = within(client.list(Listing::Members)).await.unwrap();
    assert_eq!(ids, nodes.iter().map(|node| node.0).collect::<Vec<_>>(), "one in each page");
    // More than one question holds, and one that is none.
    let wanted: Vec<_> = nodes.iter().copied().chain([NodeId([99; 32])]).map(keys::member).collect();
    assert!(wanted.len() > limits::PROVEN_MAX);
    let members = within(client.read_all(&wanted)).await.unwrap();
    assert!(members[..40].iter().all(|member| member.as_ref().is_some_and(|member| member.lends)));
    assert_eq!(members[40], None);
    assert_eq!(within(client.read(&keys::policy())).await, Ok(Some(PoolPolicy::default())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_false_proof_is_not_believed() {
    let agreed = Arc::new(Mutex::new(Agreed::of(1, now())));
    let liar = StubOrchestrator::start_in(Arc::clone(&agreed), 0).await;
    let client = client_of(std::slice::from_ref(&liar)).await;
    let other = {
        let mut other = agreed.lock().unwrap().clone();
        other.agree(Fact::PolicySet(PoolPolicy { retains_nothing: true, ..PoolPolicy::default() }));
        other
    };
    let stranger = MachineKey::generate();
    let lies: Vec<(FalseProof, &str)> = vec![
        (Arc::new(|shown: &mut Proofs| shown.proofs.clear()), "something else"),
        (
            Arc::new(|shown: &mut Proofs| {
                // What it knows already is not certified again.
                shown.anchor.header.unix_ms += 1;
                shown.anchor.certificate.signatures.clear();
            }),
            "signatures",
        ),
        (Arc::new(move |shown: &mut Proofs| shown.proofs = vec![other.registry.prove(&keys::policy())]), "root"),
        (
            Arc::new(move |shown: &mut Proofs| {
                let committee = protocol::header::Committee::new(vec![stranger.id()]).unwrap();
                shown.anchor.header.unix_ms += 2;
                shown.anchor = certify(&shown.anchor.header, &committee, [&stranger]);
            }),
            "signatures",
        ),
    ];
    for (lie, says) in lies {
        liar.lock().false_proof = Some(lie);
        let error = within(client.read(&keys::policy())).await.unwrap_err();
        let AskError::NotBelieved { orchestrator, reason } = &error else { panic!("{says}: {error}") };
        assert!(*orchestrator == liar.id() && reason.contains(says), "{says}: {error}");
    }
    liar.lock().false_proof = None;
    assert_eq!(within(client.read(&keys::policy())).await, Ok(Some(PoolPolicy::default())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balance_is_proven() {
    let orchestrator = StubOrchestrator::start().await;
    let node = MachineKey::generate();
    {
        let mut agreed = orchestrator.agreed.lock().unwrap();
        agreed.agree(Fact::PolicySet(PoolPolicy { starter_micro: 5, issue_micro_max: 9, ..PoolPolicy::default() }));
        agreed.admit(node.id());
        agreed.agree(Fact::StarterGranted { node: node.id() });
    }
    let client = client_of(std::slice::from_ref(&orchestrator)).await;
    let balance = within(client.balance(node.id().into(), &node)).await.unwrap();
    let micro = (balance.account.available_micro, balance.totals.issued_micro, balance.policy.starter_micro);
    assert_eq!(micro, (5, 5, 5));
    let lies: [FalseProof; 2] = [
        Arc::new(|shown: &mut Proofs| shown.proofs.swap(0, 1)),
        Arc::new(|shown: &mut Proofs| shown.proofs.truncate(2)),
    ];
    for lie in lies {
        orchestrator.lock().false_proof = Some(lie);
        let error = within(client.balance(node.id().into(), &node)).await.unwrap_err();
        assert!(matches!(error, AskError::NotBelieved { .. }), "{error}");
    }
}
