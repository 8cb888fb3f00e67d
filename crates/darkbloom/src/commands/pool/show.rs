//! What a pool has agreed on.

use super::access::Access;
use crate::{
    cli::AccessArguments,
    failure::Failure,
    home::Home,
    report::{AccountReport, PolicyReport, PoolMemberReport, PoolMembersReport, PoolReport, rfc3339, standing},
};
use protocol::{
    header::Committee,
    ids::{AccountId, NodeId},
    pool::{Listing, Standing},
};
use registry::keys;
use std::process::ExitCode;

pub async fn show(home: &Home, arguments: &AccessArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, arguments).await?;
    let params = access.need(&keys::params()).await?;
    let (counts, clock) = (access.need(&keys::counts()).await?, access.need(&keys::clock()).await?);
    let policy = PolicyReport::from(&access.need(&keys::policy()).await?);
    let (committee, next) = (access.need(&keys::committee()).await?, access.read(&keys::next_committee()).await?);
    let shared_ticket = access.read(&keys::invite(NodeId(params.genesis.secret_hash))).await?.is_some();
    let own_standing = access.read(&keys::standing(access.account())).await?;
    let owners = accounts(&access).await?.into_iter().filter(|(_, standing)| *standing == Standing::Owner);
    let ids = |committee: &Committee| committee.members().iter().map(NodeId::to_string).collect::<Vec<_>>();
    let report = PoolReport {
        id: params.pool.to_string(),
        founded_at: rfc3339(params.genesis.created_unix_ms),
        owners: owners.map(|(account, _)| account.to_string()).collect(),
        own_account: access.account().to_string(),
        own_standing: own_standing.map(|own| standing(own).to_owned()),
        height: clock.height,
        block_at: rfc3339(clock.unix_ms),
        epoch: clock.epoch,
        orchestrators: ids(&committee),
        next_orchestrators: next.as_ref().map(ids),
        policy,
        members: counts.members,
        models: counts.models,
        invites: counts.invites,
        measurements: counts.measurements,
        shared_ticket,
    };
    let mut lines = vec![
        format!("pool      {}", report.id),
        format!("founded   {}", report.founded_at),
        format!("owners    {}", report.owners.join(", ")),
        format!("this home {} ({})", report.own_account, report.own_standing.as_deref().unwrap_or("no standing")),
        format!("agreed    block {} of epoch {}, made {}", report.height, report.epoch, report.block_at),
    ];
    lines.extend(report.orchestrators.iter().map(|id| format!("agrees    {id}")));
    if let Some(next) = &report.next_orchestrators {
        lines.extend(next.iter().map(|id| format!("next      {id}")));
    }
    lines.extend(report.policy.lines());
    lines.push(format!(
        "has       {} machines, {} models, {} invites, {} allowed programs",
        report.members, report.models, report.invites, report.measurements
    ));
    let admits = if report.shared_ticket { "the ticket that everybody shares, and invites" } else { "invites only" };
    lines.push(format!("admits    {admits}"));
    access.finish(&report, &lines).await
}

pub async fn members(home: &Home, arguments: &AccessArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, arguments).await?;
    let ids: Vec<NodeId> = access.client.list(Listing::Members).await?.into_iter().map(NodeId).collect();
    let wanted: Vec<_> = ids.iter().map(|node| keys::member(*node)).collect();
    let records = access.client.read_all(&wanted).await?;
    let names = access.names().await?;
    let name = |node| names.iter().find(|(other, _)| *other == node).map(|(_, name)| name.clone());
    // Whoever came after the block that is shown is in the list, and not in the block.
    let known = ids.into_iter().zip(records).filter_map(|(node, member)| Some((node, member?)));
    let members: Vec<_> = known.map(|(node, member)| PoolMemberReport::of(node, &member, name(node))).collect();
    let accounts = accounts(&access).await?.into_iter();
    let accounts = accounts
        .map(|(account, how)| AccountReport { account: account.to_string(), standing: standing(how).to_owned() })
        .collect();
    let report = PoolMembersReport { members, accounts };
    let mut lines: Vec<String> = report.members.iter().map(PoolMemberReport::line).collect();
    lines.extend(report.accounts.iter().map(|of| format!("account {} {}", of.account, of.standing)));
    access.finish(&report, &lines).await
}

/// Accounts that stand in some way.
async fn accounts(access: &Access) -> Result<Vec<(AccountId, Standing)>, Failure> {
    let ids: Vec<AccountId> = access.client.list(Listing::Standings).await?.into_iter().map(AccountId).collect();
    let wanted: Vec<_> = ids.iter().map(|account| keys::standing(*account)).collect();
    let standings = access.client.read_all(&wanted).await?;
    Ok(ids.into_iter().zip(standings).filter_map(|(account, standing)| Some((account, standing?))).collect())
}
