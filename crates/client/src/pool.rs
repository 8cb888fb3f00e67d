//! The pool as a whole: reading what it has agreed on, proven, and having more agreed on.
//!
//! Records are read with proofs against a root that a quorum of the committee has signed, so an orchestrator can keep
//! something back but not make it up. A list of what there is comes from the orchestrator; each entry in it is proven when it
//! is read.

use crate::{AskError, Client, matching};
use protocol::{
    codec,
    header::Anchor,
    ids::NodeId,
    limits,
    link::{Answer, Question, Submitted, Unanswered},
    pool::Listing,
    proof::Proof,
    time::unix_ms,
    witness::Proofs,
};
use registry::{Bundle, Fact, Record, keys, keys::Key};
use std::time::{Duration, SystemTime};
use trust::{
    MachineKey,
    light::{AnchorError, Light, Root},
};

/// A bundle that is in no block by then counts no more, so that saying the same once more is safe.
const LIFETIME_MS: u64 = 60_000;
/// What a question has beside the bundle in it.
const OVERHEAD_BYTES: usize = 16;
/// How often, and how long apart, is asked again where there were too many questions.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Why something was not agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// It is no fact as things stand, or was not agreed on in time.
    #[error("the pool does not agree: {why}")]
    Refused {
        /// In the orchestrator's words.
        why: String,
    },
    /// More than one bundle holds.
    #[error("that is too much to be agreed on at once: say less at a time")]
    TooLong,
}

impl Client {
    /// Has facts agreed on that the account of `author` says: all of them, or none. How much they changed; 0: all was so
    /// already.
    pub async fn submit(&self, author: &MachineKey, facts: Vec<Fact>) -> Result<u32, SubmitError> {
        let account = author.id().into();
        let last = self.read(&keys::sequence(account)).await?;
        let now_unix_ms = unix_ms(SystemTime::now());
        // The time is a number that nobody has used; a clock that was set back is no reason to stop.
        let sequence = now_unix_ms.max(last.map_or(0, |last| last.saturating_add(1)));
        let bundle = Bundle {
            pool: self.shared.demands.pool,
            author: account,
            sequence,
            not_after_unix_ms: now_unix_ms + LIFETIME_MS,
            facts,
        };
        let signed = author.try_sign(&bundle).map_err(|_| SubmitError::TooLong)?;
        let bundle = codec::encode(&signed, limits::QUESTION_BYTES_MAX - OVERHEAD_BYTES);
        let bundle = bundle.map_err(|_| SubmitError::TooLong)?;
        let answer = self.patiently(|| Question::Submit { bundle: bundle.clone() }).await;
        let error = match answer {
            Ok((_, Answer::Submitted(Submitted::Final { events }))) => return Ok(events),
            Ok((_, Answer::Submitted(Submitted::Refused { why }))) => SubmitError::Refused { why },
            Ok(_) => matching::unexpected().into(),
            Err(error) => error.into(),
        };
        // The first of two tries may have counted, though its answer was lost.
        match self.read(&keys::sequence(account)).await {
            Ok(Some(counted)) if counted == sequence => Ok(1),
            _ => Err(error),
        }
    }

    /// What the pool has agreed on under a key, proven.
    pub async fn read<R: Record>(&self, key: &Key<R>) -> Result<Option<R>, AskError> {
        Ok(self.read_all(std::slice::from_ref(key)).await?.pop().flatten())
    }

    /// As [`Client::read`], for several keys in their order. They may be of different blocks where there are more than
    /// [`limits::PROVEN_MAX`].
    pub async fn read_all<R: Record>(&self, asked: &[Key<R>]) -> Result<Vec<Option<R>>, AskError> {
        let mut records = Vec::with_capacity(asked.len());
        for part in asked.chunks(limits::PROVEN_MAX) {
            let (orchestrator, root, proofs) =
                self.proven(part.iter().map(|key| key.as_bytes().to_vec()).collect()).await?;
            for (key, proof) in part.iter().zip(&proofs) {
                let record = key.check(proof, root.state());
                records
                    .push(record.map_err(|error| AskError::NotBelieved { orchestrator, reason: error.to_string() })?);
            }
        }
        Ok(records)
    }

