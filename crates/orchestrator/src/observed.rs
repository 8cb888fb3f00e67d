//! What this orchestrator has observed of each node, on its way into the registry.
//!
//! A node that links brings back what was agreed on about it before. What happens then (samples of its network,
//! results, measurements, its session) changes the copy that is kept here, and [`Observed::due`] hands out what has
//! changed, to be written. So observations survive a restart up to the last time they were written.

use crate::live::Known;
use protocol::ids::{ModelDigest, NodeId};
use scheduler::Now;
use std::collections::{HashMap, HashSet};
use transport::PathStats;
use trust::observations::{EPOCH_MS, Observations, Rates};

/// A link that comes back within this time was a reconnection of one session, not its end.
const AWAY_MS_MAX: u64 = 60_000;
/// A round trip and its loss are sampled so often at most: heartbeats come with every change.
const SAMPLE_EVERY_MS: u64 = 1_000;
/// Results of one node that are believed of one client in one epoch: many tasks of one friend prove little.
const RESULTS_PER_CLIENT_MAX: u32 = 20;
/// Clients whose results of one node are counted in one epoch.
const CLIENTS_MAX: usize = 256;

/// The number under which observations of this time are agreed on: the second, so that those of a process that ends
/// soon after they were last written are newer.
fn number(unix_ms: u64) -> u64 {
    unix_ms / 1000
}

/// The epoch of a time, or of a number.
fn epoch(unix_ms: u64) -> u64 {
    unix_ms / EPOCH_MS
}

#[derive(Default)]
pub(crate) struct Observed {
    nodes: HashMap<NodeId, Watched>,
}

struct Watched {
    seen: Observations,
    // The epoch up to which `seen` has faded.
    epoch: u64,
    // Something happened that should be written soon.
    changed: bool,
    // The epoch in which it was written the last time: what only goes on is written once in each.
    written: Option<u64>,
    session: Option<Session>,
    sampled_steady_ms: u64,
    // Of the present link, up to the last sample.
    packets: (u64, u64),
    // Results of this epoch, by client.
    believed: HashMap<NodeId, u32>,
    // Clients whose audits it passed in this epoch.
    vouching: HashSet<NodeId>,
    // Whether it is ours to write: this orchestrator is the node's first home, or was when it departed.
    ours: bool,
}

struct Session {
    began_steady_ms: u64,
    // Up to this age it has been noted.
    noted_age_ms: u64,
    // Since when it has no link.
    away_steady_ms: Option<u64>,
}

impl Session {
    fn age_ms(&self, steady_ms: u64) -> u64 {
        steady_ms.saturating_sub(self.began_steady_ms)
    }
}

impl Watched {
    fn new(agreed: Option<(u64, &Observations)>, now: Now) -> Self {
        let (epoch, seen) = match agreed {
            Some((number, seen)) => (epoch(number.saturating_mul(1000)), seen.clone()),
            None => (epoch(now.unix_ms), Observations::default()),
        };
        let mut new = Self {
            seen,
            epoch,
            changed: false,
            written: None,
            session: None,
            sampled_steady_ms: 0,
            packets: (0, 0),
            believed: HashMap::new(),
            vouching: HashSet::new(),
            ours: true,
        };
        new.fade(now);
        new
    }

    /// Lets the epochs pass that have passed.
    fn fade(&mut self, now: Now) {
        let current = epoch(now.unix_ms);
        // What was away for months has nothing left to fade.
        for _ in 0..current.saturating_sub(self.epoch).min(10_000) {
            self.seen.decay();
        }
        if current > self.epoch {
            self.epoch = current;
            self.believed.clear();
            self.vouching.clear();
        }
    }

