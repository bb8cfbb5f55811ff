//! What was handed over: counted by the request's own task, not by whoever writes to the socket.
//!
//! Input meters are due once the upstream has accepted; output meters for what the transport has taken. The charge rests
//! on the upstream's own usage, else on what was relayed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use comity_guard::Findings;
use comity_http::Refusal;
use comity_supply::{Delta, Event, UpstreamError, Usage};
use comity_token::response_digest;
use comity_wire::object::{Basis, Ended};
use comity_wire::{Digest, Meter, Meters, Op};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::authorise::Authorised;
use super::charge;
use super::filter::Filtered;
use super::forward::{Answered, Forwarded, failed, late};
use super::scan::Scan;
use crate::fields::Prompt;
use crate::gateway::Inner;
use crate::refusal;
use crate::reply::{self, Choice, Shape};
use crate::store::stops::Running;
use crate::works::Work;

/// A request that has come to its end, counted.
pub(crate) struct Metered {
    pub(crate) filtered: Filtered,
    pub(crate) meters: Meters,
    pub(crate) basis: Basis,
    pub(crate) ended: Ended,
    /// Of prompt and answer.
    pub(crate) findings: Findings,
    pub(crate) response: Digest,
    /// The body of a buffered reply; empty where the caller has gone.
    pub(crate) body: Bytes,
}

/// Frames between the request's task and the socket.
const FRAMES_MAX: usize = 16;

/// Collects a buffered reply.
///
/// # Errors
/// Where the upstream fails: nothing was handed over, so nothing is charged.
pub(crate) async fn whole(
    inner: &Inner,
    forwarded: Forwarded,
    head: &mut oneshot::Sender<Result<Response, Refusal>>,
) -> Result<Metered, Refusal> {
    let Forwarded { filtered, first, mut rest } = forwarded;
    let mut scan = Scan::new(inner, &filtered);
    let mut choices: BTreeMap<u32, Choice> = BTreeMap::new();
    let (mut usage, mut tokens, mut bytes) = (None, 0, 0);
    let (most, deadline) = (Most::of(&filtered.held.authorised), filtered.held.deadline);
    let mut next = Some(Ok(first));
    let mut gone = false;
    while let Some(event) = next {
        match event {
            Ok(Event::Delta(mut delta)) => {
                filtered.held.authorised.round(&mut delta);
                (tokens, bytes) = (tokens + reply::tokens_of(&delta), bytes + reply::bytes_of(&delta));
                if most.is_passed(tokens, bytes) {
                    // An upstream that does not stop: the rest is neither kept nor charged.
                    tracing::warn!(tokens, bytes, "upstream says more than it was asked for; cut off");
                    choices.entry(delta.index).or_default().add(cut(&delta));
                    break;
                }
                scan.push(&delta);
                choices.entry(delta.index).or_default().add(delta);
            }
            Ok(Event::Usage(said)) => usage = Some(said),
            Ok(Event::UsageMissing) => {}
            Ok(Event::Done) => break,
            Err(error) => {
                tracing::warn!(%error, "upstream, after it had accepted");
                return Err(refusal::upstream(&error));
            }
        }
        next = tokio::select! {
            biased;
            () = head.closed() => { gone = true; None }
            // Before the read: a server that is never short of words would keep the clock from being looked at.
            () = tokio::time::sleep_until(deadline) => Some(Err(late())),
            next = rest.next() => next,
        };
    }
    drop(rest);
    let mut withheld = scan.blocked_choice();
    // What is withheld here is shown to nobody else.
    if withheld.is_none() && !gone && scan.moderate(inner, &filtered).await? {
        withheld = Some(0);
    }
    if let Some(index) = withheld {
        // What the owner blocks is not handed over; the empty text says so by its finish reason.
        choices.values_mut().for_each(Choice::withhold);
        tokens = 0;
        usage = usage.map(|said| partly(said, 0));
        let filtered = Delta { index, finish_reason: Some("content_filter".into()), ..Delta::default() };
        choices.entry(index).or_default().add(filtered);
    }
    let gone = gone || head.is_closed();
    let authorised = &filtered.held.authorised;
    for index in 0..answered_with(authorised) {
        choices.entry(index).or_default();
    }
    let (bytes, tokens, usage) =
        if gone { (0, 0, usage.map(|said| partly(said, 0))) } else { (generated(&filtered, &choices), tokens, usage) };
    let (meters, basis) = count(authorised, usage, tokens, bytes);
    let ended = if gone {
        Ended::ClientGone
    } else {
        ended(choices.values().filter_map(|choice| choice.finish_reason.as_deref()))
    };
    let shown = Usage { input_tokens: meters.get(Meter::InputTokens), output_tokens: meters.get(Meter::OutputTokens) };
    let body = if gone {
        Bytes::new()
    } else {
        Shape::of(authorised).whole(choices.into_values().collect(), usage.unwrap_or(shown))
    };
    let nonce = authorised.authenticated.request.authority().nonce;
    let response = response_digest(&nonce, &body);
    Ok(Metered { meters, basis, ended, findings: scan.finish(), response, body, filtered })
}

