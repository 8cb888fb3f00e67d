//! A process that is killed whenever it is: what it was told to be final is there afterwards.

#![expect(clippy::unwrap_used, reason = "helpers of tests end where tests would")]

use committee::{Member, MemberConfig, SnapshotPace, loopback::Loopback};
use consensus::Pace;
use protocol::{genesis::Genesis, ids::NodeId, link::Role};
use registry::Fact;
use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use trust::MachineKey;

/// Names the folder to the process that is going to be killed.
const FOLDER: &str = "DARKBLOOM_TEST_KILLED_FOLDER";
const LIVES: u64 = 12;

fn node(number: u64) -> NodeId {
    NodeId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

async fn start(folder: &Path) -> Member {
    let key = MachineKey::from_seed(&[3; 32]);
    let mut genesis = Genesis::new(vec![key.id()], &[7; 32], 1_700_000_000_000);
    genesis.epoch_blocks = 16;
    let mut config = MemberConfig::new(folder.to_owned(), key.clone(), genesis);
    config.pace = Some(Pace { idle: Duration::from_millis(300), gather: Duration::from_millis(1) });
    config.snapshots = SnapshotPace { blocks: 7, ..SnapshotPace::default() };
    Member::start(config, Loopback::default().join(key.id())).await.unwrap()
}

/// The process that is killed: says facts and prints the number of each that is final.
#[tokio::test(flavor = "multi_thread")]
async fn killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let member = start(&PathBuf::from(folder)).await;
    let first = member.registry().read().unwrap().members().count() as u64;
    for number in first.. {
        member.say(vec![Fact::MemberAdmitted { node: node(number), role: Role::Node, at_unix_ms: 1 }]).await.unwrap();
        writeln!(std::io::stderr(), "final {number}").unwrap();
    }
}

fn victim(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killed", "--nocapture"]).env(FOLDER, folder);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_takes_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = None;
    for life in 0..LIVES {
        let mut child = victim(folder.path());
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let finals = lines.filter_map(|line| line.ok()?.strip_prefix("final ")?.parse::<u64>().ok());
        // Each life ends at another place of a snapshot's interval and of an epoch; once the pipe is closed it is over.
        let mut seen = 0;
        for number in finals {
            assert!(last.is_none_or(|last| number > last), "{number} after {last:?}: it was final already");
            last = Some(number);
            seen += 1;
            if seen == 1 + life * 5 % 11 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen > life * 5 % 11, "it said what it had to say");
    }
    let member = start(folder.path()).await;
    let registry = member.registry();
    let last = last.unwrap();
    assert!((0..=last).all(|number| registry.read().unwrap().is_member(node(number))));
    member.shutdown().await;
}
