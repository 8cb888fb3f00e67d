//! A state from other members, for one who was away for so long that taking in every block would take longer, or whose
//! blocks nobody has any more.
//!
//! Nothing is believed: committees by handovers from one that is known, the block by its certificate, the parts by the root
//! in it. Who sends something else is named, and not asked again.

use crate::{
    chain::Chain,
    message::Message,
    peers::Peers,
    snapshots::{Head, Snapshot},
};
use consensus::Block;
use protocol::{header::Handover, ids::NodeId};
use registry::snapshot::{Assembly, PARTS, SnapshotError, Top};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout_at},
};

/// How long members have to say which snapshot they have.
const OFFERS: Duration = Duration::from_secs(2);
/// Until a part is asked of somebody else.
const PART: Duration = Duration::from_secs(5);
/// Parts that one member is asked for at a time.
const ASKED_MAX: usize = 4;
/// Parts that a member may owe before it is not asked any more.
const LATE_MAX: u32 = 8;
/// Snapshots that are begun in a row: members make new ones while others are being taken.
const ROUNDS_MAX: usize = 8;

/// What others answer to a member that catches up.
pub(crate) type Answers = mpsc::Receiver<(NodeId, Message)>;

/// Fetches the newest snapshot above `above`, and follows the committees up to it. `None`: nobody has one that holds.
pub(crate) async fn fetch(chain: &Chain, peers: &Peers, answers: &mut Answers, above: u64) -> Option<Snapshot> {
    let (mut parts, mut refused) = (Parts::new(), BTreeSet::new());
    for _ in 0..ROUNDS_MAX {
        let mut chosen = choose(chain, peers, answers, above, &mut refused).await?;
        chosen.reuse(&mut parts);
        if chosen.gather(peers, answers, &mut parts, &mut refused).await
            && let Some(state) = chosen.assembly.finish()
        {
            return Some(Snapshot { block: chosen.block, anchor: chosen.head.anchor, state });
        }
    }
    None
}

/// A snapshot whose certificate holds, while its parts come.
struct Chosen {
    head: Head,
    block: Block,
    assembly: Assembly,
    servers: BTreeSet<NodeId>,
}

/// Parts that have come, by number, with what the manifest said of them: they serve the next snapshot where they are the
/// same in it.
type Parts = BTreeMap<usize, (Top, Vec<u8>)>;

async fn choose(
    chain: &Chain,
    peers: &Peers,
    answers: &mut Answers,
    above: u64,
    refused: &mut BTreeSet<NodeId>,
) -> Option<Chosen> {
    let members = chain.known_members();
    let from_epoch = chain.with_committees(|committees| committees.known_epoch());
    peers.ask_all(&members, &Message::AskSnapshot { from_epoch });
    let until = Instant::now() + OFFERS;
    let mut chosen: Option<Chosen> = None;
    let mut answered = BTreeSet::new();
    while answered.len() + 1 < members.len() {
        let answer = match timeout_at(until, answers.recv()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => {
                sleep_until(until).await;
                break;
            }
            Err(_) => break,
        };
        let (from, Message::Snapshot { handovers, head }) = answer else { continue };
        answered.insert(from);
        if refused.contains(&from) || head.anchor.header.height <= above {
            continue;
        }
        let (height, digest) = (head.anchor.header.height, head.anchor.header.digest());
        match &mut chosen {
            Some(best) if best.block.digest() == digest => {
                best.servers.insert(from);
            }
            Some(best) if best.block.header().height >= height => {}
            _ => match checked(chain, &handovers, *head) {
                Ok(mut better) => {
                    better.servers.insert(from);
                    chosen = Some(better);
                }
                Err(why) => {
                    peers.accuse(from, format!("its snapshot does not hold: {why}"));
                    refused.insert(from);
                }
            },
        }
    }
    chosen
}

fn checked(chain: &Chain, handovers: &[Handover], head: Head) -> Result<Chosen, String> {
    let block = head.block().ok_or("the body is another block's")?;
    let assembly = Assembly::new(block.header().state, head.manifest.clone()).map_err(|error| error.to_string())?;
    chain
        .with_committees(|committees| committees.follow(handovers, &head.anchor))
        .map_err(|error| error.to_string())?;
    Ok(Chosen { head, block, assembly, servers: BTreeSet::new() })
}

