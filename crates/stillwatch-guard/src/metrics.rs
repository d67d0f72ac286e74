//! What is counted, for Prometheus. No label's value is chosen by a caller.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use stillwatch_decide::{Response, Verdict};

/// A verdict's name, and whether something was done.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    verdict: &'static str,
    enforced: &'static str,
}

/// The hundreds of a status: `2xx`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

/// The classes of status, by their hundreds.
const STATUSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// All counters. Each is looked up once, at the start.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    verdicts: Vec<[Counter; 2]>,
    statuses: Vec<Counter>,
    pub connections: Gauge,
    pub exchanges_open: Gauge,
    pub input_tokens: Counter,
    pub output_tokens: Counter,
    pub aborted: Counter,
    pub cut: Counter,
    pub reasoning_refused: Counter,
    pub passed: Counter,
    pub unread: Counter,
    pub records_sealed: Counter,
    pub records_unfinished: Counter,
    pub records_published: Counter,
    pub reloads: Counter,
    pub reloads_refused: Counter,
    pub spans_sent: Counter,
    pub spans_dropped: Counter,
    pub records_lost: Gauge<u64, AtomicU64>,
    pub accounts_named: Gauge,
    pub brokers_away: Gauge,
}

impl Metrics {
    /// All of them at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("stillwatch_guard");
        let verdicts = Family::<VerdictLabels, Counter>::default();
        registry.register("verdicts", "Exchanges by verdict", verdicts.clone());
        let statuses = Family::<StatusLabels, Counter>::default();
        registry.register("exchanges", "Exchanges by class of status", statuses.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let input_tokens = counter("input_tokens", "Input tokens by the vendor's figures");
        let output_tokens = counter("output_tokens", "Output tokens by the vendor's figures");
        let aborted = counter("aborted", "Exchanges that either side broke off");
        let cut = counter("cut", "Streams that a changed verdict has ended");
        let reasoning_refused =
            counter("reasoning_refused", "Requests with a reasoning block of somebody else");
        let passed = counter("passed", "Requests passed on that are no exchanges");
        let unread = counter("unread", "Requests and answers that could not be read");
        let records_sealed = counter("records_sealed", "Exchanges written to Parquet");
        let records_unfinished =
            counter("records_unfinished", "Exchanges that a killed guard left unfinished");
        let records_published = counter("records_published", "Exchanges that a stream has taken");
        let reloads = counter("reloads", "Reloads of policy, verdicts and credentials");
        let reloads_refused = counter("reloads_refused", "Reloads refused for an error in a file");
        let spans_sent = counter("spans_sent", "Spans that the collector of traces took");
        let spans_dropped =
            counter("spans_dropped", "Spans dropped because the collector did not take them");
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let connections = gauge("connections", "Connections of clients");
        let exchanges_open = gauge("exchanges_open", "Exchanges under way");
        let accounts_named = gauge("accounts_named", "Accounts that a finding names");
        let brokers_away =
            gauge("brokers_away", "Things that NATS does not give or take at present");
        let records_lost = Gauge::<u64, AtomicU64>::default();
        registry.register(
            "records_lost",
            "Journal lines dropped because the disk was full",
            records_lost.clone(),
        );
        let of_verdict = |response: Response| {
            ["false", "true"].map(|enforced| {
                verdicts.get_or_create_owned(&VerdictLabels { verdict: response.name(), enforced })
            })
        };
        let of_status = |status| statuses.get_or_create_owned(&StatusLabels { status });
        Metrics {
            verdicts: Response::ALL.into_iter().map(of_verdict).collect(),
            statuses: STATUSES.into_iter().map(of_status).collect(),
            registry,
            connections,
            exchanges_open,
            input_tokens,
            output_tokens,
            aborted,
            cut,
            reasoning_refused,
            passed,
            unread,
            records_sealed,
            records_unfinished,
            records_published,
            reloads,
            reloads_refused,
            spans_sent,
            spans_dropped,
            records_lost,
            accounts_named,
            brokers_away,
        }
    }

    /// Counts a verdict by what the policy means to be done.
    pub fn count_verdict(&self, verdict: &Verdict<'_>) {
        let is_enforced = verdict.responses == verdict.intended;
        let counters = self.verdicts.get(verdict.intended.gravest() as usize);
        if let Some(counter) = counters.and_then(|both| both.get(usize::from(is_enforced))) {
            counter.inc();
        }
    }

    /// Counts an exchange that has ended; none where nothing was answered.
    pub fn count_status(&self, status: Option<u16>) {
        let hundreds = usize::from(status.unwrap_or(0) / 100);
        if let Some(counter) = self.statuses.get(hundreds) {
            counter.inc();
        }
    }

    /// All of them in the text format of OpenMetrics.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
