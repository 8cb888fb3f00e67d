//! Money in real processes: nodes ask, clients pay, and every credit is somewhere.

use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;
use testbed::{
    Daemon, Home, eventually, http,
    money::{balance, issued, json, printed, settled},
};

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Micro-credits for each 1,000 tokens: of a prompt, and of an answer.
const PROMPT_MICRO: u64 = 2_000_000;
const OUTPUT_MICRO: u64 = 5_000_000;
const STARTER_MICRO: u64 = 100_000_000;

fn cost(prompt_tokens: u64, output_tokens: u64) -> u64 {
    (prompt_tokens * PROMPT_MICRO + output_tokens * OUTPUT_MICRO + 500) / 1_000
}

/// A pool that gives credits to who begins.
async fn giving_pool() -> Daemon {
    let orchestrator = Daemon::orchestrator().await;
    printed(&orchestrator.home, &["pool", "policy", "--starter", "100", "--issue", "100000"]);
    orchestrator
}

/// A node that asks the usual price, which its pool knows.
async fn asking_node(ticket: &str, step_ms: u64) -> Daemon {
    let node = Daemon::deterministic_node(ticket, step_ms).await;
    printed(&node.home, &["credits", "price", "set", "--prompt", "2", "--output", "5"]);
    // What can be shown is a moment behind what is agreed on.
    eventually("the price is shown", PATIENCE, async || {
        let shown = printed(&node.home, &["credits", "price", "show"]);
        shown.contains("5.000000 for 1,000 of the answer").then_some(())
    })
    .await;
    node
}

/// Waits until a home has what it was given to begin with: its daemon, and whoever asks for its balance.
async fn begun(daemon: &Daemon) {
    begun_with(&daemon.home, 2).await;
}

async fn begun_with(home: &Home, starters: u64) {
    let has_begun = async || (balance(home).0 == starters * STARTER_MICRO).then_some(());
    eventually("it begins with credits", PATIENCE, has_begun).await;
}

