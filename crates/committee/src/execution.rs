//! What a block makes of the state before it: the one function by which members build, judge and take in blocks.

use crate::{body, faults, signatures::Remembering};
use consensus::{Block, body_digest, verify_fault};
use protocol::{
    header::{Committee, Header},
    ids::{AccountId, PoolId},
    limits,
    proof::Digest,
    signed::Signed,
};
use registry::{Authenticated, BlockContext, Bundle, BundleError, Fact, Rejection, State, Step};

const BUNDLE: &str = "darkbloom 2026-11 bundle 1";

/// Names a signed bundle: its author, what it says, and the signature.
pub(crate) type BundleId = Digest;

pub(crate) fn bundle_id(signed: &Signed<Bundle>) -> BundleId {
    *blake3::Hasher::new_derive_key(BUNDLE)
        .update(&signed.signer.0)
        .update(&signed.signature())
        .update(&signed.payload)
        .finalize()
        .as_bytes()
}

/// A block, and the state after it.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) header: Header,
    pub(crate) digest: Digest,
    pub(crate) state: State,
    /// Its beginning, and then one for each bundle. Empty where the state came otherwise.
    pub(crate) steps: Vec<Step>,
    pub(crate) bundles: Vec<Included>,
}

/// A bundle of a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Included {
    pub(crate) id: BundleId,
    pub(crate) author: AccountId,
    pub(crate) sequence: u64,
}

impl Executed {
    /// A block whose state is known, from wherever.
    pub(crate) fn known(block: &Block, state: State) -> Self {
        let (header, digest) = (block.header().clone(), block.digest());
        Self { header, digest, state, steps: Vec::new(), bundles: Vec::new() }
    }
}

/// Why a block is none that may follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("its header does not follow that of the block before")]
    Header,
    #[error("its body is no list of bundles")]
    Body,
    #[error("bundle {number}: {error}")]
    Bundle { number: usize, error: Rejection },
    #[error("the beginning of the block: {0}")]
    Begin(Rejection),
    #[error("it does not lead to the state that its header names")]
    State,
    #[error("its header names other committees than the state does")]
    Committee,
}

/// What members of a pool know of it from its beginning on.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) pool: PoolId,
    pub(crate) epoch_blocks: u64,
    pub(crate) signatures: Remembering,
}

impl Rules {
    pub(crate) fn epoch(&self, height: u64) -> u64 {
        height / self.epoch_blocks
    }

    pub(crate) fn is_last(&self, height: u64) -> bool {
        (height + 1).is_multiple_of(self.epoch_blocks)
    }

    /// Of the block behind `parent`, at this time or as soon after its parent as can be.
    pub(crate) fn context(&self, parent: &Header, unix_ms: u64) -> BlockContext {
        let height = parent.height + 1;
        BlockContext { height, epoch: self.epoch(height), unix_ms: unix_ms.max(parent.unix_ms.saturating_add(1)) }
    }

    /// A bundle whose signature holds.
    pub(crate) fn open(&self, signed: &Signed<Bundle>) -> Result<Authenticated, BundleError> {
        Authenticated::open(signed, &self.signatures)
    }

    /// What a bundle makes of a state. There is no other way here to apply one.
    pub(crate) fn apply(&self, state: &State, bundle: &Authenticated) -> Result<Step, Rejection> {
        let step = state.apply(bundle, &self.signatures)?;
        // The registry knows no votes. Last, because it costs most, and not everybody may accuse.
        let is_shown = bundle.bundle().facts.iter().all(|fact| self.is_shown(state, fact));
        if is_shown { Ok(step) } else { Err(Rejection::Signature) }
    }

    /// Whether the evidence holds of a member that is said to have contradicted itself.
    fn is_shown(&self, state: &State, fact: &Fact) -> bool {
        let Some(fault) = faults::of_fact(fact) else { return !matches!(fact, Fact::Fault { .. }) };
        let committee = state.committee_of(fault.epoch);
        committee.is_some_and(|committee| verify_fault(self.pool, &committee, &fault))
    }

