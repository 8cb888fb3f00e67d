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
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", "--", program]);
        command
    }

    /// Cuts the cable: nothing arrives any more, and nobody is told.
    pub fn cut(&self) {
        // The far end stays up, so that the machine there sees nothing but silence.
        run("ip", &["addr", "flush", "dev", &self.cable()]);
        run("ip", &["link", "set", &self.cable(), "down"]);
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

fn run(program: &str, arguments: &[&str]) {
    check(Command::new(program).args(arguments));
}

fn check(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
