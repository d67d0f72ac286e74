//! Advice for gateways that people already run, from the same table of verdicts.
//!
//! `/v1/authorize` answers by headers alone, which is what nginx (`auth_request`), Envoy
//! (`ext_authz` over HTTP), Traefik (`ForwardAuth`) and Caddy (`forward_auth`) ask for: a
//! status of 2xx lets the request pass, and headers of the answer say what else the
//! verdict wants. `/beta/litellm_basic_guardrail_api` speaks LiteLLM's generic guardrail
//! API. Neither sees the model's answer, so nothing is recorded and buckets are not
//! settled: what was taken counts as used.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use stillwatch_decide::{Policy, Response as Deed, Verdict, Who};

use crate::admin::{Admin, bad, bearer, wrong_key};
use crate::api::Endpoint;
use crate::gateway::{Guard, VERDICT, shut_out};
use crate::keys::{CredentialHash, credential};
use crate::refusal::Refusal;

/// What nginx's `auth_request` takes for a refusal; any other status but 2xx and 401 is a
/// failure to it.
const DENY: &str = "deny=403";
/// The longest body of a guardrail's request, in bytes: LiteLLM sends all texts along, and
/// takes a refusal to read them for a refusal of the request.
const GUARDRAIL_BODY_BYTES_MAX: usize = 64 << 20;

const PATHS: [HeaderName; 3] = [
    HeaderName::from_static("x-original-uri"),
    HeaderName::from_static("x-forwarded-uri"),
    HeaderName::from_static("x-envoy-original-path"),
];
const METHODS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-forwarded-method")];
/// The administration's key, where `authorization` is the client's.
pub(crate) const KEY: HeaderName = HeaderName::from_static("stillwatch-key");
/// What an exchange can cost at most; see [`Asked::of`].
pub(crate) const TOKENS: HeaderName = HeaderName::from_static("stillwatch-max-tokens");
const STATUS: HeaderName = HeaderName::from_static("stillwatch-status");
pub(crate) const UNTIL: HeaderName = HeaderName::from_static("stillwatch-until");
pub(crate) const OUTPUT_TOKENS: HeaderName =
    HeaderName::from_static("stillwatch-max-output-tokens");
pub(crate) const CHOICES: HeaderName = HeaderName::from_static("stillwatch-max-choices");
pub(crate) const WITHHOLD: HeaderName = HeaderName::from_static("stillwatch-withhold");

/// The routes.
pub(crate) fn router(admin: &Admin) -> Router<Admin> {
    let by_headers = Router::new()
        .route("/v1/authorize", any(authorize))
        .route("/v1/authorize/{*path}", any(authorize))
        .layer(from_fn_with_state(admin.clone(), key_beside));
    let by_body = Router::new()
        .route("/beta/litellm_basic_guardrail_api", post(guardrail))
        .layer(DefaultBodyLimit::max(GUARDRAIL_BODY_BYTES_MAX))
        .layer(from_fn_with_state(admin.clone(), key_of_a_guardrail));
    by_headers.merge(by_body)
}

async fn key_beside(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let key = request.headers().get(KEY).map(HeaderValue::as_bytes);
    if key.is_some_and(|key| admin.is_key(key)) {
        return next.run(request).await;
    }
    wrong_key("send the key as `stillwatch-key: KEY`; `authorization` is the client's")
}

async fn key_of_a_guardrail(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let plain = ["x-api-key", "stillwatch-key"].into_iter().filter_map(|name| headers.get(name));
    let keys = headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
    if plain.map(HeaderValue::as_bytes).chain(keys).any(|key| admin.is_key(key)) {
        return next.run(request).await;
    }
    wrong_key("send the key as `x-api-key: KEY`, LiteLLM's `api_key`")
}

/// What a gateway asks about.
struct Asked {
    endpoint: Endpoint,
    /// What it can cost at most, in output tokens.
    tokens: Option<u32>,
    is_denied_as_403: bool,
}

