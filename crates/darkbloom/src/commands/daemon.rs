//! What the long-running subcommands share: parts of a pool, started from a home and command-line arguments.

use crate::{
    cli::{GatewayArguments, LendArguments, NetworkArguments},
    control::{Control, Question},
    failure::{AWAITS_APPROVAL, Failure},
    home::{Home, HomeLock, KeyRole},
    lending::Lending,
    models::Ready,
    report::{self, Status},
};
use client::{AskError, Client, ClientConfig, Pools, verify::OwnPolicy};
use gateway::{ApiKey, Gateway, GatewayConfig, Limits};
use node::{Node, NodeConfig, WorkerSettings};
use orchestrator::{Orchestrator, OrchestratorConfig};
use protocol::{hold::Hold, ids::AccountId, link::Denied, market::Price, ticket::Ticket};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use transport::Listen;

/// How long tasks may run on after the first signal.
pub const DRAIN: Duration = Duration::from_secs(30);

pub fn listen(network: &NetworkArguments) -> Listen {
    if network.network { Listen::Network { port: 0 } } else { Listen::Loopback { port: 0 } }
}

/// How this home's orchestrator starts.
pub fn orchestrator(home: &Home, network: &NetworkArguments) -> Result<OrchestratorConfig, Failure> {
    let account = AccountId::from(home.key(KeyRole::Account)?.id());
    let config = OrchestratorConfig::new(home.pool()?, listen(network), home.key(KeyRole::Orchestrator)?);
    Ok(OrchestratorConfig { owner: Some(account), ..config })
}

pub async fn start_orchestrator(config: OrchestratorConfig, home: &Home) -> Result<Arc<Orchestrator>, Failure> {
    let orchestrator = Orchestrator::start(config).await.map_err(Failure::new)?;
    home.write_ticket(&orchestrator.ticket())?;
    Ok(Arc::new(orchestrator))
}

pub async fn start_node(
    home: &Home,
    lend: &LendArguments,
    network: &NetworkArguments,
    ticket: Ticket,
    model: Ready,
    lending: &Lending,
) -> Result<Arc<Node>, Failure> {
    let config = NodeConfig {
        key: home.key(KeyRole::Node)?,
        listen: listen(network),
        ticket,
        household: home.household()?,
        label: lend.label.clone().unwrap_or_else(host_name),
        worker_program: worker_program(lend.worker.as_deref())?,
        model: model.entry,
        model_file: model.file,
        worker: WorkerSettings {
            context_tokens: lend.context,
            slots: lend.slots,
            threads: lending.threads(lend.threads),
            duty_percent: lending.settings.gpu_share_percent,
            memory_bytes_max: lending.memory_bytes_max(),
        },
        holds: lending.holds(home),
        owed: Some(home.path().join("owed")),
        credit_micro_max: lending.settings.credit_micro_max,
    };
    let node = Node::start(config).await.map_err(|error| {
        let hint = match &error {
            node::StartError::Denied(Denied::AwaitsApproval) => Some(AWAITS_APPROVAL),
            node::StartError::Denied(_) => Some("`darkbloom status` on the pool's machine shows its current ticket"),
            node::StartError::Memory(_) => Some("choose a smaller model, or raise `memory_bytes_max` in config.toml"),
            _ => None,
        };
        let failure = Failure::new(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    let node = Arc::new(node);
    lending.follow(&node);
    Ok(node)
}

/// The worker's program: the one that was named, else the one beside this program.
pub fn worker_program(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let program = match named {
        Some(program) => program.to_owned(),
        None => {
            let own = std::env::current_exe()
                .map_err(|error| Failure::new(format!("cannot tell where this program is: {error}")))?;
            own.with_file_name("darkbloom-worker")
        }
    };
    if program.is_file() {
        return Ok(program);
    }
    Err(Failure::new(format!("the worker's program is not at {}", program.display()))
        .hint("`cargo build --release` builds both programs; keep them in one directory"))
}

pub async fn start_client(home: &Home, role: KeyRole, ticket: Ticket) -> Result<Client, Failure> {
    Ok(connect(home, role, ticket).await??)
}

/// As [`start_client`], for one who does something about the error of the pool.
pub async fn connect(home: &Home, role: KeyRole, ticket: Ticket) -> Result<Result<Client, AskError>, Failure> {
    connect_within(home, role, ticket, None).await
}

/// As [`connect`], with another ceiling than the home's.
async fn connect_within(
    home: &Home,
    role: KeyRole,
    ticket: Ticket,
    price_max: Option<Price>,
) -> Result<Result<Client, AskError>, Failure> {
    let settings = home.client_settings()?;
    let (audit, price_max) = (settings.audit, price_max.or(settings.price_max()));
    let keep = Some(home.path().join("committees"));
    let own_policy = OwnPolicy { locality_max: Some(settings.locality), price_max, ..OwnPolicy::default() };
    let (household, default) = (home.household()?, ClientConfig::new(home.key(role)?, ticket));
    let config = ClientConfig { audit, keep, household, own_policy, ..default };
    Ok(Client::start(config).await)
}

/// Clients of several pools, in this order. One that is out of reach does not keep the others from being asked, unless it
/// is the only one. The ceiling, where there is one, takes the place of the home's.
pub async fn start_clients(
    home: &Home,
    role: KeyRole,
    tickets: &[Ticket],
    price_max: Option<Price>,
) -> Result<Pools, Failure> {
    let (mut clients, mut failure): (Vec<Client>, Option<Failure>) = (Vec::new(), None);
    for ticket in tickets {
        if clients.iter().any(|client| client.pool() == ticket.pool) {
            continue;
        }
        match connect_within(home, role, ticket.clone(), price_max).await? {
            Ok(client) => clients.push(client),
            Err(error) => {
                if tickets.len() > 1 {
                    eprintln!("warning: pool {} is left out: {error}", ticket.pool.short());
                }
                failure = failure.or(Some(error.into()));
            }
        }
    }
    match (clients.is_empty(), failure) {
        (true, Some(failure)) => Err(failure),
        (true, None) => Err(Failure::new("there is no pool to ask").hint("give a ticket: `--join TICKET`")),
        (false, _) => Ok(Pools::new(clients)),
    }
}

pub async fn bind_gateway(arguments: &GatewayArguments, client: Pools) -> Result<Gateway, Failure> {
    let bind = arguments.bind.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], arguments.port)));
    let keys = match &arguments.api_key_file {
        Some(path) => read_keys(path)?,
        None => Vec::new(),
    };
    let config = GatewayConfig { bind, keys, limits: Limits::default() };
    Gateway::bind(config, Arc::new(client)).await.map_err(|error| {
        let taken = matches!(&error, gateway::GatewayError::Bind { .. });
        let failure = Failure::new(&error);
        if taken { failure.hint("choose another port with `--port N`; 0 lets the system choose") } else { failure }
    })
}

