//! The registry's log in SQLite: append-only, synced before anybody is told.

use protocol::codec::CodecError;
use registry::{Fact, Registry, Rejection};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a predecessor may take to let go of the file.
const BUSY_TIME_MAX: Duration = Duration::from_secs(1);
/// Version of the tables, in SQLite's `user_version`.
const SCHEMA_VERSION: i64 = 1;

// One process has the file, so that two orchestrators never write one log; kill it, and the system frees the file.
// The log is read once, so a small page cache is enough.
const SETTINGS: &str = "
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA cache_size = -256;
    PRAGMA trusted_schema = OFF;";

const SCHEMA: &str = "
    CREATE TABLE facts (height INTEGER PRIMARY KEY, fact BLOB NOT NULL) STRICT;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another orchestrator: stop that one, or choose another store", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A later version of this program made it.
    #[error("{} was made by a newer version of this program: install that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// It is no log of a registry.
    #[error("{} is damaged at entry {height}: {why}; restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which entry.
        height: i64,
        /// What is wrong with it.
        why: String,
    },
    /// SQLite's own no.
    #[error("cannot use {}: {cause}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        cause: rusqlite::Error,
    },
}

/// The open store. Blocking: not for asynchronous tasks.
pub(crate) struct Store {
    connection: Connection,
    path: PathBuf,
    height: i64,
}

impl Store {
    /// Opens or makes the store, and replays its log.
    pub(crate) fn open(path: &Path) -> Result<(Self, Registry), StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|cause| sqlite(path, cause))?;
        let mut store = Self { connection, path: path.to_owned(), height: 0 };
        store.prepare()?;
        let registry = store.replay()?;
        Ok((store, registry))
    }

    fn prepare(&mut self) -> Result<(), StoreError> {
        let version = (|| {
            self.connection.busy_timeout(BUSY_TIME_MAX)?;
            self.connection.execute_batch(SETTINGS)?;
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            let version: i64 = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
            if version == 0 {
                transaction.execute_batch(SCHEMA)?;
            }
            transaction.commit()?;
            Ok(version)
        })()
        .map_err(|cause| sqlite(&self.path, cause))?;
        if version > SCHEMA_VERSION {
            return Err(StoreError::Newer { path: self.path.clone() });
        }
        Ok(())
    }

    fn replay(&mut self) -> Result<Registry, StoreError> {
        let fail = |cause| sqlite(&self.path, cause);
        let mut registry = Registry::default();
        let mut height = 0;
        let mut statement = self.connection.prepare("SELECT height, fact FROM facts ORDER BY height").map_err(fail)?;
        let mut rows = statement.query(()).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            height += 1;
            let damaged = |why: String| StoreError::Damaged { path: self.path.clone(), height, why };
            if row.get::<_, i64>(0).map_err(fail)? != height {
                return Err(damaged("entries are missing before it".to_owned()));
            }
            let bytes = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(fail)?;
            let fact = Fact::decode(bytes).map_err(|error: CodecError| damaged(error.to_string()))?;
            registry.apply(fact).map_err(|rejection: Rejection| damaged(rejection.to_string()))?;
        }
        self.height = height;
        Ok(registry)
    }

    /// Appends encoded facts, all or none. They are on the disk when this returns.
    pub(crate) fn append(&mut self, facts: &[Vec<u8>]) -> Result<(), StoreError> {
        let mut height = self.height;
        (|| {
            let transaction = self.connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached("INSERT INTO facts (height, fact) VALUES (?1, ?2)")?;
                for fact in facts {
                    height += 1;
                    insert.execute((height, fact))?;
                }
            }
            transaction.commit()
        })()
        .map_err(|cause| sqlite(&self.path, cause))?;
        self.height = height;
        Ok(())
    }

    /// The port of the last start.
    pub(crate) fn port(&self) -> Result<Option<u16>, StoreError> {
        self.connection
            .query_row("SELECT value FROM settings WHERE name = 'port'", (), |row| row.get(0))
            .optional()
            .map_err(|cause| sqlite(&self.path, cause))
    }

    pub(crate) fn set_port(&self, port: u16) -> Result<(), StoreError> {
        self.connection
            .execute("INSERT OR REPLACE INTO settings (name, value) VALUES ('port', ?1)", (port,))
            .map(drop)
            .map_err(|cause| sqlite(&self.path, cause))
    }
}

fn sqlite(path: &Path, cause: rusqlite::Error) -> StoreError {
    match cause.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path: path.to_owned() },
        _ => StoreError::Sqlite { path: path.to_owned(), cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{ids::NodeId, link::Role};
    use registry::Genesis;

    fn genesis() -> Fact {
        Fact::Genesis(Genesis::new(vec![NodeId([1; 32])], &[7; 32], 5))
    }

    #[test]
    fn a_log_comes_back_and_one_process_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool.sqlite");
        let (mut store, registry) = Store::open(&path).unwrap();
        assert_eq!((registry, store.port().unwrap()), (Registry::default(), None));
        let admitted = Fact::MemberAdmitted { node: NodeId([2; 32]), role: Role::Node, at_unix_ms: 6 };
        store.append(&[genesis().encode().unwrap()]).unwrap();
        store.append(&[admitted.encode().unwrap()]).unwrap();
        store.set_port(4000).unwrap();
        store.set_port(4001).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::InUse { .. })));
        drop(store);
        let (store, registry) = Store::open(&path).unwrap();
        assert!(registry.is_member(NodeId([2; 32])));
        assert_eq!((store.port().unwrap(), store.height), (Some(4001), 2));
    }

    #[test]
    fn what_is_no_log_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool.sqlite");
        let (mut store, _) = Store::open(&path).unwrap();
        store.append(&[genesis().encode().unwrap(), vec![255; 9]]).unwrap();
        drop(store);
        assert!(matches!(Store::open(&path), Err(StoreError::Damaged { height: 2, .. })));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("DELETE FROM facts WHERE height = 1; PRAGMA user_version = 1").unwrap();
        drop(connection);
        assert!(matches!(Store::open(&path), Err(StoreError::Damaged { height: 1, .. })));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(connection);
        assert!(matches!(Store::open(&path), Err(StoreError::Newer { .. })));
        std::fs::write(&path, "no database at all, but long enough to be looked at".repeat(20)).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Sqlite { .. })));
    }
}
