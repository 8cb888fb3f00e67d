//! Who gets tasks, and what a grant is worth.

use crate::machines::{MODEL, Pool, request, unix_ms, worker};
use protocol::{
    grant::{Locality, MatchRequest, ModelRef, Policy, RefusalKind},
    hold::Hold,
    ids::{ModelDigest, NodeId},
    link::{Answer, FromNode, NodeState, Question, ToNode},
};
use std::collections::HashMap;
use trust::{
    MachineKey, evidence,
    permit::{self, Expected},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permit_holds_for_this_client_and_node_only() {
    let pool = Pool::new().await;
    let (node, client) = (pool.node().await, pool.client().await);
    let request = request("default");
    let grant = client.matched(request.clone()).await.unwrap();
    assert_eq!((grant.model, grant.model_name.as_str()), (MODEL, "model-5"));
    let [candidate] = grant.candidates.as_slice() else { panic!("one node, one candidate") };
    assert_eq!((candidate.node, &candidate.addresses), (node.id(), &node.state(4, 0).addresses));
    let evidence = evidence::verify(&candidate.evidence, node.id(), MODEL, &request.policy, unix_ms());
    assert!(evidence.is_ok());

    let orchestrators = [pool.orchestrator.id()];
    let expected = Expected { pool: pool.ticket.pool, client: client.id(), node: node.id() };
    let check = |expected: Expected| permit::verify(&candidate.permit, &orchestrators, &expected, unix_ms());
    let permit = check(expected).unwrap();
    assert_eq!((permit.task, permit.model), (request.task, MODEL));
    assert!(check(Expected { client: node.id(), ..expected }).is_err());
    assert!(check(Expected { node: client.id(), ..expected }).is_err());
    assert!(permit::verify(&candidate.permit, &[node.id()], &expected, unix_ms()).is_err());
    assert!(permit::verify(&candidate.permit, &orchestrators, &expected, permit.expires_unix_ms + 60_000).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_spreads_over_the_nodes() {
    let pool = Pool::new().await;
    let (one, other, client) = (pool.node().await, pool.node().await, pool.client().await);
    let mut firsts: HashMap<NodeId, u32> = HashMap::new();
    for _ in 0..8 {
        // No node says anything new meanwhile: only what was granted tells them apart.
        let grant = client.matched(request("default")).await.unwrap();
        assert!(!grant.candidates.is_empty());
        *firsts.entry(grant.candidates[0].node).or_default() += 1;
    }
    assert_eq!(firsts, HashMap::from([(one.id(), 4), (other.id(), 4)]));
    assert_eq!(pool.orchestrator.metrics().matches_granted, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_why_for_every_node() {
    let pool = Pool::new().await;
    let client = pool.client().await;
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::UnknownModel { known: Vec::new() });

    let (mut busy, mut other) = (pool.node().await, pool.node().await);
    let refusal = client.matched(request("nobody-has-it")).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::UnknownModel { known: vec!["model-5".to_owned()] });

    let digest = ModelDigest([6; 32]);
    let workers = vec![worker(&other.link.key, other.id(), digest, 2, 0)];
    other.say(&FromNode::State(NodeState { workers, ..other.state(2, 0) })).await;
    pool.until(other.id(), |row| row.models == ["model-6"]).await;
    busy.say(&FromNode::State(busy.state(4, 4))).await;
    pool.until(busy.id(), |row| row.hold == Some(Hold::Full { slots: 4 })).await;
    let refusal = client.matched(request("TINY")).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Overloaded);
    assert!(refusal.retry_after_ms.is_some());
    assert_eq!(refusal.reasons, [(busy.id(), Hold::Full { slots: 4 }), (other.id(), Hold::OtherModel)]);

    busy.say(&FromNode::State(busy.state(4, 0))).await;
    pool.until(busy.id(), |row| row.hold.is_none()).await;
    let excluding = MatchRequest { exclude: vec![busy.id()], ..request("default") };
    let refusal = client.matched(excluding).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::NoNode);
    assert!(refusal.reasons.contains(&(busy.id(), Hold::Excluded)));
    let policy = Policy { locality: Locality::Device, ..Policy::default() };
    let refusal = client.matched(MatchRequest { policy, ..request("default") }).await.unwrap_err();
    assert!(refusal.reasons.contains(&(busy.id(), Hold::OutsideLocality)));
    let exact = MatchRequest { model: ModelRef::Digest(digest), ..request("") };
    assert_eq!(client.matched(exact).await.unwrap().candidates[0].node, other.id());
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.matches_unknown_model, metrics.matches_overloaded, metrics.matches_no_node), (2, 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_evidence_gets_no_work_and_a_reason() {
    let pool = Pool::new().await;
    let (mut node, client) = (pool.node().await, pool.client().await);
    let forged = worker(&MachineKey::generate(), node.id(), MODEL, 4, 0);
    node.say(&FromNode::State(NodeState { workers: vec![forged], ..node.state(4, 0) })).await;
    let row = pool.until(node.id(), |row| row.hold.is_some()).await;
    let why = Hold::Refused { why: "the evidence is another machine's".to_owned() };
    assert_eq!(row.hold, Some(why.clone()));
    let refusal = client.matched(request("default")).await.unwrap_err();
    assert_eq!((refusal.kind, refusal.reasons), (RefusalKind::NoNode, vec![(node.id(), why)]));
    assert_eq!(pool.orchestrator.metrics().workers_refused, 1);
    assert_eq!(pool.orchestrator.models()[0].ready_nodes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_see_models_and_nodes_as_the_orchestrator_does() {
    let pool = Pool::new().await;
    let (_one, _other, client) = (pool.node().await, pool.node().await, pool.client().await);
    let Answer::Models(models) = client.ask(&Question::Models).await else { panic!("models") };
    assert_eq!(models, pool.orchestrator.models());
    let [offer] = models.as_slice() else { panic!("two nodes, one model") };
    assert_eq!((offer.ready_nodes, offer.context_tokens), (2, 2048));
    assert_eq!(offer.entry.aliases, ["tiny"], "`default` is nobody's own");
    assert_ne!(offer.entry.created_unix_s, 0, "the pool's time counts, not the node's");
    let Answer::Nodes(rows) = client.ask(&Question::Nodes).await else { panic!("nodes") };
    assert_eq!(rows, pool.orchestrator.nodes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_told_how_it_stands() {
    let pool = Pool::new().await;
    let mut node = pool.node().await;
    assert_eq!(node.told().await, ToNode::Standing { hold: None });
    // Load is no news to it.
    node.say(&FromNode::State(node.state(4, 4))).await;
    pool.until(node.id(), |row| row.hold == Some(Hold::Full { slots: 4 })).await;
    let forged = worker(&MachineKey::generate(), node.id(), MODEL, 4, 0);
    node.say(&FromNode::State(NodeState { workers: vec![forged], ..node.state(4, 0) })).await;
    let ToNode::Standing { hold: Some(hold) } = node.told().await else { panic!("a reason") };
    assert_eq!(hold.code(), "refused");
}
