//! Who may join.

use super::{access::Access, people::standing};
use crate::{
    cli::{AccessArguments, InviteArguments, RevokeArguments},
    failure::Failure,
    home::Home,
    report::InviteReport,
};
use client::MachineKey;
use protocol::{
    ids::NodeId,
    pool::{Invite, Listing, Standing},
    ticket::Ticket,
    time::unix_ms,
};
use registry::{Fact, keys};
use std::{process::ExitCode, time::SystemTime};

pub async fn invite(home: &Home, arguments: &InviteArguments) -> Result<ExitCode, Failure> {
    let standing = standing(arguments.role);
    if standing >= Standing::Administrator {
        return Err(Failure::new("an invite is for members and auditors")
            .hint("who has joined can be made more: `darkbloom pool grant ACCOUNT administrator`"));
    }
    let access = Access::open(home, &arguments.access).await?;
    let key = MachineKey::generate();
    let until_unix_ms = arguments.r#for.map(|time| unix_ms(SystemTime::now() + time));
    let uses = (!arguments.unlimited).then_some(arguments.uses);
    let invite = Invite { id: key.id(), standing, uses, until_unix_ms };
    access.say(vec![Fact::InviteIssued(invite.clone())]).await?;
    let ticket = Ticket { secret: None, invite: Some(*key.seed()), ..access.ticket.clone() };
    let report = InviteReport::of(&invite, false, Some(ticket.to_string()));
    eprintln!("{}: whoever has this line can use it", report.line());
    access.finish(&report, &[format!("ticket: {ticket}")]).await
}

pub async fn list(home: &Home, arguments: &AccessArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, arguments).await?;
    let shared = NodeId(access.need(&keys::params()).await?.genesis.secret_hash);
    let reports: Vec<InviteReport> =
        all(&access).await?.iter().map(|invite| InviteReport::of(invite, invite.id == shared, None)).collect();
    let lines: Vec<String> = reports.iter().map(InviteReport::line).collect();
    access.finish(&reports, &lines).await
}

pub async fn revoke(home: &Home, arguments: &RevokeArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, &arguments.access).await?;
    let beginning = arguments.invite.to_ascii_lowercase();
    let ids = all(&access).await?.into_iter().map(|invite| invite.id);
    let found: Vec<NodeId> = ids.filter(|id| id.to_string().starts_with(&beginning)).collect();
    let hint = "`darkbloom pool invites` lists those that count";
    match found.as_slice() {
        [invite] => {
            access
                .change(
                    format!("invite {} counts no more", invite.short()),
                    vec![Fact::InviteRevoked { invite: *invite }],
                )
                .await
        }
        [] => Err(Failure::new(format!("no invite `{}` counts", arguments.invite)).hint(hint)),
        _ => Err(Failure::new(format!("`{}` is the beginning of several invites", arguments.invite)).hint(hint)),
    }
}

pub async fn close_ticket(home: &Home, arguments: &AccessArguments) -> Result<ExitCode, Failure> {
    let access = Access::open(home, arguments).await?;
    let invite = NodeId(access.need(&keys::params()).await?.genesis.secret_hash);
    let done = "the ticket that everybody shares admits nobody new: only invites do".to_owned();
    access.change(done, vec![Fact::InviteRevoked { invite }]).await
}

async fn all(access: &Access) -> Result<Vec<Invite>, Failure> {
    let ids = access.client.list(Listing::Invites).await?;
    let wanted: Vec<_> = ids.into_iter().map(|id| keys::invite(NodeId(id))).collect();
    Ok(access.client.read_all(&wanted).await?.into_iter().flatten().collect())
}
