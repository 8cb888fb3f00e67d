//! `darkbloom orchestrate`: an orchestrator alone, or as one of a committee.

use super::{
    daemon::{self, Parts},
    pool,
};
use crate::{cli::OrchestrateArguments, failure::Failure, home::Home, shutdown};
use orchestrator::OrchestratorConfig;
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: &OrchestrateArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("orchestrate")?;
    let stop = shutdown::on_signal()?;
    let founding = arguments.founding.as_deref().map(pool::read).transpose()?;
    let config = OrchestratorConfig { founding, ..daemon::orchestrator(home, &arguments.network)? };
    let orchestrator = daemon::start_orchestrator(config, home).await?;
    let ticket = orchestrator.ticket();
    let parts = Parts { orchestrator: Some(orchestrator), ..Parts::default() };
    let announced = daemon::announce(home, &lock, ticket.pool.to_string(), &parts);
    let result = announced.map(|control| (control, println!("ticket: {ticket}")));
    if result.is_ok() {
        eprintln!("matching; Ctrl-C ends it. Lend a machine with `darkbloom join TICKET`");
        stop.cancelled().await;
    }
    parts.shutdown().await;
    result.map(|_| ExitCode::SUCCESS)
}
