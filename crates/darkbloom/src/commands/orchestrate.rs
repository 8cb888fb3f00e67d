//! `darkbloom orchestrate`: an orchestrator alone.

use super::daemon;
use crate::{cli::OrchestrateArguments, failure::Failure, home::Home, shutdown};
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: &OrchestrateArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("orchestrate")?;
    let stop = shutdown::on_signal()?;
    let orchestrator = daemon::start_orchestrator(home, &arguments.network).await?;
    let ticket = orchestrator.ticket();
    let parts = daemon::Parts { orchestrator: Some(orchestrator.clone()), ..daemon::Parts::default() };
    let control = daemon::announce(home, &lock, ticket.pool.to_string(), parts)?;
    println!("ticket: {ticket}");
    eprintln!("matching; Ctrl-C ends it. Lend a machine with `darkbloom join TICKET`");
    stop.cancelled().await;
    drop(control);
    orchestrator.shutdown().await;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}
