//! `darkbloom serve`: a gateway alone.

use super::daemon::{self, Parts};
use crate::{
    cli::ServeArguments,
    failure::Failure,
    home::{Home, KeyRole},
    shutdown,
};
use std::process::ExitCode;

pub async fn run(home: &Home, arguments: ServeArguments) -> Result<ExitCode, Failure> {
    let lock = home.lock("serve")?;
    let stop = shutdown::on_signal()?;
    let ticket = match arguments.join {
        Some(ticket) => ticket,
        None => home.ticket()?,
    };
    let price_max = arguments.gateway.price_max;
    let client = daemon::start_client_within(home, KeyRole::Gateway, ticket.clone(), price_max).await?;
    let mut parts = Parts { client: Some(client.clone()), ..Parts::default() };
    let result = async {
        // Only a ticket that admits is worth keeping.
        home.write_ticket(&ticket)?;
        let gateway = daemon::bind_gateway(&arguments.gateway, client).await?;
        let address = *parts.gateway.insert(gateway.local_addr());
        let _control = daemon::announce(home, &lock, ticket.pool.to_string(), &parts)?;
        println!("base URL: {}", daemon::base_url(address));
        gateway.serve(stop).await.map_err(Failure::new)
    };
    let result = result.await;
    parts.shutdown().await;
    result.map(|()| ExitCode::SUCCESS)
}
