//! Recognises a format by content: Parquet by its magic bytes, the others by the
//! keys of the first JSON object.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde_json::value::RawValue;

use crate::records::{Layout, Line, Lines, decompressed, document_records};
use crate::storage::Stored;
use crate::table::{Format, Table};
use crate::validity;

/// Decompressed bytes looked at for a first object: the longest line, and some.
const BYTES_MAX: u64 = validity::BATCH_LINE_BYTES_MAX as u64 + (32 << 20);
/// Lines looked at for a first object.
const LINES_MAX: usize = 32;
/// Bytes looked at for a NUL, which no JSON has and most other files do.
const HEAD_BYTES: usize = 4096;

/// Bytes of a streamed response in which its first event says its kind.
const STREAM_BYTES: usize = 512;

/// What a file looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    Parquet,
    Text(Format, Layout),
    /// JSON that is exchanges where another table is wanted.
    Exchanges,
    /// JSON of no known kind.
    UnknownJson,
    Unknown,
    Empty,
}

/// Looks into a file. With a format given, only the layout is found out.
pub(crate) fn look(stored: &Stored, table: Table, format: Option<Format>) -> io::Result<Looks> {
    if stored.size == 0 {
        return Ok(Looks::Empty);
    }
    if format == Some(Format::Parquet) {
        return Ok(Looks::Parquet);
    }
    look_at(stored.sequential()?, table, format)
}

pub(crate) fn look_at(
    reader: Box<dyn Read + Send>,
    table: Table,
    format: Option<Format>,
) -> io::Result<Looks> {
    let mut reader = decompressed(reader)?.take(BYTES_MAX);
    let mut head = Vec::new();
    reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(Looks::Empty);
    }
    if format.is_none() {
        if head.starts_with(b"PAR1") || head.starts_with(b"PARE") {
            return Ok(Looks::Parquet);
        }
        if head.contains(&0) {
            return Ok(Looks::Unknown);
        }
    }
    let whole = io::Cursor::new(head).chain(reader);
    let mut lines = Lines::new(Box::new(whole), validity::BATCH_LINE_BYTES_MAX);
    let mut first = Vec::new();
    for number in 0..LINES_MAX {
        let Some(line) = lines.next()? else {
            return Ok(if number == 0 { Looks::Empty } else { Looks::Unknown });
        };
        let Line::Whole(line) = line else { continue };
        let layout = if number == 0 { Layout::of_first_line(line) } else { Layout::Lines };
        if let Some(format) = format {
            return Ok(Looks::Text(format, layout));
        }
        if layout == Layout::Document {
            first.extend_from_slice(line);
            return document_looks(first, lines, table);
        }
        if let Ok(keys) = serde_json::from_slice::<Keys>(line) {
            return Ok(looks(&keys, table, Layout::Lines));
        }
    }
    Ok(Looks::Unknown)
}

fn document_looks(mut text: Vec<u8>, mut lines: Lines, table: Table) -> io::Result<Looks> {
    while text.len() <= validity::DOCUMENT_BYTES_MAX
        && let Some(Line::Whole(line)) = lines.next()?
    {
        text.push(b'\n');
        text.extend_from_slice(line);
    }
    let text = String::from_utf8_lossy(&text);
    let (records, _) = document_records(&text);
    let keys = records.first().and_then(|r| serde_json::from_str::<Keys>(r.get()).ok());
    Ok(match keys {
        Some(keys) => looks(&keys, table, Layout::Document),
        None => Looks::Unknown,
    })
}

/// An object's keys with their values unread.
type Keys<'a> = BTreeMap<String, &'a RawValue>;

/// What an object says that its file is. Exchanges have what is required of accounts; an
/// account has no prompt at a time.
fn looks(keys: &Keys<'_>, table: Table, layout: Layout) -> Looks {
    let has = |key: &str| keys.contains_key(key);
    let is_another = table != Table::Exchanges;
    if is_another && has("time") && (has("prompt") || has("prompt_sketch")) {
        return Looks::Exchanges;
    }
    match recognise(keys, table) {
        Some(format) => Looks::Text(format, layout),
        None if is_another && recognise(keys, Table::Exchanges).is_some() => Looks::Exchanges,
        None => Looks::UnknownJson,
    }
}

/// The format that an object is a record of.
fn recognise(keys: &Keys<'_>, table: Table) -> Option<Format> {
    let has = |key: &str| keys.contains_key(key);
    let columns = table.columns();
    // The envelope of a raw request may name its columns as the contract does.
    let is_pair = has("request") && !has("prompt") && !has("prompt_sketch");
    if !is_pair && columns.iter().filter(|c| c.required).all(|c| has(c.name)) {
        return Some(Format::JsonLines);
    }
    if table != Table::Exchanges {
        return None;
    }
    let inner = |key: &str| {
        let value = keys.get(key)?;
        serde_json::from_str::<Keys>(value.get()).ok()
    };
    let says = |key: &str, text: &str| {
        keys.get(key).is_some_and(|value| value.get().trim_matches('"') == text)
    };
    if ["resourceSpans", "resourceLogs", "resource_spans", "resource_logs"].iter().any(|k| has(k)) {
        return Some(Format::OpenTelemetry);
    }
    if says("schemaType", "ModelInvocationLog")
        || (has("modelId") && has("input") && has("requestId"))
    {
        return Some(Format::Bedrock);
    }
    let litellm_metadata =
        || inner("metadata").is_some_and(|m| m.contains_key("user_api_key_hash"));
    if has("startTime") && (has("call_type") || has("model_map_information") || litellm_metadata())
    {
        return Some(Format::LiteLlm);
    }
    if has("request") {
        return Some(style(inner("request"), inner("response"), keys));
    }
    None
}

/// Which of the two API styles a pair of request and response is of.
fn style(request: Option<Keys<'_>>, response: Option<Keys<'_>>, envelope: &Keys<'_>) -> Format {
    let has =
        |keys: &Option<Keys<'_>>, key: &str| keys.as_ref().is_some_and(|k| k.contains_key(key));
    let provider = ["provider_name", "provider"]
        .iter()
        .find_map(|key| envelope.get(*key))
        .map(|value| value.get().to_ascii_lowercase());
    let model = request.as_ref().and_then(|r| r.get("model")).map(|m| m.get());
    // A stream, as a text or a list, begins with its kind.
    let begins_as_message = envelope.get("response").is_some_and(|raw| {
        let raw = raw.get();
        !raw.starts_with('{')
            && raw
                .get(..raw.floor_char_boundary(STREAM_BYTES))
                .is_some_and(|head| head.contains("message_start"))
    });
    let anthropic = has(&response, "stop_reason")
        || begins_as_message
        || has(&request, "system")
        || has(&request, "anthropic_version")
        || has(&request, "thinking")
        || provider.is_some_and(|p| p.contains("anthropic"))
        || (!has(&response, "choices") && model.is_some_and(|m| m.contains("claude")));
    if anthropic { Format::Anthropic } else { Format::OpenAi }
}
