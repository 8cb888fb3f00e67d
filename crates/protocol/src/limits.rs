//! A limit on everything that a peer can make us hold. One place, so that an auditor reads one file.

/// Longest plaintext of a task, in bytes, before padding.
pub const TASK_BYTES_MAX: usize = 4 << 20;
/// Longest plaintext of one answer frame, in bytes, before padding.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Longest message on the stream between client and node: a sealed task with its permit.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Longest message on a link to an orchestrator.
pub const LINK_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Longest message between a node daemon and its worker.
pub const IPC_MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Longest signed payload.
pub const SIGNED_BYTES_MAX: usize = 64 << 10;
/// Longest pasted ticket, in characters.
pub const TICKET_CHARS_MAX: usize = 4096;

/// Messages in one chat.
pub const MESSAGES_MAX: usize = 4096;
/// Inputs in one embedding task.
pub const EMBEDDING_INPUTS_MAX: usize = 2048;
/// Stop strings in one task.
pub const STOP_STRINGS_MAX: usize = 16;
/// Bytes of one stop string.
pub const STOP_STRING_BYTES_MAX: usize = 1024;
/// Candidates in one grant.
pub const CANDIDATES_MAX: usize = 3;
/// Addresses of one machine.
pub const ADDRESSES_MAX: usize = 16;
/// Models that one node serves.
pub const MODELS_PER_NODE_MAX: usize = 64;
/// Characters of a model's name.
pub const MODEL_NAME_CHARS_MAX: usize = 200;
/// Reasons in one refusal.
pub const REASONS_MAX: usize = 64;

/// Tasks that a worker remembers to refuse a replay; at this count it takes a new key.
pub const REPLAY_MEMORY_MAX: usize = 1 << 16;
/// How long a permit is valid, in milliseconds.
pub const PERMIT_LIFETIME_MS: u64 = 30_000;
/// How long a worker's evidence is valid, in milliseconds.
pub const EVIDENCE_LIFETIME_MS: u64 = 60 * 60 * 1000;
/// How far clocks of members may differ, in milliseconds.
pub const CLOCK_SKEW_MS_MAX: u64 = 60_000;
