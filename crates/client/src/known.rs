//! What this client knows of the pool's committee: learned from orchestrators, verified, and kept for the next time.

use crate::{AskError, link::Link, matching};
use protocol::{
    ids::PoolId,
    limits,
    link::{Answer, Question},
    witness::Lineage,
};
use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};
use trust::light::{Checkpoint, Light};

/// Answers that are asked for in a row: more committees than a pool has in years.
const ANSWERS_MAX: usize = 64;
/// What was seen is kept so often.
const KEEP_EVERY_MS: u64 = 60_000;

/// What is known of the committee. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Known {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PoolId,
    file: Option<PathBuf>,
    state: Mutex<State>,
    /// Held while the file is written.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    light: Option<Light>,
    /// Epoch and time of what the file says.
    kept: Option<(u64, u64)>,
}

impl Known {
    /// With what was kept in a folder the last time, if anything was.
    pub(crate) async fn open(pool: PoolId, folder: Option<&Path>) -> Self {
        let file = folder.map(|folder| folder.join(format!("{pool}.committee")));
        let mut state = State::default();
        if let Some(file) = file.clone() {
            let read = tokio::task::spawn_blocking(move || read(&file, pool)).await;
            let light = read.expect("reading a file neither panics nor is cancelled");
            state.kept = light.as_ref().map(|light| (light.epoch(), light.newest_unix_ms()));
            state.light = light;
        }
        Self { inner: Arc::new(Inner { pool, file, state: Mutex::new(state), writing: Default::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no holder of this lock panics")
    }

    /// Whether any committee is known.
    pub(crate) fn is_begun(&self) -> bool {
        self.lock().light.is_some()
    }

    /// Looks something up. `None`: no committee is known.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Light) -> T) -> Option<T> {
        self.lock().light.as_mut().map(look)
    }

    /// Asks how the committee came to be, from the epoch on that is known.
    pub(crate) async fn learn(&self, link: &Link) -> Result<(), AskError> {
        for _ in 0..ANSWERS_MAX {
            let from_epoch = self.with(|light| light.epoch()).unwrap_or_default();
            let (orchestrator, answer) = link.ask_whom(Question::Committee { from_epoch }).await?;
            let Answer::Committee(lineage) = answer else { return Err(matching::unexpected()) };
            match self.take(&lineage) {
                Ok(true) => {}
                Ok(false) => break,
                Err(reason) => return Err(AskError::NotBelieved { orchestrator, reason }),
            }
        }
        self.keep(false).await;
        Ok(())
    }

    /// Whether there may be more.
    fn take(&self, lineage: &Lineage) -> Result<bool, String> {
        let mut state = self.lock();
        let light = match &mut state.light {
            Some(light) => light,
            none => {
                let light = Light::new(self.inner.pool, &lineage.genesis).map_err(|error| error.to_string())?;
                none.insert(light)
            }
        };
        let mut is_new = false;
        for handover in lineage.handovers.iter().take(limits::HANDOVERS_MAX) {
            is_new |= light.advance(handover).map_err(|error| error.to_string())?;
        }
        Ok(is_new && lineage.handovers.len() >= limits::HANDOVERS_MAX)
    }

    /// Writes what is known where it is time for it. Nobody waits for it.
    pub(crate) fn keep_in_passing(&self) {
        if self.inner.file.is_some() && self.due(false).is_some() {
            let known = self.clone();
            tokio::spawn(async move { known.keep(false).await });
        }
    }

    /// Writes what is known, if it is time for it, or if there is anything new and `anyway`.
    pub(crate) async fn keep(&self, anyway: bool) {
        let Some(file) = self.inner.file.clone() else { return };
        let _one_at_a_time = self.inner.writing.lock().await;
        let Some(checkpoint) = self.due(anyway) else { return };
        let kept = (checkpoint.epoch(), checkpoint.unix_ms());
        let shown = file.clone();
        let written = tokio::task::spawn_blocking(move || write(&file, &checkpoint)).await;
        // Where it failed, it is tried again when the time comes.
        self.lock().kept = Some(kept);
        if let Err(error) = written.expect("writing a file neither panics nor is cancelled") {
            tracing::warn!(file = %shown.display(), %error, "what is known of the pool's committee cannot be kept");
        }
    }

    fn due(&self, anyway: bool) -> Option<Checkpoint> {
        let state = self.lock();
        let light = state.light.as_ref()?;
        let (epoch, unix_ms) = (light.epoch(), light.newest_unix_ms());
        let is_due = state.kept.is_none_or(|(kept_epoch, kept_unix_ms)| {
            let later_ms = unix_ms.saturating_sub(kept_unix_ms);
            epoch != kept_epoch || later_ms >= if anyway { 1 } else { KEEP_EVERY_MS }
        });
        is_due.then(|| light.checkpoint())
    }
}

fn read(file: &Path, pool: PoolId) -> Option<Light> {
    let error = match fs::read(file) {
        Ok(bytes) => match Checkpoint::decode(&bytes).and_then(|checkpoint| Light::resume(pool, checkpoint)) {
            Ok(light) => return Some(light),
            Err(error) => error.to_string(),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
    };
    // The pool's id is enough to begin with. What is lost is the protection from committees of long ago.
    tracing::warn!(file = %file.display(), error, "what was known of the pool's committee is lost");
    None
}

/// Whole, or not at all.
fn write(file: &Path, checkpoint: &Checkpoint) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let number = getrandom::u64().map_err(io::Error::other)?;
    let beside = file.with_extension(format!("{number:016x}"));
    let written = (|| {
        let mut new = fs::File::create_new(&beside)?;
        new.write_all(&checkpoint.encode())?;
        new.sync_all()?;
        fs::rename(&beside, file)
    })();
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&beside);
    }
    written
}