    /// The ids of everything of a kind. That none is left out is the orchestrator's word.
    pub async fn list(&self, what: Listing) -> Result<Vec<[u8; 32]>, AskError> {
        let mut ids: Vec<[u8; 32]> = Vec::new();
        loop {
            let after = ids.last().copied();
            let (_, answer) = self.patiently(|| Question::List { what, after }).await?;
            let Answer::Listed(page) = answer else { return Err(matching::unexpected()) };
            // Whoever repeats itself would never end.
            let is_behind = page.ids.first().is_none_or(|first| after.is_none_or(|last| last < *first));
            if !is_behind || page.ids.len() > limits::LISTED_MAX || !page.ids.is_sorted() {
                return Err(matching::unexpected());
            }
            let has_more = page.has_more && !page.ids.is_empty();
            ids.extend(page.ids);
            if !has_more || ids.len() > limits::MEMBERS_MAX {
                return Ok(ids);
            }
        }
    }

    /// Proofs of what is under some keys, against a root that is believed, and whose they are.
    async fn proven(&self, asked: Vec<Vec<u8>>) -> Result<(NodeId, Root, Vec<Proof>), AskError> {
        let question = || Question::Prove { keys: asked.clone() };
        let shown = |answer| match answer {
            Answer::Proven(shown) => Ok(*shown),
            _ => Err(matching::unexpected()),
        };
        self.believed(asked.len(), question, shown).await
    }

    /// As many proofs as there are names for them, in the answer to a question.
    pub(crate) async fn shown<const COUNT: usize>(
        &self,
        question: impl Fn() -> Question,
        shown: impl Fn(Answer) -> Result<Proofs, AskError>,
    ) -> Result<(NodeId, Root, [Proof; COUNT]), AskError> {
        let (orchestrator, root, proofs) = self.believed(COUNT, question, shown).await?;
        let proofs = proofs.try_into().expect("they were counted");
        Ok((orchestrator, root, proofs))
    }

    async fn believed(
        &self,
        count: usize,
        question: impl Fn() -> Question,
        shown: impl Fn(Answer) -> Result<Proofs, AskError>,
    ) -> Result<(NodeId, Root, Vec<Proof>), AskError> {
        let mut disbelieved = Vec::new();
        loop {
            let (orchestrator, answer) = self.patiently(&question).await?;
            let shown = shown(answer)?;
            let reason = match self.root(&shown.anchor).await? {
                Ok(root) if shown.proofs.len() == count => return Ok((orchestrator, root, shown.proofs)),
                Ok(_) => "it proves something else than it was asked".to_owned(),
                Err(error) => error.to_string(),
            };
            let has_other = self.shared.link.orchestrators().distrust(orchestrator, &reason);
            if !has_other || disbelieved.contains(&orchestrator) {
                return Err(AskError::NotBelieved { orchestrator, reason });
            }
            disbelieved.push(orchestrator);
        }
    }

    /// The state in a block, if it is one that the pool's committee has signed lately.
    async fn root(&self, anchor: &Anchor) -> Result<Result<Root, AnchorError>, AskError> {
        let known = &self.shared.known;
        let check = |light: &mut Light| light.check(anchor, unix_ms(SystemTime::now()));
        let mut checked = known.with(check);
        if matches!(checked, None | Some(Err(AnchorError::UnknownCommittee { .. }))) {
            known.learn(&self.shared.link).await?;
            checked = known.with(check);
        }
        known.keep_in_passing();
        Ok(checked.expect("a committee is known since the client began"))
    }

    /// Asks, and waits where there are too many questions.
    pub(crate) async fn patiently(&self, question: impl Fn() -> Question) -> Result<(NodeId, Answer), AskError> {
        for _ in 0..BUSY_TRIES {
            match self.shared.link.ask_whom(question()).await? {
                (_, Answer::Unanswered(Unanswered::Busy | Unanswered::NotReady)) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                (_, Answer::Unanswered(why)) => return Err(AskError::Unanswered(why)),
                answered => return Ok(answered),
            }
        }
        Err(AskError::Unanswered(Unanswered::Busy))
    }
}
