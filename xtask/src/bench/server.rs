//! The programs that are measured.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::http::Connection;
use super::{CONTEXT_TOKENS, SLOTS, Settings};
use crate::failure::{Failure, on_path};
use crate::process::command;
use crate::workspace::Workspace;

/// The rules of an owner who has none: measuring is load.
const LENT_ALWAYS: &str = "[lend]\npresence = \"ignore\"\nbattery = \"ignore\"\nthermal = \"ignore\"\n\
                           memory_pressure = \"ignore\"\nother_load_percent_max = 100\n";

/// How long a program may load a model.
const START: Duration = Duration::from_secs(180);
/// How long it may take to end.
const END: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// A program that runs until this is dropped.
pub(super) struct Running {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
    name: String,
}

impl Running {
    /// Starts it; standard error goes to a log of its own.
    pub(super) fn start(settings: &Settings, name: &str, command: &mut Command) -> std::io::Result<Self> {
        let log = settings.folder.join(format!("{name}.log"));
        // The one variable that llama.cpp's threads need on a busy machine, for whoever is compared alike.
        command.env("GOMP_SPINCOUNT", "1000").stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn()?;
        let output = child.stdout.take().expect("standard output is a pipe");
        let (sender, lines) = channel();
        // Reads to the end also when nobody listens: a full or closed pipe would stop the program.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, lines, log, name: name.to_owned() })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// For what is to be asked over its standard input.
    pub(super) fn input(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("this program was started with a pipe as its standard input")
    }

    /// Ends it as a power cut would.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(|_| ()).map_err(|error| Failure::new(format!("{} could not be killed: {error}", self.name)))
    }

    /// What stands after `prefix` in the next line that begins with it.
    pub(super) fn line(&mut self, prefix: &str) -> Result<String, Failure> {
        let deadline = Instant::now() + START;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Err(self.failure("did not start in time")),
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure("ended")),
            }
        }
    }

    /// What it has written to standard error.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn failure(&self, what: &str) -> Failure {
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Failure::new(format!("{} {what}; the end of its log:\n{}", self.name, tail.join("\n")))
    }

    /// Waits until a GET of `path` is answered with 200.
    fn wait_for(&mut self, address: SocketAddr, path: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + START;
        while !Connection::open(address).and_then(|mut connection| connection.get(path)).is_ok_and(|code| code == 200) {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return Err(self.failure("ended"));
            }
            if Instant::now() > deadline {
                return Err(self.failure("did not start in time"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // The standard library can only kill; asked politely, a daemon takes its worker along.
        drop(self.child.stdin.take());
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + END;
        while asked.is_ok() && Instant::now() < deadline && self.child.try_wait().is_ok_and(|status| status.is_none()) {
            thread::sleep(POLL);
        }
        // Both fail where it has ended, which is what they are for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program with an OpenAI API.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) process: Running,
}

impl Server {
    /// It did not answer as it should.
    pub(super) fn failure(&self, error: &std::io::Error) -> Failure {
        self.process.failure(&format!("did not answer: {error}"))
    }
}

/// `darkbloom` with one of its commands, on a home of its own.
pub(super) fn darkbloom(workspace: &Workspace, settings: &Settings, subcommand: &str) -> Command {
    let home = settings.folder.join(subcommand);
    // Whoever measures sits at the machine. A home that cannot be written is told by the command itself.
    let _ = fs::DirBuilder::new().recursive(true).mode(0o700).create(&home);
    let _ = fs::write(home.join("config.toml"), LENT_ALWAYS);
    let mut command = command(workspace, workspace.binary("darkbloom"));
    command.arg(subcommand).arg("--home").arg(home).stdin(Stdio::null());
    command
}

/// Adds what a node is started with.
pub(super) fn lending(mut command: Command, settings: &Settings) -> Command {
    for (option, number) in [("--threads", settings.threads), ("--slots", SLOTS), ("--context", CONTEXT_TOKENS)] {
        command.args([option, &number.to_string()]);
    }
    command.arg("--model").arg(&settings.model);
    command
}

/// A whole pool: `darkbloom up`.
pub(super) fn pool(workspace: &Workspace, settings: &Settings) -> Result<Server, Failure> {
    let mut command = lending(darkbloom(workspace, settings, "up"), settings);
    serving(settings, "up", command.args(["--port", "0"]))
}

/// A gateway alone: `darkbloom serve`.
pub(super) fn gateway(workspace: &Workspace, settings: &Settings, ticket: &str) -> Result<Server, Failure> {
    let mut command = darkbloom(workspace, settings, "serve");
    serving(settings, "serve", command.args(["--port", "0", "--join", ticket]))
}

fn serving(settings: &Settings, name: &str, command: &mut Command) -> Result<Server, Failure> {
    let mut process = Running::start(settings, name, command).map_err(on_path(command.get_program().as_ref()))?;
    let url = process.line("base URL:")?;
    let authority = url.strip_prefix("http://").and_then(|url| url.split('/').next());
    let address = authority
        .and_then(|authority| authority.parse().ok())
        .ok_or_else(|| Failure::new(format!("`darkbloom {name}` said `{url}` where a base URL was expected")))?;
    process.wait_for(address, "/readyz")?;
    Ok(Server { address, process })
}

/// The server to compare with, with slots and contexts of the same sizes.
pub(super) fn llama_server(workspace: &Workspace, settings: &Settings) -> Result<Server, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let address = listener.map_err(|error| Failure::new(format!("no port is free: {error}")))?;
    let model = settings.model.to_string_lossy();
    let template = &settings.llama_server;
    let words: Vec<String> = template.split_whitespace().map(|word| word.replace("{model}", &model)).collect();
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::new("`--llama-server` is empty"))?;
    let mut command = command(workspace, program);
    command.args(arguments).stdin(Stdio::null());
    if !template.contains("{model}") {
        command.args(["-m", &model]);
    }
    let (threads, port) = (settings.threads.to_string(), address.port().to_string());
    command.args(["-t", &threads, "-tb", &threads, "--host", "127.0.0.1", "--port", &port]);
    command.args(["-np", &SLOTS.to_string(), "-c", &(SLOTS * CONTEXT_TOKENS).to_string()]);
    let mut process = Running::start(settings, "llama-server", &mut command).map_err(|error| {
        let failure = Failure::new(format!("`{program}` could not be started: {error}"));
        match error.kind() {
            ErrorKind::NotFound => failure
                .hint("Debian's `llama.cpp-tools` and Homebrew's `llama.cpp` have it, or build it from source")
                .hint("`--llama-server \"PROGRAM -m {model}\"` names one that is not on the PATH"),
            _ => failure,
        }
    })?;
    process.wait_for(address, "/health")?;
    Ok(Server { address, process })
}
