//! The life of one request; its phases are at the crate's head.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use stillwatch_decide::{Cap, Policy, Response as Deed, Verdict, output_tokens_at_most};
use stillwatch_exchange::Time;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::{Answer, Measured};
use crate::api::Endpoint;
use crate::asked::Asked;
use crate::cut::Cutter;
use crate::edit::{Edit, edited};
use crate::journal::Journal;
use crate::keys::credential;
use crate::live::Live;
use crate::metrics::Metrics;
use crate::network::client_address;
use crate::reasoning::{self, Bound};
use crate::refusal::Refusal;
use crate::relay::{Changes, Recorded, Relay, Reply};
use crate::settings::Settings;
use crate::thin::Thinner;
use crate::traces::Traces;
use crate::underway::{Followed, Taken, arrive};
use crate::upstream::{Outgoing, Upstream, strip_hop_by_hop};

/// How long a request's body may take to arrive.
const BODY: Duration = Duration::from_secs(120);
/// How long a slowed exchange waits for more of a bucket that guards share.
const SLICE: Duration = Duration::from_millis(250);
/// How often it may be given nothing, for others have been faster.
const SLICES_MAX: u32 = 4;
/// What all bodies together may hold in memory, in KiB; further ones are refused.
const BODIES_KIB_MAX: usize = 512 << 10;
/// A body counts against [`BODIES_KIB_MAX`] in steps of this many KiB.
pub(crate) const BODY_STEP_KIB: u32 = 1 << 10;
/// Of a body that is too long, so much is read and thrown away, so that the client gets
/// to read the answer.
const DISCARDED_BYTES_MAX: usize = 256 << 20;

pub(crate) const VERDICT: HeaderName = HeaderName::from_static("stillwatch-verdict");

/// A running guard: what all its connections share.
#[derive(Debug)]
pub struct Guard {
    pub live: Live,
    pub journal: Journal,
    pub metrics: Metrics,
    pub clock: fn() -> Time,
    pub traces: Option<Traces>,
    monotonic: Option<fn() -> i64>,
    upstream: Upstream,
    pub run_id: u64,
    pub sequence: AtomicU64,
    /// Whether exchanges that pass through Envoy are on record.
    pub records_grpc: bool,
    started: Instant,
    /// What bodies may hold in memory, in KiB.
    pub(crate) bodies: Arc<Semaphore>,
    /// A slowed exchange lacks tokens of a bucket that guards share; there may be more.
    pub lacking: Notify,
    pub granted: Notify,
}

impl Guard {
    pub fn new(
        live: Live,
        journal: Journal,
        upstream: Upstream,
        metrics: Metrics,
        traces: Option<Traces>,
        settings: &Settings,
    ) -> Self {
        Guard {
            live,
            journal,
            metrics,
            clock: settings.clock,
            traces,
            monotonic: settings.monotonic,
            upstream,
            run_id: settings.run_id,
            sequence: AtomicU64::new(0),
            records_grpc: settings.records_grpc,
            started: Instant::now(),
            bodies: Arc::new(Semaphore::new(BODIES_KIB_MAX)),
            lacking: Notify::new(),
            granted: Notify::new(),
        }
    }

    /// Waits a moment for more of a bucket that guards share; whether there may be some.
    async fn slice(&self, verdict: &Verdict<'_>) -> bool {
        let lease = verdict.campaign.and_then(|campaign| campaign.bucket.lease());
        if lease.is_none_or(|lease| lease.is_dry(self.monotonic())) {
            return false;
        }
        let mut granted = std::pin::pin!(self.granted.notified());
        granted.as_mut().enable();
        self.lacking.notify_one();
        timeout(SLICE, granted).await.is_ok()
    }

    /// Nanoseconds of a clock that never runs backwards, for token buckets.
    pub fn monotonic(&self) -> i64 {
        match self.monotonic {
            Some(clock) => clock(),
            None => i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX / 2),
        }
    }
}

