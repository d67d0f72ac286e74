//! `ext_authz`: whether a request may pass, by its head, and by its body where Envoy is
//! told to send it (`with_request_body`). The answer is never seen, so that what was taken
//! from a slowed campaign's bucket counts as used.

use std::sync::Arc;

use envoy_types::ext_authz::v3::pb::{
    Authorization, CheckRequest, CheckResponse, DeniedHttpResponse, HttpResponse, HttpStatus,
    OkHttpResponse,
};
use envoy_types::pb::google::rpc;
use http::HeaderMap;
use http::header::CACHE_CONTROL;
use tonic::{Code, Request, Response, Status};

use crate::advise::{Advice, CHOICES, OUTPUT_TOKENS, TOKENS, UNTIL, WITHHOLD, advice};
use crate::api::Endpoint;
use crate::asked::Asked;
use crate::gateway::{Guard, VERDICT, cost_at_most};

use super::message::{Head, pairs, set_all};

/// Answers Envoy's questions.
#[derive(Debug)]
pub struct Authorizer {
    pub guard: Arc<Guard>,
}

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let said = request.metadata().get(TOKENS.as_str());
        let tokens = said.and_then(|value| value.to_str().ok()?.parse().ok());
        let asked = request.into_inner().attributes.and_then(|attributes| attributes.request);
        let Some(http) = asked.and_then(|request| request.http) else {
            return Err(Status::invalid_argument("the attributes have no HTTP request"));
        };
        let mut head = match http.header_map {
            Some(map) => Head::of(pairs(map.headers)),
            None => Head::of(http.headers.into_iter().map(|(key, value)| (key, value.into()))),
        };
        head.method = http.method.parse().unwrap_or_default();
        head.path = http.path;
        let endpoint = Endpoint::at(&head.method, head.plain_path());
        let body =
            if http.raw_body.is_empty() { http.body.as_bytes() } else { http.raw_body.as_slice() };
        let cost = Asked::read(endpoint, body)
            .filter(|asked| asked.request_max_tokens.is_some() || endpoint == Endpoint::Embeddings)
            .map(|asked| cost_at_most(endpoint, &asked, None));
        let advice = advice(&self.guard, &head.headers, endpoint, cost.or(tokens));
        Ok(Response::new(answer(advice)))
    }
}

fn answer(advice: Advice) -> CheckResponse {
    let Advice { refusal, mut told } = advice;
    let (code, said) = match refusal {
        None => {
            told.remove(CACHE_CONTROL);
            (Code::Ok, HttpResponse::OkResponse(passing(&told)))
        }
        Some(refusal) => {
            let (head, body) = refusal.into_parts();
            let denied = DeniedHttpResponse {
                status: Some(HttpStatus { code: head.status.as_u16().into() }),
                headers: set_all(&head.headers),
                body: String::from_utf8_lossy(&body).into_owned(),
            };
            (Code::PermissionDenied, HttpResponse::DeniedResponse(denied))
        }
    };
    CheckResponse {
        status: Some(rpc::Status { code: code.into(), ..rpc::Status::default() }),
        http_response: Some(said),
        ..CheckResponse::default()
    }
}

/// The request passes, with the verdict in headers for the filters after this one. What a
/// client says under these names goes.
fn passing(told: &HeaderMap) -> OkHttpResponse {
    let ours = [VERDICT, UNTIL, OUTPUT_TOKENS, CHOICES, WITHHOLD];
    let is_said = |name| told.contains_key(name);
    OkHttpResponse {
        headers: set_all(told),
        headers_to_remove: ours
            .iter()
            .filter(|name| !is_said(*name))
            .map(ToString::to_string)
            .collect(),
        ..OkHttpResponse::default()
    }
}
