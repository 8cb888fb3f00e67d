//! The pool as the home's account sees and changes it, through any of its orchestrators.

use crate::{
    cli::AccessArguments,
    commands::daemon,
    failure::Failure,
    home::{Home, KeyRole},
    report::ChangeReport,
};
use client::{AskError, Client, MachineKey, SubmitError};
use protocol::{
    ids::{AccountId, NodeId},
    pool::Listing,
    ticket::Ticket,
};
use registry::{Fact, Record, keys::Key};
use serde::Serialize;
use std::process::ExitCode;

/// Names of machines that are listed where a text means several.
const SHOWN_MAX: usize = 8;

pub struct Access {
    pub client: Client,
    pub ticket: Ticket,
    account: MachineKey,
    json: bool,
}

impl Access {
    /// Connects to the pool of the ticket, or of the home, as the home's account; where that is nobody there, as whoever
    /// asks for this home.
    pub async fn open(home: &Home, arguments: &AccessArguments) -> Result<Self, Failure> {
        let ticket = match &arguments.join {
            Some(ticket) => ticket.clone(),
            None => home.ticket()?,
        };
        let account = home.key(KeyRole::Account)?;
        let client = match daemon::connect(home, KeyRole::Account, ticket.clone()).await? {
            Ok(client) => client,
            Err(AskError::Denied(denied)) => match daemon::connect(home, KeyRole::Asker, ticket.clone()).await? {
                Ok(client) => client,
                Err(_) => {
                    return Err(Failure::new(denied).hint(format!(
                        "an owner can let this home read the pool: `darkbloom pool grant {} auditor`",
                        AccountId::from(account.id())
                    )));
                }
            },
            Err(error) => return Err(error.into()),
        };
        if arguments.join.is_some() && home.ticket().is_err() {
            // Only a ticket that admits is worth keeping.
            home.write_ticket(&ticket)?;
        }
        Ok(Self { client, ticket, account, json: arguments.json })
    }

    /// This home's account.
    pub fn account(&self) -> AccountId {
        self.account.id().into()
    }

    /// What the pool has agreed on under a key, proven.
    pub async fn read<R: Record>(&self, key: &Key<R>) -> Result<Option<R>, Failure> {
        Ok(self.client.read(key).await?)
    }

    /// As [`Access::read`], of something that every pool has.
    pub async fn need<R: Record>(&self, key: &Key<R>) -> Result<R, Failure> {
        self.read(key).await?.ok_or_else(|| Failure::new("the pool shows no such record, which every pool has"))
    }

    /// Has something agreed on.
    pub async fn say(&self, facts: Vec<Fact>) -> Result<u32, Failure> {
        self.client.submit(&self.account, facts).await.map_err(|error| match error {
            SubmitError::Ask(error) => error.into(),
            SubmitError::Refused { why } if why.contains("may not be said") || why.contains("no member") => {
                let account = self.account();
                Failure::new(format!("the pool does not let account {account} do that: {why}")).hint(format!(
                    "run it in the home of an owner or administrator, who can also name this one: \
                     `darkbloom pool grant {account} administrator`"
                ))
            }
            error => Failure::new(error),
        })
    }

    /// Has something agreed on, and says so.
    pub async fn change(self, done: String, facts: Vec<Fact>) -> Result<ExitCode, Failure> {
        let changes = self.say(facts).await?;
        let text = if changes == 0 { format!("{done}: it was so already") } else { done.clone() };
        self.finish(&ChangeReport { done, changes, from_height: None }, &[text]).await
    }

    /// Prints what was found, and ends.
    pub async fn finish(self, report: &impl Serialize, lines: &[String]) -> Result<ExitCode, Failure> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(report).expect("a report is plain data"));
        } else {
            lines.iter().for_each(|line| println!("{line}"));
        }
        self.client.close().await;
        Ok(ExitCode::SUCCESS)
    }

    /// The machines that texts mean: ids, unique beginnings of ids, or labels.
    pub async fn nodes(&self, texts: &[String]) -> Result<Vec<NodeId>, Failure> {
        let members: Vec<NodeId> = self.client.list(Listing::Members).await?.into_iter().map(NodeId).collect();
        let names = self.names().await?;
        texts.iter().map(|text| meant(text, &members, &names)).collect()
    }

    /// What people call the machines that lend, as far as an orchestrator knows it.
    pub async fn names(&self) -> Result<Vec<(NodeId, String)>, Failure> {
        Ok(self.client.nodes().await?.into_iter().map(|row| (row.node, row.label)).collect())
    }
}

/// So many characters of an id are never taken for a name.
const ID_CHARS_MIN: usize = 6;

/// The one machine that a text means. What looks like an id is one: a machine may call itself by another's id, or by its
/// beginning.
pub fn meant(text: &str, members: &[NodeId], names: &[(NodeId, String)]) -> Result<NodeId, Failure> {
    let folded = text.to_ascii_lowercase();
    let is_id = folded.len() >= ID_CHARS_MIN && folded.bytes().all(|byte| byte.is_ascii_hexdigit());
    let by_name: Vec<NodeId> = names.iter().filter(|(_, name)| !is_id && name == text).map(|(node, _)| *node).collect();
    let found: Vec<NodeId> = match by_name.as_slice() {
        [] => members.iter().copied().filter(|node| node.to_string().starts_with(&folded)).collect(),
        _ => by_name,
    };
    match found.as_slice() {
        [node] => Ok(*node),
        [] => Err(Failure::new(format!("`{text}` is no machine of this pool"))
            .hint("`darkbloom pool members` lists them: an id, its beginning, or a label")),
        several => {
            let shown: Vec<String> = several.iter().take(SHOWN_MAX).map(NodeId::short).collect();
            Err(Failure::new(format!("`{text}` is more than one machine: {}", shown.join(", ")))
                .hint("give more of its id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_meant_by_its_id_its_beginning_or_its_label() {
        let [one, two] = [0xab, 0xac].map(|byte| NodeId([byte; 32]));
        let names = vec![(two, "laptop".to_owned()), (one, "desk".to_owned()), (two, "desk".to_owned())];
        let meant = |text: &str| meant(text, &[one, two], &names).map_err(|failure| failure.to_string());
        assert_eq!(meant("ab"), Ok(one));
        assert_eq!(meant("ACac"), Ok(two));
        assert_eq!(meant(&one.to_string()), Ok(one));
        assert_eq!(meant("laptop"), Ok(two));
        // Whoever calls itself by another's id is not meant by it.
        let posing = vec![(two, one.to_string()), (two, one.to_string()[..8].to_owned())];
        for text in [&one.to_string()[..], &one.to_string()[..8]] {
            assert_eq!(super::meant(text, &[one, two], &posing).ok(), Some(one));
        }
        assert!(meant("a").unwrap_err().contains("more than one"));
        assert!(meant("desk").unwrap_err().contains("more than one"));
        assert!(meant("tower").unwrap_err().contains("no machine"));
    }
}
