//! How a member stands, in words where something does not go on.

use crate::{
    chain::Chain,
    peers::{Known, Peers},
};
use protocol::{header::Committee, ids::NodeId};
use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

/// Whoever was not heard for longer is taken to be away.
pub(crate) const HEARD_MS: u64 = 10_000;

/// How a member of a committee stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The newest final block that this member has taken in.
    pub height: u64,
    /// Its time, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The epoch of the next block.
    pub epoch: u64,
    /// Who signs the next block.
    pub committee: Option<Committee>,
    /// How many of them have to.
    pub quorum: usize,
    /// When each of the others was heard last, in milliseconds since 1970; `None`: not since this member was started.
    pub heard: Vec<(NodeId, Option<u64>)>,
    /// By how many blocks this member is behind, as others say.
    pub lag: u64,
    /// Whether this member votes.
    pub votes: Votes,
    /// Why finality stands still; `None`: it does not, as far as this member knows.
    pub stalled: Option<String>,
    /// Members that have sent what is not true, and what it was.
    pub liars: Vec<(NodeId, String)>,
    /// Why this member has stopped; `None`: it has not.
    pub down: Option<String>,
}

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Votes {
    /// It does.
    Yes,
    /// It is not of the committee.
    NoMember,
    /// It has lost its memory, and waits for an epoch in which it cannot have voted before.
    FromEpoch(u64),
    /// It is finding out whether it has lost its memory: too few others have been heard yet.
    Unknown,
}

pub(crate) struct View<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) peers: &'a Peers,
    /// `None`: not known yet.
    pub(crate) signs_from_epoch: Option<u64>,
    pub(crate) idle: Duration,
    /// When the newest block came, in milliseconds since 1970.
    pub(crate) moved_unix_ms: u64,
    pub(crate) now_unix_ms: u64,
    pub(crate) down: Option<String>,
}

