//! The embedded engine: contexts, and the queries that pass over the exchanges.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::Result;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SessionContext;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::Partitioning;
use datafusion::physical_optimizer::combine_partial_final_agg::CombinePartialFinalAggregate;
use datafusion::physical_optimizer::sanity_checker::SanityCheckPlan;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, col};
use futures::TryStreamExt;
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::observe::Key;
use stillwatch_detect::population::Member;
use stillwatch_ingest::Source;
use tokio::sync::mpsc;

use crate::functions::{self, Finished, OBSERVED};
use crate::harvest;
use crate::source::{Pass, received, table};

/// Exchanges by hour of event time; the index is hours since the Unix epoch.
pub(crate) type Hours = Vec<(i64, u64)>;

fn context(partitions: usize) -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(partitions))
}

/// A context that leaves exchanges in the partitions that a query puts them into. The
/// engine's own rules would have each partition add up every account and merge
/// afterwards, which takes twice the memory, or more with more partitions.
fn partitioned(partitions: usize) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(SessionConfig::new().with_target_partitions(partitions))
        .with_default_features()
        .with_physical_optimizer_rules(vec![
            Arc::new(CombinePartialFinalAggregate::new()),
            Arc::new(SanityCheckPlan::new()),
        ])
        .build();
    SessionContext::new_with_state(state)
}

/// Memory that sorting the harvested exchanges may take before it spills.
const SORT_BYTES_MAX: usize = 64 << 20;

/// The members' exchanges, observed, in no order.
pub(crate) async fn member_exchanges(
    sources: &[Source],
    pass: Pass,
    partitions: usize,
    key: Key,
    quote: bool,
) -> Result<SendableRecordBatchStream> {
    let context = context(partitions);
    let observed: Vec<&str> =
        OBSERVED.iter().copied().filter(|name| pass.columns.contains(name)).collect();
    context.register_udf(functions::observe(key, pass.columns));
    context.register_table("exchanges", Arc::new(table(sources, pass, partitions)?))?;
    let excerpt = if quote { "SUBSTR(prompt, 1, 400)" } else { "CAST(NULL AS VARCHAR)" };
    let observed = context
        .sql(&format!(
            "SELECT *, observe({}) AS traits, {excerpt} AS excerpt FROM exchanges",
            observed.join(", ")
        ))
        .await?;
    context.register_table("observed", observed.into_view())?;
    context.sql(include_str!("queries/members.sql")).await?.execute_stream().await
}

/// Harvested exchanges by account, time and id. In one partition, whose sort can spill
/// all that it holds: to merge several takes memory that can't be given back.
pub(crate) async fn in_order(
    harvested: mpsc::Receiver<RecordBatch>,
    spill: &std::path::Path,
) -> Result<SendableRecordBatchStream> {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(SORT_BYTES_MAX)))
        .with_temp_file_path(spill)
        .build_arc()?;
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_sort_spill_reservation_bytes(SORT_BYTES_MAX / 4);
    let context = SessionContext::new_with_config_rt(config, runtime);
    context
        .register_table("harvested", Arc::new(received(harvest::harvested_schema(), harvested)?))?;
    context.sql(include_str!("queries/harvest.sql")).await?.execute_stream().await
}

/// Reads the prompts with the engine's own reader and adds up their lengths.
pub(crate) async fn scan(exchanges: &[String], partitions: usize) -> Result<(u64, u64)> {
    let context = context(partitions);
    let options = ParquetReadOptions::default();
    let table = context.read_parquet(exchanges.to_vec(), options).await?;
    context.register_table("exchanges", table.into_view())?;
    let batches = context
        .sql("SELECT COUNT(*) AS exchanges, SUM(CHARACTER_LENGTH(prompt)) AS characters FROM exchanges")
        .await?
        .collect()
        .await?;
    let (mut exchanges, mut characters) = (0, 0);
    for batch in &batches {
        exchanges +=
            batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>() as u64;
        characters +=
            batch.column(1).as_primitive::<Int64Type>().values().iter().sum::<i64>() as u64;
    }
    Ok((exchanges, characters))
}

/// Counts the exchanges of each hour.
pub(crate) async fn hours(sources: &[Source], pass: Pass, partitions: usize) -> Result<Hours> {
    let context = context(partitions);
    context.register_table("exchanges", Arc::new(table(sources, pass, partitions)?))?;
    let batches = context.sql(include_str!("queries/hours.sql")).await?.collect().await?;
    let mut hours = Hours::new();
    for batch in &batches {
        let hour = batch.column(0).as_primitive::<Int64Type>();
        let exchanges = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            hours.push((hour.value(row), exchanges.value(row) as u64));
        }
    }
    Ok(hours)
}

/// Glances at every exchange and adds up by account what is seen.
pub(crate) async fn profiles(
    sources: &[Source],
    pass: Pass,
    partitions: usize,
    key: Key,
    calendar: &Calendar,
) -> Result<Vec<Member>> {
    let context = partitioned(partitions);
    let finished = Finished::default();
    context.register_udf(functions::glance(key));
    context.register_udaf(functions::profile(calendar.clone(), finished.clone()));
    context.register_table("exchanges", Arc::new(table(sources, pass, partitions)?))?;
    let seen = context
        .sql(&format!("SELECT account_id, glance({}) AS seen FROM exchanges", OBSERVED.join(", ")))
        .await?;
    // What is seen is a few numbers: moving them to where their account is added up
    // costs less than adding up every account in each partition and merging.
    let seen = seen.repartition(Partitioning::Hash(vec![col("account_id")], partitions))?;
    context.register_table("seen", seen.into_view())?;
    let query = context.sql(include_str!("queries/profiles.sql")).await?;
    let mut stream = query.execute_stream().await?;
    let mut accounts: Vec<(String, u64)> = Vec::new();
    while let Some(batch) = stream.try_next().await? {
        let ids = batch.column(0).as_string_view();
        let numbers = batch.column(1).as_primitive::<UInt64Type>();
        accounts.extend(
            ids.iter().zip(numbers).filter_map(|(id, number)| Some((id?.to_owned(), number?))),
        );
    }
    // Profiles lie in the order of their numbers.
    accounts.sort_unstable_by_key(|(_, number)| *number);
    let profiles = finished.take();
    debug_assert_eq!(accounts.len(), profiles.len());
    Ok(accounts
        .into_iter()
        .zip(profiles)
        .map(|((account_id, _), profile)| Member { account_id, profile, record: None })
        .collect())
}
