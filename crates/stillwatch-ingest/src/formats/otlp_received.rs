//! Exports that are received instead of read: what of them is an exchange, each as an
//! export of its own, so that it can be written down on a line and known when it is sent
//! again.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::body::at;
use super::otlp::{Attributes, KINDS, array, attributes, map};
use super::otlp_messages::{CallId, message};
use crate::discovery::Options;
use crate::problems::{FileProblem, RefusedCounts};
use crate::read::Projection;
use crate::rows::RowBuilder;
use crate::table::Table;
use crate::text::Naming;

/// What an export holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Calls of a model, with those that a reader will refuse: it counts them.
    pub exchanges: Vec<ReceivedExchange>,
    /// Records that are something else, such as spans of a database.
    pub passed_over: u64,
    /// What of the exchanges will be refused, by reason.
    pub refused: RefusedCounts,
}

/// One exchange, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedExchange {
    /// The same for what is sent again: half of the line's SHA-256.
    pub id: u128,
    /// OTLP JSON with a newline at its end, in [`crate::Format::OpenTelemetry`].
    pub line: Vec<u8>,
}

impl ReceivedExchange {
    /// The exchange of a line.
    #[must_use]
    pub fn of(line: Vec<u8>) -> Self {
        let hash = Sha256::digest(&line);
        let half = hash.first_chunk::<16>().copied().unwrap_or_default();
        ReceivedExchange { id: u128::from_le_bytes(half), line }
    }
}

/// Exchanges on their way to where they are written down.
pub struct Delivery {
    pub exchanges: Vec<ReceivedExchange>,
    /// Called once: whether they are on the disk.
    pub done: Box<dyn FnOnce(bool) + Send>,
}

/// Divides an export of OTLP JSON (`ExportTraceServiceRequest` or
/// `ExportLogsServiceRequest`) into its exchanges.
///
/// # Errors
/// None that an export can cause.
pub fn received(export: &Value, options: &Options) -> Result<Received, FileProblem> {
    let naming = Naming { account_attributes: options.account_attributes.clone() };
    let mut exports: Vec<Value> = Vec::new();
    let mut calls: HashMap<CallId, usize> = HashMap::new();
    let mut all = Received::default();
    for (resources, scopes, records) in KINDS {
        for resource in array(export.get(resources)) {
            let shared = attributes(at(resource, "resource.attributes"));
            for record in array(resource.get(scopes)).iter().flat_map(|s| array(s.get(records))) {
                let own = attributes(record.get("attributes"));
                let call = message(record, &own).map(|(call, _)| call);
                if let Some(place) = call.as_ref().and_then(|call| calls.get(call)) {
                    if let Some(export) = exports.get_mut(*place) {
                        join(export, [resources, scopes, records], record);
                    }
                    continue;
                }
                if call.is_none() && !Attributes::of(record, &shared).is_call() {
                    all.passed_over += 1;
                    continue;
                }
                if let Some(call) = call {
                    calls.insert(call, exports.len());
                }
                exports.push(alone(resource, [resources, scopes, records], record));
            }
        }
    }
    let mut rows = RowBuilder::new(Projection::new("otlp", Table::Exchanges, &[])?, None);
    for export in &exports {
        map(export, &naming, &mut rows);
        let mut line = serde_json::to_vec(export).map_err(|e| FileProblem::new("otlp", e))?;
        line.push(b'\n');
        all.exchanges.push(ReceivedExchange::of(line));
    }
    while let Some(batch) = rows.take_full().or_else(|| rows.take_rest()) {
        all.refused.merge(&batch.map_err(|e| FileProblem::new("otlp", e))?.refused);
    }
    Ok(all)
}

/// An export of one record.
fn alone(resource: &Value, names: [&str; 3], record: &Value) -> Value {
    let [resources, scopes, records] = names;
    let one = |name: &str, value: Value| {
        let mut object = Map::new();
        object.insert(name.to_owned(), Value::Array(vec![value]));
        object
    };
    let scope = one(records, record.clone());
    let mut of_resource = one(scopes, Value::Object(scope));
    if let Some(attributes) = at(resource, "resource.attributes") {
        of_resource.insert("resource".to_owned(), json!({ "attributes": attributes }));
    }
    Value::Object(one(resources, Value::Object(of_resource)))
}

/// Adds a record to an export of [`alone`].
fn join(export: &mut Value, names: [&str; 3], record: &Value) {
    let [resources, scopes, records] = names;
    let place = export
        .get_mut(resources)
        .and_then(|list| list.get_mut(0)?.get_mut(scopes)?.get_mut(0)?.get_mut(records));
    if let Some(Value::Array(list)) = place {
        list.push(record.clone());
    }
}
