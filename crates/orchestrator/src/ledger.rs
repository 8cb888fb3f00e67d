//! Money, as an orchestrator meets it: it says the words that others have signed, and it sees to it that nobody buys more
//! than it can pay while that is being agreed on.
//!
//! A task never waits for an agreement: its node begins when it has the order, and hands that in meanwhile. What one
//! account has ordered and is not final yet could then exceed what it has. So each orchestrator lets at most the n-th
//! part of what is available be under way for one account, with n orchestrators: all together never more than there is.

use crate::{live::Worker, shared::Shared};
use committee::SayError;
use futures_util::future::join_all;
use protocol::{
    ids::{AccountId, NodeId},
    limits,
    market::{Order, Word, WordOutcome},
    pool::Standing,
    signed::Signed,
    statement::{About, LedgerAnswer, LedgerQuestion},
};
use registry::{Fact, LedgerError, Registry, Rejection, keys};
use std::{collections::HashMap, sync::Arc};

/// What each account has under way here, in micro-credits: held by orders that are not final.
#[derive(Debug, Default)]
pub(crate) struct Pending(HashMap<AccountId, u64>);

/// A part of an account's credits that is under way, until this is dropped.
struct UnderWay<'a> {
    shared: &'a Shared,
    account: AccountId,
    amount_micro: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut pending = self.shared.pending();
        if let Some(sum) = pending.0.get_mut(&self.account) {
            *sum = sum.saturating_sub(self.amount_micro);
            if *sum == 0 {
                pending.0.remove(&self.account);
            }
        }
    }
}

/// What matching has to know of a client's account.
pub(crate) struct Terms {
    /// Machines of the same account.
    pub(crate) own: Vec<NodeId>,
    /// Machines of accounts that one of both sides blocks.
    pub(crate) blocked: Vec<NodeId>,
    /// What it can hold; `None` where nobody asks anything.
    pub(crate) funds_micro: Option<u64>,
}

/// What matching has to know of a client's account.
pub(crate) fn terms(shared: &Shared, registry: &Registry, client: NodeId) -> Terms {
    let account = registry.account_of(client);
    let blocked = registry.blocked_of(account).flat_map(|other| registry.machines_of(other)).collect();
    if !registry.has_asks() {
        return Terms { own: Vec::new(), blocked, funds_micro: None };
    }
    let under_way = shared.pending().0.get(&account).copied().unwrap_or(0);
    let funds_micro = Some(share(registry, account).saturating_sub(under_way));
    Terms { own: registry.machines_of(account), blocked, funds_micro }
}

/// What one orchestrator lets an account have under way.
fn share(registry: &Registry, account: AccountId) -> u64 {
    let available = registry.state().read(&keys::account(account)).map_or(0, |account| account.available_micro);
    available / registry.orchestrators().len().max(1) as u64
}

/// Gives workers of a node the prices that were agreed on.
pub(crate) fn price(registry: &Registry, node: NodeId, workers: &mut [Worker]) {
    for worker in workers {
        worker.live.price = registry.ask(node, worker.live.model).unwrap_or_default();
    }
}

/// Says words; what became of each.
pub(crate) async fn say(shared: &Shared, mut words: Vec<Word>) -> Vec<WordOutcome> {
    words.truncate(limits::WORDS_MAX);
    join_all(words.into_iter().map(|word| say_one(shared, word))).await
}

/// Says a word, and waits until it is agreed on.
pub(crate) async fn say_one(shared: &Shared, word: Word) -> WordOutcome {
    let (fact, _under_way) = match word {
        Word::Hold(order) => match under_way(shared, &order) {
            Ok(under_way) => (Fact::HoldPlaced { order }, under_way),
            Err(why) => return WordOutcome::Refused(why),
        },
        Word::Settle(receipt) => (Fact::Settled(receipt), None),
        Word::Claim(claim) => (Fact::ClaimFiled { claim }, None),
        Word::Close(close) => (Fact::HoldClosed { close }, None),
    };
    match shared.say(vec![fact]).await {
        // What was said before is so, and that a claim is behind another one too.
        Ok(_)
        | Err(SayError::Rejected(Rejection::Ledger(LedgerError::AlreadySettled | LedgerError::AlreadyClaimed))) => {
            WordOutcome::Agreed
        }
        // It may be agreed on already, and not be known here.
        Err(SayError::Rejected(Rejection::UnknownMember | Rejection::Ledger(LedgerError::NoHold))) => {
            WordOutcome::Later
        }
        Err(SayError::Rejected(why)) => WordOutcome::Refused(why.to_string()),
        Err(why) => {
            tracing::debug!(%why, "a word about money has to be said again");
            WordOutcome::Later
        }
    }
}

