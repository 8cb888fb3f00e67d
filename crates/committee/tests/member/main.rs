//! Members on real engines and real disks, in one process and without a network.

#![expect(clippy::unwrap_used, reason = "helpers of tests end where tests would")]

mod alone;
mod several;
mod world;
