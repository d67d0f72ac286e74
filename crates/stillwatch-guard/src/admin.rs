//! Administration: decisions for other gateways, what is in force, undoing it, metrics.
//!
//! Everything but the probes and the description wants the key, as a bearer token.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use stillwatch_decide::{Response as Deed, Who};
use stillwatch_exchange::columns::{self, EXCHANGES};
use subtle::ConstantTimeEq;

use crate::gateway::Guard;
use crate::keys::CredentialHash;
use crate::live::UndoError;
use crate::server::Keeper;

/// The longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The longest reason that is kept, in bytes.
const WHY_BYTES_MAX: usize = 1000;

/// Describes all of it.
pub const OPENAPI: &str = include_str!("openapi.json");

#[derive(Clone)]
pub(crate) struct Admin {
    pub guard: Arc<Guard>,
    keeper: Arc<Keeper>,
    /// The key's hash: comparing hashes takes the same time for every wrong key.
    key: [u8; 32],
}

impl Admin {
    pub fn new(guard: Arc<Guard>, keeper: Arc<Keeper>, key: &str) -> Self {
        Admin { guard, keeper, key: Sha256::digest(key.as_bytes()).into() }
    }

    /// Whether this is the key.
    pub fn is_key(&self, key: &[u8]) -> bool {
        let hash: [u8; 32] = Sha256::digest(key).into();
        hash.ct_eq(&self.key).into()
    }
}

/// The routes.
pub(crate) fn router(admin: Admin) -> Router {
    let guarded = Router::new()
        .route("/v1/decide", post(decide))
        .route("/v1/campaigns", get(campaigns))
        .route("/v1/campaigns/{campaign_id}", get(campaign))
        .route("/v1/campaigns/{campaign_id}/clear", post(clear))
        .route("/v1/verdicts/{account_id}/lift", post(lift))
        .route("/metrics", get(metrics))
        .layer(from_fn_with_state(admin.clone(), wants_key));
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(async || ([(CONTENT_TYPE, "application/json")], OPENAPI)))
        .merge(guarded)
        .merge(crate::advise::router(&admin))
        .fallback(async || error(StatusCode::NOT_FOUND, "no such page; see /openapi.json"))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(admin)
}

fn error(status: StatusCode, what: &str) -> Response {
    (status, axum::Json(json!({ "error": what }))).into_response()
}

pub(crate) fn bad(what: &str) -> Response {
    error(StatusCode::BAD_REQUEST, what)
}

async fn wants_key(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let value = request.headers().get(AUTHORIZATION).map(|value| value.as_bytes());
    if value.and_then(bearer).is_some_and(|key| admin.is_key(key)) {
        return next.run(request).await;
    }
    wrong_key("send the key as `authorization: Bearer KEY`")
}

pub(crate) fn wrong_key(what: &str) -> Response {
    let mut answer = error(StatusCode::UNAUTHORIZED, what);
    answer.headers_mut().insert(WWW_AUTHENTICATE, axum::http::HeaderValue::from_static("Bearer"));
    answer
}

/// The token of a bearer's `authorization`.
pub(crate) fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(key)
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.keeper.trouble() {
        // Guards go on without a broker: whoever waits for them need not know.
        None => format!("ready\n{}", admin.keeper.away.lines()).into_response(),
        Some(what) => {
            error(StatusCode::SERVICE_UNAVAILABLE, &format!("records are not safe: {what}"))
        }
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], admin.guard.metrics.text()).into_response()
}

async fn campaigns(State(admin): State<Admin>) -> Response {
    let in_force = admin.guard.live.now();
    let all: Vec<_> = in_force.findings.iter().map(|finding| &finding.campaign).collect();
    axum::Json(all).into_response()
}

async fn campaign(State(admin): State<Admin>, Path(campaign_id): Path<String>) -> Response {
    let in_force = admin.guard.live.now();
    let mut findings = in_force.findings.iter().map(|finding| &finding.campaign);
    match findings.find(|campaign| campaign.campaign_id == campaign_id) {
        Some(campaign) => axum::Json(campaign).into_response(),
        None => error(StatusCode::NOT_FOUND, &UndoError::NoSuchCampaign.to_string()),
    }
}

/// Why something is undone.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    why: String,
}

impl Why {
    fn read(body: &[u8]) -> Result<String, &'static str> {
        let said: Result<Why, _> = serde_json::from_slice(body);
        let why = said.map_err(|_| "send { \"why\": \"…\" }; the reason is recorded")?.why;
        if why.trim().is_empty() || why.len() > WHY_BYTES_MAX {
            return Err("the reason is recorded: say it in 1 to 1000 bytes");
        }
        Ok(why)
    }
}

