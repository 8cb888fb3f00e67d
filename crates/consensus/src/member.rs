//! One member: the engine and its parts, wired, the same for every runtime.

mod epochs;
mod storage;

use crate::{
    Application, Block, Config, Network, Standing, Start, StartError,
    channels::{self, Ahead, Heard, Router},
    judge::{Judge, Judging, Marshal, unix_ms},
    scheme::{self, Schemes},
};
use commonware_actor::Feedback;
use commonware_broadcast::buffered;
use commonware_consensus::marshal::{self, Identifier, Update, standard::Inline};
use commonware_consensus::{Reporter, types::FixedEpocher, types::Height};
use commonware_cryptography::{Digested, ed25519::PublicKey};
use commonware_macros::select;
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Clock, Handle, Metrics, Spawner, Storage};
use commonware_utils::{Acknowledgement as _, NZDuration, acknowledgement::Exact, vec::NonEmptyVec};
use epochs::Epoch;
use protocol::{header::Anchor, ids::NodeId};
use std::{
    num::NonZeroU64,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Until an old block is asked for again, and from somebody else.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
const FETCH_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How often a machine that is not of the committee asks for what is new.
const FOLLOW: Duration = Duration::from_secs(2);
/// How far back the newest certificate is looked for.
const CERTIFICATES_BACK: u64 = 256;

/// A runtime for the engine.
pub(crate) trait Engine: Clock + rand::CryptoRng + Spawner + Storage + Metrics {}
impl<E: Clock + rand::CryptoRng + Spawner + Storage + Metrics> Engine for E {}

/// What the rest of the program may ask of a running member.
pub(crate) enum Command {
    Block(u64, oneshot::Sender<Option<Block>>),
    Anchor(u64, oneshot::Sender<Option<Anchor>>),
    Prune(u64),
    Stop,
}

/// What a member needs beside its runtime.
pub(crate) struct Parts {
    pub(crate) config: Config,
    /// In front of the names of its partitions, where several members share one storage.
    pub(crate) prefix: String,
    pub(crate) application: Arc<dyn Application>,
    pub(crate) network: Network,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) height: Arc<AtomicU64>,
    pub(crate) heard: Heard,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
}

type Final = (Digested<Block>, Exact);

/// Passes final blocks on to the member's own loop, in which the application is told, and which acknowledges.
#[derive(Clone)]
struct Delivery(mpsc::UnboundedSender<Final>);

impl Reporter for Delivery {
    type Activity = Update<Block>;

    fn report(&mut self, update: Update<Block>) -> Feedback {
        if let Update::Block(block, acknowledgement) = update {
            // Without a receiver the member is stopping, and the block comes again at its next start.
            let _ = self.0.send((block, acknowledgement));
        }
        Feedback::Ok
    }
}

/// The next hint. Where the network is gone there is none any more, and nothing to be done about it.
async fn hinted(hints: &mut mpsc::Receiver<Ahead>) -> Ahead {
    match hints.recv().await {
        Some(ahead) => ahead,
        None => std::future::pending().await,
    }
}

/// A member without the engine of its epoch.
struct Member<E: Engine> {
    context: E,
    config: Config,
    prefix: String,
    me: NodeId,
    judge: Judge,
    schemes: Schemes,
    router: Router,
    marshal: Marshal,
    inline: Inline<E, scheme::Scheme, Judging, Block, FixedEpocher>,
    page_cache: CacheRef,
    standing: watch::Sender<Standing>,
    epoch: Epoch,
    /// Who spoke of the latest epoch yet.
    ahead: Option<Ahead>,
}

/// Runs a member until it is told to stop. `started` is told how the start went. The error is why it is down.
pub(crate) async fn run<E: Engine>(
    context: E,
    parts: Parts,
    started: oneshot::Sender<Result<(), StartError>>,
) -> Result<(), String> {
    let Parts { config, prefix, application, network, standing, height, heard, mut commands } = parts;
    let prepared = prepare(&context, &config, &application).await;
    let (floor, tip) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            let why = error.to_string();
            let _ = started.send(Err(error));
            return Err(why);
        }
    };
    let (router, mut hints) = routed(&context, config.key.id(), network, heard);
    let begun = begin(context, config, prefix, application, router, standing, height, floor, tip).await;
    let (mut member, mut finals, mut vital) = match begun {
        Ok(begun) => begun,
        Err(why) => {
            let _ = started.send(Err(StartError::Engine(why.clone())));
            return Err(why);
        }
    };
    let _ = started.send(Ok(()));
    let outcome = member.live(&mut finals, &mut hints, &mut commands, &mut vital).await;
    member.epoch.end(&member.router);
    outcome
}

