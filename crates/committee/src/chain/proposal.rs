//! What goes into a block.

use super::{Chain, forks::Unreached};
use crate::{
    execution::{Draft, Executed},
    locks::locked,
    mempool::Entry,
};
use consensus::Block;
use protocol::{limits, signed::Signed};
use registry::{BlockContext, Bundle, BundleError, Rejection, State};
use std::{collections::VecDeque, sync::Arc};

/// Facts in a block that this member proposes: others have to execute it before they vote.
const FACTS_MAX: usize = 4096;
/// Bundles that do not apply, after which a block is made of those that did.
const REFUSED_MAX: usize = limits::BLOCK_BUNDLES_MAX;
/// What is not a bundle in a body.
const BODY_OVERHEAD_BYTES: usize = 16;

impl Chain {
    pub(super) fn proposal(&self, ancestors: &[Block], epoch: u64, unix_ms: u64) -> Result<Block, Unreached> {
        let parent = locked(&self.forks).reach(&self.rules, ancestors)?;
        let context = self.rules.context(&parent.header, unix_ms);
        if context.epoch != epoch {
            return Err(Unreached::Astray);
        }
        let invalid = |why: Rejection| Unreached::Invalid(why.to_string());
        let draft = Draft::begin(&self.rules, &parent, &context).map_err(invalid)?;
        let (draft, entries) = self.filled(draft, &parent, &context);
        let bundles: Vec<&Signed<Bundle>> = entries.iter().map(|entry| &entry.signed).collect();
        let sealed = self.rules.seal(&parent, &context, draft, &bundles);
        let (block, executed) = sealed.ok_or_else(|| Unreached::Invalid("its body is too long".to_owned()))?;
        locked(&self.forks).keep(executed);
        Ok(block)
    }

    /// Adds what waits and applies, one bundle of each author after the other.
    fn filled<'a>(
        &self,
        mut draft: Draft<'a>,
        parent: &Executed,
        context: &BlockContext,
    ) -> (Draft<'a>, Vec<Arc<Entry>>) {
        let lanes = locked(&self.pending).mempool.lanes();
        let mut lanes: VecDeque<_> = lanes.into_iter().map(|lane| lane.into_iter().peekable()).collect();
        let (mut taken, mut bytes, mut facts, mut refused) = (Vec::new(), BODY_OVERHEAD_BYTES, 0, 0);
        let mut served = None;
        let finalised = self.finalised_beside(parent, context);
        while let Some(mut lane) = lanes.pop_front()
            && draft.bundles() < limits::BLOCK_BUNDLES_MAX
            && refused < REFUSED_MAX
        {
            let Some(entry) = lane.next() else { continue };
            let count = entry.bundle.bundle().facts.len();
            if bytes + entry.bytes() > limits::BLOCK_BODY_BYTES_MAX || (facts > 0 && facts + count > FACTS_MAX) {
                // Nor its author's next one: with a higher number it would make this one impossible.
                continue;
            }
            match draft.add(&entry.bundle, entry.id) {
                Ok(()) => {
                    (bytes, facts) = (bytes + entry.bytes(), facts + count);
                    served = Some(entry.author());
                    taken.push(entry);
                    lanes.push_back(lane);
                }
                // A block that is not final holds it, most of the time.
                Err(Rejection::Bundle(BundleError::Replayed { .. })) => lanes.push_front(lane),
                Err(rejection) => {
                    refused += 1;
                    if self.is_refused(&finalised, &entry) {
                        locked(&self.pending).refuse(&entry, rejection);
                        lanes.push_back(lane);
                    }
                }
            }
        }
        if let Some(served) = served {
            locked(&self.pending).mempool.serve(served);
        }
        (draft, taken)
    }

    /// The final state at the same time, where the parent is not final: what is refused because of a block that never
    /// becomes final may apply yet.
    fn finalised_beside(&self, parent: &Executed, context: &BlockContext) -> Option<State> {
        let tip = Arc::clone(&locked(&self.forks).tip);
        if tip.digest == parent.digest {
            return None;
        }
        Some(tip.state.begin(&self.rules.context(&tip.header, context.unix_ms)).ok()?.state)
    }

    fn is_refused(&self, finalised: &Option<State>, entry: &Entry) -> bool {
        finalised.as_ref().is_none_or(|state| self.rules.apply(state, &entry.bundle).is_err())
    }
}
