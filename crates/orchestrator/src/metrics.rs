//! What an orchestrator counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an orchestrator has done since its start, and what it has now.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Nodes with a link here, now.
            pub nodes_linked: u64,
            /// Nodes that other orchestrators speak for, now.
            pub nodes_remote: u64,
            /// Nodes that get work, now.
            pub nodes_routable: u64,
            /// Clients with a link, now.
            pub clients_linked: u64,
            /// Tasks that wait for a place, now.
            pub waiting: u64,
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn read(&self) -> Metrics {
                Metrics { $($name: self.$name.0.load(Relaxed),)* ..Metrics::default() }
            }
        }
    };
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }
}

counters! {
    /// Connections turned away at the door: too many.
    links_refused,
    /// Connections whose handshake came to nothing.
    handshakes_failed,
    /// Connections that showed no ticket in time, or something else.
    hellos_missing,
    /// Machines admitted.
    admitted,
    /// Machines not admitted: another pool.
    denied_other_pool,
    /// Machines not admitted: no member, and no valid secret.
    denied_not_admitted,
    /// Machines not admitted: no room.
    denied_full,
    /// States of nodes taken over.
    states,
    /// Links of nodes closed over a message that is none.
    node_messages_malformed,
    /// Workers not believed.
    workers_refused,
    /// Questions that are none.
    questions_malformed,
    /// Streams given up because no question came.
    questions_missing,
    /// Tasks matched with nodes.
    matches_granted,
    /// Tasks for models that the pool does not have.
    matches_unknown_model,
    /// Tasks that no node could take.
    matches_no_node,
    /// Tasks that only full nodes could take.
    matches_overloaded,
    /// Tasks that waited for a place.
    waited,
    /// Tasks that were refused at once because the wait would have been too long.
    refused_early,
    /// Tasks that waited for as long as their client did, without a place.
    waited_in_vain,
    /// Tasks whose client went while they waited.
    waiting_gone,
    /// Retries and hedges refused: their client's budget was spent.
    budgets_spent,
    /// Outcomes believed.
    outcomes,
    /// Of those, failures of the node.
    outcomes_failed,
    /// Tasks lost because their machine went, which is no failure.
    outcomes_departed,
    /// Outcomes not believed: no such permit was given, or it was spoken of before.
    outcomes_unknown,
    /// Nodes ejected.
    ejections,
    /// Answers drawn to be checked, those to canaries beside a task included.
    audits,
    /// Of those, answers that were the model's.
    audits_passed,
    /// Of those, answers that were not.
    audits_failed,
    /// Nodes measured.
    measured,
    /// Tasks of the orchestrator's own that a node answered.
    trials_passed,
    /// Those that it did not, or not with the model's answer.
    trials_failed,
    /// Measurements and trials that gave way to somebody's task.
    gave_way,
    /// Reports of nodes that broke off.
    reports,
    /// Reports not followed up: too many from one client.
    reports_limited,
    /// Nodes probed after a report.
    probes,
    /// Probes that were not answered in time.
    probes_failed,
    /// Messages of other orchestrators that are none.
    gossip_malformed,
    /// Machines that other orchestrators spoke of, and that are no nodes of the pool.
    gossip_refused,
    /// Nodes that other orchestrators asked to look after.
    doubts,
}
