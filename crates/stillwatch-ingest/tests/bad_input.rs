//! Every kind of bad input: what is counted, what is named, and that the rest is read.

mod support;

use std::fs;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float64Array, Int8Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt32Array,
};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;
use stillwatch_ingest::{
    AccountFilter, Format, IngestError, Options, Source, Table, discover, read_accounts,
    read_releases,
};
use support::{all_columns, parquet, parquet_with, read, read_bytes, read_filtered};

const MARCH: i64 = 1_772_323_506_000_000;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true)))
        .unwrap()
}

fn times(times: &[Option<i64>]) -> ArrayRef {
    Arc::new(times.iter().copied().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn texts(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(texts.iter().copied().collect::<StringArray>())
}

/// `rows` good exchanges.
fn good(rows: usize) -> RecordBatch {
    let row = 0..rows;
    batch(vec![
        (
            "exchange_id",
            Arc::new(row.clone().map(|i| Some(format!("ex_{i:06}"))).collect::<StringArray>()),
        ),
        ("time", times(&row.clone().map(|i| Some(MARCH + i as i64)).collect::<Vec<_>>())),
        (
            "account_id",
            Arc::new(row.clone().map(|i| Some(format!("acct_{}", i % 7))).collect::<StringArray>()),
        ),
        (
            "prompt",
            Arc::new(row.map(|i| Some(format!("prompt number {i}"))).collect::<StringArray>()),
        ),
    ])
}

fn line(account: &str, prompt: &str) -> String {
    format!(
        "{{\"time\":\"2026-03-01T04:05:06Z\",\"account_id\":\"{account}\",\"prompt\":\"{prompt}\"}}\n"
    )
}

// Files

#[test]
fn a_folder_with_all_kinds_of_broken_files_is_read_as_far_as_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let whole = parquet(&[good(100)], 50);
    write("a.parquet", &whole);
    write("b.parquet", &whole[..whole.len() / 2]);
    write("c.parquet", b"");
    write("d.jsonl", line("acct_9", "hi").as_bytes());
    write("e.txt", b"These are my notes on nothing in particular.\n");
    write("f.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    write("g.json", b"{\n  \"settings\": {\"a\": 1}\n}\n");
    write(
        "h.parquet",
        &parquet(&[batch(vec![("account_id", texts(&[Some("a")])), ("plan", texts(&[None]))])], 9),
    );
    write("_SUCCESS", b"");
    write(".hidden.jsonl", b"broken");
    fs::create_dir(folder.path().join("deep")).unwrap();
    write("deep/i.jsonl", line("acct_8", "hi").as_bytes());

    let path = folder.path().to_str().unwrap();
    let paths = [path.to_owned(), format!("{path}/a.parquet"), format!("{path}/./*.jsonl")];
    let found = discover(&paths, Table::Exchanges, &Options::default()).unwrap();
    let short = |name: &str| name.strip_prefix(path).unwrap_or(name).to_owned();
    let sources: Vec<String> = found.sources.iter().map(|s| short(s.name())).collect();
    assert_eq!(sources, ["/./d.jsonl", "/a.parquet", "/deep/i.jsonl"], "each file once, by name");
    let problems: Vec<String> = found.problems.iter().map(|p| short(&p.to_string())).collect();
    assert_eq!(problems.len(), 6);
    assert!(problems[0].starts_with("/b.parquet: not a whole Parquet file: "), "{}", problems[0]);
    assert_eq!(problems[1], "/c.parquet: is empty");
    assert_eq!(
        problems[2],
        "/e.txt: its format is not recognised; known are parquet, jsonl, otlp, litellm, bedrock, openai, anthropic"
    );
    assert!(problems[3].starts_with("/f.png: its format is not recognised"));
    assert_eq!(
        problems[4],
        "/g.json: its JSON is no table of exchanges (no time and account_id) and no known log format"
    );
    assert_eq!(
        problems[5],
        "/h.parquet: not a table of exchanges: no columns time, prompt or prompt_sketch"
    );
    let rows: usize = found.sources.iter().map(|s| read(s, &["time"]).rows.len()).sum();
    assert_eq!(rows, 102);
}

#[test]
fn paths_that_lead_nowhere_are_errors() {
    let options = Options::default();
    let error = |path: &str| discover(&[path.to_owned()], Table::Exchanges, &options).unwrap_err();
    assert!(matches!(error("/no/such/file"), IngestError::NotFound { .. }));
    assert!(matches!(error("/no/such/*.parquet"), IngestError::NothingMatches { .. }));
    assert!(matches!(error("/tmp/[".repeat(2).as_str()), IngestError::BadPattern { .. }));
    assert!(matches!(error("gopher://host/x"), IngestError::NoRuntime { .. }));
    let shown = error("s3://user:secret@bucket/x?token=secret#secret").to_string();
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn a_parquet_file_broken_in_its_middle_gives_what_comes_before() {
    let whole = parquet(&[good(300)], 100);
    let mut broken = whole.to_vec();
    // Inside of the second row group, whose pages lie between the thirds of the file.
    let middle = broken.len() * 2 / 5;
    broken[middle..middle + 200].fill(0xa5);
    let read = read_bytes(broken, &["time", "account_id", "prompt"]);
    assert_eq!(read.rows.len(), 200, "the row groups beside it");
    assert_eq!(read.problems.len(), 1);
    let problem = read.problems[0].to_string();
    assert!(problem.starts_with("file: row group 1 can't be read beyond its row 0"), "{problem}");
    assert!(!problem.contains("prompt number"), "no content in messages");
}

#[test]
fn truncated_compressed_lines_give_what_comes_before() {
    let text: String =
        (0..20_000).map(|i| line(&format!("acct_{i}"), &format!("{}", i * 7919))).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    for bytes in [gzip.finish().unwrap(), zstd::encode_all(text.as_bytes(), 1).unwrap()] {
        let whole = read_bytes(bytes.clone(), &["account_id"]);
        assert_eq!((whole.rows.len(), whole.problems.len()), (20_000, 0));
        assert_eq!(whole.metered_rows, 20_000);
        assert_eq!(whole.metered_bytes, bytes.len() as u64, "the meter counts stored bytes");

        let part = read_bytes(bytes[..bytes.len() / 2].to_vec(), &["account_id"]);
        assert!(part.rows.len() > 5_000, "{}", part.rows.len());
        assert_eq!(part.problems.len(), 1);
        let problem = part.problems[0].to_string();
        assert!(problem.starts_with("file: can't be read to its end: "), "{problem}");
    }
}

// Lines

#[test]
fn bad_lines_are_counted_and_passed_over() {
    let mut text = Vec::new();
    text.extend(line("a", "one").bytes());
    text.extend(
        b"{\"time\":\"2026-03-01T04:05:06Z\",\"account_id\":\"b\",\"prompt\":\"\xff\xfe\"}\n",
    );
    text.extend(b"{\"time\":\"2026-03-01T04:05:06Z\",\"account_\n");
    text.extend(b"hello\n[]\n\"x\"\n{\"a\":1}}\n");
    text.extend(line("c", &"long ".repeat(2 << 20)).bytes());
    text.extend(line("d", "four").trim_end().bytes());
    let read = read_bytes(text, &["account_id", "prompt"]);
    assert_eq!(read.texts("account_id"), ["a", "d"]);
    assert_eq!(
        read.refused(),
        "line_too_long=1 not_an_object=2 not_json=2 not_utf8=1 truncated_line=1"
    );
    assert_eq!(read.metered_rows, 9);
}

#[test]
fn nesting_has_no_bottom_and_needs_no_stack() {
    let deep = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    let text = format!(
        "{}{{\"time\":\"2026-03-01T04:05:06Z\",\"account_id\":\"b\",\"prompt\":{deep}}}\n{{\"x\":{deep},\"time\":\"2026-03-01T04:05:06Z\",\"account_id\":\"c\",\"prompt\":\"\"}}\n",
        line("a", "one")
    );
    let read = read_bytes(text, &["account_id"]);
    assert_eq!(read.texts("account_id"), ["a", "c"]);
    assert_eq!(read.refused(), "prompt_missing=1");

    let options = Options { format: Some(Format::OpenAi), ..Options::default() };
    let text = format!("{{\"request\":{deep}}}\n");
    let source = Source::from_bytes("f", text.into(), Table::Exchanges, &options).unwrap();
    assert_eq!(support::read(&source, &["time"]).refused(), "nested_too_deep=1");
}

#[test]
fn rows_do_not_depend_on_the_columns_asked_for() {
    let lines = [
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"a","prompt":"x","status":1e999}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"b","prompt":"\ud800","user_agent":"\udc00"}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"c","prompt_sketch":"AQ\/\/"}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"d","prompt_sketch":"not base64!"}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"e","prompt":"x","cost_usd":-1,"turn":70000}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"f","prompt":{},"prompt_sketch":"AQ"}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"g","prompt":"x","status":}"#,
        r#"{"time":"2026-03-01T04:05:06Z","account_id":"h","prompt":"x","user_agent":"\x"}"#,
        r#"{"time":null,"account_id":"i","prompt":"x"}"#,
    ];
    let bytes = Bytes::from(lines.join("\n"));
    for columns in
        [&["account_id"][..], &["account_id", "time", "prompt"], &all_columns(Table::Exchanges)]
    {
        let read = read_bytes(bytes.clone(), columns);
        assert_eq!(read.texts("account_id"), ["a", "b", "c", "e", "f"], "{columns:?}");
        assert_eq!(read.refused.rows_total(), 4);
    }
    assert_eq!(read_bytes(bytes.clone(), &[]).refused.rows_total(), 4);
    let all = read_bytes(bytes, &all_columns(Table::Exchanges));
    assert_eq!(
        all.refused(),
        "cost_usd: out of range=1 not_json=2 prompt: wrong type=1 prompt_missing=1 \
         status: wrong type=1 time_missing=1 turn: out of range=1"
    );
}

