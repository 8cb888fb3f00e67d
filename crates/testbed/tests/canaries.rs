//! Nodes that cheat and nodes that fail, among honest ones, in a pool that people use: both are out of routing before long,
//! the reason stands in the orchestrator's status, and the people see nothing of it.

use serde_json::Value;
use std::{path::Path, time::Duration};
use testbed::{Daemon, Home, eventually, http, program, undisturbed};

/// The pace of every node's engine.
const STEP_MS: u64 = 1;
/// Long enough that an answer can be audited.
const MAX_TOKENS: u32 = 24;
/// Prompts that are asked side by side.
const CROWD: usize = 8;
/// An answer of a node is read within its first hour of work: with three of them it takes about 40 prompts for each.
const PROMPTS_MAX: usize = 600;
/// User tasks that a node may fail before it is out (issue 3).
const USER_TASKS_MAX: usize = 5;

/// Two honest nodes, one with another worker program, and two gateways.
struct Pool {
    orchestrator: Daemon,
    honest: [Daemon; 2],
    other: Daemon,
    gateways: [Daemon; 2],
}

impl Pool {
    async fn with(worker: &str) -> Self {
        let orchestrator = Daemon::orchestrator().await;
        let ticket = orchestrator.text("ticket");
        let honest =
            [Daemon::deterministic_node(&ticket, STEP_MS).await, Daemon::deterministic_node(&ticket, STEP_MS).await];
        let home = Home::new();
        // The very same file, so the very same digest.
        let model = format!("--model={}", home.deterministic_model(STEP_MS).display());
        let worker = format!("--worker={}", program(worker).display());
        let mut other = Daemon::start(home, &["join", &ticket, &model, &worker], &[]);
        other.wait_for("taking work", |status| status["takes_work"] == true).await;
        let gateways = [gateway(&ticket).await, gateway(&ticket).await];
        Self { orchestrator, honest, other, gateways }
    }

    fn model(&self) -> std::path::PathBuf {
        self.honest[0].home.beside("deterministic.gguf")
    }

    fn row(&self, node: &Daemon) -> Value {
        let (status, id) = (self.orchestrator.status(), node.text("node_id"));
        let rows = status["nodes"].as_array().expect("an orchestrator's status has nodes");
        rows.iter().find(|row| row["id"] == id.as_str()).cloned().expect("its row")
    }

    /// Why the orchestrator sends nobody to the third node, if it does not.
    fn code(&self) -> Option<String> {
        let row = self.row(&self.other);
        (row["routable"] == false).then(|| row["reasons"][0]["code"].as_str().expect("a code").to_owned())
    }

    /// Asks so many prompts at once, through both gateways in turn; gives what was asked and answered.
    async fn ask(&self, first: usize, prompts: usize) -> Vec<(String, String)> {
        let mut asked = tokio::task::JoinSet::new();
        for number in first..first + prompts {
            let base_url = self.gateways[number % 2].text("base_url");
            let content = format!("question number {number}");
            asked.spawn(async move {
                let answer = http::chat(&base_url, &content, MAX_TOKENS).await;
                (content, answer)
            });
        }
        asked.join_all().await
    }

    /// Asks until the third node is out; gives the number of prompts that it took.
    async fn ask_until_it_is_out(&self, mut each: impl FnMut(&str, &str)) -> usize {
        let mut asked = 0;
        loop {
            // While its worker is down it is given nothing that it could fail.
            eventually("its worker, or its ejection", Duration::from_secs(120), async || {
                (!matches!(self.code().as_deref(), Some("worker-down" | "starting"))).then_some(())
            })
            .await;
            for (content, answer) in self.ask(asked, CROWD).await {
                each(&content, &answer);
            }
            asked += CROWD;
            if self.code().as_deref() == Some("ejected") {
                return asked;
            }
            assert!(
                asked < PROMPTS_MAX,
                "not found out in {asked} prompts: {:#}\n{}",
                self.row(&self.other),
                self.audits()
            );
        }
    }

    /// What the gateways found in audits.
    fn audits(&self) -> String {
        let said: String = self.gateways.iter().map(Daemon::stderr).collect();
        said.lines().filter(|line| line.contains("audited")).collect::<Vec<_>>().join("\n")
    }

    fn assert_honest_nodes_are_routable(&self) {
        for node in &self.honest {
            let row = self.row(node);
            assert_eq!(row["routable"], true, "{row:#}");
        }
    }
}

/// A gateway that tells of each node that it lost.
async fn gateway(ticket: &str) -> Daemon {
    let arguments = ["serve", "--join", ticket, "--port", "0"];
    let mut gateway = Daemon::start(Home::new(), &arguments, &[("DARKBLOOM_LOG", "debug")]);
    gateway.wait_for("its base URL", |status| status["base_url"].is_string()).await;
    gateway
}

fn is_the_model_s(model: &Path, content: &str, answer: &str) -> bool {
    undisturbed(model, content, MAX_TOKENS).0 == answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_serves_a_smaller_quantisation_is_caught_by_audits() {
    let pool = Pool::with("distorted-worker").await;
    let model = pool.model();
    let mut distorted = 0;
    let asked =
        pool.ask_until_it_is_out(|content, answer| distorted += usize::from(!is_the_model_s(&model, content, answer)));
    let asked = asked.await;
    println!("caught after {asked} prompts, of which it had answered {distorted} otherwise than the model");
    // It may be caught before any user's task has reached it: so much the better.
    pool.assert_honest_nodes_are_routable();
    // From now on every answer is the model's, and its owner is told why nobody comes.
    for (content, answer) in pool.ask(asked, 3 * CROWD).await {
        assert!(is_the_model_s(&model, &content, &answer), "{content}: {answer}");
    }
    pool.assert_honest_nodes_are_routable();
    assert_eq!(pool.code().as_deref(), Some("ejected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_black_hole_gets_five_user_tasks_at_most_and_nobody_sees_it() {
    let pool = Pool::with("failing-worker").await;
    let model = pool.model();
    let asked = pool.ask_until_it_is_out(|content, answer| {
        assert!(is_the_model_s(&model, content, answer), "{content}: {answer}");
    });
    let asked = asked.await;
    for (content, answer) in pool.ask(asked, 6 * CROWD).await {
        assert!(is_the_model_s(&model, &content, &answer), "{content}: {answer}");
    }
    pool.assert_honest_nodes_are_routable();
    let id: protocol::ids::NodeId = pool.other.text("node_id").parse().expect("an id");
    let line = format!("node={}", id.short());
    let lost = || -> Vec<String> {
        let said: String = pool.gateways.iter().map(Daemon::stderr).collect();
        said.lines()
            .filter(|said| said.contains("a node was lost") && said.contains(&line))
            .map(str::to_owned)
            .collect()
    };
    let (lost, _) = eventually("the gateways' logs", Duration::from_secs(10), async || {
        Some(lost()).filter(|lost| !lost.is_empty())
    })
    .await;
    println!("out after {asked} prompts, of which {} had come to it", lost.len());
    assert!(lost.len() <= USER_TASKS_MAX, "user tasks that were lost on it:\n{}", lost.join("\n"));
}
