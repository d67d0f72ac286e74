//! A guard before a model's API that speaks TLS. The certificates are made by `openssl`; where
//! it is not found these tests say that they skip.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::guard::{Guard, read_message, recorded};
use crate::setting::{Ran, folder};

/// Makes `NAME.pem`, an authority, and `NAME-server.pem` and `.key`, which it vouches for as
/// `localhost`; whether there is a program for it.
fn certificates(folder: &Path, name: &str) -> bool {
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let all = [
        format!("req -x509 {new_key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"),
        format!("req {new_key} -subj /CN=x -keyout {name}-server.key -out {name}.csr"),
        format!(
            "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}.key -CAcreateserial -days 2 \
             -extfile names -out {name}-server.pem"
        ),
    ];
    for arguments in all {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(folder);
        let Ok(made) = command.stdout(Stdio::null()).output() else {
            eprintln!("skipped: no openssl on this machine");
            return false;
        };
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    true
}

/// A model's API over TLS on this port of `localhost`. Of a stream it sends the second event
/// once it is told to.
struct Api {
    port: u16,
    go_on: Sender<()>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Api {
    fn start(folder: &Path, name: &str) -> Self {
        let pem = |end: &str| folder.join(format!("{name}-server.{end}"));
        let certificate = CertificateDer::from_pem_file(pem("pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(pem("key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (go_on, wait) = channel();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (seen, wait) = (Arc::clone(&heads), Arc::new(Mutex::new(wait)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = StreamOwned::new(connection, stream.unwrap());
                let (seen, wait) = (Arc::clone(&seen), Arc::clone(&wait));
                thread::spawn(move || answer(stream, &seen, &wait));
            }
        });
        Api { port, go_on, heads }
    }
}

const EVENTS: [&str; 2] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"four\"}}]}\n\n",
    "data: [DONE]\n\n",
];
const WHOLE: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

fn answer(
    stream: StreamOwned<ServerConnection, TcpStream>,
    seen: &Mutex<Vec<String>>,
    wait: &Mutex<Receiver<()>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            // A client that trusts nobody ends it here.
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        seen.lock().unwrap().push(head);
        let stream = reader.get_mut();
        if !String::from_utf8(body).unwrap().contains("\"stream\":true") {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length:";
            stream.write_all(format!("{head} {}\r\n\r\n{WHOLE}", WHOLE.len()).as_bytes()).ok()?;
            continue;
        }
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                    transfer-encoding: chunked\r\n\r\n";
        stream.write_all((head.to_owned() + &chunk(EVENTS[0])).as_bytes()).ok()?;
        stream.flush().ok()?;
        wait.lock().unwrap().recv().ok()?;
        stream.write_all((chunk(EVENTS[1]) + "0\r\n\r\n").as_bytes()).ok()?;
        stream.flush().ok()?;
    }
}

fn ask(guard: &Guard, path: &str, body: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(guard.address).unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: guard\r\nauthorization: Bearer sk-s3cret\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream)
}

/// The status and the body of an answer in one piece.
fn answered(mut reader: BufReader<TcpStream>) -> (String, String) {
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    (status, String::from_utf8(read_message(&mut reader).unwrap()).unwrap())
}

const CHAT: &str = "/v1/chat/completions";

#[test]
#[cfg(unix)]
fn exchanges_and_streams_pass_over_tls() {
    let folder = folder();
    if !certificates(folder.path(), "ours") {
        return;
    }
    let api = Api::start(folder.path(), "ours");
    let (state, upstream) =
        (folder.path().join("state"), format!("https://localhost:{}/api", api.port));
    let mut command = Guard::command(&upstream, &state, &[]);
    command.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", folder.path().join("ours.pem"));
    let guard = Guard::run(command);
    let question = r#"{"messages":[{"role":"user","content":"in one piece"}]}"#;
    let (status, body) = answered(ask(&guard, CHAT, question));
    assert!(status.starts_with("HTTP/1.1 200") && body == WHOLE, "{status}{body}");

    let question = r#"{"stream":true,"messages":[{"role":"user","content":"in a stream"}]}"#;
    let mut reader = ask(&guard, CHAT, question);
    let mut read = String::new();
    while !read.contains(EVENTS[0]) {
        assert!(reader.read_line(&mut read).unwrap() > 0, "{read}");
    }
    // The first event is here, and the second not yet sent.
    api.go_on.send(()).unwrap();
    while !read.contains(EVENTS[1]) {
        assert!(reader.read_line(&mut read).unwrap() > 0, "{read}");
    }
    let heads = api.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 2);
    for head in heads {
        assert!(head.starts_with("POST /api/v1/chat/completions HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("host: localhost:{}\r\n", api.port)), "{head}");
        assert!(head.contains("authorization: Bearer sk-s3cret\r\n"), "{head}");
    }
    guard.signal("-TERM");
    let (status, said) = guard.ended();
    assert!(status.success() && !said.contains("no connection"), "{said}");
    assert_eq!(recorded(&state).len(), 2);
}

#[test]
#[cfg(unix)]
fn a_certificate_that_nobody_vouches_for_is_told_to_the_operator_alone() {
    let folder = folder();
    if !certificates(folder.path(), "ours") || !certificates(folder.path(), "theirs") {
        return;
    }
    let api = Api::start(folder.path(), "theirs");
    let guard = |host: &str, authority: &str| {
        let upstream = format!("https://{host}:{}", api.port);
        let mut command = Guard::command(&upstream, &folder.path().join(host), &[]);
        command.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", folder.path().join(authority));
        command
    };
    for (host, authority, why) in [
        ("localhost", "ours.pem", "SSL_CERT_FILE can name a file"),
        ("127.0.0.1", "theirs.pem", "not valid for name"),
    ] {
        let guard = Guard::run(guard(host, authority));
        let (status, openai) = answered(ask(&guard, CHAT, "{}"));
        assert!(status.starts_with("HTTP/1.1 502"), "{status}");
        let (_, anthropic) = answered(ask(&guard, "/v1/messages", "{}"));
        let [openai, anthropic]: [serde_json::Value; 2] =
            [openai, anthropic].map(|body| serde_json::from_str(&body).unwrap());
        let message = "The model's API can't be reached.";
        assert_eq!(openai["error"]["code"], "upstream_unreachable");
        assert_eq!(openai["error"]["message"], message);
        assert_eq!(
            (&anthropic["type"], &anthropic["error"]["message"]),
            (&"error".into(), &message.into())
        );
        guard.signal("-TERM");
        let (status, said) = guard.ended();
        assert!(status.success());
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("no connection")).collect();
        assert_eq!(lines.len(), 1, "said once: {said}");
        let place = format!("https://{host}:{}: invalid peer certificate", api.port);
        assert!(lines[0].contains(&place) && lines[0].contains(why), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
    assert!(api.heads.lock().unwrap().is_empty(), "nothing was sent to whoever that is");

    let mut nothing = guard("localhost", "ours.pem");
    nothing.env("SSL_CERT_FILE", folder.path().join("none.pem"));
    Ran::from(nothing.output().unwrap()).failed(2, &["SSL_CERT_FILE", "none.pem"]);
    File::create(folder.path().join("empty.pem")).unwrap();
    let mut empty = guard("localhost", "ours.pem");
    empty.env("SSL_CERT_FILE", folder.path().join("empty.pem"));
    Ran::from(empty.output().unwrap()).failed(2, &["SSL_CERT_FILE"]);
}
