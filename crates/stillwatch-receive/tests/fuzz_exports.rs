//! Fuzz target for exports as they come: bytes in either encoding, packed or not.
//!
//! Runs for a second as an ordinary test. For longer:
//! `BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test --release --workspace --test fuzz_exports`;
//! a finding prints the seed that repeats it (`BOLERO_RANDOM_SEED`).

use bolero::TypeGenerator;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use stillwatch_ingest::{Options, received};
use stillwatch_receive::fuzzing::{Encoding, Signal, decoded};

/// Damage to a byte of an export that was good.
#[derive(Clone, Debug, TypeGenerator)]
struct Damage {
    at: u16,
    byte: u8,
    is_cut: bool,
}

const SPANS: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"tenant.id","value":{"stringValue":"t"}}],"droppedAttributesCount":0,"entityRefs":[]},"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","traceState":"","parentSpanId":"","flags":0,"name":"chat","kind":3,"startTimeUnixNano":"1772337906789012345","endTimeUnixNano":"1772337908000000000","attributes":[{"key":"gen_ai.request.model","value":{"stringValue":"m"}},{"key":"gen_ai.prompt","value":{"stringValue":"One?"}},{"key":"user.id","value":{"stringValue":"a"}},{"key":"list","value":{"arrayValue":{"values":[{"doubleValue":0.5},{"boolValue":true}]}}}],"droppedAttributesCount":0,"events":[],"droppedEventsCount":0,"links":[],"droppedLinksCount":0,"status":null}],"schemaUrl":""}],"schemaUrl":""}]}"#;
const LOGS: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1772337906789012345","observedTimeUnixNano":"0","severityNumber":0,"severityText":"","traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","eventName":"gen_ai.user.message","attributes":[{"key":"user.id","value":{"stringValue":"a"}}],"droppedAttributesCount":0,"flags":0,"body":{"kvlistValue":{"values":[{"key":"content","value":{"stringValue":"One?"}}]}}}],"schemaUrl":""}],"schemaUrl":""}]}"#;

/// The export as each encoding has it.
fn samples() -> [(Vec<u8>, Encoding, Signal); 4] {
    let spans: ExportTraceServiceRequest = serde_json::from_str(SPANS).unwrap();
    let logs: ExportLogsServiceRequest = serde_json::from_str(LOGS).unwrap();
    [
        (SPANS.as_bytes().to_vec(), Encoding::Json, Signal::Traces),
        (LOGS.as_bytes().to_vec(), Encoding::Json, Signal::Logs),
        (spans.encode_to_vec(), Encoding::Protobuf, Signal::Traces),
        (logs.encode_to_vec(), Encoding::Protobuf, Signal::Logs),
    ]
}

fn check(bytes: &[u8], encoding: Encoding, signal: Signal) -> usize {
    for is_gzip in [false, true] {
        if let Ok(export) = decoded(bytes, is_gzip, encoding, signal) {
            let all = received(&export, &Options::default()).unwrap();
            if all.exchanges.iter().any(|e| e.line.iter().filter(|b| **b == b'\n').count() != 1) {
                panic!("an exchange is a line");
            }
            return all.exchanges.len();
        }
    }
    0
}

#[test]
fn fuzz_damaged_exports() {
    let samples = samples();
    for (sample, encoding, signal) in &samples {
        assert_eq!(check(sample, *encoding, *signal), 1, "the sample is good");
    }
    bolero::check!().with_type::<(u8, Vec<Damage>)>().for_each(|(which, damages)| {
        let (mut bytes, encoding, signal) = samples[usize::from(*which) % samples.len()].clone();
        for Damage { at, byte, is_cut } in damages {
            let place = usize::from(*at) * bytes.len() / 65_536;
            match bytes.get_mut(place) {
                Some(_) if *is_cut => bytes.truncate(place),
                Some(there) => *there = *byte,
                None => {}
            }
        }
        check(&bytes, encoding, signal);
    });
}

#[test]
fn fuzz_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            for signal in [Signal::Traces, Signal::Logs] {
                check(bytes, encoding, signal);
            }
        }
    });
}
