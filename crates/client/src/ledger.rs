//! What an account has, how that came about, and what its owner says: asked of orchestrators, and proven where it can be.

use crate::{AskError, Client, matching};
use protocol::{
    codec,
    genesis::Genesis,
    header::{Anchor, Handover},
    ids::{AccountId, ModelDigest, NodeId},
    limits,
    link::{Answer, Question},
    market::Price,
    pool::PoolPolicy,
    statement::{About, AccountShown, LedgerAnswer, LedgerQuestion, Movement, Settlement, Span},
    time::unix_ms,
};
use registry::{Account, Bundle, Fact, Totals, keys};
use std::time::SystemTime;
use trust::{
    MachineKey,
    light::{AnchorError, Root},
};

/// Answers that are asked for in a row.
const ANSWERS_MAX: usize = 100_000;
/// For so long facts that somebody signs may be handed in.
const FACTS_LIFETIME_MS: u64 = limits::BUNDLE_LIFETIME_MS / 2;

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

fn failed(reason: impl ToString) -> AskError {
    AskError::Ledger { reason: reason.to_string() }
}

impl Client {
    /// What an account has, proven. `asker` is a machine of the account, the account itself, or who may see all.
    pub async fn balance(&self, account: AccountId, asker: &MachineKey) -> Result<Balance, AskError> {
        match self.ask_ledger(About::Account(account), asker).await? {
            LedgerAnswer::Account(shown) => self.proven(account, &shown).await,
            _ => Err(matching::unexpected()),
        }
    }

    /// The state in a block that is final. What it proves is shown as of that block, however old it is.
    async fn root(&self, anchor: &Anchor) -> Result<Root, AskError> {
        let check = || self.shared.known.with(|light| light.check_within(anchor, u64::MAX, unix_ms(SystemTime::now())));
        let mut root = check();
        if matches!(root, None | Some(Err(AnchorError::UnknownCommittee { .. }))) {
            self.shared.known.learn(&self.shared.link).await?;
            root = check();
        }
        root.ok_or_else(|| failed("no committee is known"))?.map_err(failed)
    }

    async fn proven(&self, account: AccountId, shown: &AccountShown) -> Result<Balance, AskError> {
        let root = self.root(&shown.anchor).await?;
        let state = root.state();
        let account = keys::account(account).check(&shown.account, state).map_err(failed)?.unwrap_or_default();
        let totals = keys::totals().check(&shown.totals, state).map_err(failed)?.unwrap_or_default();
        let policy = keys::policy().check(&shown.policy, state).map_err(failed)?.unwrap_or_default();
        Ok(Balance { account, totals, policy, height: root.height() })
    }

    /// What a machine asks for its work with a model, proven.
    pub async fn price(&self, node: NodeId, model: ModelDigest, asker: &MachineKey) -> Result<Option<Price>, AskError> {
        let LedgerAnswer::Ask(shown) = self.ask_ledger(About::Ask(node, model), asker).await? else {
            return Err(matching::unexpected());
        };
        let root = self.root(&shown.anchor).await?;
        keys::ask(node, model).check(&shown.ask, root.state()).map_err(failed)
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

    async fn ask_ledger(&self, about: About, asker: &MachineKey) -> Result<LedgerAnswer, AskError> {
        let (pool, client) = (self.shared.demands.pool, self.shared.demands.client);
        let question = LedgerQuestion { pool, client, asked_unix_ms: unix_ms(SystemTime::now()), about };
        match self.shared.link.ask(Question::Ledger(Box::new(asker.sign(&question)))).await? {
            Answer::Ledger(answer) => match *answer {
                LedgerAnswer::Refused(reason) => Err(AskError::Ledger { reason }),
                answer => Ok(answer),
            },
            _ => Err(matching::unexpected()),
        }
    }

    /// Says facts as `author`, all together, and waits until they are agreed on.
    pub async fn say(&self, author: &MachineKey, facts: Vec<Fact>) -> Result<(), AskError> {
        let now = unix_ms(SystemTime::now());
        let bundle = Bundle {
            pool: self.shared.demands.pool,
            author: author.id().into(),
            // Higher than before, whatever was said before, without a memory of it.
            sequence: now,
            not_after_unix_ms: now.saturating_add(FACTS_LIFETIME_MS),
            facts,
        };
        let signed = codec::encode(&author.sign(&bundle), limits::QUESTION_BYTES_MAX).map_err(failed)?;
        match self.shared.link.ask(Question::Submit(signed)).await? {
            Answer::Submitted(said) => said.map_err(failed),
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
