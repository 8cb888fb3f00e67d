//! One engine for each epoch.

use super::{
    Engine, FETCH_RETRY_DELAY, FETCH_TIMEOUT, Member,
    storage::{MAILBOX, REPLAY_BUFFER, VIEWS_KEPT, WRITE_BUFFER},
};
use crate::{Pace, channels::Router, fault::Witness, scheme::Scheme};
use commonware_consensus::simplex::{self, Floor, ForwardPolicy, SkipBudget, SkipPolicy, elector};
use commonware_consensus::{Reporters, types};
use commonware_cryptography::{Sha256, blake3::Digest};
use commonware_parallel::Sequential;
use commonware_runtime::{Error, Handle};
use commonware_utils::NZDuration;
use protocol::{header::Committee, ids::NodeId};
use std::{sync::Arc, time::Duration};

/// How long `propose` waits at most until the first block after a start is final, in a committee of one.
const HURRY: Duration = Duration::from_millis(200);
/// Between one timeout and the next longer one.
const SLACK: Duration = Duration::from_secs(1);
const SLACK_ALONE: Duration = Duration::from_millis(100);
/// How often a place that is not free yet is tried.
const RELEASE_RETRY: Duration = Duration::from_millis(5);

/// The epoch that a member is in, and its engine, if the member is of its committee.
#[derive(Default)]
pub(super) struct Epoch {
    number: u64,
    running: Option<Running>,
}

struct Running {
    handle: Handle<()>,
    /// What it has to be started again with, once a block is final.
    hurried: Option<(Committee, Witness)>,
}

impl Epoch {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether this member takes part.
    pub(super) fn runs(&self) -> bool {
        self.running.is_some()
    }

    /// Waits for the engine to end, which it should not.
    pub(super) async fn ended(&mut self) {
        match &mut self.running {
            Some(running) => {
                let _ = (&mut running.handle).await;
            }
            None => std::future::pending().await,
        }
    }

    pub(super) fn end(&mut self, router: &Router) {
        if let Some(running) = self.running.take() {
            running.handle.abort();
            router.close(self.number);
        }
    }
}

impl<E: Engine> Member<E> {
    /// Leaves one epoch for another. Members that are still in the old one ask for its last certificate when they hear of
    /// the new one, so nobody has to stay behind for them.
    pub(super) async fn enter(&mut self, number: u64, is_start: bool) -> Result<(), String> {
        self.epoch.end(&self.router);
        self.epoch.number = number;
        let unknown = || format!("the committee of epoch {number} is not known");
        let committee = self.judge.application().committee(number).ok_or_else(unknown)?;
        // Those of the epoch before still have what others lack.
        let before = number.checked_sub(1).and_then(|before| self.judge.application().committee(before));
        let others = before.iter().flat_map(|before| before.members()).copied();
        self.router.set_members(committee.members().iter().copied().chain(others));
        self.router.expect(number);
        if let Some(old) = number.checked_sub(2) {
            // There is none if this member was not of its committee, or started later.
            let _ = self.context.remove(&self.partition(old), None).await;
        }
        let witness = Witness::new(
            self.config.pool,
            number,
            committee.clone(),
            self.judge.application().clone(),
            self.standing.clone(),
        );
        let witness = witness.ok_or_else(|| format!("the committee of epoch {number} has a member without a key"))?;
        let is_member = committee.contains(self.me);
        let height = self.judge.tip().header().height;
        self.standing.send_modify(|standing| {
            standing.epoch = number;
            standing.view = 0;
            standing.height = height;
            standing.leader = witness.leader(1).filter(|_| is_member);
            standing.votes = is_member && self.schemes.votes(number);
        });
        if is_member {
            // After a start in which everybody has voted and nobody has a certificate only a timeout ends the round, as the
            // engine never repeats its votes; alone that is so whenever the end came between vote and certificate.
            // With several members it is rarer, and a member that began anew would cost the others its turn.
            let hurry = is_start && committee.members().len() == 1;
            self.consent(committee, witness, hurry).await?;
        }
        Ok(())
    }