/// Counts an answer in one piece: nothing was generated, so its input is all there is.
///
/// # Errors
/// Where the answer is not what the op answers with: nothing is handed over, so nothing is charged.
pub(crate) fn piece(answered: Answered, work: Work) -> Result<Metered, Refusal> {
    let Answered { filtered, answer } = answered;
    let authorised = &filtered.held.authorised;
    let (meters, mut basis) = count(authorised, answer.usage, 0, 0);
    if !authorised.authenticated.route.meters.contains(&Meter::InputTokens) {
        basis = Basis::Counted;
    }
    let body = match work {
        Work::Moderations => answer.body,
        work => {
            let input_tokens = answer.usage.map_or_else(|| meters.get(Meter::InputTokens), |usage| usage.input_tokens);
            work.reply(&authorised.asked, answer.body, input_tokens).map_err(|error| failed(&filtered, &error))?
        }
    };
    let body = Bytes::from(body.to_string());
    let response = response_digest(&authorised.authenticated.request.authority().nonce, &body);
    let findings = filtered.findings.clone();
    Ok(Metered { meters, basis, ended: Ended::Stop, findings, response, body, filtered })
}

/// Relays a stream and charges it.
pub(crate) async fn stream(inner: &Inner, forwarded: Forwarded, head: oneshot::Sender<Result<Response, Refusal>>) {
    let Forwarded { filtered, first, rest } = forwarded;
    let (frames, taken, body) = channel();
    let mut response = reply::stream(body);
    let authenticated = &filtered.held.authorised.authenticated;
    reply::money(response.headers_mut(), None, inner.balance(authenticated.token(), &authenticated.capability.path()));
    reply::notes(response.headers_mut(), &filtered.held.authorised);
    reply::flags(response.headers_mut(), &filtered.held.authorised, &filtered.findings);
    // A caller that has gone closes the frames too; the relay sees it there.
    let _ = head.send(Ok(response));
    let relay = Relay {
        shape: Shape::of(&filtered.held.authorised),
        scan: Scan::new(inner, &filtered),
        frames: frames.clone(),
        taken,
        deadline: filtered.held.deadline,
        is_late: false,
        most: Most::of(&filtered.held.authorised),
        stall: Duration::from_secs(inner.config.stall_s.max(1)),
        keep_alive: Duration::from_secs(inner.config.keep_alive_s.max(1)),
        pieces: Vec::new(),
        finished: BTreeMap::new(),
        sent: 0,
        usage: None,
    };
    let (metered, pieces, is_whole) = relay.run(inner, filtered, first, rest).await;
    charge::streamed(inner, metered, pieces, is_whole, &frames).await;
}

/// How many data frames the transport has taken, and whether it may take more.
#[derive(Default)]
struct Taken(Mutex<(usize, bool)>);

impl Taken {
    /// Counts one more; `false` where the answer has been charged as it stood.
    fn take(&self) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0 += usize::from(!inner.1);
        !inner.1
    }

    /// Nothing more is handed over: what was taken is what is charged.
    fn close(&self) -> usize {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.1 = true;
        inner.0
    }
}

