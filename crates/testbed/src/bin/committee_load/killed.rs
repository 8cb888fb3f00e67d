//! Each of four is killed, one after another, while people ask and facts are said: who notices, for how long, and whether
//! anything is lost. So every gateway loses the orchestrator that it asks at least once.

use super::{MEMBERS, tell, ticket};
use protocol::{
    header::Header,
    ids::ModelDigest,
    link::{Answer, Question},
    ticket::Ticket,
    witness::Proofs,
};
use registry::keys;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use testbed::{
    Daemon,
    committee::Committee,
    eventually, http,
    load::{self, Author},
    pool_link::PoolLink,
};
use tokio::{task::JoinSet, time::timeout};

const NODES: usize = 2;
const GATEWAYS: usize = 3;
/// New requests come to each gateway so often.
const BETWEEN: Duration = Duration::from_millis(250);
const STEP_MS: u64 = 5;
const ANSWER_TOKENS: u32 = 20;
/// After the kill, requests may fail for so long.
const GRACE: Duration = Duration::from_secs(2);
/// Two for each orchestrator.
const AUTHORS: usize = 8;
const FACTS_PER_S: f64 = 100.0;
const BUNDLE_FACTS: usize = 16;
/// Load before each kill.
const BEFORE: Duration = Duration::from_secs(3);
/// An answer that is not whole by then is as good as none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Only a hang takes as long.
const HANG: Duration = Duration::from_secs(120);

struct Request {
    began: Instant,
    took: Duration,
    /// Why there is no whole answer.
    failed: Option<String>,
}

/// A new request every so often, whatever became of those before.
async fn ask(base_url: String, gateway: usize, stop: Arc<AtomicBool>) -> Vec<Request> {
    let url = format!("{base_url}/chat/completions");
    let (mut requests, mut number) = (JoinSet::new(), 0);
    let mut ticks = tokio::time::interval(BETWEEN);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        number += 1;
        let (url, body) = (url.clone(), http::chat_body(&format!("{gateway}, question {number}"), ANSWER_TOKENS));
        requests.spawn(async move {
            let began = Instant::now();
            let answered = timeout(PATIENCE, http::post(&url, &body)).await;
            let failed = match answered {
                Ok((200, _)) => None,
                Ok((status, answer)) => Some(format!("{status} {answer}")),
                Err(_) => Some(format!("no answer within {PATIENCE:?}")),
            };
            Request { began, took: began.elapsed(), failed }
        });
    }
    requests.join_all().await
}

/// Whether every node is routable at this orchestrator.
fn routes_all(committee: &Committee, number: usize) -> bool {
    let status = committee.member(number).status();
    let rows = status["nodes"].as_array().into_iter().flatten();
    rows.filter(|row| row["routable"] == true).count() >= NODES
}

/// What one kill has shown.
struct Round {
    killed: Instant,
    requests: Vec<Request>,
    routable_after: Duration,
    agreed_after: Duration,
    looks: u32,
    bundles: usize,
    lost: usize,
    height: u64,
}

pub(super) async fn measure(length: Duration) {
    let mut committee = Committee::of(MEMBERS).await;
    let ticket = ticket(&committee);
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Daemon::deterministic_node(&committee.ticket, STEP_MS).await);
    }
    let mut gateways = Vec::new();
    for _ in 0..GATEWAYS {
        gateways.push(Daemon::gateway(&committee.ticket).await);
    }
    let base_urls: Vec<String> = gateways.iter().map(|gateway| gateway.text("base_url")).collect();
    let mut authors = Author::join(&ticket, AUTHORS).await;
    let mut rounds = Vec::new();
    for victim in 0..MEMBERS {
        for number in 0..MEMBERS {
            eventually("all nodes are routable", HANG, async || routes_all(&committee, number).then_some(())).await;
        }
        for author in &mut authors {
            author.link_again(&ticket).await;
        }
        let after = length / u32::try_from(MEMBERS).expect("four") + GRACE;
        let (left, round) = kill(&mut committee, &ticket, &base_urls, authors, (victim, after)).await;
        authors = left;
        rounds.push(round);
    }
    told(&rounds);
}