    /// Notes the session up to a time, and its end, if so.
    fn note_session(&mut self, now: Now, departed_steady_ms: Option<u64>) {
        let Some(session) = &mut self.session else { return };
        let to = departed_steady_ms.or(session.away_steady_ms).unwrap_or(now.steady_ms);
        let (age, ago) = (session.age_ms(to), now.steady_ms.saturating_sub(to));
        let at_unix_ms = now.unix_ms.saturating_sub(ago);
        self.seen.sessions.note(session.noted_age_ms, age, at_unix_ms, departed_steady_ms.is_some());
        session.noted_age_ms = age;
        if departed_steady_ms.is_some() {
            self.session = None;
            self.changed = true;
        }
    }
}

impl Observed {
    /// A node has a link. `agreed`: what the registry has of it, and of which epoch.
    /// Returns what is known of it, and since when its session lasts.
    pub(crate) fn linked(&mut self, node: NodeId, agreed: Option<(u64, &Observations)>, now: Now) -> Known {
        let watched = self.nodes.entry(node).or_insert_with(|| Watched::new(agreed, now));
        watched.packets = (0, 0);
        watched.fade(now);
        let returned = watched.session.as_ref().is_some_and(|session| match session.away_steady_ms {
            Some(away) => now.steady_ms.saturating_sub(away) <= AWAY_MS_MAX,
            // Its new link came before the end of the old one was noticed.
            None => true,
        });
        if returned {
            let session = watched.session.as_mut().expect("it returned to it");
            session.away_steady_ms = None;
            watched.seen.network.reconnected();
            watched.changed = true;
            return Known { seen: watched.seen.clone(), session_since_steady_ms: session.began_steady_ms };
        }
        let away = watched.session.as_ref().and_then(|session| session.away_steady_ms);
        watched.note_session(now, away);
        watched.session = Some(Session { began_steady_ms: now.steady_ms, noted_age_ms: 0, away_steady_ms: None });
        Known { seen: watched.seen.clone(), session_since_steady_ms: now.steady_ms }
    }

    /// Whether a node is ours to write, now that it has these homes. Where it becomes ours, what another wrote meanwhile
    /// is gone on from: it has heard more of the node.
    pub(crate) fn set_ours(&mut self, node: NodeId, ours: bool, agreed: Option<(u64, &Observations)>, now: Now) {
        let Some(watched) = self.nodes.get_mut(&node) else { return };
        let before = std::mem::replace(&mut watched.ours, ours);
        if let (false, true, Some((number, seen))) = (before, ours, agreed) {
            (watched.seen, watched.epoch) = (seen.clone(), epoch(number.saturating_mul(1000)));
            watched.fade(now);
            if let Some(session) = &mut watched.session {
                session.noted_age_ms = session.age_ms(now.steady_ms);
            }
        }
    }

    /// Its link is gone; `left`: it said goodbye.
    pub(crate) fn unlinked(&mut self, node: NodeId, left: bool, now: Now) {
        let Some(watched) = self.nodes.get_mut(&node) else { return };
        if left {
            watched.note_session(now, Some(now.steady_ms));
        } else if let Some(session) = &mut watched.session {
            session.away_steady_ms.get_or_insert(now.steady_ms);
        }
    }