/// Answers one request.
pub async fn answer(
    guard: Arc<Guard>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<Reply> {
    let (head, body) = request.into_parts();
    let endpoint = Endpoint::at(&head.method, head.uri.path());
    let dialect = endpoint.dialect(&head.headers);
    let in_force = guard.live.now();
    let policy = in_force.table.policy();
    let refused = |refusal: Refusal| whole(refusal.answer(dialect, &policy.appeal));

    let is_request = head.method != Method::CONNECT && head.uri.path().starts_with('/');
    if !is_request {
        return refused(Refusal::NoRequest);
    }
    let Ok(credential) = credential(&head.headers) else {
        return refused(Refusal::Ambiguous);
    };
    let owner = in_force.credentials.owner(credential.as_ref());
    let who = owner.who();
    let client = client_address(peer.ip(), &head.headers, &policy.limits.trusted_proxies);

    if endpoint == Endpoint::Other {
        let verdict = in_force.table.decide(&who, (guard.clock)());
        guard.metrics.passed.inc();
        if let Some(refusal) = shut_out(&verdict) {
            return said(refused(refusal), &verdict, policy);
        }
        let read = match &in_force.reasoning_keys {
            Some(keys) if reasoning::may_be_beside(&head) => {
                let read = read_body(&guard, body, policy.limits.body_bytes_max).await;
                let released =
                    |body| Either::Left(Full::new(reasoning::beside(keys, &owner, body)));
                read.map(|(body, held)| (released(body), held))
            }
            _ => Ok((Either::Right(body), None)),
        };
        let reply = match read {
            Ok((body, _held)) => pass(&guard, policy, head, body).await,
            Err(refusal) => Err(refusal),
        };
        return reply.unwrap_or_else(refused);
    }

    let read = read_body(&guard, body, policy.limits.body_bytes_max).await;
    let (body, held) = match read {
        // What never came whole has not reached us.
        Err(refusal @ (Refusal::BodyBroken | Refusal::BodyTimeout)) => return refused(refusal),
        Err(refusal) => {
            let asked = Asked::default();
            let mut underway = arrive(
                &guard,
                endpoint,
                dialect,
                &head.headers,
                Some(client),
                &owner,
                credential,
                &asked,
            );
            underway.end(Some(refusal.status().as_u16()), &Measured::default());
            return refused(refusal);
        }
        Ok(read) => read,
    };
    let asked = Asked::read(endpoint, &body).unwrap_or_else(|| {
        guard.metrics.unread.inc();
        Asked::default()
    });
    let mut underway =
        arrive(&guard, endpoint, dialect, &head.headers, Some(client), &owner, credential, &asked);

    let verdict = in_force.table.decide(&who, (guard.clock)());
    guard.metrics.count_verdict(&verdict);
    if let Some(traced) = &mut underway.traced {
        traced.decided(verdict.response().name());
    }
    let is_paced = policy.pace_streams
        && verdict.responses.has(Deed::Slow)
        && asked.request_stream == Some(true)
        && endpoint != Endpoint::Embeddings;
    let reasoning = Bound::of(&in_force, endpoint, &owner, &asked);
    let released = match &reasoning {
        Some(bound) if shut_out(&verdict).is_none() => {
            bound.released(&guard, policy, endpoint, &owner, &body)
        }
        _ => Ok(None),
    };
    let deed = match released {
        Err(refusal) => Err(refusal),
        Ok(released) => {
            let body = released.as_ref().unwrap_or(&body);
            let mut slices = 0;
            let sent = loop {
                let taken = &mut underway.taken;
                let deed =
                    respond(&guard, endpoint, &verdict, policy, &asked, is_paced, body, taken);
                let is_short = matches!(deed, Err(Refusal::Slowed { .. }));
                if !is_short || slices == SLICES_MAX || !guard.slice(&verdict).await {
                    break deed;
                }
                slices += 1;
            };
            sent.map(|sent| sent.or(released))
        }
    };
    let outcome = match deed {
        Err(refusal) => Err(refusal),
        Ok(sent) => {
            drop(asked);
            if let Some(traced) = &mut underway.traced {
                traced.sent((guard.clock)());
            }
            let outgoing = Either::Left(Full::new(sent.unwrap_or(body)));
            exchange(&guard, policy, endpoint, head, outgoing, &verdict, reasoning).await
        }
    };
    drop(held);
    let reply = match outcome {
        Err(refusal) => {
            underway.end(Some(refusal.status().as_u16()), &Measured::default());
            refused(refusal)
        }
        Ok((reply, answer, mut changes)) => {
            let (mut head, incoming) = reply.into_parts();
            let status = head.status.as_u16();
            if changes.is_any() {
                head.headers.remove(CONTENT_LENGTH);
            }
            changes.is_paced &= is_paced;
            underway.followed = Followed { version: in_force.version, until: verdict.until };
            let recorded = Recorded { underway, answer, status, is_shut_out: false };
            let pause = Duration::from_secs(policy.limits.pause_seconds.into());
            let relay = Relay::new(incoming, Some(recorded), changes, pause);
            Response::from_parts(head, Reply::Relay(Box::new(relay)))
        }
    };
    said(reply, &verdict, policy)
}

/// Why a verdict lets nothing through, if it does.
pub(crate) fn shut_out(verdict: &Verdict<'_>) -> Option<Refusal> {
    if verdict.responses.has(Deed::Refuse) {
        Some(Refusal::Refused)
    } else if verdict.responses.has(Deed::Verify) {
        Some(Refusal::Verify)
    } else {
        None
    }
}

/// Does what the verdict says to a request: it is refused, or its body changed (none
/// where it goes as it came).
#[expect(clippy::too_many_arguments, reason = "they are the parts of one request, each used once")]
pub(crate) fn respond(
    guard: &Guard,
    endpoint: Endpoint,
    verdict: &Verdict<'_>,
    policy: &Policy,
    asked: &Asked<'_>,
    is_paced: bool,
    body: &Bytes,
    taken: &mut Option<Taken>,
) -> Result<Option<Bytes>, Refusal> {
    if let Some(refusal) = shut_out(verdict) {
        return Err(refusal);
    }
    let cap = verdict.responses.has(Deed::Cap).then_some(policy.cap);
    let edit = Edit { cap, withhold: verdict.responses.has(Deed::Withhold) };
    let mut sent = None;
    if edit != Edit::default() {
        let changed = edited(endpoint, body, edit).ok_or(Refusal::Unreadable)?;
        if let Cow::Owned(changed) = changed {
            sent = Some(Bytes::from(changed));
        }
    }
    if verdict.responses.has(Deed::Slow)
        && let Some(campaign) = verdict.campaign
    {
        // Of a paced stream the rest is taken as it comes.
        let tokens = if is_paced { 1 } else { cost_at_most(endpoint, asked, edit.cap) };
        let tokens = campaign
            .bucket
            .take(tokens, guard.monotonic())
            .map_err(|wait| Refusal::Slowed { seconds: wait.seconds() })?;
        *taken = Some((Arc::clone(campaign), tokens.into()));
    }
    Ok(sent)
}

/// The most output tokens that a request can cost.
pub(crate) fn cost_at_most(endpoint: Endpoint, asked: &Asked<'_>, cap: Option<Cap>) -> u32 {
    match endpoint {
        Endpoint::Embeddings => 1,
        _ => output_tokens_at_most(asked.request_max_tokens, asked.request_choice_count, cap),
    }
}

/// Passes an exchange on; what comes back, and how it is read.
async fn exchange(
    guard: &Guard,
    policy: &Policy,
    endpoint: Endpoint,
    mut head: Parts,
    body: Outgoing,
    verdict: &Verdict<'_>,
    reasoning: Option<Bound>,
) -> Result<(Response<Incoming>, Answer, Changes), Refusal> {
    // What is compressed can't be measured on its way.
    head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    head.headers.remove(CONTENT_LENGTH);
    let reply = send(guard, policy, head, body).await?;
    let is_thin = verdict.responses.has(Deed::Withhold);
    let (answer, thinner) = read_answer(guard, endpoint, reply.status(), reply.headers(), is_thin)?;
    let mut changes = Changes { thinner, ..Changes::default() };
    if !reply.status().is_success() {
        return Ok((reply, answer, changes));
    }
    let Form { is_plain, is_stream, is_json, .. } = Form::of(reply.headers());
    let cap = verdict.responses.has(Deed::Cap).then_some(policy.cap);
    let tokens_max = cap.map(|cap| u64::from(cap.output_tokens) * u64::from(cap.choices));
    if let Some(bound) = reasoning.filter(|_| policy.binds_reasoning()) {
        if !is_plain {
            return Err(Refusal::NotThinned);
        }
        changes.binder = Some(bound.binder(endpoint, policy, is_stream));
    }
    if is_stream {
        changes.follows_verdict = policy.cut_streams;
        changes.is_paced = policy.pace_streams && verdict.responses.has(Deed::Slow);
        if is_plain && (tokens_max.is_some() || changes.is_paced) {
            changes.cutter = Some(Cutter::new(endpoint, tokens_max));
        }
    } else if is_plain && is_json && endpoint != Endpoint::Embeddings {
        changes.cutter = tokens_max.map(|most| Cutter::of_document(endpoint, most));
    }
    Ok((reply, answer, changes))
}

/// What an answer's head says of its body.
#[derive(Clone, Copy, Debug)]
struct Form<'a> {
    content_type: &'a str,
    /// Not compressed.
    is_plain: bool,
    is_stream: bool,
    is_json: bool,
}

