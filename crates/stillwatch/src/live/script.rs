//! What everybody says: the rows of a simulated world as requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BinaryViewArray, BooleanArray, PrimitiveArray, RecordBatch,
    StringViewArray,
};
use arrow::datatypes::{Float32Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use stillwatch_simulate::{World, WorldBatch};

use super::model::Wish;
use crate::failure::Failure;

/// A request, and what is true of it.
pub struct Line {
    /// Microseconds of event time.
    pub time: i64,
    pub key: String,
    pub address: String,
    pub user_agent: String,
    pub body: Bytes,
    pub wish: Wish,
    /// The campaign that it is harvested for, by its place in the world.
    pub harvest: Option<usize>,
    /// Whether the account is no campaign's.
    pub is_crowd: bool,
}

/// Who is who.
pub struct Truth {
    /// The campaigns' names, in the order of the world.
    pub campaigns: Vec<String>,
    /// The campaigns of the accounts that are one's.
    pub members: BTreeMap<String, usize>,
}

impl Truth {
    pub fn of(world: &World) -> Result<Self, Failure> {
        let table = world.truth_table()?;
        let (accounts, of) = (texts(&table, "account_id")?, texts(&table, "campaign")?);
        let pairs = accounts.iter().flatten().zip(of.iter());
        let pairs: Vec<_> = pairs.filter_map(|(account, name)| Some((account, name?))).collect();
        let names: BTreeSet<&str> = pairs.iter().map(|(_, name)| *name).collect();
        let campaigns: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let place = |name: &str| campaigns.iter().position(|known| known == name);
        let members = pairs
            .iter()
            .filter_map(|(account, name)| Some(((*account).to_owned(), place(name)?)))
            .collect();
        Ok(Truth { campaigns, members })
    }

    /// How many accounts a campaign has.
    pub fn size(&self, campaign: usize) -> usize {
        self.members.values().filter(|of| **of == campaign).count()
    }
}

/// The key that the clients of a credential send.
fn key_of(credential: &str) -> String {
    format!("sk-demo-{credential}")
}

/// The table of credentials that a guard reads: JSON Lines.
pub fn credentials(world: &World) -> Result<String, Failure> {
    let mut rows = BTreeMap::new();
    for batch in world.stream() {
        let batch = batch?.exchanges;
        let (keys, accounts) = (texts(&batch, "credential_id")?, texts(&batch, "account_id")?);
        let organizations = texts(&batch, "organization_id")?;
        for ((key, account), organization) in keys.iter().zip(accounts).zip(organizations) {
            if let (Some(key), Some(account)) = (key, account)
                && !rows.contains_key(key)
            {
                let hash = Sha256::digest(key_of(key).as_bytes()).iter().fold(
                    String::new(),
                    |mut text, byte| {
                        // Writing to a String can't fail.
                        let _ = write!(text, "{byte:02x}");
                        text
                    },
                );
                let row = json!({
                    "credential_hash": hash, "account_id": account,
                    "organization_id": organization,
                });
                rows.insert(key.to_owned(), row.to_string());
            }
        }
    }
    Ok(rows.into_values().fold(String::new(), |text, row| text + &row + "\n"))
}

/// The columns of some rows.
struct Rows<'a> {
    texts: BTreeMap<&'static str, &'a StringViewArray>,
    times: &'a PrimitiveArray<TimestampMicrosecondType>,
    turns: &'a PrimitiveArray<UInt16Type>,
    temperatures: &'a PrimitiveArray<Float32Type>,
    top_ps: &'a PrimitiveArray<Float32Type>,
    max_tokens: &'a PrimitiveArray<UInt32Type>,
    choices: &'a PrimitiveArray<UInt16Type>,
    seeds: &'a PrimitiveArray<Int64Type>,
    streams: &'a BooleanArray,
    top_logprobs: &'a PrimitiveArray<UInt16Type>,
    biases: &'a PrimitiveArray<UInt16Type>,
    tools: &'a PrimitiveArray<UInt16Type>,
    outputs: &'a PrimitiveArray<UInt32Type>,
    digests: &'a BinaryViewArray,
    statuses: &'a PrimitiveArray<UInt16Type>,
}

/// The texts that are read of a row.
const TEXTS: [&str; 8] = [
    "account_id",
    "credential_id",
    "conversation_id",
    "request_model",
    "system_instructions",
    "prompt",
    "request_reasoning",
    "client_address",
];