impl Chosen {
    /// Takes over what came for an older snapshot and is the same in this one.
    fn reuse(&mut self, parts: &mut Parts) {
        let tops = &self.head.manifest.tops;
        parts.retain(|number, (top, _)| tops.get(*number) == Some(top));
        parts.retain(|number, (_, part)| self.assembly.add(*number, part).is_ok());
    }

    /// Asks for what is missing, several members at a time, until nothing is, or nobody is left to ask.
    async fn gather(
        &mut self,
        peers: &Peers,
        answers: &mut Answers,
        parts: &mut Parts,
        refused: &mut BTreeSet<NodeId>,
    ) -> bool {
        let mut asked: BTreeMap<usize, (NodeId, Instant)> = BTreeMap::new();
        // Members that did not answer in time come after the others.
        let mut slow: BTreeMap<NodeId, u32> = BTreeMap::new();
        loop {
            self.ask(peers, &mut asked, &slow);
            if asked.is_empty() {
                return self.assembly.missing().next().is_none();
            }
            let until = asked.values().map(|(_, until)| *until).min().unwrap_or_else(Instant::now);
            let Ok(answer) = timeout_at(until, answers.recv()).await else {
                let now = Instant::now();
                let late: Vec<NodeId> =
                    asked.values().filter(|(_, until)| *until <= now).map(|(peer, _)| *peer).collect();
                asked.retain(|_, (_, until)| *until > now);
                for peer in late {
                    let count = slow.entry(peer).or_default();
                    *count += 1;
                    if *count > LATE_MAX {
                        self.servers.remove(&peer);
                    }
                }
                continue;
            };
            let Some((from, Message::Part { height, number, part })) = answer else {
                if answer.is_none() {
                    return false;
                }
                continue;
            };
            let number = usize::from(number);
            if height != self.block.header().height || asked.get(&number).is_none_or(|(peer, _)| *peer != from) {
                continue;
            }
            asked.remove(&number);
            let added = match &part {
                Some(part) => self.assembly.add(number, part),
                None => {
                    // It has a newer one.
                    self.servers.remove(&from);
                    asked.retain(|_, (peer, _)| *peer != from);
                    continue;
                }
            };
            match (added, part) {
                (Ok(()), Some(part)) => drop(parts.insert(number, (self.head.manifest.tops[number], part))),
                (Err(why), _) => {
                    peers.accuse(from, accusation(number, why));
                    refused.insert(from);
                    self.servers.remove(&from);
                    asked.retain(|_, (peer, _)| *peer != from);
                }
                (Ok(()), None) => {}
            }
        }
    }

    fn ask(&self, peers: &Peers, asked: &mut BTreeMap<usize, (NodeId, Instant)>, slow: &BTreeMap<NodeId, u32>) {
        let mut load: BTreeMap<NodeId, usize> = self.servers.iter().map(|server| (*server, 0)).collect();
        for (server, _) in asked.values() {
            *load.entry(*server).or_default() += 1;
        }
        let missing: Vec<usize> = self.assembly.missing().filter(|number| !asked.contains_key(number)).collect();
        for number in missing {
            let free = load.iter().filter(|(_, count)| **count < ASKED_MAX);
            let Some(server) = free
                .min_by_key(|(server, count)| (slow.get(server).copied().unwrap_or(0), **count))
                .map(|(server, _)| *server)
            else {
                return;
            };
            let place = u16::try_from(number).unwrap_or(PARTS as u16);
            peers.tell(server, &Message::AskPart { height: self.block.header().height, number: place });
            // Even if it was not sent: then the next one is asked when the time is over.
            asked.insert(number, (server, Instant::now() + PART));
            *load.entry(server).or_default() += 1;
        }
    }
}

fn accusation(number: usize, why: SnapshotError) -> String {
    format!("part {number} of its snapshot does not hold: {why}")
}
