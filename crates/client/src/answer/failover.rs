//! Failover: hears the node that answers, finds another where it must, and shows the reader one stream.
//!
//! At any time there is one *current* way to go on ([`Lane`]) and at most one *challenger* beside it. Both begin at the
//! same token, so whichever brings the next frame wins, and the other is cancelled: nothing is lost or doubled. A
//! challenger comes when the current node is late or silent and the budget allows it; when the current node is lost for
//! certain, the challenger takes its place, or a new way is sought, which no budget forbids, because the work that is
//! done would be lost with it. What bounds it is [`LOSSES_MAX`] nodes in a row that took the task and brought nothing (a
//! task that kills workers must not walk through the pool), and the patience of the client.

mod author;
mod legs;
mod loss;
mod reasons;
mod timing;

use super::{
    Begun, Place,
    lane::{Lane, LaneEvent, Running, Way},
    progress::{Progress, Step},
};
use crate::{
    AskError, AskOptions, Shared,
    audit::Leg,
    direct::{Sign, SourceError},
    matching,
};
use author::Author;
use protocol::{
    grant::{ModelRef, Purpose},
    ids::{ModelDigest, NodeId},
    link::End,
    task::{Frame, Task, TaskError},
};
use reasons::Reasons;
use std::{
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::Instant,
};
use timing::Backoff;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep_until,
};

/// Nodes in a row that may take a task and lose it before anything comes of it.
const LOSSES_MAX: u32 = 6;

/// What is asked.
pub(crate) struct Question {
    pub(crate) model: String,
    pub(crate) task: Task,
    pub(crate) options: AskOptions,
}

type Frames = mpsc::Sender<Result<Frame, AskError>>;

pub(super) struct Failover {
    shared: Arc<Shared>,
    question: Question,
    frames: Frames,
    /// Until the first node has the task.
    begun: Option<oneshot::Sender<Result<Begun, AskError>>>,
    place: Option<Arc<Mutex<Place>>>,
    model: Option<ModelDigest>,
    progress: Progress,
    current: Option<Lane>,
    challenger: Option<Lane>,
    /// Nodes that have failed this task.
    failed: Vec<NodeId>,
    reasons: Reasons,
    /// Why the task cannot be answered, in the word of the first worker that said so.
    refusal: Option<TaskError>,
    /// Who wrote the last tokens, once it is gone and until another has gone on from them.
    author: Option<Author>,
    /// What a node that is gone wrote, where that was drawn to be read by others: the longest such part.
    leg: Option<Leg>,
    /// Nodes lost since the last progress.
    losses: u32,
    /// Since when no node is known to be at work.
    waiting_since: Option<Instant>,
    /// The next try for a current way.
    current_backoff: Backoff,
    /// The next try for a challenger.
    challenger_backoff: Backoff,
    /// Whether the current node was hedged already.
    hedged: bool,
    /// Whether an orchestrator was told that the current node is silent.
    reported: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Current,
    Challenger,
}

impl Failover {
    pub(super) fn new(
        shared: Arc<Shared>,
        question: Question,
        frames: Frames,
        begun: oneshot::Sender<Result<Begun, AskError>>,
    ) -> Self {
        let progress = Progress::new(&question.task);
        Self {
            shared,
            question,
            frames,
            begun: Some(begun),
            place: None,
            model: None,
            progress,
            current: None,
            challenger: None,
            failed: Vec::new(),
            reasons: Reasons::default(),
            refusal: None,
            author: None,
            leg: None,
            losses: 0,
            waiting_since: None,
            current_backoff: Backoff::up_to(timing::RESUME_PAUSE_MAX),
            challenger_backoff: Backoff::up_to(timing::CHALLENGE_PAUSE_MAX),
            hedged: false,
            reported: false,
        }
    }

    pub(super) async fn run(mut self) {
        self.shared.second_tries.note_task();
        self.current = Some(self.lane(Purpose::First));
        loop {
            let wake_at = self.wake_at();
            let flow = tokio::select! {
                biased;
                // Nobody waits for the answer: dropping what runs cancels it at the nodes.
                () = self.frames.closed() => return,
                event = next_event(&mut self.current) => self.on_event(Side::Current, event).await,
                event = next_event(&mut self.challenger) => self.on_event(Side::Challenger, event).await,
                () = sleep_until(wake_at.into()) => self.on_time(Instant::now()),
            };
            if let ControlFlow::Break(end) = flow {
                return self.end(end).await;
            }
        }
    }

