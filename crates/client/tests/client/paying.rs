//! Nodes that ask a price: what a client orders, acknowledges, and signs at the end.

use crate::{
    MODEL, Pool, read,
    script::{Cause, PROMPT_TOKENS, Script},
    within,
};
use client::{AskError, Client, ClientConfig, verify::OwnPolicy};
use protocol::market::{Price, amount_micro};
use registry::Fact;
use trust::MachineKey;

const PRICE: Price = Price { prompt_micro: 1_000, output_micro: 2_000 };

impl Pool {
    /// Every node of it asks this.
    async fn asking(nodes: usize, price: Price) -> Self {
        let pool = Self::of(nodes).await;
        for node in &pool.nodes {
            let fact = Fact::AskSet { node: node.id(), model: MODEL, price: Some(price) };
            pool.orchestrator.agreed.lock().unwrap().says(node.key(), vec![fact]);
        }
        pool
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_ordered_from_and_gets_a_receipt_for_exactly_its_tokens() {
    let pool = Pool::asking(1, PRICE).await;
    let script = Script::undisturbed(300);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await, Ok(script.seen()));
    let paid = within(pool.nodes[0].paid()).await;
    assert_eq!(paid.len(), 1);
    let (order, receipt) = &paid[0];
    let line = &receipt.lines[0];
    assert_eq!((line.prompt_tokens, line.output_tokens, line.price), (PROMPT_TOKENS, 300, PRICE));
    assert_eq!((order.node, order.ceiling), (pool.nodes[0].id(), PRICE));
    let request = pool.orchestrator.lock().requests[0].clone();
    let held = amount_micro(PRICE, request.prompt_bucket_bytes, request.answer_bucket_tokens);
    assert_eq!(order.amount_micro, held, "what the task can cost");
    assert!(PRICE.of(line.prompt_tokens, line.output_tokens) <= held);
    let acks = pool.nodes[0].acks();
    assert_eq!(acks, [(PROMPT_TOKENS, 0), (PROMPT_TOKENS, 128), (PROMPT_TOKENS, 256), (PROMPT_TOKENS, 300)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_each_node_gets_a_receipt_for_its_own_tokens() {
    let pool = Pool::asking(2, PRICE).await;
    let script = Script::failing(Cause::HandedBack, 101, 150);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await, Ok(script.seen()));
    let mut tokens = Vec::new();
    for node in &pool.nodes {
        let paid = within(node.paid()).await;
        tokens.extend(paid.iter().map(|(_, receipt)| (receipt.lines[0].prompt_tokens, receipt.lines[0].output_tokens)));
    }
    tokens.sort_unstable();
    // The second reads the prompt and what there is of the answer.
    assert_eq!(tokens, [(PROMPT_TOKENS, 100), (PROMPT_TOKENS + 100, 50)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_pays_for_what_came() {
    let pool = Pool::asking(1, PRICE).await;
    let script = Script { cause: Some(Cause::Stall), at: 11, times: 1, tokens: 20, number: 0 };
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    for _ in 0..11 {
        within(answer.next()).await.unwrap().unwrap();
    }
    drop(answer);
    let paid = within(pool.nodes[0].paid()).await;
    let line = &paid[0].1.lines[0];
    assert_eq!((line.prompt_tokens, line.output_tokens), (PROMPT_TOKENS, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_where_nothing_is_asked() {
    let pool = Pool::of(1).await;
    let script = Script::undisturbed(300);
    let mut answer = pool.client.ask("default", script.chat()).await.unwrap();
    assert_eq!(within(read(&mut answer)).await, Ok(script.seen()));
    assert_eq!((pool.nodes[0].acks(), pool.nodes[0].orders()), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_passes_over_who_asks_more_and_orchestrators_are_told() {
    let pool = Pool::asking(1, PRICE).await;
    let max = Price { output_micro: 1_999, ..PRICE };
    let own_policy = OwnPolicy { price_max: Some(max), ..OwnPolicy::default() };
    let config = ClientConfig { own_policy, ..ClientConfig::new(MachineKey::generate(), pool.orchestrator.ticket()) };
    let client = Client::start(config).await.unwrap();
    let error = within(client.ask("default", Script::undisturbed(3).chat())).await.err().unwrap();
    assert!(matches!(&error, AskError::NoNode { reasons, .. } if reasons[0].contains("asks more")), "{error}");
    assert_eq!(pool.orchestrator.lock().requests.last().unwrap().price_max, Some(max));
    assert_eq!(pool.nodes[0].streams(), 0, "nothing was sent");
}
