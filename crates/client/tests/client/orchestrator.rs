//! An orchestrator that grants what it is told to, and keeps what it is told.

use crate::{
    MODEL,
    agreed::Agreed,
    stub_node::{Offer, unix_ms},
};
use protocol::{
    grant::{
        Audit, Canary, Candidate, Errand, Expected, Grant, MatchReply, MatchRequest, Permit, Purpose, Reading, Refusal,
        RefusalKind,
    },
    ids::{NodeId, TaskId},
    limits::{self, LINK_MESSAGE_BYTES_MAX},
    link::{self, Answer, End, Hello, HelloReply, Outcome, Question, Welcome},
    statement::{About, LedgerAnswer},
    ticket::{OrchestratorAddress, Ticket},
    witness::{Lineage, Proofs},
};
use registry::keys;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::watch;
use transport::{Connection, Listen, Transport};
use trust::MachineKey;

#[derive(Clone)]
pub(crate) struct StubOrchestrator {
    key: Arc<MachineKey>,
    /// What the pool has agreed on: shared by the orchestrators of one.
    pub(crate) agreed: Arc<Mutex<Agreed>>,
    transport: Transport,
    state: Arc<Mutex<State>>,
    told: Arc<watch::Sender<usize>>,
}

/// What becomes of a grant before it is given.
pub(crate) type Lie = Arc<dyn Fn(&mut Grant) + Send + Sync>;

/// What becomes of proofs before they are given.
pub(crate) type FalseProof = Arc<dyn Fn(&mut Proofs) + Send + Sync>;

#[derive(Default)]
pub(crate) struct State {
    /// It lies so.
    pub(crate) lie: Option<Lie>,
    /// It lies so about single records.
    pub(crate) false_proof: Option<FalseProof>,
    /// It tells this of how its committee came to be.
    pub(crate) lineage: Option<Lineage>,
    pub(crate) offers: Vec<Offer>,
    /// Where the next grant begins: grants go round.
    pub(crate) turn: usize,
    /// Offered first to who resumes.
    pub(crate) for_resumes: Vec<Offer>,
    pub(crate) expected: Expected,
    /// Comes with the next grant: a canary's subject and referees, as places in `offers`.
    pub(crate) canary: Option<Vec<usize>>,
    /// Every answer is drawn to be read by others; by these, as places in `offers`.
    pub(crate) read_by: Option<Vec<usize>>,
    /// Named instead of the first of them.
    pub(crate) forged_reader: Option<NodeId>,
    /// Who was drawn.
    pub(crate) drawn: HashMap<TaskId, NodeId>,
    /// Drawn answers of which it was asked who reads them: by whom, and whose they are.
    pub(crate) readings: Vec<(NodeId, NodeId)>,
    pub(crate) overloaded: bool,
    pub(crate) requests: Vec<MatchRequest>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) reports: Vec<NodeId>,
}

