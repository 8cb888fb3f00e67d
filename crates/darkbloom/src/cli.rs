//! The command line, and nothing but it.

mod credits;
mod pool;

pub use self::credits::{
    BalanceArguments, CreditsArguments, CreditsCommand, MovementsArguments, PriceCommand, PriceSetArguments,
};
pub use self::pool::{
    AccessArguments, AuditExportArguments, CommitteeAddArguments, CommitteeCommand, CommitteeRemoveArguments,
    CreateArguments, DayLimit, GrantArguments, InviteArguments, LabelArguments, LocalityChoice, MeasurementArguments,
    MeasurementCommand, NodesArguments, PolicyArguments, PoolCommand, Retention, RevokeArguments,
    RevokeStandingArguments, Role as PoolRole, SeatArguments, TierChoice, VerifyExportArguments,
};

use crate::amount::{Amount, AmountError};
use clap::{Args, Parser, Subcommand};
use protocol::{market::Price, ticket::Ticket};
use std::{net::SocketAddr, path::PathBuf};

/// A private AI cloud from the idle computers of its members.
#[derive(Debug, Parser)]
#[command(name = "darkbloom", version, max_term_width = 100)]
pub struct Arguments {
    #[command(flatten)]
    pub home: HomeArguments,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct HomeArguments {
    /// Directory of this pool member: keys, registry, models. Several can live side by side
    #[arg(long, global = true, env = "DARKBLOOM_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a whole pool on this machine: orchestrator, node, worker and gateway
    Up(UpArguments),
    /// Lend this machine to a pool
    Join(JoinArguments),
    /// Serve the OpenAI API of a pool on this machine, and lend nothing
    Serve(ServeArguments),
    /// Run an orchestrator alone, or as one of a committee
    Orchestrate(OrchestrateArguments),
    /// Found a pool, invite people to it, and decide who takes part under which rules
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Ask one question
    Run(RunArguments),
    /// Talk to a model
    Chat(ChatArguments),
    /// Show what runs here, and why anything does not
    Status(OutputArguments),
    /// Take this machine back at once: running tasks go on elsewhere
    Pause(PauseArguments),
    /// Lend this machine again after `pause` or `drain`; rules of `config.toml` still hold
    Resume,
    /// Finish the tasks that run here and take no more
    Drain,
    /// Check this machine and name the remedy for what is wrong
    Doctor(OutputArguments),
    /// What this home has, earned and spent, and what its machine asks
    Credits(CreditsArguments),
    /// The models of the catalogue and of this home
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Simulate a pool of a thousand machines, whose owners come and go, and compare matching rules
    Sim(SimArguments),
    /// Write the JSON schemas of every `--json` output
    #[command(hide = true)]
    Schema(SchemaArguments),
}

#[derive(Debug, Args)]
pub struct NetworkArguments {
    /// Take connections from other machines too, not from this one only
    #[arg(long)]
    pub network: bool,
}

#[derive(Debug, Args)]
pub struct GatewayArguments {
    /// Port of the OpenAI API on 127.0.0.1; 0 lets the system choose
    #[arg(long, default_value_t = 7433, value_name = "N")]
    pub port: u16,
    /// Address of the OpenAI API; one that is not loopback needs `--api-key-file`
    #[arg(long, value_name = "IP:PORT", conflicts_with = "port")]
    pub bind: Option<SocketAddr>,
    /// Most credits for 1,000 tokens of a prompt and of an answer, as in `0.1,0.5`; one number is for both
    #[arg(long, value_name = "PROMPT,ANSWER", value_parser = price)]
    pub price_max: Option<Price>,
    /// File with one API key a line; without keys only this machine may ask
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct LendArguments {
    /// Model to serve: a name of the catalogue, or a GGUF file
    #[arg(long, value_name = "NAME|FILE")]
    pub model: Option<String>,
    /// Tasks at once
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub slots: u32,
    /// Threads of the engine; default: one for each core, or as `config.toml` says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Tokens of context for one task; default: the model's own, within 4096
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub context: Option<u32>,
    /// What people call this machine; default: its host name
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// The worker's program; default: `darkbloom-worker` beside this one
    #[arg(long, value_name = "PROGRAM", hide = true)]
    pub worker: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct UpArguments {
    #[command(flatten)]
    pub gateway: GatewayArguments,
    #[command(flatten)]
    pub lend: LendArguments,
    #[command(flatten)]
    pub network: NetworkArguments,
    /// Ask this as soon as the pool is ready, through its own API
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// End after the answer to `--prompt`; fails where there was none
    #[arg(long, requires = "prompt")]
    pub exit_after_answer: bool,
}

#[derive(Debug, Args)]
pub struct JoinArguments {
    /// The pool's ticket; default: the one that this home joined with
    pub ticket: Option<Ticket>,
    #[command(flatten)]
    pub lend: LendArguments,
    #[command(flatten)]
    pub network: NetworkArguments,
}

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// The pool's ticket; several are asked in this order; default: those that this home joined with
    #[arg(long, value_name = "TICKET")]
    pub join: Vec<Ticket>,
    #[command(flatten)]
    pub gateway: GatewayArguments,
}

#[derive(Debug, Args)]
pub struct OrchestrateArguments {
    /// The file that `darkbloom pool create` wrote; needed once. Without it a new home founds a pool of its own
    #[arg(long, value_name = "FILE")]
    pub founding: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArguments,
}

#[derive(Debug, Args)]
pub struct AskArguments {
    /// The pool's ticket; several are asked in this order; default: the pools of this home
    #[arg(long, value_name = "TICKET")]
    pub join: Vec<Ticket>,
    /// Which model
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub model: String,
    /// Most tokens of the answer
    #[arg(long, value_name = "N")]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token, 2 is the wildest
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,
    /// Draws the same answer again, from the same machine
    #[arg(long, value_name = "N")]
    pub seed: Option<u32>,
    /// Most credits for 1,000 tokens of a prompt and of an answer, as in `0.1,0.5`; one number is for both
    #[arg(long, value_name = "PROMPT,ANSWER", value_parser = price)]
    pub price_max: Option<Price>,
    /// Instruction that stands before the conversation
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// The question; `-` reads it from standard input
    pub prompt: String,
    #[command(flatten)]
    pub ask: AskArguments,
    /// Print the whole answer as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ChatArguments {
    #[command(flatten)]
    pub ask: AskArguments,
}

#[derive(Debug, Args)]
pub struct PauseArguments {
    /// For how long, such as `90m` or `2h`; default: until `darkbloom resume`
    #[arg(long, value_name = "TIME", value_parser = crate::commands::parse_time)]
    pub r#for: Option<jiff::SignedDuration>,
}

#[derive(Debug, Args)]
pub struct OutputArguments {
    /// Print JSON; its schema is in docs/schemas
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List the models of the catalogue, and which of them are here
    Ls(OutputArguments),
    /// Fetch a model and verify it
    Pull {
        /// A name of the catalogue
        #[arg(default_value = "default")]
        name: String,
    },
    /// Print where a model's file is
    Path {
        /// A name of the catalogue
        #[arg(default_value = "default")]
        name: String,
    },
}

#[derive(Debug, Args)]
pub struct SimArguments {
    /// A set of runs instead of one scenario
    #[arg(long, value_enum)]
    pub preset: Option<Preset>,
    /// Honest members, present or away
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub nodes: usize,
    /// Of all chance: the same seed gives the same bytes
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Simulated hours
    #[arg(long, default_value_t = 1.0, value_name = "H")]
    pub hours: f64,
    /// Offered work relative to what the present machines can do
    #[arg(long, default_value_t = 0.6, value_name = "TIMES")]
    pub load: f64,
    /// Model that all machines serve: `phi-3-mini`, `llama-3.2-3b`, `gemma-2-2b`
    #[arg(long, default_value = "llama-3.2-3b", value_name = "NAME")]
    pub model: String,
    /// `darkbloom`, `random`, `round-robin`, `least-loaded`, `d-inference`, `d-inference+failover`, or `all`
    #[arg(long, default_value = "darkbloom", value_name = "NAME")]
    pub policy: String,
    /// The same as `--policy all`
    #[arg(long)]
    pub compare: bool,
    /// Nobody comes or goes
    #[arg(long)]
    pub no_churn: bool,
    /// Fake nodes besides; admission is open then, so that everybody serves a probation
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub sybil: usize,
    /// Nodes that fail every task: a share like `5%`, or a number
    #[arg(long, value_name = "SHARE|N")]
    pub black_holes: Option<sim::scenario::Amount>,
    /// Nodes that claim ten times their speed: a share like `5%`, or a number
    #[arg(long, value_name = "SHARE|N")]
    pub liars: Option<sim::scenario::Amount>,
    /// This many times the usual demand in the middle fifth of the time, as in `10x`
    #[arg(long, value_name = "TIMES", value_parser = times)]
    pub flash_crowd: Option<f64>,
    /// Share of the fleet that is one office, which goes home half way through
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub office: f64,
    /// Share of the fleet that cannot be reached for ten minutes, half way through
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub partition: f64,
    /// Machines, owners, networks and tasks instead of the built-in ones
    #[arg(long, value_name = "FILE")]
    pub machines: Option<PathBuf>,
    /// Write charts: one page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print JSON; its schema is in docs/schemas
    #[arg(long)]
    pub json: bool,
}

/// Sets of runs.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Preset {
    /// What a thousand machines write in a second with three models
    SeedTable,
}

fn price(text: &str) -> Result<Price, AmountError> {
    let (prompt, output) = text.split_once(',').unwrap_or((text, text));
    let (prompt, output): (Amount, Amount) = (prompt.trim().parse()?, output.trim().parse()?);
    Ok(Price { prompt_micro: prompt.0, output_micro: output.0 })
}

fn times(text: &str) -> Result<f64, std::num::ParseFloatError> {
    text.trim_end_matches(['x', '×']).parse()
}

#[derive(Debug, Args)]
pub struct SchemaArguments {
    /// Where to write them
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}
