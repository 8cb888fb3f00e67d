//! `darkbloom` processes.

use crate::DeterministicEngine;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    fs::File,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

/// Time for a start, with a model to load on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);
const STOP_MAX: Duration = Duration::from_secs(40);

/// The rules of an owner who has none.
const LENT_ALWAYS: &str = r#"
presence = "ignore"
battery = "ignore"
thermal = "ignore"
memory_pressure = "ignore"
other_load_percent_max = 100
"#;

/// The path of a built program.
///
/// # Panics
/// If it has not been built.
pub fn program(name: &str) -> PathBuf {
    // Tests are in target/release/deps, programs of this crate one above.
    let own = std::env::current_exe().expect("a program has a path");
    let mut folder = own.parent().expect("a program is in a folder");
    if folder.ends_with("deps") {
        folder = folder.parent().expect("deps is in a folder");
    }
    let program = folder.join(name);
    assert!(program.exists(), "{} is missing: run `cargo build --release --workspace` first", program.display());
    program
}

/// The default model's file.
///
/// # Panics
/// If `DARKBLOOM_TEST_MODEL` does not name it.
pub fn real_model() -> PathBuf {
    let path = std::env::var_os("DARKBLOOM_TEST_MODEL")
        .expect("DARKBLOOM_TEST_MODEL names the default model's file; `make test` sets it");
    PathBuf::from(path)
}

/// A home of a test, with room for files beside it. Removed when dropped.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// A fresh one. Its owner lends the machine whatever happens on it: who runs the tests is most likely sitting there.
    pub fn new() -> Self {
        let home = Self { folder: tempfile::Builder::new().prefix("db-").tempdir().expect("a temporary folder") };
        std::fs::DirBuilder::new().mode(0o700).create(home.path()).expect("a writable folder");
        home.configure("");
        home
    }

    /// Sets fields of `[lend]`, above those that ignore everything.
    ///
    /// # Panics
    /// If this is not TOML.
    pub fn configure(&self, lend: &str) {
        let mut fields: toml::Table = LENT_ALWAYS.parse().expect("TOML");
        fields.extend(lend.parse::<toml::Table>().expect("TOML"));
        let config = toml::Table::from_iter([("lend".to_owned(), toml::Value::Table(fields))]);
        std::fs::write(self.path().join("config.toml"), config.to_string()).expect("a writable folder");
    }

    /// The home directory.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A file beside the home.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A model file of the deterministic engine.
    pub fn deterministic_model(&self, step_ms: u64) -> PathBuf {
        let path = self.beside("deterministic.gguf");
        std::fs::write(&path, DeterministicEngine::model_file(step_ms)).expect("a writable folder");
        path
    }

    /// A `darkbloom` command in this home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.own(Command::new(program("darkbloom")), arguments)
    }

    /// A `darkbloom` command in this home and in another network.
    #[cfg(target_os = "linux")]
    pub fn command_at(&self, place: &crate::network::Place, arguments: &[&str]) -> Command {
        self.own(place.inside(&program("darkbloom").display().to_string()), arguments)
    }

    /// A command of `darkbloom` in this home, with these words in front.
    pub fn command_by(&self, enter: &[String], arguments: &[&str]) -> Command {
        let Some((first, rest)) = enter.split_first() else { return self.command(arguments) };
        let mut command = Command::new(first);
        command.args(rest).arg(program("darkbloom"));
        self.own(command, arguments)
    }

    fn own(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).env("DARKBLOOM_HOME", self.path()).env_remove("DARKBLOOM_LOG").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// `status --json`, running or not.
    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }
}