/// The requests of some rows, in their order.
pub fn lines(batch: &WorldBatch, truth: &Truth) -> Result<Vec<Line>, Failure> {
    let rows = Rows::of(&batch.exchanges)?;
    let agents = texts(&batch.exchanges, "user_agent")?;
    let campaigns = texts(&batch.truth, "campaign")?;
    (0..batch.exchanges.num_rows())
        .map(|row| {
            let account = rows.text("account_id", row).unwrap_or_default();
            let campaign = campaigns.is_valid(row).then(|| campaigns.value(row));
            let harvest =
                campaign.and_then(|name| truth.campaigns.iter().position(|known| known == name));
            let words = match rows.digests.is_valid(row).then(|| rows.digests.value(row)) {
                Some(digest) => {
                    digest.iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
                }
                None => 0,
            };
            Ok(Line {
                time: rows.times.value(row),
                key: key_of(rows.text("credential_id", row).unwrap_or_default()),
                address: rows.text("client_address", row).unwrap_or_default().to_owned(),
                user_agent: if agents.is_valid(row) { agents.value(row) } else { "" }.to_owned(),
                body: Bytes::from(rows.body(row).to_string()),
                wish: Wish {
                    status: value(rows.statuses, row).unwrap_or(200),
                    output_tokens: value(rows.outputs, row).unwrap_or(0),
                    words,
                },
                harvest,
                is_crowd: !truth.members.contains_key(account),
            })
        })
        .collect()
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, Failure> {
        let texts = TEXTS.into_iter().map(|name| Ok((name, texts(batch, name)?)));
        let wrong = |name: &str| Failure::Other(format!("a world has no column {name}"));
        let streams = batch.column_by_name("request_stream");
        let digests = batch.column_by_name("response_digest");
        Ok(Rows {
            texts: texts.collect::<Result<_, Failure>>()?,
            times: numbers(batch, "time")?,
            turns: numbers(batch, "turn")?,
            temperatures: numbers(batch, "request_temperature")?,
            top_ps: numbers(batch, "request_top_p")?,
            max_tokens: numbers(batch, "request_max_tokens")?,
            choices: numbers(batch, "request_choice_count")?,
            seeds: numbers(batch, "request_seed")?,
            streams: streams
                .and_then(|column| column.as_boolean_opt())
                .ok_or_else(|| wrong("request_stream"))?,
            top_logprobs: numbers(batch, "request_top_logprobs")?,
            biases: numbers(batch, "request_logit_bias_count")?,
            tools: numbers(batch, "request_tool_count")?,
            outputs: numbers(batch, "usage_output_tokens")?,
            digests: digests
                .and_then(|column| column.as_binary_view_opt())
                .ok_or_else(|| wrong("response_digest"))?,
            statuses: numbers(batch, "status")?,
        })
    }

    fn text(&self, name: &str, row: usize) -> Option<&'a str> {
        let column = self.texts.get(name)?;
        column.is_valid(row).then(|| column.value(row))
    }

    /// The request's body. Of earlier turns a world has nothing but their number.
    fn body(&self, row: usize) -> Value {
        let mut messages = Vec::new();
        if let Some(system) = self.text("system_instructions", row) {
            messages.push(json!({"role": "system", "content": system}));
        }
        for _ in 1..value(self.turns, row).unwrap_or(1) {
            messages.push(json!({"role": "user", "content": "…"}));
            messages.push(json!({"role": "assistant", "content": "…"}));
        }
        let prompt = self.text("prompt", row).unwrap_or_default();
        messages.push(json!({"role": "user", "content": prompt}));
        let mut body = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        let is_stream = self.streams.is_valid(row).then(|| self.streams.value(row));
        let top_logprobs = value(self.top_logprobs, row);
        let biases = value(self.biases, row).map(|count| {
            (0..count).map(|token| (token.to_string(), json!(-1))).collect::<Map<_, _>>().into()
        });
        let tools = value(self.tools, row).filter(|count| *count > 0).map(|count| {
            let tool = |number| {
                let function = json!({"name": format!("tool_{number}"), "parameters": {}});
                json!({"type": "function", "function": function})
            };
            (0..count).map(tool).collect::<Vec<_>>().into()
        });
        set("model", self.text("request_model", row).map(Into::into));
        set("messages", Some(messages.into()));
        set("temperature", value(self.temperatures, row).map(Into::into));
        set("top_p", value(self.top_ps, row).map(Into::into));
        set("max_tokens", value(self.max_tokens, row).map(Into::into));
        set("n", value(self.choices, row).map(Into::into));
        set("seed", value(self.seeds, row).map(Into::into));
        set("stream", is_stream.map(Into::into));
        set("stream_options", (is_stream == Some(true)).then(|| json!({"include_usage": true})));
        set("logprobs", top_logprobs.map(|_| true.into()));
        set("top_logprobs", top_logprobs.map(Into::into));
        set("logit_bias", biases);
        set("reasoning_effort", self.text("request_reasoning", row).map(Into::into));
        set("tools", tools);
        set("metadata", self.text("conversation_id", row).map(|id| json!({"conversation_id": id})));
        Value::Object(body)
    }
}

fn value<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringViewArray, Failure> {
    let column = batch.column_by_name(name).and_then(|column| column.as_string_view_opt());
    column.ok_or_else(|| Failure::Other(format!("a world has no column {name}")))
}

fn numbers<'a, T: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<&'a PrimitiveArray<T>, Failure> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt());
    column.ok_or_else(|| Failure::Other(format!("a world has no column {name}")))
}
