//! What survives, whenever the process dies.

use crate::machines::{Client, Node, Pool, start, within};
use orchestrator::{FolderError, StartError, Timings};
use protocol::{link::Denied, ticket::Ticket};
use std::{
    io::{BufRead, BufReader},
    net::UdpSocket,
    path::PathBuf,
    process::{Command, Stdio},
};
use trust::MachineKey;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_folder_gives_the_same_pool_ticket_and_members() {
    let pool = Pool::new().await;
    let node = pool.node().await;
    let ticket = pool.ticket.clone();
    let pool = pool.restarted().await;
    assert_eq!(pool.ticket, ticket);
    let no_secret = Ticket { secret: None, ..ticket };
    assert!(Node::join(&no_secret, &node.link.key).await.is_ok(), "a member needs no secret");
    assert_eq!(pool.orchestrator.models().len(), 1, "the catalogue came back too");
    assert!(Client::join(&no_secret, &node.link.key).await.is_ok(), "in either role");
    assert_eq!(Node::join(&no_secret, &MachineKey::generate()).await.err(), Some(Denied::NotAdmitted));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_does_not_fit_is_refused_with_its_reason() {
    let pool = Pool::new().await;
    let timings = Timings::default();
    let second = start(pool.folder.path(), &pool.key, timings).await;
    assert!(matches!(second.err(), Some(StartError::Folder(FolderError::InUse { .. }))));
    let Pool { orchestrator, key, folder, .. } = pool;
    orchestrator.shutdown().await;
    drop(orchestrator);
    let other = start(folder.path(), &MachineKey::generate(), timings).await;
    assert!(matches!(other.err(), Some(StartError::OtherKey { owner, .. }) if owner == key.id()));
    let founding = folder.path().join("pool/founding");
    let line = std::fs::read_to_string(&founding).unwrap();
    std::fs::write(&founding, &line[..line.len() - 2]).unwrap();
    let damaged = start(folder.path(), &key, timings).await;
    assert!(matches!(damaged.err(), Some(StartError::Folder(FolderError::Founding { .. }))));
    std::fs::remove_file(&founding).unwrap();
    let missing = start(folder.path(), &key, timings).await;
    assert!(matches!(missing.err(), Some(StartError::Folder(FolderError::NoFounding { .. }))));
    std::fs::write(&founding, line).unwrap();
    assert!(start(folder.path(), &key, timings).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_is_replaced() {
    let Pool { orchestrator, key, folder, ticket } = Pool::new().await;
    orchestrator.shutdown().await;
    drop(orchestrator);
    let address = ticket.orchestrators[0].addresses[0];
    // The transport lets go of it a moment after its end.
    let occupied = within(async {
        loop {
            match UdpSocket::bind(address) {
                Ok(socket) => return socket,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let orchestrator = start(folder.path(), &key, Timings::default()).await.unwrap();
    let moved = orchestrator.ticket();
    assert_ne!(moved.orchestrators[0].addresses, [address]);
    assert_eq!((moved.pool, moved.secret), (ticket.pool, ticket.secret));
    drop(occupied);
    orchestrator.shutdown().await;
    drop(orchestrator);
    let orchestrator = start(folder.path(), &key, Timings::default()).await.unwrap();
    assert_eq!(orchestrator.ticket(), moved, "the new port is the one to keep");
}

/// Folder in which the process under the knife works.
const FOLDER: &str = "DARKBLOOM_TEST_ORCHESTRATOR_FOLDER";
const KEY: [u8; 32] = [77; 32];
const KILLS: usize = 4;

/// Not a test of its own: what [`a_welcome_survives_kill_9`] starts and kills.
#[test]
fn admits_machines_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let orchestrator = start(&folder, &MachineKey::from_seed(&KEY), Timings::default()).await.unwrap();
        println!("\nticket {}", orchestrator.ticket());
        loop {
            let key = MachineKey::generate();
            Node::join(&orchestrator.ticket(), &key).await.unwrap();
            println!("\nwelcomed {}", protocol::ids::NodeId(*key.seed()));
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_welcome_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let (mut tickets, mut welcomed) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::admits_machines_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first time as soon as there is a pool, then after more and more members.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while let Some(Ok(line)) = lines.next() {
            if let Some(ticket) = line.strip_prefix("ticket ") {
                tickets.push(ticket.to_owned());
            } else if let Some(seed) = line.strip_prefix("welcomed ") {
                welcomed.push(seed.to_owned());
                seen += 1;
            }
            if tickets.len() > round && seen >= 3 * round {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still wrote to the pipe was welcomed as well.
        let rest = lines.map_while(Result::ok);
        welcomed.extend(rest.filter_map(|line| Some(line.strip_prefix("welcomed ")?.to_owned())));
    }
    welcomed.retain(|seed| seed.len() == 64);
    assert!(tickets.len() == KILLS && tickets.iter().all(|ticket| *ticket == tickets[0]));
    assert!(welcomed.len() >= 18);
    let orchestrator = start(folder.path(), &MachineKey::from_seed(&KEY), Timings::default()).await.unwrap();
    let no_secret = Ticket { secret: None, ..orchestrator.ticket() };
    for seed in welcomed {
        let seed = seed.parse::<protocol::ids::NodeId>().unwrap();
        let node = Node::join(&no_secret, &MachineKey::from_seed(&seed.0)).await;
        assert!(node.is_ok(), "it was welcomed, and is no member any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_is_told_to_every_machine() {
    let pool = Pool::new().await;
    let (node, client) = (pool.node().await, pool.client().await);
    pool.orchestrator.shutdown().await;
    within(client.link.connection.closed()).await;
    within(node.link.connection.closed()).await;
}