// Parquet columns

#[test]
fn columns_of_other_types_are_brought_into_the_contract_s() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("m1"), None].into_iter().collect();
    let table = batch(vec![
        (
            "time",
            Arc::new(
                TimestampNanosecondArray::from(vec![MARCH * 1000 + 999, MARCH * 1000])
                    .with_timezone("+02:00"),
            ),
        ),
        ("account_id", Arc::new(Int64Array::from(vec![17, 18]))),
        ("organization_id", Arc::new(LargeStringArray::from(vec![Some("o"), None]))),
        (
            "conversation_id",
            Arc::new(BinaryArray::from_opt_vec(vec![Some(b"conv".as_slice()), None])),
        ),
        ("request_model", Arc::new(dictionary)),
        (
            "prompt",
            Arc::new(StringViewArray::from(vec![
                Some("p"),
                Some("a longer prompt than twelve bytes"),
            ])),
        ),
        (
            "response_digest",
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8; 4], [2; 4]].iter()).unwrap()),
        ),
        ("turn", Arc::new(Int8Array::from(vec![3, -1]))),
        ("status", Arc::new(Int64Array::from(vec![200, 70_000]))),
        ("usage_output_tokens", Arc::new(Float64Array::from(vec![12.0, f64::NAN]))),
        ("usage_input_tokens", Arc::new(Int64Array::from(vec![i64::MAX, -4]))),
        ("usage_reasoning_tokens", Arc::new(UInt32Array::from(vec![100_000_000, 100_000_001]))),
        ("request_temperature", Arc::new(Float64Array::from(vec![1e300, 0.5]))),
        (
            "cost_usd",
            Arc::new(
                Decimal128Array::from(vec![12_345, -1]).with_precision_and_scale(10, 4).unwrap(),
            ),
        ),
        ("request_stream", texts(&[Some("yes"), None])),
        ("mood", texts(&[Some("fine"), None])),
    ]);
    let file = parquet(&[table], 10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    fs::write(&path, &file).unwrap();
    let paths = [path.to_str().unwrap().to_owned()];
    let found = discover(&paths, Table::Exchanges, &Options::default()).unwrap();
    assert_eq!(found.unknown_columns.iter().collect::<Vec<_>>(), ["mood"]);
    assert_eq!(
        found.problems[0].what,
        "column request_stream has type Utf8, expected boolean; it is left out"
    );
    let columns: Vec<&str> =
        all_columns(Table::Exchanges).into_iter().filter(|c| *c != "exchange_id").collect();
    let read = read(&found.sources[0], &columns);
    let rows: Vec<String> = read.rows.iter().map(ToString::to_string).collect();
    assert_eq!(
        rows,
        [
            r#"{"time":"2026-03-01T00:05:06Z","account_id":"17","organization_id":"o","conversation_id":"conv","turn":3,"request_model":"m1","prompt":"p","usage_output_tokens":12,"usage_reasoning_tokens":100000000,"response_digest":"01010101","status":200,"cost_usd":1.2345}"#,
            r#"{"time":"2026-03-01T00:05:06Z","account_id":"18","prompt":"a longer prompt than twelve bytes","request_temperature":0.5,"response_digest":"02020202"}"#,
        ]
    );
    assert_eq!(
        read.refused(),
        "cost_usd: out of range=1 request_temperature: out of range=1 status: out of range=1 \
         turn: out of range=1 usage_input_tokens: out of range=2 usage_reasoning_tokens: out of range=1"
    );
}

