//! A limit on everything that a peer can make us hold. One place, so that an auditor reads one file.

/// Longest plaintext of a task, in bytes, before padding.
pub const TASK_BYTES_MAX: usize = 4 << 20;
/// Longest plaintext of one answer frame, in bytes, before padding.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Longest message on the stream between client and node: a sealed task, or a batch of frames.
pub const STREAM_MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Sealed frames in one message, from a worker or from a node; decoding stops there.
pub const FRAMES_PER_MESSAGE_MAX: usize = 256;
/// Longest permit on the stream between client and node.
pub const PERMIT_BYTES_MAX: usize = 4 << 10;
/// Longest message about money on the stream between client and node.
pub const PAYMENT_BYTES_MAX: usize = 4 << 10;
/// Words about money in one message of a node.
pub const WORDS_MAX: usize = 32;
/// What one answer shows of the history of a ledger.
pub const MOVEMENTS_MAX: usize = 1_024;
/// Settlements that one answer shows with their proofs.
pub const SETTLEMENTS_SHOWN_MAX: usize = 16;
/// How long before it is asked a question about a ledger may have been signed, in milliseconds.
pub const LEDGER_QUESTION_AGE_MS_MAX: u64 = 60_000;
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
/// Tokens after which an answer can still be resumed or scored.
pub const RESUME_TOKENS_MAX: usize = 1 << 17;
/// Referees of one audit.
pub const REFEREES_MAX: usize = 2;
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

/// Machines that have ever been members of one pool.
pub const MEMBERS_MAX: usize = 1 << 17;
/// Orchestrators of one pool.
pub const ORCHESTRATORS_MAX: usize = 16;
/// Models of one pool. With their names they fit one message of a link.
pub const MODELS_MAX: usize = 256;
/// Models that one pool has ever had: names of removed ones stay taken.
pub const MODELS_EVER_MAX: usize = 1 << 14;
/// Other names of one model.
pub const MODEL_ALIASES_MAX: usize = 8;
/// Bytes of the name of a model's licence.
pub const LICENCE_BYTES_MAX: usize = 200;
/// Longest fact of a pool's registry.
pub const FACT_BYTES_MAX: usize = 16 << 10;

/// Shortest epoch of a committee, in blocks.
pub const EPOCH_BLOCKS_MIN: u32 = 8;
/// Longest epoch of a committee, in blocks.
pub const EPOCH_BLOCKS_MAX: u32 = 1 << 20;
/// Longest body of a block.
pub const BLOCK_BODY_BYTES_MAX: usize = 1 << 20;
/// Bundles in one block.
pub const BLOCK_BUNDLES_MAX: usize = 256;
/// Longest message between two orchestrators about agreement: a block, or a list of bundles.
pub const PEER_MESSAGE_BYTES_MAX: usize = BLOCK_BODY_BYTES_MAX + (64 << 10);
/// Longest message between two orchestrators that carries a part of a snapshot.
pub const PEER_BULK_BYTES_MAX: usize = SNAPSHOT_PART_BYTES_MAX + (64 << 10);
/// Longest message between two orchestrators about live state: the profile of a node with as many models as there may be.
pub const GOSSIP_BYTES_MAX: usize = 512 << 10;
/// Longest evidence of a member's fault: two of its votes.
pub const FAULT_EVIDENCE_BYTES_MAX: usize = 4 << 10;
/// Faults of members that a pool remembers.
pub const FAULTS_MAX: usize = 4096;
/// Longest header with its certificate.
pub const ANCHOR_BYTES_MAX: usize = 2 << 10;
/// Handovers in one answer; with their committees they fit one message of a link.
pub const HANDOVERS_MAX: usize = 64;
/// Longest form in which a machine keeps what it knows of a committee.
pub const CHECKPOINT_BYTES_MAX: usize = 1 << 10;
/// Measurements that are shown with one grant: those of its candidates, and of a canary and its referees.
pub const MEASUREMENTS_SHOWN_MAX: usize = CANDIDATES_MAX + 1 + REFEREES_MAX;
/// How old a root may be for what it proves to count, where a pool's policy does not say otherwise, in milliseconds.
pub const ROOT_AGE_MS_MAX: u64 = 10 * 60 * 1000;
/// How much older than the newest that was seen a root may be, in milliseconds: orchestrators are not equally quick.
pub const ROOT_BEHIND_MS_MAX: u64 = 30_000;

