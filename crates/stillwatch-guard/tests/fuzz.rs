//! Fuzz targets for what is parsed of clients and upstreams: bodies and event streams.
//!
//! Each runs for a second as an ordinary test. For longer:
//! `BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test --release --workspace --test fuzz TARGET`;
//! a finding prints the seed that repeats it (`BOLERO_RANDOM_SEED`).

use bolero::TypeGenerator;
use bytes::Bytes;
use serde_json::Value;
use stillwatch_decide::{Cap, Policy};
use stillwatch_guard::fuzzing::{
    Answer, Asked, Cutter, Edit, Endpoint, Events, Holder, Measured, ReasoningKeys, Strictness,
    Thinner, edited, released,
};

const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::Chat,
    Endpoint::Responses,
    Endpoint::Completions,
    Endpoint::Embeddings,
    Endpoint::Messages,
];

/// A piece of a body or stream: what the parsers turn on, or any bytes.
#[derive(Clone, Debug, TypeGenerator)]
enum Piece {
    Token(u8),
    Bytes(Vec<u8>),
}

const TOKENS: &[&[u8]] = &[
    b"{", b"}", b"[", b"]", b",", b":", b"\"", b"null", b"true", b"-1", b"1e999", b"5.0", b"\"\\ud800\"",
    b"\n", b"\r", b"\r\n", b"\n\n", b"data: ", b"data", b": x\n", b"event: x\n", b"[DONE]",
    b"\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],", b"\"max_tokens\":9,", b"\"n\":2,",
    b"\"logprobs\":true,", b"\"logit_bias\":{\"1\":1},", b"\"thinking\":{\"budget_tokens\":99},",
    b"\"include\":[\"message.output_text.logprobs\"],", b"\"reasoning\":{\"summary\":\"auto\"},",
    b"\"max\\u005ftokens\":99,", b"\"x\":1}",
    b"\"messages\":[{\"content\":[{\"type\":\"thinking\",\"signature\":\"sw1.00000000000000000000000000000000000000.c2ln\"}]}],",
    b"\"input\":[{\"type\":\"reasoning\",\"encrypted_content\":\"s\\u00771.00000000000000000000000000000000000000.ZW5j\"}],",
    b"data: {\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning\":\"b\"},\"logprobs\":{}}]}\n\n",
    b"data: {\"type\":\"content_block_delta\",\"delta\":{\"thinking\":\"b\"}}\n\n",
    b"data: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"message\"}}\n\n",
    b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\n",
    b"data: {\"type\":\"content_block_start\",\"index\":1}\n\n",
    b"data: {\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
];

fn text(pieces: &[Piece]) -> Vec<u8> {
    let piece = |piece: &Piece| match piece {
        Piece::Token(token) => TOKENS[usize::from(*token) % TOKENS.len()].to_vec(),
        Piece::Bytes(bytes) => bytes.clone(),
    };
    pieces.iter().flat_map(piece).collect()
}

/// Whatever a body is: reading and editing it does not panic, an edited body keeps to
/// the cap, asks for nothing that is withheld, and editing it again changes nothing.
fn check_body(body: &[u8]) {
    let edit = Edit { cap: Some(Cap { output_tokens: 5, choices: 1 }), withhold: true };
    for endpoint in ENDPOINTS {
        let asked = Asked::read(endpoint, body);
        let once = edited(endpoint, body, edit);
        assert_eq!(asked.is_some(), once.is_some());
        let Some(once) = once else { continue };
        assert_eq!(edited(endpoint, &once, edit).unwrap(), once, "once is enough");
        let asked = Asked::read(endpoint, &once).unwrap();
        if endpoint != Endpoint::Embeddings {
            assert!(asked.request_max_tokens.is_some_and(|tokens| tokens <= 5), "{asked:?}");
            assert!(asked.request_choice_count.is_none_or(|count| count <= 1));
        }
        assert!(asked.request_top_logprobs.is_none() && asked.request_logit_bias_count.is_none());
    }
}

#[test]
fn fuzz_bodies() {
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| check_body(&text(pieces)));
}

#[test]
fn fuzz_bodies_that_begin_well() {
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| {
        let body = [b"{", &text(pieces)[..], b"\"x\":1}"].concat();
        check_body(&body);
    });
}

