//! One try: asks a backend and listens to the end, as long as it may take. What had come of a reply that is given up is kept
//! like one that broke off: the endpoint may charge for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use divvy_core::chat::{Finish, Reply};
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    chat::{Chat, Delta, Deltas},
    error::{ChatError, ErrorKind},
    layer::Job,
    meter::Meter,
};

pub(crate) struct Attempt {
    pub(crate) backend: Arc<dyn Chat>,
    pub(crate) model_name: String,
    /// Its URL; `None` for a model in this process.
    pub(crate) endpoint: Option<String>,
    pub(crate) timeout: Duration,
    /// Between two pieces of a reply, and before the first.
    pub(crate) stall: Option<Duration>,
    pub(crate) meter: Arc<Meter>,
    /// A reply that nobody waits for any longer is heard to its end all the same, unless this is cancelled: it is paid for, and
    /// kept for whoever asks next.
    pub(crate) lands: Option<CancellationToken>,
    /// Somebody has had a reply with a text from there, so that it is not mute.
    pub(crate) speaks: AtomicBool,
}

/// A reply as it came, before it is a record.
pub(crate) struct Received {
    pub(crate) raw: Bytes,
    pub(crate) reply: Reply,
    /// How long the machine worked for it: as a model in this process says, else by the clock. Nothing where nobody looked.
    pub(crate) worked: Duration,
}

/// Who gets a body as it came.
pub(crate) trait Keep: Sync {
    /// `took`: from sending the request to now.
    fn keep(&self, job: &Job, body: &Bytes, took: Duration) -> impl Future<Output = Result<(), ChatError>> + Send;
}

impl Attempt {
    /// What counts as the answer. One that says nothing for the second time, from where others are answered, is an answer: a third
    /// would be paid for as well, in every command anew.
    pub(crate) fn taken(&self, job: &Job, said: Result<Reply, ChatError>) -> Result<Reply, ChatError> {
        match said {
            Err(error) if error.kind == ErrorKind::Empty && job.silent && self.speaks.load(Relaxed) => {
                Ok(Reply { text: String::new(), finish: Finish::Stop, usage: error.usage })
            }
            Ok(reply) => {
                self.speaks.fetch_or(!reply.text.trim().is_empty(), Relaxed);
                Ok(reply)
            }
            error => error,
        }
    }

    /// Asks. `keeper` gets the body before anything reads it.
    pub(crate) async fn run(&self, job: &Job, keeper: &impl Keep) -> Result<Received, ChatError> {
        // Cancelled on its way through the store: nothing was sent.
        if job.cancel.is_cancelled() {
            return Err(ChatError::unsent());
        }
        let (began, work) = (Instant::now(), self.meter.begin());
        let trace = job.listener.trying(self.endpoint.as_deref());
        let stop = self.lands.as_ref().unwrap_or(&job.cancel).child_token();
        let mut deltas = self.backend.start_traced((*job.request).clone(), stop.clone(), trace);
        let (mut raw, mut text, mut worked, mut given_up) = (Bytes::new(), String::new(), None, None);
        let said = loop {
            let next = match &given_up {
                None => self.next(&mut deltas, (job, &stop), began).await,
                // What there is of it lies ready: a backend that is stopped is not waited for.
                Some(_) => Ok(deltas.next().now_or_never().flatten()),
            };
            match next {
                Ok(Some(Ok(Delta::Raw(bytes)))) => {
                    keeper.keep(job, &bytes, began.elapsed()).await?;
                    raw = bytes;
                }
                Ok(Some(Ok(Delta::Text(piece)))) => {
                    job.listener.hear(&piece);
                    text.push_str(&piece);
                }
                Ok(Some(Ok(Delta::Worked(time)))) => worked = Some(time),
                Ok(Some(Ok(Delta::Done { finish, usage }))) => break Ok(Reply { text, finish, usage }),
                Ok(Some(Err(error))) => break Err(given_up.unwrap_or(error)),
                Ok(None) => return Err(given_up.unwrap_or_else(|| self.cut_off())),
                Err(error) => {
                    stop.cancel();
                    given_up = Some(error);
                }
            }
        };
        let reply = self.taken(job, said)?;
        Ok(Received { raw, reply, worked: worked.unwrap_or_else(|| work.end()) })
    }

    /// What comes next, or why nobody waits for it any longer.
    async fn next(
        &self,
        deltas: &mut Deltas,
        (job, stop): (&Job, &CancellationToken),
        began: Instant,
    ) -> Result<Option<Result<Delta, ChatError>>, ChatError> {
        let own = began + self.timeout;
        let deadline = job.over_at().map_or(own, |over| own.min(over));
        let stalls = self.stall.map_or(deadline, |stall| deadline.min(Instant::now() + stall));
        let next = timeout_at(stalls, stop.run_until_cancelled(deltas.next())).await;
        let next = next.map_err(|_| {
            if stalls < deadline {
                self.stalled()
            } else if deadline < own {
                self.out_of_time(job)
            } else {
                self.timed_out()
            }
        })?;
        next.ok_or_else(ChatError::cancelled)
    }

    fn timed_out(&self) -> ChatError {
        let (who, seconds) = (self.who(), self.timeout.as_secs());
        let message = format!(
            "{who} did not finish its reply in {seconds} s; raise `timeout_seconds` of the model, or lower `concurrency`"
        );
        ChatError::new(ErrorKind::TimedOut, message)
    }

    fn out_of_time(&self, job: &Job) -> ChatError {
        let message = format!("{} did not finish in the time that its request had left", self.who());
        // For a request with an end of its own the recipe's time is none, and somebody waited in vain.
        if job.until.is_some() {
            return ChatError::new(ErrorKind::TimedOut, message);
        }
        let way_out = "raise `timeout_seconds` of the model, or lower `concurrency`";
        ChatError::new(ErrorKind::OutOfTime, format!("{message}; {way_out}"))
    }

    fn stalled(&self) -> ChatError {
        let seconds = self.stall.unwrap_or_default().as_secs_f64();
        let message = format!("{} sent nothing for {seconds} s; raise `stall_seconds` of the model", self.who());
        ChatError::new(ErrorKind::Stalled, message)
    }

    fn cut_off(&self) -> ChatError {
        ChatError::new(ErrorKind::CutOff, format!("{} stopped in the middle of a reply", self.who()))
    }

    fn who(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => format!("model `{}` at {endpoint}", self.model_name),
            None => format!("model `{}`", self.model_name),
        }
    }
}
