//! Permits that were given out: whose word about a task and a node counts, and how often.
//!
//! What a client says of a task is believed only where this orchestrator granted it that task on that node, and only
//! once. Everything is bounded: each client has a share of the memory, and forgets its own oldest tasks first.

use protocol::ids::{ModelDigest, NodeId, TaskId};
use std::collections::{HashMap, VecDeque};

/// How long an answer may take and still be spoken of.
const KEPT_MS: u64 = 2 * 60 * 60 * 1000;
/// Tasks that are kept in mind, shared by all clients.
const TASKS_MAX: usize = 1 << 16;
/// Every client's share at least.
const TASKS_PER_CLIENT_MIN: usize = 64;
/// Drawn answers of one client that were not asked about yet.
const DRAWN_PER_CLIENT_MAX: usize = 64;
/// Nodes that one task was granted on, however often it was asked for.
const NODES_PER_TASK_MAX: usize = 24;

/// Why a node was named to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// To serve the client's own task.
    Candidate,
    /// To be tried, or to have an answer of it read.
    Subject,
    /// To score what a subject answered.
    Referee,
}

/// One permit, as far as it matters later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Issue {
    /// For whom.
    pub(crate) node: NodeId,
    /// With which model.
    pub(crate) model: ModelDigest,
    /// What for.
    pub(crate) part: Part,
    /// Tasks that its worker had when it was given, this one included: the batch in which it generates.
    pub(crate) batch: u32,
    /// Its place in the order of all that were given.
    pub(crate) number: u64,
    /// Whether its record counts the task as begun: only that of the node which was named first does.
    pub(crate) started: bool,
}

/// An answer that is to be read by others when it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DrawnAnswer {
    /// Who was named first for the task.
    pub(crate) subject: NodeId,
    /// With which model.
    pub(crate) model: ModelDigest,
    /// Who was named besides.
    pub(crate) others: Vec<NodeId>,
}

#[derive(Default)]
pub(crate) struct Issued {
    clients: HashMap<NodeId, OfClient>,
    last_number: u64,
}

#[derive(Default)]
struct OfClient {
    tasks: HashMap<TaskId, Open>,
    // Oldest first; may name tasks that are closed.
    order: VecDeque<(TaskId, u64)>,
    // Oldest first, with the time of the draw.
    drawn: VecDeque<(TaskId, u64, DrawnAnswer)>,
}

struct Open {
    given_steady_ms: u64,
    issues: Vec<Issue>,
}

impl Issued {
    /// The number of the next permits.
    pub(crate) fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The number of the last permits.
    pub(crate) fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Keeps permits of one task in mind.
    pub(crate) fn give(&mut self, client: NodeId, task: TaskId, issues: &[Issue], now_steady_ms: u64) {
        let share = (TASKS_MAX / self.clients.len().max(1)).max(TASKS_PER_CLIENT_MIN);
        let own = self.clients.entry(client).or_default();
        let is_new = !own.tasks.contains_key(&task);
        let open = own.tasks.entry(task).or_insert_with(|| Open { given_steady_ms: now_steady_ms, issues: Vec::new() });
        for issue in issues {
            // Named again for the same task: the newer circumstances count, and still one outcome.
            let started = open.issues.iter().any(|other| other.node == issue.node && other.started);
            open.issues.retain(|other| other.node != issue.node);
            if open.issues.len() < NODES_PER_TASK_MAX {
                open.issues.push(Issue { started: started || issue.started, ..*issue });
            }
        }
        if is_new {
            own.order.push_back((task, now_steady_ms));
        }
        own.trim(share, now_steady_ms);
    }

    /// The permit that an outcome is about. It is believed once: the next question finds nothing.
    pub(crate) fn take(&mut self, client: NodeId, task: TaskId, node: NodeId, now_steady_ms: u64) -> Option<Issue> {
        let own = self.clients.get_mut(&client)?;
        let open = own.tasks.get_mut(&task)?;
        if now_steady_ms.saturating_sub(open.given_steady_ms) > KEPT_MS {
            return None;
        }
        let at = open.issues.iter().position(|issue| issue.node == node)?;
        let issue = open.issues.swap_remove(at);
        if open.issues.is_empty() {
            own.tasks.remove(&task);
        }
        Some(issue)
    }

    /// Keeps in mind that the answer to a task of a client is to be read by others.
    pub(crate) fn draw(&mut self, client: NodeId, task: TaskId, drawn: DrawnAnswer, now_steady_ms: u64) {
        let own = self.clients.entry(client).or_default();
        own.drawn.retain(|(other, ..)| *other != task);
        if own.drawn.len() >= DRAWN_PER_CLIENT_MAX {
            own.drawn.pop_front();
        }
        own.drawn.push_back((task, now_steady_ms, drawn));
    }