impl StubOrchestrator {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(Mutex::new(Agreed::of(1, unix_ms()))), 0).await
    }

    /// The one in this place of a committee.
    pub(crate) async fn start_in(agreed: Arc<Mutex<Agreed>>, place: usize) -> Self {
        let key = agreed.lock().unwrap().keys[place].clone();
        let transport = Transport::bind(&key, Listen::Loopback { port: 0 }, &[link::ALPN]).await.unwrap();
        let orchestrator = Self {
            key: Arc::new(key),
            agreed,
            transport,
            state: Arc::default(),
            told: Arc::new(watch::Sender::new(0)),
        };
        let listening = orchestrator.clone();
        tokio::spawn(async move {
            while let Some(incoming) = listening.transport.accept().await {
                let orchestrator = listening.clone();
                tokio::spawn(async move {
                    let connection = incoming.handshake().await.unwrap();
                    orchestrator.serve(&connection).await;
                });
            }
        });
        orchestrator
    }

    pub(crate) fn ticket(&self) -> Ticket {
        let address = OrchestratorAddress { id: self.key.id(), addresses: self.transport.addresses() };
        Ticket { pool: self.agreed().pool(), orchestrators: vec![address], secret: None, invite: None }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn agreed(&self) -> MutexGuard<'_, Agreed> {
        self.agreed.lock().unwrap()
    }

    pub(crate) fn id(&self) -> NodeId {
        self.key.id()
    }

    pub(crate) fn add(&self, offer: Offer) {
        self.lock().offers.push(offer);
    }

    /// Waits until what it was told and asked satisfies the condition.
    pub(crate) async fn until(&self, mut holds: impl FnMut(&State) -> bool) {
        let mut told = self.told.subscribe();
        crate::within(async {
            while !holds(&self.lock()) {
                told.changed().await.unwrap()
            }
        })
        .await;
    }

    /// How a task ended on a node, as told by its asker.
    pub(crate) fn ends(&self, node: NodeId) -> Vec<End> {
        self.lock().outcomes.iter().filter(|outcome| outcome.node == node).map(|outcome| outcome.end).collect()
    }

    pub(crate) fn purposes(&self) -> Vec<Purpose> {
        self.lock().requests.iter().map(|request| request.purpose).collect()
    }

    /// A permit for the first node, given to anybody.
    pub(crate) fn grant(&self, client: NodeId) -> (TaskId, Candidate) {
        let (task, offer) = (TaskId::random(), self.lock().offers[0].clone());
        (task, self.candidate(client, task, &offer, Expected::default()))
    }

    async fn serve(&self, connection: &Connection) {
        let (mut sender, mut receiver) = connection.accept_stream().await.unwrap();
        let _: Hello = receiver.message(limits::HELLO_BYTES_MAX).await.unwrap().unwrap();
        let own = OrchestratorAddress { id: self.key.id(), addresses: Vec::new() };
        let welcome = Welcome { orchestrators: vec![own], agreement: None };
        sender.message(&HelloReply::Welcome(welcome), LINK_MESSAGE_BYTES_MAX).await.unwrap();
        sender.finish();
        while let Some((mut sender, mut receiver)) = connection.accept_stream().await {
            let (orchestrator, client) = (self.clone(), connection.remote());
            tokio::spawn(async move {
                let Ok(Some(question)) = receiver.message(limits::QUESTION_BYTES_MAX).await else { return };
                let answer = orchestrator.answer(client, question);
                orchestrator.told.send_modify(|told| *told += 1);
                if sender.message(&answer, LINK_MESSAGE_BYTES_MAX).await.is_ok() {
                    sender.finish();
                }
            });
        }
    }

    fn answer(&self, client: NodeId, question: Question) -> Answer {
        let mut state = self.lock();
        let mut agreed = self.agreed();
        // Never twice the same: the signatures of a block that is known are not looked at again.
        agreed.unix_ms = unix_ms().max(agreed.unix_ms + 1);
        state.offers.iter().chain(&state.for_resumes).for_each(|offer| agreed.admit(offer.node));
        drop(agreed);
        match question {
            Question::Committee { .. } => {
                let genesis = self.agreed().genesis.clone();
                let honest = Lineage { genesis, handovers: Vec::new() };
                return Answer::Committee(Box::new(state.lineage.clone().unwrap_or(honest)));
            }
            Question::Match(request) => {
                let reply = self.matched(&mut state, client, &request);
                state.requests.push(request);
                return Answer::Match(reply);
            }
            Question::Prove { keys } => {
                return Answer::Proven(Box::new(self.proofs(&state, &keys)));
            }
            Question::Ledger(question) => {
                let About::Account(account) = trust::open(&question).unwrap().about else { panic!("{question:?}") };
                let keys = [
                    keys::account(account).as_bytes().to_vec(),
                    keys::totals().as_bytes().to_vec(),
                    keys::policy().as_bytes().to_vec(),
                ];
                return Answer::Ledger(Box::new(LedgerAnswer::Account(Box::new(self.proofs(&state, &keys)))));
            }
            Question::List { what, after } => return Answer::Listed(self.agreed().registry.list(what, after, 1)),
            Question::Outcome(outcome) => state.outcomes.push(outcome),
            Question::Report { node } => state.reports.push(node),
            Question::Audit { task } => return Answer::Audit(self.reading(&mut state, client, task).map(Box::new)),
            question => panic!("{question:?}"),
        }
        Answer::Noted
    }

    fn proofs(&self, state: &State, keys: &[Vec<u8>]) -> Proofs {
        let agreed = self.agreed();
        let proofs = keys.iter().map(|key| agreed.registry.state().prove_bytes(key)).collect();
        let mut shown = Proofs { anchor: agreed.anchor(), proofs };
        if let Some(lie) = &state.false_proof {
            lie(&mut shown);
        }
        shown
    }

    fn matched(&self, state: &mut State, client: NodeId, request: &MatchRequest) -> MatchReply {
        if state.overloaded {
            let kind = RefusalKind::Overloaded;
            return MatchReply::Refused(Refusal { kind, reasons: Vec::new(), retry_after_ms: Some(7_000) });
        }
        let mut offers = state.offers.clone();
        if !offers.is_empty() {
            let turn = state.turn % offers.len();
            offers.rotate_left(turn);
            state.turn += 1;
        }
        if request.purpose == Purpose::Resume {
            offers.splice(0..0, state.for_resumes.clone());
        }
        offers.retain(|offer| !request.exclude.contains(&offer.node));
        offers.truncate(limits::CANDIDATES_MAX);
        if offers.is_empty() {
            let kind = RefusalKind::NoNode;
            return MatchReply::Refused(Refusal { kind, reasons: Vec::new(), retry_after_ms: None });
        }
        let expected = state.expected;
        let candidate = |task: TaskId, offer: &Offer| self.candidate(client, task, offer, expected);
        let audit = if let Some(places) = state.canary.take() {
            let mut errands = self.errands(state, client, &places).into_iter();
            let canary = Canary { subject: errands.next().unwrap(), referees: errands.collect() };
            Some(Audit::Canary(Box::new(canary)))
        } else {
            state.read_by.as_ref().map(|_| Audit::Answer)
        };
        if audit == Some(Audit::Answer) {
            state.drawn.insert(request.task, offers[0].node);
        }
        let candidates = offers.iter().map(|offer| candidate(request.task, offer)).collect();
        let witness = Box::new(self.agreed().witness());
        let mut grant = Grant { model: MODEL, model_name: "stub".to_owned(), witness, candidates, audit };
        if let Some(lie) = &state.lie {
            lie(&mut grant);
        }
        MatchReply::Granted(grant)
    }

    fn reading(&self, state: &mut State, client: NodeId, task: TaskId) -> Option<Reading> {
        let subject = state.drawn.remove(&task)?;
        state.readings.push((client, subject));
        let places = state.read_by.clone()?;
        let mut referees = self.errands(state, client, &places);
        if let Some(forged) = state.forged_reader {
            referees[0].candidate.node = forged;
        }
        Some(Reading { task: TaskId::random(), subject, witness: self.agreed().witness(), referees })
    }

    fn errands(&self, state: &State, client: NodeId, places: &[usize]) -> Vec<Errand> {
        let errand = |place: &usize| {
            let task = TaskId::random();
            Errand { task, candidate: self.candidate(client, task, &state.offers[*place], state.expected) }
        };
        places.iter().map(errand).collect()
    }

    fn candidate(&self, client: NodeId, task: TaskId, offer: &Offer, expected: Expected) -> Candidate {
        let expires_unix_ms = unix_ms() + limits::PERMIT_LIFETIME_MS;
        let agreed = self.agreed();
        let (pool, node) = (agreed.pool(), offer.node);
        let price = agreed.registry.ask(node, MODEL);
        let permit = Permit { pool, task, client, node, model: MODEL, expires_unix_ms, price };
        Candidate {
            node: offer.node,
            addresses: offer.addresses.clone(),
            evidence: offer.evidence.clone(),
            permit: self.key.sign(&permit),
            expected,
            shown: Some(agreed.shown(offer.node, MODEL)),
        }
    }
}
