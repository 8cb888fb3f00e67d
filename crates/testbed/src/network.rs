//! Networks of the test's own: namespaces with cables between them that can be cut. Takes root, and `ip` and `nsenter`.
//!
//! Nothing outside sees any of it, and it is gone with the processes that live in it.

use nix::sched::{CloneFlags, unshare};
use std::{
    io,
    process::{Child, Command, Stdio},
};

/// The network in which the test itself is, with a cable to each place.
pub struct Network {
    places: Vec<Place>,
}

/// A machine's network: one cable, nothing else.
pub struct Place {
    number: usize,
    /// Keeps the namespace until it is killed.
    holder: Child,
}

impl Network {
    /// Takes this thread, and whatever it starts from now on, into a network of its own with `places` cables.
    ///
    /// # Panics
    /// If a namespace or a cable cannot be made.
    pub fn enter(places: usize) -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        run("ip", &["link", "set", "lo", "up"]);
        let places = (1..=places).map(Place::new).collect::<io::Result<_>>()?;
        Ok(Self { places })
    }

    /// Gives this network a way out that leads nowhere: whatever leaves is counted by [`Network::left`].
    pub fn lead_nowhere(&self) {
        lead_nowhere(|| Command::new("ip"));
    }

    /// Packets that went where no machine of this network is.
    pub fn left(&self) -> u64 {
        left(Command::new("cat"))
    }

    /// The place at the end of a cable.
    pub fn place(&self, index: usize) -> &Place {
        &self.places[index]
    }
}

impl Place {
    fn new(number: usize) -> io::Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec sleep 600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        // Its line says that the namespace is there.
        let mut line = [0; 1];
        io::Read::read_exact(holder.stdout.as_mut().expect("it was piped"), &mut line)?;
        let place = Self { number, holder };
        let (process, cable) = (place.holder.id().to_string(), place.cable());
        run("ip", &["link", "add", &cable, "type", "veth", "peer", "name", "cable", "netns", &process]);
        place.plug_in_here();
        for arguments in [
            vec!["addr", "add", &format!("10.77.{number}.2/24"), "dev", "cable"],
            vec!["link", "set", "lo", "up"],
            vec!["link", "set", "cable", "up"],
        ] {
            let mut inside = place.inside("ip");
            check(inside.args(arguments));
        }
        Ok(place)
    }

    fn cable(&self) -> String {
        format!("cable{}", self.number)
    }

    fn plug_in_here(&self) {
        run("ip", &["addr", "replace", &format!("10.77.{}.1/24", self.number), "dev", &self.cable()]);
        run("ip", &["link", "set", &self.cable(), "up"]);
    }

    /// A program in this place.
    pub fn inside(&self, program: &str) -> Command {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).arg(program);
        command
    }

    /// The words in front of a command that run it in this place.
    pub fn enter(&self) -> Vec<String> {
        ["nsenter", "--target", &self.holder.id().to_string(), "--net", "--"].map(str::to_owned).to_vec()
    }

    /// Gives this place a way out that leads nowhere, besides its cable.
    pub fn lead_nowhere(&self) {
        lead_nowhere(|| self.inside("ip"));
    }

    /// Packets that left this place by another way than its cable.
    pub fn left(&self) -> u64 {
        left(self.inside("cat"))
    }

    /// Cuts the cable: nothing arrives any more, and nobody is told.
    pub fn cut(&self) {
        // The far end stays up, so that the machine there sees nothing but silence.
        run("ip", &["addr", "flush", "dev", &self.cable()]);
        run("ip", &["link", "set", &self.cable(), "down"]);
    }

    /// Pulls the cable out at the far end: nothing arrives, and the machine there sees it. Whoever is here keeps the address
    /// that others here know.
    pub fn pull(&self) {
        check(self.inside("ip").args(["link", "set", "cable", "down"]));
    }

    /// Puts it in again.
    pub fn put_in(&self) {
        check(self.inside("ip").args(["link", "set", "cable", "up"]));
    }

    /// Mends it.
    pub fn mend(&self) {
        self.plug_in_here();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The name of the way that leads nowhere.
const NOWHERE: &str = "nowhere";

/// Default routes for both families over a cable whose other end nobody reads. The kernel itself says nothing on it:
/// no neighbours are looked for, and no routers.
fn lead_nowhere(ip: impl Fn() -> Command) {
    const QUIET: [&str; 6] = ["arp", "off", "multicast", "off", "addrgenmode", "none"];
    let say = |arguments: &[&str]| check(ip().args(arguments));
    say(&["link", "add", NOWHERE, "type", "veth", "peer", "name", "void"]);
    for end in ["void", NOWHERE] {
        say(&[&["link", "set", end], &QUIET[..]].concat());
        say(&["link", "set", end, "up"]);
    }
    say(&["addr", "add", "198.18.0.1/32", "dev", NOWHERE]);
    say(&["-6", "addr", "add", "fd77::1/128", "dev", NOWHERE, "nodad"]);
    say(&["route", "add", "default", "dev", NOWHERE]);
    say(&["-6", "route", "add", "default", "dev", NOWHERE]);
}

/// The packets sent on it. The kernel counts them for each network, whoever asks within it.
fn left(mut cat: Command) -> u64 {
    const SENT_PACKETS: usize = 9;
    let output = cat.arg("/proc/thread-self/net/dev").output().expect("counters");
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().find_map(|line| line.trim().strip_prefix(NOWHERE)?.strip_prefix(':'));
    let sent = line.and_then(|line| line.split_whitespace().nth(SENT_PACKETS));
    sent.and_then(|sent| sent.parse().ok()).expect("the way that leads nowhere is counted")
}

fn run(program: &str, arguments: &[&str]) {
    check(Command::new(program).args(arguments));
}

fn check(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