#[test]
fn times_of_every_unit_are_read_and_bad_ones_refused() {
    let units: Vec<ArrayRef> = vec![
        Arc::new(TimestampSecondArray::from(vec![
            Some(MARCH / 1_000_000),
            Some(i64::MAX),
            Some(-62_135_596_800),
            None,
        ])),
        Arc::new(TimestampMillisecondArray::from(vec![
            Some(MARCH / 1_000),
            Some(i64::MAX),
            Some(-62_135_596_800_000),
            None,
        ])),
        times(&[Some(MARCH), Some(253_370_764_800_000_000), Some(-62_135_596_800_000_000), None]),
        Arc::new(TimestampNanosecondArray::from(vec![
            Some(MARCH * 1_000),
            Some(i64::MAX),
            Some(0),
            None,
        ])),
    ];
    for unit in units {
        let file = parquet(
            &[batch(vec![
                ("time", unit),
                ("account_id", texts(&[Some("a"); 4])),
                ("prompt", texts(&[Some("p"); 4])),
            ])],
            10,
        );
        for columns in [&["time"][..], &["prompt"]] {
            let read = read_bytes(file.clone(), columns);
            assert_eq!(read.rows.len(), 1);
            assert_eq!(read.refused(), "time_implausible=2 time_missing=1");
        }
        assert_eq!(read_bytes(file, &["time"]).texts("time"), ["2026-03-01T00:05:06Z"]);
    }
    let file = parquet(
        &[batch(vec![
            (
                "time",
                texts(&[
                    Some("2026-03-01T00:05:06Z"),
                    Some("yesterday"),
                    None,
                    Some("0001-01-01T00:00:00Z"),
                ]),
            ),
            ("account_id", texts(&[Some("a"), Some("a"), None, Some("a")])),
            ("prompt", texts(&[Some("p"); 4])),
        ])],
        10,
    );
    let read = read_bytes(file, &["time"]);
    assert_eq!(read.texts("time"), ["2026-03-01T00:05:06Z"]);
    assert_eq!(read.refused(), "time_implausible=1 time_missing=1 time_unreadable=1");
}