/// A `darkbloom` process that serves. Killed when dropped.
pub struct Daemon {
    /// Its home.
    pub home: Home,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// Arguments that make a node of the deterministic engine.
pub fn deterministic(home: &Home, step_ms: u64) -> Vec<String> {
    let (model, worker) = (home.deterministic_model(step_ms), program("deterministic-worker"));
    vec![format!("--model={}", model.display()), format!("--worker={}", worker.display())]
}

impl Daemon {
    /// Starts a process; `environment` is added to its own.
    pub fn start(home: Home, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = home.command(arguments);
        command.envs(environment.iter().copied());
        Self::spawn(home, command)
    }

    /// Starts a process from a command of its home.
    pub fn spawn(home: Home, mut command: Command) -> Self {
        let (stdout, stderr) = (home.beside("stdout"), home.beside("stderr"));
        let append = |path: &Path| File::options().create(true).append(true).open(path).expect("a writable folder");
        let child = command.stdout(append(&stdout)).stderr(append(&stderr)).spawn().expect("the program starts");
        Self { home, child, stdout, stderr }
    }

    /// An orchestrator alone, ready.
    pub async fn orchestrator() -> Self {
        let mut daemon = Self::start(Home::new(), &["orchestrate"], &[]);
        daemon.wait_for("its ticket", |status| status["ticket"].is_string()).await;
        daemon
    }

    /// A node of the deterministic engine, ready.
    pub async fn deterministic_node(ticket: &str, step_ms: u64) -> Self {
        Self::deterministic_node_with(ticket, step_ms, &[]).await
    }

    /// A node of the deterministic engine with further arguments, ready.
    pub async fn deterministic_node_with(ticket: &str, step_ms: u64, more: &[&str]) -> Self {
        let home = Home::new();
        let lend = deterministic(&home, step_ms);
        let mut arguments = vec!["join", ticket];
        arguments.extend(lend.iter().map(String::as_str));
        arguments.extend(more);
        let mut node = Self::start(home, &arguments, &[]);
        node.wait_for("taking work", |status| status["takes_work"] == true).await;
        node
    }

    /// A gateway alone, ready.
    pub async fn gateway(ticket: &str) -> Self {
        let mut gateway = Self::start(Home::new(), &["serve", "--join", ticket, "--port", "0"], &[]);
        gateway.wait_for("its base URL", |status| status["base_url"].is_string()).await;
        gateway
    }

    /// Waits until `status --json` satisfies a condition; returns that status.
    ///
    /// # Panics
    /// If the process ends before, or time runs out; with what it wrote to standard error.
    pub async fn wait_for(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let start = std::time::Instant::now();
        loop {
            let status = self.home.status();
            if condition(&status) {
                return status;
            }
            let ended = self.child.try_wait().expect("a child can be asked");
            if ended.is_some() || start.elapsed() > START_MAX {
                panic!("{what}: {ended:?} after {:?}; status {status:#}; stderr:\n{}", start.elapsed(), self.stderr());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its status now.
    pub fn status(&self) -> Value {
        self.home.status()
    }

    /// A string of its status.
    ///
    /// # Panics
    /// If it is not there.
    pub fn text(&self, name: &str) -> String {
        let status = self.status();
        status[name].as_str().unwrap_or_else(|| panic!("status has no {name}: {status:#}")).to_owned()
    }

    /// What it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it wrote to standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Its process id.
    pub fn process_id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits")
    }

    /// The process id of its worker.
    ///
    /// # Panics
    /// If it has none.
    pub fn worker_process_id(&self) -> i32 {
        let id = self.status()["worker"]["process_id"].as_i64().expect("a node with a ready worker");
        i32::try_from(id).expect("a process id fits")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process_id()), signal).expect("a child can be signalled");
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn wait(&mut self) -> ExitStatus {
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                return status;
            }
            assert!(start.elapsed() < STOP_MAX, "the process has not ended after {STOP_MAX:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it as a service manager would, and gives its home back.
    pub async fn stop(mut self) -> (Home, ExitStatus) {
        self.signal(Signal::SIGTERM);
        let status = self.wait().await;
        let home = std::mem::take(&mut self.home);
        (home, status)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
