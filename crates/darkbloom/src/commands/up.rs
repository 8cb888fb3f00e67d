//! `darkbloom up`: a whole pool on this machine.

use super::{
    daemon::{self, Parts},
    first_prompt,
};
use crate::{
    cli::UpArguments,
    failure::Failure,
    home::{Home, HomeLock, KeyRole},
    lending::{self, Lending},
    models::{self, Ready, Wanted},
    shutdown,
};
use owner::Purpose;
use std::{process::ExitCode, sync::Arc};
use tokio_util::sync::CancellationToken;

pub async fn run(home: &Home, arguments: UpArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("up")?;
    let stop = shutdown::on_signal()?;
    // Looked for first: nobody wants to learn after a download that the program is missing.
    daemon::worker_program(arguments.lend.worker.as_deref())?;
    let lending = Lending::start(home, Purpose::Up)?;
    let wanted = arguments.lend.model.as_deref().map_or_else(Wanted::default, Wanted::parse);
    let Some(model) = unless(&stop, models::prepare(home, &wanted, lending.settings.disk_bytes_max)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut parts = Parts { lending: Some(Arc::clone(&lending)), ..Parts::default() };
    let result = serve(home, &arguments, &lock, (model, &lending), &mut parts, &stop).await;
    parts.shutdown().await;
    result
}

async fn serve(
    home: &Home,
    arguments: &UpArguments,
    lock: &HomeLock,
    (model, lending): (Ready, &Lending),
    parts: &mut Parts,
    stop: &CancellationToken,
) -> Result<ExitCode, Failure> {
    let orchestrator = parts
        .orchestrator
        .insert(daemon::start_orchestrator(daemon::orchestrator(home, &arguments.network)?, home).await?);
    let ticket = orchestrator.ticket();
    let (tickets, price_max) = (std::slice::from_ref(&ticket), arguments.gateway.price_max);
    let client = daemon::start_clients(home, KeyRole::Gateway, tickets, price_max).await?;
    let client = parts.client.insert(client).clone();
    let gateway = daemon::bind_gateway(&arguments.gateway, client).await?;
    let address = *parts.gateway.insert(gateway.local_addr());
    let model_name = model.entry.name.clone();
    let node = daemon::start_node(home, &arguments.lend, &arguments.network, ticket.clone(), model, lending).await?;
    let node = parts.node.insert(node).clone();
    let _control = daemon::announce(home, lock, ticket.pool.to_string(), parts)?;

    let gateway_stop = CancellationToken::new();
    let serving = tokio::spawn(gateway.serve(gateway_stop.clone()));
    eprintln!("loading {model_name}");
    let outcome = unless(stop, async {
        lending::ready(&node).await;
        if let Some(prompt) = &arguments.prompt {
            first_prompt::ask(&daemon::base_url(address), prompt, &arguments.gateway).await?;
        }
        Ok(())
    })
    .await;
    let answered = outcome.is_ok();
    if let Err(failure) = &outcome {
        failure.print();
    }
    if !stop.is_cancelled() {
        println!("base URL: {}", daemon::base_url(address));
        println!("ticket:   {ticket}");
        if !arguments.exit_after_answer {
            eprintln!("serving; Ctrl-C ends it. Lend another machine with `darkbloom join TICKET`");
            stop.cancelled().await;
        }
    }
    gateway_stop.cancel();
    serving.await.map_err(|error| Failure::new(format!("the gateway failed: {error}")))?.map_err(Failure::new)?;
    Ok(if answered || !arguments.exit_after_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The result of `work`; `None` where the owner stops it first.
pub async fn unless<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<Option<T>, Failure> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(None),
        result = work => result.map(Some),
    }
}