#[test]
fn required_columns_of_unusable_types_are_named_with_what_was_expected() {
    let problem = |time: ArrayRef| {
        let table = batch(vec![
            ("time", time),
            ("account_id", texts(&[Some("a")])),
            ("prompt", texts(&[Some("p")])),
        ]);
        read_bytes(parquet(&[table], 9), &["time"]).problems[0].to_string()
    };
    assert_eq!(
        problem(Arc::new(Int64Array::from(vec![1]))),
        "file: column time has type Int64, expected timestamp (or RFC 3339 text); a plain number says no unit"
    );
    assert!(problem(Arc::new(Date32Array::from(vec![1]))).contains("column time has type Date32"));
}

#[test]
fn parquet_rows_do_not_depend_on_the_columns_asked_for() {
    let table = batch(vec![
        (
            "time",
            times(&[
                Some(MARCH),
                None,
                Some(0),
                Some(MARCH),
                Some(MARCH),
                Some(MARCH),
                Some(MARCH),
            ]),
        ),
        (
            "account_id",
            texts(&[Some("a"), Some("a"), Some("a"), None, Some(""), Some("b"), Some("c")]),
        ),
        ("prompt", texts(&[Some("p"), Some("p"), Some("p"), Some("p"), Some("p"), None, None])),
        (
            "prompt_sketch",
            Arc::new(BinaryArray::from_opt_vec(vec![
                None,
                None,
                None,
                None,
                None,
                None,
                Some(b"s"),
            ])),
        ),
    ]);
    let refused = "account_id_missing=2 prompt_missing=1 time_implausible=1 time_missing=1";
    for statistics in [EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page] {
        let properties = WriterProperties::builder().set_statistics_enabled(statistics).build();
        let file = parquet_with(std::slice::from_ref(&table), properties);
        for columns in [
            &["account_id"][..],
            &["prompt"],
            &["time", "account_id"],
            &["status"],
            &["exchange_id", "account_id"],
            &all_columns(Table::Exchanges),
        ] {
            let read = read_bytes(file.clone(), columns);
            assert_eq!(read.rows.len(), 2, "{columns:?}");
            assert_eq!(read.refused(), refused, "{columns:?}");
        }
        let none = read_bytes(file.clone(), &[]);
        assert_eq!((none.rows.len(), none.refused().as_str()), (2, refused));
        let ids = read_bytes(file, &["exchange_id"]).texts("exchange_id");
        let all = ids.iter().all(|id| id.len() == 32);
        assert!(all && ids[0] != ids[1], "{ids:?}");
    }
}

