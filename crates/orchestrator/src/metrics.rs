//! What an orchestrator counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an orchestrator has done since its start, and what it has now.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            $($(#[$doc])* pub $name: u64,)*
            /// Nodes with a link, now.
            pub nodes_linked: u64,
            /// Nodes that get work, now.
            pub nodes_routable: u64,
            /// Clients with a link, now.
            pub clients_linked: u64,
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
        self.0.fetch_add(1, Relaxed);
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
    /// Reports of nodes that broke off.
    reports,
    /// Reports not followed up: too many from one client.
    reports_limited,
    /// Nodes probed after a report.
    probes,
    /// Probes that were not answered in time.
    probes_failed,
}