/// What is checked before anything is started: the floor for the engine, and where the application is.
async fn prepare<E: Engine>(
    context: &E,
    config: &Config,
    application: &Arc<dyn Application>,
) -> Result<(Option<scheme::Finalization>, Block), StartError> {
    let genesis = application.genesis();
    let header = genesis.header();
    if config.epoch_blocks < 2 || header.height != 0 || header.epoch != 0 || header.pool != config.pool {
        return Err(StartError::Genesis);
    }
    let Start::After { block, anchor } = &config.start else { return Ok((None, genesis)) };
    let header = block.header();
    if header.height == 0 {
        return if block.digest() == genesis.digest() { Ok((None, genesis)) } else { Err(StartError::Genesis) };
    }
    let epoch = header.height / u64::from(config.epoch_blocks);
    let committee = application.committee(epoch).ok_or(StartError::Committee(epoch))?;
    let verifier = scheme::verifier(config.pool, &committee).ok_or(StartError::Committee(epoch))?;
    let is_its_own = anchor.header == *header && header.pool == config.pool && header.epoch == epoch;
    let finalization = scheme::finalization(anchor, committee.members().len()).filter(|_| is_its_own);
    let finalization = finalization.ok_or(StartError::Anchor)?;
    // The engine panics over a floor that does not verify.
    let mut chance = context.child("anchor");
    if !finalization.verify(&mut chance, &verifier, &Sequential) {
        return Err(StartError::Anchor);
    }
    Ok((Some(finalization), block.clone()))
}

fn routed<E: Engine>(context: &E, me: NodeId, network: Network, heard: Heard) -> (Router, mpsc::Receiver<Ahead>) {
    let router = Router::new(me, network.send, heard);
    let (hints, hinted) = channels::hints();
    let receiving = router.clone();
    context.child("network").spawn(move |context| async move {
        receiving.receive(network.receive, hints, || unix_ms(context.current())).await
    });
    (router, hinted)
}

/// Tasks without which a member is down.
struct Vital {
    marshal: Handle<()>,
    broadcast: Handle<()>,
}

#[expect(clippy::too_many_arguments, reason = "called once, with what `run` has gathered")]
async fn begin<E: Engine>(
    context: E,
    config: Config,
    prefix: String,
    application: Arc<dyn Application>,
    router: Router,
    standing: watch::Sender<Standing>,
    height: Arc<AtomicU64>,
    floor: Option<scheme::Finalization>,
    tip: Block,
) -> Result<(Member<E>, mpsc::UnboundedReceiver<Final>, Vital), String> {
    let me = config.key.id();
    let key = scheme::public_key(me).ok_or("this machine's id is no key")?;
    let page_cache = storage::page_cache();
    let epocher = FixedEpocher::new(NonZeroU64::new(config.epoch_blocks.into()).ok_or("an epoch has blocks")?);
    let schemes = Schemes::new(config.pool, application.clone(), config.key.clone(), config.signs_from_epoch);

    let backfill = marshal::resolver::p2p::init(
        context.child("backfill"),
        marshal::resolver::p2p::Config {
            public_key: key.clone(),
            peer_provider: router.clone(),
            blocker: router.clone(),
            mailbox_size: storage::MAILBOX,
            fetch_timeout: NZDuration!(FETCH_TIMEOUT),
            fetch_retry_delay: FETCH_RETRY_DELAY,
            priority_requests: false,
            priority_responses: false,
        },
        router.shared(channels::BACKFILL),
    );
    let (broadcast, buffer) = buffered::Engine::new(
        context.child("broadcast"),
        buffered::Config {
            public_key: key,
            mailbox_size: storage::MAILBOX,
            deque_size: 64,
            priority: true,
            codec_config: (),
            peer_provider: router.clone(),
            strategy: Sequential,
        },
    );
    let broadcast = broadcast.start(router.shared(channels::BLOCKS));

    let archives = storage::open(&context, &prefix, &page_cache, floor.as_ref().map(|_| &tip)).await?;
    let start = match floor {
        Some(floor) => marshal::Start::Floor(floor),
        None => marshal::Start::Genesis(application.genesis().digested()),
    };
    let (actor, marshal, _) = marshal::core::Actor::init(
        context.child("marshal"),
        archives.finalizations,
        archives.blocks,
        storage::marshal(&prefix, &page_cache, schemes.clone(), epocher.clone(), start),
    )
    .await;
    let (delivery, finals) = mpsc::unbounded_channel();
    let actor = actor.start(Delivery(delivery), buffer, backfill);

    let judge = Judge::new(application, config.pool, config.epoch_blocks, tip, height);
    let judging = Judging { judge: judge.clone(), marshal: marshal.clone() };
    let inline = Inline::new(context.child("application"), judging, marshal.clone(), epocher);
    let epoch = Epoch::default();
    let mut member = Member {
        context,
        config,
        prefix,
        me,
        judge,
        schemes,
        router,
        marshal,
        inline,
        page_cache,
        standing,
        epoch,
        ahead: None,
    };
    member.replay().await?;
    Ok((member, finals, Vital { marshal: actor, broadcast }))
}