#[test]
fn ids_that_are_found_missing_late_are_those_of_the_content() {
    let rows = 20_000_usize;
    let ids = (0..rows).map(|i| (i % 17_000 != 15_000).then(|| format!("id {i}")));
    let accounts = (0..rows).map(|i| Some(format!("acct_{}", i % 2)));
    let prompts = (0..rows).map(|i| Some(format!("prompt {i}")));
    let table = batch(vec![
        ("time", times(&vec![Some(MARCH); rows])),
        ("account_id", Arc::new(accounts.collect::<StringArray>())),
        ("exchange_id", Arc::new(ids.collect::<StringArray>())),
        ("conversation_id", texts(&vec![Some("c"); rows])),
        ("prompt", Arc::new(prompts.collect::<StringArray>())),
    ]);
    let read = |statistics, columns: &[&str], filter| {
        let properties = WriterProperties::builder()
            .set_statistics_enabled(statistics)
            .set_max_row_group_row_count(Some(rows))
            .build();
        let file = parquet_with(std::slice::from_ref(&table), properties);
        let source = Source::from_bytes("file", file, Table::Exchanges, &Options::default());
        let read = read_filtered(&source.unwrap(), columns, filter);
        assert_eq!(read.problems, []);
        assert_eq!(read.metered_rows, rows as u64);
        read.texts("exchange_id")
    };
    // Statistics tell beforehand that some are missing.
    let told = read(EnabledStatistics::Chunk, &all_columns(Table::Exchanges), None);
    assert_eq!((told[14_999].as_str(), told[15_001].as_str()), ("id 14999", "id 15001"));
    assert_eq!(told[15_000].len(), 32);
    for columns in [&["exchange_id"][..], &["exchange_id", "account_id", "prompt"]] {
        assert!(read(EnabledStatistics::None, columns, None) == told, "{columns:?}");
        let filter: AccountFilter = Arc::new(|account| account == "acct_0");
        let some = read(EnabledStatistics::None, columns, Some(filter));
        assert!(some.iter().eq(told.iter().step_by(2)), "{columns:?}");
    }
}

