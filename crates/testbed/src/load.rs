//! Facts, as many as one likes: members of a pool that change what they ask for their work, again and again, over the real
//! wire.
//!
//! A bundle here is a price list: so many models of one machine, each at a price that it did not have before, so every fact
//! changes the agreed state. An author waits for the answer to one bundle before it says the next, as whoever is in order
//! must; an orchestrator answers when the bundle is final, and shown.

use crate::pool_link::PoolLink;
use protocol::{
    codec,
    ids::{ModelDigest, NodeId},
    limits,
    link::{Answer, Question, Submitted, Unanswered},
    market::Price,
    signed::Signed,
    ticket::Ticket,
    time::unix_ms,
};
use registry::{Bundle, Fact};
use std::time::{Duration, Instant, SystemTime};
use tokio::{task::JoinSet, time::timeout};
use trust::MachineKey;

/// Facts of one bundle that fit a question: three lists of as many models as a machine may have.
pub const BUNDLE_FACTS_MAX: usize = 3 * limits::MODELS_PER_NODE_MAX;
/// How long a bundle counts.
const LIFETIME_MS: u64 = 60_000;
/// What is said of a bundle to which no answer came: whether it is final is not known.
pub const NO_ANSWER: &str = "no answer";
/// An orchestrator that takes longer is gone.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Until an author that was told to say less says more.
const PAUSE: Duration = Duration::from_millis(50);

/// Somebody who says facts.
pub struct Author {
    key: MachineKey,
    link: PoolLink,
    /// Its place in the ticket.
    orchestrator: usize,
    sequence: u64,
    /// What was answered last to be final.
    counted: Option<Counted>,
}

/// A bundle that was said to be final.
#[derive(Debug, Clone)]
pub struct Counted {
    /// Its number.
    pub sequence: u64,
    /// A model of which it set the price last.
    pub model: ModelDigest,
    /// To what.
    pub price: Price,
}

/// What became of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is final.
    Final,
    /// Its author says too much.
    Busy,
    /// It came to nothing, and why.
    Failed(String),
}

/// A bundle that became final.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was answered.
    pub at: Instant,
    /// How long after it was due.
    pub took: Duration,
    /// How many facts it had.
    pub facts: usize,
}

/// What a load has led to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Bundles that became final.
    pub samples: Vec<Sample>,
    /// Why others did not.
    pub failures: Vec<String>,
    /// How often an author was told to say less.
    pub busy: u64,
}

impl Outcome {
    fn note(&mut self, due: Instant, facts: usize, said: Said) {
        let at = Instant::now();
        match said {
            Said::Final => self.samples.push(Sample { at, took: at - due, facts }),
            Said::Busy => self.busy += 1,
            Said::Failed(why) => self.failures.push(why),
        }
    }

    fn add(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.failures.extend(other.failures);
        self.busy += other.busy;
    }

    /// Facts that became final in a stretch of time.
    pub fn facts_between(&self, from: Instant, until: Instant) -> usize {
        self.samples.iter().filter(|sample| (from..until).contains(&sample.at)).map(|sample| sample.facts).sum()
    }

    /// The time below which this share of the bundles took, by the nearest rank; in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let mut took: Vec<Duration> = self.samples.iter().map(|sample| sample.took).collect();
        took.sort_unstable();
        let rank = (share * took.len() as f64).ceil() as usize;
        took.get(rank.saturating_sub(1)).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

impl Author {
    /// So many authors, spread over the orchestrators of the ticket.
    pub async fn join(ticket: &Ticket, count: usize) -> Vec<Self> {
        let mut joining = JoinSet::new();
        for number in 0..count {
            let ticket = ticket.clone();
            joining.spawn(async move {
                let key = MachineKey::generate();
                let orchestrator = number % ticket.orchestrators.len();
                let link = PoolLink::join(&ticket, orchestrator, &key).await;
                (number, Self { key, link, orchestrator, sequence: 0, counted: None })
            });
        }
        let mut authors = joining.join_all().await;
        authors.sort_by_key(|(number, _)| *number);
        authors.into_iter().map(|(_, author)| author).collect()
    }

    /// Makes a link anew that is broken.
    pub async fn link_again(&mut self, ticket: &Ticket) {
        if !self.link.connection().is_open() {
            self.link = PoolLink::join(ticket, self.orchestrator, &self.key).await;
        }
    }

    /// The machine that speaks.
    pub fn id(&self) -> NodeId {
        self.key.id()
    }