/// Whatever a body is: taking marks off does not panic, changes nothing where there is none,
/// and leaves one JSON object where there was one.
#[test]
fn fuzz_reasoning() {
    let keys = ReasoningKeys::parse(&"k".repeat(32)).unwrap();
    let holder = Holder { account_id: "a".into(), model: None, session: None };
    let lenient = Strictness { refuses_foreign: false, refuses_unbound: false };
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| {
        let body = [b"{", &text(pieces)[..], b"\"x\":1}"].concat();
        for endpoint in ENDPOINTS {
            let out = released(endpoint, &body, &keys, &holder, lenient).unwrap();
            let is_object = serde_json::from_slice::<Value>(&body).is_ok();
            assert!(!is_object || serde_json::from_slice::<Value>(&out).is_ok());
            let has_mark = body.windows(3).any(|part| part == b"sw1" || part == b"\\u0");
            assert!(has_mark || *out == body);
        }
    });
}

fn measure(endpoint: Endpoint, pieces: &[&[u8]]) -> Measured {
    let mut answer = Answer::new(endpoint, "text/event-stream");
    pieces.iter().for_each(|piece| answer.feed(&Bytes::copy_from_slice(piece)));
    answer.finish()
}

fn thin(endpoint: Endpoint, pieces: &[&[u8]]) -> Vec<u8> {
    let mut thinner = Thinner::new(endpoint, true);
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| out.extend(thinner.feed(piece).unwrap()));
    out.extend(thinner.finish().unwrap());
    out
}

/// What passes of a stream under a cap, and whether it was cut.
fn cut(endpoint: Endpoint, tokens_max: u64, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut cutter = Cutter::new(endpoint, Some(tokens_max));
    let mut out = Vec::new();
    for piece in pieces {
        cutter.feed(piece, |event, _| out.extend_from_slice(event)).unwrap();
    }
    let is_cut = cutter.is_cut();
    out.extend(cutter.finish());
    (out, is_cut)
}

/// Whatever a stream is and however it comes in pieces: under a cap the same passes, and
/// all of it where the cap is not reached.
#[test]
fn fuzz_capped_streams() {
    bolero::check!().with_type::<(Vec<Piece>, Vec<u16>, u8)>().for_each(|(pieces, cuts, most)| {
        let stream = text(pieces);
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| usize::from(*cut) * stream.len() / 65_536).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
        for endpoint in ENDPOINTS {
            let whole = cut(endpoint, u64::from(*most) / 32, &[&stream]);
            assert_eq!(cut(endpoint, u64::from(*most) / 32, &parts), whole);
            assert!(whole.1 || whole.0 == stream);
            // In one piece it passes as it is, or is one document still.
            let mut cutter = Cutter::of_document(endpoint, u64::from(*most) / 32);
            cutter.feed(&stream, |_, _| panic!("it is not whole yet")).unwrap();
            let document = cutter.finish();
            assert!(document == stream || serde_json::from_slice::<Value>(&document).is_ok());
        }
    });
}

/// Whatever a stream is and however it is cut: it is measured and thinned alike, and
/// what was thinned has no event with reasoning in it.
#[test]
fn fuzz_streams() {
    bolero::check!().with_type::<(Vec<Piece>, Vec<u16>)>().for_each(|(pieces, cuts)| {
        let stream = text(pieces);
        let mut cuts: Vec<usize> =
            cuts.iter().map(|cut| usize::from(*cut) * stream.len() / 65_536).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let cut: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
        for endpoint in ENDPOINTS {
            assert_eq!(measure(endpoint, &cut), measure(endpoint, &[&stream]));
            let thinned = thin(endpoint, &cut);
            assert_eq!(thinned, thin(endpoint, &[&stream]));
            if endpoint == Endpoint::Chat {
                let mut events = Events::default();
                let check = |event: &[u8]| {
                    let data = stillwatch_guard::fuzzing::data(event);
                    let Ok(value) = serde_json::from_slice::<Value>(&data) else { return };
                    assert!(value["choices"][0]["delta"].get("reasoning").is_none());
                };
                events.feed(&thinned, check).unwrap();
            }
        }
    });
}

#[test]
fn fuzz_documents() {
    bolero::check!().with_type::<Vec<Piece>>().for_each(|pieces| {
        let document = text(pieces);
        for endpoint in ENDPOINTS {
            let mut answer = Answer::new(endpoint, "application/json");
            answer.feed(&Bytes::copy_from_slice(&document));
            let _ = answer.finish();
            let mut thinner = Thinner::new(endpoint, false);
            thinner.feed(&document).unwrap();
            let is_object = serde_json::from_slice::<Value>(&document).is_ok_and(|v| v.is_object());
            let thinned = thinner.finish();
            assert!(!is_object || thinned.is_ok(), "an object can be thinned");
        }
    });
}

#[test]
fn fuzz_policies() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Err(error) = Policy::parse(&String::from_utf8_lossy(bytes)) {
            assert!(error.line >= 1 && !error.what.is_empty());
        }
    });
}
