//! `observe(columns…)`: one exchange becomes its traits, a binary of fixed size.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int64Array, PrimitiveArray, StringViewArray, TimestampMicrosecondArray,
    UInt16Array, UInt32Array,
};
use arrow::buffer::MutableBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use stillwatch_detect::observe::{Key, Observer, TRAITS_BYTES};
use stillwatch_exchange::{Exchange, Time};

/// The columns that `observe` takes, in its order.
pub(crate) const OBSERVED: &[&str] = &[
    "time",
    "account_id",
    "organization_id",
    "credential_id",
    "conversation_id",
    "turn",
    "request_model",
    "response_model",
    "route",
    "system_instructions",
    "prompt",
    "prompt_sketch",
    "request_temperature",
    "request_top_p",
    "request_max_tokens",
    "request_choice_count",
    "request_seed",
    "request_stream",
    "request_top_logprobs",
    "request_logit_bias_count",
    "request_reasoning",
    "request_tool_count",
    "usage_input_tokens",
    "usage_output_tokens",
    "usage_reasoning_tokens",
    "response_finish_reason",
    "status",
    "client_address",
    "client_network",
    "client_asn",
    "client_country",
    "tls_fingerprint",
    "user_agent",
    "cost_usd",
];

/// The function under a key.
pub(crate) fn observe(key: Key) -> ScalarUDF {
    ScalarUDF::new_from_impl(Observe {
        signature: Signature::any(OBSERVED.len(), Volatility::Immutable),
        key,
        idle: Idle(Arc::new(Mutex::new(Vec::new()))),
    })
}

/// Observers that no batch is using; at most one a thread. Two functions under one key
/// are the same function, whatever their observers remember.
#[derive(Clone)]
struct Idle(Arc<Mutex<Vec<Observer>>>);

#[derive(PartialEq, Eq, Hash)]
struct Observe {
    signature: Signature,
    key: Key,
    idle: Idle,
}

impl std::fmt::Debug for Observe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("observe")
    }
}

impl PartialEq for Idle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Idle {}
impl std::hash::Hash for Idle {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl ScalarUDFImpl for Observe {
    fn name(&self) -> &str {
        "observe"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(TRAITS_BYTES as i32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let mut observer = self
            .idle
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_else(|| Observer::new(self.key));
        let mut bytes = MutableBuffer::with_capacity(args.number_rows * TRAITS_BYTES);
        for exchange in rows(&arrays)? {
            bytes.extend_from_slice(&observer.observe(&exchange).to_bytes());
        }
        self.idle.0.lock().unwrap_or_else(PoisonError::into_inner).push(observer);
        let array = FixedSizeBinaryArray::try_new(TRAITS_BYTES as i32, bytes.into(), None)?;
        Ok(ColumnarValue::Array(Arc::new(array)))
    }
}

fn cast<A: 'static>(arrays: &[ArrayRef], index: usize) -> Result<&A> {
    let array = arrays
        .get(index)
        .ok_or_else(|| internal_datafusion_err!("observe takes {} columns", OBSERVED.len()))?;
    array.as_any().downcast_ref::<A>().ok_or_else(|| {
        exec_datafusion_err!("observe: column {} has type {}", OBSERVED[index], array.data_type())
    })
}

fn value<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    array.is_valid(row).then(|| array.value(row))
}

fn text(array: &StringViewArray, row: usize) -> Option<&str> {
    array.is_valid(row).then(|| array.value(row))
}