    /// A new way to go on from here.
    fn lane(&self, purpose: Purpose) -> Lane {
        let task = self.progress.rest_of(&self.question.task);
        // A name may come to mean another model while the answer is on its way; the answer keeps to one.
        let model = self.model.or_else(|| self.current.as_ref().and_then(Lane::model));
        let name = || ModelRef::Name(self.question.model.clone());
        let mut request = matching::request(
            model.map_or_else(name, ModelRef::Digest),
            &task,
            self.shared.demands.policy,
            &self.question.options,
        );
        request.purpose = purpose;
        request.price_max = self.shared.demands.own.price_max;
        request.exclude = self.failed.clone();
        if let Some(node) = self.current.as_ref().and_then(Lane::node) {
            matching::exclude(&mut request.exclude, node);
        }
        match purpose {
            Purpose::First => {}
            // A second node helps now or not at all.
            Purpose::Hedge | Purpose::Retry => request.wait_ms_max = 0,
            Purpose::Resume => request.wait_ms_max = timing::RESUME_WAIT_MS_MAX,
        }
        let (resumed_tokens, cursor) = (self.progress.tokens(), self.progress.cursor());
        let may_audit = self.question.options.audit && self.shared.may_audit;
        Lane::new(&self.shared, Way { request, task: Arc::new(task), resumed_tokens, cursor, model, may_audit })
    }

    fn side(&mut self, side: Side) -> &mut Option<Lane> {
        match side {
            Side::Current => &mut self.current,
            Side::Challenger => &mut self.challenger,
        }
    }

    async fn on_event(&mut self, side: Side, event: LaneEvent) -> Flow {
        match event {
            LaneEvent::Accepted => self.accepted(side),
            LaneEvent::Sign(Sign::Frame(frame)) => return self.on_frame(side, frame).await,
            LaneEvent::Sign(Sign::Alive) => self.heard(side),
            // The final frame ends the answer before this is heard.
            LaneEvent::Sign(Sign::Finished) => return self.lost(side, SourceError::Unfinished),
            LaneEvent::Lost(error) => return self.lost(side, error),
            LaneEvent::Nobody(error) => return self.nobody(side, error),
        }
        ControlFlow::Continue(())
    }

    /// A node has the task.
    fn accepted(&mut self, side: Side) {
        let Some(lane) = self.side(side) else { return };
        let (model, canary) = (lane.model(), lane.take_canary());
        let Some(running) = lane.running() else { return };
        let (task, node, name) = (running.attempt.task(), running.attempt.node(), lane.model_name().to_owned());
        self.model = model;
        if let (Some(canary), Some(model)) = (canary, model) {
            self.shared.audits.keep(model, canary);
        }
        if let Some(begun) = self.begun.take() {
            let place = Arc::new(Mutex::new(Place { node, handovers: 0 }));
            self.place = Some(Arc::clone(&place));
            // Who asked may have gone; the closed channel says so.
            let _ = begun.send(Ok(Begun { task, model: name, place }));
        } else if side == Side::Current {
            self.moved_to(node);
        }
        if side == Side::Current {
            self.waiting_since = None;
        }
    }

    /// A node lives.
    fn heard(&mut self, side: Side) {
        if let Some(running) = self.side(side).as_mut().and_then(Lane::running_mut) {
            running.pace.heard(Instant::now());
        }
        if side == Side::Current {
            (self.waiting_since, self.reported) = (None, false);
        }
    }

    /// The answer comes from another node now.
    fn moved_to(&mut self, node: NodeId) {
        let Some(place) = &self.place else { return };
        let mut place = place.lock().expect("no holder of this lock panics");
        if place.node != node {
            place.node = node;
            place.handovers += 1;
        }
    }

    async fn on_frame(&mut self, side: Side, frame: Frame) -> Flow {
        if let Frame::Failed { error } = &frame {
            return self.failed(side, error.clone());
        }
        self.heard(side);
        let now = Instant::now();
        let lane = match side {
            Side::Current => &mut self.current,
            Side::Challenger => &mut self.challenger,
        };
        let Some(running) = lane.as_mut().and_then(Lane::running_mut) else { return ControlFlow::Continue(()) };
        if let Frame::Started { prompt_tokens } = frame {
            running.attempt.started(prompt_tokens);
        }
        let tokens = if let Frame::Tokens { ids, .. } = &frame { ids.len() } else { 0 };
        let step = match self.progress.take(&mut running.cursor, frame) {
            Ok(step) => step,
            Err(misplaced) => return self.lost(side, SourceError::Misplaced(misplaced)),
        };
        match step {
            Step::Nothing => {}
            Step::Begins(frame) => return self.show(frame).await,
            Step::Advances(frame) => {
                running.attempt.advance(tokens, now);
                running.pace.advance(now);
                if let (Frame::Tokens { log_probs, .. }, Some(leg)) = (&frame, &mut running.leg) {
                    leg.note(log_probs);
                }
                self.won(side);
                let shown = self.show(frame).await;
                self.shared.audits.run(&self.shared);
                return shown;
            }
            Step::Ends(frame) => {
                self.won(side);
                return match self.show(frame).await {
                    ControlFlow::Continue(()) => ControlFlow::Break(Ending::Whole),
                    gone => gone,
                };
            }
        }
        ControlFlow::Continue(())
    }

