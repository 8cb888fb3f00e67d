//! Whose permits hold: not those whom an orchestrator names, but those whom the pool's committees have handed over to.
//!
//! Whoever has a ticket could pretend to be an orchestrator, and sign permits. The pool's id is the hash of its genesis,
//! which names the first committee, and each committee has signed who comes next (`trust::light`). So the node finds out
//! itself who the committee is.

use protocol::{
    ids::{NodeId, PoolId},
    limits,
    witness::Agreement,
};
use trust::light::{AnchorError, HandoverError, Light, LineageError};

/// What the node knows of the committee. It never goes back to an earlier one.
pub(crate) struct Agreed {
    pool: PoolId,
    light: Option<Light>,
}

/// Why an orchestrator is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotBelieved {
    #[error("it shows nothing")]
    Nothing,
    #[error("{0}")]
    Lineage(#[from] LineageError),
    #[error("{0}")]
    Handover(#[from] HandoverError),
    #[error("{0}")]
    Anchor(#[from] AnchorError),
    #[error("it is no orchestrator of this pool")]
    NoOrchestrator,
}

impl Agreed {
    pub(crate) fn new(pool: PoolId) -> Self {
        Self { pool, light: None }
    }

    /// Since which epoch the committee is known.
    pub(crate) fn epoch(&self) -> u64 {
        self.light.as_ref().map_or(0, Light::epoch)
    }

    /// Machines whose permits hold: nobody's, until the committee is known.
    pub(crate) fn orchestrators(&self) -> &[NodeId] {
        self.light.as_ref().map_or(&[], |light| light.committee().members())
    }

    /// Takes what an orchestrator shows, if it proves itself and leads to a committee that this orchestrator is in.
    pub(crate) fn take(
        &mut self,
        shown: Option<&Agreement>,
        orchestrator: NodeId,
        now_unix_ms: u64,
    ) -> Result<(), NotBelieved> {
        let shown = shown.ok_or(NotBelieved::Nothing)?;
        let light = match &mut self.light {
            Some(light) => light,
            none => none.insert(Light::new(self.pool, &shown.lineage.genesis)?),
        };
        for handover in shown.lineage.handovers.iter().take(limits::HANDOVERS_MAX) {
            light.advance(handover)?;
        }
        if let Some(anchor) = &shown.anchor {
            // That a block is of now, and of a committee that is known, shows that no later handover is kept back.
            light.check(anchor, now_unix_ms)?;
        }
        if light.committee().contains(orchestrator) { Ok(()) } else { Err(NotBelieved::NoOrchestrator) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{genesis::Genesis, header::Header, witness::Lineage};
    use trust::{MachineKey, light::certify};

    const NOW: u64 = 1_000_000;

    fn founded(key: &MachineKey) -> (Genesis, PoolId) {
        let genesis = Genesis::new(vec![key.id()], &[7; 32], 1);
        let pool = genesis.pool().unwrap();
        (genesis, pool)
    }

    fn shown(genesis: &Genesis, signer: &MachineKey, unix_ms: u64) -> Agreement {
        let committee = genesis.committee().unwrap();
        let header = Header {
            pool: genesis.pool().unwrap(),
            epoch: 0,
            height: 3,
            parent: [0; 32],
            unix_ms,
            state: [1; 32],
            body: [0; 32],
            committee: committee.digest(),
            next_committee: committee.digest(),
        };
        let anchor = Some(certify(&header, &committee, [signer]));
        Agreement { lineage: Lineage { genesis: genesis.clone(), handovers: Vec::new() }, anchor }
    }

    #[test]
    fn only_whom_the_pool_agreed_on_signs_permits() {
        let (key, other) = (MachineKey::generate(), MachineKey::generate());
        let (genesis, pool) = founded(&key);
        let mut agreed = Agreed::new(pool);
        assert!(agreed.orchestrators().is_empty());
        assert_eq!(agreed.take(None, key.id(), NOW), Err(NotBelieved::Nothing));
        // Somebody with a ticket founds a pool of its own, or shows the real one and is not in it.
        let fake = shown(&founded(&other).0, &other, NOW);
        assert_eq!(agreed.take(Some(&fake), other.id(), NOW), Err(LineageError::OtherPool.into()));
        let unsigned = agreed.take(Some(&shown(&genesis, &other, NOW)), other.id(), NOW);
        assert!(matches!(unsigned, Err(NotBelieved::Anchor(AnchorError::TooFewSignatures { .. }))), "{unsigned:?}");
        let replayed = shown(&genesis, &key, NOW);
        assert_eq!(agreed.take(Some(&replayed), other.id(), NOW), Err(NotBelieved::NoOrchestrator));
        let old = agreed.take(Some(&replayed), key.id(), NOW + 10 * limits::ROOT_AGE_MS_MAX);
        assert!(matches!(old, Err(NotBelieved::Anchor(AnchorError::Stale { .. }))), "{old:?}");
        assert_eq!(agreed.take(Some(&replayed), key.id(), NOW), Ok(()));
        assert_eq!(agreed.orchestrators(), [key.id()]);
        let just_begun = Agreement { anchor: None, ..replayed };
        assert_eq!(agreed.take(Some(&just_begun), other.id(), NOW), Err(NotBelieved::NoOrchestrator));
        assert_eq!(agreed.take(Some(&just_begun), key.id(), NOW), Ok(()));
    }
}
