//! An exchange from its arrival to its end: on record, in the campaign's bucket, in traces.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::USER_AGENT;
use stillwatch_decide::InForce;
use stillwatch_exchange::Time;

use crate::answer::Measured;
use crate::api::{Dialect, Endpoint};
use crate::asked::Asked;
use crate::cut;
use crate::gateway::{Guard, shut_out};
use crate::journal::{Arrival, Ending};
use crate::keys::{CredentialHash, Owner, hex};
use crate::seal::digest_text;
use crate::traces::Traced;

/// The longest `user-agent` on record, in bytes.
const USER_AGENT_BYTES_MAX: usize = 512;

/// The campaign from whose bucket something was taken, and how many tokens.
pub type Taken = (Arc<InForce>, u64);

/// Settles what was taken with what an exchange has cost; no status where the client broke
/// off before there was one: nothing is taken of what is not passed on.
pub fn settle(taken: &Taken, status: Option<u16>, measured: &Measured, now: i64) {
    let (campaign, taken) = taken;
    let is_success = status.is_none_or(|status| status < 400);
    // Without the vendor's figure, as when the client breaks off, what was taken counts as
    // used: else breaking off would be free.
    let used = match (is_success, measured.usage_output_tokens) {
        (false, _) => 0,
        (true, Some(tokens)) => u64::from(tokens),
        (true, None) => *taken,
    };
    campaign.bucket.settle(*taken, used, now);
}

/// An exchange that has arrived and not ended. Dropped before its end, as when the
/// client goes away, it ends as `aborted`.
#[derive(Debug)]
pub struct Underway {
    guard: Arc<Guard>,
    sequence: u64,
    exchange_id: String,
    pub taken: Option<Taken>,
    /// Whose it is and what was asked, for verdicts that change while it is answered.
    owner: Owner,
    endpoint: Endpoint,
    pub followed: Followed,
    /// What its spans will say, where exchanges are traced.
    pub traced: Option<Box<Traced>>,
    is_ended: bool,
}

/// The verdict that an answer under way was last held against.
#[derive(Clone, Copy, Debug, Default)]
pub struct Followed {
    pub version: u64,
    /// When that verdict's step ends.
    pub until: Option<Time>,
}

/// The bucket has too few tokens.
#[derive(Clone, Copy, Debug)]
pub struct Short {
    /// The tokens that are still wanted.
    pub tokens: u64,
    /// How long to wait for the next of them.
    pub duration: Duration,
}

impl Underway {
    /// Takes the tokens of a part of the answer from the campaign's bucket, where the
    /// exchange is slowed; of more than a burst, a burst after the other.
    ///
    /// # Errors
    /// There are too few; what was taken before stays taken.
    pub fn take(&mut self, mut tokens: u64) -> Result<(), Short> {
        let Some((campaign, taken)) = &mut self.taken else { return Ok(()) };
        while tokens > 0 {
            let wanted = u32::try_from(tokens).unwrap_or(u32::MAX);
            match campaign.bucket.take(wanted, self.guard.monotonic()) {
                Ok(got) => {
                    *taken += u64::from(got);
                    tokens = tokens.saturating_sub(got.into());
                }
                Err(wait) => {
                    let duration = Duration::from_nanos(wait.nanoseconds.unsigned_abs());
                    if campaign.bucket.lease().is_some() {
                        self.guard.lacking.notify_one();
                    }
                    return Err(Short { tokens, duration });
                }
            }
        }
        Ok(())
    }

    /// The events that end the answer, if the account's verdict has become one that shuts
    /// it out: by a reload, by somebody's word, or because a step is over.
    pub fn shut_out(&mut self) -> Option<Bytes> {
        let guard = &self.guard;
        let version = guard.live.version();
        let is_over = self.followed.until.is_some_and(|until| until <= (guard.clock)());
        if version == self.followed.version && !is_over {
            return None;
        }
        let in_force = guard.live.now();
        let policy = in_force.table.policy();
        let verdict = in_force.table.decide(&self.owner.who(), (guard.clock)());
        self.followed = Followed { version, until: verdict.until };
        let refusal = shut_out(&verdict).filter(|_| policy.cut_streams)?;
        guard.metrics.cut.inc();
        Some(cut::refused(self.endpoint, refusal, &policy.appeal).into())
    }

