//! The home directory: one member's keys, registry, models, and the lock that keeps it to one daemon.

use crate::failure::Failure;
use etcetera::{AppStrategy, AppStrategyArgs};
use owner::{ClientSettings, LendSettings, Purpose, settings};
use protocol::{hold::Hold, ids::NodeId, link::Role, ticket::Ticket};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use trust::MachineKey;
use zeroize::Zeroizing;

/// A member's directory.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

/// Which of a machine's roles a key is for. Each has an endpoint of its own in the network.
#[derive(Debug, Clone, Copy)]
pub enum KeyRole {
    /// Lends the machine.
    Node,
    /// Matches.
    Orchestrator,
    /// Owns: pools that were founded here, and what this home's machines earn.
    Account,
    /// Asks, for the gateway.
    Gateway,
    /// Asks, for commands that end. A key of its own, so that they can run beside the gateway; the same each time, so
    /// that every call is the same member.
    Asker,
}

/// Who holds a home. Written into the lock file for the one that comes second.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub process_id: u32,
    /// Its subcommand.
    pub command: String,
    /// Since when, RFC 3339.
    pub since: String,
}

/// Keeps the home to this process until it is dropped.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
    /// What was written into it.
    pub holder: Holder,
}

impl Home {
    /// The directory of `--home` or `DARKBLOOM_HOME`, else the platform's data directory. Made if it is missing, for its
    /// owner only.
    pub fn open(chosen: Option<PathBuf>) -> Result<Self, Failure> {
        let root = match chosen {
            Some(root) => {
                std::path::absolute(&root).map_err(|error| Failure::new(format!("{}: {error}", root.display())))?
            }
            None => platform_directory()?,
        };
        let fail = |what: &str, error: std::io::Error| {
            Failure::new(format!("cannot {what} the home directory {}: {error}", root.display()))
                .hint("choose another with `--home DIR`")
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&root).map_err(|error| fail("create", error))?;
        let metadata = fs::metadata(&root).map_err(|error| fail("read", error))?;
        if !metadata.is_dir() {
            return Err(
                Failure::new(format!("{} is not a directory", root.display())).hint("choose another with `--home DIR`")
            );
        }
        if metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(Failure::new(format!("the home directory {} belongs to another user", root.display()))
                .hint("choose another with `--home DIR`"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            // It is to hold keys. A directory that has another purpose stays as it is.
            let ours = root.join("machine.key").exists();
            let empty = fs::read_dir(&root).map_err(|error| fail("read", error))?.next().is_none();
            if !ours && !empty {
                return Err(Failure::new(format!("{} is open to others and holds other things", root.display()))
                    .hint("choose a directory of its own with `--home DIR`"));
            }
            fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).map_err(|error| fail("close", error))?;
        }
        Ok(Self { root })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Where an orchestrator keeps its pool.
    pub fn pool(&self) -> Result<PathBuf, Failure> {
        let earlier = self.root.join("registry.sqlite");
        if earlier.exists() {
            return Err(Failure::new(format!(
                "{} is of an earlier version, whose pools had no committee and cannot be taken over",
                earlier.display()
            ))
            .hint("move it away, or choose another home with `--home DIR`, to found a new pool"));
        }
        Ok(self.root.join("pool"))
    }

    /// Where the models are.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// Where `status` reaches the daemon. A socket's path is limited to about 100 bytes; a longer home has its socket in
    /// the directory for temporary files, named after the home.
    pub fn control_socket(&self) -> PathBuf {
        const PATH_BYTES_MAX: usize = 100;
        let direct = self.root.join("control.sock");
        if direct.as_os_str().len() <= PATH_BYTES_MAX {
            return direct;
        }
        let name = blake3::hash(self.root.as_os_str().as_encoded_bytes()).to_hex();
        std::env::temp_dir().join(format!("darkbloom-{}-{}.sock", nix::unistd::geteuid(), &name[..16]))
    }

    /// Takes the home for this process, or says who has it.
    pub fn lock(&self, command: &str) -> Result<HomeLock, Failure> {
        let path = self.root.join("lock");
        let fail = |error: std::io::Error| Failure::new(format!("cannot lock {}: {error}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let who = self.holder().map_or_else(
                    || "another process".to_owned(),
                    |holder| {
                        format!(
                            "`darkbloom {}` (process {}, since {})",
                            holder.command, holder.process_id, holder.since
                        )
                    },
                );
                return Err(Failure::new(format!("the home {} is held by {who}", self.root.display()))
                    .hint("stop it first, or choose another home with `--home DIR`"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(fail(error)),
        }
        let holder = Holder {
            process_id: std::process::id(),
            command: command.to_owned(),
            since: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        };
        let text = serde_json::to_string(&holder).expect("a holder is plain data");
        file.set_len(0).and_then(|()| file.write_all(text.as_bytes())).map_err(fail)?;
        Ok(HomeLock { _file: file, holder })
    }

    /// Who holds the home, as the lock file says. It may be stale: only the lock itself tells.
    pub fn holder(&self) -> Option<Holder> {
        let mut text = String::new();
        File::open(self.root.join("lock")).ok()?.take(4096).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// The key of one of this machine's roles, derived from the machine's one secret, which is made at the first call.
    pub fn key(&self, role: KeyRole) -> Result<MachineKey, Failure> {
        let seed = self.secret_file("machine.key")?;
        let context = match role {
            KeyRole::Node => "darkbloom 2026 machine key: node",
            KeyRole::Orchestrator => "darkbloom 2026 machine key: orchestrator",
            KeyRole::Account => "darkbloom 2026 machine key: account",
            KeyRole::Gateway => "darkbloom 2026 machine key: gateway",
            KeyRole::Asker => "darkbloom 2026 machine key: asker",
        };
        let derived = Zeroizing::new(blake3::derive_key(context, &*seed));
        Ok(MachineKey::from_seed(&derived))
    }

    /// The keys of this home that join a pool together, and as what.
    pub fn household(&self) -> Result<Vec<(NodeId, Role)>, Failure> {
        let roles = [
            (KeyRole::Node, Role::Node),
            (KeyRole::Gateway, Role::Client),
            (KeyRole::Asker, Role::Client),
            (KeyRole::Account, Role::Client),
        ];
        roles.into_iter().map(|(key, role)| Ok((self.key(key)?.id(), role))).collect()
    }

    /// 32 secret bytes in a file that only its owner reads; made once, whole or not at all.
    pub fn secret_file(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
        let path = self.root.join(name);
        let fail = |what: String| Failure::new(format!("{}: {what}", path.display()));
        let mut secret = Zeroizing::new([0; 32]);
        match File::open(&path) {
            Ok(mut file) => {
                let metadata = file.metadata().map_err(|error| fail(error.to_string()))?;
                if metadata.permissions().mode() & 0o077 != 0 {
                    return Err(fail("others can read this key".to_owned())
                        .hint(format!("if nobody has, run `chmod 600 {}`", path.display())));
                }
                if metadata.len() != 32 {
                    return Err(fail("not a key: it has not 32 bytes".to_owned())
                        .hint("restore it from a backup, or remove it to become a new machine"));
                }
                file.read_exact(&mut *secret).map_err(|error| fail(error.to_string()))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                getrandom::fill(&mut *secret).map_err(|error| fail(error.to_string()))?;
                self.write_private(name, &*secret)?;
            }
            Err(error) => return Err(fail(error.to_string())),
        }
        Ok(secret)
    }

    /// Where the owner's settings are.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// What the owner allows; a home without the file has the defaults.
    pub fn lend_settings(&self, purpose: Purpose) -> Result<LendSettings, Failure> {
        self.settings(|text| settings::from_toml(text, purpose))
    }

    /// How this machine asks.
    pub fn client_settings(&self) -> Result<ClientSettings, Failure> {
        self.settings(settings::client_from_toml)
    }

    fn settings<T>(&self, read: impl FnOnce(&str) -> Result<T, settings::SettingsError>) -> Result<T, Failure> {
        let path = self.config();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::new(format!("{}: {error}", path.display()))),
        };
        read(&text).map_err(|error| {
            let remedy = error.remedy();
            Failure::new(format!("{}: {error}", path.display())).hint(remedy)
        })
    }

    /// Remembers that the owner has paused this machine, until a time in milliseconds since 1970 or for good; or that the
    /// pause is over.
    pub fn write_paused(&self, hold: Option<&Hold>) -> Result<(), Failure> {
        let Some(hold) = hold else {
            return match fs::remove_file(self.root.join("paused.json")) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Failure::new(format!("cannot end the pause in {}: {error}", self.root.display())))
                }
                _ => Ok(()),
            };
        };
        self.write_private("paused.json", &serde_json::to_vec(hold).expect("a hold is plain data"))
    }

    /// The pause that the owner asked for last, unless it is over.
    pub fn paused(&self) -> Option<Hold> {
        let text = fs::read_to_string(self.root.join("paused.json")).ok()?;
        let now_unix_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
        let hold = serde_json::from_str(&text).ok()?;
        match hold {
            Hold::Paused { until_unix_ms } if until_unix_ms.is_none_or(|until| until > now_unix_ms) => Some(hold),
            _ => None,
        }
    }

    /// Remembers the pool that this home belongs to.
    pub fn write_ticket(&self, ticket: &Ticket) -> Result<(), Failure> {
        self.write_tickets(std::slice::from_ref(ticket))
    }

    /// Remembers the pools that this home asks, in their order.
    pub fn write_tickets(&self, tickets: &[Ticket]) -> Result<(), Failure> {
        let lines: String = tickets.iter().map(|ticket| format!("{ticket}\n")).collect();
        self.write_private("ticket", lines.as_bytes())
    }

    /// The pool that this home belongs to: the first of those that it asks.
    pub fn ticket(&self) -> Result<Ticket, Failure> {
        let mut tickets = self.tickets()?;
        Ok(tickets.swap_remove(0))
    }

    /// The pools that this home asks, in their order: at least one.
    pub fn tickets(&self) -> Result<Vec<Ticket>, Failure> {
        let path = self.root.join("ticket");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let lines = text.lines().chain(text.is_empty().then_some(""));
                let tickets: Result<Vec<Ticket>, _> = lines.map(str::parse).collect();
                tickets.map_err(|error| Failure::new(format!("{}: {error}", path.display())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::new(format!("the home {} belongs to no pool yet", self.root.display()))
                    .hint("start one with `darkbloom up`, or give a ticket: `--join TICKET`"))
            }
            Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
        }
    }

    /// Writes a file for the owner only; a crash leaves the old one or the new one.
    fn write_private(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.root.join(name);
        let temporary = self.root.join(format!("{name}.{}.new", std::process::id()));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
    }
}

fn platform_directory() -> Result<PathBuf, Failure> {
    let arguments = AppStrategyArgs {
        top_level_domain: "org".to_owned(),
        author: "Darkbloom".to_owned(),
        app_name: "darkbloom".to_owned(),
    };
    let strategy = etcetera::choose_app_strategy(arguments)
        .map_err(|error| Failure::new(format!("no data directory: {error}")).hint("choose one with `--home DIR`"))?;
    Ok(strategy.data_dir())
}