impl<'a> Form<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let header = |name: HeaderName| {
            headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let content_type = header(CONTENT_TYPE);
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        Form {
            content_type,
            is_plain: matches!(header(CONTENT_ENCODING), "" | "identity"),
            is_stream: kind.eq_ignore_ascii_case("text/event-stream"),
            is_json: kind.eq_ignore_ascii_case("application/json"),
        }
    }
}

/// How an answer with this head is read, and thinned where that is wanted.
pub(crate) fn read_answer(
    guard: &Guard,
    endpoint: Endpoint,
    status: StatusCode,
    headers: &HeaderMap,
    is_thin: bool,
) -> Result<(Answer, Option<Thinner>), Refusal> {
    let Form { content_type, is_plain, is_stream, is_json } = Form::of(headers);
    let answer = if is_plain {
        Answer::new(endpoint, content_type)
    } else {
        guard.metrics.unread.inc();
        Answer::unread(endpoint)
    };
    if !is_thin || !status.is_success() {
        return Ok((answer, None));
    }
    if !is_plain || !(is_stream || is_json) {
        return Err(Refusal::NotThinned);
    }
    Ok((answer, Some(Thinner::new(endpoint, is_stream))))
}

/// Passes on what is no exchange.
async fn pass(
    guard: &Guard,
    policy: &Policy,
    mut head: Parts,
    body: Outgoing,
) -> Result<Response<Reply>, Refusal> {
    if matches!(body, Either::Left(_)) {
        head.headers.remove(CONTENT_LENGTH);
    }
    let reply = send(guard, policy, head, body).await?;
    let pause = Duration::from_secs(policy.limits.pause_seconds.into());
    Ok(reply.map(|body| Reply::Relay(Box::new(Relay::new(body, None, Changes::default(), pause)))))
}

