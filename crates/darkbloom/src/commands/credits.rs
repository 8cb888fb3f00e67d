//! `darkbloom credits`: what this home has, earned and spent, what its machine asks, and with whom it has nothing to do.

use super::daemon;
use crate::{
    amount::Amount,
    cli::{BalanceArguments, CreditsArguments, CreditsCommand, MovementsArguments, PriceCommand, PriceSetArguments},
    control,
    failure::Failure,
    home::{Home, KeyRole},
    report::credits::{AccountReport, Balances, MovementReport, StatementLine, statement},
};
use client::{Client, MachineKey, SubmitError};
use protocol::{
    ids::{AccountId, ModelDigest},
    market::{AccountLink, PRICE_MICRO_MAX, Price},
    statement::Movement,
};
use registry::{Fact, keys as state_keys};
use std::{collections::BTreeMap, process::ExitCode};

pub async fn run(home: &Home, arguments: CreditsArguments) -> Result<ExitCode, Failure> {
    let ticket = match arguments.join {
        Some(ticket) => ticket,
        None => home.ticket()?,
    };
    let client = daemon::start_client(home, KeyRole::Asker, ticket).await?;
    let done = match arguments.command {
        CreditsCommand::Balance(arguments) => balance(home, &client, &arguments).await,
        CreditsCommand::History(arguments) => history(home, &client, &arguments).await,
        CreditsCommand::Statement(arguments) => print_statement(home, &client, &arguments).await,
        CreditsCommand::Price(PriceCommand::Show) => show_prices(home, &client).await,
        CreditsCommand::Price(PriceCommand::Set(arguments)) => set_price(home, &client, &arguments).await,
        CreditsCommand::Link => link(home, &client).await,
        CreditsCommand::Block { account } => block(home, &client, account, true).await,
        CreditsCommand::Unblock { account } => block(home, &client, account, false).await,
    };
    client.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

/// Every key of this home that can have an account of its own; the home's own account first.
fn keys(home: &Home) -> Result<Vec<(&'static str, MachineKey)>, Failure> {
    let roles = [
        ("account", KeyRole::Account),
        ("node", KeyRole::Node),
        ("gateway", KeyRole::Gateway),
        ("asker", KeyRole::Asker),
    ];
    roles.into_iter().map(|(name, role)| Ok((name, home.key(role)?))).collect()
}

async fn balance(home: &Home, client: &Client, arguments: &BalanceArguments) -> Result<(), Failure> {
    let mut report = Balances { accounts: Vec::new(), available_micro: 0, held_micro: 0, issued_micro: 0, height: 0 };
    for (of, key) in keys(home)? {
        let account = AccountId::from(key.id());
        let balance = client.balance(account, &key).await?;
        (report.issued_micro, report.height) = (balance.totals.issued_micro, balance.height);
        let has = balance.account;
        if of != "account" && has.available_micro == 0 && has.held_micro == 0 && !has.has_started {
            continue;
        }
        report.available_micro = report.available_micro.saturating_add(has.available_micro);
        report.held_micro = report.held_micro.saturating_add(has.held_micro);
        report.accounts.push(AccountReport {
            account: account.to_string(),
            of: of.to_owned(),
            available_micro: has.available_micro,
            held_micro: has.held_micro,
        });
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report is plain data"));
    } else if arguments.csv {
        println!("account,of,available_micro,held_micro");
        for row in &report.accounts {
            println!("{},{},{},{}", row.account, row.of, row.available_micro, row.held_micro);
        }
    } else {
        for row in &report.accounts {
            let (available, held) = (Amount(row.available_micro), Amount(row.held_micro));
            println!("{}  {:<8} {available} credits, {held} held", row.account, row.of);
        }
        println!("{} credits, {} held", Amount(report.available_micro), Amount(report.held_micro));
    }
    Ok(())
}

/// The time in question, in milliseconds since 1970.
fn span(arguments: &MovementsArguments) -> Result<(u64, u64), Failure> {
    let ms = |time: &Option<jiff::Timestamp>, default| {
        time.map_or(Ok(default), |time| {
            u64::try_from(time.as_millisecond()).map_err(|_| Failure::new("no pool was before 1970"))
        })
    };
    Ok((ms(&arguments.from, 0)?, ms(&arguments.to, u64::MAX)?))
}

/// Movements of this home's accounts, or of all; each once, in their order.
async fn movements(home: &Home, client: &Client, arguments: &MovementsArguments) -> Result<Vec<Movement>, Failure> {
    let (from, to) = span(arguments)?;
    if arguments.all {
        return Ok(client.movements(None, from, to, &home.key(KeyRole::Account)?).await?);
    }
    let mut all: BTreeMap<(u64, String), Movement> = BTreeMap::new();
    for (_, key) in keys(home)? {
        let own = client.movements(Some(key.id().into()), from, to, &key).await?;
        // Between two accounts of this home a movement is in both lists.
        all.extend(own.into_iter().map(|movement| ((movement.height, format!("{movement:?}")), movement)));
    }
    Ok(all.into_values().collect())
}

async fn history(home: &Home, client: &Client, arguments: &MovementsArguments) -> Result<(), Failure> {
    let reports: Vec<MovementReport> =
        movements(home, client, arguments).await?.iter().map(MovementReport::from).collect();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports).expect("a report is plain data"));
    } else if arguments.csv {
        println!("{}", MovementReport::COLUMNS);
        reports.iter().for_each(|report| println!("{}", report.csv()));
    } else {
        for report in &reports {
            let task = report.task.as_deref().map_or_else(String::new, |task| format!("  task {task}"));
            let tokens = match (report.prompt_tokens, report.output_tokens) {
                (Some(prompt), Some(output)) => format!(", {prompt} + {output} tokens"),
                _ => String::new(),
            };
            println!("{}  {:<8} {}{task}{tokens}", report.at, report.kind, Amount(report.amount_micro));
        }
    }
    Ok(())
}

