//! Machines that come and go: nodes of the deterministic engine under blows.

use crate::{Daemon, Home, daemon::deterministic};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{path::PathBuf, time::Duration};

/// How long a frozen machine sleeps: longer than any asker waits for a word.
const FROZEN: Duration = Duration::from_millis(2_500);

/// What can happen to a machine in the middle of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL to the daemon: its worker dies with it.
    KillDaemon,
    /// SIGKILL to the worker: the daemon starts another.
    KillWorker,
    /// SIGSTOP to the daemon, for a while: a lid that closes and opens.
    FreezeDaemon,
    /// SIGSTOP to the worker, for a while.
    FreezeWorker,
    /// SIGTERM to the daemon: it drains and goes.
    Terminate,
}

impl Blow {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::KillDaemon, Self::KillWorker, Self::FreezeDaemon, Self::FreezeWorker, Self::Terminate];
}

/// A node that can be struck and comes back.
pub struct Machine {
    daemon: Option<Daemon>,
    arguments: Vec<String>,
}

impl Machine {
    /// Joins a pool; `step_ms` is the time of one token.
    pub async fn join(ticket: &str, step_ms: u64) -> Self {
        let home = Home::new();
        let mut arguments = vec!["join".to_owned(), ticket.to_owned()];
        arguments.extend(deterministic(&home, step_ms));
        let mut machine = Self { daemon: None, arguments };
        machine.start(home).await;
        machine
    }

    async fn start(&mut self, home: Home) {
        let command = home.command(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut daemon = Daemon::spawn(home, command);
        daemon.wait_for("taking work", |status| status["takes_work"] == true).await;
        self.daemon = Some(daemon);
    }

    /// Its process.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("only a blow takes it away, and brings it back")
    }

    /// Its model file.
    pub fn model(&self) -> PathBuf {
        self.daemon().home.beside("deterministic.gguf")
    }

    /// Tasks that are in it.
    pub fn active_tasks(&self) -> u64 {
        self.daemon().status()["active_tasks"].as_u64().unwrap_or(0)
    }

    /// Strikes it; [`Machine::recover`] brings it back.
    pub fn strike(&self, blow: Blow) {
        let send = |process: i32, signal| {
            // A worker that another blow has killed just now is dead enough.
            let _ = kill(Pid::from_raw(process), signal);
        };
        let daemon = self.daemon();
        match blow {
            Blow::KillDaemon => send(daemon.process_id(), Signal::SIGKILL),
            Blow::KillWorker => send(daemon.worker_process_id(), Signal::SIGKILL),
            Blow::FreezeDaemon => send(daemon.process_id(), Signal::SIGSTOP),
            Blow::FreezeWorker => send(daemon.worker_process_id(), Signal::SIGSTOP),
            Blow::Terminate => send(daemon.process_id(), Signal::SIGTERM),
        }
    }

    /// Brings it back after `blow`; returns when it takes work again.
    pub async fn recover(&mut self, blow: Blow) {
        match blow {
            Blow::KillDaemon | Blow::Terminate => {
                let mut daemon = self.daemon.take().expect("it was struck while it was there");
                daemon.wait().await;
                let home = std::mem::take(&mut daemon.home);
                self.start(home).await;
            }
            Blow::KillWorker => {}
            Blow::FreezeDaemon => {
                tokio::time::sleep(FROZEN).await;
                self.daemon().signal(Signal::SIGCONT);
            }
            Blow::FreezeWorker => {
                tokio::time::sleep(FROZEN).await;
                let _ = kill(Pid::from_raw(self.daemon().worker_process_id()), Signal::SIGCONT);
            }
        }
        let daemon = self.daemon.as_mut().expect("it is back");
        daemon.wait_for("taking work again", |status| status["takes_work"] == true).await;
    }
}
