//! `glance(columns…)` and `observe(columns…)`: one exchange becomes a binary of fixed
//! size, its traits or what a profile takes of them.
//!
//! Columns are gone through one by one, not row by row: most have few distinct values
//! or none at all, which is cheap to see of a column and dear to see of a row.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, FixedSizeBinaryArray,
    PrimitiveArray, RecordBatch, StringViewArray,
};
use arrow::buffer::MutableBuffer;
use arrow::datatypes::{
    DataType, Float32Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type,
};
use datafusion::common::{Result, exec_datafusion_err, internal_datafusion_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use stillwatch_detect::observe::{
    Facts, GLANCE_BYTES, Glance, Key, Link, Observer, Prompt, Sketch, TRAITS_BYTES, Traits,
    asks_for_reasoning, is_truncation,
};
use stillwatch_exchange::Time;

/// The columns that are observed, in the order in which `glance` and `observe` take them.
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
];

/// Exchanges become their traits, as far as those of the observed columns tell that are
/// among `columns`.
pub(crate) fn observe(key: Key, columns: &[&str]) -> ScalarUDF {
    let given = OBSERVED.iter().copied().filter(|name| columns.contains(name)).collect();
    function("observe", What::Traits, key, given)
}

/// Exchanges become what a profile takes of them.
pub(crate) fn glance(key: Key) -> ScalarUDF {
    function("glance", What::Glance, key, OBSERVED.to_vec())
}

/// What a profile takes of each row of a batch with the columns of
/// [`columns_read`](crate::columns_read), in their order.
///
/// # Errors
/// The batch has other columns.
pub fn glances(rows: &RecordBatch, observer: &mut Observer) -> Result<Vec<Glance>> {
    let mut glances = Vec::with_capacity(rows.num_rows());
    let columns = Columns { names: OBSERVED, arrays: rows.columns() };
    columns.observed(observer, |facts, traits| glances.push(Glance::of(&traits, facts.account)))?;
    Ok(glances)
}

fn function(name: &'static str, what: What, key: Key, given: Vec<&'static str>) -> ScalarUDF {
    ScalarUDF::new_from_impl(Observe {
        name,
        what,
        signature: Signature::any(given.len(), Volatility::Immutable),
        given,
        key,
        idle: Idle(Arc::new(Mutex::new(Vec::new()))),
    })
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Traits,
    Glance,
}

/// Observers that no batch is using; at most one a thread. Two functions under one key
/// are the same function, whatever their observers remember.
#[derive(Clone)]
struct Idle(Arc<Mutex<Vec<Observer>>>);

#[derive(PartialEq, Eq, Hash)]
struct Observe {
    name: &'static str,
    what: What,
    signature: Signature,
    /// The columns that it is given, in their order.
    given: Vec<&'static str>,
    key: Key,
    idle: Idle,
}

impl std::fmt::Debug for Observe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Idle {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Idle {}
impl Hash for Idle {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Observe {
    fn size(&self) -> usize {
        match self.what {
            What::Traits => TRAITS_BYTES,
            What::Glance => GLANCE_BYTES,
        }
    }
}

impl ScalarUDFImpl for Observe {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::FixedSizeBinary(self.size() as i32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let idle = || self.idle.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut observer = idle().pop().unwrap_or_else(|| Observer::new(self.key));
        let columns = Columns { names: &self.given, arrays: &arrays };
        let mut bytes = MutableBuffer::with_capacity(columns.rows() * self.size());
        columns.observed(&mut observer, |facts, traits| match self.what {
            What::Glance => {
                bytes.extend_from_slice(&Glance::of(&traits, facts.account).to_bytes());
            }
            What::Traits => bytes.extend_from_slice(&traits.to_bytes()),
        })?;
        idle().push(observer);
        let array = FixedSizeBinaryArray::try_new(self.size() as i32, bytes.into(), None)?;
        Ok(ColumnarValue::Array(Arc::new(array)))
    }
}

/// Prompts, or the sketches that stand for them.
struct Prompts<'a> {
    texts: &'a StringViewArray,
    sketches: &'a BinaryViewArray,
}

impl<'a> Prompts<'a> {
    fn of(texts: &'a ArrayRef, sketches: &'a ArrayRef) -> Result<Self> {
        Ok(Prompts {
            texts: texts.as_string_view_opt().ok_or_else(|| misfit("prompt", texts))?,
            sketches: sketches
                .as_binary_view_opt()
                .ok_or_else(|| misfit("prompt_sketch", sketches))?,
        })
    }

