//! One call of an environment, from the event to the REPORT line.

use std::time::Duration;

use bytes::Bytes;
use flint_model::ByteCount;
use flint_sandbox::{Exit, How};

use crate::api::{Event, Failure, Outlet, Reported, StreamFault};
use crate::call::{Answer, Call, End, MAX_RESPONSE};
use crate::catalog::Kind;
use crate::documents::{self, Document};
use crate::environment::{Environment, State};
use crate::events::Event as Said;
use crate::life::{Cause, Life, Started};
use crate::lines::{self, Phase, Report, Status};
use crate::output::Pipes;
use crate::stream::StreamSender;

/// How long it may take a process to end (or to go on) that closed its connection in the middle of an answer, or whose
/// answer was refused.
const STATUS_WAIT: Duration = Duration::from_millis(250);

/// How a call ended, before the log lines and the answer are made of it.
enum Ended {
    Ok(Bytes),
    Failed(Failure),
    TooLarge {
        /// The runtime asked for the next event.
        goes_on: bool,
    },
    Exit(Exit),
    ExtensionFailed(Failure),
    /// The stream broke off, by no doing of the function's process ending.
    Truncated,
    /// At the very timeout, whatever the clock says by now.
    Timeout,
    InitFailed {
        error_type: String,
        cause: Cause,
    },
    InitTimedOut,
    /// Flint's own doing: no sandbox could be made for a repeated init.
    NoSandbox(String),
}

impl Ended {
    /// Bytes of the answer in one piece.
    fn produced(&self) -> usize {
        match self {
            Self::Ok(payload) => payload.len(),
            _ => 0,
        }
    }
}

impl Environment {
    pub(crate) async fn run(&mut self, call: Call, stream: Option<StreamSender>) -> Answer {
        let began = self.shared.clock.monotonic();
        self.thaw();
        let ended = match self.stand_up(&call).await {
            Ok(()) => {
                // What a thread wrote between two calls comes before START.
                self.life.iter().for_each(|life| self.log.drain_known(&life.pipes));
                self.log.platform(Said::Start { id: call.request_id, version: &self.spec.version });
                let left = call.timeout.saturating_sub(self.since(began));
                self.hand_over(&call, stream, left).await
            }
            Err(ended) => {
                self.log.platform(Said::Start { id: call.request_id, version: &self.spec.version });
                ended
            }
        };
        let duration = self.since(began);
        self.conclude(&call, ended, duration)
    }

    fn since(&self, began: Duration) -> Duration {
        self.shared.clock.monotonic().saturating_sub(began)
    }

    /// Makes sure that a runtime waits for an event: repeats the init where it failed or the process has ended since.
    async fn stand_up(&mut self, call: &Call) -> Result<(), Ended> {
        if self.state == State::Starting {
            // Nobody waited for the first init, so this call does.
            self.init().await;
        }
        if let (Some(life), State::Ready) = (&self.life, self.state)
            && !life.has_ended().await
        {
            return Ok(());
        }
        self.init_duration = None;
        if let Some(old) = self.life.take() {
            self.log.drain(&old.pipes);
            // Its slot is given back in the background.
            drop(old);
        }
        let life = self.start(call.trace.clone()).await.map_err(|e| Ended::NoSandbox(e.to_string()))?;
        self.life = Some(life);
        let life = self.life.as_ref().expect("it was just put there");
        match life.init(call.timeout).await {
            Started::Ready { .. } => {
                self.log.drain(&life.pipes);
                self.state = State::Ready;
                Ok(())
            }
            Started::Failed { took, error_type, cause } => {
                self.fall(took, Phase::Invoke, Status::Error(&error_type));
                Err(Ended::InitFailed { error_type, cause })
            }
            Started::TimedOut { took } => {
                self.fall(took, Phase::Invoke, Status::Timeout);
                Err(Ended::InitTimedOut)
            }
        }
    }

