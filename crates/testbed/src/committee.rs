//! A pool whose orchestrators are several processes.

use crate::{Daemon, Home, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{process::Command, time::Duration};

/// Only a hang takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The orchestrators of one pool.
pub struct Committee {
    /// Each runs, unless a test has stopped it.
    pub members: Vec<Option<Daemon>>,
    /// Leads into the pool.
    pub ticket: String,
    founding: Home,
    machines: Vec<Machine>,
}

/// Where one of them runs.
#[derive(Default)]
struct Machine {
    /// Reached by others than those of this machine.
    network: bool,
    /// The words in front of a command that bring it there; none: here.
    enter: Vec<String>,
}

impl Machine {
    fn command(&self, home: &Home, arguments: &[&str]) -> Command {
        let mut arguments = arguments.to_vec();
        arguments.extend(self.network.then_some("--network"));
        home.command_by(&self.enter, &arguments)
    }
}

impl Committee {
    /// Founds a pool of so many orchestrators and starts them.
    ///
    /// # Panics
    /// If one of the commands fails.
    pub async fn of(count: usize) -> Self {
        Self::found((0..count).map(|_| Machine::default()).collect()).await
    }

    /// As [`Committee::of`], the last of which is at the other end of a cable.
    #[cfg(target_os = "linux")]
    pub async fn across(network: &crate::network::Network, place: usize, count: usize) -> Self {
        let here = || Machine { network: true, ..Machine::default() };
        let there = Machine { network: true, enter: network.place(place).enter() };
        let machines = (1..count).map(|_| here()).chain([there]).collect();
        Self::found(machines).await
    }

    async fn found(machines: Vec<Machine>) -> Self {
        let (founding, mut homes, mut seats) = (Home::new(), Vec::new(), Vec::new());
        for machine in &machines {
            let home = Home::new();
            seats.push(printed_by(&mut machine.command(&home, &["pool", "seat"])));
            homes.push(home);
        }
        let count = machines.len();
        let file = founding.beside("founding").display().to_string();
        let mut arguments = vec!["pool", "create", "--out", &file, "--members"];
        arguments.extend(seats.iter().map(String::as_str));
        let created = printed(&founding, &arguments);
        let ticket = created.lines().find_map(|line| line.strip_prefix("ticket: ")).expect("a ticket").to_owned();
        let mut committee = Self { members: Vec::new(), ticket, founding, machines };
        committee.members.resize_with(count, || None);
        for (number, home) in homes.into_iter().enumerate() {
            committee.start(number, home);
        }
        for number in 0..count {
            committee.ready(number).await;
        }
        committee
    }

    /// Starts one again in its home.
    pub fn start(&mut self, number: usize, home: Home) {
        let file = self.founding.beside("founding").display().to_string();
        let command = self.machines[number].command(&home, &["orchestrate", "--founding", &file]);
        self.members[number] = Some(Daemon::spawn(home, command));
    }

    /// Waits until one has taken its place.
    pub async fn ready(&mut self, number: usize) {
        let member = self.members[number].as_mut().expect("a member that runs");
        member.wait_for("its place in the committee", |status| status["agreement"].is_object()).await;
    }

    /// The home that founded the pool, and owns it.
    pub fn owner(&self) -> &Home {
        &self.founding
    }

    /// One that runs.
    ///
    /// # Panics
    /// If it does not.
    pub fn member(&self, number: usize) -> &Daemon {
        self.members[number].as_ref().expect("a member that runs")
    }

    /// Kills one, and keeps its home.
    pub async fn kill(&mut self, number: usize) -> Home {
        let mut member = self.members[number].take().expect("a member that runs");
        member.signal(Signal::SIGKILL);
        member.wait().await;
        std::mem::take(&mut member.home)
    }

    /// Ends one as a service manager would, and keeps its home.
    pub async fn stop(&mut self, number: usize) -> Home {
        self.members[number].take().expect("a member that runs").stop().await.0
    }

    /// How one says that the committee agrees.
    pub fn agreement(&self, number: usize) -> Value {
        self.member(number).status()["agreement"].take()
    }

    /// Up to where one has agreed.
    pub fn height(&self, number: usize) -> u64 {
        self.agreement(number)["height"].as_u64().unwrap_or(0)
    }

    /// Waits until one has agreed on more than so much.
    pub async fn passes(&self, number: usize, height: u64) -> Duration {
        let what = format!("member {number} passes height {height}");
        let reached = async || (self.height(number) > height).then_some(());
        eventually(&what, PATIENCE, reached).await.1
    }
}

fn printed(home: &Home, arguments: &[&str]) -> String {
    printed_by(&mut home.command(arguments))
}

fn printed_by(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
