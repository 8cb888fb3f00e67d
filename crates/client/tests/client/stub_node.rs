//! A node that speaks the real protocol with real keys, and does what the script in the prompt says.

use crate::{
    MODEL,
    script::{self, Cause, PROMPT_TOKENS, Script},
};
use protocol::{
    grant::{Permit, Tier, WorkerEvidence},
    ids::{NodeId, TaskId},
    ipc::Rejection,
    limits,
    market::{Ack, Countersigned, Order, Receipt, ReceiptLine},
    sealing::{FrameSealer, SealedTask, Suite, WorkerKey},
    signed::Signed,
    stream::{self, Payment, Refused, Reply},
    task::{Finish, Frame, Task, TaskError, Usage},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::sync::{Notify, mpsc};
use transport::{Connection, Listen, Receiver, Sender, Transport};
use trust::MachineKey;

/// How often each prompt was begun, on whichever node of a pool.
pub(crate) type Begun = Arc<Mutex<HashMap<String, usize>>>;

/// What an orchestrator grants of a node.
#[derive(Clone)]
pub(crate) struct Offer {
    pub(crate) node: NodeId,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) evidence: Signed<WorkerEvidence>,
}

#[derive(Clone)]
pub(crate) struct StubNode {
    shared: Arc<Shared>,
}

struct Shared {
    key: MachineKey,
    transport: Transport,
    worker: WorkerKey,
    /// What it says of its worker, whenever it is asked.
    granted: Signed<WorkerEvidence>,
    begun: Begun,
    /// Added to every log-probability that it reports of its own tokens.
    lie: Mutex<f32>,
    /// What stalled waits for.
    release: Notify,
    streams: AtomicUsize,
    stalled: AtomicUsize,
    /// Tasks that the asker gave up.
    cancelled: (mpsc::UnboundedSender<TaskId>, tokio::sync::Mutex<mpsc::UnboundedReceiver<TaskId>>),
    /// How it is paid.
    till: Till,
    /// Tasks that failed before their end because the asker asked for a wrong place.
    wrong: Mutex<Vec<String>>,
}

pub(crate) fn unix_ms() -> u64 {
    protocol::time::unix_ms(SystemTime::now())
}

fn evidence_of(node: NodeId, worker: &WorkerKey) -> WorkerEvidence {
    let now = unix_ms();
    WorkerEvidence {
        node,
        model: MODEL,
        measurement: [0; 32],
        keys: vec![worker.public().clone()],
        tier: Tier::SelfSigned,
        issued_unix_ms: now,
        expires_unix_ms: now + limits::EVIDENCE_LIFETIME_MS,
    }
}

impl StubNode {
    pub(crate) async fn start(begun: Begun) -> Self {
        let key = MachineKey::generate();
        let transport = Transport::bind(&key, Listen::Loopback { port: 0 }, &[stream::ALPN]).await.unwrap();
        let (sender, receiver) = mpsc::unbounded_channel();
        let worker = WorkerKey::generate(Suite::X25519);
        let granted = key.sign(&evidence_of(key.id(), &worker));
        let shared = Arc::new(Shared {
            key,
            transport,
            worker,
            granted,
            begun,
            lie: Mutex::new(0.0),
            release: Notify::new(),
            streams: AtomicUsize::new(0),
            stalled: AtomicUsize::new(0),
            till: Till::default(),
            cancelled: (sender, tokio::sync::Mutex::new(receiver)),
            wrong: Mutex::default(),
        });
        let node = Self { shared };
        let listening = node.clone();
        tokio::spawn(async move {
            while let Some(incoming) = listening.shared.transport.accept().await {
                let node = listening.clone();
                tokio::spawn(async move {
                    let Ok(connection) = incoming.handshake().await else { return };
                    while let Some((sender, receiver)) = connection.accept_stream().await {
                        node.shared.streams.fetch_add(1, Ordering::SeqCst);
                        let (node, connection) = (node.clone(), connection.clone());
                        tokio::spawn(async move { node.serve(&connection, sender, receiver).await });
                    }
                });
            }
        });
        node
    }

    pub(crate) fn key(&self) -> &MachineKey {
        &self.shared.key
    }

    /// What it has receipts for, as soon as every order of its has one.
    pub(crate) async fn paid(&self) -> Vec<(Order, Receipt)> {
        loop {
            let changed = self.shared.till.changed.notified();
            let paid = self.shared.till.paid.lock().unwrap().clone();
            if !paid.is_empty() && paid.len() == self.orders() {
                return paid;
            }
            changed.await;
        }
    }

    /// Orders that it got.
    pub(crate) fn orders(&self) -> usize {
        self.shared.till.orders.load(Ordering::SeqCst)
    }

