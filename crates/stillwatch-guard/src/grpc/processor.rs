//! `ext_proc`: requests and answers on their way through Envoy, changed by a verdict as the
//! guard changes its own, and measured, so that what a slowed request really took is
//! settled.
//!
//! Envoy sends heads first. Where a verdict changes nothing, which is nearly always, it is
//! told by `mode_override` to send no more of the exchange. For the others it has to hold
//! the request's body (`BUFFERED`), so that a refused request does not reach the model, and
//! to send the answer's as it comes (`STREAMED`).
//!
//! With `--record-grpc` it sends all of every exchange, and these are on record as the
//! guard's own: from when the request is whole, before Envoy is told to pass it on, to the
//! answer's end, or until either side breaks off.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use envoy_types::ext_authz::v3::pb::{HeaderValueOption, HttpStatus};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::{
    BodySendMode, HeaderSendMode,
};
use envoy_types::pb::envoy::service::ext_proc::v3::body_mutation::Mutation;
use envoy_types::pb::envoy::service::ext_proc::v3::external_processor_server::ExternalProcessor;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Said;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_response::Response as Reply;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    BodyMutation, BodyResponse, CommonResponse, HeaderMutation, HeadersResponse, HttpBody,
    HttpHeaders, ImmediateResponse, ProcessingRequest, ProcessingResponse, TrailersResponse,
};
use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;
use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use stillwatch_decide::{Response as Deed, Verdict, Who};
use stillwatch_exchange::Time;
use tonic::codegen::tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::answer::Answer;
use crate::api::{Dialect, Endpoint};
use crate::asked::Asked;
use crate::gateway::{Guard, VERDICT, read_answer, respond, shut_out, verdict_said};
use crate::keys::{CredentialHash, Owner, credential};
use crate::live::InForce;
use crate::network::client_address;
use crate::refusal::Refusal;
use crate::thin::Thinner;
use crate::underway::{Taken, Underway, arrive, settle};

use super::Held;
use super::message::{Head, pairs, set, set_all};

/// Serves Envoy's streams, one for each exchange.
#[derive(Debug)]
pub struct Processor {
    pub guard: Arc<Guard>,
}

#[tonic::async_trait]
impl ExternalProcessor for Processor {
    type ProcessStream =
        Pin<Box<dyn Stream<Item = Result<ProcessingResponse, Status>> + Send + 'static>>;