impl Asked {
    /// The client's path and method come behind ours, or in headers. A client can send
    /// such headers too, but not take away the gateway's: where several say several things,
    /// one that makes it a request to a model is believed. In the same way the query is
    /// the gateway's, unless the client's own path comes behind ours.
    fn of(uri: &Uri, method: &Method, headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let own = uri.path().strip_prefix("/v1/authorize").filter(|rest| rest.len() > 1);
        let said: Vec<&str> = METHODS.iter().filter_map(text).collect();
        // nginx asks with GET, whatever the client does.
        let is_post = said.contains(&"POST")
            || if own.is_some() { method == Method::POST } else { said.is_empty() };
        let method = if is_post { Method::POST } else { Method::GET };
        let paths: Vec<&str> = own.into_iter().chain(PATHS.iter().filter_map(text)).collect();
        let endpoints = paths
            .iter()
            .map(|path| Endpoint::at(&method, path.split('?').next().unwrap_or_default()));
        let endpoint = endpoints.clone().find(|endpoint| *endpoint != Endpoint::Other);
        let unknown = if paths.is_empty() && is_post { Endpoint::Chat } else { Endpoint::Other };
        let mut parts = uri.query().unwrap_or_default().split('&');
        let tokens = match own {
            Some(_) => text(&TOKENS),
            None => parts.clone().find_map(|part| part.strip_prefix("tokens=")),
        };
        Asked {
            endpoint: endpoint.unwrap_or(unknown),
            tokens: tokens.and_then(|tokens| tokens.parse().ok()),
            is_denied_as_403: parts.any(|part| part == DENY),
        }
    }
}

async fn authorize(State(admin): State<Admin>, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let Asked { endpoint, tokens, is_denied_as_403 } =
        Asked::of(&head.uri, &head.method, &head.headers);
    let Advice { refusal, told } = advice(&admin.guard, &head.headers, endpoint, tokens);
    let mut answer = match refusal {
        None => StatusCode::OK.into_response(),
        Some(refusal) => {
            let mut answer = refusal.map(Body::from);
            let status = HeaderValue::from(answer.status().as_u16());
            answer.headers_mut().insert(STATUS, status);
            if is_denied_as_403 {
                *answer.status_mut() = StatusCode::FORBIDDEN;
            }
            answer
        }
    };
    answer.headers_mut().extend(told);
    answer
}

/// What another gateway is told about a request.
pub(crate) struct Advice {
    /// What the client gets instead of the model's answer; none where the request may pass.
    pub refusal: Option<axum::http::Response<Bytes>>,
    /// The verdict, for the gateway.
    pub told: HeaderMap,
}

/// The advice on a request with these headers. `tokens` is what it can cost at most, in
/// output tokens.
pub(crate) fn advice(
    guard: &Guard,
    headers: &HeaderMap,
    endpoint: Endpoint,
    tokens: Option<u32>,
) -> Advice {
    let dialect = endpoint.dialect(headers);
    let in_force = guard.live.now();
    let policy = in_force.table.policy();
    let refused = |refusal: Refusal| refusal.answer(dialect, &policy.appeal);
    let Ok(credential) = credential(headers) else {
        return Advice { refusal: Some(refused(Refusal::Ambiguous)), told: HeaderMap::new() };
    };
    let owner = in_force.credentials.owner(credential.as_ref());
    let who =
        Who { account_id: &owner.account_id, organization_id: owner.organization_id.as_deref() };
    let verdict = in_force.table.decide(&who, (guard.clock)());
    let refusal = advised(guard, &verdict, endpoint, tokens).err().map(refused);
    Advice { refusal, told: told(&verdict, policy) }
}

/// Whether a request is to pass; takes what it can cost where the verdict slows.
fn advised(
    guard: &Guard,
    verdict: &Verdict<'_>,
    endpoint: Endpoint,
    tokens: Option<u32>,
) -> Result<(), Refusal> {
    guard.metrics.count_verdict(verdict);
    if let Some(refusal) = shut_out(verdict) {
        return Err(refusal);
    }
    if endpoint != Endpoint::Other
        && verdict.responses.has(Deed::Slow)
        && let Some(campaign) = verdict.campaign
    {
        // As in the gateway: what sets no limit takes a whole burst.
        let taken = campaign.bucket.take(tokens.unwrap_or(u32::MAX), guard.monotonic());
        taken.map_err(|wait| Refusal::Slowed { seconds: wait.seconds() })?;
    }
    Ok(())
}