async fn print_statement(home: &Home, client: &Client, arguments: &MovementsArguments) -> Result<(), Failure> {
    let movements = movements(home, client, arguments).await?;
    let accounts: Vec<AccountId> = keys(home)?.into_iter().map(|(_, key)| key.id().into()).collect();
    let lines = statement(&movements, (!arguments.all).then_some(&accounts));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&lines).expect("a report is plain data"));
    } else if arguments.csv {
        println!("{}", StatementLine::COLUMNS);
        lines.iter().for_each(|line| println!("{}", line.csv()));
    } else {
        for line in &lines {
            let StatementLine { machine, side, tasks, prompt_tokens, output_tokens, amount_micro } = line;
            let amount = Amount(*amount_micro);
            println!("{machine}  {side:<6} {amount} for {tasks} tasks, {prompt_tokens} + {output_tokens} tokens");
        }
    }
    Ok(())
}

/// Which model is meant: the one that was named, else the one that this home's node serves, else the pool's default.
async fn model(home: &Home, client: &Client, named: Option<&str>) -> Result<(String, ModelDigest), Failure> {
    let served = match named {
        Some(_) => None,
        None => control::ask(home, control::Question::Status).await?.and_then(|status| status.worker),
    };
    let wanted = named.map(str::to_owned).or(served.map(|worker| worker.model)).unwrap_or_else(|| "default".to_owned());
    let models = client.models().await?;
    let is_meant = |model: &client::Model| {
        let mut names = std::iter::once(&model.name).chain(&model.aliases);
        names.any(|name| name.eq_ignore_ascii_case(&wanted)) || (model.default && wanted == "default")
    };
    match models.into_iter().find(is_meant) {
        Some(model) => Ok((model.name, model.digest)),
        None => Err(Failure::new(format!("the pool has no model `{wanted}`"))
            .hint("`darkbloom status` on the pool's machine lists its models; name one with `--model NAME`")),
    }
}

async fn set_price(home: &Home, client: &Client, arguments: &PriceSetArguments) -> Result<(), Failure> {
    let price = Price { prompt_micro: arguments.prompt.0, output_micro: arguments.output.0 };
    if !price.is_valid() {
        return Err(Failure::new(format!("a price is at most {} credits for 1,000 tokens", Amount(PRICE_MICRO_MAX))));
    }
    let (name, digest) = model(home, client, arguments.model.as_deref()).await?;
    let node = home.key(KeyRole::Node)?;
    let asks = (price != Price::default()).then_some(price);
    let fact = Fact::AskSet { node: node.id(), model: digest, price: asks };
    client.submit(&node, vec![fact]).await.map_err(|error| {
        failure(error).hint("a machine that lends itself can ask a price: `darkbloom join TICKET` first")
    })?;
    match asks {
        Some(price) => println!("{name}: {}", shown(price)),
        None => println!("{name}: nothing"),
    }
    Ok(())
}

fn shown(price: Price) -> String {
    format!(
        "{} credits for 1,000 tokens of the prompt, {} for 1,000 of the answer",
        Amount(price.prompt_micro),
        Amount(price.output_micro)
    )
}

/// What this home's machine asks, as the pool has agreed.
async fn show_prices(home: &Home, client: &Client) -> Result<(), Failure> {
    let node = home.key(KeyRole::Node)?;
    for model in client.models().await? {
        match client.read(&state_keys::ask(node.id(), model.digest)).await? {
            Some(price) => println!("{}: {}", model.name, shown(price)),
            None => println!("{}: nothing", model.name),
        }
    }
    Ok(())
}

/// Links this home's machines to its account: each says so, and the account does.
async fn link(home: &Home, client: &Client) -> Result<(), Failure> {
    let account = home.key(KeyRole::Account)?;
    let number = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    let pool = client.pool();
    let mut linked = 0;
    for (of, key) in keys(home)?.into_iter().filter(|(of, _)| *of != "account") {
        let link = key.sign(&AccountLink { pool, account: account.id().into(), number });
        match client.submit(&account, vec![Fact::AccountLinked { link }]).await {
            Ok(_) => {
                linked += 1;
                println!("{of} {} belongs to account {}", key.id(), account.id());
            }
            // This home never took part in that role.
            Err(SubmitError::Refused { why }) if why == registry::Rejection::UnknownMember.to_string() => {}
            Err(error) => return Err(failure(error)),
        }
    }
    if linked == 0 {
        return Err(Failure::new("no machine of this home could be linked: the pool does not know its account yet")
            .hint(format!(
                "have an administrator of the pool run `darkbloom pool grant {} member`",
                AccountId::from(account.id())
            )));
    }
    Ok(())
}

fn failure(error: SubmitError) -> Failure {
    match error {
        SubmitError::Ask(error) => error.into(),
        error => Failure::new(error),
    }
}

async fn block(home: &Home, client: &Client, other: AccountId, is_blocked: bool) -> Result<(), Failure> {
    // Whoever of this home takes part has nothing to do with them: its account, and machines that are not linked.
    let mut said = 0;
    let mut last = None;
    for (_, key) in keys(home)? {
        match client.submit(&key, vec![Fact::BlockSet { other, is_blocked }]).await {
            Ok(_) => said += 1,
            Err(error @ SubmitError::Refused { .. }) => last = Some(error),
            Err(error) => return Err(failure(error)),
        }
    }
    match last {
        Some(error) if said == 0 => Err(failure(error)),
        _ => {
            println!("{other} is {}", if is_blocked { "blocked" } else { "not blocked" });
            Ok(())
        }
    }
}
