//! Arrow arrays of whatever type a file has, turned into those of the contract.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, PrimitiveArray,
    StringViewBuilder, TimestampMicrosecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt16Type, UInt32Type,
};
use arrow::error::ArrowError;
use stillwatch_exchange::{Column, ColumnKind, Time};

use crate::problems::{CellReason, RefusedCounts};
use crate::validity;

/// Whether values of this type can serve for a column of that kind; if not, what
/// was expected.
pub(crate) fn accepts(kind: ColumnKind, from: &DataType) -> Result<(), &'static str> {
    let inner = match from {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    let text = matches!(inner, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let bytes = matches!(inner, DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
    let integer = inner.is_integer();
    let number = inner.is_numeric();
    let null = matches!(inner, DataType::Null);
    let (good, expected) = match kind {
        ColumnKind::Time => (
            text || matches!(inner, DataType::Timestamp(..)),
            "timestamp (or RFC 3339 text); a plain number says no unit",
        ),
        // Old writers leave out that bytes are text; account numbers are numbers.
        ColumnKind::Text => (text || bytes || integer, "text"),
        ColumnKind::Bytes => (bytes || matches!(inner, DataType::FixedSizeBinary(_)), "binary"),
        ColumnKind::Bool => (matches!(inner, DataType::Boolean), "boolean"),
        ColumnKind::U16 | ColumnKind::U32 | ColumnKind::I64 => (number, "integer"),
        ColumnKind::F32 | ColumnKind::F64 => (number, "number"),
    };
    if good || null { Ok(()) } else { Err(expected) }
}

/// The type to ask the Parquet reader for, where it can make the contract's type
/// (or one nearer to it) itself.
pub(crate) fn read_as(kind: ColumnKind, from: &DataType) -> DataType {
    let inner = match from {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    match (kind, inner) {
        (ColumnKind::Text, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
            DataType::Utf8View
        }
        (
            ColumnKind::Text | ColumnKind::Bytes,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView,
        ) => DataType::BinaryView,
        _ => from.clone(),
    }
}

/// The array as the contract's type, and what became of cells on the way. Values
/// of required time columns that could not be read become null; [`crate::validity`]
/// refuses their rows.
pub(crate) fn coerce(
    column: &'static Column,
    array: &ArrayRef,
    refused: &mut RefusedCounts,
) -> Result<ArrayRef, ArrowError> {
    match column.kind {
        ColumnKind::Time => time(column, array, refused),
        ColumnKind::Text => text(column, array, refused),
        ColumnKind::Bytes => to(array, &DataType::BinaryView),
        ColumnKind::Bool => to(array, &DataType::Boolean),
        ColumnKind::U16 => number::<UInt16Type>(column, array, refused, f64::from),
        ColumnKind::U32 => number::<UInt32Type>(column, array, refused, f64::from),
        #[expect(clippy::cast_precision_loss, reason = "every i64 is in range")]
        ColumnKind::I64 => number::<Int64Type>(column, array, refused, |v| v as f64),
        ColumnKind::F32 => number::<Float32Type>(column, array, refused, f64::from),
        ColumnKind::F64 => number::<Float64Type>(column, array, refused, |v| v),
    }
}

fn to(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    cast_with_options(array, target, &CastOptions { safe: true, ..CastOptions::default() })
}

fn time(
    column: &'static Column,
    array: &ArrayRef,
    refused: &mut RefusedCounts,
) -> Result<ArrayRef, ArrowError> {
    let times =
        match array.data_type() {
            // `try_unary` would fail the batch; a time that overflows is one row's trouble.
            DataType::Timestamp(TimeUnit::Second, _) => array
                .as_primitive::<TimestampSecondType>()
                .unary::<_, TimestampMicrosecondType>(|v| v.saturating_mul(1_000_000)),
            DataType::Timestamp(TimeUnit::Millisecond, _) => array
                .as_primitive::<TimestampMillisecondType>()
                .unary::<_, TimestampMicrosecondType>(|v| v.saturating_mul(1_000)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                array.as_primitive::<TimestampMicrosecondType>().clone()
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => array
                .as_primitive::<TimestampNanosecondType>()
                .unary::<_, TimestampMicrosecondType>(|v| v.div_euclid(1_000)),
            DataType::Null => TimestampMicrosecondArray::new_null(array.len()),
            _ => {
                let texts = to(array, &DataType::Utf8View)?;
                let texts = texts.as_string_view();
                texts
                    .iter()
                    .map(|t| t.and_then(|t| Time::parse(t).ok()).map(|t| t.0))
                    .collect::<TimestampMicrosecondArray>()
            }
        };
    let mut times = times;
    if !column.required {
        let unread = (times.null_count() - array.logical_null_count()) as u64;
        refused.cell(column.name, CellReason::WrongType, unread);
        if times.values().iter().any(|t| !validity::plausible(*t)) {
            let before = times.null_count();
            times = times.unary_opt(|t| validity::plausible(t).then_some(t));
            let lost = (times.null_count() - before) as u64;
            refused.cell(column.name, CellReason::OutOfRange, lost);
        }
    }
    Ok(Arc::new(times.with_timezone("UTC")))
}

fn text(
    column: &'static Column,
    array: &ArrayRef,
    refused: &mut RefusedCounts,
) -> Result<ArrayRef, ArrowError> {
    let value_type = match array.data_type() {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    if matches!(value_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView) {
        let bytes = to(array, &DataType::BinaryView)?;
        return Ok(lossy(column, bytes.as_binary_view(), refused));
    }
    if value_type.is_integer() {
        return to(&to(array, &DataType::Utf8)?, &DataType::Utf8View);
    }
    to(array, &DataType::Utf8View)
}

/// Bytes as text, bad ones replaced; without copying where all are good.
fn lossy(
    column: &'static Column,
    bytes: &BinaryViewArray,
    refused: &mut RefusedCounts,
) -> ArrayRef {
    if let Ok(texts) = bytes.clone().to_string_view() {
        return Arc::new(texts);
    }
    let mut texts = StringViewBuilder::with_capacity(bytes.len());
    let mut bad = 0;
    for value in bytes {
        let value = value.map(String::from_utf8_lossy);
        // Owned only where something was replaced.
        bad += u64::from(matches!(value, Some(std::borrow::Cow::Owned(_))));
        texts.append_option(value);
    }
    refused.cell(column.name, CellReason::NotUtf8, bad);
    Arc::new(texts.finish())
}

fn number<T: ArrowPrimitiveType>(
    column: &'static Column,
    array: &ArrayRef,
    refused: &mut RefusedCounts,
    as_f64: impl Fn(T::Native) -> f64,
) -> Result<ArrayRef, ArrowError> {
    let array = without_nan(array);
    let cast = to(&array, &T::DATA_TYPE)?;
    let numbers = cast.as_primitive::<T>();
    // A safe cast makes null what does not fit.
    let mut lost = cast.null_count() - array.logical_null_count();
    let (min, max) = validity::range(column.name, column.kind);
    let good = |v: T::Native| (min..=max).contains(&as_f64(v));
    // A fold without a branch, for the vectoriser.
    let all_good = numbers.values().iter().fold(true, |all, v| all & good(*v));
    let numbers: PrimitiveArray<T> = if all_good {
        numbers.clone()
    } else {
        let inside = numbers.unary_opt::<_, T>(|v| good(v).then_some(v));
        lost += inside.null_count() - numbers.null_count();
        inside
    };
    refused.cell(column.name, CellReason::OutOfRange, lost as u64);
    Ok(Arc::new(numbers))
}

/// Not a number is how tables without nulls write a missing one.
fn without_nan(array: &ArrayRef) -> ArrayRef {
    fn nan_to_null<T: ArrowPrimitiveType>(
        array: &ArrayRef,
        is_nan: impl Fn(T::Native) -> bool,
    ) -> ArrayRef {
        let numbers = array.as_primitive::<T>();
        if !numbers.values().iter().any(|v| is_nan(*v)) {
            return Arc::clone(array);
        }
        let good: NullBuffer =
            numbers.values().iter().map(|v| !is_nan(*v)).collect::<Vec<_>>().into();
        let nulls = NullBuffer::union(numbers.nulls(), Some(&good));
        Arc::new(PrimitiveArray::<T>::new(numbers.values().clone(), nulls))
    }
    match array.data_type() {
        DataType::Float32 => nan_to_null::<Float32Type>(array, f32::is_nan),
        DataType::Float64 => nan_to_null::<Float64Type>(array, f64::is_nan),
        _ => Arc::clone(array),
    }
}