    /// Records the end.
    pub fn end(&mut self, status: Option<u16>, measured: &Measured) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        let guard = &self.guard;
        if let Some(taken) = &self.taken {
            settle(taken, status, measured, guard.monotonic());
        }
        let digest = measured.response_digest.as_ref().map(digest_text);
        let ending = Ending {
            exchange_id: self.exchange_id.as_str().into(),
            status,
            response_model: measured.response_model.as_deref().map(Into::into),
            usage_input_tokens: measured.usage_input_tokens,
            usage_output_tokens: measured.usage_output_tokens,
            usage_reasoning_tokens: measured.usage_reasoning_tokens,
            response_finish_reason: measured.response_finish_reason.as_deref().map(Into::into),
            response_digest: digest.as_deref().map(Into::into),
        };
        guard.journal.end(self.sequence, &ending);
        let metrics = &guard.metrics;
        metrics.exchanges_open.dec();
        metrics.count_status(status);
        metrics.input_tokens.inc_by(measured.usage_input_tokens.unwrap_or(0).into());
        metrics.output_tokens.inc_by(measured.usage_output_tokens.unwrap_or(0).into());
        if measured.response_finish_reason.as_deref() == Some("aborted") {
            metrics.aborted.inc();
        }
        if let (Some(traces), Some(traced)) = (&guard.traces, self.traced.take()) {
            traces.end(*traced, status, measured, (guard.clock)());
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let reason = Some("aborted".to_owned());
        self.end(None, &Measured { response_finish_reason: reason, ..Measured::default() });
    }
}

/// Records the arrival of an exchange.
#[expect(clippy::too_many_arguments, reason = "they are the parts of one request, each used once")]
pub fn arrive(
    guard: &Arc<Guard>,
    endpoint: Endpoint,
    dialect: Dialect,
    headers: &HeaderMap,
    client: Option<IpAddr>,
    owner: &Owner,
    credential: Option<CredentialHash>,
    asked: &Asked<'_>,
) -> Underway {
    let sequence = guard.sequence.fetch_add(1, Ordering::Relaxed);
    let exchange_id = hex(&(u128::from(guard.run_id) << 64 | u128::from(sequence)).to_be_bytes());
    let user_agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).map(|text| {
        let end = text.floor_char_boundary(USER_AGENT_BYTES_MAX);
        text.get(..end).unwrap_or_default()
    });
    guard.journal.arrive(
        sequence,
        &Arrival {
            exchange_id: exchange_id.as_str().into(),
            time: (guard.clock)().0,
            account_id: owner.account_id.as_ref().into(),
            organization_id: owner.organization_id.as_deref().map(Into::into),
            credential_id: credential.map(|credential| credential.hex().into()),
            conversation_id: asked.conversation_id.as_deref().map(Into::into),
            turn: asked.turn,
            provider_name: Some(dialect.provider_name().into()),
            operation_name: endpoint.operation_name().map(Into::into),
            request_model: asked.request_model.as_deref().map(Into::into),
            system_instructions: asked.system_instructions.as_deref().map(Into::into),
            prompt: asked.prompt.as_ref().into(),
            request_temperature: asked.request_temperature,
            request_top_p: asked.request_top_p,
            request_max_tokens: asked.request_max_tokens,
            request_choice_count: asked.request_choice_count,
            request_seed: asked.request_seed,
            request_stream: asked.request_stream,
            request_top_logprobs: asked.request_top_logprobs,
            request_logit_bias_count: asked.request_logit_bias_count,
            request_reasoning: asked.request_reasoning.as_deref().map(Into::into),
            request_tool_count: asked.request_tool_count,
            client_address: client.map(|client| client.to_string().into()),
            user_agent: user_agent.map(Into::into),
        },
    );
    guard.metrics.exchanges_open.inc();
    let traces = guard.traces.as_ref();
    let traced =
        traces.map(|traces| traces.arrive(headers, endpoint, dialect, asked, (guard.clock)()));
    Underway {
        guard: Arc::clone(guard),
        sequence,
        exchange_id,
        taken: None,
        owner: owner.clone(),
        endpoint,
        followed: Followed::default(),
        traced,
        is_ended: false,
    }
}
