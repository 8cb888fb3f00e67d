//! Who takes part, and how.

use super::access::Access;
use crate::{
    cli::{GrantArguments, LabelArguments, NodesArguments, PoolRole, RevokeStandingArguments},
    failure::Failure,
    home::Home,
};
use protocol::{ids::NodeId, pool::Standing, time::unix_ms};
use registry::{Fact, keys};
use std::{process::ExitCode, time::SystemTime};

pub async fn approve(home: &Home, arguments: &NodesArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let nodes = access.nodes(&arguments.nodes).await?;
    let facts = nodes.iter().map(|node| Fact::Approved { node: *node }).collect();
    access.change(format!("approved {}", listed(&nodes)), facts).await
}

pub async fn remove(home: &Home, arguments: &NodesArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let nodes = access.nodes(&arguments.nodes).await?;
    let at_unix_ms = unix_ms(SystemTime::now());
    let facts = nodes.iter().map(|node| Fact::MemberRemoved { node: *node, at_unix_ms }).collect();
    access.change(format!("removed {} for good", listed(&nodes)), facts).await
}

pub async fn label(home: &Home, arguments: &LabelArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let node = access.nodes(std::slice::from_ref(&arguments.node)).await?[0];
    let member = access.need(&keys::member(node)).await?;
    let region = match (&arguments.region, arguments.no_region) {
        (None, true) => None,
        (None, false) => member.region,
        (given, _) => given.clone(),
    };
    let mut labels = match (arguments.label.as_slice(), arguments.no_labels) {
        ([], true) => Vec::new(),
        ([], false) => member.labels,
        (given, _) => given.to_vec(),
    };
    labels.sort();
    labels.dedup();
    let place = region.as_ref().map_or("nowhere in particular", |region| region.as_str());
    let words: Vec<&str> = labels.iter().map(|label| label.as_str()).collect();
    let words = if words.is_empty() { "no labels".to_owned() } else { words.join(", ") };
    let done = format!("{} is in {place}, with {words}", node.short());
    access.change(done, vec![Fact::Labelled { node, region, labels }]).await
}

pub async fn grant(home: &Home, arguments: &GrantArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let (account, standing) = (arguments.account, standing(arguments.role));
    let done = format!("account {account} stands as {}", crate::report::standing(standing));
    access.change(done, vec![Fact::StandingGranted { account, standing }]).await
}

pub async fn revoke_standing(home: &Home, arguments: &RevokeStandingArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let account = arguments.account;
    access.change(format!("account {account} has no standing"), vec![Fact::StandingRevoked { account }]).await
}

/// What the command line calls a standing.
pub fn standing(role: PoolRole) -> Standing {
    match role {
        PoolRole::Auditor => Standing::Auditor,
        PoolRole::Member => Standing::Member,
        PoolRole::Administrator => Standing::Administrator,
        PoolRole::Owner => Standing::Owner,
    }
}

fn listed(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::short).collect::<Vec<_>>().join(", ")
}