/// The rows of columns in the order of [`OBSERVED`].
fn rows(arrays: &[ArrayRef]) -> Result<impl Iterator<Item = Exchange<'_>>> {
    let time = cast::<TimestampMicrosecondArray>(arrays, 0)?;
    let account_id = cast::<StringViewArray>(arrays, 1)?;
    let organization_id = cast::<StringViewArray>(arrays, 2)?;
    let credential_id = cast::<StringViewArray>(arrays, 3)?;
    let conversation_id = cast::<StringViewArray>(arrays, 4)?;
    let turn = cast::<UInt16Array>(arrays, 5)?;
    let request_model = cast::<StringViewArray>(arrays, 6)?;
    let response_model = cast::<StringViewArray>(arrays, 7)?;
    let route = cast::<StringViewArray>(arrays, 8)?;
    let system_instructions = cast::<StringViewArray>(arrays, 9)?;
    let prompt = cast::<StringViewArray>(arrays, 10)?;
    let prompt_sketch = cast::<BinaryViewArray>(arrays, 11)?;
    let request_temperature = cast::<Float32Array>(arrays, 12)?;
    let request_top_p = cast::<Float32Array>(arrays, 13)?;
    let request_max_tokens = cast::<UInt32Array>(arrays, 14)?;
    let request_choice_count = cast::<UInt16Array>(arrays, 15)?;
    let request_seed = cast::<Int64Array>(arrays, 16)?;
    let request_stream = cast::<BooleanArray>(arrays, 17)?;
    let request_top_logprobs = cast::<UInt16Array>(arrays, 18)?;
    let request_logit_bias_count = cast::<UInt16Array>(arrays, 19)?;
    let request_reasoning = cast::<StringViewArray>(arrays, 20)?;
    let request_tool_count = cast::<UInt16Array>(arrays, 21)?;
    let usage_input_tokens = cast::<UInt32Array>(arrays, 22)?;
    let usage_output_tokens = cast::<UInt32Array>(arrays, 23)?;
    let usage_reasoning_tokens = cast::<UInt32Array>(arrays, 24)?;
    let response_finish_reason = cast::<StringViewArray>(arrays, 25)?;
    let status = cast::<UInt16Array>(arrays, 26)?;
    let client_address = cast::<StringViewArray>(arrays, 27)?;
    let client_network = cast::<StringViewArray>(arrays, 28)?;
    let client_asn = cast::<UInt32Array>(arrays, 29)?;
    let client_country = cast::<StringViewArray>(arrays, 30)?;
    let tls_fingerprint = cast::<StringViewArray>(arrays, 31)?;
    let user_agent = cast::<StringViewArray>(arrays, 32)?;
    let cost_usd = cast::<Float64Array>(arrays, 33)?;
    Ok((0..time.len()).map(move |row| Exchange {
        exchange_id: None,
        time: Time(time.value(row)),
        account_id: account_id.value(row),
        organization_id: text(organization_id, row),
        credential_id: text(credential_id, row),
        conversation_id: text(conversation_id, row),
        turn: value(turn, row),
        provider_name: None,
        operation_name: None,
        request_model: text(request_model, row),
        response_model: text(response_model, row),
        route: text(route, row),
        system_instructions: text(system_instructions, row),
        prompt: text(prompt, row),
        prompt_sketch: prompt_sketch.is_valid(row).then(|| prompt_sketch.value(row)),
        request_temperature: value(request_temperature, row),
        request_top_p: value(request_top_p, row),
        request_max_tokens: value(request_max_tokens, row),
        request_choice_count: value(request_choice_count, row),
        request_seed: value(request_seed, row),
        request_stream: request_stream.is_valid(row).then(|| request_stream.value(row)),
        request_top_logprobs: value(request_top_logprobs, row),
        request_logit_bias_count: value(request_logit_bias_count, row),
        request_reasoning: text(request_reasoning, row),
        request_tool_count: value(request_tool_count, row),
        usage_input_tokens: value(usage_input_tokens, row),
        usage_output_tokens: value(usage_output_tokens, row),
        usage_reasoning_tokens: value(usage_reasoning_tokens, row),
        response_finish_reason: text(response_finish_reason, row),
        response_digest: None,
        status: value(status, row),
        client_address: text(client_address, row),
        client_network: text(client_network, row),
        client_asn: value(client_asn, row),
        client_country: text(client_country, row),
        tls_fingerprint: text(tls_fingerprint, row),
        user_agent: text(user_agent, row),
        cost_usd: value(cost_usd, row),
    }))
}