fn undone(result: Result<Value, UndoError>) -> Response {
    match result {
        Ok(value) => axum::Json(value).into_response(),
        Err(error @ UndoError::NoSuchCampaign) => {
            self::error(StatusCode::NOT_FOUND, &error.to_string())
        }
        Err(error) => self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Runs what stores something where it holds nobody up.
async fn stored<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, UndoError> + Send + 'static,
) -> Result<T, UndoError> {
    let ran = tokio::task::spawn_blocking(run).await;
    ran.unwrap_or_else(|error| Err(crate::GuardError::Other(error.to_string()).into()))
}

async fn clear(
    State(admin): State<Admin>,
    Path(campaign_id): Path<String>,
    body: Bytes,
) -> Response {
    let why = match Why::read(&body) {
        Ok(why) => why,
        Err(what) => return bad(what),
    };
    let guard = admin.guard;
    undone(
        stored(move || {
            let (until, accounts) = guard.live.clear(&campaign_id, &why, (guard.clock)())?;
            Ok(json!({ "campaign_id": campaign_id, "accounts": accounts, "left_alone_until": until }))
        })
        .await,
    )
}

async fn lift(State(admin): State<Admin>, Path(account_id): Path<String>, body: Bytes) -> Response {
    let why = match Why::read(&body) {
        Ok(why) => why,
        Err(what) => return bad(what),
    };
    let guard = admin.guard;
    undone(
        stored(move || {
            let until = guard.live.lift(&account_id, &why, (guard.clock)())?;
            Ok(json!({ "account_id": account_id, "left_alone_until": until }))
        })
        .await,
    )
}

async fn decide(State(admin): State<Admin>, body: Bytes) -> Response {
    let Ok(asked) = serde_json::from_slice::<Map<String, Value>>(&body) else {
        return bad("send a JSON object with account_id or credential_hash");
    };
    let is_known =
        |name: &String| name == "credential_hash" || columns::find(EXCHANGES, name).is_some();
    if !asked.keys().all(is_known) {
        return bad("send credential_hash and the columns of an exchange only");
    }
    let text = |name: &str| asked.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let guard = &admin.guard;
    let in_force = guard.live.now();
    let owner = match (text("account_id"), text("credential_hash")) {
        (Some(_), _) => None,
        (None, Some(hash)) => match CredentialHash::parse(hash) {
            Some(hash) => Some(in_force.credentials.owner(Some(&hash))),
            None => return bad("credential_hash is not SHA-256 in 64 hex digits"),
        },
        (None, None) => return bad("send account_id or credential_hash"),
    };
    let who = Who {
        account_id: owner
            .as_ref()
            .map(|owner| owner.account_id.as_ref())
            .or(text("account_id"))
            .unwrap_or_default(),
        organization_id: text("organization_id")
            .or_else(|| owner.as_ref().and_then(|owner| owner.organization_id.as_deref())),
    };
    let verdict = in_force.table.decide(&who, (guard.clock)());
    guard.metrics.count_verdict(&verdict);
    let policy = in_force.table.policy();
    let mut limits = Map::new();
    for deed in verdict.responses.iter() {
        match deed {
            Deed::Allow | Deed::Record => {}
            Deed::Slow => {
                let rate = policy.slow.tokens_per_minute;
                limits.insert("output_tokens_per_minute".to_owned(), rate.into());
                let tokens = ["usage_output_tokens", "request_max_tokens"]
                    .iter()
                    .find_map(|name| asked.get(*name)?.as_u64());
                // Who says what the exchange may cost takes it from the bucket.
                if let (Some(tokens), Some(campaign)) = (tokens, verdict.campaign) {
                    let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
                    let taken = campaign.bucket.take(tokens, guard.monotonic());
                    limits.insert("admitted".to_owned(), taken.is_ok().into());
                    if let Err(wait) = taken {
                        limits.insert("retry_after_seconds".to_owned(), wait.seconds().into());
                    }
                }
            }
            Deed::Cap => {
                limits.insert("max_output_tokens".to_owned(), policy.cap.output_tokens.into());
                limits.insert("max_choices".to_owned(), policy.cap.choices.into());
            }
            Deed::Withhold => {
                let withheld = json!(["logprobs", "top_logprobs", "logit_bias", "reasoning"]);
                limits.insert("withhold".to_owned(), withheld);
            }
            Deed::Verify => {
                limits.insert("verify_link".to_owned(), json!(policy.appeal.verify_link));
            }
            Deed::Refuse => {}
        }
    }
    axum::Json(json!({
        "verdict": verdict.response(),
        "campaign_id": verdict.campaign.map(|campaign| &campaign.campaign_id),
        "reason": verdict.reason,
        "expires_at": verdict.until,
        "limits": limits,
    }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_names_every_route() {
        let described: Value = serde_json::from_str(OPENAPI).unwrap();
        let source = concat!(include_str!("admin.rs"), include_str!("advise.rs"));
        let routes = source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let routes: Vec<String> = routes
            .filter(|route| route.starts_with('/'))
            .map(|route| route.replace("{*", "{"))
            .collect();
        assert!(routes.len() >= 9, "{routes:?}");
        for route in &routes {
            assert!(described["paths"].get(route).is_some(), "{route} is not described");
        }
        assert_eq!(described["paths"].as_object().unwrap().len(), routes.len());
    }

    #[test]
    fn a_reason_is_wanted() {
        assert_eq!(Why::read(br#"{"why":"a class"}"#).unwrap(), "a class");
        for body in [&b""[..], b"{}", br#"{"why":" "}"#, br#"{"why":"x","y":1}"#] {
            assert!(Why::read(body).is_err());
        }
    }
}