    /// What was acknowledged to it: tokens read and generated.
    pub(crate) fn acks(&self) -> Vec<(u32, u32)> {
        self.shared.till.acks.lock().unwrap().clone()
    }

    pub(crate) fn id(&self) -> NodeId {
        self.shared.key.id()
    }

    pub(crate) fn evidence(&self) -> WorkerEvidence {
        evidence_of(self.id(), &self.shared.worker)
    }

    pub(crate) fn candidate(&self) -> Offer {
        let evidence = self.shared.granted.clone();
        Offer { node: self.id(), addresses: self.shared.transport.addresses(), evidence }
    }

    /// Evidence under its own key.
    pub(crate) fn sign(&self, evidence: &WorkerEvidence) -> Signed<WorkerEvidence> {
        self.shared.key.sign(evidence)
    }

    /// From now on it reports other log-probabilities than its model has.
    pub(crate) fn lie(&self, by: f32) {
        *self.shared.lie.lock().unwrap() = by;
    }

    /// What is stalled goes on.
    pub(crate) fn release(&self) {
        self.shared.release.notify_waiters();
    }

    /// Streams that were opened to it.
    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }

    /// Waits until a task stalls in it.
    pub(crate) async fn stalled(&self) {
        crate::within(async {
            while self.shared.stalled.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The next task that its asker gave up while it ran.
    pub(crate) async fn cancelled(&self) -> TaskId {
        self.shared.cancelled.1.lock().await.recv().await.unwrap()
    }

    /// Asks for a continuation that did not fit what was there.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.shared.wrong.lock().unwrap().clone()
    }

    pub(crate) async fn close(&self) {
        self.shared.transport.close().await;
    }

    async fn serve(&self, connection: &Connection, mut sender: Sender, mut receiver: Receiver) {
        // A connection may be cut at any time.
        let Ok(Some(permit)) = receiver.message::<Signed<Permit>>(limits::PERMIT_BYTES_MAX).await else { return };
        let permit = trust::open(&permit).unwrap();
        assert_eq!((permit.node, permit.client), (self.id(), connection.remote()));
        let sealed = receiver.message::<SealedTask>(limits::STREAM_MESSAGE_BYTES_MAX).await;
        let Ok(Some(sealed)) = sealed else { return };
        let paid = match permit.price {
            None => None,
            Some(price) => match receiver.message::<Payment>(limits::PAYMENT_BYTES_MAX).await {
                Ok(Some(Payment::Order(signed))) => {
                    let order = trust::open(&signed).unwrap();
                    assert_eq!((order.ceiling, order.task, order.node), (price, permit.task, self.id()));
                    self.shared.till.orders.fetch_add(1, Ordering::SeqCst);
                    Some((order, signed.digest()))
                }
                _ => return,
            },
        };
        let (task, sealer) = self.shared.worker.open_task(permit.task, &sealed).unwrap();
        let mut stream =
            Stream { node: self, connection, sender: &mut sender, sealer, id: permit.task, last: Vec::new() };
        // An error: nobody listens any more.
        let Some((order, digest)) = paid else {
            if stream.serve(&task).await.is_ok() {
                sender.finish();
            }
            return;
        };
        // Whatever becomes of the answer, its asker says in the end how much of it came.
        let last = {
            let last = self.last(&mut receiver);
            tokio::pin!(last);
            let came = tokio::select! {
                _ = stream.serve(&task) => None,
                came = &mut last => Some(came),
            };
            match came {
                Some(came) => came,
                None => last.await,
            }
        };
        if let Some(ack) = last {
            self.settle(&mut sender, &mut receiver, (permit.client, order, digest), &ack).await;
        }
    }

    /// Hears acknowledgements up to the last one.
    async fn last(&self, receiver: &mut Receiver) -> Option<Ack> {
        loop {
            let (signed, is_last) = match receiver.message::<Payment>(limits::PAYMENT_BYTES_MAX).await {
                Ok(Some(Payment::Ack(ack))) => (ack, false),
                Ok(Some(Payment::Last(ack))) => (ack, true),
                other => {
                    assert!(!matches!(other, Ok(Some(_))), "{other:?}");
                    return None;
                }
            };
            let ack = trust::open(&signed).unwrap();
            self.shared.till.acks.lock().unwrap().push((ack.prompt_tokens, ack.output_tokens));
            if is_last {
                return Some(ack);
            }
        }
    }

    async fn settle(
        &self,
        sender: &mut Sender,
        receiver: &mut Receiver,
        (client, order, digest): (NodeId, Order, [u8; 32]),
        ack: &Ack,
    ) {
        let line = ReceiptLine {
            task: ack.task,
            order: digest,
            model: MODEL,
            prompt_tokens: ack.prompt_tokens,
            output_tokens: ack.output_tokens,
            price: ack.price,
            evidence: trust::evidence::digest(&self.shared.granted),
            started_unix_ms: 1,
            ended_unix_ms: 2,
        };
        let receipt = Receipt { pool: ack.pool, client, node: self.id(), lines: vec![line] };
        let receipt = self.shared.key.sign(&receipt);
        if sender.message(&Reply::Due(receipt.clone()), limits::STREAM_MESSAGE_BYTES_MAX).await.is_err() {
            return;
        }
        let Ok(Some(Payment::Countersigned(countersignature))) =
            receiver.message::<Payment>(limits::PAYMENT_BYTES_MAX).await
        else {
            return;
        };
        let receipt = Countersigned { receipt, countersignature }.open(&trust::Strict).expect("both have signed");
        self.shared.till.paid.lock().unwrap().push((order, receipt));
        self.shared.till.changed.notify_waiters();
        sender.finish();
    }
}

/// What a node is paid.
#[derive(Default)]
struct Till {
    orders: AtomicUsize,
    acks: Mutex<Vec<(u32, u32)>>,
    paid: Mutex<Vec<(Order, Receipt)>>,
    changed: Notify,
}

struct Stream<'a> {
    node: &'a StubNode,
    connection: &'a Connection,
    sender: &'a mut Sender,
    sealer: FrameSealer,
    id: TaskId,
    last: Vec<u8>,
}

