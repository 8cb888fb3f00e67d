//! Who agrees from the next epoch on.

use super::access::{Access, meant};
use crate::{
    cli::{CommitteeAddArguments, CommitteeRemoveArguments},
    failure::Failure,
    home::{Home, KeyRole},
    report::ChangeReport,
};
use protocol::{founding::Seat, ids::NodeId, link};
use registry::{Fact, keys};
use std::{process::ExitCode, time::Duration};
use transport::{Listen, Transport};

/// An orchestrator that runs answers within this time.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

pub async fn add(home: &Home, arguments: &CommitteeAddArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    for seat in &arguments.seats {
        answers(home, seat).await?;
    }
    let add: Vec<NodeId> = arguments.seats.iter().map(|Seat(address)| address.id).collect();
    change(access, add, Vec::new()).await
}

pub async fn remove(home: &Home, arguments: &CommitteeRemoveArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let mut known = access.need(&keys::committee()).await?.members().to_vec();
    let next = access.read(&keys::next_committee()).await?;
    known.extend(next.iter().flat_map(|next| next.members()));
    known.sort_unstable();
    known.dedup();
    let remove: Result<Vec<NodeId>, Failure> = arguments
        .orchestrators
        .iter()
        .map(|text| {
            let hint = "`darkbloom pool show` lists the orchestrators";
            meant(text, &known, &[]).map_err(|failure| Failure::new(failure).hint(hint))
        })
        .collect();
    change(access, Vec::new(), remove?).await
}

/// Whether an orchestrator answers under the key of its seat. One that does not would have a vote that never comes: a small
/// pool would stand still by it.
async fn answers(home: &Home, Seat(address): &Seat) -> Result<(), Failure> {
    let is_local = address.addresses.iter().all(|address| address.ip().is_loopback());
    let listen = if is_local { Listen::Loopback { port: 0 } } else { Listen::Network { port: 0 } };
    let transport = Transport::bind(&home.key(KeyRole::Asker)?, listen, &[]).await.map_err(Failure::new)?;
    let connecting = transport.connect(address.id, &address.addresses, link::ALPN);
    let connected = tokio::time::timeout(ANSWER_TIME_MAX, connecting).await;
    let why = match connected {
        Ok(Ok(connection)) => {
            connection.close("only looked whether you are there");
            None
        }
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())),
    };
    transport.close().await;
    match why {
        None => Ok(()),
        Some(why) => Err(Failure::new(format!("orchestrator {} does not answer: {why}", address.id.short())).hint(
            "start it first, with `darkbloom orchestrate --founding FILE` on its machine: a pool of up to three \
             orchestrators would stand still by one that does not run",
        )),
    }
}

async fn change(access: Access, add: Vec<NodeId>, remove: Vec<NodeId>) -> Result<ExitCode, Failure> {
    let changes = access.say(vec![Fact::CommitteeChanged { add, remove }]).await?;
    let (params, clock) = (access.need(&keys::params()).await?, access.need(&keys::clock()).await?);
    let next = access.read(&keys::next_committee()).await?;
    let committee = match &next {
        Some(next) => next.clone(),
        None => access.need(&keys::committee()).await?,
    };
    let ids: Vec<String> = committee.members().iter().map(NodeId::short).collect();
    let from_height = clock.epoch.saturating_add(1).saturating_mul(u64::from(params.genesis.epoch_blocks));
    let left = from_height.saturating_sub(clock.height);
    let (done, from_height) = match next {
        Some(_) => (
            format!(
                "from block {from_height} on ({left} more) these agree: {}; {} of them have to",
                ids.join(", "),
                committee.quorum()
            ),
            Some(from_height),
        ),
        None => (format!("the committee stays as it is: {}", ids.join(", ")), None),
    };
    access.finish(&ChangeReport { done: done.clone(), changes, from_height }, &[done]).await
}
