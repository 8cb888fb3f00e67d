//! Nodes are measured, not asked how fast they are.

use crate::{
    machines::{Node, Pool, quiet, request, within},
    serving::{Pace, Serving},
};
use orchestrator::{Measure, Timings};
use protocol::link::{End, FromNode, Outcome, Question};
use std::time::Duration;
use trust::MachineKey;

fn eager() -> Timings {
    let measure = Measure { after_idle: Duration::ZERO, ..Measure::default() };
    Timings { measure: Some(measure), ..quiet() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_is_measured_and_that_survives_a_restart() {
    let pool = Pool::with(eager()).await;
    let key = MachineKey::generate();
    let pace = Pace::Steady { prefill_per_s: 2_000, token: Duration::from_millis(4) };
    let serving = Serving::join(&pool, &key, 4, pace).await;
    let row = pool.until(serving.id(), |row| !row.rates.is_empty()).await;
    let [rates] = row.rates.as_slice() else { panic!("one model") };
    // It sleeps for at least as long as its pace says.
    assert!(rates.prefill_milli > 0 && rates.prefill_milli <= 2_000_000, "{rates:?}");
    let [alone, two, four, eight] = rates.decode_milli;
    assert!(alone > 0 && alone <= 250_000 && two > 0 && four <= 1_000_000, "{rates:?}");
    assert!(four > alone, "side by side it writes more: {rates:?}");
    assert_eq!(eight, 0, "more than it has slots for is not measured");
    assert_eq!(pool.until_counted(|metrics| metrics.measured > 0).await.measured, 1);
    // The last of them may still be saying so.
    within(async {
        while serving.served() < 1 + 1 + 2 + 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let row = pool.until(serving.id(), |row| row.score.hardware_ppm > 0).await;
    assert!(row.score.attestation_ppm > 0);

    let client = pool.client().await;
    let grant = client.matched(request("default")).await.unwrap();
    let expected = grant.candidates[0].expected;
    assert!(expected.token_us >= 4_000 && expected.first_token_ms > 0, "{expected:?}");

    let before = row.rates;
    let pool = pool.restarted().await;
    let mut node = Node::join(&pool.ticket, &key).await.unwrap();
    node.say(&FromNode::State(node.state(4, 0))).await;
    let row = pool.until(node.id(), |row| !row.rates.is_empty()).await;
    assert_eq!(row.rates, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_measurement_gives_way_to_a_task() {
    let pool = Pool::with(eager()).await;
    let pace = Pace::Steady { prefill_per_s: 100_000, token: Duration::from_millis(250) };
    let serving = Serving::join(&pool, &MachineKey::generate(), 4, pace).await;
    let client = pool.client().await;
    within(async {
        while serving.begun() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let grant = client.matched(request("default")).await.unwrap();
    assert_eq!(grant.candidates[0].node, serving.id());
    within(async {
        while serving.cancelled() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    let metrics = pool.until_counted(|metrics| metrics.gave_way > 0).await;
    assert_eq!((metrics.gave_way, metrics.trials_failed, metrics.ejections), (1, 0, 0));
    assert_eq!(pool.row(serving.id()).unwrap().hold, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_fails_before_any_user_meets_it() {
    // It sends no heartbeats either, and that is not the matter here.
    let pool = Pool::with(Timings { silence_max: Duration::from_secs(1_000_000), ..eager() }).await;
    let serving = Serving::join(&pool, &MachineKey::generate(), 4, Pace::Hang).await;
    let row = pool.until(serving.id(), |row| row.hold.is_some() && row.slots > 0).await;
    assert_eq!(row.hold.unwrap().code(), "ejected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_tasks_survive_a_restart_and_make_a_score() {
    let pool = Pool::new().await;
    let node = pool.node().await;
    let client = pool.client().await;
    for _ in 0..10 {
        let request = request("default");
        let task = request.task;
        client.matched(request).await.unwrap();
        let outcome = Outcome {
            task,
            node: node.id(),
            end: End::Completed,
            prompt_tokens: 1,
            completion_tokens: 1,
            generation_ms: 1,
            audit: None,
        };
        client.ask(&Question::Outcome(outcome)).await;
    }
    assert_eq!(pool.orchestrator.metrics().outcomes, 10);
    let pool = pool.restarted().await;
    let back = Node::join(&pool.ticket, &node.link.key).await.unwrap();
    let row = pool.until(back.id(), |row| row.score.results_ppm > 0).await;
    assert!(row.score.total_ppm > 0 && row.score.network_ppm > 0 && row.score.uptime_ppm > 0);
}
