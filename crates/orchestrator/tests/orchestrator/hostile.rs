//! Whatever comes in at the port: a typed answer or a closed connection, and everybody else is served.

use crate::machines::{Node, Pool, connect, quiet, request, within};
use orchestrator::Timings;
use protocol::{
    grant::MatchRequest,
    hold::Hold,
    ids::NodeId,
    limits,
    link::{Answer, FromNode, Question},
};
use std::{net::UdpSocket, time::Duration};
use transport::Transport;
use trust::MachineKey;

/// Bytes that look random and are the same in every run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

async fn is_served(pool: &Pool) {
    let (node, client) = (pool.node().await, pool.client().await);
    let grant = client.matched(request("default")).await.unwrap();
    assert!(grant.candidates.iter().any(|candidate| candidate.node == node.id()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_on_the_port_is_ignored() {
    let pool = Pool::new().await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for seed in 0..2_000 {
        let _ = socket.send_to(&noise(seed, 1 + seed as usize % 1400), pool.ticket.orchestrators[0].addresses[0]);
    }
    is_served(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_message_that_is_no_hello_ends_the_connection() {
    let pool = Pool::new().await;
    for seed in 0..20 {
        let (_transport, connection) = connect(&pool.ticket, &MachineKey::generate()).await;
        let (mut sender, _receiver) = connection.open_stream().await.unwrap();
        // Every other one longer than any hello.
        let length = if seed % 2 == 0 { 100 } else { 2 * limits::HELLO_BYTES_MAX };
        let _ = sender.message(&noise(seed, length), usize::MAX).await;
        let why = within(connection.closed()).await;
        assert!(why.contains("hello"), "{why}");
    }
    assert_eq!(pool.orchestrator.metrics().hellos_missing, 20);
    is_served(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_say_nothing_are_bounded_and_closed() {
    let pool = Pool::with(Timings { hello_max: Duration::from_secs(3), ..quiet() }).await;
    let silent = Transport::bind(&MachineKey::generate(), crate::machines::LOOPBACK, &[]).await.unwrap();
    let to = pool.ticket.orchestrators[0].clone();
    let mut attempts = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (silent, to) = (silent.clone(), to.clone());
        attempts.spawn(async move {
            if let Ok(connection) = silent.connect(to.id, &to.addresses, protocol::link::ALPN).await {
                connection.closed().await;
            }
        });
    }
    within(async { while attempts.join_next().await.is_some() {} }).await;
    let metrics = pool.orchestrator.metrics();
    assert!(metrics.links_refused > 0, "{metrics:?}");
    assert!(metrics.hellos_missing > 0, "{metrics:?}");
    is_served(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_that_are_none_get_an_answer_that_says_so() {
    let pool = Pool::new().await;
    let client = pool.client().await;
    for seed in 0..20 {
        assert_eq!(client.ask(&noise(seed, 50)).await, Answer::Malformed, "noise {seed}");
    }
    assert_eq!(client.ask(&noise(1, 2 * limits::QUESTION_BYTES_MAX)).await, Answer::Malformed, "too long");
    let exclude = vec![NodeId([1; 32]); limits::EXCLUDED_MAX + 1];
    let question = Question::Match(MatchRequest { exclude, ..request("default") });
    assert_eq!(client.ask(&question).await, Answer::Malformed, "too many excluded");
    let question = Question::Match(request(&"x".repeat(limits::MODEL_NAME_CHARS_MAX + 1)));
    assert_eq!(client.ask(&question).await, Answer::Malformed, "too long a name");
    // A stream that ends without a question.
    let (mut sender, mut receiver) = client.link.connection.open_stream().await.unwrap();
    sender.finish();
    let answer = within(receiver.message(limits::LINK_MESSAGE_BYTES_MAX)).await.unwrap();
    assert_eq!(answer, Some(Answer::Malformed));
    assert_eq!(pool.orchestrator.metrics().questions_malformed, 24);
    is_served(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_without_questions_hold_up_nobody() {
    let pool = Pool::with(Timings { question_max: Duration::from_millis(200), ..quiet() }).await;
    let client = pool.client().await;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(client.link.connection.open_stream().await.unwrap());
    }
    // In QUIC the use of a stream opens all before it (RFC 9000, section 3.2).
    assert_eq!(client.ask(&Question::Models).await, Answer::Models(Vec::new()));
    for (_, mut receiver) in open {
        assert!(within(receiver.message::<Answer>(limits::LINK_MESSAGE_BYTES_MAX)).await.is_err(), "given up");
    }
    assert_eq!(pool.orchestrator.metrics().questions_missing, 200);
    is_served(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_sends_nonsense_loses_its_link() {
    let pool = Pool::new().await;
    for message in [vec![255u8; 40], noise(7, 2 * limits::NODE_MESSAGE_BYTES_MAX)] {
        let mut node = pool.node().await;
        let _ = node.link.sender.message(&message, usize::MAX).await;
        within(node.link.connection.closed()).await;
        pool.until(node.id(), |row| row.hold == Some(Hold::Unresponsive)).await;
    }
    assert_eq!(pool.orchestrator.metrics().node_messages_malformed, 2);
    is_served(&pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_models_stays_within_bounds() {
    let pool = Pool::new().await;
    let mut node = Node::join(&pool.ticket, &MachineKey::generate()).await.unwrap();
    let mut byte = 0u16;
    for _ in 0..8 {
        let mut state = node.state(4, 0);
        state.workers = (0..limits::MODELS_PER_NODE_MAX)
            .map(|_| {
                byte += 1;
                let mut worker = state.workers[0].clone();
                worker.model.digest.0[..2].copy_from_slice(&byte.to_be_bytes());
                worker.model.name = format!("flood-{byte}");
                worker
            })
            .collect();
        state.active_tasks = u32::from(byte);
        node.say(&FromNode::State(state)).await;
        pool.until(node.id(), |row| row.active_tasks == u32::from(byte)).await;
    }
    assert_eq!(pool.orchestrator.models().len(), limits::MODELS_MAX / 8, "one machine's share");
    let row = pool.row(node.id()).unwrap();
    assert!(matches!(row.hold, Some(Hold::Refused { .. })), "{row:?}");
}
