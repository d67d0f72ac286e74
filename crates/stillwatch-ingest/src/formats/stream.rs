//! A response that was logged as it was streamed: as the text of server-sent events
//! (WHATWG HTML, section 9.2), or as a list of them.

use serde_json::{Map, Value, json};

use super::body::{at, content};

/// The events of a text; none where it is no such text.
pub(crate) fn events(text: &str) -> Option<Value> {
    let mut all = Vec::new();
    let mut data = String::new();
    for line in text.lines().chain([""]) {
        if let Some(value) = line.strip_prefix("data:") {
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(value.strip_prefix(' ').unwrap_or(value));
        } else if line.is_empty() && !data.is_empty() {
            // The last one of OpenAI's says `[DONE]`.
            all.extend(serde_json::from_str::<Value>(&data).ok());
            data.clear();
        }
    }
    (!all.is_empty()).then_some(Value::Array(all))
}

/// A list of events without what loggers put around each: its own text, or `{ "event": …,
/// "data": … }`.
pub(crate) fn unwrapped(list: &[Value]) -> Vec<Value> {
    let one = |event: &Value| -> Vec<Value> {
        let data = match event {
            Value::String(_) => event,
            Value::Object(fields) if !is_event(fields) => fields.get("data").unwrap_or(event),
            _ => event,
        };
        let Value::String(text) = data else { return vec![data.clone()] };
        match serde_json::from_str(text).ok().or_else(|| events(text)) {
            Some(Value::Array(several)) => several,
            Some(one) => vec![one],
            None => Vec::new(),
        }
    };
    list.iter().flat_map(one).collect()
}

fn is_event(fields: &Map<String, Value>) -> bool {
    ["type", "choices", "object", "delta"].iter().any(|key| fields.contains_key(*key))
}

/// What an OpenAI-style stream (Chat Completions, Completions, Responses) says in all, in
/// the shape of an answer that came in one piece, with its first choice.
pub(crate) fn folded(events: &[Value]) -> Value {
    let mut answer = Map::new();
    let mut text = String::new();
    let mut reason = Value::Null;
    for event in events {
        // The first and the last events of a Responses stream hold it as it stands.
        if let Some(Value::Object(response)) = event.get("response") {
            for (name, value) in response {
                if !value.is_null() {
                    answer.insert(name.clone(), value.clone());
                }
            }
        }
        if event.get("type").and_then(Value::as_str) == Some("response.output_text.delta") {
            text.extend(event.get("delta").and_then(Value::as_str));
        }
        for name in ["id", "model", "created", "usage"] {
            // The last word on usage comes last, after chunks where it is null.
            if let Some(value) = event.get(name).filter(|value| !value.is_null()) {
                answer.insert(name.to_owned(), value.clone());
            }
        }
        for choice in event.get("choices").and_then(Value::as_array).into_iter().flatten() {
            if choice.get("index").and_then(Value::as_u64).unwrap_or(0) != 0 {
                continue;
            }
            let delta = at(choice, "delta.content").or(choice.get("text"));
            text.extend(delta.and_then(content));
            if let Some(said) = choice.get("finish_reason").filter(|said| !said.is_null()) {
                reason = said.clone();
            }
        }
    }
    let has_output =
        answer.get("output").and_then(Value::as_array).is_some_and(|output| !output.is_empty());
    if !has_output {
        // A Responses stream that broke off has a status, which is no reason of a choice.
        if reason.is_null() {
            reason = at(&Value::Object(answer.clone()), "incomplete_details.reason")
                .cloned()
                .unwrap_or_default();
        }
        let choice = json!({ "finish_reason": reason, "message": { "content": text } });
        answer.insert("choices".to_owned(), Value::Array(vec![choice]));
    }
    Value::Object(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_what_its_events_add_up_to() {
        let text = "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\n\n\
            : ping\r\n\r\nevent: x\ndata: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"no\"}},\n\
            data: {\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"length\"}]}\n\n\
            data: {\"choices\":[],\"usage\":{\"completion_tokens\":5}}\n\ndata: [DONE]\n\n";
        let Some(Value::Array(all)) = events(text) else { panic!("no events") };
        let answer = folded(&all);
        let choice = json!({ "finish_reason": "length", "message": { "content": "Hello" } });
        let expected = json!({ "id": "c1", "model": "m", "usage": { "completion_tokens": 5 }, "choices": [choice] });
        assert_eq!(answer, expected);
        // The same, however it was logged.
        let lists = [
            json!(text.split("\n\n").collect::<Vec<_>>()),
            json!(all.iter().map(Value::to_string).collect::<Vec<_>>()),
            json!(all.iter().map(|data| json!({ "event": "x", "data": data })).collect::<Vec<_>>()),
        ];
        for list in lists {
            assert_eq!(folded(&unwrapped(list.as_array().unwrap())), expected);
        }
        assert_eq!(events("Hello"), None);
        assert_eq!(events("data: [DONE]\n\n"), None);
    }

    #[test]
    fn responses_end_with_themselves() {
        let begun = json!({ "type": "response.created", "response": { "id": "r", "model": "m", "status": "in_progress", "output": [], "usage": null } });
        let delta = json!({ "type": "response.output_text.delta", "delta": "Hi" });
        let ended = json!({ "type": "response.completed", "response": { "status": "completed", "output": [{ "type": "message" }], "usage": { "output_tokens": 2 } } });
        let whole = folded(&[begun.clone(), delta.clone(), ended]);
        assert_eq!(whole["status"], "completed");
        assert_eq!((&whole["usage"]["output_tokens"], whole.get("choices")), (&json!(2), None));
        let broken = folded(&[begun, delta]);
        assert_eq!(broken["choices"][0]["message"]["content"], "Hi");
        assert_eq!(broken["choices"][0]["finish_reason"], Value::Null);
    }
}
