//! Promise P9: the owner of a machine comes first. Real processes; the owner's keyboard is a file.

// It reads `/proc`.
#![cfg(target_os = "linux")]

use serde_json::Value;
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use testbed::{Daemon, Home, daemon::deterministic, eventually, http, real_model, undisturbed};

/// The promise is 1 s for processors and 3 s for memory; a busy machine gets half as much again before a test calls it
/// broken.
const COMPUTE_FREE_MAX: Duration = Duration::from_millis(1_500);
const MEMORY_FREE_MAX: Duration = Duration::from_millis(4_500);
const PATIENCE: Duration = Duration::from_secs(30);

/// Ticks of processor time that a process has used, and the pages of memory that it has; `None` once it is gone. One that
/// waits to be reaped has neither.
fn usage(process_id: i32) -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process_id}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    // Fields 3, 14, 15 and 24 of proc(5); the first two are cut off.
    (fields.first() != Some(&"Z")).then(|| Some((number(11)? + number(12)?, number(21)?)))?
}

/// A node with rules of its owner's, not yet taking work.
fn node(ticket: &str, arguments: impl FnOnce(&Home) -> Vec<String>, lend: impl FnOnce(&Home) -> String) -> Daemon {
    let home = Home::new();
    home.configure(&lend(&home));
    let arguments = [vec!["join".to_owned(), ticket.to_owned()], arguments(&home)].concat();
    Daemon::start(home, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

fn keyboard(home: &Home) -> std::path::PathBuf {
    home.beside("keyboard")
}

/// `presence` by the file, with a time after which nobody is there.
fn present(home: &Home, idle_s: u32) -> String {
    format!("presence = {{ file = {:?} }}\nidle_s = {idle_s}\n", keyboard(home).display().to_string())
}

fn touch(path: &Path) {
    std::fs::write(path, "").expect("a writable folder");
}

async fn taking_work(node: &mut Daemon) {
    node.wait_for("taking work", |status| status["takes_work"] == true).await;
}

fn reason(status: &Value) -> &Value {
    &status["held_back_by"][0]
}

/// Touches the keyboard of a node with a busy worker; prints and checks how soon the machine is free.
async fn touch_and_measure(node: &Daemon) {
    let worker = node.worker_process_id();
    let (_, pages) = usage(worker).expect("a running worker");
    let touched = Instant::now();
    touch(&keyboard(&node.home));
    let (_, free) = eventually("the worker is gone", PATIENCE, async || usage(worker).is_none().then_some(())).await;
    println!("the worker had {} MiB; it was gone {free:?} after the touch ({:?})", pages / 256, touched.elapsed());
    assert!(free <= COMPUTE_FREE_MAX, "processors were free after {free:?}");
    assert!(free <= MEMORY_FREE_MAX, "memory was free after {free:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_frees_the_machine_and_the_answer_goes_on_elsewhere() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let mut touched = node(&ticket, |home| deterministic(home, 10), |home| present(home, 6));
    taking_work(&mut touched).await;
    let gateway = Daemon::gateway(&ticket).await;
    let content = "a story that is interrupted";
    let mut stream = http::Stream::start(&gateway.text("base_url"), content, 300).await;
    let mut text = stream.text().await.expect("it begins");
    let other = Daemon::deterministic_node(&ticket, 10).await;

    touch_and_measure(&touched).await;
    let status = touched.status();
    let reason = reason(&status);
    assert_eq!((&reason["code"], &reason["rule"]), (&"owner".into(), &"presence".into()), "{status:#}");
    assert!(reason["lifts_at"].is_string() && reason["remedy"].is_string(), "{status:#}");
    assert!(reason["message"].as_str().is_some_and(|text| text.contains("last input")), "{status:#}");
    assert_eq!(status["worker"]["ready"], false);
    let shown = String::from_utf8_lossy(&touched.home.run(&["status"]).stdout).into_owned();
    assert!(shown.contains("rule `presence`") && shown.contains("until "), "{shown}");

    // The pool knows the rule, and not what the owner did.
    let id = touched.text("node_id");
    eventually("the orchestrator knows", PATIENCE, async || {
        let status = orchestrator.status();
        let row = status["nodes"].as_array().expect("nodes").iter().find(|row| row["id"] == id.as_str()).cloned();
        let reason = row.expect("a row")["reasons"][0].clone();
        (reason["code"] == "owner").then(|| assert!(!reason.to_string().contains("last input"), "{reason}"))
    })
    .await;

    let rest = stream.whole().await;
    text.push_str(&rest.text);
    let (whole, _) = undisturbed(&other.home.beside("deterministic.gguf"), content, 300);
    assert_eq!(text, whole, "nothing lost, nothing doubled");

    // Nobody has been there for a while: lent again, by a worker of its own.
    taking_work(&mut touched).await;
    assert!(usage(touched.worker_process_id()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_frees_the_memory_of_a_real_model() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let model = |_: &Home| vec![format!("--model={}", real_model().display())];
    let mut touched = node(&ticket, model, |home| present(home, 600));
    taking_work(&mut touched).await;
    let gateway = Daemon::gateway(&ticket).await;
    let mut stream = http::Stream::start(&gateway.text("base_url"), "Tell me a long story.", 400).await;
    assert!(stream.text().await.is_some());
    touch_and_measure(&touched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sits_at_the_machine_is_told_what_it_waits_for() {
    let orchestrator = Daemon::orchestrator().await;
    let lend = |home: &Home| {
        touch(&keyboard(home));
        present(home, 600)
    };
    let mut held = node(&orchestrator.text("ticket"), |home| deterministic(home, 1), lend);
    let status = held.wait_for("its links", |status| status["links"][0]["connected"] == true).await;
    assert_eq!((&status["takes_work"], &reason(&status)["rule"]), (&false.into(), &"presence".into()), "{status:#}");
    assert_eq!(status["worker"]["ready"], false, "no model was loaded for nothing");
    eventually("it says so", PATIENCE, async || held.stderr().contains("not lending yet").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_pauses_resumes_and_drains_by_hand() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let mut node = node(&ticket, |home| deterministic(home, 10), |_| String::new());
    taking_work(&mut node).await;
    let worker = node.worker_process_id();

    let said = node.home.run(&["pause", "--for", "2h"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    eventually("the worker is gone", PATIENCE, async || usage(worker).is_none().then_some(())).await;
    let status = node.status();
    assert_eq!(reason(&status)["code"], "paused", "{status:#}");
    assert!(reason(&status)["lifts_at"].is_string(), "{status:#}");

    // A pause outlives the daemon.
    let (home, _) = node.stop().await;
    let arguments = [vec!["join".to_owned(), ticket.clone()], deterministic(&home, 10)].concat();
    let mut node = Daemon::start(home, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    let status = node.wait_for("its links", |status| status["links"][0]["connected"] == true).await;
    assert_eq!(reason(&status)["code"], "paused", "{status:#}");
    assert!(node.home.run(&["resume"]).status.success());
    taking_work(&mut node).await;

    let worker = node.worker_process_id();
    let gateway = Daemon::gateway(&ticket).await;
    let content = "a story that may end";
    let mut stream = http::Stream::start(&gateway.text("base_url"), content, 200).await;
    let said = node.home.run(&["drain"]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let status = node.status();
    assert_eq!(reason(&status)["code"], "draining", "{status:#}");
    let (whole, _) = undisturbed(&node.home.beside("deterministic.gguf"), content, 200);
    assert_eq!(stream.whole().await.text, whole);
    assert!(usage(worker).is_some(), "the worker stays");
    assert!(node.home.run(&["resume"]).status.success());
    taking_work(&mut node).await;
    assert_eq!(node.worker_process_id(), worker);

    // A pause that ends by itself.
    assert!(node.home.run(&["pause", "--for", "1s"]).status.success());
    taking_work(&mut node).await;
    for (arguments, home) in [(&["pause"][..], &Home::new()), (&["drain"], &orchestrator.home)] {
        let refused = home.run(arguments);
        assert_eq!(refused.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("hint:"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_program_comes_first() {
    let orchestrator = Daemon::orchestrator().await;
    let lend = |_: &Home| "exclusive_programs = [\"Chess\"]\n".to_owned();
    let mut node = node(&orchestrator.text("ticket"), |home| deterministic(home, 1), lend);
    taking_work(&mut node).await;
    let chess = node.home.beside("chess");
    std::fs::copy("/bin/sleep", &chess).expect("a program to copy");
    let mut game = Command::new(&chess).arg("600").spawn().expect("a copy runs");
    let status = node.wait_for("held back", |status| status["takes_work"] == false).await;
    assert_eq!(reason(&status)["rule"], "exclusive_programs", "{status:#}");
    game.kill().expect("a child can be killed");
    game.wait().expect("a child can be waited for");
    taking_work(&mut node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_disk_have_limits() {
    let orchestrator = Daemon::orchestrator().await;
    let ticket = orchestrator.text("ticket");
    let home = Home::new();
    home.configure("memory_bytes_max = 100_000_000\n");
    let model = format!("--model={}", real_model().display());
    let refused = home.run(&["join", &ticket, &model]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{message}");
    assert!(message.contains("more than the 96 MiB that the owner allows"), "{message}");

    // It fits as far as one can tell from outside, and turns out not to.
    let model_bytes = std::fs::metadata(real_model()).expect("a model").len();
    let most = model_bytes + (65 << 20);
    let arguments = |_: &Home| vec![model, "--slots=16".to_owned()];
    let mut node = node(&ticket, arguments, |_| format!("memory_bytes_max = {most}\n"));
    let status = node
        .wait_for("too large", |status| {
            status["held_back_by"][0]["message"].as_str().is_some_and(|text| text.contains("of memory, more than"))
        })
        .await;
    assert_eq!(reason(&status)["code"], "worker-down", "{status:#}");

    let home = Home::new();
    home.configure("disk_bytes_max = 1000\n");
    let refused = home.run(&["models", "pull"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("disk_bytes_max") && message.contains("hint:"), "{message}");
}

#[test]
fn settings_that_cannot_be_meant_stop_the_start() {
    let home = Home::new();
    home.configure("idle_s = 0\n");
    let refused = home.run(&["up", "--port=0"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        message.contains("config.toml") && message.contains("lend.idle_s") && message.contains("hint:"),
        "{message}"
    );
    let doctor: Value = serde_json::from_slice(&home.run(&["doctor", "--json"]).stdout).expect("JSON");
    let checks = doctor["checks"].as_array().expect("checks");
    let lending = checks.iter().find(|check| check["name"] == "lending").expect("a check");
    assert_eq!(lending["verdict"], "failed", "{lending:#}");
}