    /// What a block leads to, if it may follow `parent` at all: everything but its time is looked at.
    pub(crate) fn execute(&self, parent: &Executed, block: &Block) -> Result<Executed, Invalid> {
        let header = block.header();
        let context = self.context(&parent.header, header.unix_ms);
        if header.pool != self.pool
            || header.parent != parent.digest
            || (header.height, header.epoch, header.unix_ms) != (context.height, context.epoch, context.unix_ms)
        {
            return Err(Invalid::Header);
        }
        let mut draft = Draft::begin(self, parent, &context).map_err(Invalid::Begin)?;
        for (number, signed) in body::decode(block.body()).ok_or(Invalid::Body)?.iter().enumerate() {
            let refused = |error| Invalid::Bundle { number, error };
            let bundle = self.open(signed).map_err(|error| refused(error.into()))?;
            draft.add(&bundle, bundle_id(signed)).map_err(refused)?;
        }
        let expected = self.committees(draft.state(), header.height).ok_or(Invalid::Committee)?;
        if (header.committee, header.next_committee) != (expected.0.digest(), expected.1.digest()) {
            return Err(Invalid::Committee);
        }
        if draft.state().root() != header.state {
            return Err(Invalid::State);
        }
        Ok(draft.finish(header.clone(), block.digest()))
    }

    /// Who signs the block of this height, after which the state is this, and who signs the next one.
    pub(crate) fn committees(&self, state: &State, height: u64) -> Option<(Committee, Committee)> {
        let committee = state.committee()?;
        let next = if self.is_last(height) { state.next_committee()? } else { committee.clone() };
        Some((committee, next))
    }

    /// The block of a draft and these bundles, which are those that were added to it.
    pub(crate) fn seal(
        &self,
        parent: &Executed,
        context: &BlockContext,
        draft: Draft<'_>,
        bundles: &[&Signed<Bundle>],
    ) -> Option<(Block, Executed)> {
        let body = body::encode(bundles).ok()?;
        let (committee, next) = self.committees(draft.state(), context.height)?;
        let header = Header {
            pool: self.pool,
            epoch: context.epoch,
            height: context.height,
            parent: parent.digest,
            unix_ms: context.unix_ms,
            state: draft.state().root(),
            body: body_digest(&body),
            committee: committee.digest(),
            next_committee: next.digest(),
        };
        let block = Block::new(header.clone(), body)?;
        let executed = draft.finish(header, block.digest());
        Some((block, executed))
    }
}

/// A block while bundles are added to it.
pub(crate) struct Draft<'a> {
    rules: &'a Rules,
    steps: Vec<Step>,
    bundles: Vec<Included>,
}

impl<'a> Draft<'a> {
    pub(crate) fn begin(rules: &'a Rules, parent: &Executed, context: &BlockContext) -> Result<Self, Rejection> {
        let begun = parent.state.begin(context)?;
        Ok(Self { rules, steps: vec![begun], bundles: Vec::new() })
    }

    pub(crate) fn state(&self) -> &State {
        &self.steps.last().expect("it begins with a step").state
    }

    pub(crate) fn bundles(&self) -> usize {
        self.bundles.len()
    }

    /// Adds a bundle, or leaves everything as it was.
    pub(crate) fn add(&mut self, bundle: &Authenticated, id: BundleId) -> Result<(), Rejection> {
        let step = self.rules.apply(self.state(), bundle)?;
        self.steps.push(step);
        let Bundle { author, sequence, .. } = *bundle.bundle();
        self.bundles.push(Included { id, author, sequence });
        debug_assert!(self.bundles.len() <= limits::BLOCK_BUNDLES_MAX, "bodies and proposals are bounded");
        Ok(())
    }

    fn finish(self, header: Header, digest: Digest) -> Executed {
        let state = self.state().clone();
        Executed { header, digest, state, steps: self.steps, bundles: self.bundles }
    }
}
