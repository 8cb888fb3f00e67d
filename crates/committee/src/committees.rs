//! Who signs in which epoch, kept on the disk: the engine asks before the state is there again.

use crate::{
    certified::{self, CertificateError},
    durable::{self, FileError},
};
use protocol::{
    header::{Anchor, Committee, Handover},
    ids::{NodeId, PoolId},
};
use registry::State;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// In the member's folder.
const FILE: &str = "committees";
/// Changes of the committee in the lifetime of a pool. An anchor has 2 kB at most, and one change takes an epoch.
const CHANGES_MAX: usize = 4096;

#[derive(Debug)]
pub(crate) struct Committees {
    path: PathBuf,
    pool: PoolId,
    epoch_blocks: u64,
    known: Known,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    /// The newest epoch whose committee is known.
    epoch: u64,
    first: Committee,
    changes: Vec<Change>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Change {
    /// The first epoch of the committee.
    epoch: u64,
    committee: Committee,
    /// The last block of the epoch before, once its certificate is at hand.
    last: Option<Anchor>,
}

impl Committees {
    pub(crate) fn load(folder: &Path, pool: PoolId, epoch_blocks: u64, first: Committee) -> Result<Self, FileError> {
        let path = folder.join(FILE);
        let new = Known { epoch: 0, first, changes: Vec::new() };
        let known = durable::read(&path)?.unwrap_or(new);
        Ok(Self { path, pool, epoch_blocks, known })
    }

    /// Of this epoch, if it is known already.
    pub(crate) fn of(&self, epoch: u64) -> Option<Committee> {
        (epoch <= self.known.epoch).then(|| self.newest_until(epoch).clone())
    }

    pub(crate) fn known_epoch(&self) -> u64 {
        self.known.epoch
    }

    /// Everybody who was in the first committee or is in the newest one.
    pub(crate) fn members(&self) -> impl Iterator<Item = NodeId> {
        let newest = self.newest_until(self.known.epoch);
        self.known.first.members().iter().chain(newest.members()).copied()
    }

    fn newest_until(&self, epoch: u64) -> &Committee {
        let change = self.known.changes.iter().rev().find(|change| change.epoch <= epoch);
        change.map_or(&self.known.first, |change| &change.committee)
    }

    /// Learns from the last block of the epoch before who signs in this one. It is on the disk when this returns.
    pub(crate) fn learn(&mut self, epoch: u64, committee: &Committee) -> Result<(), FileError> {
        if epoch <= self.known.epoch {
            return Ok(());
        }
        let mut known = self.known.clone();
        if self.newest_until(epoch) != committee && known.changes.len() < CHANGES_MAX {
            known.changes.push(Change { epoch, committee: committee.clone(), last: None });
        }
        known.epoch = epoch;
        self.keep(known)
    }

    /// Learns from a snapshot, if it is after the last block of an epoch, who signs in the next one.
    pub(crate) fn learn_from(&mut self, anchor: &Anchor, state: &State) -> Result<(), FileError> {
        let header = &anchor.header;
        match state.next_committee().filter(|_| (header.height + 1).is_multiple_of(self.epoch_blocks)) {
            Some(next) => {
                self.learn(header.epoch + 1, &next)?;
                self.attest(anchor)
            }
            None => Ok(()),
        }
    }

    /// The heights of last blocks whose certificates are missing.
    pub(crate) fn wanted(&self) -> Vec<u64> {
        let wanted = self.known.changes.iter().filter(|change| change.last.is_none());
        wanted.map(|change| change.epoch * self.epoch_blocks - 1).collect()
    }

    /// Takes in a certificate, if it is one that is missing.
    pub(crate) fn attest(&mut self, anchor: &Anchor) -> Result<(), FileError> {
        let is_wanted = |change: &Change| {
            change.last.is_none()
                && change.epoch * self.epoch_blocks == anchor.header.height + 1
                && change.committee.digest() == anchor.header.next_committee
        };
        let Some(place) = self.known.changes.iter().position(is_wanted) else { return Ok(()) };
        let mut known = self.known.clone();
        known.changes[place].last = Some(anchor.clone());
        self.keep(known)
    }

    /// Handovers of this epoch and later ones, each from the committee before; up to the first whose certificate is
    /// missing.
    pub(crate) fn handovers(&self, from_epoch: u64) -> Vec<Handover> {
        let from = self.known.changes.iter().filter(|change| change.epoch > from_epoch);
        from.map_while(|change| Some(Handover { last: change.last.clone()?, next: change.committee.clone() })).collect()
    }