async fn kill(
    committee: &mut Committee,
    ticket: &Ticket,
    base_urls: &[String],
    authors: Vec<Author>,
    (victim, after): (usize, Duration),
) -> (Vec<Author>, Round) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut askers = JoinSet::new();
    for (number, base_url) in base_urls.iter().enumerate() {
        askers.spawn(ask(base_url.clone(), number, Arc::clone(&stop)));
    }
    let saying = tokio::spawn({
        let (ticket, until) = (ticket.clone(), Instant::now() + BEFORE + after);
        async move { load::at_rate(&ticket, authors, (FACTS_PER_S, BUNDLE_FACTS), until).await }
    });
    tokio::time::sleep(BEFORE).await;
    let home = committee.kill(victim).await;
    let (killed, mut looks) = (Instant::now(), 0);
    let mut last_unroutable = killed;
    while killed.elapsed() < after {
        if !(0..MEMBERS).filter(|number| *number != victim).all(|number| routes_all(committee, number)) {
            last_unroutable = Instant::now();
        }
        looks += 1;
    }
    let (authors, outcome) = saying.await.expect("the load does not panic");
    stop.store(true, Ordering::Relaxed);
    let requests = askers.join_all().await.into_iter().flatten().collect();
    // Authors at the one that is gone have nobody to say it to.
    for why in outcome.failures.iter().filter(|why| *why != load::NO_ANSWER) {
        eprintln!("a bundle came to nothing: {why}");
    }

    let restarted = Instant::now();
    committee.start(victim, home);
    committee.ready(victim).await;
    let (header, lost) = agreed(ticket, &authors).await;
    let round = Round {
        killed,
        requests,
        routable_after: last_unroutable - killed,
        agreed_after: restarted.elapsed(),
        looks,
        bundles: outcome.samples.len(),
        lost,
        height: header.height,
    };
    (authors, round)
}

fn told(rounds: &[Round]) {
    let longest = |of: fn(&Round) -> Duration| rounds.iter().map(of).max().unwrap_or_default().as_secs_f64();
    let mut stretches = [("before", Vec::new()), ("within_grace", Vec::new()), ("after_grace", Vec::new())];
    for round in rounds {
        for request in &round.requests {
            let stretch = match request.began {
                began if began < round.killed => 0,
                began if began < round.killed + GRACE => 1,
                _ => 2,
            };
            stretches[stretch].1.push(request);
            if let Some(why) = &request.failed {
                let after_s = request.began.saturating_duration_since(round.killed).as_secs_f64();
                eprintln!("a request {after_s:.1} s after a kill: {why}");
            }
        }
    }
    for (name, requests) in stretches {
        let took = requests.iter().map(|request| request.took.as_secs_f64());
        tell(&format!("requests_{name}"), requests.len());
        tell(&format!("failed_{name}"), requests.iter().filter(|request| request.failed.is_some()).count());
        tell(&format!("longest_{name}_s"), took.fold(0.0, f64::max));
    }
    tell("routable_again_after_s", longest(|round| round.routable_after));
    tell("looks", rounds.iter().map(|round| round.looks).sum::<u32>());
    tell("bundles_final", rounds.iter().map(|round| round.bundles).sum::<usize>());
    tell("agree_again_after_s", longest(|round| round.agreed_after));
    tell("height", rounds.last().map_or(0, |round| round.height));
    tell("lost", rounds.iter().map(|round| round.lost).sum::<usize>());
}

/// Waits until all four show the same block; gives it, and how many of the authors' last bundles any of them does not have.
async fn agreed(ticket: &Ticket, authors: &[Author]) -> (Header, usize) {
    let mut links = Vec::new();
    for (orchestrator, author) in (0..MEMBERS).zip(authors) {
        // A key that is known: nothing has to be agreed on for it.
        links.push(PoolLink::join(ticket, orchestrator, author.key()).await);
    }
    let same = async || {
        let mut shown = Vec::new();
        for link in &links {
            shown.push(proofs(link, authors).await?);
        }
        let header = shown[0].anchor.header.clone();
        shown.iter().all(|proofs| proofs.anchor.header.height == header.height).then_some((header, shown))
    };
    let ((header, shown), _) = eventually("all four show the same block", HANG, same).await;
    // The state's root is in the header.
    assert!(shown.iter().all(|proofs| proofs.anchor.header == header), "they agree");
    let mut lost = 0;
    for (place, author) in authors.iter().enumerate() {
        let Some(counted) = author.counted() else { continue };
        let keys = (keys::sequence(author.id().into()), keys::ask(author.id(), counted.model));
        let has = |proofs: &Proofs| {
            let sequence = keys.0.check(&proofs.proofs[2 * place], &header.state).expect("a proof of this state");
            let price = keys.1.check(&proofs.proofs[2 * place + 1], &header.state).expect("a proof of this state");
            // One that was not answered may be final all the same.
            sequence > Some(counted.sequence) || (sequence == Some(counted.sequence) && price == Some(counted.price))
        };
        lost += usize::from(!shown.iter().all(has));
    }
    (header, lost)
}

/// The number of each author's last bundle and a price from it.
async fn proofs(link: &PoolLink, authors: &[Author]) -> Option<Proofs> {
    let mut asked = Vec::new();
    for author in authors {
        let model = author.counted().map_or(ModelDigest([0; 32]), |counted| counted.model);
        asked.push(keys::sequence(author.id().into()).as_bytes().to_vec());
        asked.push(keys::ask(author.id(), model).as_bytes().to_vec());
    }
    match link.ask(&Question::Prove { keys: asked }).await? {
        Answer::Proven(proofs) => Some(*proofs),
        _ => None,
    }
}
