//! What an engine says about its model.

use serde::{Deserialize, Serialize};

/// The loaded model and what this engine can do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// The model's own name, from its file. It proves nothing.
    pub name: String,
    /// Architecture, such as `llama`.
    pub architecture: String,
    /// Parameters.
    pub parameters: u64,
    /// Size of the weights, in bytes.
    pub weights_bytes: u64,
    /// Tokens in the vocabulary.
    pub vocabulary: u32,
    /// Length of an embedding vector.
    pub embedding_length: u32,
    /// Tokens that the model was trained to hold.
    pub trained_context_tokens: u32,
    /// Tokens that one request may hold: prompt and answer together.
    pub context_tokens: u32,
    /// Requests that run at once.
    pub slots: u32,
    /// Whether it continues texts.
    pub completion: bool,
    /// Whether it answers chats: it continues texts and has a chat template that can be read.
    pub chat: bool,
    /// Whether it makes embeddings.
    pub embedding: bool,
}