    /// Learns from others how the committee came to be the one of an epoch. Nothing is believed that is not signed by a
    /// quorum of a committee that was known before.
    pub(crate) fn follow(&mut self, handovers: &[Handover], anchor: &Anchor) -> Result<(), FollowError> {
        let epoch_of = |handover: &Handover| handover.last.header.epoch + 1;
        let mut known = self.known.clone();
        let new: Vec<Handover> =
            handovers.iter().filter(|handover| epoch_of(handover) > known.epoch).cloned().collect();
        let committee =
            certified::followed(self.pool, self.newest_until(known.epoch).clone(), self.epoch_blocks, &new)?;
        certified::certified(self.pool, &committee, anchor)?;
        let changes = new.into_iter().map(|handover| Change {
            epoch: epoch_of(&handover),
            committee: handover.next,
            last: Some(handover.last),
        });
        known.changes.extend(changes);
        let header = &anchor.header;
        known.epoch = known.epoch.max(header.epoch).max(known.changes.last().map_or(0, |change| change.epoch));
        if known.changes.len() > CHANGES_MAX {
            return Err(CertificateError::Gap.into());
        }
        Ok(self.keep(known)?)
    }

    fn keep(&mut self, known: Known) -> Result<(), FileError> {
        durable::write(&self.path, &known)?;
        self.known = known;
        Ok(())
    }
}

/// Why somebody's word for who signs is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    #[error("{0}")]
    File(#[from] FileError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::tests::driver::certify;
    use protocol::header::Header;
    use trust::MachineKey;

    const POOL: PoolId = PoolId([1; 32]);

    #[test]
    fn who_signs_when_is_learned_kept_and_taken_from_others() {
        let generations: Vec<Vec<MachineKey>> =
            [1, 4, 4].map(|count| (0..count).map(|_| MachineKey::generate()).collect()).into();
        let committees: Vec<Committee> =
            generations.iter().map(|keys| Committee::new(keys.iter().map(MachineKey::id).collect()).unwrap()).collect();
        let anchor = |keys: usize, height: u64, now: usize, next: usize| {
            let (committee, next_committee) = (committees[now].digest(), committees[next].digest());
            let nothing = [0; 32];
            certify(
                &generations[keys],
                Header {
                    pool: POOL,
                    epoch: height / 8,
                    height,
                    parent: nothing,
                    unix_ms: 1,
                    state: nothing,
                    body: nothing,
                    committee,
                    next_committee,
                },
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let load = || Committees::load(folder.path(), POOL, 8, committees[0].clone()).unwrap();
        let mut known = load();
        assert_eq!((known.of(0).as_ref(), known.of(1)), (Some(&committees[0]), None));
        known.learn(1, &committees[0]).unwrap();
        known.learn(2, &committees[1]).unwrap();
        known.learn(3, &committees[1]).unwrap();
        known.learn(4, &committees[2]).unwrap();
        known.learn(2, &committees[2]).unwrap();
        let mut known = load();
        assert_eq!(
            (0..6).map(|epoch| known.of(epoch)).collect::<Vec<_>>(),
            [
                Some(committees[0].clone()),
                Some(committees[0].clone()),
                Some(committees[1].clone()),
                Some(committees[1].clone()),
                Some(committees[2].clone()),
                None
            ]
        );
        assert_eq!(known.wanted(), [15, 31]);
        assert!(known.handovers(0).is_empty());
        known.attest(&anchor(0, 14, 0, 1)).unwrap();
        assert_eq!(known.wanted(), [15, 31], "not the last of an epoch");
        known.attest(&anchor(0, 15, 0, 1)).unwrap();
        known.attest(&anchor(1, 31, 1, 2)).unwrap();
        assert!(known.wanted().is_empty());
        let way = load().handovers(0);
        assert_eq!(way.len(), 2);
        assert_eq!(known.handovers(1).len(), 2, "the end of epoch 1");
        assert_eq!(known.handovers(2).len(), 1);

        // Somebody who was not there.
        let folder = tempfile::tempdir().unwrap();
        let mut other = Committees::load(folder.path(), POOL, 8, committees[0].clone()).unwrap();
        let newest = anchor(2, 50, 2, 2);
        assert!(other.follow(&way[..1], &newest).is_err());
        assert!(other.follow(&way, &anchor(1, 50, 2, 2)).is_err(), "signed by others");
        assert_eq!(other.of(1), None, "nothing is believed that does not hold");
        other.follow(&way, &newest).unwrap();
        assert_eq!(other.of(6), Some(committees[2].clone()));
        assert_eq!(other.of(2), Some(committees[1].clone()));
        assert_eq!(other.handovers(0), way);
        other.follow(&way, &newest).unwrap();
        assert_eq!(other.handovers(0), way, "the same again changes nothing");
    }
}
