//! What a member that lies does.

use super::{chance::Chance, plan::Lie};
use crate::{body, locks::locked, snapshots::Head};
use bytes::Bytes;
use consensus::{
    Block, body_digest,
    simulated::{Hand, Message},
};
use protocol::{
    header::{Anchor, Certificate, Header},
    ids::NodeId,
};
use registry::{BlockContext, State};
use std::sync::{Arc, Mutex};
use trust::MachineKey;

/// Channels of the engine: see `consensus::CHANNELS`.
const CERTIFICATES: u8 = 1;
const NEW_BLOCKS: u8 = 3;
const OLD_BLOCKS: u8 = 4;
/// What a machine remembers to say again.
const REMEMBERED_MAX: usize = 64;

/// A block that is none, in the place of one that is: another state, another time, another body, or a committee of its own.
/// Which, the block says itself, so that it is the same whenever it is asked.
pub(super) fn another(block: Block, unix_ms: u64) -> Block {
    let (mut header, mut body) = (block.header().clone(), block.body().to_vec());
    match block.digest()[0] % 6 {
        0 => header.state[3] ^= 1,
        1 => header.unix_ms = unix_ms + 3_600_000,
        2 => header.next_committee[0] ^= 1,
        // The same bundles twice.
        3 => {
            let bundles = body::decode(&body).unwrap_or_default();
            let twice: Vec<_> = bundles.iter().chain(&bundles).collect();
            body = body::encode(&twice).unwrap_or_default();
        }
        4 => body.push(0),
        // An honest one, now and then: else nobody would ever be built upon it.
        _ => return block,
    }
    header.body = body_digest(&body);
    Block::new(header, body).unwrap_or(block)
}

/// What it says in the place of what an honest member would.
pub(super) fn hand(lie: Lie, others: Vec<NodeId>, seed: u64) -> Option<Hand> {
    let state = Mutex::new((Chance::new(seed), Vec::<Message>::new()));
    let half: Vec<NodeId> = others.iter().copied().take(others.len().div_ceil(2)).collect();
    match lie {
        Lie::Proposals => None,
        // Old blocks come from both, so that each half is kept able to go on.
        Lie::Twin => Some(Arc::new(move |message: Message| {
            let is_for_first = half.contains(&message.to);
            let is_shared = matches!(message.channel, CERTIFICATES | 2 | OLD_BLOCKS);
            if is_shared || is_for_first == (message.brain == 0) { vec![message] } else { Vec::new() }
        })),
        Lie::Withholds => Some(Arc::new(move |message: Message| {
            let is_withheld = message.channel == NEW_BLOCKS
                && locked(&state).0.in_100(if half.contains(&message.to) { 90 } else { 30 });
            if is_withheld { Vec::new() } else { vec![message] }
        })),
        Lie::Replays => Some(Arc::new(move |message: Message| {
            let (chance, remembered) = &mut *locked(&state);
            let mut messages = Vec::new();
            if !remembered.is_empty() && chance.in_100(30) {
                let old = chance.place(remembered.len());
                messages.push(Message { to: message.to, ..remembered[old].clone() });
            }
            if remembered.len() < REMEMBERED_MAX {
                remembered.push(message.clone());
            } else if chance.in_100(10) {
                let place = chance.place(remembered.len());
                remembered[place] = message.clone();
            }
            let spoils = if message.channel == OLD_BLOCKS { 60 } else { 5 };
            messages.push(if chance.in_100(spoils) { spoiled(message, chance) } else { message });
            messages
        })),
    }
}

fn spoiled(message: Message, chance: &mut Chance) -> Message {
    let mut bytes = message.bytes.to_vec();
    if !bytes.is_empty() {
        let place = chance.place(bytes.len());
        bytes[place] ^= 1 << chance.below(8);
    }
    Message { bytes: Bytes::from(bytes), ..message }
}

/// A snapshot of a state that nobody has agreed on, with a certificate that only the liar has signed.
pub(super) fn lying_head(key: &MachineKey, head: &Head, state: &State) -> Option<(Head, State)> {
    let header = &head.anchor.header;
    let later = BlockContext { height: header.height + 1, epoch: header.epoch, unix_ms: header.unix_ms + 1_000_000 };
    let false_state = state.begin(&later).ok()?.state;
    let header = Header { state: false_state.root(), ..header.clone() };
    let committee = state.committee()?;
    let place = committee.members().iter().position(|member| *member == key.id())?;
    let Certificate { view, parent_view, .. } = head.anchor.certificate;
    let mut certificate = Certificate { view, parent_view, signers: 1 << place, signatures: Vec::new() };
    certificate.signatures.push(key.finalise(&header, &certificate));
    let anchor = Anchor { header, certificate };
    Some((Head { anchor, body: head.body.clone(), manifest: false_state.manifest() }, false_state))
}
