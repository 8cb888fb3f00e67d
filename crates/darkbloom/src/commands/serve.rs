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
    let tickets = match arguments.join.as_slice() {
        [] => home.tickets()?,
        given => given.to_vec(),
    };
    let price_max = arguments.gateway.price_max;
    let client = daemon::start_clients(home, KeyRole::Gateway, &tickets, price_max).await?;
    let client_pool = client.clients()[0].pool().to_string();
    let mut parts = Parts { client: Some(client.clone()), ..Parts::default() };
    let result = async {
        // Only tickets of which one admits are worth keeping.
        home.write_tickets(&tickets)?;
        let gateway = daemon::bind_gateway(&arguments.gateway, client).await?;
        let address = *parts.gateway.insert(gateway.local_addr());
        let _control = daemon::announce(home, &lock, client_pool, &parts)?;
        println!("base URL: {}", daemon::base_url(address));
        gateway.serve(stop).await.map_err(Failure::new)
    };
    let result = result.await;
    parts.shutdown().await;
    result.map(|()| ExitCode::SUCCESS)
}
