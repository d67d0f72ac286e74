//! What a verdict changes in a request. Every other field stays as it was written.

use std::borrow::Cow;

use serde_json::value::RawValue;
use stillwatch_decide::Cap;

use crate::api::Endpoint;
use crate::json::{Fields, elements, text, whole};

/// What is to be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Shorter answers, and fewer at once.
    pub cap: Option<Cap>,
    /// No token probabilities, no biased tokens, no visible reasoning.
    pub withhold: bool,
}

/// Fields that ask for token probabilities or bias tokens: together they give away the
/// probabilities of all tokens, one by one (Carlini et al. 2024, arXiv 2403.06634).
const WITHHELD: &[&str] = &["logprobs", "top_logprobs", "logit_bias", "prompt_logprobs"];

/// An entry of `include` in a request for a response that asks for probabilities.
const INCLUDED_LOGPROBS: &str = "message.output_text.logprobs";

/// The body with the changes; borrowed where there are none, none where it is not one
/// JSON object.
#[must_use]
pub fn edited<'a>(endpoint: Endpoint, body: &'a [u8], edit: Edit) -> Option<Cow<'a, [u8]>> {
    let fields = Fields::parse(body)?;
    let mut changes = Changes::default();
    for (name, value) in &fields.0 {
        if edit.withhold && WITHHELD.contains(&name.as_ref()) {
            changes.drop(name);
        } else if edit.withhold && endpoint == Endpoint::Responses && name == "include" {
            if let Some(kept) = without_logprobs(value) {
                changes.set(name, kept);
            }
        } else if edit.withhold
            && endpoint == Endpoint::Responses
            && name == "reasoning"
            && let Some(kept) = without_fields(value, &["summary", "generate_summary"])
        {
            changes.set(name, kept);
        }
    }
    if let Some(cap) = edit.cap {
        set_cap(endpoint, &fields, cap, &mut changes);
    }
    Some(changes.applied(body, &fields))
}

fn set_cap(endpoint: Endpoint, fields: &Fields<'_>, cap: Cap, changes: &mut Changes) {
    let lengths: &[&str] = match endpoint {
        Endpoint::Chat => &["max_completion_tokens", "max_tokens"],
        Endpoint::Responses => &["max_output_tokens"],
        Endpoint::Completions | Endpoint::Messages => &["max_tokens"],
        Endpoint::Embeddings | Endpoint::Other => return,
    };
    let tokens = u64::from(cap.output_tokens);
    let mut said = false;
    for (name, value) in &fields.0 {
        let name = name.as_ref();
        if lengths.contains(&name) {
            // Null is no limit.
            said |= value.get() != "null";
            bound(name, value, tokens, changes);
        } else if matches!(name, "n" | "best_of") && value.get() != "null" {
            bound(name, value, cap.choices.into(), changes);
        } else if name == "thinking" && endpoint == Endpoint::Messages {
            // The API wants a budget for thinking to be less than the whole.
            let budget = Fields::of(value).and_then(|thinking| thinking.get("budget_tokens"));
            if budget.and_then(whole).is_some_and(|budget| budget >= tokens) {
                changes.drop(name);
            }
        }
    }
    if !said && let Some(length) = lengths.first() {
        changes.set(length, tokens.to_string());
    }
}

fn bound(name: &str, value: &RawValue, most: u64, changes: &mut Changes) {
    if whole(value).is_none_or(|asked| asked > most) {
        changes.set(name, most.to_string());
    }
}

/// An array of texts without the entry for token probabilities; none if it has none.
fn without_logprobs(value: &RawValue) -> Option<String> {
    let entries = elements(value);
    let is_kept = |entry: &&&RawValue| text(entry).is_none_or(|text| text != INCLUDED_LOGPROBS);
    let kept: Vec<&str> = entries.iter().filter(is_kept).map(|entry| entry.get()).collect();
    (kept.len() < entries.len()).then(|| format!("[{}]", kept.join(",")))
}

/// An object without some fields; none if it has none of them.
fn without_fields(value: &RawValue, names: &[&str]) -> Option<String> {
    let fields = Fields::of(value)?;
    let mut changes = Changes::default();
    names.iter().for_each(|name| changes.drop(name));
    match changes.applied(value.get().as_bytes(), &fields) {
        Cow::Borrowed(_) => None,
        Cow::Owned(bytes) => String::from_utf8(bytes).ok(),
    }
}

/// New values for the fields of an object, or that they go.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<(String, Option<String>)>);

impl Changes {
    /// The field gets a value: a piece of JSON. It is added where there is none.
    pub fn set(&mut self, name: &str, value: String) {
        self.0.push((name.to_owned(), Some(value)));
    }