/// Longest value of a pool's agreed state; a fact that would make a longer one is rejected.
pub const STATE_VALUE_BYTES_MAX: usize = 8 << 10;
/// Longest proof from a pool's agreed state: a value, and 256 hashes beside the way to it.
pub const PROOF_BYTES_MAX: usize = STATE_VALUE_BYTES_MAX + 256 * 32 + 16;

/// Keys that have ever said something in one pool: a number is kept for each.
pub const AUTHORS_MAX: usize = 1 << 19;
/// Facts that one author signs together.
pub const BUNDLE_FACTS_MAX: usize = 256;
/// How long before it ends a bundle of facts may be handed in, in milliseconds.
pub const BUNDLE_LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Longest part of a snapshot: one 256th of a pool's state.
pub const SNAPSHOT_PART_BYTES_MAX: usize = 32 << 20;
/// Characters of a name that a pool gives to regions and properties.
pub const POOL_LABEL_CHARS_MAX: usize = 32;
/// Labels of one member.
pub const POOL_LABELS_MAX: usize = 16;
/// Models that a policy names.
pub const POLICY_MODELS_MAX: usize = 64;
/// Regions that a policy names.
pub const POLICY_REGIONS_MAX: usize = 16;
/// Invites of one pool that are not used up.
pub const INVITES_MAX: usize = 4096;
/// Keys that one use of an invite brings in: of a machine that lends, of its account, and of its programs that ask.
pub const REDEMPTION_KEYS_MAX: usize = 4;
/// Entries in one part of a list of members, invites or the like.
pub const LISTED_MAX: usize = 1024;
/// Records that are proven at a time; with their proofs they fit one message of a link.
pub const PROVEN_MAX: usize = 32;
/// Longest key of a record of the agreed state.
pub const STATE_KEY_BYTES_MAX: usize = 512;
/// Worker measurements that one pool allows.
pub const MEASUREMENTS_MAX: usize = 256;
/// Accounts of one pool.
pub const ACCOUNTS_MAX: usize = 1 << 18;
/// Accounts that one account blocks.
pub const BLOCKS_MAX: u32 = 64;
/// Accounts that all accounts of one pool block together.
pub const BLOCKS_PER_POOL_MAX: u32 = 1 << 20;
/// Micro-credits that a pool can issue: 10⁹ credits. Every sum of them fits 64 bits.
pub const ISSUE_MICRO_MAX: u64 = 1_000_000_000_000_000;
/// Orders of one pool that have not run out.
pub const HOLDS_MAX: usize = 1 << 20;
/// Tasks that one receipt is for.
pub const RECEIPT_LINES_MAX: usize = 64;
/// How long credits may be held, in milliseconds.
pub const HOLD_LIFETIME_MS: u64 = 4 * 60 * 60 * 1000;
/// How long the other side of a claim, and the node of a closed hold, have to say theirs, in milliseconds.
pub const CLAIM_WINDOW_MS: u64 = 10 * 60 * 1000;

/// Connections to one orchestrator; an idle one costs it about 100 kB.
pub const LINKS_MAX: usize = 20_000;
/// Connections that have not shown a ticket yet.
pub const LINKS_UNADMITTED_MAX: usize = 256;
/// Connections of one client to one orchestrator.
pub const LINKS_PER_CLIENT_MAX: usize = 16;
/// Nodes that one orchestrator keeps in mind, linked or lately gone.
pub const NODES_MAX: usize = 1 << 14;
/// Longest first message of a connection to an orchestrator.
pub const HELLO_BYTES_MAX: usize = 4 << 10;
/// Longest message of a node on its link.
pub const NODE_MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Longest question of a client.
pub const QUESTION_BYTES_MAX: usize = 16 << 10;
/// Longest evidence of one worker.
pub const EVIDENCE_BYTES_MAX: usize = 4 << 10;
/// Nodes that one question may exclude.
pub const EXCLUDED_MAX: usize = 64;
/// Characters of what people call a machine.
pub const LABEL_CHARS_MAX: usize = 64;
/// Characters of a sentence in which a machine says what is wrong with it.
pub const WHY_CHARS_MAX: usize = 200;
/// Places of one worker that are believed.
pub const SLOTS_MAX: u32 = 1024;