/// A body that counts the data frames which the transport has taken.
fn channel() -> (mpsc::Sender<Frame>, Arc<Taken>, Body) {
    let (frames, queue) = mpsc::channel::<Frame>(FRAMES_MAX);
    let taken = Arc::new(Taken::default());
    let counted = taken.clone();
    let body = futures::stream::unfold((queue, counted), |(mut queue, counted)| async move {
        let bytes = match queue.recv().await? {
            Frame::Data(payload) if counted.take() => reply::data(&payload),
            // A stalled reader came back after its answer was charged: it gets no more of it.
            Frame::Data(_) => return None,
            Frame::Other(bytes) => bytes,
        };
        Some((Ok::<_, std::convert::Infallible>(bytes), (queue, counted)))
    });
    (frames, taken, Body::from_stream(body))
}

/// What goes to the socket.
pub(crate) enum Frame {
    /// A `data` payload: part of the answer.
    Data(Bytes),
    /// Comments and `[DONE]`.
    Other(Bytes),
}

struct Piece {
    payload: Bytes,
    text_bytes: u64,
    tokens: u64,
}

struct Relay {
    shape: Shape,
    scan: Scan,
    frames: mpsc::Sender<Frame>,
    taken: Arc<Taken>,
    /// When the work must have ended (rule 1): what was admitted in time may finish, and no later. A reader who takes a piece
    /// now and then is cut by it, too.
    deadline: Instant,
    /// It came while a piece waited for its reader.
    is_late: bool,
    most: Most,
    stall: Duration,
    keep_alive: Duration,
    pieces: Vec<Piece>,
    /// Pieces that are on their way to the transport; one more is in `pieces` while it waits for room.
    sent: usize,
    /// Choices that have begun, with their finish reason.
    finished: BTreeMap<u32, Option<String>>,
    usage: Option<Usage>,
}

/// The caller takes nothing more.
struct Gone;

/// Why an answer was not relayed to its end.
enum Cut {
    Gone,
    Stopped(Refusal),
}

/// What the hold pays for. Whoever says more than this does not stop by itself.
struct Most {
    tokens: u64,
    bytes: u64,
    so_far: (u64, u64),
}

impl Most {
    fn of(authorised: &Authorised) -> Self {
        let worst = authorised.tariff.worst_meters(&authorised.priced.demand).expect("it was priced at admission");
        // Room for deltas without tokens of their own: a role, a finish reason, an empty one.
        const SLACK: u64 = 64;
        let slack = SLACK.saturating_add(authorised.repeated_tokens());
        let tokens = worst.get(Meter::OutputTokens).saturating_add(slack);
        // Generous: it bounds memory, and is no meter.
        let bytes = tokens.saturating_mul(u64::from(authorised.tariff.output_bytes_per_token).max(64));
        Self { tokens, bytes, so_far: (0, 0) }
    }

    fn is_passed(&self, tokens: u64, bytes: u64) -> bool {
        tokens > self.tokens || bytes > self.bytes
    }

    fn counts(&mut self, delta: &Delta) -> bool {
        self.so_far.0 += reply::tokens_of(delta);
        self.so_far.1 += reply::bytes_of(delta);
        self.is_passed(self.so_far.0, self.so_far.1)
    }
}

/// The end of a choice whose upstream went on past what was asked for.
fn cut(delta: &Delta) -> Delta {
    Delta { index: delta.index, finish_reason: Some("length".into()), ..Delta::default() }
}

