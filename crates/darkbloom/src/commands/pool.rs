//! `darkbloom pool`: founds a pool, shows what it has agreed on, and changes that.
//!
//! | file | commands |
//! |---|---|
//! | `founding` | `seat`, `create` |
//! | `show` | `show`, `members` |
//! | `people` | `approve`, `remove`, `label`, `grant`, `revoke-standing` |
//! | `invites` | `invite`, `invites`, `revoke`, `close-ticket` |
//! | `policy` | `policy`, `measurement` |
//! | `audit` | `audit-export`, `verify-export` |
//! | `committee` | `committee add`, `committee remove` |

mod access;
pub mod audit;
mod committee;
mod founding;
mod invites;
mod people;
mod policy;
mod show;

pub use founding::read;

use crate::{
    cli::{CommitteeCommand, MeasurementCommand, PoolCommand},
    failure::Failure,
    home::Home,
};
use std::process::ExitCode;

pub async fn run(home: &Home, command: PoolCommand) -> Result<ExitCode, Failure> {
    match command {
        PoolCommand::Seat(arguments) => founding::seat(home, &arguments).await,
        PoolCommand::Create(arguments) => founding::create(home, &arguments),
        PoolCommand::Show(arguments) => show::show(home, &arguments).await,
        PoolCommand::Members(arguments) => show::members(home, &arguments).await,
        PoolCommand::Invite(arguments) => invites::invite(home, &arguments).await,
        PoolCommand::Invites(arguments) => invites::list(home, &arguments).await,
        PoolCommand::Revoke(arguments) => invites::revoke(home, &arguments).await,
        PoolCommand::CloseTicket(arguments) => invites::close_ticket(home, &arguments).await,
        PoolCommand::AuditExport(arguments) => audit::export(home, &arguments).await,
        PoolCommand::VerifyExport(arguments) => audit::verify(&arguments),
        PoolCommand::Approve(arguments) => people::approve(home, &arguments).await,
        PoolCommand::Remove(arguments) => people::remove(home, &arguments).await,
        PoolCommand::Label(arguments) => people::label(home, &arguments).await,
        PoolCommand::Grant(arguments) => people::grant(home, &arguments).await,
        PoolCommand::RevokeStanding(arguments) => people::revoke_standing(home, &arguments).await,
        PoolCommand::Policy(arguments) => policy::policy(home, &arguments).await,
        PoolCommand::Measurement(MeasurementCommand::Allow(arguments)) => policy::measure(home, &arguments, true).await,
        PoolCommand::Measurement(MeasurementCommand::Revoke(arguments)) => {
            policy::measure(home, &arguments, false).await
        }
        PoolCommand::Measurement(MeasurementCommand::Ls(arguments)) => policy::measurements(home, &arguments).await,
        PoolCommand::Committee(CommitteeCommand::Add(arguments)) => committee::add(home, &arguments).await,
        PoolCommand::Committee(CommitteeCommand::Remove(arguments)) => committee::remove(home, &arguments).await,
    }
}