    fn get(&self, row: usize) -> Prompt<'a> {
        if self.sketches.is_valid(row) {
            Prompt::Sketch(self.sketches.value(row))
        } else if self.texts.is_valid(row) {
            Prompt::Text(self.texts.value(row))
        } else {
            Prompt::Text("")
        }
    }
}

fn misfit(name: &str, array: &ArrayRef) -> datafusion::common::DataFusionError {
    exec_datafusion_err!("column {name} has type {}", array.data_type())
}

/// The columns that are given, by their names; of the others the source does not say.
struct Columns<'a> {
    names: &'a [&'static str],
    arrays: &'a [ArrayRef],
}

impl<'a> Columns<'a> {
    fn get(&self, name: &str) -> Option<&'a ArrayRef> {
        let index = self.names.iter().position(|n| *n == name)?;
        self.arrays.get(index)
    }

    fn texts(&self, name: &str) -> Result<Option<&'a StringViewArray>> {
        let Some(array) = self.get(name) else { return Ok(None) };
        array.as_string_view_opt().ok_or_else(|| misfit(name, array)).map(Some)
    }

    fn prompts(&self) -> Result<Prompts<'a>> {
        let get = |name: &str| {
            self.get(name).ok_or_else(|| internal_datafusion_err!("{name} is not observed"))
        };
        Prompts::of(get("prompt")?, get("prompt_sketch")?)
    }

    /// Sets what `set` says for each value that there is.
    fn numbers<T: ArrowPrimitiveType>(
        &self,
        name: &str,
        facts: &mut [Facts],
        set: impl Fn(&mut Facts, T::Native),
    ) -> Result<()> {
        let Some(array) = self.get(name) else { return Ok(()) };
        let array: &PrimitiveArray<T> =
            array.as_primitive_opt().ok_or_else(|| misfit(name, array))?;
        if array.null_count() == 0 {
            for (facts, value) in facts.iter_mut().zip(array.values()) {
                set(facts, *value);
            }
        } else if let Some(nulls) = array.nulls() {
            for row in nulls.valid_indices() {
                set(&mut facts[row], array.value(row));
            }
        }
        Ok(())
    }

    /// Sets what `set` says for each text that there is, by what `make` makes of it.
    fn hashes<V: Copy + Default>(
        &self,
        name: &str,
        facts: &mut [Facts],
        make: impl FnMut(&str) -> V,
        set: impl Fn(&mut Facts, V),
    ) -> Result<()> {
        if let Some(texts) = self.texts(name)? {
            each_text(texts, make, |row, value| set(&mut facts[row], value));
        }
        Ok(())
    }

    /// Observes each row and hands on what was observed.
    fn observed(
        &self,
        observer: &mut Observer,
        mut take: impl FnMut(&Facts, Traits),
    ) -> Result<()> {
        let facts = self.facts(observer)?;
        let systems = self.systems(observer)?;
        let prompts = self.prompts()?;
        for (row, (facts, system)) in facts.iter().zip(systems).enumerate() {
            let prompt = prompts.get(row);
            let text = observer.text(prompt).map(|text| match prompt {
                Prompt::Text(_) => Sketch { system, ..text },
                Prompt::Sketch(_) => text,
            });
            take(facts, observer.traits(facts, text));
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.arrays.first().map_or(0, |array| array.len())
    }

    fn systems(&self, observer: &mut Observer) -> Result<Vec<u64>> {
        let mut systems = vec![0; self.rows()];
        if let Some(texts) = self.texts("system_instructions")? {
            each_text(texts, |text| observer.system_hash(text), |row, hash| systems[row] = hash);
        }
        Ok(systems)
    }

    fn facts(&self, observer: &Observer) -> Result<Vec<Facts>> {
        let mut all = vec![Facts::default(); self.rows()];
        let facts = all.as_mut_slice();
        let link = |link: Link| move |text: &str| observer.hash(link, text);
        self.numbers::<TimestampMicrosecondType>("time", facts, |f, v| f.time = Time(v))?;
        self.hashes("account_id", facts, link(Link::Account), |f, v| f.account = v)?;
        self.hashes("organization_id", facts, link(Link::Organization), |f, v| {
            f.organization = v;
        })?;
        self.hashes("credential_id", facts, link(Link::Credential), |f, v| f.credential = v)?;
        self.hashes("conversation_id", facts, link(Link::Conversation), |f, v| {
            f.conversation = v;
        })?;
        self.numbers::<UInt16Type>("turn", facts, |f, v| f.turn = v)?;
        self.hashes("request_model", facts, link(Link::Model), |f, v| f.request_model = v)?;
        self.hashes("response_model", facts, link(Link::Model), |f, v| f.response_model = v)?;
        self.hashes("route", facts, link(Link::Route), |f, v| f.route = v)?;
        self.numbers::<Float32Type>("request_temperature", facts, |f, v| {
            f.temperature = Some(v);
        })?;
        self.numbers::<Float32Type>("request_top_p", facts, |f, v| f.top_p = Some(v))?;
        self.numbers::<UInt32Type>("request_max_tokens", facts, |f, v| f.max_tokens = Some(v))?;
        self.numbers::<UInt16Type>("request_choice_count", facts, |f, v| f.choices = Some(v))?;
        self.numbers::<Int64Type>("request_seed", facts, |f, _| f.is_seeded = true)?;
        if let Some(stream) = self.get("request_stream") {
            let stream = stream.as_boolean_opt().ok_or_else(|| misfit("request_stream", stream))?;
            for (facts, value) in facts.iter_mut().zip(stream) {
                facts.stream = value;
            }
        }
        self.numbers::<UInt16Type>("request_top_logprobs", facts, |f, v| f.top_logprobs = v)?;
        self.numbers::<UInt16Type>("request_logit_bias_count", facts, |f, v| f.biases = v)?;
        self.hashes(
            "request_reasoning",
            facts,
            |text| (observer.hash(Link::Other, text), asks_for_reasoning(text)),
            |f, v| (f.reasoning, f.reasons) = v,
        )?;
        self.numbers::<UInt16Type>("request_tool_count", facts, |f, v| f.tools = v)?;
        self.numbers::<UInt32Type>("usage_input_tokens", facts, |f, v| f.input_tokens = v)?;
        self.numbers::<UInt32Type>("usage_output_tokens", facts, |f, v| f.output_tokens = v)?;
        self.numbers::<UInt32Type>("usage_reasoning_tokens", facts, |f, v| {
            f.reasoning_tokens = v;
        })?;
        self.hashes("response_finish_reason", facts, is_truncation, |f, v| f.is_truncated = v)?;
        self.numbers::<UInt16Type>("status", facts, |f, v| f.status = v)?;
        self.hashes("client_address", facts, link(Link::Address), |f, v| f.address = v)?;
        if self.texts("client_network")?.is_none_or(|networks| networks.null_count() > 0) {
            let of_address = |text: &str| observer.network_hash(text);
            self.hashes("client_address", facts, of_address, |f, v| f.network = v)?;
        }
        self.hashes("client_network", facts, link(Link::Network), |f, v| f.network = v)?;
        self.numbers::<UInt32Type>("client_asn", facts, |f, v| f.asn = v)?;
        self.hashes("client_country", facts, link(Link::Other), |f, v| f.country = v)?;
        self.hashes("tls_fingerprint", facts, link(Link::Other), |f, v| f.tls_fingerprint = v)?;
        self.hashes("user_agent", facts, link(Link::Other), |f, v| f.user_agent = v)?;
        Ok(all)
    }
}

/// Places for values of a column that were made a moment ago; a power of two.
const RECENT: usize = 256;

/// Makes a value of each text that there is. Texts of one dictionary page share their
/// views, short ones are in theirs: views that are equal say that the texts are, and
/// are compared without looking at them.
fn each_text<V: Copy + Default>(
    texts: &StringViewArray,
    mut make: impl FnMut(&str) -> V,
    mut take: impl FnMut(usize, V),
) {
    if texts.null_count() == texts.len() {
        return;
    }
    // No view is all ones: it would be longer than its buffer.
    let mut recent = [(u128::MAX, V::default()); RECENT];
    let nulls = texts.nulls();
    for (row, &view) in texts.views().iter().enumerate() {
        if nulls.is_some_and(|nulls| nulls.is_null(row)) {
            continue;
        }
        let mixed = ((view >> 64) as u64 ^ view as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = &mut recent[(mixed >> 56) as usize % RECENT];
        if slot.0 != view {
            *slot = (view, make(texts.value(row)));
        }
        take(row, slot.1);
    }
}