#[test]
fn text_that_is_not_utf8_costs_only_its_bytes() {
    // The column says text; the bytes are swapped in the written file.
    let marker = "MARKERMARKERMARKER";
    let rows = 20_000_usize;
    let prompts = (0..rows)
        .map(|i| Some(if i == 15_000 { marker.to_owned() } else { format!("prompt {i}") }));
    let table = batch(vec![
        ("time", times(&vec![Some(MARCH); rows])),
        ("account_id", texts(&vec![Some("a"); rows])),
        ("prompt", Arc::new(prompts.collect::<StringArray>())),
        ("user_agent", texts(&vec![Some("ua"); rows])),
    ]);
    let properties = WriterProperties::builder()
        .set_compression(parquet::basic::Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(rows))
        .build();
    let mut file = parquet_with(&[table], properties).to_vec();
    let at = file.windows(marker.len()).position(|w| w == marker.as_bytes()).unwrap();
    file[at] = 0xff;
    for filter in [None, Some(Arc::new(|a: &str| a == "a") as AccountFilter)] {
        let source = Source::from_bytes(
            "file",
            Bytes::from(file.clone()),
            Table::Exchanges,
            &Options::default(),
        );
        let read = read_filtered(&source.unwrap(), &["prompt", "account_id", "user_agent"], filter);
        assert_eq!(read.problems, []);
        assert_eq!(read.rows.len(), rows);
        assert_eq!(read.texts("prompt")[15_000], "\u{fffd}ARKERMARKERMARKER");
        assert_eq!(read.texts("prompt")[19_999], "prompt 19999");
        assert_eq!(read.refused(), "prompt: not UTF-8=1");
        assert_eq!(read.metered_rows, rows as u64);
    }
}

#[test]
fn a_filter_gives_the_rows_of_its_accounts_and_no_others() {
    let filter: AccountFilter = Arc::new(|account| account == "acct_3");
    let file = parquet(&[good(1000)], 300);
    let lines: String = (0..1000)
        .map(|i| line(&format!("acct_{}", i % 7), &format!("prompt number {i}")))
        .collect();
    for bytes in [file, Bytes::from(lines)] {
        let source = Source::from_bytes("f", bytes, Table::Exchanges, &Options::default()).unwrap();
        let read = read_filtered(&source, &["prompt"], Some(Arc::clone(&filter)));
        let expected: Vec<String> =
            (0..1000).filter(|i| i % 7 == 3).map(|i| format!("prompt number {i}")).collect();
        assert_eq!(read.texts("prompt"), expected);
        assert_eq!(read.metered_rows, 1000);
    }
}

#[test]
fn an_unknown_column_can_not_be_asked_for() {
    let read = read_bytes(parquet(&[good(1)], 9), &[]);
    assert_eq!(read.rows.len(), 1);
    let source =
        Source::from_bytes("f", parquet(&[good(1)], 9), Table::Exchanges, &Options::default())
            .unwrap();
    let meter = Arc::default();
    let problem = source.splits()[0].read(&["shoe_size"], None, &meter).unwrap_err();
    assert_eq!(problem.to_string(), "f: the table of exchanges has no column shoe_size");
}

// The tables beside