    /// Its key.
    pub fn key(&self) -> &MachineKey {
        &self.key
    }

    /// What was answered last to be final.
    pub fn counted(&self) -> Option<&Counted> {
        self.counted.as_ref()
    }

    /// Says so many facts in one bundle.
    pub async fn say(&mut self, facts: usize, pool: protocol::ids::PoolId) -> Said {
        let now_unix_ms = unix_ms(SystemTime::now());
        self.sequence = now_unix_ms.max(self.sequence + 1);
        let price = |place: usize| {
            let lap = (place / limits::MODELS_PER_NODE_MAX) as u64;
            Price { prompt_micro: 1 + (self.sequence * 4 + lap) % 1_000_000, output_micro: 1 }
        };
        let fact = |place| Fact::AskSet { node: self.key.id(), model: model(place), price: Some(price(place)) };
        let bundle = Bundle {
            pool,
            author: self.key.id().into(),
            sequence: self.sequence,
            not_after_unix_ms: now_unix_ms + LIFETIME_MS,
            facts: (0..facts).map(fact).collect(),
        };
        let counted = Counted { sequence: self.sequence, model: model(facts - 1), price: price(facts - 1) };
        let signed: Signed<Bundle> = self.key.sign(&bundle);
        let bundle = codec::encode(&signed, limits::QUESTION_BYTES_MAX - 16).expect("a bundle that fits a question");
        let question = Question::Submit { bundle };
        match timeout(ANSWER_TIME_MAX, self.link.ask(&question)).await.unwrap_or(None) {
            Some(Answer::Submitted(Submitted::Final { events })) if events as usize == facts => {
                self.counted = Some(counted);
                Said::Final
            }
            Some(Answer::Unanswered(Unanswered::Busy)) => Said::Busy,
            Some(Answer::Submitted(Submitted::Refused { why })) => Said::Failed(why),
            None => {
                self.link.connection().close("no answer");
                Said::Failed(NO_ANSWER.to_owned())
            }
            other => Said::Failed(format!("{other:?}")),
        }
    }
}

fn model(place: usize) -> ModelDigest {
    let mut digest = [0; 32];
    digest[0] = u8::try_from(place % limits::MODELS_PER_NODE_MAX).expect("fewer models than a byte counts");
    ModelDigest(digest)
}

/// Bundles at fixed times, evenly over the authors: `facts_per_s` in bundles of `facts`. What takes long is counted from
/// when it was due, not from when its author came to it.
pub async fn at_rate(
    ticket: &Ticket,
    authors: Vec<Author>,
    (facts_per_s, facts): (f64, usize),
    until: Instant,
) -> (Vec<Author>, Outcome) {
    let between = Duration::from_secs_f64(facts as f64 / facts_per_s);
    let turn = between * u32::try_from(authors.len()).expect("few authors");
    let (pool, first) = (ticket.pool, Instant::now());
    let course = move |number: usize, mut author: Author| async move {
        let mut outcome = Outcome::default();
        let mut due = first + between * u32::try_from(number).expect("few authors");
        while due < until {
            tokio::time::sleep_until(due.into()).await;
            let said = author.say(facts, pool).await;
            outcome.note(due, facts, said);
            due += turn;
        }
        (author, outcome)
    };
    each(authors, course).await
}

/// As many bundles of `facts` as become final.
pub async fn at_most(ticket: &Ticket, authors: Vec<Author>, facts: usize, until: Instant) -> (Vec<Author>, Outcome) {
    let pool = ticket.pool;
    let course = move |_, mut author: Author| async move {
        let mut outcome = Outcome::default();
        while Instant::now() < until {
            let due = Instant::now();
            let said = author.say(facts, pool).await;
            if said == Said::Busy {
                tokio::time::sleep(PAUSE).await;
            }
            outcome.note(due, facts, said);
        }
        (author, outcome)
    };
    each(authors, course).await
}

async fn each<F>(authors: Vec<Author>, course: impl Fn(usize, Author) -> F) -> (Vec<Author>, Outcome)
where
    F: Future<Output = (Author, Outcome)> + Send + 'static,
{
    let mut courses = JoinSet::new();
    for (number, author) in authors.into_iter().enumerate() {
        courses.spawn(course(number, author));
    }
    let (mut authors, mut all) = (Vec::new(), Outcome::default());
    for (author, outcome) in courses.join_all().await {
        authors.push(author);
        all.add(outcome);
    }
    (authors, all)
}