impl Relay {
    async fn run(
        mut self,
        inner: &Inner,
        filtered: Filtered,
        first: Event,
        mut rest: comity_supply::Reply,
    ) -> (Metered, Vec<Bytes>, bool) {
        let authorised = &filtered.held.authorised;
        let stopped = inner.stopping.stopped(&authorised.asked.model, authorised.subject(), Running::Ends);
        let relayed = tokio::select! {
            biased;
            stopped = stopped => Err(Cut::Stopped(stopped)),
            relayed = self.relay(authorised, first, &mut rest) => relayed.map_err(|Gone| Cut::Gone),
        };
        // Before anything more is said: the model stops at once, however slowly its caller reads.
        drop(rest);
        // The last words may be late; each has one stall's time.
        let last_words = Instant::now() + self.stall;
        self.deadline = self.deadline.max(last_words);
        let ended = match relayed {
            Ok(None) => match self.close(authorised).await {
                Ok(()) => ended(self.finished.values().flatten().map(String::as_str)),
                Err(Gone) => Ended::ClientGone,
            },
            Ok(Some(error)) => self.broken(&error).await,
            Err(Cut::Stopped(refusal)) => {
                authorised.authenticated.trail.refused(&refusal);
                self.stopped(&refusal).await
            }
            // It reads, and too slowly: it is told why there is no more.
            Err(Cut::Gone) if self.is_late => {
                self.pieces.truncate(self.sent);
                self.broken(&late()).await
            }
            Err(Cut::Gone) => Ended::ClientGone,
        };
        // Every slot free: the transport has taken all there was.
        let is_gone = ended == Ended::ClientGone || {
            let drained = tokio::time::timeout(self.stall, self.frames.reserve_many(FRAMES_MAX)).await;
            !matches!(drained, Ok(Ok(_)))
        };
        let ended = if is_gone { Ended::ClientGone } else { ended };
        if is_gone {
            // A frame's slot is free a moment before the frame is counted, so the count is for those who left: who took
            // all has it all in the receipt.
            let taken = self.taken.close().min(self.pieces.len());
            self.pieces.truncate(taken);
        }
        let is_whole =
            !matches!(ended, Ended::ClientGone | Ended::UpstreamError | Ended::UpstreamSilent | Ended::Drained);
        let (bytes, tokens) = self.pieces.iter().fold((0, 0), |(b, t), piece| (b + piece.text_bytes, t + piece.tokens));
        let is_taken = is_whole && ended != Ended::Filtered;
        let (meters, basis) =
            count(authorised, self.usage.map(|said| if is_taken { said } else { partly(said, tokens) }), tokens, bytes);
        let said: Vec<u8> = self.pieces.iter().flat_map(|piece| piece.payload.iter().copied().chain([b'\n'])).collect();
        let response = response_digest(&authorised.authenticated.request.authority().nonce, &said);
        let pieces = self.pieces.into_iter().map(|piece| piece.payload).collect();
        // The words are out, whoever left before their end: what is found is counted.
        if let Err(refusal) = self.scan.moderate(inner, &filtered).await {
            tracing::warn!(code = refusal.code, "a stream that was handed over was judged by nobody else");
        }
        let findings = self.scan.finish();
        (Metered { filtered, meters, basis, ended, findings, response, body: Bytes::new() }, pieces, is_whole)
    }

