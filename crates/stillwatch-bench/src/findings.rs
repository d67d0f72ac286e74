//! What a detector accuses, written as a hunt's findings, so that one rule scores all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringViewArray};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use stillwatch_exchange::{CampaignKind, Time};

use crate::detector::Suspicion;
use crate::traffic::Traffic;

/// Findings that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FindingsError {
    #[error("cannot write {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}")]
    Parquet { path: PathBuf, source: parquet::errors::ParquetError },
    #[error("cannot write {path}: {source}")]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("the members do not fit their columns: {0}")]
    Rows(#[from] arrow::error::ArrowError),
}

/// Writes `campaigns.json` and `members.parquet` of all suspicions whose score rises
/// above the threshold; gives back how many they are.
///
/// # Errors
/// A file can't be written.
pub fn accuse(
    traffic: &Traffic,
    suspicions: &[Suspicion],
    threshold: f64,
    out: &Path,
) -> Result<u64, FindingsError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| FindingsError::Io { path, source }
    };
    fs::create_dir_all(out).map_err(at(out))?;
    let (mut list, mut ids, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
    for suspicion in suspicions {
        let Some(time_us) = suspicion.when_above(threshold) else { continue };
        let id = format!("b{}", list.len());
        for account in &suspicion.accounts {
            ids.push(id.clone());
            accounts.push(traffic.accounts[*account as usize].id.as_str());
        }
        list.push(json!({
            "campaign_id": id,
            "kind": CampaignKind::Distillation.name(),
            "first_detectable": Time(time_us),
        }));
    }
    let findings = list.len() as u64;
    let path = out.join("campaigns.json");
    let text = serde_json::to_string(&list)
        .map_err(|source| FindingsError::Json { path: path.clone(), source })?;
    fs::write(&path, text).map_err(at(&path))?;

    let path = out.join("members.parquet");
    let ids: ArrayRef = Arc::new(StringViewArray::from_iter_values(&ids));
    let accounts: ArrayRef = Arc::new(StringViewArray::from_iter_values(&accounts));
    let batch = RecordBatch::try_from_iter([("campaign_id", ids), ("account_id", accounts)])?;
    let file = File::create(&path).map_err(at(&path))?;
    let failed = |source| FindingsError::Parquet { path: path.clone(), source };
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).map_err(failed)?;
    writer.write(&batch).map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(findings)
}
