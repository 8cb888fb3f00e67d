//! Fetches in a process of their own, that is killed or whose disk is full. The child is this test binary, told by its
//! environment what to do.

use crate::{
    hub_server::{Fault, Hub, Repo},
    *,
};
use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};
use swarm::{
    fetch::{FetchError, fetch},
    progress::Phase,
};

const BYTES: usize = 8_000_000;
const STORE: &str = "SWARM_TEST_STORE";
const ENDPOINT: &str = "SWARM_TEST_ENDPOINT";

/// Not a test by itself: what the child does. It says how far it is, and how it ended.
#[tokio::test]
async fn child_fetches() {
    let (Some(root), Ok(endpoint)) = (env::var_os(STORE), env::var(ENDPOINT)) else { return };
    let (reporter, mut watch) = progress::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            while watch.changed().await.is_ok() {
                let now = watch.borrow_and_update().clone();
                println!("progress {} {}", now.phase.name(), now.bytes_done);
            }
        });
    });
    let data = weights(BYTES);
    let mut settings = settings(&Hub::start());
    settings.hub.endpoint = endpoint;
    let outcome = match Store::open(root) {
        Ok(store) => fetch(&pinned(&data, vec![hub_origin("owner/name")]), &store, &settings, &reporter).await,
        Err(error) => Err(FetchError::from(error)),
    };
    match outcome {
        Ok(model) => println!("outcome {}", model.digest),
        Err(error) => println!("outcome {error} ({})", error.remedy()),
    }
}

fn child_command(store: &Path, hub: &Hub) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "child::child_fetches", "--nocapture"]).env(STORE, store).env(ENDPOINT, hub.url());
    command.stdout(Stdio::piped());
    command
}

/// Reads what the child says until it says what is waited for.
fn wait_for(child: &mut Child, mut found: impl FnMut(&str) -> bool) -> String {
    let output = child.stdout.take().unwrap();
    for line in BufReader::new(output).lines() {
        let line = line.unwrap();
        if found(&line) {
            return line;
        }
    }
    panic!("the child ended without saying it");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_at_most_one_percent_is_fetched_again() {
    let data = weights(BYTES);
    let (_directory, store) = store();
    let received = 5_000_000;
    let hub = Hub::with(Repo::new(&data).faults([Fault::Hang(received)]));
    let mut child = child_command(store.root(), &hub).spawn().unwrap();
    let mut child = tokio::task::spawn_blocking(move || {
        wait_for(&mut child, |line| line == format!("progress downloading {received}"));
        child
    })
    .await
    .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!store.contains(blake3_of(&data)));

    let (reporter, mut watch) = progress::channel();
    let first = tokio::spawn(async move {
        let now = watch.wait_for(|progress| progress.phase == Phase::Downloading).await.unwrap().clone();
        now.bytes_done
    });
    let entry = pinned(&data, vec![hub_origin("owner/name")]);
    let model = fetch(&entry, &store, &settings(&hub), &reporter).await.unwrap();
    assert_eq!(std::fs::read(&model.path).unwrap(), data);
    let resumed = hub.transfers().last().unwrap().sent;
    assert!(resumed <= BYTES - received + BYTES / 100, "{resumed} bytes fetched, {} were missing", BYTES - received);
    assert!(first.await.unwrap() >= (received - BYTES / 100) as u64, "progress starts at the true position");
}

/// A file system of 2 MiB, in a mount namespace of the child's own.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_clearly_and_nothing_is_served() {
    let may = Command::new("unshare").args(["-rm", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this kernel allows no namespaces to this user");
        return;
    }
    let data = weights(BYTES);
    let hub = Hub::with(Repo::new(&data));
    let (_directory, store) = store();
    let plain = child_command(store.root(), &hub);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", "mount -t tmpfs -o size=2m none \"$SWARM_TEST_STORE\" && exec \"$@\"", "sh"]);
    command.arg(plain.get_program()).args(plain.get_args()).stdout(Stdio::piped());
    command.env(STORE, store.root()).env(ENDPOINT, hub.url());
    let mut child = command.spawn().unwrap();
    let outcome = tokio::task::spawn_blocking(move || {
        let outcome = wait_for(&mut child, |line| line.starts_with("outcome "));
        child.kill().unwrap();
        child.wait().unwrap();
        outcome
    })
    .await
    .unwrap();
    assert!(outcome.contains("not enough room") && outcome.contains(&format!("{BYTES} bytes are needed")), "{outcome}");
    assert!(outcome.contains("free space on the disk"), "{outcome}");
    assert!(hub.transfers().is_empty(), "said before the first byte");
}
