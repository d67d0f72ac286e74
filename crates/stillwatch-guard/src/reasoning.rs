//! What the gateway does about reasoning blocks: whose they are is `bind`'s to tell.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use http::request::Parts;
use stillwatch_decide::Policy;

use crate::api::Endpoint;
use crate::asked::Asked;
use crate::bind::{self, Binder, Foreign, Holder, ReasoningKeys, Strictness};
use crate::gateway::Guard;
use crate::json::Fields;
use crate::keys::Owner;
use crate::live::InForce;
use crate::refusal::Refusal;

/// An exchange whose blocks have marks, or may have.
#[derive(Debug)]
pub struct Bound {
    keys: Arc<ReasoningKeys>,
    holder: Holder,
}

impl Bound {
    /// An exchange of an endpoint that has such blocks, where there are keys.
    pub fn of(
        in_force: &InForce,
        endpoint: Endpoint,
        owner: &Owner,
        asked: &Asked<'_>,
    ) -> Option<Self> {
        let keys = in_force.reasoning_keys.as_ref()?;
        matches!(endpoint, Endpoint::Messages | Endpoint::Responses)
            .then(|| Bound { keys: Arc::clone(keys), holder: Holder::of(&owner.account_id, asked) })
    }

    /// Takes the marks off the blocks of a request; none where it has none.
    ///
    /// # Errors
    /// A block is somebody else's and the policy binds, or the body may hold one and can't
    /// be read.
    pub fn released(
        &self,
        guard: &Guard,
        policy: &Policy,
        endpoint: Endpoint,
        owner: &Owner,
        body: &Bytes,
    ) -> Result<Option<Bytes>, Refusal> {
        let who = owner.who();
        let binds =
            policy.binds_reasoning() && !policy.exempts(who.account_id, who.organization_id);
        let now = (guard.clock)();
        let is_grace = policy.reasoning.unbound_until.is_some_and(|until| now < until);
        let strictness = Strictness { refuses_foreign: binds, refuses_unbound: binds && !is_grace };
        if binds && Fields::parse(body).is_none() {
            return Err(Refusal::Unreadable);
        }
        match bind::released(endpoint, body, &self.keys, &self.holder, strictness) {
            Ok(Cow::Borrowed(_)) => Ok(None),
            Ok(Cow::Owned(released)) => Ok(Some(released.into())),
            Err(Foreign) => {
                guard.metrics.reasoning_refused.inc();
                Err(Refusal::ForeignReasoning)
            }
        }
    }

    /// Marks the blocks of the answer.
    pub fn binder(self, endpoint: Endpoint, policy: &Policy, is_stream: bool) -> Binder {
        Binder::new(endpoint, self.keys, self.holder, policy.reasoning, is_stream)
    }
}

/// Whether a request that is no exchange may carry blocks all the same: what lies below
/// messages and responses, such as `messages/count_tokens`.
pub fn may_be_beside(head: &Parts) -> bool {
    let mut segments = head.uri.path().split('/');
    head.method == Method::POST && segments.any(|part| part == "messages" || part == "responses")
}

/// The body of such a request without the account's own marks.
pub fn beside(keys: &ReasoningKeys, owner: &Owner, body: Bytes) -> Bytes {
    let asked = Asked::read(Endpoint::Other, &body).unwrap_or_default();
    let holder = Holder::of(&owner.account_id, &asked);
    match bind::released_anywhere(&body, keys, &holder) {
        Cow::Borrowed(_) => body.clone(),
        Cow::Owned(released) => released.into(),
    }
}
