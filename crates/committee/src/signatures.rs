//! Signatures that held once need not be verified again: a bundle is looked at when it comes, when it is proposed, when a
//! block with it is judged, and when that block is final.

use crate::locks::locked;
use protocol::{ids::NodeId, proof::Digest, signed::Verifier};
use std::{collections::HashSet, sync::Mutex};
use trust::Strict;

const CONTEXT: &str = "darkbloom 2026-11 remembered signature 1";
/// Signatures in one generation; two are kept, in about a megabyte.
const GENERATION: usize = 1 << 14;

/// The one rule of this crate by which signatures hold, [`Strict`], with a memory for those that did.
#[derive(Debug, Default)]
pub(crate) struct Remembering(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    newer: HashSet<Digest>,
    older: HashSet<Digest>,
}

impl Generations {
    fn has(&self, digest: &Digest) -> bool {
        self.newer.contains(digest) || self.older.contains(digest)
    }

    fn add(&mut self, digest: Digest) {
        if self.newer.len() >= GENERATION {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(digest);
    }
}

impl Verifier for Remembering {
    fn holds(&self, signer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
        let digest = *blake3::Hasher::new_derive_key(CONTEXT)
            .update(&signer.0)
            .update(signature)
            .update(message)
            .finalize()
            .as_bytes();
        if locked(&self.0).has(&digest) {
            return true;
        }
        let holds = Strict.holds(signer, message, signature);
        if holds {
            locked(&self.0).add(digest);
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::ids::PoolId;
    use protocol::pool::Redemption;
    use trust::MachineKey;

    #[test]
    fn what_held_holds_and_what_was_changed_does_not() {
        let (key, signatures) = (MachineKey::generate(), Remembering::default());
        let redemption = Redemption { pool: PoolId([1; 32]), keys: vec![(key.id(), protocol::link::Role::Node)] };
        let signed = key.sign(&redemption);
        assert_eq!(signed.open(&signatures), Some(redemption.clone()));
        assert_eq!(locked(&signatures.0).newer.len(), 1);
        assert_eq!(signed.open(&signatures), Some(redemption));
        assert_eq!(locked(&signatures.0).newer.len(), 1);
        let mut changed = signed.clone();
        changed.payload[0] ^= 1;
        assert_eq!(changed.open(&signatures), None);
        let mut changed = signed;
        changed.signature.1[31] ^= 1;
        assert_eq!(changed.open(&signatures), None);
        assert_eq!(locked(&signatures.0).newer.len(), 1, "only what holds is remembered");
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut generations = Generations::default();
        for number in 0..3 * GENERATION as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            generations.add(digest);
            assert!(generations.has(&digest));
        }
        assert!(generations.newer.len() + generations.older.len() <= 2 * GENERATION);
    }
}