#[test]
fn accounts_are_merged_whatever_their_order() {
    let rows = [
        r#"{"account_id":"b","plan":"pro","created_at":"2026-01-02T00:00:00Z"}"#,
        r#"{"account_id":"a","closed_at":"2026-02-01T00:00:00Z","closed_reason":"abuse","created_at":"0001-01-01T00:00:00Z"}"#,
        r#"{"account_id":"b","plan":"free","created_at":"2026-01-01T00:00:00Z","email_domain":"x.org"}"#,
        r#"{"account_id":"a","closed_at":"2026-03-01T00:00:00Z"}"#,
        r#"{"plan":"none"}"#,
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut results = Vec::new();
    for order in [[0, 1, 2, 3, 4], [3, 2, 4, 1, 0]] {
        let path = folder.path().join(format!("accounts_{}.jsonl", order[0]));
        let text: Vec<&str> = order.iter().map(|i| rows[*i]).collect();
        fs::write(&path, text.join("\n")).unwrap();
        results.push(
            read_accounts(&[path.to_str().unwrap().to_owned()], &Options::default()).unwrap(),
        );
    }
    assert_eq!(results[0], results[1]);
    let (accounts, problems) = &results[0];
    let shown: Vec<_> = accounts
        .iter()
        .map(|a| {
            let time =
                |t: Option<stillwatch_exchange::Time>| t.map_or("-".to_owned(), |t| t.to_string());
            format!(
                "{} {:?} {} {} {:?}",
                a.account_id,
                a.plan,
                time(a.created_at),
                time(a.closed_at),
                a.email_domain
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "a None - 2026-03-01T00:00:00Z None",
            "b Some(\"free\") 2026-01-01T00:00:00Z - Some(\"x.org\")",
        ]
    );
    let named: Vec<_> = problems.refused.named().into_iter().collect();
    assert_eq!(
        named,
        [
            ("account_id_duplicate".to_owned(), 2),
            ("account_id_missing".to_owned(), 1),
            ("created_at: out of range".to_owned(), 1),
        ]
    );
}

#[test]
fn releases_come_by_time_and_the_earliest_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("releases.parquet");
    let table = batch(vec![
        ("model", texts(&[Some("m2"), Some("m1"), Some("m1"), None, Some("m3")])),
        (
            "released_at",
            times(&[Some(MARCH), Some(MARCH + 5), Some(MARCH + 3), Some(MARCH), Some(0)]),
        ),
    ]);
    fs::write(&path, parquet(&[table], 2)).unwrap();
    let (releases, problems) =
        read_releases(&[path.to_str().unwrap().to_owned()], &Options::default()).unwrap();
    let shown: Vec<_> =
        releases.iter().map(|r| (r.model.as_str(), r.released_at.0 - MARCH)).collect();
    assert_eq!(shown, [("m2", 0), ("m1", 3)]);
    assert_eq!(
        problems.refused.named().into_iter().map(|(n, c)| format!("{n}={c}")).collect::<Vec<_>>(),
        ["model_duplicate=1", "model_missing=1", "released_at_implausible=1"]
    );
}

/// Reads files below a path as accounts, whatever the format of exchanges.
fn accounts_below(path: &std::path::Path) -> Result<(usize, Vec<String>), IngestError> {
    let options = Options { format: Some(Format::Bedrock), ..Options::default() };
    let (accounts, problems) = read_accounts(&[path.to_str().unwrap().to_owned()], &options)?;
    Ok((accounts.len(), problems.files.iter().map(ToString::to_string).collect()))
}

#[test]
fn a_table_of_which_nothing_can_be_read_is_no_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refused = |name: &str, says: &[&str]| {
        let error = accounts_below(&at(name)).unwrap_err().to_string();
        for word in [name, "no accounts can be read", "account_id"].iter().chain(says) {
            assert!(error.contains(word), "`{word}` is not said in: {error}");
        }
        assert_eq!(error.matches(name).count(), 1, "{error}");
    };
    fs::write(at("table.csv"), "account_id,plan\na,free\n").unwrap();
    refused("table.csv", &["format is not recognised"]);
    fs::write(at("empty.jsonl"), "").unwrap();
    refused("empty.jsonl", &["is empty"]);
    fs::write(at("users.jsonl"), "{\"user\":\"a\"}\n").unwrap();
    refused("users.jsonl", &["its JSON is no table of accounts"]);
    fs::write(at("nameless.jsonl"), "{\"account_id\":null}\n{\"account_id\":\"\"}\n").unwrap();
    refused("nameless.jsonl", &["account_id_missing in 2 rows"]);
    let users = batch(vec![("user", texts(&[Some("a")]))]);
    fs::write(at("users.parquet"), parquet(&[users], 2)).unwrap();
    refused("users.parquet", &["no column account_id"]);
    fs::create_dir(at("nothing")).unwrap();
    refused("nothing", &["there are no files"]);

    let none = batch(vec![("account_id", texts(&[]))]);
    fs::write(at("none.parquet"), parquet(&[none], 2)).unwrap();
    assert_eq!(accounts_below(&at("none.parquet")).unwrap(), (0, vec![]), "no rows are no fault");
    fs::write(at("some.jsonl"), "{\"account_id\":\"a\"}\n{\"plan\":\"b\"}\nno JSON\n").unwrap();
    assert_eq!(accounts_below(&at("some.jsonl")).unwrap(), (1, vec![]), "bad rows among good ones");

    fs::create_dir(at("mixed")).unwrap();
    fs::copy(at("some.jsonl"), at("mixed/some.jsonl")).unwrap();
    fs::copy(at("table.csv"), at("mixed/table.csv")).unwrap();
    let (accounts, problems) = accounts_below(&at("mixed")).unwrap();
    assert_eq!((accounts, problems.len()), (1, 1), "a bad file among good ones: {problems:?}");
}

