//! A pool in memory: it repeats what it is asked, or follows a script.

use client::{AskError, Model};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use gateway::{Answer, Asker};
use protocol::{
    ids::{ModelDigest, NodeId, TaskId},
    task::{Finish, Frame, Task, TaskError, Usage},
};
use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
};
use tokio::sync::mpsc;

pub(crate) const MODEL: &str = "fake/echo-1";
pub(crate) const CONTEXT_TOKENS: u32 = 512;

/// Frames of one answer, and what happens after the last of them.
pub(crate) enum Script {
    /// `ask` itself fails.
    Refuse(AskError),
    /// `ask` never returns.
    NeverBegin,
    /// These frames.
    Frames(Vec<Result<Frame, AskError>>),
    /// Frames as the test sends them.
    Live(mpsc::UnboundedReceiver<Result<Frame, AskError>>),
    /// `Started`, and then this text without end.
    Endless(&'static str),
}

/// Says that an answer, or the wait for one, was dropped.
struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The test may have ended before.
        let _ = self.0.send(());
    }
}

pub(crate) struct FakePool {
    pub(crate) connected: AtomicBool,
    pub(crate) ready_nodes: AtomicU32,
    pub(crate) asked: Mutex<Vec<Task>>,
    /// The answers are numbered, so that their ids are known and differ.
    answers: AtomicU8,
    scripts: Mutex<HashMap<String, Script>>,
    ended: (mpsc::UnboundedSender<()>, tokio::sync::Mutex<mpsc::UnboundedReceiver<()>>),
}

impl Default for FakePool {
    fn default() -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self {
            connected: AtomicBool::new(true),
            ready_nodes: AtomicU32::new(1),
            asked: Mutex::default(),
            answers: AtomicU8::new(1),
            scripts: Mutex::default(),
            ended: (sender, receiver.into()),
        }
    }
}

impl FakePool {
    /// The next answer of this model.
    pub(crate) fn script(&self, model: &str, script: Script) {
        self.scripts.lock().unwrap().insert(model.to_owned(), script);
    }

    /// Frames that the test sends one by one.
    pub(crate) fn live(&self, model: &str) -> mpsc::UnboundedSender<Result<Frame, AskError>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.script(model, Script::Live(receiver));
        sender
    }

    /// Returns when the gateway has dropped one more answer.
    pub(crate) async fn answer_dropped(&self) {
        self.ended.1.lock().await.recv().await.unwrap();
    }

    fn answer(&self, frames: BoxStream<'static, Result<Frame, AskError>>, ended: Ended) -> Answer {
        let task = TaskId([self.answers.fetch_add(1, Ordering::Relaxed); 16]);
        let frames = frames.map(move |frame| {
            let _ = &ended;
            frame
        });
        Answer { task, model: MODEL.to_owned(), node: NodeId([0xab; 32]), frames: frames.boxed() }
    }
}

impl Asker for FakePool {
    fn models(&self) -> BoxFuture<'_, Result<Vec<Model>, AskError>> {
        let entry = Model {
            name: MODEL.to_owned(),
            aliases: vec!["echo".to_owned()],
            digest: ModelDigest([7; 32]),
            context_tokens: CONTEXT_TOKENS,
            default: true,
            ready_nodes: self.ready_nodes.load(Ordering::Relaxed),
            created_unix_s: 1_700_000_000,
        };
        async { Ok(vec![entry]) }.boxed()
    }

    fn ask<'a>(&'a self, model: &'a str, task: Task) -> BoxFuture<'a, Result<Answer, AskError>> {
        async move {
            self.asked.lock().unwrap().push(task.clone());
            let ended = Ended(self.ended.0.clone());
            let script = self.scripts.lock().unwrap().remove(model);
            let frames = match script {
                Some(Script::Refuse(error)) => return Err(error),
                Some(Script::NeverBegin) => std::future::pending().await,
                Some(Script::Frames(frames)) => stream::iter(frames).boxed(),
                Some(Script::Live(receiver)) => {
                    stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }).boxed()
                }
                Some(Script::Endless(text)) => {
                    let started = stream::iter([Ok(Frame::Started { prompt_tokens: 1 })]);
                    started.chain(stream::repeat_with(|| Ok(tokens(text)))).boxed()
                }
                None if ["default", "echo", MODEL].contains(&model) => echo(&task),
                None => {
                    let (model, known) = (model.to_owned(), vec![MODEL.to_owned()]);
                    return Err(AskError::UnknownModel { model, known });
                }
            };
            Ok(self.answer(frames, ended))
        }
        .boxed()
    }

    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

pub(crate) fn tokens(text: &str) -> Frame {
    Frame::Tokens { ids: vec![1], text: text.to_owned(), log_probs: vec![-0.5] }
}

pub(crate) fn started() -> Frame {
    Frame::Started { prompt_tokens: 3 }
}

pub(crate) fn done(finish: Finish, completion_tokens: u32) -> Frame {
    Frame::Done { finish, usage: Usage { prompt_tokens: 3, completion_tokens } }
}

/// The words of the prompt again and again, one for each token, up to the bound or a stop; once if there is no bound.
fn echo(task: &Task) -> BoxStream<'static, Result<Frame, AskError>> {
    let (text, generation) = match task {
        Task::Chat { messages, generation } => {
            (messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join(" "), generation)
        }
        Task::Completion { prompt, generation } => (prompt.clone(), generation),
        Task::Embedding { inputs } => return embed(inputs),
        Task::Score { .. } => return stream::empty().boxed(),
    };
    let words: Vec<String> = text.split_whitespace().map(|word| format!(" {word}")).collect();
    let prompt_tokens = words.len() as u32;
    if prompt_tokens > CONTEXT_TOKENS {
        let error = TaskError::ContextExceeded { prompt_tokens, context_tokens: CONTEXT_TOKENS };
        return stream::iter([Ok(Frame::Failed { error })]).boxed();
    }
    let bound = generation.max_tokens.unwrap_or(prompt_tokens);
    let is_stop = |word: &String| generation.stop.iter().any(|stop| word.contains(stop));
    let stop = words.iter().position(is_stop).map_or(u32::MAX, |stop| stop as u32);
    let completion_tokens = bound.min(stop);
    let finish = if completion_tokens < prompt_tokens.min(stop) { Finish::Length } else { Finish::Stop };
    let usage = Usage { prompt_tokens, completion_tokens };
    let words = words.into_iter().cycle().take(completion_tokens as usize);
    stream::iter([Frame::Started { prompt_tokens }])
        .chain(stream::iter(words).map(|word| tokens(&word)).then(|frame| async {
            tokio::task::yield_now().await;
            frame
        }))
        .chain(stream::iter([Frame::Done { finish, usage }]))
        .map(Ok)
        .boxed()
}

/// A vector that tells its input by the length; in reverse order, which the gateway must undo.
fn embed(inputs: &[String]) -> BoxStream<'static, Result<Frame, AskError>> {
    let vectors = inputs
        .iter()
        .enumerate()
        .rev()
        .map(|(index, input)| Frame::Embedding { index: index as u32, vector: vec![input.len() as f32, 0.1, -1.0] });
    let usage = Usage { prompt_tokens: inputs.len() as u32, completion_tokens: 0 };
    let mut frames = vec![started()];
    frames.extend(vectors);
    frames.push(Frame::Done { finish: Finish::Stop, usage });
    stream::iter(frames).map(Ok).boxed()
}
