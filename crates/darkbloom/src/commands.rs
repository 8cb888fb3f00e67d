//! One file for each subcommand; what several share is in [`daemon`].

mod ask;
mod chat;
mod credits;
mod daemon;
mod doctor;
mod first_prompt;
mod join;
mod models;
mod orchestrate;
mod pause;
mod pool;
mod run;
mod schema;
mod serve;
mod sim;
mod status;
mod up;

pub use pause::parse_time;

use crate::{
    cli::{Arguments, Command, PoolCommand},
    failure::Failure,
    home::Home,
};
use std::process::ExitCode;

/// Runs the subcommand.
pub async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    if let Command::Schema(arguments) = &arguments.command {
        return schema::run(arguments);
    }
    if let Command::Sim(arguments) = &arguments.command {
        return sim::run(arguments);
    }
    if let Command::Pool(PoolCommand::VerifyExport(arguments)) = &arguments.command {
        return pool::audit::verify(arguments);
    }
    let home = Home::open(arguments.home.home)?;
    match arguments.command {
        Command::Up(arguments) => up::run(&home, arguments).await,
        Command::Join(arguments) => join::run(&home, arguments).await,
        Command::Serve(arguments) => serve::run(&home, arguments).await,
        Command::Orchestrate(arguments) => orchestrate::run(&home, &arguments).await,
        Command::Pool(command) => pool::run(&home, command).await,
        Command::Run(arguments) => run::run(&home, arguments).await,
        Command::Chat(arguments) => chat::run(&home, arguments).await,
        Command::Status(arguments) => status::run(&home, &arguments).await,
        Command::Pause(arguments) => pause::pause(&home, &arguments).await,
        Command::Resume => pause::resume(&home).await,
        Command::Drain => pause::drain(&home).await,
        Command::Doctor(arguments) => doctor::run(&home, &arguments).await,
        Command::Credits(arguments) => credits::run(&home, arguments).await,
        Command::Models(command) => models::run(&home, command).await,
        Command::Schema(_) | Command::Sim(_) => unreachable!("handled above: they need no home"),
    }
}
