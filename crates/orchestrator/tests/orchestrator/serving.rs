//! A node that really serves: it opens what was sealed to it and seals an answer, at the pace that a test gives it.

use crate::machines::{LOOPBACK, MODEL, Node, Pool, unix_ms};
use protocol::{
    grant::{Permit, Tier, WorkerEvidence},
    ids::NodeId,
    limits,
    link::{FromNode, NodeState},
    sealing::{SealedTask, Suite, WorkerKey},
    signed::Signed,
    stream::{self, Refused, Reply},
    task::{Finish, Frame, Task, Usage},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use transport::{Connection, ReceiveError, Receiver, Sender, Transport};
use trust::MachineKey;

/// What it does with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Reads at so many tokens a second, and takes so long for each token of the answer.
    Steady { prefill_per_s: u32, token: Duration },
    /// Takes the task and says nothing more.
    Hang,
    /// Takes the task and breaks off.
    BreakOff,
}

pub(crate) const FAST: Pace = Pace::Steady { prefill_per_s: 100_000, token: Duration::from_micros(500) };

/// A task as its node sees it: what any node does, and what one does that reads what its worker reads.
pub(crate) struct Seen {
    /// Who is at the other end of the connection.
    pub(crate) peer: NodeId,
    pub(crate) permit: Permit,
    /// Its length, with its signature.
    pub(crate) permit_bytes: usize,
    /// For how long the permit still held.
    pub(crate) left_ms: u64,
    pub(crate) sealed: SealedTask,
    pub(crate) task: Task,
}

struct Worker {
    key: WorkerKey,
    seen: Mutex<Vec<Seen>>,
    pace: Mutex<Pace>,
    begun: AtomicUsize,
    served: AtomicUsize,
    cancelled: AtomicUsize,
    beyond: AtomicUsize,
}

pub(crate) struct Serving {
    pub(crate) node: Node,
    transport: Transport,
    worker: Arc<Worker>,
}

impl Serving {
    /// A node that has said that it is ready.
    pub(crate) async fn join(pool: &Pool, key: &MachineKey, slots: u32, pace: Pace) -> Self {
        let node = Node::join(&pool.ticket, key).await.unwrap();
        let transport = Transport::bind(key, LOOPBACK, &[stream::ALPN]).await.unwrap();
        let worker = Arc::new(Worker {
            key: WorkerKey::generate(Suite::XWing),
            seen: Mutex::default(),
            pace: Mutex::new(pace),
            begun: AtomicUsize::default(),
            served: AtomicUsize::default(),
            cancelled: AtomicUsize::default(),
            beyond: AtomicUsize::default(),
        });
        tokio::spawn(listen(transport.clone(), Arc::clone(&worker)));
        let mut serving = Self { node, transport, worker };
        serving.ready(slots, 0).await;
        serving
    }

    /// Says how it is.
    pub(crate) async fn ready(&mut self, slots: u32, active_tasks: u32) {
        let mut state = self.node.state(slots, active_tasks);
        let evidence = WorkerEvidence {
            node: self.node.id(),
            model: MODEL,
            measurement: [7; 32],
            keys: vec![self.worker.key.public().clone()],
            tier: Tier::SelfSigned,
            issued_unix_ms: unix_ms(),
            expires_unix_ms: unix_ms() + 60_000,
        };
        state.workers[0].evidence = self.node.link.key.sign(&evidence);
        let state = NodeState { addresses: self.transport.addresses(), ..state };
        self.node.say(&FromNode::State(state)).await;
    }

    pub(crate) fn id(&self) -> NodeId {
        self.node.id()
    }

    pub(crate) fn set_pace(&self, pace: Pace) {
        *self.worker.pace.lock().unwrap() = pace;
    }

    /// What it has seen of its tasks since it was asked the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.worker.seen.lock().unwrap())
    }

    /// Tasks that it has taken.
    pub(crate) fn begun(&self) -> usize {
        self.worker.begun.load(Relaxed)
    }

    /// Tasks that it has answered to the end.
    pub(crate) fn served(&self) -> usize {
        self.worker.served.load(Relaxed)
    }

    /// Streams on which more came than a permit, a task and the end.
    pub(crate) fn beyond(&self) -> usize {
        self.worker.beyond.load(Relaxed)
    }

    /// Tasks that were not wanted any more.
    pub(crate) fn cancelled(&self) -> usize {
        self.worker.cancelled.load(Relaxed)
    }
}

