//! A loaded model: what its metadata says, and the prompts that it understands.

use super::binding;
use super::options::LoadError;
use super::vocabulary::{Prompt, Vocabulary};
use crate::{ChatTemplate, ModelInfo, TemplateError};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use protocol::task::{Message, TaskError};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Longest name that is taken from a file, in characters.
const NAME_CHARS_MAX: usize = 200;

/// How the vectors of an input's tokens become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Their mean.
    Mean,
    /// The vector of the last token.
    Last,
    /// As llama.cpp does it for this model.
    Own,
}

/// Weights, vocabulary and chat template.
pub(super) struct Model {
    weights: Arc<LlamaModel>,
    vocabulary: Vocabulary,
    architecture: String,
    template: Option<Result<ChatTemplate, TemplateError>>,
}

impl Model {
    pub(super) fn load(path: &Path) -> Result<Self, LoadError> {
        check_magic(path)?;
        let unreadable = || LoadError::Model { path: path.to_owned() };
        let weights = LlamaModel::load_from_file(binding::backend(), path, &LlamaModelParams::default());
        let weights = Arc::new(weights.map_err(|_| unreadable())?);
        let architecture = weights.meta_val_str("general.architecture").map_err(|_| unreadable())?;
        // Encoder-decoder, diffusion and audio models need other calls, and abort without them.
        let unsupported = ["t5", "t5encoder", "dream", "llada", "llada-moe", "rnd1", "wavtokenizer-dec", "clef"];
        if unsupported.contains(&architecture.as_str()) {
            return Err(LoadError::Unsupported { architecture });
        }
        let vocabulary = Vocabulary::read(&weights).ok_or_else(unreadable)?;
        let template = weights.meta_val_str("tokenizer.chat_template").ok().filter(|source| !source.is_empty());
        let template =
            template.map(|source| ChatTemplate::parse(&source, vocabulary.bos_text(), vocabulary.eos_text()));
        Ok(Self { weights, vocabulary, architecture, template })
    }

    pub(super) fn weights(&self) -> &Arc<LlamaModel> {
        &self.weights
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// At least 16: a file that says less is not believed.
    pub(super) fn trained_context_tokens(&self) -> u32 {
        self.weights.n_ctx_train().max(16)
    }

    /// Whether a token sees only those before it. Such models continue texts, and can be read in parts.
    pub(super) fn generates(&self) -> bool {
        let encoder = self.architecture.contains("bert") || self.architecture == "gemma-embedding";
        !encoder && self.own("attention.causal").as_deref() != Some("false")
    }

    /// `None`: the model ranks pairs of texts and makes no vectors.
    pub(super) fn pooling(&self) -> Option<Pooling> {
        // The values of `llama_pooling_type`: none, mean, first token, last token, rank.
        match (self.own("pooling_type").as_deref(), self.generates()) {
            (Some("4"), _) => None,
            (Some("3"), true) => Some(Pooling::Last),
            (Some("2"), _) | (Some("3"), false) => Some(Pooling::Own),
            _ => Some(Pooling::Mean),
        }
    }

    pub(super) fn info(&self, context_tokens: u32, slots: u32) -> ModelInfo {
        let name = self.weights.meta_val_str("general.name").unwrap_or_default();
        ModelInfo {
            name: name.chars().filter(|character| !character.is_control()).take(NAME_CHARS_MAX).collect(),
            architecture: self.architecture.clone(),
            parameters: self.weights.n_params(),
            weights_bytes: self.weights.size(),
            vocabulary: self.vocabulary.size(),
            embedding_length: u32::try_from(self.weights.n_embd_out()).unwrap_or(0),
            trained_context_tokens: self.weights.n_ctx_train(),
            context_tokens,
            slots,
            completion: self.generates(),
            chat: self.generates() && matches!(self.template, Some(Ok(_))),
            embedding: self.pooling().is_some(),
        }
    }

    /// The tokens that ask for the next message of a conversation.
    pub(super) fn chat_prompt(&self, messages: &[Message], now: SystemTime, room: u32) -> Result<Prompt, TaskError> {
        let unsupported = |message: String| TaskError::Unsupported { message };
        let template = match &self.template {
            Some(Ok(template)) => template,
            Some(Err(error)) => return Err(unsupported(error.to_string())),
            None => return Err(unsupported("this model has no chat template: send a completion".to_owned())),
        };
        let invalid = |message: String| TaskError::Invalid { message };
        // Before rendering, so that the work of rendering is bounded by the context too.
        let bytes = messages.iter().map(|message| message.content.len()).sum();
        self.vocabulary.check_bytes(bytes, room)?;
        let guarded = self.vocabulary.control().guard(messages).map_err(|error| invalid(error.to_string()))?;
        let rendered = template.render(&guarded.messages, now).map_err(|error| invalid(error.to_string()))?;
        self.vocabulary.chat(guarded.pieces(&rendered), room)
    }

    /// Chats that share nothing but what the template begins every chat with: other text, another year. None for a
    /// model whose cells cannot be freed from a position on, or that forgets early ones (sliding window).
    pub(super) fn openings(&self, room: u32) -> Vec<Prompt> {
        let windowed = self.own("attention.sliding_window").is_some();
        if windowed || self.weights.is_recurrent() || self.weights.is_hybrid() {
            return Vec::new();
        }
        let now = SystemTime::now();
        let later = now + Duration::from_secs(400 * 24 * 60 * 60);
        let chat = |content: &str, at| {
            let message = Message { role: "user".to_owned(), content: content.to_owned() };
            self.chat_prompt(&[message], at, room).ok()
        };
        let chats: Option<Vec<Prompt>> =
            [("Yes", now), ("12", now), ("é", later)].map(|(text, at)| chat(text, at)).into_iter().collect();
        chats.unwrap_or_default()
    }

    /// A value of the metadata whose key begins with the architecture.
    fn own(&self, key: &str) -> Option<String> {
        self.weights.meta_val_str(&format!("{}.{key}", self.architecture)).ok()
    }
}

/// The cheap test first: llama.cpp need not see what is no model at all.
fn check_magic(path: &Path) -> Result<(), LoadError> {
    let mut magic = [0; 4];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
    match read {
        Ok(()) if &magic == b"GGUF" => Ok(()),
        Ok(()) => Err(LoadError::Model { path: path.to_owned() }),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(LoadError::Model { path: path.to_owned() })
        }
        Err(source) => Err(LoadError::File { path: path.to_owned(), source }),
    }
}