    async fn show(&mut self, frame: Frame) -> Flow {
        let shown = match self.frames.try_send(Ok(frame)) {
            Ok(()) => return ControlFlow::Continue(()),
            Err(mpsc::error::TrySendError::Closed(_)) => return ControlFlow::Break(Ending::Unwanted),
            Err(mpsc::error::TrySendError::Full(frame)) => self.frames.send(frame).await,
        };
        if shown.is_err() {
            return ControlFlow::Break(Ending::Unwanted);
        }
        // The reader was slow; nobody was listened to meanwhile.
        let now = Instant::now();
        for lane in [&mut self.current, &mut self.challenger] {
            if let Some(running) = lane.as_mut().and_then(Lane::running_mut) {
                running.pace.excuse(now);
            }
        }
        ControlFlow::Continue(())
    }

    /// A node has brought the next frame: it goes on alone.
    fn won(&mut self, side: Side) {
        let now = Instant::now();
        (self.losses, self.waiting_since, self.reported, self.refusal) = (0, None, false, None);
        self.author = None;
        self.challenger_backoff.reset();
        self.current_backoff.reset();
        let Some(challenger) = self.challenger.take() else { return };
        if side == Side::Current {
            // Dropping it cancels it.
            return;
        }
        let beaten = self.current.replace(challenger);
        self.hedged = false;
        if let Some(node) = self.current.as_ref().and_then(Lane::node) {
            self.moved_to(node);
        }
        if let Some(beaten) = beaten.and_then(Lane::into_running) {
            let late = beaten.pace.was_overtaken_late(now);
            if late {
                matching::exclude(&mut self.failed, beaten.attempt.node());
            }
            let Running { attempt, leg, .. } = beaten;
            self.keep_leg(leg);
            attempt.end(if late { End::Stalled } else { End::Cancelled });
        }
    }

    async fn end(mut self, ending: Ending) {
        let error = match ending {
            Ending::Unwanted => return,
            Ending::Whole => {
                // Dropping it cancels it: one is enough.
                self.challenger = None;
                if let Some(Running { attempt, source, leg, .. }) = self.current.take().and_then(Lane::into_running) {
                    self.keep_leg(leg);
                    if let Some(took) = attempt.first_token().filter(|_| !self.has_moved()) {
                        self.shared.hedge_delay.note(took);
                    }
                    attempt.end(End::Completed);
                    source.finish().await;
                }
                self.audit();
                return;
            }
            Ending::NotBegun(error) => {
                if let Some(begun) = self.begun.take() {
                    // Who asked may have gone.
                    let _ = begun.send(Err(error));
                }
                return;
            }
            Ending::Refused(error) => {
                if let Some(Running { attempt, source, .. }) = self.current.take().and_then(Lane::into_running) {
                    attempt.end(End::Completed);
                    source.finish().await;
                }
                AskError::Task(error)
            }
            Ending::Broken => AskError::Broken { reason: self.reasons.to_string() },
        };
        (self.current, self.challenger) = (None, None);
        // A reader that has gone does not care.
        let _ = self.frames.send(Err(error)).await;
    }

    fn has_moved(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.lock().expect("no holder of this lock panics").handovers > 0)
    }
}

type Flow = ControlFlow<Ending>;

/// How an answer ends.
enum Ending {
    /// With its final frame.
    Whole,
    /// Nobody reads it.
    Unwanted,
    /// No node takes the task.
    NotBegun(AskError),
    /// The task itself cannot be answered.
    Refused(TaskError),
    /// It cannot go on.
    Broken,
}

async fn next_event(lane: &mut Option<Lane>) -> LaneEvent {
    match lane {
        Some(lane) => lane.event().await,
        None => std::future::pending().await,
    }
}
