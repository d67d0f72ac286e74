//! Reads a page as a browser's tokenizer does.
#![allow(dead_code, reason = "each test uses a part of it")]

use html5gum::{DefaultEmitter, Token, Tokenizer};

/// What a page consists of.
#[derive(Default)]
pub struct Reading {
    /// Every tag with the names of its attributes, in order: what text from the data
    /// must not be able to change.
    pub skeleton: Vec<String>,
    /// The text that a reader sees, a line for each block.
    pub text: String,
    /// The contents of `<script type="application/json">`, in order.
    pub data: Vec<String>,
    /// The contents of the scripts that run.
    pub scripts: Vec<String>,
    /// The ids of elements, in order.
    pub ids: Vec<String>,
    /// Where links lead.
    pub links: Vec<String>,
    /// The levels of the headings, in order.
    pub headings: Vec<u8>,
    /// The text alternatives of the charts.
    pub alternatives: Vec<String>,
}

const INLINE: [&str; 7] = ["a", "b", "code", "em", "span", "strong", "bdi"];

pub fn read(page: &str) -> Reading {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut reading = Reading::default();
    let (mut raw, mut is_data) = (None::<String>, false);
    let (mut line, mut held) = (String::new(), String::new());
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let token = token.unwrap();
        match token {
            Token::StartTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                let get = |key: &str| {
                    tag.attributes
                        .iter()
                        .find(|(k, _)| k.as_slice() == key.as_bytes())
                        .map(|(_, v)| String::from_utf8_lossy(v).into_owned())
                };
                let names: Vec<_> = tag
                    .attributes
                    .keys()
                    .map(|k| String::from_utf8_lossy(k).into_owned())
                    .collect();
                reading.skeleton.push(format!("<{name} {}", names.join(" ")));
                reading.ids.extend(get("id"));
                reading.links.extend(get("href"));
                reading.links.extend(get("src"));
                if get("class").as_deref() == Some("chart") {
                    reading.alternatives.push(get("aria-label").unwrap_or_default());
                }
                if let Some(level @ b'1'..=b'6') =
                    name.strip_prefix('h').and_then(|rest| rest.bytes().next())
                {
                    reading.headings.push(level - b'0');
                }
                if name == "script" || name == "style" || name == "title" {
                    is_data = get("type").as_deref() == Some("application/json");
                    raw = Some(name);
                    held.clear();
                } else if !INLINE.contains(&name.as_str()) {
                    end_line(&mut line, &mut reading.text);
                }
            }
            Token::EndTag(tag) => {
                let name = String::from_utf8_lossy(&tag.name).into_owned();
                reading.skeleton.push(format!("</{name}"));
                if raw.take_if(|raw| *raw == name).is_some() {
                    match (name.as_str(), is_data) {
                        ("script", true) => reading.data.push(std::mem::take(&mut held)),
                        ("script", false) => reading.scripts.push(std::mem::take(&mut held)),
                        _ => {}
                    }
                } else if !INLINE.contains(&name.as_str()) {
                    end_line(&mut line, &mut reading.text);
                }
            }
            Token::String(text) => {
                let text = String::from_utf8_lossy(&text);
                if raw.is_some() { held.push_str(&text) } else { line.push_str(&text) }
            }
            Token::Comment(_) => reading.skeleton.push("<!--".to_owned()),
            Token::Doctype(_) => reading.skeleton.push("<!doctype".to_owned()),
            Token::Error(_) => {}
        }
    }
    end_line(&mut line, &mut reading.text);
    reading
}

fn end_line(line: &mut String, text: &mut String) {
    let words: Vec<&str> = line.split_whitespace().collect();
    if !words.is_empty() {
        text.push_str(&words.join(" "));
        text.push('\n');
    }
    line.clear();
}