    /// Gives the event to the runtime and waits for the first of: an answer, the end of the process, the timeout.
    async fn hand_over(&self, call: &Call, stream: Option<StreamSender>, left: Duration) -> Ended {
        let Some(life) = &self.life else { return Ended::NoSandbox("the environment has ended".to_owned()) };
        let deadline = self.shared.clock.now().saturating_add(left);
        let until = self.shared.clock.monotonic().saturating_add(left);
        let id = call.request_id.to_string();
        life.api.extensions.invoke(&id, &call.arn, call.trace.as_deref(), deadline);
        life.api.offer(Event {
            id,
            deadline,
            arn: call.arn.clone(),
            trace: call.trace.clone(),
            client_context: call.client_context.clone(),
            payload: call.payload.clone(),
            limit: call.max_response.min(MAX_RESPONSE),
            stream: stream.map(|to| Outlet { to, limit: call.max_response }),
        });
        let ended = |reported| match reported {
            Reported::Response(payload) => Ended::Ok(payload),
            Reported::Streamed(Ok(())) => Ended::Ok(Bytes::new()),
            Reported::Error(failure) | Reported::Streamed(Err(StreamFault::Function(failure))) => {
                Ended::Failed(failure)
            }
            Reported::TooLarge | Reported::Streamed(Err(StreamFault::TooLarge)) => Ended::TooLarge { goes_on: true },
            Reported::Streamed(Err(StreamFault::Truncated)) => Ended::Truncated,
        };
        let ended = tokio::select! {
            biased;
            reported = life.api.reported() => ended(reported),
            exit = life.sandbox.exited() => match life.api.take_reported() {
                Some(reported) => ended(reported),
                None => Ended::Exit(exit),
            },
            () = tokio::time::sleep(left) => Ended::Timeout,
        };
        if !life.api.extensions.is_empty() && !matches!(ended, Ended::Exit(_) | Ended::Timeout | Ended::Truncated) {
            let duration = call.timeout.saturating_sub(until.saturating_sub(self.shared.clock.monotonic()));
            self.tell_done(call, &ended, duration, &life.pipes);
            // The invocation lasts until the extensions have done their part.
            let left = until.saturating_sub(self.shared.clock.monotonic());
            tokio::select! {
                biased;
                done = life.api.extensions.idle() => if let Err(failure) = done {
                    return Ended::ExtensionFailed(failure);
                },
                _ = life.sandbox.exited() => {}
                () = tokio::time::sleep(left) => return Ended::Timeout,
            }
        }
        if let Ended::TooLarge { .. } = ended {
            // Some clients end over the refusal. Such an environment shall not get the next call.
            let goes_on = tokio::select! {
                biased;
                () = life.api.asked() => true,
                _ = life.sandbox.exited() => false,
                () = tokio::time::sleep(STATUS_WAIT) => false,
            };
            return Ended::TooLarge { goes_on };
        }
        if !matches!(ended, Ended::Truncated) {
            return ended;
        }
        // Mostly the process has ended and the connection with it; its status is worth a moment. One that goes on has lost
        // the thread.
        tokio::select! {
            biased;
            exit = life.sandbox.exited() => Ended::Exit(exit),
            () = tokio::time::sleep(STATUS_WAIT) => {
                life.sandbox.kill();
                Ended::Truncated
            }
        }
    }

    /// For telemetry, before the extensions are done too.
    fn tell_done(&self, call: &Call, ended: &Ended, duration: Duration, pipes: &Pipes) {
        if self.log.telemetry.is_active() {
            let document = self.document(call, ended);
            let status = status_of(ended, document.as_ref());
            let produced = ended.produced();
            self.log.runtime_done(Said::End { id: call.request_id, duration, produced, status }, pipes);
        }
    }

    /// Writes the call's last lines and makes the answer.
    fn conclude(&mut self, call: &Call, ended: Ended, measured: Duration) -> Answer {
        let id = call.request_id;
        if matches!(ended, Ended::Timeout) {
            self.life.iter().for_each(|life| life.sandbox.kill());
        }
        // Everything that the call wrote comes before the lines that end it.
        self.life.iter().for_each(|life| self.log.drain(&life.pipes));

        let document = self.document(call, &ended);
        let timed_out = matches!(ended, Ended::Timeout | Ended::InitTimedOut);
        // A call that ran out of time took its timeout, as the reference reports it.
        let duration = if timed_out { call.timeout } else { measured };
        match (&ended, &document) {
            (Ended::Timeout | Ended::InitTimedOut, _) => {
                self.log.platform(Said::TimedOut { id, timeout: call.timeout });
            }
            (
                Ended::Exit(_)
                | Ended::Truncated
                | Ended::InitFailed { cause: Cause::Exit(_), .. }
                | Ended::NoSandbox(_),
                Some(doc),
            ) => {
                self.log.platform(Said::Crashed(&doc.message, doc.error_type));
            }
            _ => {}
        }

        let init = self.init_duration.take();
        let billed_ms = lines::billed_ms(duration, init);
        let memory_used = self.peak(document.as_ref());
        let status = status_of(&ended, document.as_ref());
        let produced = ended.produced();
        let report = Report {
            request_id: id,
            duration,
            billed_ms,
            memory_mb: self.spec.memory_mb,
            memory_used_mb: memory_used.mib_ceil().min(u64::from(self.spec.memory_mb)),
            init,
            status,
        };
        self.log.platform_lines(&[Said::End { id, duration, produced, status }, Said::Report(report)]);

        let end = end_of(&ended);
        let reusable = matches!(ended, Ended::Ok(_) | Ended::Failed(_) | Ended::TooLarge { goes_on: true });
        if !reusable {
            self.state = State::Fallen;
        }
        let error_type = match (&ended, &document) {
            (Ended::Failed(failure) | Ended::ExtensionFailed(failure), _) => {
                (failure.error_type != documents::UNKNOWN).then(|| failure.error_type.clone())
            }
            (Ended::InitFailed { error_type, .. }, _) => Some(error_type.clone()),
            (_, document) => document.as_ref().map(|d| d.error_type.to_owned()),
        };
        let payload = match (ended, document) {
            (Ended::Ok(payload), _) => payload,
            (Ended::Failed(failure) | Ended::ExtensionFailed(failure), _) => failure.document,
            (Ended::InitFailed { cause: Cause::Document(document), .. }, _) => document,
            (_, Some(document)) => document.render(),
            (_, None) => Bytes::new(),
        };
        Answer {
            payload,
            streamed: self.life.as_ref().is_some_and(|life| life.api.has_streamed()),
            error_type,
            function_error: (end != End::Ok).then_some("Unhandled"),
            duration,
            billed_ms,
            init_duration: init,
            memory_used,
            tail: self.log.take_tail(),
            end,
            reusable,
        }
    }

