//! A limit on everything that an HTTP client can make the gateway hold. One place, so that an auditor reads one file.

use std::time::Duration;

/// What the gateway holds at most, and for how long. [`Limits::default`] is right for one person's machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of one request body; more is 413. Twice the longest task leaves room for JSON's escapes.
    pub body_bytes_max: usize,
    /// Bytes of all request bodies that are being read at once; more is 429.
    pub body_bytes_in_flight_max: usize,
    /// Bytes of an oversized body that are read and thrown away so that its sender sees the 413.
    pub body_discard_bytes_max: usize,
    /// How long a body may take to arrive; longer is 408.
    pub body_timeout: Duration,
    /// How long a fresh connection may take to send the head of its first request; then it is closed.
    pub head_timeout: Duration,
    /// How long a connection may wait between two requests; then it is closed.
    pub idle_timeout: Duration,
    /// How long a reader may leave an answer unread while more of it is ready; then the task is cancelled.
    pub stall_timeout: Duration,
    /// Open connections. Beyond it the one that has waited longest without a request makes room; if every one is in
    /// the middle of a request, the new one gets 503.
    pub connections_max: usize,
    /// Bytes of a request's head, and of an answer that its reader has not taken yet.
    pub connection_buffer_bytes_max: usize,
    /// Tasks in flight; more is 429.
    pub requests_max: usize,
    /// Silence on an event stream after which a comment is sent, so that nobody between takes it for dead. A stream's
    /// headers wait as long for a first frame, so that an early error keeps its HTTP status.
    pub keep_alive_interval: Duration,
    /// How long `/readyz` and `/v1/models` wait for the pool.
    pub models_timeout: Duration,
    /// How long answers in flight may go on after the shutdown began.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 2 * protocol::limits::TASK_BYTES_MAX,
            body_bytes_in_flight_max: 64 << 20,
            body_discard_bytes_max: 64 << 20,
            body_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            connections_max: 4096,
            connection_buffer_bytes_max: 64 << 10,
            requests_max: 1024,
            keep_alive_interval: Duration::from_secs(5),
            models_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// Characters of an `x-request-id` that is echoed; a longer or stranger one is replaced.
pub(crate) const REQUEST_ID_CHARS_MAX: usize = 128;
/// Fewest characters of an API key: 128 random bits in base 64 have 22.
pub(crate) const KEY_CHARS_MIN: usize = 16;
/// Failures of `accept` in a row after which the listener is given up.
pub(crate) const ACCEPT_FAILURES_MAX: u32 = 100;
/// Pause after a failed `accept`: most often descriptors are short, and some come back.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps for us until we accept them.
pub(crate) const LISTEN_BACKLOG: u32 = 4096;
