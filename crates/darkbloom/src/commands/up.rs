//! `darkbloom up`: a whole pool on this machine.

use super::{daemon, first_prompt};
use crate::{
    cli::UpArguments,
    failure::Failure,
    home::Home,
    models::{self, Wanted},
    shutdown,
};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

pub async fn run(home: &Home, arguments: UpArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("up")?;
    let stop = shutdown::on_signal()?;
    // Looked for first: nobody wants to learn after a download that the program is missing.
    daemon::worker_program(arguments.lend.worker.as_deref())?;
    let wanted = arguments.lend.model.as_deref().map_or_else(Wanted::default, Wanted::parse);
    let Some(model) = unless(&stop, models::prepare(home, &wanted)).await? else { return Ok(ExitCode::SUCCESS) };

    let orchestrator = daemon::start_orchestrator(home, &arguments.network).await?;
    let ticket = orchestrator.ticket();
    let model_name = model.entry.name.clone();
    let node = daemon::start_node(home, &arguments.lend, &arguments.network, ticket.clone(), model).await?;
    let client = daemon::start_client(home, ticket.clone()).await?;
    let gateway = daemon::bind_gateway(&arguments.gateway, client.clone()).await?;
    let address = gateway.local_addr();
    let parts = daemon::Parts {
        orchestrator: Some(orchestrator.clone()),
        node: Some(node.clone()),
        gateway: Some((address, client.clone())),
    };
    let control = daemon::announce(home, &lock, ticket.pool.to_string(), parts)?;
    let gateway_stop = CancellationToken::new();
    let serving = tokio::spawn({
        let stop = gateway_stop.clone();
        async move { daemon::serve_gateway(gateway, &stop).await }
    });

    eprintln!("loading {model_name}");
    let outcome = unless(&stop, async {
        node.ready().await;
        if let Some(prompt) = &arguments.prompt {
            first_prompt::ask(&daemon::base_url(address), prompt, &arguments.gateway).await?;
        }
        Ok(())
    })
    .await;
    let failed_to_answer = outcome.is_err();
    match outcome {
        Ok(Some(())) => {
            println!("base URL: {}", daemon::base_url(address));
            println!("ticket:   {ticket}");
            if !arguments.exit_after_answer {
                eprintln!("serving; Ctrl-C ends it. Lend another machine with `darkbloom join TICKET`");
                stop.cancelled().await;
            }
        }
        Ok(None) => {}
        Err(failure) => {
            failure.print();
            if !arguments.exit_after_answer {
                eprintln!("serving all the same; `darkbloom status` says how the pool is");
                println!("base URL: {}", daemon::base_url(address));
                println!("ticket:   {ticket}");
                stop.cancelled().await;
            }
        }
    }
    gateway_stop.cancel();
    let served = serving.await.map_err(|error| Failure::new(format!("the gateway failed: {error}")))?;
    node.shutdown(daemon::DRAIN).await;
    client.close().await;
    drop(control);
    orchestrator.shutdown().await;
    drop(lock);
    served?;
    Ok(if failed_to_answer && arguments.exit_after_answer { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
