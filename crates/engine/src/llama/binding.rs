//! The few things that the safe binding does not offer. All unsafe code of the crate is here.

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use std::ffi::{c_char, c_void};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// llama.cpp, initialised once for the process and never freed. Its log goes nowhere: it may hold content.
pub(super) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        // SAFETY: sets a global function pointer, before any other use of the library in this process; `discard`
        // has the required signature, lives for ever and does not use its arguments.
        unsafe { llama_cpp_sys_2::llama_log_set(Some(discard), std::ptr::null_mut()) };
        LlamaBackend::init().expect("initialised here only, and once")
    })
}

extern "C" fn discard(_level: llama_cpp_sys_2::ggml_log_level, _text: *const c_char, _user: *mut c_void) {}

/// A context that keeps its model alive.
pub(super) struct Context {
    // Declared before the model, so dropped before it.
    inner: LlamaContext<'static>,
    _model: Arc<LlamaModel>,
}

impl Context {
    /// `None` if there is no memory for it.
    ///
    /// The binding's `new_context` must not run twice at a time on one model: takes the model's only owner, which has
    /// it behind `&mut` or is still loading it.
    pub(super) fn new(model: &Arc<LlamaModel>, params: LlamaContextParams) -> Option<Self> {
        // SAFETY: the model does not move, it is in an `Arc`, and lives as long as `_model` does, which is dropped
        // after `inner`. The `'static` context does not leave this struct: `Deref` lends it for no longer than `self`,
        // and nothing in this crate swaps it for another.
        let model_ref: &'static LlamaModel = unsafe { &*Arc::as_ptr(model) };
        let inner = model_ref.new_context(backend(), params).ok()?;
        Some(Self { inner, _model: Arc::clone(model) })
    }
}

impl Deref for Context {
    type Target = LlamaContext<'static>;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl DerefMut for Context {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.inner
    }
}