    /// A block is final: a member alone that began in a hurry may take its time.
    pub(super) async fn settle(&mut self) -> Result<(), String> {
        let Some(running) = self.epoch.running.take_if(|running| running.hurried.is_some()) else { return Ok(()) };
        let number = self.epoch.number;
        running.handle.abort();
        let _ = running.handle.await;
        self.router.close(number);
        self.router.expect(number);
        self.released(&self.partition(number)).await;
        match running.hurried {
            Some((committee, witness)) => self.consent(committee, witness, false).await,
            None => Ok(()),
        }
    }

    /// The end of an engine's handle is not the end of its tasks: waits until its journal can be opened.
    async fn released(&self, partition: &str) {
        for name in self.context.scan(partition).await.unwrap_or_default() {
            while let Err(Error::BlobAlreadyOpen(..)) = self.context.open(partition, &name).await {
                self.context.sleep(RELEASE_RETRY).await;
            }
        }
    }

    fn partition(&self, epoch: u64) -> String {
        format!("{}consensus-{epoch}", self.prefix)
    }

    async fn consent(&mut self, committee: Committee, witness: Witness, hurry: bool) -> Result<(), String> {
        let number = self.epoch.number;
        let scheme = self.schemes.of(number).ok_or_else(|| format!("the committee of epoch {number} is not known"))?;
        let floor = self.floor(number).await?;
        let pace = self.config.pace.unwrap_or_else(|| Pace::of(committee.members().len()));
        let idle = if hurry { HURRY.min(pace.idle) } else { pace.idle };
        self.judge.set_pace(idle, pace.gather);
        let members: Arc<[NodeId]> = committee.members().into();
        let is_mute = !self.schemes.votes(number);
        let [votes, certificates, resolver] = self.router.epoch(number, members, is_mute);
        // Every timeout is longer than `propose` may wait.
        let slack = if committee.members().len() == 1 { SLACK_ALONE } else { SLACK };
        let leader_timeout = idle + slack;
        let certification_timeout = leader_timeout + slack;
        let engine = simplex::Engine::new(
            self.context.child("simplex").with_attribute("epoch", number),
            simplex::Config {
                scheme: Scheme::clone(&scheme),
                elector: elector::RoundRobin::<Sha256>::default(),
                blocker: self.router.clone(),
                automaton: self.inline.clone(),
                relay: self.inline.clone(),
                reporter: Reporters::from((self.inline.clone(), witness.clone())),
                // Otherwise contradictions that come after the certificate may go unseen.
                track_historical_votes: true,
                strategy: Sequential,
                partition: self.partition(number),
                mailbox_size: MAILBOX,
                epoch: types::Epoch::new(number),
                floor,
                replay_buffer: REPLAY_BUFFER,
                write_buffer: WRITE_BUFFER,
                page_cache: self.page_cache.clone(),
                leader_timeout,
                certification_timeout,
                timeout_retry: idle.clamp(Duration::from_millis(50), Duration::from_secs(2)),
                view_retention: VIEWS_KEPT,
                skip: SkipPolicy::Enabled {
                    timeout: certification_timeout + slack * 2,
                    budget: SkipBudget::Participants,
                },
                fetch_timeout: NZDuration!(FETCH_TIMEOUT),
                fetch_retry_delay: FETCH_RETRY_DELAY,
                forward: ForwardPolicy::SilentVoters,
            },
        );
        let handle = engine.start(votes, certificates, resolver);
        self.epoch.running = Some(Running { handle, hurried: hurry.then_some((committee, witness)) });
        Ok(())
    }

    /// What the engine of an epoch builds on: the last block before it, or, if the member came later, a final one.
    async fn floor(&self, epoch: u64) -> Result<Floor<Scheme, Digest>, String> {
        let boundary = self.boundary(epoch);
        let tip = self.judge.tip();
        let block = match boundary {
            0 => Some(self.judge.application().genesis()),
            _ if boundary == tip.header().height => Some(tip.clone()),
            _ => self.block(boundary).await,
        };
        if let Some(block) = block {
            return Ok(Floor::Genesis(Digest(block.digest())));
        }
        for height in (boundary + 1..=tip.header().height).rev() {
            if let Some(finalization) =
                self.marshal.get_finalization(commonware_consensus::types::Height::new(height)).await
            {
                return Ok(Floor::Finalized(finalization));
            }
        }
        Err(format!("there is no certificate to begin epoch {epoch} with"))
    }
}
