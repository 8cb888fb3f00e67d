//! `darkbloom credits …`.

use crate::amount::Amount;
use clap::{Args, Subcommand};
use protocol::{ids::AccountId, ticket::Ticket};

#[derive(Debug, Args)]
pub struct CreditsArguments {
    /// The pool's ticket; default: the first pool of this home. Each pool has a ledger of its own
    #[arg(long, global = true, value_name = "TICKET")]
    pub join: Option<Ticket>,
    #[command(subcommand)]
    pub command: CreditsCommand,
}

#[derive(Debug, Subcommand)]
pub enum CreditsCommand {
    /// Show what this home's accounts have, as the pool's committee has agreed
    Balance(BalanceArguments),
    /// Show how credits moved, as one orchestrator saw it
    History(MovementsArguments),
    /// Sum up what each machine earned and spent
    Statement(MovementsArguments),
    /// What this machine asks for its work
    #[command(subcommand)]
    Price(PriceCommand),
    /// Have this home's machines earn and spend for its one account; among themselves they work for nothing
    Link,
    /// Have nothing to do with an account: neither serve it nor be served by it
    Block {
        /// The account; a machine that is not linked has its own, of the same name
        account: AccountId,
    },
    /// End a block
    Unblock {
        /// The account
        account: AccountId,
    },
}

#[derive(Debug, Args)]
pub struct BalanceArguments {
    /// Print JSON; its schema is in docs/schemas
    #[arg(long)]
    pub json: bool,
    /// Print a table of comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

#[derive(Debug, Args)]
pub struct MovementsArguments {
    /// From this time on, such as `2026-11-23T00:00:00Z`
    #[arg(long, value_name = "TIME")]
    pub from: Option<jiff::Timestamp>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<jiff::Timestamp>,
    /// Of every account of the pool; for its owner, administrators and auditors
    #[arg(long)]
    pub all: bool,
    /// Print JSON; its schema is in docs/schemas
    #[arg(long)]
    pub json: bool,
    /// Print a table of comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

#[derive(Debug, Subcommand)]
pub enum PriceCommand {
    /// Show what this machine asks
    Show,
    /// Set it; 0 for both asks nothing, which is the default
    Set(PriceSetArguments),
}

#[derive(Debug, Args)]
pub struct PriceSetArguments {
    /// Credits for 1,000 tokens of a prompt
    #[arg(long, value_name = "CREDITS")]
    pub prompt: Amount,
    /// Credits for 1,000 tokens of an answer
    #[arg(long, value_name = "CREDITS")]
    pub output: Amount,
    /// With which model; default: the one that is served here
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
}
