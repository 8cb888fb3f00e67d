//! Pools with several people: who is let in, who is put out, what the policy keeps from work, who may ask, which pool comes
//! first, and that nothing looks for a way out.

use serde_json::Value;
use std::time::Duration;
use testbed::{Daemon, Home, committee::Committee, daemon::deterministic, eventually, http, program};

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command prints with `--json`.
fn told(home: &Home, arguments: &[&str]) -> Value {
    let output = home.run(&[arguments, &["--json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`darkbloom {}`: {error}", arguments.join(" "));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a command that fails says.
fn refused(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "`darkbloom {}` should fail", arguments.join(" "));
    error
}

fn invite(home: &Home, more: &[&str]) -> String {
    told(home, &[&["pool", "invite"], more].concat())["ticket"].as_str().expect("a ticket").to_owned()
}

/// A node of the deterministic engine that has just been started.
fn joining(ticket: &str) -> Daemon {
    let home = Home::new();
    let lend = deterministic(&home, 1);
    let mut arguments = vec!["join", ticket];
    arguments.extend(lend.iter().map(String::as_str));
    Daemon::start(home, &arguments, &[])
}

async fn taking_work(mut node: Daemon) -> Daemon {
    node.wait_for("taking work", |status| status["takes_work"] == true).await;
    node
}

/// Waits until an orchestrator says that of a node: no reason, or this one.
async fn stands(orchestrator: &Daemon, node: &str, reason: Option<&str>) {
    let what = format!("{node} stands as {reason:?}");
    eventually(&what, PATIENCE, async || {
        let status = orchestrator.status();
        let row = status["nodes"].as_array()?.iter().find(|row| row["id"] == node)?.clone();
        let found = row["reasons"][0]["code"].as_str().map(str::to_owned);
        (found.as_deref() == reason).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_machines_with_one_invite_exactly_one_joins() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = invite(&orchestrator.home, &[]);
    let mut machines = [joining(&ticket), joining(&ticket)];
    let out = async || (0..2).find(|machine| !machines[*machine].is_running());
    let (loser, _) = eventually("one is turned away", PATIENCE, out).await;
    let [first, second] = machines;
    let (winner, loser) = if loser == 0 { (second, first) } else { (first, second) };
    assert!(loser.stderr().contains("does not admit"), "{}", loser.stderr());
    let winner = taking_work(winner).await;
    // The one use was for the home, not for its node alone: it asks as well.
    let answer = told(&winner.home, &["run", "hello", "--max-tokens", "4"]);
    assert_eq!(answer["node"], winner.text("node_id").as_str());
    let members = told(&orchestrator.home, &["pool", "members"]);
    let lenders = members["members"].as_array().expect("members").iter().filter(|member| member["lends"] == true);
    assert_eq!(lenders.count(), 1, "{members:#}");
    let invites = told(&orchestrator.home, &["pool", "invites"]);
    assert_eq!(invites.as_array().map(Vec::len), Some(1), "only the shared ticket's is left: {invites:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_shared_ticket_only_invites_admit() {
    let orchestrator = Daemon::orchestrator().await;
    let (shared, own) = (orchestrator.text("ticket"), invite(&orchestrator.home, &["--for", "1h"]));
    told(&orchestrator.home, &["pool", "close-ticket"]);
    assert_eq!(told(&orchestrator.home, &["pool", "show"])["shared_ticket"], false, "its owner is let in all the same");
    let mut outsider = joining(&shared);
    assert!(!outsider.wait().await.success());
    let invited = taking_work(joining(&own)).await;
    assert_eq!(told(&invited.home, &["pool", "show"])["own_standing"], "member");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_needs_an_approval_waits_for_it() {
    let orchestrator = Daemon::orchestrator().await;
    told(&orchestrator.home, &["pool", "policy", "--approval"]);
    let ticket = invite(&orchestrator.home, &[]);
    let mut first = joining(&ticket);
    assert!(!first.wait().await.success());
    assert!(first.stderr().contains("pool approve"), "{}", first.stderr());
    let members = told(&orchestrator.home, &["pool", "members"]);
    let waiting: Vec<&Value> = members["members"].as_array().expect("members").iter().collect();
    assert!(waiting.iter().all(|member| member["state"] == "awaits-approval"), "{members:#}");
    let lender = waiting.iter().find(|member| member["lends"] == true).expect("the node");
    // The beginning of an id is enough, and one key of the home stands for all.
    let id = &lender["id"].as_str().expect("an id")[..12];
    told(&orchestrator.home, &["pool", "approve", id]);
    let home = std::mem::take(&mut first.home);
    let lend = deterministic(&home, 1);
    let mut arguments = vec!["join", &ticket];
    arguments.extend(lend.iter().map(String::as_str));
    let node = taking_work(Daemon::start(home, &arguments, &[])).await;
    assert_eq!(told(&node.home, &["run", "hello", "--max-tokens", "4"])["node"], node.text("node_id").as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_machine_gets_no_work_from_then_on() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let [removed, left] = [taking_work(joining(&ticket)).await, taking_work(joining(&ticket)).await];
    let (removed_id, left_id) = (removed.text("node_id"), left.text("node_id"));
    let asker = Home::new();
    let ask = |number: usize| {
        let question = format!("question {number}");
        told(&asker, &["run", &question, "--max-tokens", "4", "--join", &ticket])
    };
    assert!(ask(0)["node"].is_string());
    told(&orchestrator.home, &["pool", "remove", &removed_id]);
    for number in 1..8 {
        assert_eq!(ask(number)["node"], left_id.as_str(), "question {number}");
    }
    let rows = orchestrator.status()["nodes"].as_array().expect("rows").clone();
    assert!(rows.iter().all(|row| row["id"] != removed_id.as_str()), "{rows:#?}");
    eventually("it is told", PATIENCE, async || {
        removed.status()["links"].as_array()?.iter().all(|link| link["connected"] == false).then_some(())
    })
    .await;
    let members = told(&orchestrator.home, &["pool", "members"]);
    let gone =
        members["members"].as_array().expect("members").iter().find(|member| member["id"] == removed_id.as_str());
    assert_eq!(gone.expect("it is remembered")["state"], "removed");
    // Nobody is removed by somebody who has no say.
    let error = refused(&left.home, &["pool", "remove", &left_id]);
    assert!(error.contains("hint: ") && error.contains("administrator"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_keeps_from_work_is_named() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let node = taking_work(joining(&ticket)).await;
    let gateway = Daemon::gateway(&ticket).await;
    let (id, base_url) = (node.text("node_id"), gateway.text("base_url"));
    let home = &orchestrator.home;
    let refusal = async || {
        let url = format!("{base_url}/chat/completions");
        let (status, body) = http::post(&url, &http::chat_body("hello", 4)).await;
        assert_eq!(status, 503, "{body}");
        body["error"]["message"].as_str().expect("a message").to_owned()
    };
    assert!(!http::chat(&base_url, "before", 4).await.is_empty());

    told(home, &["pool", "policy", "--regions", "north"]);
    stands(&orchestrator, &id, Some("outside-regions")).await;
    assert!(refusal().await.contains("region"));
    told(home, &["pool", "label", &id, "--region", "south", "--label", "fast"]);
    eventually("it says where the node is", PATIENCE, async || refusal().await.contains("south").then_some(())).await;
    told(home, &["pool", "label", &id, "--region", "north"]);
    stands(&orchestrator, &id, None).await;
    assert!(!http::chat(&base_url, "in the north", 4).await.is_empty());

    told(home, &["pool", "policy", "--measured-only"]);
    stands(&orchestrator, &id, Some("program-not-allowed")).await;
    assert!(refusal().await.contains("program"));
    let worker = program("deterministic-worker").display().to_string();
    told(home, &["pool", "measurement", "allow", &worker]);
    stands(&orchestrator, &id, None).await;
    assert!(!http::chat(&base_url, "with a program that is allowed", 4).await.is_empty());

    told(home, &["pool", "policy", "--models", &"ab".repeat(32)]);
    stands(&orchestrator, &id, Some("model-not-allowed")).await;
    assert!(refusal().await.contains("model"));
    let policy = told(home, &["pool", "policy", "--models", "all"]);
    assert_eq!(policy["measured_only"], true, "only what was given has changed: {policy:#}");
    stands(&orchestrator, &id, None).await;
    assert!(!http::chat(&base_url, "after", 4).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_reads_and_neither_asks_nor_lends() {
    let orchestrator = Daemon::orchestrator().await;
    let _node = taking_work(joining(&orchestrator.text("ticket"))).await;
    let ticket = invite(&orchestrator.home, &["--role", "auditor"]);
    let auditor = Home::new();
    let shown = told(&auditor, &["pool", "show", "--join", &ticket]);
    assert_eq!(shown["own_standing"], "auditor");
    let members = told(&auditor, &["pool", "members"]);
    assert!(members["members"].as_array().is_some_and(|members| !members.is_empty()));
    let error = refused(&auditor, &["run", "hello"]);
    assert!(error.contains("only reads"), "{error}");
    let error = refused(&auditor, &["pool", "policy", "--approval"]);
    assert!(error.contains("does not let"), "{error}");
    let lend = deterministic(&auditor, 1);
    let mut arguments = vec!["join"];
    arguments.extend(lend.iter().map(String::as_str));
    assert!(refused(&auditor, &arguments).contains("does not admit"));

    told(&orchestrator.home, &["pool", "revoke-standing", shown["own_account"].as_str().expect("an account")]);
    let show = told(&orchestrator.home, &["pool", "members"]);
    let accounts = show["accounts"].as_array().expect("accounts");
    assert!(accounts.iter().all(|account| account["account"] != shown["own_account"]), "{show:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_are_asked_in_order_and_none_that_is_too_wide() {
    let (first, second) = (Daemon::orchestrator().await, Daemon::orchestrator().await);
    let tickets = [first.text("ticket"), second.text("ticket")];
    let far = taking_work(joining(&tickets[1])).await;
    let asker = Home::new();
    let arguments = ["run", "hello", "--max-tokens", "4", "--join", &tickets[0], "--join", &tickets[1]];
    assert_eq!(told(&asker, &arguments)["node"], far.text("node_id").as_str(), "nobody in the first pool");
    let near = taking_work(joining(&tickets[0])).await;
    assert_eq!(told(&asker, &arguments)["node"], near.text("node_id").as_str(), "the first pool comes first");
    told(&first.home, &["pool", "remove", &near.text("node_id")]);
    assert_eq!(told(&asker, &arguments)["node"], far.text("node_id").as_str());
    told(&second.home, &["pool", "policy", "--locality", "network"]);
    let error = refused(&asker, &arguments);
    assert!(error.contains("further than this client's own policy allows"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orchestrator_comes_only_if_it_answers_and_goes_with_the_next_epoch() {
    let committee = Committee::of(4).await;
    let owner = committee.owner();
    let asleep = Home::new();
    let seat = String::from_utf8(asleep.run(&["pool", "seat"]).stdout).expect("text").trim().to_owned();
    let error = refused(owner, &["pool", "committee", "add", &seat]);
    assert!(error.contains("does not answer") && error.contains("hint: "), "{error}");
    let shown = told(owner, &["pool", "show"]);
    assert!(shown["next_orchestrators"].is_null(), "nothing was planned: {shown:#}");
    let ids: Vec<&str> = shown["orchestrators"].as_array().expect("ids").iter().filter_map(Value::as_str).collect();
    assert_eq!(ids.len(), 4);
    let change = told(owner, &["pool", "committee", "remove", &ids[3][..12]]);
    assert!(change["from_height"].as_u64() > shown["height"].as_u64(), "{change:#}");
    let planned = told(owner, &["pool", "show"]);
    assert_eq!(planned["next_orchestrators"].as_array().map(Vec::len), Some(3), "{planned:#}");
    assert_eq!(planned["orchestrators"].as_array().map(Vec::len), Some(4), "not before the epoch ends");
    let error = refused(owner, &["pool", "committee", "remove", &ids[2][..12]]);
    assert!(error.contains("let that take over"), "{error}");
    // Who only has the ticket has no say.
    let error = refused(&asleep, &["pool", "committee", "remove", &ids[2][..12], "--join", &committee.ticket]);
    assert!(error.contains("does not let"), "{error}");
}

/// A hospital's pool: no route leads out, and where one does, nothing takes it.
#[cfg(target_os = "linux")]
mod without_a_way_out {
    use super::*;
    use std::net::UdpSocket;
    use testbed::network::Network;

    async fn scenario(network: &Network) {
        let mut orchestrator = Daemon::start(Home::new(), &["orchestrate", "--network"], &[]);
        orchestrator.wait_for("its ticket", |status| status["ticket"].is_string()).await;
        let ticket = invite(&orchestrator.home, &["--uses", "2"]);
        told(&orchestrator.home, &["pool", "close-ticket"]);
        told(&orchestrator.home, &["pool", "policy", "--retention", "none"]);
        let home = Home::new();
        let lend = deterministic(&home, 1);
        let mut arguments = vec!["join", &ticket, "--network"];
        arguments.extend(lend.iter().map(String::as_str));
        let command = home.command_at(network.place(0), &arguments);
        let node = taking_work(Daemon::spawn(home, command)).await;
        let gateway = Daemon::gateway(&ticket).await;
        for number in 0..3 {
            assert!(!http::chat(&gateway.text("base_url"), &format!("question {number}"), 8).await.is_empty());
        }
        drop((gateway, node));
    }

    fn within(network: &Network) {
        // Namespaces belong to threads: the runtime's threads are started in this one's.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads");
        runtime.block_on(scenario(network));
    }

    #[test]
    fn a_hospitals_pool_works_without_a_route() {
        let network = Network::enter(1).expect("namespaces: run the tests as root");
        let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"out", "198.51.100.1:9"));
        assert!(outside.is_err(), "there is no way out");
        within(&network);
    }

    #[test]
    fn nothing_of_a_hospitals_pool_tries_to_leave() {
        let network = Network::enter(1).expect("namespaces: run the tests as root");
        network.lead_nowhere();
        network.place(0).lead_nowhere();
        within(&network);
        assert_eq!((network.left(), network.place(0).left()), (0, 0), "packets that tried to leave");
        // The count can fail: this is one.
        let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"out", "198.51.100.1:9"));
        assert!(outside.is_ok() && network.left() == 1, "a try is counted");
    }
}
