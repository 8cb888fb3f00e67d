//! `darkbloom serve`: a gateway alone.

use super::daemon;
use crate::{cli::ServeArguments, failure::Failure, home::Home, shutdown};
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: ServeArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("serve")?;
    let stop = shutdown::on_signal()?;
    let ticket = match arguments.join {
        Some(ticket) => ticket,
        None => home.ticket()?,
    };
    let client = daemon::start_client(home, ticket.clone()).await?;
    home.write_ticket(&ticket)?;
    let gateway = daemon::bind_gateway(&arguments.gateway, client.clone()).await?;
    let address = gateway.local_addr();
    let parts = daemon::Parts { gateway: Some((address, client.clone())), ..daemon::Parts::default() };
    let control = daemon::announce(home, &lock, ticket.pool.to_string(), parts)?;
    println!("base URL: {}", daemon::base_url(address));
    let served = daemon::serve_gateway(gateway, &stop).await;
    client.close().await;
    drop(control);
    drop(lock);
    served?;
    Ok(ExitCode::SUCCESS)
}
