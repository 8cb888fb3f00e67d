//! What an account has and how that came about: asked of orchestrators, and proven where it can be.

use crate::{AskError, Client, matching};
use protocol::{
    genesis::Genesis,
    header::Handover,
    ids::AccountId,
    limits,
    link::{Answer, Question},
    pool::PoolPolicy,
    statement::{About, LedgerAnswer, LedgerQuestion, Movement, Settlement, Span},
    time::unix_ms,
};
use registry::{
    Account, Totals,
    keys::{self, RecordError},
};
use std::time::SystemTime;
use trust::MachineKey;

/// Answers that are asked for in a row.
const ANSWERS_MAX: usize = 100_000;

/// What an account has, as the pool's committee has agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// The account.
    pub account: Account,
    /// What was issued to all accounts.
    pub totals: Totals,
    /// The pool's policy.
    pub policy: PoolPolicy,
    /// Of which block this is.
    pub height: u64,
}

/// How a pool began, and how its committees followed each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// How it began.
    pub genesis: Genesis,
    /// Every change of its committee, oldest first.
    pub handovers: Vec<Handover>,
}

impl Client {
    /// What an account has, proven. `asker` is a machine of the account, the account itself, or who may see all.
    pub async fn balance(&self, account: AccountId, asker: &MachineKey) -> Result<Balance, AskError> {
        let question = || self.ledger_question(About::Account(account), asker);
        let shown = |answer| match answer {
            Answer::Ledger(answer) => match *answer {
                LedgerAnswer::Account(shown) => Ok(*shown),
                LedgerAnswer::Refused(reason) => Err(AskError::Ledger { reason }),
                _ => Err(matching::unexpected()),
            },
            _ => Err(matching::unexpected()),
        };
        let (orchestrator, root, [has, totals, policy]) = self.shown(question, shown).await?;
        let state = root.state();
        let disbelieved = |error: RecordError| AskError::NotBelieved { orchestrator, reason: error.to_string() };
        let account = keys::account(account).check(&has, state).map_err(disbelieved)?.unwrap_or_default();
        let totals = keys::totals().check(&totals, state).map_err(disbelieved)?.unwrap_or_default();
        let policy = keys::policy().check(&policy, state).map_err(disbelieved)?.unwrap_or_default();
        Ok(Balance { account, totals, policy, height: root.height() })
    }

    /// How credits moved from or to an account, or all, as one orchestrator saw it. This is not proven.
    pub async fn movements(
        &self,
        account: Option<AccountId>,
        from_unix_ms: u64,
        to_unix_ms: u64,
        asker: &MachineKey,
    ) -> Result<Vec<Movement>, AskError> {
        let (mut all, mut position) = (Vec::new(), 0);
        for _ in 0..ANSWERS_MAX {
            let span = Span { from_unix_ms, to_unix_ms, position };
            match self.ask_ledger(About::Movements { account, span }, asker).await? {
                LedgerAnswer::Movements { movements, next } => {
                    all.extend(movements);
                    let Some(next) = next.filter(|next| *next > position) else { return Ok(all) };
                    position = next;
                }
                _ => return Err(matching::unexpected()),
            }
        }
        Ok(all)
    }

    /// What was paid, and what shows it ([`crate::export`]). For auditors, administrators and owners of the pool.
    pub async fn settlements(
        &self,
        from_unix_ms: u64,
        to_unix_ms: u64,
        asker: &MachineKey,
    ) -> Result<Vec<Settlement>, AskError> {
        let (mut all, mut position) = (Vec::new(), 0);
        for _ in 0..ANSWERS_MAX {
            let span = Span { from_unix_ms, to_unix_ms, position };
            match self.ask_ledger(About::Settlements(span), asker).await? {
                LedgerAnswer::Settlements { settlements, next } => {
                    all.extend(settlements);
                    let Some(next) = next.filter(|next| *next > position) else { return Ok(all) };
                    position = next;
                }
                _ => return Err(matching::unexpected()),
            }
        }
        Ok(all)
    }

    fn ledger_question(&self, about: About, asker: &MachineKey) -> Question {
        let (pool, client) = (self.shared.demands.pool, self.shared.demands.client);
        let question = LedgerQuestion { pool, client, asked_unix_ms: unix_ms(SystemTime::now()), about };
        Question::Ledger(Box::new(asker.sign(&question)))
    }

    async fn ask_ledger(&self, about: About, asker: &MachineKey) -> Result<LedgerAnswer, AskError> {
        match self.patiently(|| self.ledger_question(about.clone(), asker)).await?.1 {
            Answer::Ledger(answer) => match *answer {
                LedgerAnswer::Refused(reason) => Err(AskError::Ledger { reason }),
                answer => Ok(answer),
            },
            _ => Err(matching::unexpected()),
        }
    }

    /// How the pool began, and how its committees followed each other.
    pub async fn history(&self) -> Result<History, AskError> {
        let mut handovers: Vec<Handover> = Vec::new();
        loop {
            let from_epoch = handovers.last().map_or(0, |last| last.last.header.epoch + 1);
            let Answer::Committee(lineage) = self.shared.link.ask(Question::Committee { from_epoch }).await? else {
                return Err(matching::unexpected());
            };
            let is_all = lineage.handovers.len() < limits::HANDOVERS_MAX;
            let new = lineage.handovers.into_iter().filter(|new| new.last.header.epoch >= from_epoch);
            let before = handovers.len();
            handovers.extend(new);
            if is_all || handovers.len() == before {
                return Ok(History { genesis: lineage.genesis, handovers });
            }
        }
    }
}