/// The verdict in headers for the gateway.
fn told(verdict: &Verdict<'_>, policy: &Policy) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(VERDICT, HeaderValue::from_static(verdict.response().name()));
    if let Some(until) = verdict.until.and_then(|until| until.to_string().parse().ok()) {
        headers.insert(UNTIL, until);
    }
    if verdict.responses.has(Deed::Cap) {
        headers.insert(OUTPUT_TOKENS, policy.cap.output_tokens.into());
        headers.insert(CHOICES, policy.cap.choices.into());
    }
    if verdict.responses.has(Deed::Withhold) {
        let withheld = "logprobs, top_logprobs, logit_bias, reasoning";
        headers.insert(WITHHOLD, HeaderValue::from_static(withheld));
    }
    headers
}

/// What LiteLLM's generic guardrail sends, as far as it matters: whose key it is. Texts are
/// not looked at.
#[derive(Deserialize)]
struct Guardrail {
    #[serde(default)]
    request_data: Option<RequestData>,
    #[serde(default)]
    input_type: Option<String>,
    #[expect(dead_code, reason = "read, so that they are not kept")]
    #[serde(default)]
    texts: Option<IgnoredAny>,
}

/// LiteLLM's documentation, «Generic Guardrail API», `request_data`.
#[derive(Default, Deserialize)]
struct RequestData {
    /// SHA-256 of the virtual key, in hex.
    user_api_key_hash: Option<String>,
    user_api_key_user_id: Option<String>,
    user_api_key_org_id: Option<String>,
}

async fn guardrail(State(admin): State<Admin>, body: Bytes) -> Response {
    let Ok(asked) = serde_json::from_slice::<Guardrail>(&body) else {
        return bad("send what LiteLLM's generic guardrail API describes");
    };
    let pass = || axum::Json(json!({ "action": "NONE" })).into_response();
    // An answer that was paid for is no longer held back.
    if asked.input_type.is_some_and(|kind| kind == "response") {
        return pass();
    }
    let said = asked.request_data.unwrap_or_default();
    let in_force = admin.guard.live.now();
    let hash = said.user_api_key_hash.as_deref().and_then(CredentialHash::parse);
    let owner = hash.map(|hash| in_force.credentials.owner(Some(&hash)));
    let account = owner.as_ref().map(|owner| owner.account_id.as_ref());
    let Some(account_id) = account.or(said.user_api_key_user_id.as_deref()) else { return pass() };
    let organization = owner.as_ref().and_then(|owner| owner.organization_id.as_deref());
    let organization_id = organization.or(said.user_api_key_org_id.as_deref());
    let verdict =
        in_force.table.decide(&Who { account_id, organization_id }, (admin.guard.clock)());
    match advised(&admin.guard, &verdict, Endpoint::Chat, None) {
        Ok(()) => pass(),
        Err(refusal) => {
            let why = refusal.message(&in_force.table.policy().appeal);
            axum::Json(json!({ "action": "BLOCKED", "blocked_reason": why })).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(uri: &str, method: Method, headers: &[(&'static str, &'static str)]) -> Asked {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        Asked::of(&uri.parse().unwrap(), &method, &map)
    }

    #[test]
    fn a_client_can_not_talk_its_request_away() {
        let nginx = [("x-original-uri", "/v1/chat/completions?x=1"), ("x-original-method", "POST")];
        let spoofed = [
            ("x-forwarded-uri", "/v1/models"),
            ("x-forwarded-method", "GET"),
            ("x-envoy-original-path", "/"),
            ("stillwatch-max-tokens", "1"),
        ];
        let asked_by_nginx = asked(
            "/v1/authorize?deny=403&tokens=900",
            Method::GET,
            &[&nginx[..], &spoofed].concat(),
        );
        assert_eq!(asked_by_nginx.endpoint, Endpoint::Chat);
        assert_eq!(asked_by_nginx.tokens, Some(900));
        assert!(asked_by_nginx.is_denied_as_403);

        let envoy = "/v1/authorize/v1/messages?tokens=1&deny=403";
        let asked_by_envoy = asked(envoy, Method::POST, &[("stillwatch-max-tokens", "700")]);
        assert_eq!(asked_by_envoy.endpoint, Endpoint::Messages);
        assert_eq!(asked_by_envoy.tokens, Some(700));
        assert_eq!(asked("/v1/authorize/v1/models", Method::GET, &[]).endpoint, Endpoint::Other);
        assert_eq!(asked("/v1/authorize", Method::GET, &[]).endpoint, Endpoint::Chat);
        let list = [("x-forwarded-uri", "/v1/models"), ("x-forwarded-method", "GET")];
        assert_eq!(asked("/v1/authorize", Method::GET, &list).endpoint, Endpoint::Other);
    }
}
