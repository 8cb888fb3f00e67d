//! The load of `cargo xtask bench links`: very many nodes of a pool in one process, or one client that asks for matches.
//!
//!     many-nodes nodes TICKET COUNT              nodes that stay; a line for every change of how many there are
//!     many-nodes matches TICKET COUNT A_SECOND   asks for so many matches, and says how long they took

use protocol::{
    grant::{MatchReply, MatchRequest, ModelRef},
    ids::TaskId,
    limits::{LINK_MESSAGE_BYTES_MAX as LIMIT, QUESTION_BYTES_MAX},
    link::{ALPN, Answer, End, Hello, HelloReply, Outcome, Question, Role},
    ticket::Ticket,
};
use std::{
    error::Error,
    io::{Write, stdout},
    process::ExitCode,
    time::{Duration, Instant},
};
use testbed::crowd::{self, Crowd};
use tokio::time::MissedTickBehavior;
use transport::{Connection, Listen, Transport};

type AnyError = Box<dyn Error + Send + Sync>;

/// How often it is looked how many nodes there are.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The client's key is none of a node's.
const CLIENT: usize = usize::MAX;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let result = runtime.block_on(async {
        match arguments[..] {
            ["nodes", ticket, count] => nodes(&ticket.parse()?, count.parse()?).await,
            ["matches", ticket, count, per_second] => {
                matches(&ticket.parse()?, count.parse()?, per_second.parse()?).await
            }
            _ => Err("nodes TICKET COUNT, or matches TICKET COUNT A_SECOND".into()),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs until it is killed, or nobody reads any more.
async fn nodes(ticket: &Ticket, count: usize) -> Result<(), AnyError> {
    let crowd = Crowd::join(ticket, count)?;
    let mut said = (usize::MAX, usize::MAX);
    loop {
        let (linked, routed) = crowd.counts();
        if said != (linked, routed) {
            said = (linked, routed);
            writeln!(stdout(), "linked: {linked} routed: {routed}")?;
        }
        for (why, count) in crowd.take_failures() {
            eprintln!("{count} times: {why}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Asks at a steady pace, one after another, and says how long answers took.
async fn matches(ticket: &Ticket, count: usize, per_second: u32) -> Result<(), AnyError> {
    let key = crowd::machine_key(CLIENT);
    let transport = Transport::bind(&key, Listen::Loopback { port: 0 }, &[]).await?;
    let orchestrator = ticket.orchestrators.first().ok_or("the ticket names no orchestrator")?;
    let connection = transport.connect(orchestrator.id, &orchestrator.addresses, ALPN).await?;
    let (mut sender, mut receiver) = connection.open_stream().await?;
    let hello =
        Hello { pool: ticket.pool, secret: ticket.secret, redemption: None, role: Role::Client, known_epoch: 0 };
    sender.message(&hello, LIMIT).await?;
    match receiver.message(LIMIT).await? {
        Some(HelloReply::Welcome(_)) => {}
        other => return Err(format!("not welcome: {other:?}").into()),
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut times_us, mut refused) = (Vec::with_capacity(count), 0);
    for number in 0..count {
        ticks.tick().await;
        let mut task = [0; 16];
        task[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let request = MatchRequest::new(TaskId(task), ModelRef::Name(crowd::MODEL.to_owned()), 1024, 64);
        let begun = Instant::now();
        let answer = ask(&connection, &Question::Match(request)).await?;
        times_us.push(u64::try_from(begun.elapsed().as_micros())?);
        match answer {
            Answer::Match(MatchReply::Granted(grant)) => {
                let node = grant.candidates.first().ok_or("a grant without a candidate")?.node;
                // Its place is free for the next one.
                let outcome = Outcome {
                    task: TaskId(task),
                    node,
                    end: End::Cancelled,
                    prompt_tokens: 0,
                    completion_tokens: 0,
                    generation_ms: 0,
                    audit: None,
                };
                ask(&connection, &Question::Outcome(outcome)).await?;
            }
            Answer::Match(MatchReply::Refused(refusal)) => {
                refused += 1;
                eprintln!("refused: {refusal:?}");
            }
            other => return Err(format!("a match was answered with {other:?}").into()),
        }
    }
    times_us.sort_unstable();
    let at =
        |share: usize| times_us.get((times_us.len() * share).div_ceil(1000).saturating_sub(1)).copied().unwrap_or(0);
    println!("matches: {count} refused: {refused} p50_us: {} p99_us: {} p999_us: {}", at(500), at(990), at(999));
    transport.close().await;
    Ok(())
}

async fn ask(connection: &Connection, question: &Question) -> Result<Answer, AnyError> {
    let (mut sender, mut receiver) = connection.open_stream().await?;
    sender.message(question, QUESTION_BYTES_MAX).await?;
    sender.finish();
    receiver.message(LIMIT).await?.ok_or_else(|| "no answer".into())
}
