//! Who is let in.

use crate::machines::{Client, MODEL, Node, Pool, within};
use protocol::{
    ids::PoolId,
    limits,
    link::{Answer, Denied, FromNode, Question},
    ticket::Ticket,
};
use trust::MachineKey;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_leads_into_the_pool() {
    let pool = Pool::new().await;
    let ticket: Ticket = pool.ticket.to_string().parse().unwrap();
    assert_eq!(ticket, pool.ticket);
    let mut node = Node::join(&ticket, &MachineKey::generate()).await.unwrap();
    let known: Vec<_> = node.welcome.orchestrators.iter().map(|orchestrator| orchestrator.id).collect();
    assert_eq!(known, [pool.orchestrator.id()]);
    assert!(pool.orchestrator.models().is_empty());
    let row = pool.row(node.id()).expect("entered before it was welcomed");
    assert_eq!(row.hold.unwrap().code(), "starting");
    node.say(&FromNode::State(node.state(4, 0))).await;
    let row = pool.until(node.id(), |row| row.hold.is_none()).await;
    assert_eq!((row.label.as_str(), row.slots, row.models), ("test node", 4, vec!["model-5".to_owned()]));
    let client = Client::join(&ticket, &MachineKey::generate()).await.unwrap();
    let Answer::Models(models) = client.ask(&Question::Models).await else { panic!("no models") };
    assert_eq!(models[0].entry.digest, MODEL, "what a node brings is the pool's");
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.admitted, metrics.nodes_routable, metrics.clients_linked), (2, 1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_ticket_nobody_is_let_in() {
    let pool = Pool::new().await;
    let mut wrong = pool.ticket.secret.unwrap();
    wrong[31] ^= 1;
    for (ticket, denied) in [
        (Ticket { secret: Some(wrong), ..pool.ticket.clone() }, Denied::NotAdmitted),
        (Ticket { secret: None, ..pool.ticket.clone() }, Denied::NotAdmitted),
        (Ticket { pool: PoolId([0; 32]), ..pool.ticket.clone() }, Denied::OtherPool),
    ] {
        assert_eq!(Node::join(&ticket, &MachineKey::generate()).await.err(), Some(denied));
        assert_eq!(Client::join(&ticket, &MachineKey::generate()).await.err(), Some(denied));
    }
    let metrics = pool.orchestrator.metrics();
    assert_eq!((metrics.denied_not_admitted, metrics.denied_other_pool, metrics.admitted), (4, 2, 0));
    assert!(pool.orchestrator.nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_is_out_at_once_and_for_good() {
    let pool = Pool::new().await;
    let (node, client) = (pool.node().await, pool.client().await);
    pool.orchestrator.remove_member(node.id()).await.unwrap();
    within(node.link.connection.closed()).await;
    assert!(pool.row(node.id()).is_none());
    assert_eq!(Node::join(&pool.ticket, &node.link.key).await.err(), Some(Denied::NotAdmitted));

    pool.orchestrator.remove_member(client.id()).await.unwrap();
    assert_eq!(within(client.link.connection.closed()).await, "removed from the pool");
    let pool = pool.restarted().await;
    assert_eq!(Node::join(&pool.ticket, &node.link.key).await.err(), Some(Denied::NotAdmitted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_has_a_bounded_number_of_links() {
    let pool = Pool::new().await;
    let key = MachineKey::generate();
    let mut clients = Vec::new();
    for _ in 0..limits::LINKS_PER_CLIENT_MAX {
        clients.push(Client::join(&pool.ticket, &key).await.unwrap());
    }
    assert_eq!(Client::join(&pool.ticket, &key).await.err(), Some(Denied::Full));
    assert!(Client::join(&pool.ticket, &MachineKey::generate()).await.is_ok(), "others are not concerned");
}