async fn listen(transport: Transport, worker: Arc<Worker>) {
    while let Some(incoming) = transport.accept().await {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            let Ok(connection) = incoming.handshake().await else { return };
            serve(connection, worker).await;
        });
    }
}

async fn serve(connection: Connection, worker: Arc<Worker>) {
    let peer = connection.remote();
    while let Some((sender, receiver)) = connection.accept_stream().await {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move {
            let (mut sender, mut receiver) = (sender, receiver);
            let stopped = sender.stopped();
            tokio::select! {
                done = run(&worker, peer, &mut sender, &mut receiver) => {
                    if done.is_some() {
                        worker.served.fetch_add(1, Relaxed);
                        sender.finish();
                        let more = receiver.message::<Reply>(limits::STREAM_MESSAGE_BYTES_MAX).await;
                        // One of two that were started for a task is given up, whoever is audited.
                        let given_up = matches!(more, Err(ReceiveError::Reset | ReceiveError::Lost(_)));
                        worker.beyond.fetch_add(usize::from(!given_up && !matches!(more, Ok(None))), Relaxed);
                    } else {
                        // The end of the connection is noticed by writing, too.
                        worker.cancelled.fetch_add(1, Relaxed);
                    }
                }
                () = stopped => {
                    worker.cancelled.fetch_add(1, Relaxed);
                }
            }
        });
    }
}

async fn run(worker: &Worker, peer: NodeId, sender: &mut Sender, receiver: &mut Receiver) -> Option<()> {
    let permit: Signed<Permit> = receiver.message(limits::PERMIT_BYTES_MAX).await.ok()??;
    let permit_bytes = protocol::codec::encode(&permit, limits::PERMIT_BYTES_MAX).ok()?.len();
    let permit = trust::open(&permit).ok()?;
    let sealed: SealedTask = receiver.message(limits::STREAM_MESSAGE_BYTES_MAX).await.ok()??;
    let Ok((task, mut sealer)) = worker.key.open_task(permit.task, &sealed) else {
        say(sender, &Reply::Refused(Refused::Malformed)).await?;
        return None;
    };
    let left_ms = permit.expires_unix_ms.saturating_sub(unix_ms());
    worker.seen.lock().unwrap().push(Seen { peer, permit, permit_bytes, left_ms, sealed, task: task.clone() });
    say(sender, &Reply::Accepted).await?;
    let pace = *worker.pace.lock().unwrap();
    let (words, tokens) = match &task {
        Task::Chat { messages, generation } => {
            (messages[0].content.split(' ').count() as u32, generation.max_tokens.unwrap_or(16))
        }
        _ => (1, 0),
    };
    worker.begun.fetch_add(1, Relaxed);
    let Pace::Steady { prefill_per_s, token } = pace else {
        if pace == Pace::Hang {
            std::future::pending::<()>().await;
        }
        return None;
    };
    let mut frame = |frame: &Frame| Reply::Frames(vec![sealer.seal(frame).unwrap()]);
    tokio::time::sleep(Duration::from_secs_f64(f64::from(words) / f64::from(prefill_per_s))).await;
    let started = frame(&Frame::Started { prompt_tokens: words });
    say(sender, &started).await?;
    if let Task::Score { ids, .. } = &task {
        let log_probs = vec![-1.0; ids.len()];
        let scores = frame(&Frame::Scores { best: log_probs.clone(), log_probs });
        say(sender, &scores).await?;
    }
    for id in 0..tokens {
        tokio::time::sleep(token).await;
        let tokens = frame(&Frame::Tokens { ids: vec![id], text: "a".to_owned(), log_probs: vec![-1.0] });
        say(sender, &tokens).await?;
    }
    let usage = Usage { prompt_tokens: words, completion_tokens: tokens };
    let done = frame(&Frame::Done { finish: Finish::Length, usage });
    say(sender, &done).await?;
    say(sender, &Reply::Finished).await
}

async fn say(sender: &mut Sender, reply: &Reply) -> Option<()> {
    sender.message(reply, limits::STREAM_MESSAGE_BYTES_MAX).await.ok()
}