    /// The field goes.
    pub fn drop(&mut self, name: &str) {
        self.0.push((name.to_owned(), None));
    }

    /// The object with the changes. A field that is there twice is changed twice, since
    /// parsers differ in which of them counts.
    pub fn applied<'a>(&self, object: &'a [u8], fields: &Fields<'_>) -> Cow<'a, [u8]> {
        let change = |name: &str| self.0.iter().rev().find(|(changed, _)| changed == name);
        let is_there = |name: &str| fields.0.iter().any(|(there, _)| there == name);
        let added = self.0.iter().filter(|(name, value)| value.is_some() && !is_there(name));
        let is_same = fields.0.iter().all(|(name, value)| match change(name) {
            None => true,
            Some((_, new)) => new.as_deref() == Some(value.get()),
        });
        if is_same && added.clone().next().is_none() {
            return Cow::Borrowed(object);
        }
        let mut out = Vec::with_capacity(object.len() + 64);
        out.push(b'{');
        let mut put = |name: &str, value: &str| {
            if out.len() > 1 {
                out.push(b',');
            }
            // A name is a text, which always becomes JSON.
            out.extend(serde_json::to_vec(name).unwrap_or_default());
            out.push(b':');
            out.extend_from_slice(value.as_bytes());
        };
        for (name, value) in &fields.0 {
            match change(name) {
                None => put(name, value.get()),
                Some((_, Some(new))) => put(name, new),
                Some((_, None)) => {}
            }
        }
        for (name, value) in added {
            put(name, value.as_deref().unwrap_or("null"));
        }
        out.push(b'}');
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Edit = Edit { cap: Some(Cap { output_tokens: 50, choices: 1 }), withhold: false };
    const WITHHOLD: Edit = Edit { cap: None, withhold: true };

    #[track_caller]
    fn check(endpoint: Endpoint, edit: Edit, body: &str, expected: &str) {
        let edited = edited(endpoint, body.as_bytes(), edit).unwrap();
        assert_eq!(std::str::from_utf8(&edited).unwrap(), expected);
        assert_eq!(body == expected, matches!(edited, Cow::Borrowed(_)));
    }

    #[test]
    fn a_cap_is_a_bound_and_no_wish() {
        let chat = Endpoint::Chat;
        check(chat, CAP, r#"{ "max_tokens": 20, "x": 1 }"#, r#"{ "max_tokens": 20, "x": 1 }"#);
        check(chat, CAP, r#"{"max_tokens":200,"x": [ 1 ]}"#, r#"{"max_tokens":50,"x":[ 1 ]}"#);
        check(chat, CAP, r#"{"x":1}"#, r#"{"x":1,"max_completion_tokens":50}"#);
        check(
            chat,
            CAP,
            r#"{"max_tokens":null,"n":9}"#,
            r#"{"max_tokens":50,"n":1,"max_completion_tokens":50}"#,
        );
        check(
            chat,
            CAP,
            r#"{"max_tokens":1,"max_tokens":99}"#,
            r#"{"max_tokens":50,"max_tokens":50}"#,
        );
        check(chat, CAP, r#"{"max\u005ftokens":"99"}"#, r#"{"max_tokens":50}"#);
        check(Endpoint::Responses, CAP, "{}", r#"{"max_output_tokens":50}"#);
        check(Endpoint::Completions, CAP, r#"{"best_of":3}"#, r#"{"best_of":1,"max_tokens":50}"#);
        check(
            Endpoint::Messages,
            CAP,
            r#"{"max_tokens":99,"thinking":{"budget_tokens":60}}"#,
            r#"{"max_tokens":50}"#,
        );
        check(Endpoint::Embeddings, CAP, r#"{"input":"x"}"#, r#"{"input":"x"}"#);
    }

    #[test]
    fn what_is_withheld_is_not_asked_for() {
        check(
            Endpoint::Chat,
            WITHHOLD,
            r#"{"logprobs":true,"top_logprobs":5,"logit_bias":{"1":-100},"seed":1e400}"#,
            r#"{"seed":1e400}"#,
        );
        check(
            Endpoint::Responses,
            WITHHOLD,
            r#"{"include":["message.output_text.logprobs","x"],"reasoning":{"effort":"low","summary":"auto"}}"#,
            r#"{"include":["x"],"reasoning":{"effort":"low"}}"#,
        );
        check(Endpoint::Responses, WITHHOLD, r#"{"include":["x"]}"#, r#"{"include":["x"]}"#);
        assert!(edited(Endpoint::Chat, b"\x1f\x8b", WITHHOLD).is_none());
    }
}