/// Asks, and returns the usage.
async fn asked(gateway: &Daemon, question: &str, max_tokens: u32) -> (u64, u64) {
    let url = format!("{}/chat/completions", gateway.text("base_url"));
    let (status, body) = http::post(&url, &http::chat_body(question, max_tokens)).await;
    assert_eq!(status, 200, "{body}");
    let usage = &body["usage"];
    (usage["prompt_tokens"].as_u64().expect("tokens"), usage["completion_tokens"].as_u64().expect("tokens"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_paid_exactly_for_its_tokens_and_no_credit_is_lost() {
    let orchestrator = giving_pool().await;
    let ticket = orchestrator.text("ticket");
    let node = asking_node(&ticket, 1).await;
    let gateway = Daemon::gateway(&ticket).await;
    for daemon in [&gateway, &node] {
        begun(daemon).await;
    }
    // The pool's owner set what beginners get when its account was there already; whoever asks for its home came later.
    begun_with(&orchestrator.home, 1).await;
    let before = 2 * STARTER_MICRO;
    let (mut spent, mut tasks) = (0, 0);
    for number in 0..5 {
        let (prompt, output) = asked(&gateway, &format!("question number {number}"), 20 + number).await;
        spent += cost(prompt, output);
        tasks += 1;
    }
    eventually("the node is paid", PATIENCE, async || (balance(&node.home).0 == before + spent).then_some(())).await;
    assert_eq!(settled(&gateway.home).await, 2 * STARTER_MICRO - spent);
    // Every credit that there is was issued, and is with somebody.
    let homes = [&orchestrator.home, &node.home, &gateway.home];
    let sum: u64 = homes.into_iter().map(balance).map(|(available, held)| available + held).sum();
    assert_eq!(sum, issued(&orchestrator.home));

    let statement = json(&gateway.home, &["credits", "statement", "--json"]);
    assert_eq!((statement[0]["tasks"].as_u64(), statement[0]["amount_micro"].as_u64()), (Some(tasks), Some(spent)));
    let history = printed(&node.home, &["credits", "history", "--csv"]);
    assert_eq!(history.lines().filter(|line| line.contains(",paid,")).count(), 5, "{history}");
    // A stranger's movements are nobody's business.
    let refused = gateway.home.run(&["credits", "history", "--all"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("auditors"));
    let all = json(&orchestrator.home, &["credits", "statement", "--all", "--json"]);
    assert_eq!(all.as_array().map(Vec::len), Some(2), "one earned and one spent: {all:#}");

    // What the owner exports, anybody verifies; and no question is in it.
    let file = orchestrator.home.beside("export").display().to_string();
    printed(&orchestrator.home, &["pool", "audit-export", "--out", &file]);
    let pool = orchestrator.text("pool");
    let verified = printed(&Home::new(), &["pool", "verify-export", &file, "--pool", &pool]);
    assert!(verified.contains("5 receipts, 5 tasks"), "{verified}");
    let text = std::fs::read_to_string(&file).expect("it was written");
    assert!(!text.contains("question"));
    let changed = text.replacen("\"output_tokens\":2", "\"output_tokens\":3", 1);
    std::fs::write(&file, changed).expect("a writable folder");
    assert!(!Home::new().run(&["pool", "verify-export", &file, "--pool", &pool]).status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_each_node_is_paid_for_its_own_tokens() {
    let orchestrator = giving_pool().await;
    let ticket = orchestrator.text("ticket");
    let nodes = [asking_node(&ticket, 20).await, asking_node(&ticket, 20).await];
    let gateway = Daemon::gateway(&ticket).await;
    begun(&gateway).await;
    for node in &nodes {
        begun(node).await;
    }
    let mut stream = http::Stream::start(&gateway.text("base_url"), "a long story", 200).await;
    for _ in 0..20 {
        assert!(stream.text().await.is_some());
    }
    let serving = nodes.iter().position(|node| node.status()["active_tasks"] != 0).expect("one of them serves");
    printed(&nodes[serving].home, &["pause"]);
    while stream.text().await.is_some() {}
    let paid_both = async || {
        let earned = [0, 1].map(|at: usize| balance(&nodes[at].home).0 - 2 * STARTER_MICRO);
        earned.iter().all(|earned| *earned > 0).then(|| earned.iter().sum::<u64>())
    };
    let (earned, _) = eventually("both are paid", PATIENCE, paid_both).await;
    let spent = 2 * STARTER_MICRO - settled(&gateway.home).await;
    assert_eq!(earned, spent);
    let history = json(&gateway.home, &["credits", "history", "--json"]);
    let paid: Vec<&Value> = history.as_array().expect("a list").iter().filter(|row| row["kind"] == "paid").collect();
    let outputs: u64 = paid.iter().map(|row| row["output_tokens"].as_u64().expect("tokens")).sum();
    assert_eq!((paid.len(), outputs), (2, 200), "each token is paid once: {paid:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_claimed_by_its_last_acknowledgement() {
    let orchestrator = giving_pool().await;
    let ticket = orchestrator.text("ticket");
    let node = asking_node(&ticket, 5).await;
    let gateway = Daemon::gateway(&ticket).await;
    begun(&gateway).await;
    let mut stream = http::Stream::start(&gateway.text("base_url"), "a long story", 1000).await;
    let mut pieces = 0;
    while pieces < 300 {
        assert!(stream.text().await.is_some());
        pieces += 1;
    }
    gateway.signal(Signal::SIGKILL);
    // Its node dies too, and claims when it is back.
    node.signal(Signal::SIGKILL);
    let mut node = node;
    node.wait().await;
    let home = std::mem::take(&mut node.home);
    let owed = home.path().join("owed");
    let is_bill = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "bill");
    let bills = || std::fs::read_dir(&owed).expect("a folder").flatten().filter(is_bill).count();
    assert_eq!(bills(), 1, "what is owed has survived");
    let lend = testbed::daemon::deterministic(&home, 5);
    let mut arguments = vec!["join", ticket.as_str()];
    arguments.extend(lend.iter().map(String::as_str));
    let _node = Daemon::start(home, &arguments, &[]);
    // Agreed on, and then it is forgotten here. It is paid when the other side has had its ten minutes.
    eventually("the claim is agreed on", PATIENCE, async || (bills() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_one_account_cost_each_other_nothing() {
    let orchestrator = giving_pool().await;
    let ticket = orchestrator.text("ticket");
    let node = asking_node(&ticket, 1).await;
    begun(&node).await;
    // A first question makes this home's asker a member; it is paid for.
    printed(&node.home, &["run", "hello there", "--max-tokens", "3"]);
    let refused = node.home.run(&["credits", "link"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    let admit = message.split("`darkbloom ").nth(1).and_then(|rest| rest.split('`').next()).expect("a remedy");
    printed(&orchestrator.home, &admit.split(' ').collect::<Vec<_>>());
    printed(&node.home, &["credits", "link"]);
    settled(&node.home).await;
    let before = balance(&node.home);
    printed(&node.home, &["run", "hello again", "--max-tokens", "3"]);
    assert_eq!(balance(&node.home), before, "nothing is held, nothing is paid");
    let text = printed(&node.home, &["run", "hello again", "--max-tokens", "3", "--price-max", "0"]);
    assert!(!text.is_empty(), "a ceiling of nothing is no obstacle on one's own machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_or_may_not_be_paid_is_refused_by_name() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let node = asking_node(&ticket, 1).await;
    let home = Home::new();
    let refused = |more: &[&str]| {
        let mut arguments = vec!["run", "hello", "--join", ticket.as_str(), "--max-tokens", "3"];
        arguments.extend(more);
        let output = home.run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    eventually("the pool knows the price", PATIENCE, async || {
        refused(&[]).contains("insufficient credits").then_some(())
    })
    .await;
    assert!(refused(&[]).contains("hint: `darkbloom credits balance`"));
    assert!(refused(&["--price-max", "2,4.999999"]).contains("raise the ceiling"));

    printed(&orchestrator.home, &["pool", "policy", "--starter", "100", "--issue", "1000"]);
    let ask = || home.run(&["run", "hello", "--join", ticket.as_str(), "--max-tokens", "3", "--price-max", "2,5"]);
    eventually("it begins with credits", PATIENCE, async || ask().status.success().then_some(())).await;
    // Either side blocks the other: until it is taken back nothing is matched.
    let served = async || {
        let history = json(&node.home, &["credits", "history", "--json"]);
        let rows = history.as_array().expect("a list").clone();
        rows.iter().find_map(|row| row["client"].as_str().map(str::to_owned))
    };
    let (client, _) = eventually("the node is paid", PATIENCE, served).await;
    let account = client_account(&client);
    printed(&node.home, &["credits", "block", &account]);
    eventually("the block holds", PATIENCE, async || {
        let output = ask();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success() && message.contains("blocks the other")).then_some(())
    })
    .await;
    printed(&node.home, &["credits", "unblock", &account]);
    eventually("the block is over", PATIENCE, async || ask().status.success().then_some(())).await;
}

/// The account of a machine that is not linked has its name.
fn client_account(machine: &str) -> String {
    let machine: protocol::ids::NodeId = machine.parse().expect("an id");
    protocol::ids::AccountId::from(machine).to_string()
}
