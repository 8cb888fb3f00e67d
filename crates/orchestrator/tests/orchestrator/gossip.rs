//! What orchestrators of one pool know of each other's nodes.

use crate::{
    committee::Committee,
    machines::{Client, LOOPBACK, MODEL, Node, request, unix_ms, within, worker},
};
use protocol::{
    codec,
    grant::RefusalKind,
    hold::Hold,
    ids::NodeId,
    limits::GOSSIP_BYTES_MAX,
    link::{Answer, FromNode, Question},
    peer::{
        self, LIVE, Lane,
        live::{Gossip, Load, Profile, ProfileWorker},
    },
};
use transport::{Sender, Transport};
use trust::MachineKey;

async fn client(committee: &Committee, member: usize) -> Client {
    Client::join(&committee.members[member].ticket(), &MachineKey::generate()).await.unwrap()
}

async fn matched(client: &Client) -> Result<NodeId, RefusalKind> {
    let granted = client.matched(request("default")).await;
    granted.map(|grant| grant.candidates[0].node).map_err(|refusal| refusal.kind)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_home_is_matched() {
    let committee = Committee::of(2).await;
    let mut node = committee.node(0).await;
    let client = client(&committee, 1).await;
    let row = committee.until_ready(1, &mut node).await;
    assert_eq!((row.label.as_str(), row.slots), ("test node", 4));
    assert_eq!(matched(&client).await, Ok(node.id()));
    let metrics = committee.members[1].metrics();
    assert_eq!((metrics.nodes_linked, metrics.nodes_remote), (0, 1));
    // Its load, its place, its goodbye.
    node.say(&FromNode::State(node.state(4, 4))).await;
    committee.until(1, node.id(), |row| row.active_tasks == 4).await;
    node.say(&FromNode::State(node.state(8, 0))).await;
    committee.until(1, node.id(), |row| row.slots == 8 && row.active_tasks == 0).await;
    let held = protocol::link::NodeState { hold: Some(Hold::Draining), ..node.state(8, 0) };
    node.say(&FromNode::State(held)).await;
    committee.until(1, node.id(), |row| row.hold == Some(Hold::Draining)).await;
    node.say(&FromNode::Goodbye).await;
    committee.until(1, node.id(), |row| row.hold == Some(Hold::Left)).await;
    assert_eq!(matched(&client).await, Err(RefusalKind::NoNode));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_reported_elsewhere_is_probed_by_its_home() {
    let committee = Committee::of(2).await;
    let mut node = committee.node(0).await;
    let client = client(&committee, 1).await;
    committee.until_ready(1, &mut node).await;
    assert_eq!(client.ask(&Question::Report { node: node.id() }).await, Answer::Noted);
    let probe = node.probed().await;
    committee.until(1, node.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    node.say(&FromNode::Alive { probe }).await;
    committee.until(1, node.id(), |row| row.hold.is_none()).await;
    assert_eq!(matched(&client).await, Ok(node.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_home_stops_its_nodes_go_on_with_another() {
    let committee = Committee::of(2).await;
    let (mut of_one, of_both) = (committee.node(0).await, MachineKey::generate());
    let (_first, mut second) = (committee.node_of(0, &of_both).await, committee.node_of(1, &of_both).await);
    let client = client(&committee, 1).await;
    committee.until_ready(1, &mut of_one).await;
    committee.until_ready(1, &mut second).await;
    within(committee.members[0].shutdown()).await;
    committee.until_ready(1, &mut second).await;
    assert!(matched(&client).await.is_ok(), "at once");
    committee.until(1, of_one.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    committee.until_ready(1, &mut second).await;
    assert_eq!(matched(&client).await, Ok(of_both.id()));
    // It looks for another home: nothing has to be agreed on for that.
    let back = committee.node_of(1, &of_one.link.key).await;
    assert_eq!(matched(&client).await.map(|node| [of_both.id(), back.id()].contains(&node)), Ok(true));
    assert_eq!(committee.members[1].metrics().nodes_linked, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_link_of_two_breaks_the_node_goes_on_through_the_other() {
    let committee = Committee::of(2).await;
    let key = MachineKey::generate();
    let (mut first, mut second) = (committee.node_of(0, &key).await, committee.node_of(1, &key).await);
    let client = client(&committee, 1).await;
    // That the other home speaks for it too is known when it speaks for a later one.
    let mut later = committee.node(0).await;
    committee.until_ready(1, &mut later).await;
    committee.until_ready(0, &mut first).await;
    committee.until_ready(1, &mut second).await;
    second.link.connection.close("cable");
    within(async {
        while committee.members[1].metrics().nodes_linked > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(committee.members[1].metrics().nodes_remote, 2);
    assert_eq!(committee.until(1, key.id(), |_| true).await.hold, None, "at no time");
    assert!(matched(&client).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matching_goes_on_where_nothing_can_be_agreed_on() {
    let committee = Committee::of(4).await;
    let (mut own, mut other) = (committee.node(3).await, committee.node(0).await);
    let client = client(&committee, 3).await;
    committee.until_ready(3, &mut other).await;
    committee.until_ready(3, &mut own).await;
    let heard: Vec<NodeId> = [matched(&client).await.unwrap(), matched(&client).await.unwrap()].into();
    assert!(heard.contains(&own.id()) && heard.contains(&other.id()), "any to any");
    for member in &committee.members[..3] {
        within(member.shutdown()).await;
    }
    committee.until(3, other.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    committee.until_ready(3, &mut own).await;
    assert_eq!(matched(&client).await, Ok(own.id()));
    // A member comes back to it without anybody else.
    let again = committee.node_of(3, &other.link.key).await;
    let back = Client::join(&committee.members[3].ticket(), &client.link.key).await.unwrap();
    assert!([own.id(), again.id()].contains(&matched(&back).await.unwrap()));
}

/// An orchestrator that says to one other what the test wants.
struct Liar {
    sender: Sender,
    number: u64,
    _receiver: transport::Receiver,
    _connection: transport::Connection,
    _transport: Transport,
}

impl Liar {
    async fn of(committee: &Committee, key: &MachineKey) -> Self {
        let transport = Transport::bind(key, LOOPBACK, &[]).await.unwrap();
        let to = &committee.members[0];
        let connection = transport.connect(to.id(), &to.addresses(), peer::ALPN).await.unwrap();
        let (mut sender, receiver) = connection.open_stream().await.unwrap();
        sender.frame(&[Lane::Live.number()], 1).await.unwrap();
        Self { sender, number: 0, _receiver: receiver, _connection: connection, _transport: transport }
    }

    async fn say(&mut self, gossip: Gossip) {
        let gossip = Gossip { round: 1, number: self.number, ..gossip };
        self.number += 1;
        let mut frame = vec![LIVE];
        frame.extend(codec::encode(&gossip, GOSSIP_BYTES_MAX).unwrap());
        within(self.sender.frame(&frame, Lane::Live.message_bytes_max())).await.unwrap();
    }

    /// Speaks for a node, with evidence by `signer`, until it is asked for it, and a little longer.
    async fn speak_for(&mut self, node: NodeId, signer: &MachineKey) {
        let worker = worker(signer, node, MODEL, 4, 0);
        let profile = Profile {
            node,
            label: "lie".to_owned(),
            addresses: vec!["127.0.0.1:6666".parse().unwrap()],
            workers: vec![ProfileWorker {
                model: MODEL,
                bytes: 1,
                slots: 4,
                capacity: 4,
                context_tokens: 2048,
                chat: true,
                writes: true,
                evidence: worker.evidence,
            }],
        };
        let (hold, mark) = (None, profile.mark());
        let load = Load { node, profile: mark, responsive: true, hold, active_tasks: 0, workers: vec![0] };
        for _ in 0..20 {
            let gossip = Gossip { loads: vec![load.clone()], profiles: vec![profile.clone()], ..Gossip::default() };
            self.say(gossip).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_that_lies_can_forge_neither_evidence_nor_membership() {
    let key = MachineKey::generate();
    let committee = Committee::beside(3, &[key.id()]).await;
    let mut node = committee.node(1).await;
    let client = client(&committee, 0).await;
    committee.until_ready(0, &mut node).await;
    let mut liar = Liar::of(&committee, &key).await;
    let stranger = MachineKey::generate();
    liar.speak_for(stranger.id(), &stranger).await;
    liar.speak_for(client.id(), &client.link.key).await;
    liar.speak_for(node.id(), &key).await;
    let metrics = committee.members[0].metrics();
    assert!(metrics.gossip_refused >= 40, "{}", metrics.gossip_refused);
    assert_eq!(metrics.nodes_remote, 1, "neither a stranger nor a client becomes a node");
    committee.until_ready(0, &mut node).await;
    for _ in 0..3 {
        let grant = client.matched(request("default")).await.unwrap();
        let candidate = &grant.candidates[0];
        assert_eq!((grant.candidates.len(), candidate.node), (1, node.id()));
        assert_eq!(candidate.addresses, node.state(4, 0).addresses, "where the node says that it listens");
        assert!(trust::open(&candidate.evidence).unwrap().expires_unix_ms > unix_ms());
        assert_eq!(candidate.evidence.signer, node.id());
    }
    // What is no message at all costs nothing but a line in the log.
    within(liar.sender.frame(&[LIVE, 255, 255, 255], 64)).await.unwrap();
    liar.say(Gossip::default()).await;
    within(async {
        while committee.members[0].metrics().gossip_malformed == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    committee.until_ready(0, &mut node).await;
    assert_eq!(matched(&client).await, Ok(node.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_one_tells_nobody_anything() {
    let committee = Committee::of(1).await;
    let node: Node = committee.node(0).await;
    assert_eq!(matched(&client(&committee, 0).await).await, Ok(node.id()));
}
