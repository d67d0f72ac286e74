//! Object stores: one in memory, and a web server on the loopback device.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use stillwatch_ingest::{Discovery, IngestError, Options, Table, discover};
use support::{parquet, read};
use tokio::runtime::Runtime;

fn exchanges(rows: usize) -> Bytes {
    let accounts: StringArray = (0..rows).map(|i| Some(format!("acct_{i}"))).collect();
    // Text that does not compress, so that the file spans several blocks.
    let prompts: StringArray = (0..rows as u64)
        .map(|i| {
            let word = |j: u64| (i * 64 + j).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Some((0..64).map(|j| format!("{:x}", word(j))).collect::<String>())
        })
        .collect();
    let times = TimestampMicrosecondArray::from(vec![1_772_323_506_000_000; rows]);
    let batch = RecordBatch::try_from_iter(vec![
        ("time", Arc::new(times) as ArrayRef),
        ("account_id", Arc::new(accounts)),
        ("prompt", Arc::new(prompts)),
    ]);
    parquet(&[batch.unwrap()], rows / 3 + 1)
}

fn lines(rows: usize) -> Bytes {
    let line = |i| {
        format!(
            "{{\"time\":\"2026-03-01T04:05:06Z\",\"account_id\":\"acct_{i}\",\"prompt\":\"{}\"}}\n",
            "x".repeat(900)
        )
    };
    Bytes::from((0..rows).map(line).collect::<String>())
}

fn options(runtime: &Runtime, store: InMemory) -> Options {
    Options {
        runtime: Some(runtime.handle().clone()),
        stores: vec![("s3://logs/".to_owned(), Arc::new(store) as Arc<dyn ObjectStore>)],
        ..Options::default()
    }
}

fn names(found: &Discovery) -> Vec<&str> {
    found.sources.iter().map(stillwatch_ingest::Source::name).collect()
}

#[test]
fn objects_are_found_by_name_prefix_and_pattern_and_read_like_files() {
    let runtime = Runtime::new().unwrap();
    let store = InMemory::new();
    let (parquet, lines) = (exchanges(10_000), lines(12_000));
    assert!(parquet.len() > 5 << 20 && lines.len() > 9 << 20, "more than one request each");
    runtime.block_on(async {
        for (path, bytes) in [
            ("2026/03/a.parquet", parquet.clone()),
            ("2026/03/b.jsonl", lines.clone()),
            ("2026/03/_SUCCESS", Bytes::from_static(b"x")),
            ("2026/04/notes.txt", Bytes::from_static(b"nothing")),
        ] {
            store.put(&path.into(), bytes.into()).await.unwrap();
        }
    });
    let options = options(&runtime, store);
    let find = |url: &str| discover(&[url.to_owned()], Table::Exchanges, &options);

    let all = find("s3://logs/2026").unwrap();
    assert_eq!(names(&all), ["s3://logs/2026/03/a.parquet", "s3://logs/2026/03/b.jsonl"]);
    assert_eq!(all.problems.len(), 1);
    assert_eq!(all.problems[0].file, "s3://logs/2026/04/notes.txt");
    assert_eq!(names(&find("s3://logs/2026/*/b.*").unwrap()), ["s3://logs/2026/03/b.jsonl"]);
    assert_eq!(
        names(&find("s3://logs/2026/03/a.parquet").unwrap()),
        ["s3://logs/2026/03/a.parquet"]
    );
    assert!(matches!(find("s3://logs/2027").unwrap_err(), IngestError::NotFound { .. }));
    assert!(matches!(find("s3://logs/2026/*.gz").unwrap_err(), IngestError::NothingMatches { .. }));

    for (source, local, rows) in
        [(&all.sources[0], parquet, 10_000), (&all.sources[1], lines, 12_000)]
    {
        let remote = read(source, &["account_id", "prompt"]);
        assert_eq!((remote.rows.len(), remote.problems.len()), (rows, 0));
        assert_eq!(remote.rows, support::read_bytes(local, &["account_id", "prompt"]).rows);
    }
}

#[test]
fn an_object_that_vanishes_is_named() {
    let runtime = Runtime::new().unwrap();
    let store = Arc::new(InMemory::new());
    runtime.block_on(store.put(&"a.jsonl".into(), lines(10).into())).unwrap();
    let options = Options {
        runtime: Some(runtime.handle().clone()),
        stores: vec![("s3://logs/".to_owned(), Arc::clone(&store) as Arc<dyn ObjectStore>)],
        ..Options::default()
    };
    let found = discover(&["s3://logs/a.jsonl".to_owned()], Table::Exchanges, &options).unwrap();
    runtime.block_on(store.delete(&"a.jsonl".into())).unwrap();
    let read = read(&found.sources[0], &["time"]);
    assert_eq!(read.rows.len(), 0);
    assert_eq!(read.problems[0].file, "s3://logs/a.jsonl");
}

/// Serves one file at `/logs/exchanges.parquet`, with ranges, until the test ends.
fn serve(file: Bytes) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let file = file.clone();
            std::thread::spawn(move || while answer(stream.as_ref().unwrap(), &file) {});
        }
    });
    format!("http://{address}")
}

/// Answers one request; says whether there may be more.
fn answer(mut stream: &TcpStream, file: &[u8]) -> bool {
    let mut head = Vec::new();
    for line in BufReader::with_capacity(1, stream).lines() {
        match line {
            Ok(line) if line.is_empty() => break,
            Ok(line) => head.push(line.to_ascii_lowercase()),
            Err(_) => return false,
        }
    }
    let Some(request) = head.first() else { return false };
    let range = head.iter().find_map(|line| {
        let (start, end) = line.strip_prefix("range: bytes=")?.split_once('-')?;
        Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
    });
    let date = "last-modified: Sun, 01 Mar 2026 04:05:06 GMT\r\n";
    let (status, headers, body) = match range {
        _ if !request.contains(" /logs/exchanges.parquet ") => {
            ("404 Not Found", String::new(), &[][..])
        }
        None => ("200 OK", String::new(), file),
        Some((start, end)) => {
            let end = end.min(file.len() - 1);
            let header = format!("content-range: bytes {start}-{end}/{}\r\n", file.len());
            ("206 Partial Content", header, &file[start..=end])
        }
    };
    let length = body.len();
    let body = if request.starts_with("head") { &[] } else { body };
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{date}{headers}\r\n");
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_ok()
}

#[test]
fn a_web_server_s_file_is_read_by_ranges() {
    let runtime = Runtime::new().unwrap();
    let file = exchanges(8_000);
    let server = serve(file.clone());
    let options = Options { runtime: Some(runtime.handle().clone()), ..Options::default() };
    let find = |path: &str| discover(&[format!("{server}{path}")], Table::Exchanges, &options);

    let found = find("/logs/exchanges.parquet").unwrap();
    assert_eq!(found.problems, []);
    assert_eq!(names(&found), [format!("{server}/logs/exchanges.parquet")]);
    let read = read(&found.sources[0], &["account_id", "prompt"]);
    assert_eq!(read.problems, []);
    assert_eq!(read.rows, support::read_bytes(file, &["account_id", "prompt"]).rows);

    let error = find("/logs/other.parquet").unwrap_err();
    assert!(
        matches!(error, IngestError::Unreachable { .. } | IngestError::NotFound { .. }),
        "{error}"
    );
}
