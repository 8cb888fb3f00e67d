//! What a pool agrees on in bundles: who may say what, members, money, snapshots; and a million hostile operations.

#![expect(clippy::unwrap_used, reason = "helpers of tests end where tests would")]

mod accounts;
mod books;
mod committee;
mod crowd;
mod golden;
mod ledger;
mod operations;
mod pool;
mod roles;
mod snapshot;
mod world;