/// Sends a request to the upstream and waits for the head of its answer.
async fn send(
    guard: &Guard,
    policy: &Policy,
    head: Parts,
    body: Outgoing,
) -> Result<Response<Incoming>, Refusal> {
    let root = PathAndQuery::from_static("/");
    let path = head.uri.path_and_query().unwrap_or(&root);
    let uri = guard.upstream.uri(path).ok_or(Refusal::NoRequest)?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = head.headers;
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(HOST);
    headers.remove(EXPECT);
    let first_byte = Duration::from_secs(policy.limits.first_byte_seconds.into());
    let mut reply = timeout(first_byte, guard.upstream.send(request))
        .await
        .map_err(|_| Refusal::UpstreamTimeout)?
        .map_err(|_| Refusal::UpstreamUnreachable)?;
    strip_hop_by_hop(reply.headers_mut());
    *reply.version_mut() = http::Version::HTTP_11;
    Ok(reply)
}

/// Reads a request's body, and the memory that it holds.
async fn read_body(
    guard: &Guard,
    mut body: Incoming,
    bytes_max: usize,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), Refusal> {
    let deadline = Instant::now() + BODY;
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if expected > bytes_max {
        discard(body, deadline).await;
        return Err(Refusal::TooLong { bytes_max });
    }
    let mut held: Option<OwnedSemaphorePermit> = None;
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        let frame = timeout_at(deadline, body.frame()).await.map_err(|_| Refusal::BodyTimeout)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|_| Refusal::BodyBroken)?;
        // Trailers of a request say nothing that is used.
        let Ok(piece) = frame.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = piece;
        } else {
            if all.is_empty() {
                all.reserve(expected.max(first.len() + piece.len()).min(4 << 20));
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&piece);
        }
        let length = all.len().max(first.len());
        if length > bytes_max {
            discard(body, deadline).await;
            return Err(Refusal::TooLong { bytes_max });
        }
        let kib_held = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // The first step is everybody's: connections are bounded too.
        if length >> 10 >= kib_held + BODY_STEP_KIB as usize {
            let more = Arc::clone(&guard.bodies).try_acquire_many_owned(BODY_STEP_KIB);
            let more = more.map_err(|_| Refusal::Busy)?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    let whole = if all.is_empty() { first } else { all.freeze() };
    Ok((whole, held))
}

/// Reads what is left of a body that nobody wants.
async fn discard(mut body: Incoming, deadline: Instant) {
    let mut left = DISCARDED_BYTES_MAX;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => break,
        }
    }
}

fn whole(answer: Response<Bytes>) -> Response<Reply> {
    answer.map(|body| Reply::Whole(Full::new(body)))
}

/// Says the verdict in a header, where the policy wants it said.
fn said(mut reply: Response<Reply>, verdict: &Verdict<'_>, policy: &Policy) -> Response<Reply> {
    if let Some(value) = verdict_said(verdict, policy) {
        reply.headers_mut().insert(VERDICT, value);
    }
    reply
}

/// What a client is told of its verdict, where the policy wants it said.
pub(crate) fn verdict_said(verdict: &Verdict<'_>, policy: &Policy) -> Option<HeaderValue> {
    if !policy.say_verdict || verdict.response() <= Deed::Record {
        return None;
    }
    let text = match verdict.until {
        Some(until) => format!("{}; until={until}", verdict.response()),
        None => verdict.response().to_string(),
    };
    HeaderValue::from_str(&text).ok()
}
