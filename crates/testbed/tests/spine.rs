//! One private prompt, end to end: `darkbloom up` with the real model.

use std::time::Duration;
use testbed::{Daemon, Home, eventually, http, real_model};

fn up_arguments() -> Vec<String> {
    vec!["up".to_owned(), "--port=0".to_owned(), format!("--model={}", real_model().display())]
}

async fn up(home: Home) -> Daemon {
    let arguments = up_arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(home, &arguments, &[]);
    daemon.wait_for("a ready pool", |status| status["takes_work"] == true && status["base_url"].is_string()).await;
    daemon
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_answered_by_the_real_model() {
    let daemon = up(Home::new()).await;
    let base_url = daemon.text("base_url");
    let mut stream = http::Stream::start(&base_url, "Say hello.", 24).await;
    let mut pieces = 0;
    let mut text = String::new();
    while let Some(piece) = stream.text().await {
        pieces += 1;
        text.push_str(&piece);
    }
    assert!(pieces > 1, "streamed piece by piece: {text:?}");
    assert_eq!(http::chat(&base_url, "Say hello.", 24).await, text, "greedy: the same, streamed or not");

    let run = daemon.home.run(&["run", "Say hello.", "--temperature", "0", "--max-tokens", "24"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert_eq!(String::from_utf8_lossy(&run.stdout).trim_end(), text.trim_end(), "the client alone says the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_keeps_its_identity_and_is_held_by_one() {
    let daemon = up(Home::new()).await;
    let before = daemon.status();

    let second = daemon.home.run(&["up", "--port=0"]);
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(message.contains(&daemon.process_id().to_string()) && message.contains("`darkbloom up`"), "{message}");

    let (home, status) = daemon.stop().await;
    assert!(status.success(), "SIGTERM ends it cleanly: {status:?}");
    let stopped = home.status();
    assert_eq!(stopped["running"], false, "{stopped:#}");

    let daemon = up(home).await;
    let after = daemon.status();
    for name in ["pool", "ticket", "node_id", "orchestrator_id"] {
        assert!(before[name].is_string());
        assert_eq!(before[name], after[name], "{name} after a restart");
    }
    let (home, _) = daemon.stop().await;
    let file = |name: &str| home.path().join(name);
    for secret in ["machine.key", "pool/founding", "ticket"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(file(secret)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn up_answers_a_first_prompt_and_ends() {
    let home = Home::new();
    let mut arguments = up_arguments();
    arguments.extend(["--prompt", "Say hello.", "--exit-after-answer"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = home.run(&arguments);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    let answer = stdout.split("base URL: http://127.0.0.1:").next().expect("an answer");
    assert!(!answer.trim().is_empty(), "{stdout}");
    assert!(stdout.contains("ticket:   dbt1-"), "{stdout}");
}

#[tokio::test(flavor = "multi_thread")]
async fn up_without_an_answer_fails() {
    let home = Home::new();
    let mut arguments = vec!["up", "--port=0"];
    let lend = testbed::daemon::deterministic(&home, 1);
    arguments.extend(lend.iter().map(String::as_str));
    let long = "word ".repeat(3000);
    arguments.extend(["--prompt", &long, "--exit-after-answer"]);
    let output = home.run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no answer to the first prompt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_started_again() {
    let daemon = up(Home::new()).await;
    let worker = daemon.worker_process_id();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).expect("killed");
    let limit = Duration::from_secs(60);
    eventually("another worker", limit, async || {
        let status = daemon.status();
        let process_id = status["worker"]["process_id"].as_i64()?;
        (process_id != i64::from(worker) && status["takes_work"] == true).then_some(())
    })
    .await;
    assert!(!http::chat(&daemon.text("base_url"), "Say hello.", 8).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_reaches_the_engine() {
    let home = Home::new();
    let mut arguments = vec!["up".to_owned(), "--port=0".to_owned()];
    arguments.extend(testbed::daemon::deterministic(&home, 20));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(home, &arguments, &[]);
    daemon.wait_for("a ready pool", |status| status["takes_work"] == true && status["base_url"].is_string()).await;
    let mut stream = http::Stream::start(&daemon.text("base_url"), "a long story", 1000).await;
    assert!(stream.text().await.is_some());
    assert_eq!(daemon.status()["active_tasks"], 1);
    drop(stream);
    // 1,000 tokens at 20 ms would take 20 s.
    eventually("the place given back", Duration::from_secs(5), async || {
        (daemon.status()["active_tasks"] == 0).then_some(())
    })
    .await;
}
