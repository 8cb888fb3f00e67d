//! `darkbloom pool …`.

use super::NetworkArguments;
use crate::amount::{Amount, AmountError};
use clap::{Args, Subcommand, ValueEnum};
use protocol::{
    founding::Seat,
    ids::{AccountId, PoolId},
    pool::Label,
    ticket::Ticket,
};
use std::{path::PathBuf, time::Duration};

#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Print where this machine's orchestrator will listen: one line for whoever founds the pool
    Seat(SeatArguments),
    /// Found a pool of these orchestrators; each of them then runs `darkbloom orchestrate --founding FILE`
    Create(CreateArguments),
    /// Show what the pool has agreed on: owner, policy, orchestrators, counts
    Show(AccessArguments),
    /// List the machines of the pool, and the accounts that stand in some way
    Members(AccessArguments),
    /// Make a ticket for one person, or for so many
    Invite(InviteArguments),
    /// List the invites that still count
    Invites(AccessArguments),
    /// End an invite
    Revoke(RevokeArguments),
    /// Let in machines that wait for an approval
    Approve(NodesArguments),
    /// Put machines out for good, with everything that joined beside them
    Remove(NodesArguments),
    /// Say where a machine is, and what else is known of it
    Label(LabelArguments),
    /// Name an owner, administrator, member or auditor
    Grant(GrantArguments),
    /// Take an account's standing away
    RevokeStanding(RevokeStandingArguments),
    /// Show the policy, or set the fields that are given
    Policy(PolicyArguments),
    /// The workers' programs that the pool allows
    #[command(subcommand)]
    Measurement(MeasurementCommand),
    /// The orchestrators
    #[command(subcommand)]
    Committee(CommitteeCommand),
    /// End the ticket that everybody shares, so that only invites admit
    CloseTicket(AccessArguments),
    /// Write what was paid in the pool as a file that proves itself; for its owner, administrators and auditors
    AuditExport(AuditExportArguments),
    /// Verify such a file, offline
    VerifyExport(VerifyExportArguments),
}

#[derive(Debug, Args)]
pub struct SeatArguments {
    #[command(flatten)]
    pub network: NetworkArguments,
}

#[derive(Debug, Args)]
pub struct CreateArguments {
    /// A seat of each orchestrator, as `darkbloom pool seat` prints it: 1, 4, 7 or more of them
    #[arg(long, value_name = "SEAT", required = true, num_args = 1.., value_delimiter = ',')]
    pub members: Vec<Seat>,
    /// Where to write the line that each of them starts with; it holds the secret of the pool's tickets
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct AccessArguments {
    /// The pool's ticket; default: the pool of this home
    #[arg(long, value_name = "TICKET")]
    pub join: Option<Ticket>,
    /// Print JSON; its schema is in docs/schemas
    #[arg(long)]
    pub json: bool,
}

/// What an invite, or an account, can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Reads everything, changes nothing
    Auditor,
    /// Lends and asks
    Member,
    /// Decides who takes part, and under which policy
    Administrator,
    /// Names the administrators and orchestrators too
    Owner,
}