impl View<'_> {
    pub(crate) fn standing(&self) -> Standing {
        let latest = self.chain.newest();
        let (height, committee) = (latest.header.height, self.chain.committee_now());
        let known = self.peers.known();
        let epoch = self.chain.epoch();
        let is_member = committee.as_ref().is_some_and(|committee| committee.contains(self.peers.me));
        let votes = match self.signs_from_epoch {
            _ if !is_member => Votes::NoMember,
            None => Votes::Unknown,
            Some(from) if from > epoch => Votes::FromEpoch(from),
            Some(_) => Votes::Yes,
        };
        let members = committee.as_ref().map_or(&[][..], Committee::members).iter();
        let others = members.filter(|member| **member != self.peers.me);
        let heard = |member: &NodeId| known.get(member).map(|known| known.heard_unix_ms).filter(|heard| *heard > 0);
        let highest = known.values().filter_map(|known| Some(known.here?.height)).max().unwrap_or(0);
        Standing {
            height,
            unix_ms: latest.header.unix_ms,
            epoch,
            quorum: committee.as_ref().map_or(0, Committee::quorum),
            heard: others.map(|member| (*member, heard(member))).collect(),
            lag: highest.saturating_sub(height),
            votes,
            stalled: committee.as_ref().and_then(|committee| self.stalled(committee, &known, votes)),
            committee,
            liars: self.peers.liars(),
            down: self.down.clone(),
        }
    }

    /// Why there is no new block though there should be one.
    pub(crate) fn stalled(
        &self,
        committee: &Committee,
        known: &BTreeMap<NodeId, Known>,
        votes: Votes,
    ) -> Option<String> {
        if let Some(down) = &self.down {
            return Some(format!("this orchestrator has stopped: {down}"));
        }
        let still_ms = self.now_unix_ms.saturating_sub(self.moved_unix_ms);
        let patience_ms = HEARD_MS + u64::try_from(self.idle.as_millis()).unwrap_or(u64::MAX);
        if still_ms <= patience_ms {
            return None;
        }
        let (size, quorum) = (committee.members().len(), committee.quorum());
        let mut missing = Vec::new();
        let mut waiting = Vec::new();
        for member in committee.members() {
            if *member == self.peers.me {
                continue;
            }
            let known = known.get(member).copied().unwrap_or_default();
            match known.heard_unix_ms {
                0 => missing.push(format!("{} (never)", member.short())),
                heard if self.now_unix_ms.saturating_sub(heard) > HEARD_MS => {
                    let ago = self.now_unix_ms.saturating_sub(heard) / 1000;
                    missing.push(format!("{} ({ago} s ago)", member.short()));
                }
                _ if known.here.is_some_and(|here| here.waits) => waiting.push(member.short()),
                _ => {}
            }
        }
        let mut here = size - missing.len();
        let mut why = String::new();
        if matches!(votes, Votes::FromEpoch(_) | Votes::Unknown) {
            waiting.push("this one".to_owned());
        }
        if here < quorum {
            // This machine hears itself.
            here -= usize::from(committee.contains(self.peers.me));
            let _ = write!(
                why,
                "{quorum} of {size} members are needed, {here} other{} heard within {} s: missing {}",
                if here == 1 { " was" } else { "s were" },
                HEARD_MS / 1000,
                missing.join(", ")
            );
        } else if here - waiting.len() < quorum {
            let _ = write!(
                why,
                "{quorum} of {size} members are needed, and without their memory these do not vote yet: {}",
                waiting.join(", ")
            );
        } else {
            let _ = write!(
                why,
                "no block for {} s, though {here} of {size} members are there: look at their clocks and their logs",
                still_ms / 1000
            );
        }
        Some(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        chain::tests::driver::{Driver, NOW},
        message::Here,
    };
    use std::sync::Arc;

    #[test]
    fn why_nothing_happens_is_said() {
        let driver = Driver::of(4);
        let mut ids: Vec<NodeId> = driver.keys.iter().map(|key| key.id()).collect();
        ids.sort_unstable();
        let peers = Peers::new(ids[0], Arc::new(|_, _, _| true));
        let stalled = |peers: &Peers, now_unix_ms: u64, signs_from_epoch: Option<u64>| {
            let idle = Duration::from_secs(4);
            let view = View {
                chain: &driver.chains[0],
                peers,
                signs_from_epoch,
                idle,
                moved_unix_ms: NOW,
                now_unix_ms,
                down: None,
            };
            view.standing().stalled
        };
        assert_eq!(stalled(&peers, NOW + 14_000, Some(0)), None, "an empty block is not due for so long");
        peers.heard(ids[1], NOW + 13_000);
        peers.heard(ids[2], NOW - 21_000);
        let why = stalled(&peers, NOW + 20_000, Some(0)).unwrap();
        let missing = format!("missing {} (41 s ago), {} (never)", ids[2].short(), ids[3].short());
        assert_eq!(why, format!("3 of 4 members are needed, 1 other was heard within 10 s: {missing}"));

        // As many as are needed, but one has lost its memory.
        peers.heard(ids[2], NOW + 19_000);
        let here = Here { height: 5, epoch: 0, snapshot: None, waits: true };
        peers.here(ids[2], here, 0);
        let why = stalled(&peers, NOW + 20_000, Some(0)).unwrap();
        assert!(why.ends_with(&format!("do not vote yet: {}", ids[2].short())), "{why}");
        peers.here(ids[2], Here { waits: false, ..here }, 0);
        assert!(stalled(&peers, NOW + 20_000, Some(0)).unwrap().contains("3 of 4 members are there"));
        assert!(stalled(&peers, NOW + 20_000, Some(2)).unwrap().ends_with("do not vote yet: this one"));
    }

    #[test]
    fn others_hurry_for_one_that_waits_but_not_for_ever() {
        let driver = Driver::of(2);
        let (me, other) = (driver.keys[0].id(), driver.keys[1].id());
        let peers = Peers::new(me, Arc::new(|_, _, _| true));
        let here = Here { height: 5, epoch: 0, snapshot: None, waits: true };
        peers.here(other, here, 7);
        assert!(!peers.somebody_waits(NOW, 7), "not heard");
        peers.heard(other, NOW);
        assert!(peers.somebody_waits(NOW, 7) && peers.somebody_waits(NOW + 10_000, 10));
        assert!(!peers.somebody_waits(NOW + 10_001, 7), "it is gone");
        assert!(!peers.somebody_waits(NOW, 11), "longer than anybody has to");
        peers.here(other, Here { waits: false, ..here }, 7);
        assert!(!peers.somebody_waits(NOW, 7));
    }
}
