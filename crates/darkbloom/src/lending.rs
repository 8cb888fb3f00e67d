//! The owner's rules at work in a daemon: settings from the home, sensors, and what the owner says by hand.

use crate::{failure::Failure, home::Home};
use node::Node;
use owner::{LendSettings, Purpose, Verdict, Watcher};
use protocol::hold::Hold;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// How often a start that waits looks whether there is something else to say.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Watches the owner's rules for one daemon.
pub struct Lending {
    /// What the owner allows.
    pub settings: LendSettings,
    watcher: Watcher,
    rule: watch::Receiver<Option<Hold>>,
}

impl Lending {
    /// Reads the settings and looks for the first time.
    pub fn start(home: &Home, purpose: Purpose) -> Result<Arc<Self>, Failure> {
        let settings = home.lend_settings(purpose)?;
        let (sender, rule) = watch::channel(None);
        let watcher = Watcher::start(settings.clone(), move |verdict: &Verdict| {
            sender.send_replace(verdict.hold.clone());
        });
        Ok(Arc::new(Self { settings, watcher, rule }))
    }

    /// What holds the node back from its start on: a pause outlives the daemon.
    pub fn holds(&self, home: &Home) -> Vec<Hold> {
        self.rule.borrow().clone().into_iter().chain(home.paused()).collect()
    }

    /// Tells the node of every change, for as long as both are there.
    pub fn follow(&self, node: &Arc<Node>) {
        let (mut rule, node) = (self.rule.clone(), Arc::downgrade(node));
        tokio::spawn(async move {
            loop {
                let hold = rule.borrow_and_update().clone();
                let Some(node) = node.upgrade() else { return };
                node.hold_back(hold);
                drop(node);
                if rule.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// The last look.
    pub fn verdict(&self) -> Verdict {
        self.watcher.latest()
    }

    /// Most memory of the worker.
    pub fn memory_bytes_max(&self) -> Option<u64> {
        let machine = owner::machine_memory_bytes();
        machine.map(|bytes| self.settings.memory_bytes_max(bytes)).or(self.settings.memory_bytes_max)
    }

    /// Threads of the engine: the fewer of what the command line and the owner say.
    pub fn threads(&self, asked: Option<u32>) -> Option<u32> {
        asked.into_iter().chain(self.settings.threads).min()
    }
}

/// Waits until the node takes work, and says on standard error what its owner's rules make it wait for.
pub async fn ready(node: &Node) {
    let ready = node.ready();
    tokio::pin!(ready);
    let mut said: Option<String> = None;
    loop {
        let hold = node.status().hold.filter(|hold| matches!(hold, Hold::Owner { .. } | Hold::Paused { .. }));
        let what = hold.as_ref().map(ToString::to_string);
        if let Some(what) = what.as_ref().filter(|what| said.as_ref() != Some(what)) {
            eprintln!("not lending yet: {what}; `darkbloom status` says when that lifts");
        }
        said = what;
        tokio::select! {
            () = &mut ready => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