    /// The draw that named the answer to a task of a client, once.
    pub(crate) fn take_drawn(&mut self, client: NodeId, task: TaskId, now_steady_ms: u64) -> Option<DrawnAnswer> {
        let own = self.clients.get_mut(&client)?;
        let at = own.drawn.iter().position(|(other, ..)| *other == task)?;
        let (_, drawn_steady_ms, drawn) = own.drawn.remove(at)?;
        (now_steady_ms.saturating_sub(drawn_steady_ms) <= KEPT_MS).then_some(drawn)
    }

    /// Forgets what nobody will speak of any more.
    pub(crate) fn sweep(&mut self, now_steady_ms: u64) {
        self.clients.retain(|_, own| {
            own.trim(TASKS_MAX, now_steady_ms);
            own.drawn.retain(|(_, at, _)| now_steady_ms.saturating_sub(*at) <= KEPT_MS);
            !own.tasks.is_empty() || !own.drawn.is_empty()
        });
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.clients.values().map(|own| own.tasks.len()).sum()
    }
}

impl OfClient {
    fn trim(&mut self, tasks_max: usize, now_steady_ms: u64) {
        while let Some((task, at)) = self.order.front() {
            let closed = self.tasks.get(task).is_none_or(|open| open.given_steady_ms != *at);
            let old = now_steady_ms.saturating_sub(*at) > KEPT_MS;
            // `order` itself is bounded too, by counting what is closed in its middle.
            if !closed && !old && self.tasks.len() <= tasks_max && self.order.len() <= 2 * tasks_max {
                break;
            }
            if !closed {
                self.tasks.remove(task);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const CLIENT: NodeId = NodeId([2; 32]);
    const OTHER: NodeId = NodeId([3; 32]);

    fn issue(node: NodeId) -> Issue {
        Issue { node, model: ModelDigest([5; 32]), part: Part::Candidate, batch: 1, number: 0, started: true }
    }

    fn task(number: u64) -> TaskId {
        TaskId(u128::from(number).to_be_bytes())
    }

    #[test]
    fn an_outcome_is_believed_of_its_client_and_once() {
        let mut issued = Issued::default();
        issued.give(CLIENT, task(1), &[issue(NODE), issue(OTHER)], 0);
        assert_eq!(issued.take(OTHER, task(1), NODE, 1), None, "another client's");
        assert_eq!(issued.take(CLIENT, task(2), NODE, 1), None, "another task");
        assert_eq!(issued.take(CLIENT, task(1), CLIENT, 1), None, "another node");
        assert_eq!(issued.take(CLIENT, task(1), NODE, 1), Some(issue(NODE)));
        assert_eq!(issued.take(CLIENT, task(1), NODE, 1), None, "a second time");
        assert_eq!(issued.take(CLIENT, task(1), OTHER, KEPT_MS + 1), None, "too late");
    }

    #[test]
    fn what_is_kept_is_bounded_and_one_client_forgets_its_own() {
        let mut issued = Issued::default();
        issued.give(OTHER, task(0), &[issue(NODE)], 0);
        for number in 0..2 * TASKS_MAX as u64 {
            issued.give(CLIENT, task(number), &[issue(NODE)], 1);
        }
        assert!(issued.count() <= TASKS_MAX / 2 + 1);
        assert_eq!(issued.take(CLIENT, task(0), NODE, 2), None);
        assert!(issued.take(CLIENT, task(2 * TASKS_MAX as u64 - 1), NODE, 2).is_some());
        assert!(issued.take(OTHER, task(0), NODE, 2).is_some());
        for _ in 0..100 {
            issued.give(CLIENT, task(9), &[issue(NODE)], 2);
        }
        assert!(issued.take(CLIENT, task(9), NODE, 2).is_some());
        assert_eq!(issued.take(CLIENT, task(9), NODE, 2), None, "granted often, spoken of once");
        issued.sweep(KEPT_MS + 3);
        assert_eq!((issued.count(), issued.clients.len()), (0, 0));
    }
    #[test]
    fn a_drawn_answer_is_asked_about_by_its_client_and_once() {
        let mut issued = Issued::default();
        let drawn = DrawnAnswer { subject: NODE, model: ModelDigest([5; 32]), others: vec![OTHER] };
        issued.draw(CLIENT, task(1), drawn.clone(), 0);
        assert_eq!(issued.take_drawn(OTHER, task(1), 1), None, "another client's");
        assert_eq!(issued.take_drawn(CLIENT, task(2), 1), None, "not drawn");
        assert_eq!(issued.take_drawn(CLIENT, task(1), 1), Some(drawn.clone()));
        assert_eq!(issued.take_drawn(CLIENT, task(1), 1), None, "a second time");
        for number in 0..=DRAWN_PER_CLIENT_MAX as u64 {
            issued.draw(CLIENT, task(number), drawn.clone(), 2);
        }
        assert_eq!(issued.take_drawn(CLIENT, task(0), 2), None, "of too many the oldest is forgotten");
        assert_eq!(issued.take_drawn(CLIENT, task(1), KEPT_MS + 3), None, "too late");
        issued.sweep(KEPT_MS + 3);
        assert!(issued.clients.is_empty());
    }
}