#[derive(Debug, Args)]
pub struct InviteArguments {
    /// `member` lends and asks, `auditor` reads
    #[arg(long, value_enum, default_value = "member")]
    pub role: Role,
    /// How many people can use it
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// Any number of people can use it
    #[arg(long, conflicts_with = "uses")]
    pub unlimited: bool,
    /// For how long it counts, such as `12h` or `7d`; default: until it is revoked
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub r#for: Option<Duration>,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// Its id, or the beginning of it: `darkbloom pool invites` lists them
    pub invite: String,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct NodesArguments {
    /// Ids of machines, unique beginnings of them, or labels as `darkbloom status` shows them
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct LabelArguments {
    /// Id of a machine, a unique beginning of it, or its label as `darkbloom status` shows it
    #[arg(value_name = "NODE")]
    pub node: String,
    /// Where it is
    #[arg(long, value_name = "REGION", value_parser = label)]
    pub region: Option<Label>,
    /// It is nowhere in particular
    #[arg(long, conflicts_with = "region")]
    pub no_region: bool,
    /// What else is known of it; several take the place of all before
    #[arg(long, value_name = "LABEL", value_parser = label)]
    pub label: Vec<Label>,
    /// Nothing else is known of it
    #[arg(long, conflicts_with = "label")]
    pub no_labels: bool,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct GrantArguments {
    /// Its id: `darkbloom pool show` prints that of its home
    pub account: AccountId,
    /// How it stands from now on
    #[arg(value_enum)]
    pub role: Role,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct RevokeStandingArguments {
    /// Its id: `darkbloom pool members` lists them
    pub account: AccountId,
    #[command(flatten)]
    pub access: AccessArguments,
}

/// How far tasks may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LocalityChoice {
    /// Nowhere
    Device,
    /// To machines of the pool
    Pool,
    /// To any machine
    Network,
}

/// What is kept of prompts and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Retention {
    /// Nothing, by anybody
    None,
    /// What members keep
    Members,
}

/// The least that must back a worker's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TierChoice {
    /// The machine's own word
    SelfSigned,
}

#[derive(Debug, Args)]
pub struct PolicyArguments {
    /// The least tier of a worker
    #[arg(long, value_enum)]
    pub min_tier: Option<TierChoice>,
    /// How far tasks of members may travel
    #[arg(long, value_enum)]
    pub locality: Option<LocalityChoice>,
    /// The only models that may be used, by name or digest; `all`: every one
    #[arg(long, value_name = "NAME,…|all", value_delimiter = ',')]
    pub models: Option<Vec<String>>,
    /// The only regions whose machines may serve; `all`: every one
    #[arg(long, value_name = "REGION,…|all", value_delimiter = ',')]
    pub regions: Option<Vec<String>>,
    /// What is kept of prompts and answers
    #[arg(long, value_enum)]
    pub retention: Option<Retention>,
    /// Only workers whose program is allowed by `darkbloom pool measurement` may serve
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub measured_only: Option<bool>,
    /// Who joins waits for `darkbloom pool approve`
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub approval: Option<bool>,
    /// Credits that each account begins with
    #[arg(long, value_name = "CREDITS")]
    pub starter: Option<Amount>,
    /// Credits that the pool gives to all accounts together
    #[arg(long, value_name = "CREDITS")]
    pub issue: Option<Amount>,
    /// Credits that one account may hold for tasks on one day; `unlimited`: what it has
    #[arg(long, value_name = "CREDITS|unlimited", value_parser = parse_day)]
    pub day: Option<DayLimit>,
    #[command(flatten)]
    pub access: AccessArguments,
}

/// What one account may hold on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayLimit(pub Option<Amount>);

#[derive(Debug, Subcommand)]
pub enum MeasurementCommand {
    /// Allow a worker's program
    Allow(MeasurementArguments),
    /// Allow it no more
    Revoke(MeasurementArguments),
    /// List what is allowed
    Ls(AccessArguments),
}

#[derive(Debug, Args)]
pub struct MeasurementArguments {
    /// The program's file, or its BLAKE3 in 64 hexadecimal digits
    #[arg(value_name = "HEX|FILE")]
    pub measurement: String,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Subcommand)]
pub enum CommitteeCommand {
    /// Add orchestrators that run already, by the seats that `darkbloom pool seat` printed there
    Add(CommitteeAddArguments),
    /// Remove orchestrators
    Remove(CommitteeRemoveArguments),
}

#[derive(Debug, Args)]
pub struct CommitteeAddArguments {
    /// A seat of each
    #[arg(value_name = "SEAT", required = true)]
    pub seats: Vec<Seat>,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct CommitteeRemoveArguments {
    /// Their ids, or unique beginnings of them: `darkbloom pool show` lists them
    #[arg(value_name = "ID", required = true)]
    pub orchestrators: Vec<String>,
    #[command(flatten)]
    pub access: AccessArguments,
}

#[derive(Debug, Args)]
pub struct AuditExportArguments {
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// From this time on, such as `2026-11-23T00:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub from: Option<jiff::Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<jiff::Timestamp>,
    /// The pool's ticket; default: the pool of this home
    #[arg(long, value_name = "TICKET")]
    pub join: Option<Ticket>,
}

#[derive(Debug, Args)]
pub struct VerifyExportArguments {
    /// The file
    pub file: PathBuf,
    /// The pool's id, as `darkbloom status` shows it
    #[arg(long, value_name = "ID")]
    pub pool: PoolId,
}

fn label(text: &str) -> Result<Label, protocol::pool::LabelError> {
    Label::new(text)
}

fn parse_day(text: &str) -> Result<DayLimit, String> {
    if text == "unlimited" {
        return Ok(DayLimit(None));
    }
    text.parse().map(|amount| DayLimit(Some(amount))).map_err(|error: AmountError| format!("{error}, or `unlimited`"))
}

/// A number of minutes, hours, days or weeks.
fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "a length of time, such as `30m`, `12h`, `7d` or `2w`, at most a year".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let all = count.checked_mul(seconds).filter(|all| (1..=366 * 86_400).contains(all)).ok_or_else(wrong)?;
    Ok(Duration::from_secs(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_those_that_people_write() {
        assert_eq!(parse_span("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(parse_span("90m"), Ok(Duration::from_secs(5_400)));
        for text in ["", "d", "7", "0h", "-1d", "367d", "1é"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
        assert_eq!(parse_day("unlimited"), Ok(DayLimit(None)));
        assert_eq!(parse_day("0.5"), Ok(DayLimit(Some(Amount(500_000)))));
        assert!(parse_day("much").is_err());
    }
}
