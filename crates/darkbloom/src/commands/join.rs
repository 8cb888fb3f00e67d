//! `darkbloom join`: lend this machine to a pool.

use super::{
    daemon::{self, Parts},
    up::unless,
};
use crate::{
    cli::JoinArguments,
    failure::Failure,
    home::{Home, HomeLock, KeyRole},
    lending::{self, Lending},
    models::{self, Wanted},
    shutdown,
};
use owner::Purpose;
use protocol::ticket::Ticket;
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: JoinArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("join")?;
    let stop = shutdown::on_signal()?;
    daemon::worker_program(arguments.lend.worker.as_deref())?;
    // A mistake in the settings is told before a download, not after it.
    let lending = Lending::start(home, Purpose::Join)?;
    let ticket = match arguments.ticket {
        Some(ticket) => ticket,
        None => home.ticket()?,
    };
    let prepared = unless(&stop, async {
        let wanted = match arguments.lend.model.as_deref() {
            Some(model) => Wanted::parse(model),
            None => default_of(home, &ticket).await?,
        };
        models::prepare(home, &wanted, lending.settings.disk_bytes_max).await
    });
    let Some(model) = prepared.await? else { return Ok(ExitCode::SUCCESS) };
    let model_name = model.entry.name.clone();
    let node = daemon::start_node(home, &arguments.lend, &arguments.network, ticket.clone(), model, &lending).await?;
    let parts = Parts { node: Some(node.clone()), lending: Some(lending), ..Parts::default() };
    let result = lend(home, &lock, &ticket, &parts, async {
        eprintln!("loading {model_name}");
        lending::ready(&node).await;
        println!("lending this machine to pool {} as node {}", ticket.pool.short(), node.id());
        eprintln!("Ctrl-C ends it; `darkbloom status` says what it does");
    });
    let result = unless(&stop, result).await;
    parts.shutdown().await;
    result.map(|_| ExitCode::SUCCESS)
}

/// Lends until the caller stops waiting.
async fn lend(
    home: &Home,
    lock: &HomeLock,
    ticket: &Ticket,
    parts: &Parts,
    ready: impl Future<Output = ()>,
) -> Result<(), Failure> {
    // Only a ticket that admits is worth keeping.
    home.write_ticket(ticket)?;
    let _control = daemon::announce(home, lock, ticket.pool.to_string(), parts)?;
    ready.await;
    std::future::pending().await
}

/// The pool's default model; in a pool that has none yet, the catalogue's.
async fn default_of(home: &Home, ticket: &Ticket) -> Result<Wanted, Failure> {
    let client = daemon::start_client(home, KeyRole::Asker, ticket.clone()).await?;
    let models = client.models().await?;
    client.close().await;
    match models.first() {
        Some(model) => models::same_file(&model.name, model.digest),
        None => Ok(Wanted::default()),
    }
}
