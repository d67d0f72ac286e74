//! Clients as people have them, through a guard: the official Python clients and LiteLLM,
//! which need Python with their packages, and the official one for Node. `.ci/run` installs
//! them; elsewhere a test says that it skips.

use std::io;
use std::process::{Command, Output};

use crate::setting::{Act, Mock, Seen, World, chunk, chunked_head, last_chunk, plain};

/// The Python to use: `STILLWATCH_TEST_PYTHON`, or the system's.
fn python() -> String {
    std::env::var("STILLWATCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// The folder below which Node finds its packages.
fn node_folder() -> String {
    std::env::var("STILLWATCH_TEST_NODE").unwrap_or_else(|_| ".".to_owned())
}

/// Runs a program while the guard and the mock go on.
async fn run(program: String, arguments: Vec<String>) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("OPENAI_API_KEY").env_remove("ANTHROPIC_API_KEY");
    tokio::task::spawn_blocking(move || command.output()).await.unwrap()
}

async fn succeeds(program: String, script: String) -> bool {
    let option = if program == "node" { "-e" } else { "-c" };
    let ran = run(program, vec![option.to_owned(), script]).await;
    ran.is_ok_and(|ran| ran.status.success())
}

/// Whether Python has these packages. Importing some of them takes seconds.
async fn has_packages(names: &str) -> bool {
    let script = format!(
        "import importlib.util as u; assert all(u.find_spec(n) for n in {names:?}.split())"
    );
    succeeds(python(), script).await
}

/// What a script of clients has made of a guard.
struct Made {
    exchanges: usize,
    aborted: usize,
    tool_calls: usize,
    refused: usize,
}

/// Runs a script against a guard that refuses the key `sk-bad`.
async fn check(program: String, script: &str, more: Option<String>, made: &Made) {
    let mock = Mock::start(vendor).await;
    let policy = "mode = \"enforce\"\n[[rule]]\nsteps = [{ do = \"refuse\", for = \"1 day\" }]";
    let world = World::new(mock.address, policy).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let script = format!("{}/tests/{script}", env!("CARGO_MANIFEST_DIR"));
    let arguments = [Some(script), Some(format!("http://{}", running.listen)), more];
    let ran = run(program, arguments.into_iter().flatten().collect()).await.unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    let bodies: Vec<Vec<u8>> = mock.seen.lock().unwrap().iter().map(|s| s.body.clone()).collect();
    let bodies = bodies.iter().map(|body| String::from_utf8_lossy(body));
    assert!(bodies.into_iter().any(|body| body.contains("json_schema")), "a schema is passed on");
    let records = world.records_of(running).await;
    let count = |name: &str, value: &str| {
        records.iter().filter(|record| record.get(name).is_some_and(|v| v == value)).count()
    };
    assert_eq!(records.len(), made.exchanges, "{records:?}");
    assert_eq!(count("response_finish_reason", "aborted"), made.aborted, "{records:?}");
    assert_eq!(count("response_finish_reason", "tool_calls"), made.tool_calls, "{records:?}");
    assert_eq!(count("status", "403"), made.refused, "{records:?}");
}

const USAGE: &str = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;

const MESSAGE: &str = r#""message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#;

/// Enough of both vendors' APIs for their clients.
fn vendor(request: &Seen) -> Vec<Act> {
    let text = String::from_utf8_lossy(&request.body);
    let wants_stream = text.contains("\"stream\":true") || text.contains("\"stream\": true");
    let path = request.head.split(' ').nth(1).unwrap_or_default();
    let chat = |delta: &str, reason: &str| {
        chunk(&format!(
            "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
             \"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{reason}}}]}}\n\n"
        ))
    };
    let event = |name: &str, data: &str| {
        chunk(&format!("event: {name}\ndata: {{\"type\":\"{name}\",{data}}}\n\n"))
    };
    let json = |body: String| vec![Act::Send(plain("application/json", body.as_bytes()))];
    match path {
        _ if text.contains("please fail") => {
            let error = match path {
                "/api/v1/messages" => r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#,
                _ => r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"x"}}"#,
            };
            let answer = String::from_utf8(plain("application/json", error.as_bytes())).unwrap();
            vec![Act::Send(answer.replace("200 OK", "400 Bad Request").into_bytes())]
        }
        "/api/v1/chat/completions" if text.contains("for ever") => {
            let mut acts = vec![chunked_head("text/event-stream")];
            for _ in 0..200 {
                acts.extend([chat("{\"content\":\"a\"}", "null"), Act::Pause(20)]);
            }
            acts
        }
        "/api/v1/chat/completions" if wants_stream && text.contains("\"tools\"") => vec![
            chunked_head("text/event-stream"),
            chat(r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"t","type":"function","function":{"name":"add","arguments":""}}]}"#, "null"),
            chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}"#, "null"),
            chat(r#"{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}"#, "null"),
            chat("{}", "\"tool_calls\""),
            chunk("data: [DONE]\n\n"),
            last_chunk(),
        ],
        "/api/v1/chat/completions" if wants_stream => vec![
            chunked_head("text/event-stream"),
            chat("{\"role\":\"assistant\",\"content\":\"Hel\"}", "null"),
            chat("{\"content\":\"lo\"}", "\"stop\""),
            chunk(&format!("data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],{USAGE}}}\n\n")),
            chunk("data: [DONE]\n\n"),
            last_chunk(),
        ],
        "/api/v1/chat/completions" if text.contains("\"tools\"") => json(format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":null,"tool_calls":[{{"id":"t","type":"function","function":{{"name":"add","arguments":"{{\"a\":1}}"}}}}]}},"finish_reason":"tool_calls"}}],{USAGE}}}"#
        )),
        "/api/v1/chat/completions" => json(format!(
            r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{{\"answer\":4}}"}},"finish_reason":"stop"}}],{USAGE}}}"#
        )),
        "/api/v1/responses" => json(
            r#"{"id":"r","object":"response","created_at":1,"status":"completed","model":"m","output":[{"type":"message","id":"m","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello","annotations":[]}]}],"parallel_tool_calls":false,"tool_choice":"auto","tools":[],"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":5}}"#.to_owned(),
        ),
        "/api/v1/embeddings" => json(
            r#"{"object":"list","model":"m","data":[{"object":"embedding","index":0,"embedding":[0.5,1.0]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#.to_owned(),
        ),
        "/api/v1/models" => json(r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"x"}]}"#.to_owned()),
        "/api/v1/messages" if wants_stream && text.contains("for ever") => {
            let mut acts = vec![
                chunked_head("text/event-stream"),
                event("message_start", MESSAGE),
                event("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#),
            ];
            for _ in 0..200 {
                let delta = r#""index":0,"delta":{"type":"text_delta","text":"a"}"#;
                acts.extend([event("content_block_delta", delta), Act::Pause(20)]);
            }
            acts
        }
        "/api/v1/messages" if wants_stream && text.contains("\"tools\"") => vec![
            chunked_head("text/event-stream"),
            event("message_start", MESSAGE),
            event("content_block_start", r#""index":0,"content_block":{"type":"tool_use","id":"t","name":"add","input":{}}"#),
            event("content_block_delta", r#""index":0,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}"#),
            event("content_block_delta", r#""index":0,"delta":{"type":"input_json_delta","partial_json":"1}"}"#),
            event("content_block_stop", r#""index":0"#),
            event("message_delta", r#""delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":2}"#),
            event("message_stop", r#""x":1"#),
            last_chunk(),
        ],
        "/api/v1/messages" if wants_stream => vec![
            chunked_head("text/event-stream"),
            event("message_start", MESSAGE),
            event("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#),
            event("ping", r#""x":1"#),
            event("content_block_delta", r#""index":0,"delta":{"type":"text_delta","text":"Hello"}"#),
            event("content_block_stop", r#""index":0"#),
            event("message_delta", r#""delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}"#),
            event("message_stop", r#""x":1"#),
            last_chunk(),
        ],
        "/api/v1/messages" if !text.contains("\"tools\"") => json(
            r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"text","text":"{\"answer\":4}"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#.to_owned(),
        ),
        "/api/v1/messages" => json(
            r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"tool_use","id":"t","name":"add","input":{"a":1}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":2}}"#.to_owned(),
        ),
        _ => vec![Act::Send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec())],
    }
}

#[tokio::test]
async fn the_official_python_clients_notice_nothing() {
    if !has_packages("openai anthropic").await {
        eprintln!("skipped: no Python with openai and anthropic; see STILLWATCH_TEST_PYTHON");
        return;
    }
    let made = Made { exchanges: 17, aborted: 2, tool_calls: 4, refused: 2 };
    check(python(), "clients.py", None, &made).await;
}

#[tokio::test]
async fn litellm_notices_nothing() {
    if !has_packages("litellm mcp").await {
        eprintln!("skipped: no Python with litellm and mcp; see STILLWATCH_TEST_PYTHON");
        return;
    }
    let made = Made { exchanges: 12, aborted: 1, tool_calls: 2, refused: 1 };
    check(python(), "clients_litellm.py", None, &made).await;
}

#[tokio::test]
async fn the_official_node_client_notices_nothing() {
    let folder = node_folder();
    let script =
        format!("require('module').createRequire({:?})('openai')", format!("{folder}/x.js"));
    if !succeeds("node".to_owned(), script).await {
        eprintln!("skipped: no node with openai; see STILLWATCH_TEST_NODE");
        return;
    }
    let made = Made { exchanges: 9, aborted: 1, tool_calls: 2, refused: 1 };
    check("node".to_owned(), "clients.mjs", Some(folder), &made).await;
}

/// A vendor that takes no notice of limits and never ends.
fn endless(request: &Seen) -> Vec<Act> {
    let path = request.head.split(' ').nth(1).unwrap_or_default();
    let event = |data: &str| chunk(&format!("data: {data}\n\n"));
    let named = |name: &str, data: &str| {
        chunk(&format!("event: {name}\ndata: {{\"type\":\"{name}\",{data}}}\n\n"))
    };
    let mut acts = vec![chunked_head("text/event-stream")];
    let word = match path {
        "/api/v1/messages" => {
            acts.push(named("message_start", r#""message":{"id":"m","type":"message","role":"assistant","model":"c","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#));
            acts.push(named(
                "content_block_start",
                r#""index":0,"content_block":{"type":"text","text":""}"#,
            ));
            named(
                "content_block_delta",
                r#""index":0,"delta":{"type":"text_delta","text":"word "}"#,
            )
        }
        "/api/v1/responses" => {
            acts.push(named("response.created", r#""sequence_number":0,"response":{"id":"r","object":"response","created_at":1,"status":"in_progress","model":"m","output":[],"parallel_tool_calls":false,"tool_choice":"auto","tools":[]}"#));
            acts.push(named("response.output_item.added", r#""sequence_number":1,"output_index":0,"item":{"id":"i","type":"message","role":"assistant","status":"in_progress","content":[]}"#));
            acts.push(named("response.content_part.added", r#""sequence_number":2,"item_id":"i","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}"#));
            named(
                "response.output_text.delta",
                r#""sequence_number":3,"item_id":"i","output_index":0,"content_index":0,"delta":"word ","logprobs":[]"#,
            )
        }
        _ => event(
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}"#,
        ),
    };
    acts.extend(std::iter::repeat_n(word, 50));
    acts.push(Act::Hang);
    acts
}

#[tokio::test]
async fn the_official_python_clients_take_a_cut_stream_for_a_long_answer() {
    if !has_packages("openai anthropic").await {
        eprintln!("skipped: no Python with openai and anthropic; see STILLWATCH_TEST_PYTHON");
        return;
    }
    let mock = Mock::start(endless).await;
    let policy = "mode = \"enforce\"\n[cap]\noutput_tokens = 20\n\
                  [[rule]]\nsteps = [{ do = \"cap\", for = \"1 day\" }]";
    let world = World::new(mock.address, policy).with_finding("c1", &["sk-bad"]);
    let running = world.start().await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cut_streams.py");
    let arguments = vec![script.to_owned(), format!("http://{}", running.listen)];
    let ran = run(python(), arguments).await.unwrap();
    assert!(
        ran.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    let records = world.records_of(running).await;
    assert!(records.iter().all(|record| record["response_finish_reason"] == "length"));
    assert_eq!(records.len(), 3);
}
