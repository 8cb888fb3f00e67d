//! `darkbloom join`: lend this machine to a pool.

use super::{daemon, up::unless};
use crate::{
    cli::JoinArguments,
    failure::Failure,
    home::Home,
    models::{self, Wanted},
    shutdown,
};
use client::{Client, ClientConfig};
use protocol::ticket::Ticket;
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: JoinArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("join")?;
    let stop = shutdown::on_signal()?;
    daemon::worker_program(arguments.lend.worker.as_deref())?;
    let ticket = match arguments.ticket {
        Some(ticket) => ticket,
        None => home.ticket()?,
    };
    let prepared = unless(&stop, async {
        let wanted = match arguments.lend.model.as_deref() {
            Some(model) => Wanted::parse(model),
            None => default_of(&ticket).await?,
        };
        models::prepare(home, &wanted).await
    });
    let Some(model) = prepared.await? else { return Ok(ExitCode::SUCCESS) };
    let model_name = model.entry.name.clone();
    let node = daemon::start_node(home, &arguments.lend, &arguments.network, ticket.clone(), model).await?;
    // Only a ticket that admits is worth keeping.
    home.write_ticket(&ticket)?;
    let parts = daemon::Parts { node: Some(node.clone()), ..daemon::Parts::default() };
    let control = daemon::announce(home, &lock, ticket.pool.to_string(), parts)?;
    eprintln!("loading {model_name}");
    let ready = unless(&stop, async {
        node.ready().await;
        Ok(())
    });
    if ready.await?.is_some() {
        println!("lending this machine to pool {} as node {}", ticket.pool.short(), node.id());
        eprintln!("Ctrl-C ends it; `darkbloom status` says what it does");
        stop.cancelled().await;
    }
    node.shutdown(daemon::DRAIN).await;
    drop(control);
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// The pool's default model; in a pool that has none yet, the catalogue's.
async fn default_of(ticket: &Ticket) -> Result<Wanted, Failure> {
    let client = Client::start(ClientConfig::new(ticket.clone())).await?;
    let models = client.models().await?;
    client.close().await;
    match models.first() {
        Some(model) => models::same_file(&model.name, model.digest),
        None => Ok(Wanted::default()),
    }
}