    async fn process(
        &self,
        request: Request<Streaming<ProcessingRequest>>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let held = request.extensions().get::<Held>().cloned();
        let mut exchange = Exchange::new(Arc::clone(&self.guard));
        let answers = request.into_inner().filter_map(move |message| {
            let answer = message.map(|message| exchange.take_in(message)).transpose();
            if let Some(held) = &held {
                held.release();
            }
            answer
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// An exchange that passes through Envoy. Dropped before its end, as when either side
/// breaks off, it is settled by what was seen of it.
#[derive(Debug)]
struct Exchange {
    guard: Arc<Guard>,
    in_force: Arc<InForce>,
    asked: Option<By>,
    /// What a record tells of the request's head and Envoy's client, until there is one.
    headers: HeaderMap,
    client: Option<IpAddr>,
    /// The exchange on record; none where it isn't, or has ended.
    underway: Option<Underway>,
    /// What was taken of a bucket for one that is not on record.
    taken: Option<Taken>,
    status: Option<u16>,
    answer: Option<Answer>,
    thinner: Option<Thinner>,
}

/// What the request's head tells.
#[derive(Clone, Debug)]
struct By {
    endpoint: Endpoint,
    dialect: Dialect,
    owner: Owner,
    credential: Option<CredentialHash>,
    time: Time,
    has_body: bool,
    is_recorded: bool,
}

impl By {
    fn verdict<'t>(&self, in_force: &'t InForce) -> Verdict<'t> {
        let Owner { account_id, organization_id } = &self.owner;
        let who = Who { account_id, organization_id: organization_id.as_deref() };
        in_force.table.decide(&who, self.time)
    }
}

impl Exchange {
    fn new(guard: Arc<Guard>) -> Self {
        Exchange {
            in_force: guard.live.now(),
            guard,
            asked: None,
            headers: HeaderMap::new(),
            client: None,
            underway: None,
            taken: None,
            status: None,
            answer: None,
            thinner: None,
        }
    }

    /// What Envoy is answered to a message; none where it wants no answer.
    fn take_in(&mut self, message: ProcessingRequest) -> Option<ProcessingResponse> {
        // Answers are not heeded then, and what is not done is not taken.
        if message.observability_mode {
            if let Some(Said::RequestHeaders(head)) = message.request {
                self.observe(head);
            }
            return None;
        }
        let mut mode = None;
        self.client = self.client.or_else(|| source(&message.attributes));
        let answered = match message.request? {
            Said::RequestHeaders(head) => self.request_head(head, &mut mode),
            Said::RequestBody(body) => self.request_body(body),
            Said::RequestTrailers(_) => Ok(Reply::RequestTrailers(TrailersResponse::default())),
            Said::ResponseHeaders(head) => self.response_head(head),
            Said::ResponseBody(body) => self.response_body(body),
            Said::ResponseTrailers(_) => self.response_trailers(),
        };
        let reply = answered.unwrap_or_else(|refusal| self.refused(refusal));
        Some(ProcessingResponse {
            response: Some(reply),
            mode_override: mode,
            ..ProcessingResponse::default()
        })
    }

    /// Whose request this is, and whether it may pass at all.
    fn begin(&mut self, head: HttpHeaders) -> Result<By, Refusal> {
        let has_body = !head.end_of_stream;
        let head = Head::of(pairs(head.headers.unwrap_or_default().headers));
        let endpoint = Endpoint::at(&head.method, head.plain_path());
        let mut by = By {
            endpoint,
            dialect: endpoint.dialect(&head.headers),
            owner: self.in_force.credentials.owner(None),
            credential: None,
            time: (self.guard.clock)(),
            has_body,
            is_recorded: self.guard.records_grpc && endpoint != Endpoint::Other,
        };
        let credential = credential(&head.headers);
        if let Ok(credential) = credential {
            by.owner = self.in_force.credentials.owner(credential.as_ref());
            by.credential = credential;
        }
        self.asked = Some(by.clone());
        credential.map_err(|_| Refusal::Ambiguous)?;
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let bytes_max = self.in_force.table.policy().limits.body_bytes_max;
        if length
            .and_then(|length| length.parse().ok())
            .is_some_and(|bytes: usize| bytes > bytes_max)
        {
            return Err(Refusal::TooLong { bytes_max });
        }
        if by.is_recorded {
            self.headers = head.headers;
        }
        Ok(by)
    }

    /// Puts the exchange on record, if it is to be.
    fn arrive(&mut self, by: &By, asked: &Asked<'_>) {
        if !by.is_recorded {
            return;
        }
        let headers = std::mem::take(&mut self.headers);
        let trusted = &self.in_force.table.policy().limits.trusted_proxies;
        let client = self.client.map(|peer| client_address(peer, &headers, trusted));
        let By { endpoint, dialect, owner, credential, .. } = by;
        let (guard, credential) = (&self.guard, *credential);
        let underway =
            arrive(guard, *endpoint, *dialect, &headers, client, owner, credential, asked);
        self.underway = Some(underway);
    }

    /// Refuses a request whose body is too long, which is on record without it.
    fn too_long(&mut self, by: &By, bytes_max: usize) -> Refusal {
        self.arrive(by, &Asked::default());
        Refusal::TooLong { bytes_max }
    }

    fn observe(&mut self, head: HttpHeaders) {
        if let Ok(by) = self.begin(head) {
            self.guard.metrics.count_verdict(&by.verdict(&self.in_force));
        }
    }

    fn request_head(
        &mut self,
        head: HttpHeaders,
        mode: &mut Option<ProcessingMode>,
    ) -> Result<Reply, Refusal> {
        let by = match (self.begin(head), self.asked.clone()) {
            (Ok(by), _) => by,
            (Err(Refusal::TooLong { bytes_max }), Some(by)) => {
                return Err(self.too_long(&by, bytes_max));
            }
            (Err(refusal), _) => return Err(refusal),
        };
        let in_force = Arc::clone(&self.in_force);
        let verdict = by.verdict(&in_force);
        self.guard.metrics.count_verdict(&verdict);
        // What is on record is refused once the request is whole.
        if let Some(refusal) = shut_out(&verdict).filter(|_| !by.is_recorded) {
            return Err(refusal);
        }
        let does = |deed| by.endpoint != Endpoint::Other && verdict.responses.has(deed);
        let reads_answer = by.is_recorded || does(Deed::Slow) || does(Deed::Withhold);
        let reads_request = reads_answer || does(Deed::Cap);
        let says = verdict_said(&verdict, in_force.table.policy()).is_some();
        *mode = Some(processing_mode(reads_request && by.has_body, reads_answer, says));
        if reads_request && !by.has_body {
            self.respond(&by, &Bytes::new())?;
        }
        let mut common = CommonResponse::default();
        if reads_answer {
            // What is compressed can't be measured or thinned on its way.
            let identity = set(ACCEPT_ENCODING.as_str(), b"identity");
            common.header_mutation = Some(setting(vec![identity]));
        }
        Ok(Reply::RequestHeaders(HeadersResponse { response: Some(common) }))
    }

    fn request_body(&mut self, said: HttpBody) -> Result<Reply, Refusal> {
        let Some(by) = self.asked.take_if(|by| by.has_body) else {
            // A second piece, or a body without a head: Envoy is not set to hold it whole.
            return Err(Refusal::Unreadable);
        };
        self.asked = Some(By { has_body: false, ..by.clone() });
        let body = Bytes::from(said.body);
        let bytes_max = self.in_force.table.policy().limits.body_bytes_max;
        if body.len() > bytes_max {
            return Err(self.too_long(&by, bytes_max));
        }
        let common = self.respond(&by, &body)?.map_or_else(CommonResponse::default, |sent| {
            let length = sent.len().to_string();
            let length = set(CONTENT_LENGTH.as_str(), length.as_bytes());
            CommonResponse { header_mutation: Some(setting(vec![length])), ..replaced(sent.into()) }
        });
        Ok(Reply::RequestBody(BodyResponse { response: Some(common) }))
    }

    /// What the verdict does to a request with this body; none where it goes as it is.
    fn respond(&mut self, by: &By, body: &Bytes) -> Result<Option<Bytes>, Refusal> {
        let in_force = Arc::clone(&self.in_force);
        let asked = Asked::read(by.endpoint, body).unwrap_or_else(|| {
            self.guard.metrics.unread.inc();
            Asked::default()
        });
        self.arrive(by, &asked);
        let (verdict, policy) = (by.verdict(&in_force), in_force.table.policy());
        let Exchange { guard, underway, taken, .. } = self;
        let mut traced = None;
        let taken = match underway {
            Some(underway) => {
                traced = underway.traced.as_mut();
                &mut underway.taken
            }
            None => taken,
        };
        let sent = respond(guard, by.endpoint, &verdict, policy, &asked, false, body, taken);
        if let Some(traced) = traced {
            traced.decided(verdict.response().name());
            if sent.is_ok() {
                traced.sent((guard.clock)());
            }
        }
        sent
    }

    fn response_head(&mut self, said: HttpHeaders) -> Result<Reply, Refusal> {
        let head = Head::of(pairs(said.headers.unwrap_or_default().headers));
        let status = head.status.unwrap_or_default();
        self.status = Some(status.as_u16());
        let mut mutation = HeaderMutation::default();
        if let Some(by) = self.asked.clone() {
            let in_force = Arc::clone(&self.in_force);
            let verdict = by.verdict(&in_force);
            if by.endpoint != Endpoint::Other {
                let is_thin = verdict.responses.has(Deed::Withhold);
                let read = read_answer(&self.guard, by.endpoint, status, &head.headers, is_thin)?;
                (self.answer, self.thinner) = (Some(read.0), read.1);
            }
            if self.thinner.is_some() {
                mutation.remove_headers.push(CONTENT_LENGTH.to_string());
            }
            let said = verdict_said(&verdict, in_force.table.policy());
            mutation.set_headers.extend(said.map(|said| set(VERDICT.as_str(), said.as_bytes())));
        }
        if said.end_of_stream {
            self.end(false);
        }
        let common = CommonResponse { header_mutation: Some(mutation), ..Default::default() };
        Ok(Reply::ResponseHeaders(HeadersResponse { response: Some(common) }))
    }

    fn response_body(&mut self, said: HttpBody) -> Result<Reply, Refusal> {
        let piece = Bytes::from(said.body);
        if let Some(answer) = &mut self.answer {
            answer.feed(&piece);
        }
        let mut common = CommonResponse::default();
        if let Some(thinner) = &mut self.thinner {
            let mut thinned = thinner.feed(&piece).map_err(|_| Refusal::NotThinned)?;
            if said.end_of_stream {
                thinned.extend(self.rest()?);
            }
            common = replaced(thinned);
        }
        if said.end_of_stream {
            self.end(false);
        }
        Ok(Reply::ResponseBody(BodyResponse { response: Some(common) }))
    }

    fn response_trailers(&mut self) -> Result<Reply, Refusal> {
        // Too late for a body: what was held back of it can't follow.
        if !self.rest()?.is_empty() {
            return Err(Refusal::NotThinned);
        }
        self.end(false);
        Ok(Reply::ResponseTrailers(TrailersResponse::default()))
    }

    /// What may pass at the end of a thinned answer.
    fn rest(&mut self) -> Result<Vec<u8>, Refusal> {
        let rest = self.thinner.take().map(Thinner::finish).transpose();
        rest.map(Option::unwrap_or_default).map_err(|_| Refusal::NotThinned)
    }

    /// The answer to the client instead of the model's. Where that has begun already, Envoy
    /// cuts the connection.
    fn refused(&mut self, refusal: Refusal) -> Reply {
        let dialect = self.asked.as_ref().map_or(Dialect::OpenAi, |by| by.dialect);
        let has_begun = self.answer.is_some();
        if !has_begun {
            self.status = Some(refusal.status().as_u16());
        }
        self.end(has_begun);
        let answer = refusal.answer(dialect, &self.in_force.table.policy().appeal);
        let (head, body) = answer.into_parts();
        Reply::ImmediateResponse(ImmediateResponse {
            status: Some(HttpStatus { code: head.status.as_u16().into() }),
            headers: Some(setting(set_all(&head.headers))),
            body: body.into(),
            details: refusal.code().to_owned(),
            ..ImmediateResponse::default()
        })
    }

    /// The exchange is over; what was taken for it is settled, and its end recorded.
    fn end(&mut self, is_aborted: bool) {
        let mut measured = self.answer.take().map(Answer::finish).unwrap_or_default();
        if let Some(taken) = self.taken.take() {
            settle(&taken, self.status, &measured, self.guard.monotonic());
        }
        if let Some(mut underway) = self.underway.take() {
            if is_aborted {
                measured.response_finish_reason = Some("aborted".to_owned());
            }
            underway.end(self.status, &measured);
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(true);
    }
}

/// Envoy's client, where Envoy is told to say it.
fn source(attributes: &HashMap<String, Struct>) -> Option<IpAddr> {
    let address = attributes.values().find_map(|of| of.fields.get("source.address"))?;
    let Some(Kind::StringValue(address)) = &address.kind else { return None };
    Some(address.parse::<SocketAddr>().ok()?.ip())
}

/// What Envoy is to send of the rest of an exchange.
fn processing_mode(reads_request: bool, reads_answer: bool, says: bool) -> ProcessingMode {
    let header = |wanted| if wanted { HeaderSendMode::Send } else { HeaderSendMode::Skip };
    let body = |wanted, mode| if wanted { mode } else { BodySendMode::None };
    ProcessingMode {
        request_header_mode: HeaderSendMode::Default.into(),
        request_body_mode: body(reads_request, BodySendMode::Buffered).into(),
        request_trailer_mode: HeaderSendMode::Skip.into(),
        response_header_mode: header(reads_answer || says).into(),
        response_body_mode: body(reads_answer, BodySendMode::Streamed).into(),
        response_trailer_mode: header(reads_answer).into(),
    }
}

fn setting(set_headers: Vec<HeaderValueOption>) -> HeaderMutation {
    HeaderMutation { set_headers, remove_headers: Vec::new() }
}

/// Another body.
fn replaced(body: Vec<u8>) -> CommonResponse {
    let mutation = if body.is_empty() { Mutation::ClearBody(true) } else { Mutation::Body(body) };
    CommonResponse {
        body_mutation: Some(BodyMutation { mutation: Some(mutation) }),
        ..CommonResponse::default()
    }
}
