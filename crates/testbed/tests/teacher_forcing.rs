//! Failover with the real model. Numbers differ in their last bits between machines and batch compositions, so a resumed
//! answer need not be the undisturbed one to the byte. What must hold is that the model itself stands behind every token:
//! the whole answer is read by the model once more (teacher forcing), and each token must be what was to be drawn there.

use client::{Client, ClientConfig, MachineKey};
use nix::sys::signal::Signal;
use protocol::task::{Frame, Generation, Message, Prompt, Sampling, Task, Usage};
use testbed::{Daemon, Home, real_model};

const MAX_TOKENS: u32 = 48;
/// The node is lost after this many.
const LOST_AFTER: usize = 12;
/// How far below the likeliest token a greedy one may be when it is read again in another batch, in natural log-prob.
const TOLERANCE: f32 = engine::LOG_PROB_TOLERANCE;

fn conversation() -> Vec<Message> {
    let content = "Tell me a long story about a lighthouse, a storm and a cat.".to_owned();
    vec![Message { role: "user".to_owned(), content }]
}

async fn real_node(ticket: &str) -> Daemon {
    let model = format!("--model={}", real_model().display());
    let mut node = Daemon::start(Home::new(), &["join", ticket, &model, "--threads=1", "--slots=2"], &[]);
    node.wait_for("taking work", |status| status["takes_work"] == true).await;
    node
}

/// An answer during which its node is killed.
async fn disturbed(client: &Client, nodes: &mut Vec<Daemon>, sampling: Sampling) -> (Vec<u32>, Usage) {
    let generation = Generation { max_tokens: Some(MAX_TOKENS), sampling, ..Generation::default() };
    let task = Task::Chat { messages: conversation(), generation };
    let mut answer = client.ask("default", task).await.expect("a node takes it");
    let (mut ids, mut text, mut usage) = (Vec::new(), String::new(), None);
    while let Some(frame) = answer.next().await {
        match &frame.expect("a pause, no error") {
            Frame::Tokens { ids: new, text: piece, log_probs } => {
                assert_eq!(new.len(), log_probs.len());
                let before = ids.len();
                ids.extend_from_slice(new);
                text.push_str(piece);
                if before < LOST_AFTER && ids.len() >= LOST_AFTER {
                    let serving = answer.node().to_string();
                    let at = nodes.iter().position(|node| node.text("node_id") == serving).expect("one of ours");
                    nodes[at].signal(Signal::SIGKILL);
                    nodes[at].wait().await;
                    nodes.remove(at);
                }
            }
            Frame::Done { usage: whole, .. } => usage = Some(*whole),
            _ => {}
        }
    }
    println!("{text:?}");
    (ids, usage.expect("it ended"))
}

/// For each token, how far it is below the likeliest in its place.
async fn gaps(client: &Client, ids: &[u32]) -> Vec<f32> {
    let task = Task::Score { prompt: Prompt::Chat(conversation()), ids: ids.to_vec() };
    let mut answer = client.ask("default", task).await.expect("a node takes it");
    let mut gaps = Vec::new();
    while let Some(frame) = answer.next().await {
        if let Frame::Scores { log_probs, best } = &frame.expect("scores") {
            gaps.extend(log_probs.iter().zip(best).map(|(own, best)| best - own));
        }
    }
    assert_eq!(gaps.len(), ids.len());
    gaps
}

async fn scenario(sampling: Sampling, gap_max: f32) {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let mut nodes = vec![real_node(&ticket).await, real_node(&ticket).await];
    let config = ClientConfig::new(MachineKey::generate(), ticket.parse().expect("a ticket"));
    let client = Client::start(config).await.expect("admitted");
    let (ids, usage) = disturbed(&client, &mut nodes, sampling).await;
    assert_eq!(nodes.len(), 1, "one was lost in the middle");
    assert_eq!(usage.completion_tokens as usize, ids.len());
    let gaps = gaps(&client, &ids).await;
    let largest = gaps.iter().copied().fold(0.0, f32::max);
    println!("{} tokens, the largest gap to the likeliest is {largest}", ids.len());
    assert!(largest <= gap_max, "{gaps:?}");
    client.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_token_of_a_resumed_greedy_answer_is_the_models() {
    scenario(Sampling::greedy(), TOLERANCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_sampled_answer_is_a_valid_continuation() {
    // At temperature 1 a token that `min_p` leaves is at most by this factor less likely than the likeliest.
    let min_p = 0.05_f32;
    let sampling = Sampling { temperature: 1.0, min_p, top_p: 1.0, top_k: 0, seed: Some(7), ..Sampling::default() };
    scenario(sampling, -min_p.ln() + TOLERANCE).await;
}
