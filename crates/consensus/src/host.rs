use crate::{
    Application, Block, Boxed, Config, Network, Standing, StartError,
    channels::Heard,
    member::{self, Command, Parts},
};
use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _, tokio as runtime};
use protocol::{header::Anchor, ids::NodeId};
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// How long tasks have to end by themselves.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Threads that wait for the disk.
const BLOCKING_THREADS_MAX: usize = 16;

/// A running member of a committee. Dropped, it stops without being waited for.
#[derive(Debug)]
pub struct Consensus {
    commands: mpsc::UnboundedSender<Command>,
    standing: watch::Receiver<Standing>,
    height: Arc<AtomicU64>,
    heard: Heard,
    ended: watch::Receiver<bool>,
}

/// Starts a member in a thread of its own. It has told the application of all blocks that were final before when this
/// returns.
pub fn start(
    config: Config,
    application: Arc<dyn Application>,
    network: Network,
) -> Boxed<'static, Result<Consensus, StartError>> {
    Box::pin(async move {
        let (commands, obeyed) = mpsc::unbounded_channel();
        let (standing, stands) = watch::channel(Standing::default());
        let (started, has_started) = oneshot::channel();
        let (end, ended) = watch::channel(false);
        let (height, heard) = (Arc::<AtomicU64>::default(), Heard::default());
        let parts = Parts {
            config,
            prefix: String::new(),
            application,
            network,
            standing: standing.clone(),
            height: height.clone(),
            heard: heard.clone(),
            commands: obeyed,
        };
        let body = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| host(parts, started)));
            let down = match outcome {
                Ok(Ok(())) => "it was stopped".to_owned(),
                Ok(Err(why)) => why,
                Err(panic) => words(&*panic),
            };
            standing.send_modify(|standing| standing.down = Some(down));
            let _ = end.send(true);
        };
        let thread = thread::Builder::new().name("consensus".to_owned()).spawn(body);
        thread.map_err(|error| StartError::Engine(error.to_string()))?;
        let consensus = Consensus { commands, standing: stands, height, heard, ended };
        match has_started.await {
            Ok(Ok(())) => Ok(consensus),
            Ok(Err(error)) => {
                consensus.stop().await;
                Err(error)
            }
            Err(_) => {
                consensus.stop().await;
                let down = consensus.standing.borrow().down.clone();
                Err(StartError::Engine(down.unwrap_or_default()))
            }
        }
    })
}

/// Returns when everything is over and the folder is free.
fn host(parts: Parts, started: oneshot::Sender<Result<(), StartError>>) -> Result<(), String> {
    // Two threads: one for the engine's tasks, and this one, which waits.
    let config = runtime::Config::new()
        .with_storage_directory(&parts.config.folder)
        .with_worker_threads(1)
        .with_max_blocking_threads(BLOCKING_THREADS_MAX);
    runtime::Runner::new(config).start(|context| async move {
        let running = context.child("member").spawn(move |context| member::run(context, parts, started));
        let outcome = running.await.unwrap_or_else(|error| Err(error.to_string()));
        // Whoever does not end in time is aborted.
        let _ = context.stop(0, Some(STOP_TIME_MAX)).await;
        outcome
    })
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "the engine panicked".to_owned())
}

impl Consensus {
    /// A final block, if it is on the disk.
    pub fn block(&self, height: u64) -> Boxed<'_, Option<Block>> {
        Box::pin(self.ask(move |answer| Command::Block(height, answer)))
    }

    /// A final block's header with its certificate, if it has one of its own.
    pub fn anchor(&self, height: u64) -> Boxed<'_, Option<Anchor>> {
        Box::pin(self.ask(move |answer| Command::Anchor(height, answer)))
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Option<T>>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).ok()?;
        answered.await.ok()?
    }

    /// The height of the newest block that [`Application::finalised`] has been told of.
    pub fn processed(&self) -> u64 {
        self.height.load(Ordering::Relaxed)
    }

    /// How the member stands, whenever that changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Members of the committee that have been heard since the start, and when last, in milliseconds since 1970.
    pub fn heard(&self) -> Vec<(NodeId, u64)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().map(|(member, time)| (*member, time.load(Ordering::Relaxed))).collect()
    }

    /// Blocks below this height are not needed any more. The last block before the current epoch and everything after it
    /// is kept in any case; what is removed is removed by hundreds.
    pub fn prune(&self, below: u64) {
        let _ = self.commands.send(Command::Prune(below));
    }

    /// Stops the member, and waits until its folder is free.
    pub fn stop(&self) -> Boxed<'_, ()> {
        Box::pin(async move {
            let _ = self.commands.send(Command::Stop);
            let _ = self.ended.clone().wait_for(|ended| *ended).await;
        })
    }
}