    /// Until the upstream's end; its error, where that is how it ended.
    async fn relay(
        &mut self,
        authorised: &Authorised,
        first: Event,
        rest: &mut comity_supply::Reply,
    ) -> Result<Option<UpstreamError>, Gone> {
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Event::Delta(mut delta)) => {
                    authorised.round(&mut delta);
                    let index = delta.index;
                    if self.most.counts(&delta) {
                        tracing::warn!("upstream says more than it was asked for; cut off");
                        self.delta(cut(&delta)).await?;
                        return Ok(None);
                    }
                    if self.scan.blocks(&delta) {
                        self.finish(index, "content_filter").await?;
                        return Ok(None);
                    }
                    self.delta(delta).await?;
                }
                Ok(Event::Usage(usage)) => self.usage = Some(usage),
                Ok(Event::UsageMissing) => {}
                Ok(Event::Done) => return Ok(None),
                Err(error) => return Ok(Some(error)),
            }
            next = loop {
                tokio::select! {
                    biased;
                    () = self.frames.closed() => return Err(Gone),
                    // Before the read: where the server has said much already and its reader takes little, the clock would
                    // hardly be looked at.
                    () = tokio::time::sleep_until(self.deadline) => break Err(late()),
                    event = rest.next() => break event.expect("a reply ends before it stops"),
                    () = tokio::time::sleep(self.keep_alive) => self.put(Frame::Other(Bytes::from_static(reply::KEEP_ALIVE))).await?,
                }
            };
        }
    }

    async fn delta(&mut self, delta: Delta) -> Result<(), Gone> {
        let is_first = !self.finished.contains_key(&delta.index);
        let said = self.shape.said(&delta, is_first);
        let reason = self.finished.entry(delta.index).or_default();
        if delta.finish_reason.is_some() {
            reason.clone_from(&delta.finish_reason);
        }
        let (mut text_bytes, mut tokens) = (reply::bytes_of(&delta), reply::tokens_of(&delta));
        for (payload, carries) in said {
            // Counted once, with the first piece that carries it.
            let (text_bytes, tokens) =
                if carries { (std::mem::take(&mut text_bytes), std::mem::take(&mut tokens)) } else { (0, 0) };
            self.send(Piece { payload, text_bytes, tokens }).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, index: u32, reason: &str) -> Result<(), Gone> {
        self.delta(Delta { index, finish_reason: Some(reason.into()), ..Delta::default() }).await
    }

    /// Each choice gets exactly one finish reason; then usage, for those who asked.
    async fn close(&mut self, authorised: &Authorised) -> Result<(), Gone> {
        for index in 0..answered_with(authorised) {
            if self.finished.get(&index).is_none_or(Option::is_none) && !self.shape.ends_at_once() {
                self.finish(index, "stop").await?;
            }
        }
        if authorised.asked.include_usage || self.shape.ends_at_once() {
            let (bytes, tokens) =
                self.pieces.iter().fold((0, 0), |(b, t), piece| (b + piece.text_bytes, t + piece.tokens));
            let (meters, _) = count(authorised, self.usage, tokens, bytes);
            let shown =
                Usage { input_tokens: meters.get(Meter::InputTokens), output_tokens: meters.get(Meter::OutputTokens) };
            let reason = self.finished.get(&0).cloned().flatten();
            for (payload, _) in self.shape.end(reason.as_deref(), self.usage.unwrap_or(shown)) {
                self.send(Piece { payload, text_bytes: 0, tokens: 0 }).await?;
            }
        }
        Ok(())
    }

    /// A silent or broken upstream is never turned into `[DONE]`.
    async fn broken(&mut self, error: &UpstreamError) -> Ended {
        tracing::warn!(%error, "upstream, within its answer");
        let said = Refusal::new(
            comity_wire::Code::UpstreamFailed,
            format!("the model's server failed within its answer ({})", error.name()),
        );
        let said: Value = said.body(comity_http::problem::Form::OpenAi);
        let payload = Bytes::from(said.to_string());
        let sent = self.send(Piece { payload, text_bytes: 0, tokens: 0 }).await;
        match (sent, error) {
            (Err(Gone), _) => Ended::ClientGone,
            (Ok(()), UpstreamError::Silent { .. }) => Ended::UpstreamSilent,
            (Ok(()), _) => Ended::UpstreamError,
        }
    }

    /// The owner has ended it: what was said so far is handed over and charged, and then why there is no more.
    async fn stopped(&mut self, refusal: &Refusal) -> Ended {
        // One that was still waiting for room when the work was dropped never leaves.
        self.pieces.truncate(self.sent);
        let payload = Bytes::from(refusal.body(comity_http::problem::Form::OpenAi).to_string());
        match self.send(Piece { payload, text_bytes: 0, tokens: 0 }).await {
            Ok(()) => Ended::Drained,
            Err(Gone) => Ended::ClientGone,
        }
    }

    async fn send(&mut self, piece: Piece) -> Result<(), Gone> {
        let frame = Frame::Data(piece.payload.clone());
        self.pieces.push(piece);
        self.put(frame).await?;
        self.sent += 1;
        Ok(())
    }

    async fn put(&mut self, frame: Frame) -> Result<(), Gone> {
        let stalled = Instant::now() + self.stall;
        match tokio::time::timeout_at(stalled.min(self.deadline), self.frames.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone),
            Err(_) => {
                self.is_late = self.deadline < stalled;
                Err(Gone)
            }
        }
    }
}

