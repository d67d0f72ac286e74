//! One row of each input table, borrowed from wherever it was read.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::time::Time;

/// One request to a model and the answer it got; the fields are the columns of
/// the contract, `None` where the source did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Exchange<'a> {
    pub exchange_id: Option<&'a str>,
    pub time: Time,
    pub account_id: &'a str,
    pub organization_id: Option<&'a str>,
    pub credential_id: Option<&'a str>,
    pub conversation_id: Option<&'a str>,
    pub turn: Option<u16>,
    pub provider_name: Option<&'a str>,
    pub operation_name: Option<&'a str>,
    pub request_model: Option<&'a str>,
    pub response_model: Option<&'a str>,
    pub route: Option<&'a str>,
    pub system_instructions: Option<&'a str>,
    pub prompt: Option<&'a str>,
    pub prompt_sketch: Option<&'a [u8]>,
    pub request_temperature: Option<f32>,
    pub request_top_p: Option<f32>,
    pub request_max_tokens: Option<u32>,
    pub request_choice_count: Option<u16>,
    pub request_seed: Option<i64>,
    pub request_stream: Option<bool>,
    pub request_top_logprobs: Option<u16>,
    pub request_logit_bias_count: Option<u16>,
    pub request_reasoning: Option<&'a str>,
    pub request_tool_count: Option<u16>,
    pub usage_input_tokens: Option<u32>,
    pub usage_output_tokens: Option<u32>,
    pub usage_reasoning_tokens: Option<u32>,
    pub response_finish_reason: Option<&'a str>,
    pub response_digest: Option<&'a [u8]>,
    pub status: Option<u16>,
    pub client_address: Option<&'a str>,
    pub client_network: Option<&'a str>,
    pub client_asn: Option<u32>,
    pub client_country: Option<&'a str>,
    pub tls_fingerprint: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub cost_usd: Option<f64>,
}

impl Exchange<'_> {
    /// The columns that [`Exchange::content_id`] is made from.
    pub const CONTENT_COLUMNS: &'static [&'static str] = &[
        "time",
        "account_id",
        "credential_id",
        "conversation_id",
        "turn",
        "request_model",
        "response_model",
        "system_instructions",
        "prompt",
        "prompt_sketch",
    ];

    /// An id for an exchange whose source gave it none: 32 lower-case hex digits,
    /// the first half of a SHA-256 over [`Exchange::CONTENT_COLUMNS`].
    ///
    /// Each field is preceded by its length, so that no two different exchanges read
    /// the same. The sketch counts only where there is no text. The id depends on
    /// the row's content alone, never on its place in a file: rows with equal
    /// content have equal ids.
    #[must_use]
    pub fn content_id(&self) -> String {
        let mut hash = Sha256::new();
        let mut field = |bytes: Option<&[u8]>| {
            // No field can be u64::MAX bytes long, so that length stands for «absent».
            let length = bytes.map_or(u64::MAX, |b| b.len() as u64);
            hash.update(length.to_le_bytes());
            hash.update(bytes.unwrap_or_default());
        };
        field(Some(&self.time.0.to_le_bytes()));
        field(Some(self.account_id.as_bytes()));
        field(self.credential_id.map(str::as_bytes));
        field(self.conversation_id.map(str::as_bytes));
        field(self.turn.map(u16::to_le_bytes).as_ref().map(<[u8; 2]>::as_slice));
        field(self.request_model.map(str::as_bytes));
        field(self.response_model.map(str::as_bytes));
        field(self.system_instructions.map(str::as_bytes));
        field(self.prompt.map(str::as_bytes));
        field(if self.prompt.is_some() { None } else { self.prompt_sketch });
        hash.finalize().iter().take(16).fold(String::with_capacity(32), |mut id, byte| {
            // Writing to a String can't fail.
            let _ = write!(id, "{byte:02x}");
            id
        })
    }
}

/// What is known of an account beside its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    pub account_id: String,
    pub organization_id: Option<String>,
    pub created_at: Option<Time>,
    /// When it was closed or banned; `None` while it is open.
    pub closed_at: Option<Time>,
    pub closed_reason: Option<String>,
    /// The payment processor's token for the instrument.
    pub payment_fingerprint: Option<String>,
    pub email_domain: Option<String>,
    /// `none`, `email`, `phone`, `card` or `organization`.
    pub verification: Option<String>,
    pub plan: Option<String>,
}

/// When a model became available.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    pub released_at: Time,
    pub model: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_id_is_stable_and_tells_neighbouring_fields_apart() {
        let exchange = Exchange {
            time: Time(1_772_323_506_000_000),
            account_id: "acct_1",
            prompt: Some("What is 2+2?"),
            ..Exchange::default()
        };
        let id = exchange.content_id();
        assert_eq!(id, "f8b5d865290af2ace39655e8d5cb2866");

        let moved = Exchange { account_id: "acct_", credential_id: Some("1"), ..exchange };
        assert_ne!(moved.content_id(), id);
        let empty = Exchange { credential_id: Some(""), ..exchange };
        assert_ne!(empty.content_id(), id, "empty and absent differ");
        let sketched = Exchange { prompt_sketch: Some(b"\x01"), ..exchange };
        assert_eq!(sketched.content_id(), id, "the sketch counts only without text");
        let billed = Exchange { cost_usd: Some(1.0), ..exchange };
        assert_eq!(billed.content_id(), id, "what is not content does not count");
    }
}