/// The stream is over.
struct Over;

impl Stream<'_> {
    async fn serve(&mut self, task: &Task) -> Result<(), Over> {
        let (script, begun) = match task {
            Task::Chat { messages, .. } => begin(&messages.last().unwrap().content, self.node),
            Task::Embedding { inputs } => begin(&inputs[0], self.node),
            _ => (Script::undisturbed(0), 1),
        };
        let fault = script.cause.filter(|_| begun <= script.times).map(|cause| (cause, script.at));
        match fault {
            Some((Cause::Full, _)) => return self.reply(&Reply::Refused(Refused::Full)).await,
            Some((Cause::NoAnswer, _)) => return self.wait_for_the_asker().await,
            Some((Cause::HungUp, _)) => return Err(Over),
            _ => {}
        }
        self.reply(&Reply::Accepted).await?;
        match task {
            Task::Chat { generation, .. } => {
                let tokens = script.tokens.min(generation.max_tokens.map_or(usize::MAX, |most| most as usize));
                let there = &generation.resume;
                let right = there.ids.iter().copied().eq((0..there.ids.len()).map(script::id))
                    && there.text_bytes == script::text(there.ids.len(), tokens).len() as u64
                    && generation.sampling.seed.is_some();
                if !right {
                    self.node.shared.wrong.lock().unwrap().push(format!("{there:?} of {script:?}"));
                }
                self.generate(fault, there.ids.len(), tokens).await?;
                self.done(tokens).await
            }
            Task::Embedding { inputs } => {
                self.disturb(fault, 0).await?;
                self.frame(&Frame::Started { prompt_tokens: PROMPT_TOKENS }).await?;
                for index in 0..inputs.len() {
                    self.disturb(fault, index + 1).await?;
                    self.frame(&Frame::Embedding { index: u32::try_from(index).unwrap(), vector: vec![1.0] }).await?;
                }
                self.disturb(fault, inputs.len() + 1).await?;
                self.done(0).await
            }
            Task::Score { ids, .. } => {
                self.frame(&Frame::Started { prompt_tokens: PROMPT_TOKENS }).await?;
                let lie = *self.node.shared.lie.lock().unwrap();
                let log_probs: Vec<f32> = (0..ids.len()).map(|place| script::log_prob(place) - lie).collect();
                self.frame(&Frame::Scores { best: log_probs.clone(), log_probs }).await?;
                self.done(0).await
            }
            Task::Completion { .. } => unreachable!("no test sends one"),
        }
    }

    async fn generate(&mut self, fault: Option<(Cause, usize)>, there: usize, tokens: usize) -> Result<(), Over> {
        if there == 0 {
            self.disturb(fault, 0).await?;
        } else if fault.is_some_and(|(cause, _)| cause == Cause::Poison) {
            let error = TaskError::Invalid { message: "no such token".to_owned() };
            self.frame(&Frame::Failed { error }).await?;
            return self.wait_for_the_asker().await;
        }
        self.frame(&Frame::Started { prompt_tokens: PROMPT_TOKENS }).await?;
        let lie = *self.node.shared.lie.lock().unwrap();
        for place in there..tokens {
            self.disturb(fault, place + 1).await?;
            let (before, after) = (script::text(place, tokens), script::text(place + 1, tokens));
            let (ids, log_probs) = (vec![script::id(place)], vec![script::log_prob(place) - lie]);
            self.frame(&Frame::Tokens { ids, text: after[before.len()..].to_owned(), log_probs }).await?;
        }
        self.disturb(fault, tokens + 1).await
    }

    async fn done(&mut self, tokens: usize) -> Result<(), Over> {
        let usage = Usage { prompt_tokens: PROMPT_TOKENS, completion_tokens: u32::try_from(tokens).unwrap() };
        self.frame(&Frame::Done { finish: Finish::Length, usage }).await?;
        self.reply(&Reply::Finished).await
    }

    async fn disturb(&mut self, fault: Option<(Cause, usize)>, step: usize) -> Result<(), Over> {
        let Some((cause, _)) = fault.filter(|(_, at)| *at == step) else { return Ok(()) };
        let failed = |error| Frame::Failed { error };
        match cause {
            Cause::Reset => self.sender.reset(),
            Cause::CloseConnection => self.connection.close("cut"),
            Cause::EndStream => self.sender.finish(),
            Cause::Freeze => self.wait_for_the_asker().await?,
            Cause::Stall => return self.stall().await,
            Cause::WorkerLost | Cause::Poison => self.reply(&Reply::WorkerLost).await?,
            Cause::HandedBack => self.reply(&Reply::HandedBack).await?,
            Cause::FinishedEarly => self.reply(&Reply::Finished).await?,
            Cause::RefusedLate => self.reply(&Reply::Refused(Refused::Worker(Rejection::UnknownKey))).await?,
            Cause::OutOfTurn => self.reply(&Reply::Accepted).await?,
            Cause::Corrupt => {
                let mut sealed = self.seal(&Frame::Tokens { ids: vec![1], text: "!".to_owned(), log_probs: vec![0.0] });
                sealed[3] ^= 1;
                self.reply(&Reply::Frames(vec![sealed])).await?;
            }
            Cause::Doubled => {
                // The very first frame has none before it: then it is one of another stream.
                let last = if self.last.is_empty() { vec![7; 80] } else { self.last.clone() };
                self.reply(&Reply::Frames(vec![last])).await?;
            }
            Cause::Misplaced => {
                let vector = Frame::Embedding { index: u32::MAX, vector: vec![0.0] };
                self.frame(&vector).await?;
            }
            Cause::EngineFailed => self.frame(&failed(TaskError::Engine { message: "out of luck".to_owned() })).await?,
            Cause::Invalid => self.frame(&failed(TaskError::Invalid { message: "no such thing".to_owned() })).await?,
            Cause::ShuttingDown => self.frame(&failed(TaskError::ShuttingDown)).await?,
            Cause::Full | Cause::NoAnswer | Cause::HungUp => unreachable!("before it took the task"),
        }
        self.wait_for_the_asker().await
    }

    /// Alive, and nothing else, until it is released or given up.
    async fn stall(&mut self) -> Result<(), Over> {
        let released = self.node.shared.release.notified();
        // Whoever sees the count can release it.
        self.node.shared.stalled.fetch_add(1, Ordering::SeqCst);
        tokio::pin!(released);
        loop {
            tokio::select! {
                () = &mut released => return Ok(()),
                () = tokio::time::sleep(Duration::from_millis(stream::KEEP_ALIVE_MS)) => {
                    if self.reply(&Reply::KeepAlive).await.is_err() {
                        return self.wait_for_the_asker().await;
                    }
                }
            }
        }
    }

    async fn wait_for_the_asker(&mut self) -> Result<(), Over> {
        self.sender.stopped().await;
        let _ = self.node.shared.cancelled.0.send(self.id);
        Err(Over)
    }

    fn seal(&mut self, frame: &Frame) -> Vec<u8> {
        self.sealer.seal(frame).unwrap()
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), Over> {
        let sealed = self.seal(frame);
        self.last.clone_from(&sealed);
        self.reply(&Reply::Frames(vec![sealed])).await
    }

    async fn reply(&mut self, reply: &Reply) -> Result<(), Over> {
        self.sender.message(reply, limits::STREAM_MESSAGE_BYTES_MAX).await.map_err(|_| Over)
    }
}

/// The script of a prompt, and how often it was begun in the pool of this node.
fn begin(prompt: &str, node: &StubNode) -> (Script, usize) {
    let mut begun = node.shared.begun.lock().unwrap();
    let count = begun.entry(prompt.to_owned()).or_default();
    *count += 1;
    (Script::parse(prompt), *count)
}