/// Sets the credits of an order aside until it is final; nothing where it is already.
fn under_way<'a>(shared: &'a Shared, order: &Signed<Order>) -> Result<Option<UnderWay<'a>>, String> {
    let said = order.open(&trust::Strict).ok_or("the order's signature does not hold")?;
    let (account, share, is_held) = {
        let registry = shared.registry();
        let id = protocol::market::HoldId { client: order.signer, task: said.task, node: said.node };
        let account = registry.account_of(order.signer);
        (account, share(&registry, account), registry.state().read(&keys::hold(id)).is_some())
    };
    if is_held {
        return Ok(None);
    }
    let mut pending = shared.pending();
    let sum = pending.0.get(&account).copied().unwrap_or(0).saturating_add(said.amount_micro);
    if sum > share {
        return Err(format!(
            "insufficient credits: {sum} micro-credits would be held, the account can hold {share}; lend a machine to earn \
             more, or ask for fewer tokens"
        ));
    }
    pending.0.insert(account, sum);
    drop(pending);
    Ok(Some(UnderWay { shared, account, amount_micro: said.amount_micro }))
}

/// Gives a machine's account what accounts get when they begin, if it did not get it yet. Nobody waits for it.
pub(crate) fn start(shared: &Arc<Shared>, node: NodeId) {
    if !awaits_start(&shared.registry(), node) {
        return;
    }
    let owner = Arc::clone(shared);
    shared.spawn(async move {
        if let Err(why) = owner.say(vec![Fact::StarterGranted { node }]).await {
            tracing::debug!(%why, node = %node.short(), "it does not begin with credits");
        }
    });
}

/// As [`start`], for every member: what begins with a policy is for those who came before it, too.
pub(crate) fn start_all(shared: &Arc<Shared>) {
    let waiting: Vec<NodeId> = {
        let registry = shared.registry();
        registry.members().map(|(node, _)| node).filter(|node| awaits_start(&registry, *node)).collect()
    };
    waiting.into_iter().for_each(|node| start(shared, node));
}

fn awaits_start(registry: &Registry, node: NodeId) -> bool {
    let Some(policy) = registry.policy().filter(|policy| policy.starter_micro > 0) else { return false };
    let state = registry.state();
    let has_started = |account| state.read(&keys::account(account)).is_some_and(|account| account.has_started);
    let issued = state.read(&keys::totals()).unwrap_or_default().issued_micro;
    registry.is_member(node)
        && issued.saturating_add(policy.starter_micro) <= policy.issue_micro_max
        && ![registry.account_of(node), node.into()].into_iter().any(has_started)
}

/// Answers a question about the ledger, if whoever asks may know.
pub(crate) async fn answer(shared: &Shared, client: NodeId, signed: &Signed<LedgerQuestion>) -> LedgerAnswer {
    let refused = |why: &str| LedgerAnswer::Refused(why.to_owned());
    let Some(question) = signed.open(&trust::Strict) else { return refused("the question's signature does not hold") };
    let age_ms = shared.now().unix_ms.abs_diff(question.asked_unix_ms);
    let is_fresh = age_ms <= limits::LEDGER_QUESTION_AGE_MS_MAX + limits::CLOCK_SKEW_MS_MAX;
    if question.pool != shared.pool || question.client != client || !is_fresh {
        return refused("the question is another link's, or too old: check the clock of this machine");
    }
    if !may_know(&shared.registry(), signed.signer, &question.about) {
        return refused("only an account's own machines, and the pool's auditors and administrators, are shown this");
    }
    match question.about {
        About::Account(account) => {
            // It waits a moment for the first.
            let _ = shared.anchors.first().await;
            match shared.anchors.current() {
                Some(anchored) => LedgerAnswer::Account(Box::new(anchored.proofs(&shown_of(account)))),
                None => refused("nothing can be shown yet: try again in a moment"),
            }
        }
        About::Movements { account, span } => shared.history.movements(account, span).await,
        About::Settlements(span) => shared.history.settlements(span).await,
    }
}

/// Under which keys stands what is shown with an account.
fn shown_of(account: AccountId) -> [Vec<u8>; 3] {
    [keys::account(account).as_bytes().to_vec(), keys::totals().as_bytes().to_vec(), keys::policy().as_bytes().to_vec()]
}

/// Whether a machine, or an account by its own key, reads the whole ledger.
pub(crate) fn may_know_all(registry: &Registry, asker: NodeId) -> bool {
    let reads_all = |account: AccountId| {
        matches!(registry.standing(account), Some(Standing::Auditor | Standing::Administrator | Standing::Owner))
    };
    reads_all(asker.into()) || reads_all(registry.account_of(asker))
}

fn may_know(registry: &Registry, asker: NodeId, about: &About) -> bool {
    if may_know_all(registry, asker) {
        return true;
    }
    match about {
        About::Account(account) | About::Movements { account: Some(account), .. } => {
            let own = [AccountId::from(asker), registry.account_of(asker)];
            // What a machine earned before it was linked is its account's to see.
            own.contains(account) || own.contains(&registry.account_of(NodeId::from(*account)))
        }
        About::Movements { account: None, .. } | About::Settlements(_) => false,
    }
}