    /// Samples the way to a node. Returns the smoothed round trip where one was taken.
    pub(crate) fn sample(&mut self, node: NodeId, stats: impl FnOnce() -> PathStats, now: Now) -> Option<u32> {
        let watched = self.nodes.get_mut(&node)?;
        if watched.sampled_steady_ms > 0 && now.steady_ms.saturating_sub(watched.sampled_steady_ms) < SAMPLE_EVERY_MS {
            return None;
        }
        watched.sampled_steady_ms = now.steady_ms;
        let PathStats { rtt, sent_packets, lost_packets } = stats();
        let (sent, lost) =
            (sent_packets.saturating_sub(watched.packets.0), lost_packets.saturating_sub(watched.packets.1));
        watched.packets = (sent_packets, lost_packets);
        watched.seen.network.sample(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX), sent, lost);
        Some(watched.seen.network.rtt_us)
    }

    /// The result of a client's task. Returns whether it was believed.
    pub(crate) fn result(&mut self, node: NodeId, client: NodeId, valid: bool, now: Now) -> bool {
        let Some(watched) = self.nodes.get_mut(&node) else { return false };
        watched.fade(now);
        if !watched.believed.contains_key(&client) && watched.believed.len() >= CLIENTS_MAX {
            return false;
        }
        let count = watched.believed.entry(client).or_default();
        if *count >= RESULTS_PER_CLIENT_MAX {
            return false;
        }
        *count += 1;
        watched.seen.results.note(valid);
        watched.changed = true;
        true
    }

    /// A client says that the node passed an audit. Returns whether it was believed: once an epoch of each client.
    pub(crate) fn audit_passed(&mut self, node: NodeId, client: NodeId, now: Now) -> bool {
        let Some(watched) = self.nodes.get_mut(&node) else { return false };
        watched.fade(now);
        if watched.vouching.contains(&client) || watched.vouching.len() >= CLIENTS_MAX {
            return false;
        }
        watched.vouching.insert(client);
        watched.seen.results.note_canary(true);
        watched.changed = true;
        true
    }

    /// The result of a trial of our own, or of an audit.
    pub(crate) fn canary(&mut self, node: NodeId, passed: bool) {
        if let Some(watched) = self.nodes.get_mut(&node) {
            watched.seen.results.note_canary(passed);
            watched.changed = true;
        }
    }

    /// Rates were measured.
    pub(crate) fn measured(&mut self, node: NodeId, model: ModelDigest, rates: Rates) {
        if let Some(watched) = self.nodes.get_mut(&node) {
            watched.seen.set_rates(model, rates);
            watched.changed = true;
        }
    }

    /// A task showed how fast a stream is in a batch. Returns the rates as they are then, where some were measured.
    pub(crate) fn refine(&mut self, node: NodeId, model: ModelDigest, batch: u32, stream_milli: u32) -> Option<Rates> {
        let watched = self.nodes.get_mut(&node)?;
        let mut rates = *watched.seen.rates(model)?;
        rates.refine_decode(batch, stream_milli);
        watched.seen.set_rates(model, rates);
        Some(rates)
    }

    /// What was observed of a node so far.
    pub(crate) fn of(&self, node: NodeId) -> Option<&Observations> {
        self.nodes.get(&node).map(|watched| &watched.seen)
    }

    /// Every node that is watched.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// What is ours to write of these nodes, and under which number: what happened, and once an epoch, or `at_the_end`,
    /// what only went on. Nodes that have gone are forgotten with it.
    pub(crate) fn due(&mut self, nodes: &[NodeId], at_the_end: bool, now: Now) -> Vec<(NodeId, u64, Observations)> {
        let mut due = Vec::new();
        for node in nodes {
            let Some(watched) = self.nodes.get_mut(node) else { continue };
            watched.fade(now);
            let away = watched.session.as_ref().and_then(|session| session.away_steady_ms);
            let departed = away.filter(|away| now.steady_ms.saturating_sub(*away) > AWAY_MS_MAX);
            watched.note_session(now, departed);
            if watched.changed || at_the_end || watched.written != Some(watched.epoch) {
                if watched.ours {
                    due.push((*node, number(now.unix_ms), watched.seen.clone()));
                }
                (watched.changed, watched.written) = (false, Some(watched.epoch));
            }
            if watched.session.is_none() {
                self.nodes.remove(node);
            }
        }
        due
    }

    /// A removed member's observations are nobody's business any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NODE: NodeId = NodeId([1; 32]);
    const CLIENT: NodeId = NodeId([2; 32]);
    const MODEL: ModelDigest = ModelDigest([3; 32]);
    const HOUR_MS: u64 = EPOCH_MS;

    fn at(steady_ms: u64) -> Now {
        Now { unix_ms: 1_700_000_000_000 + steady_ms, steady_ms }
    }

    #[test]
    fn a_short_absence_is_a_reconnection_and_a_long_one_a_departure() {
        let mut observed = Observed::default();
        observed.linked(NODE, None, at(0));
        observed.unlinked(NODE, false, at(HOUR_MS));
        observed.linked(NODE, None, at(HOUR_MS + AWAY_MS_MAX));
        let seen = observed.of(NODE).unwrap();
        assert_eq!((seen.sessions.total().0, seen.network.reconnects_milli), (0, 1000));
        observed.unlinked(NODE, false, at(2 * HOUR_MS));
        let due = observed.due(&[NODE], false, at(3 * HOUR_MS));
        assert_eq!(due[0].2.sessions.total().0, 1000, "gone");
        assert!(observed.of(NODE).is_none(), "and with what it left written, forgotten");
        observed.linked(NODE, Some((due[0].1, &due[0].2)), at(3 * HOUR_MS));
        observed.unlinked(NODE, true, at(3 * HOUR_MS + 1));
        assert_eq!(observed.of(NODE).unwrap().sessions.total().0, 2000, "a goodbye is one at once");
    }

    #[test]
    fn what_is_another_s_to_write_is_gone_on_from_when_it_becomes_ours() {
        let (mut first, mut second) = (Observed::default(), Observed::default());
        first.linked(NODE, None, at(0));
        second.linked(NODE, None, at(0));
        second.set_ours(NODE, false, None, at(0));
        let rates = Rates { prefill_milli: 1_000, decode_milli: [500, 0, 0, 0] };
        first.measured(NODE, MODEL, rates);
        second.canary(NODE, false);
        let agreed = first.due(&[NODE], false, at(1_000)).remove(0);
        assert!(second.due(&[NODE], true, at(1_000)).is_empty(), "nothing is written twice");
        second.set_ours(NODE, true, Some((agreed.1, &agreed.2)), at(2_000));
        let later = second.due(&[NODE], true, at(3_000)).remove(0);
        assert_eq!(later.2.rates(MODEL), Some(&rates));
        second.set_ours(NODE, false, None, at(3_000));
        second.unlinked(NODE, true, at(4_000));
        assert!(second.due(&[NODE], false, at(5_000)).is_empty() && second.of(NODE).is_none(), "and forgotten");
    }

    #[test]
    fn one_client_proves_only_so_much() {
        let mut observed = Observed::default();
        observed.linked(NODE, None, at(0));
        let believed = (0..1000).filter(|_| observed.result(NODE, CLIENT, true, at(1))).count();
        assert_eq!(believed, RESULTS_PER_CLIENT_MAX as usize);
        assert!(observed.result(NODE, NODE, false, at(1)), "another client");
        assert!(observed.result(NODE, CLIENT, true, at(2 * HOUR_MS)), "another epoch");
    }

    #[test]
    fn what_is_due_is_handed_out_once_and_fades() {
        let mut observed = Observed::default();
        observed.linked(NODE, None, at(0));
        let stats = || PathStats { rtt: Duration::from_millis(20), sent_packets: 100, lost_packets: 0 };
        assert_eq!(observed.sample(NODE, stats, at(1)), Some(20_000));
        assert_eq!(observed.sample(NODE, stats, at(2)), None, "a moment ago");
        let rates = Rates { prefill_milli: 1_000, decode_milli: [500, 0, 0, 0] };
        assert_eq!(observed.refine(NODE, MODEL, 1, 900), None, "nothing to refine");
        observed.measured(NODE, MODEL, rates);
        assert_eq!(observed.refine(NODE, MODEL, 1, 900).unwrap().decode_milli[0], 550);
        observed.canary(NODE, true);
        let due = observed.due(&[NODE], false, at(10));
        assert_eq!(due.len(), 1);
        assert!(observed.due(&[NODE], false, at(2_000)).is_empty());
        assert_eq!(observed.due(&[NODE], true, at(3_000)).len(), 1, "at the end everything is");
        let later = observed.due(&[NODE], false, at(5 * HOUR_MS));
        assert!(later[0].1 > due[0].1 && later[0].2.results.canaries_passed_milli < 1000);
        assert_eq!(later[0].2.rates(MODEL), due[0].2.rates(MODEL), "a measurement stays");
    }
}