impl<E: Engine> Member<E> {
    /// Tells the application the blocks that are final already and that it does not have, and enters the epoch behind them.
    async fn replay(&mut self) -> Result<(), String> {
        let first = self.judge.tip().header().height + 1;
        let processed = self.marshal.get_processed().await.map_or(0, |processed| processed.height().get());
        // The store delivers what is behind the last acknowledged block again; but whoever waits for the start wants it now.
        let stored = self.marshal.get_info(Identifier::Latest).await.map_or(0, |(height, _)| height.get());
        for height in first..=processed.max(stored) {
            match self.block(height).await {
                Some(block) => self.judge.finalised(block),
                None if height > processed => break,
                None => return Err(format!("block {height} is not on the disk")),
            }
        }
        let tip = self.judge.tip().header().height;
        for height in (tip.saturating_sub(CERTIFICATES_BACK)..=tip).rev() {
            if let Some(anchor) = self.anchor(height).await {
                self.judge.application().certified(anchor);
                break;
            }
        }
        self.enter(self.epoch_after(tip), true).await
    }

    /// The epoch of the block that follows.
    fn epoch_after(&self, height: u64) -> u64 {
        (height + 1) / u64::from(self.config.epoch_blocks)
    }

    /// The last block of the epoch before.
    fn boundary(&self, epoch: u64) -> u64 {
        (epoch * u64::from(self.config.epoch_blocks)).saturating_sub(1)
    }

    async fn live(
        &mut self,
        finals: &mut mpsc::UnboundedReceiver<Final>,
        hints: &mut mpsc::Receiver<Ahead>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        vital: &mut Vital,
    ) -> Result<(), String> {
        loop {
            let is_follower = !self.epoch.runs();
            let follow = self.context.sleep(FOLLOW);
            select! {
                command = commands.recv() => match command {
                    Some(Command::Stop) | None => { return Ok(()); },
                    Some(command) => self.obey(command).await,
                },
                delivered = finals.recv() => {
                    let Some((block, acknowledgement)) = delivered else {
                        return Err("the store of blocks has stopped".to_owned());
                    };
                    self.deliver(block.inner().clone()).await?;
                    acknowledgement.acknowledge();
                },
                ahead = hinted(hints) => {
                    self.ahead = Some(ahead);
                    self.hasten();
                },
                _ = &mut vital.marshal => { return Err("the store of blocks has stopped".to_owned()); },
                _ = &mut vital.broadcast => { return Err("the buffer of blocks has stopped".to_owned()); },
                _ = self.epoch.ended() => { return Err("the engine of the epoch has stopped".to_owned()); },
                _ = follow => {
                    if is_follower {
                        self.follow();
                    }
                },
            }
        }
    }

    async fn deliver(&mut self, block: Block) -> Result<(), String> {
        let height = block.header().height;
        let is_news = height > self.judge.tip().header().height;
        self.judge.finalised(block);
        if !is_news {
            return Ok(());
        }
        if let Some(anchor) = self.anchor(height).await {
            self.judge.application().certified(anchor);
        }
        self.standing.send_modify(|standing| standing.height = height);
        let epoch = self.epoch_after(height);
        if epoch > self.epoch.number() {
            self.enter(epoch, false).await?;
            self.hasten();
        } else {
            self.settle().await?;
        }
        if !self.epoch.runs() {
            self.follow();
        }
        Ok(())
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Block(height, answer) => {
                let _ = answer.send(self.block(height).await);
            }
            Command::Anchor(height, answer) => {
                let _ = answer.send(self.anchor(height).await);
            }
            Command::Prune(below) => {
                // The engine of an epoch is started on the last block of the epoch before.
                let below = below.min(self.boundary(self.epoch.number()));
                self.marshal.prune(Height::new(below));
            }
            Command::Stop => {}
        }
    }

    async fn block(&self, height: u64) -> Option<Block> {
        let block = self.marshal.get_block(Identifier::Height(Height::new(height))).await?;
        Some(block.inner().clone())
    }

    async fn anchor(&self, height: u64) -> Option<Anchor> {
        let finalization = self.marshal.get_finalization(Height::new(height)).await?;
        let block = self.block(height).await?;
        scheme::anchor(block.header().clone(), &finalization)
    }

    /// If another is in a later epoch than this one: with the certificate of this epoch's last block everything before it
    /// can be fetched.
    fn hasten(&self) {
        if let Some(ahead) = self.ahead.as_ref().filter(|ahead| ahead.epoch > self.epoch.number()) {
            self.ask_for_boundary(NonEmptyVec::new(ahead.member.clone()));
        }
    }

    fn ask_for_boundary(&self, members: NonEmptyVec<PublicKey>) {
        let last = self.boundary(self.epoch.number() + 1);
        self.marshal.hint_finalized(Height::new(last), members);
    }

    /// No engine tells a machine that is not of the committee what is new: it has to ask.
    fn follow(&self) {
        let Ok(others) = NonEmptyVec::try_from(self.router.others()) else { return };
        self.marshal.hint_finalized(Height::new(self.judge.tip().header().height + 1), others.clone());
        self.ask_for_boundary(others);
    }
}