/// How many choices a reply has: one for each prompt and `n`, not each that `best_of` tried.
fn answered_with(authorised: &Authorised) -> u32 {
    let asked = &authorised.asked;
    let prompts = if asked.op == Op::Completions { asked.prompts() } else { 1 };
    u32::try_from(prompts.saturating_mul(asked.n)).unwrap_or(u32::MAX).min(1024)
}

/// Generated text: what `echo` repeats of a prompt is not generated.
fn generated(filtered: &Filtered, choices: &BTreeMap<u32, Choice>) -> u64 {
    let asked = &filtered.held.authorised.asked;
    let per_prompt = usize::try_from(asked.n).unwrap_or(usize::MAX).max(1);
    let mut decoded = filtered.decoded.iter();
    let prompts = asked.prompts.iter().map(|prompt| match prompt {
        Prompt::Text(text) => Some(text),
        Prompt::Ids(_) => decoded.next(),
    });
    let prompts: Vec<_> = prompts.collect();
    let text = |(index, choice): (&u32, &Choice)| {
        let prompt = prompts.get(*index as usize / per_prompt).copied().flatten().filter(|_| asked.echo);
        let repeated = prompt.filter(|prompt| choice.text.starts_with(prompt.as_str())).map_or(0, String::len);
        choice.bytes() - repeated as u64
    };
    choices.iter().map(text).sum()
}

fn ended<'r>(reasons: impl Iterator<Item = &'r str>) -> Ended {
    reasons.fold(Ended::Stop, |ended, reason| match (ended, reason) {
        (_, "content_filter") | (Ended::Filtered, _) => Ended::Filtered,
        (_, "length") => Ended::Length,
        (ended, _) => ended,
    })
}

/// What the upstream counted, where the caller did not take all of it: the input is due whole, the output as relayed.
fn partly(said: Usage, relayed_tokens: u64) -> Usage {
    Usage { output_tokens: said.output_tokens.min(relayed_tokens), ..said }
}

/// Meters within the worst case that was held: an upstream that says more is the owner's loss.
fn count(authorised: &Authorised, usage: Option<Usage>, relayed_tokens: u64, output_bytes: u64) -> (Meters, Basis) {
    let basis = match usage {
        Some(_) if authorised.served.is_vendor => Basis::VendorUsage,
        Some(_) => Basis::Upstream,
        None => Basis::Relayed,
    };
    let (input_tokens, output_tokens) = usage.map_or_else(
        || (least_input_tokens(authorised), relayed_tokens),
        |usage| (usage.input_tokens, usage.output_tokens),
    );
    let counted = Meters::default()
        .with(Meter::Requests, authorised.asked.requests())
        .with(Meter::InputBytes, authorised.authenticated.body.len() as u64)
        .with(Meter::InputTokens, input_tokens)
        .with(Meter::OutputTokens, output_tokens)
        .with(Meter::OutputBytes, output_bytes);
    let worst = authorised.tariff.worst_meters(&authorised.priced.demand).expect("it was priced at admission");
    let mut meters = Meters::default();
    for meter in authorised.authenticated.route.meters {
        let (units, most) = (counted.get(*meter), worst.get(*meter));
        if units > most {
            tracing::warn!(%meter, units, most, "upstream counts more than was held; clamped");
        }
        meters.set(*meter, units.min(most));
    }
    (meters, basis)
}

/// Where the upstream's count never came: token ids as sent, and for text the least that the longest token allows.
fn least_input_tokens(authorised: &Authorised) -> u64 {
    let ids: u64 = authorised.asked.ids().map(|ids| ids.len() as u64).sum();
    let longest = u64::from(authorised.tariff.output_bytes_per_token);
    ids + if longest == 0 { 0 } else { authorised.asked.words_bytes.div_ceil(longest) }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_queued_when_the_answer_is_charged_is_not_handed_over() {
        let (frames, taken, mut body) = channel();
        for word in ["one", "two", "three"] {
            frames.send(Frame::Data(Bytes::from_static(word.as_bytes()))).await.unwrap();
        }
        body.frame().await.unwrap().unwrap();
        assert_eq!(taken.close(), 1);
        // The reader comes back after its stall.
        assert!(body.frame().await.is_none());
        assert_eq!(taken.close(), 1);
    }
}