    /// The platform's own error document, where it writes one.
    fn document(&self, call: &Call, ended: &Ended) -> Option<Document> {
        let bootstrap = self.spec.runtime.kind == Kind::Provided;
        match ended {
            Ended::Ok(_)
            | Ended::Failed(_)
            | Ended::ExtensionFailed(_)
            | Ended::InitFailed { cause: Cause::Document(_), .. } => None,
            Ended::TooLarge { .. } => Some(documents::too_large(self.response_limit(call))),
            Ended::Truncated => Some(documents::truncated(call.request_id)),
            Ended::Timeout | Ended::InitTimedOut => Some(documents::timed_out(call.request_id, call.timeout)),
            Ended::Exit(exit) | Ended::InitFailed { cause: Cause::Exit(exit), .. } => {
                Some(documents::exited(call.request_id, *exit, bootstrap))
            }
            Ended::NoSandbox(why) => Some(documents::no_sandbox(call.request_id, why)),
        }
    }

    /// What the answer may have, by the way that it took.
    fn response_limit(&self, call: &Call) -> usize {
        let streamed = self.life.as_ref().is_some_and(|life| life.api.has_streamed());
        if streamed { call.max_response } else { call.max_response.min(MAX_RESPONSE) }
    }

    /// The peak of memory. One that was killed for it had used it all, whatever was measured in time.
    fn peak(&self, document: Option<&Document>) -> ByteCount {
        let limit = ByteCount::from_mib(u64::from(self.spec.memory_mb));
        if document.is_some_and(|d| d.error_type == documents::OUT_OF_MEMORY) {
            return limit;
        }
        self.life.as_ref().map_or(ByteCount(0), peak_of).min(limit)
    }
}

fn peak_of(life: &Life) -> ByteCount {
    life.sandbox.memory_peak()
}

fn status_of<'a>(ended: &'a Ended, document: Option<&'a Document>) -> Status<'a> {
    match (ended, document) {
        (Ended::Timeout | Ended::InitTimedOut, _) => Status::Timeout,
        (Ended::InitFailed { error_type, .. }, _) => Status::Error(error_type),
        (Ended::ExtensionFailed(failure), _) => Status::Error(&failure.error_type),
        (Ended::Failed(failure), _) => Status::Reported(&failure.error_type),
        (Ended::Ok(_), _) | (_, None) => Status::Success,
        (_, Some(document)) => Status::Error(document.error_type),
    }
}

fn end_of(ended: &Ended) -> End {
    match ended {
        Ended::Ok(_) => End::Ok,
        Ended::Failed(_) => End::FunctionError,
        Ended::TooLarge { .. } => End::TooLarge,
        Ended::Timeout => End::Timeout,
        Ended::NoSandbox(_)
        | Ended::Exit(Exit { how: How::Abandoned, .. })
        | Ended::InitFailed { cause: Cause::Exit(Exit { how: How::Abandoned, .. }), .. } => End::Platform,
        Ended::Exit(exit) if exit.oom => End::OutOfMemory,
        Ended::Exit(Exit { how: How::SetupFailed { .. }, .. }) | Ended::InitFailed { .. } => End::InitError,
        Ended::Exit(_) | Ended::Truncated | Ended::ExtensionFailed(_) => End::Exit,
        Ended::InitTimedOut => End::InitTimeout,
    }
}