fn read_keys(path: &Path) -> Result<Vec<ApiKey>, Failure> {
    let fail = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fail(&error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys: Vec<ApiKey> = lines.map(ApiKey::new).collect::<Result<_, _>>().map_err(|error| fail(&error))?;
    if keys.is_empty() {
        return Err(fail(&"no key in this file").hint("write one key a line, such as `openssl rand -hex 32` makes"));
    }
    Ok(keys)
}

pub fn base_url(address: SocketAddr) -> String {
    format!("http://{address}/v1")
}

/// What runs in this process. Filled as it starts, so that what has started is ended whatever happens.
#[derive(Clone, Default)]
pub struct Parts {
    pub orchestrator: Option<Arc<Orchestrator>>,
    pub node: Option<Arc<Node>>,
    pub client: Option<Pools>,
    pub gateway: Option<SocketAddr>,
    pub lending: Option<Arc<Lending>>,
}

impl Parts {
    /// Ends everything in the order that lets tasks finish.
    pub async fn shutdown(self) {
        if let Some(node) = self.node {
            node.shutdown(DRAIN).await;
        }
        if let Some(client) = self.client {
            client.close().await;
        }
        if let Some(orchestrator) = self.orchestrator {
            orchestrator.shutdown().await;
        }
    }
}

/// Opens the control socket, and tells a service manager that the daemon is ready.
pub fn announce(home: &Home, lock: &HomeLock, pool: String, parts: &Parts) -> Result<Control, Failure> {
    let base = Status {
        running: true,
        home: home.path().display().to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        process_id: Some(lock.holder.process_id),
        started_at: Some(lock.holder.since.clone()),
        pool: Some(pool),
        ..Status::default()
    };
    let (parts, own) = (parts.clone(), home.clone());
    let control = Control::listen(home, move |question| {
        obey(&own, &parts, question).map_err(|failure| failure.to_string())?;
        Ok(status(base.clone(), &parts))
    })?;
    // Nobody listens where there is no service manager.
    let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]);
    Ok(control)
}

/// Does what the owner says.
fn obey(home: &Home, parts: &Parts, question: Question) -> Result<(), Failure> {
    let Some(node) = &parts.node else { return Ok(()) };
    match question {
        Question::Status => {}
        Question::Pause { until_unix_ms } => {
            // First the machine, then what is remembered of it.
            node.pause(until_unix_ms);
            home.write_paused(Some(&Hold::Paused { until_unix_ms }))?;
        }
        Question::Resume => {
            node.resume();
            home.write_paused(None)?;
        }
        Question::Drain => node.drain(),
    }
    Ok(())
}

fn status(mut status: Status, parts: &Parts) -> Status {
    if let Some(orchestrator) = &parts.orchestrator {
        status.roles.push("orchestrator".to_owned());
        status.ticket = Some(orchestrator.ticket().to_string());
        status.orchestrator_id = Some(orchestrator.id().to_string());
        status.agreement = Some(orchestrator.standing().into());
        status.nodes = Some(orchestrator.nodes().into_iter().map(Into::into).collect());
        status.models = Some(report::models(orchestrator.models()));
    }
    if let Some(node) = &parts.node {
        let verdict = parts.lending.as_ref().map(|lending| lending.verdict()).unwrap_or_default();
        status.add_node(node.status(), &verdict);
    }
    if let (Some(address), Some(client)) = (parts.gateway, &parts.client) {
        status.roles.push("gateway".to_owned());
        status.base_url = Some(base_url(address));
        status.connected = Some(client.is_connected());
    }
    status
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "unnamed".to_owned())
}