#[test]
fn exchanges_are_not_taken_for_accounts_or_releases() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("rows.parquet", parquet(&[good(9)], 9)),
        ("rows.jsonl", Bytes::from(line("a", "hello"))),
        ("spans.json", Bytes::from_static(b"{\"resourceSpans\":[]}\n")),
    ];
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = accounts_below(&path).unwrap_err().to_string();
        assert!(error.contains("this looks like exchanges, not like accounts"), "{error}");
        let paths = [path.to_str().unwrap().to_owned()];
        let error = read_releases(&paths, &Options::default()).unwrap_err().to_string();
        assert!(error.contains("this looks like exchanges, not like releases"), "{error}");
    }
    let error = accounts_below(folder.path()).unwrap_err().to_string();
    assert!(error.contains("none of 3 files is one; the first: "), "{error}");
    assert!(error.contains("looks like exchanges"), "{error}");

    // A time is nothing that accounts can't have.
    let path = folder.path().join("accounts.jsonl");
    fs::write(&path, "{\"account_id\":\"a\",\"time\":\"2026-03-02T10:00:00Z\"}\n").unwrap();
    assert_eq!(accounts_below(&path).unwrap(), (1, vec![]));
}

#[test]
fn one_table_by_two_paths_is_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts.jsonl");
    fs::write(&path, "{\"account_id\":\"a\"}\n").unwrap();
    let paths = [path.to_str().unwrap(), folder.path().to_str().unwrap()].map(str::to_owned);
    let (accounts, problems) = read_accounts(&paths, &Options::default()).unwrap();
    assert_eq!((accounts.len(), problems), (1, stillwatch_ingest::Problems::default()));
}

#[test]
fn conventions_are_no_source_of_accounts() {
    let options = Options { format: Some(Format::Bedrock), ..Options::default() };
    let problem = Source::from_bytes("f", Bytes::from_static(b"{}\n"), Table::Accounts, &options)
        .unwrap_err();
    assert_eq!(
        problem.to_string(),
        "f: accounts are read from parquet and jsonl, not from bedrock"
    );
}

// Equivalences

/// A cell of JSON: mostly good, sometimes not.
fn json_cell() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        3 => "[ -~äß😀\"\\\\]{0,20}".prop_map(serde_json::Value::from),
        2 => any::<i64>().prop_map(serde_json::Value::from),
        1 => any::<f64>().prop_map(serde_json::Value::from),
        1 => any::<bool>().prop_map(serde_json::Value::from),
        1 => Just(serde_json::Value::Null),
        1 => Just(serde_json::json!(["x", {"y": 1}])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reading all columns and then looking at some is reading some.
    #[test]
    fn projecting_commutes_with_reading(
        lines in proptest::collection::vec(
            proptest::collection::btree_map(
                proptest::sample::select(all_columns(Table::Exchanges)), json_cell(), 0..8),
            1..20),
        columns in proptest::sample::subsequence(all_columns(Table::Exchanges), 0..8),
    ) {
        let text: String = lines.iter().map(|line| {
            let mut line = line.clone();
            line.entry("time").or_insert_with(|| "2026-03-01T04:05:06Z".into());
            line.entry("account_id").or_insert_with(|| "a".into());
            line.entry("prompt").or_insert_with(|| "p".into());
            serde_json::to_string(&line).unwrap() + "\n"
        }).collect();
        let bytes = Bytes::from(text);
        let options = Options { format: Some(Format::JsonLines), ..Options::default() };
        let source = Source::from_bytes("f", bytes, Table::Exchanges, &options).unwrap();
        let all = read(&source, &all_columns(Table::Exchanges));
        let some = read(&source, &columns);
        let projected: Vec<_> = all.rows.iter().map(|row| {
            let object: serde_json::Map<_, _> = columns.iter()
                .filter_map(|c| Some(((*c).to_owned(), row.get(c)?.clone())))
                .collect();
            serde_json::Value::Object(object)
        }).collect();
        prop_assert_eq!(&some.rows, &projected);
        prop_assert_eq!(&some.refused.rows, &all.refused.rows);
    }
}
