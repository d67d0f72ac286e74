//! Rows of a simulated world as the observer takes them.

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringViewArray,
};
use arrow::datatypes::{Float32Type, Int64Type, TimestampMicrosecondType, UInt16Type, UInt32Type};
use stillwatch_exchange::{Account, Exchange, Release, Time};

/// The columns of some rows, by name. A column of another type is as good as absent;
/// the contract's schema says that there is none.
struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    fn texts(&self, name: &str) -> Option<&'a StringViewArray> {
        self.0.column_by_name(name)?.as_string_view_opt()
    }

    fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> Option<&'a PrimitiveArray<T>> {
        self.0.column_by_name(name)?.as_primitive_opt()
    }

    fn bools(&self, name: &str) -> Option<&'a BooleanArray> {
        self.0.column_by_name(name)?.as_boolean_opt()
    }
}

fn text(column: Option<&StringViewArray>, row: usize) -> Option<&str> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
}

fn number<T: ArrowPrimitiveType>(
    column: Option<&PrimitiveArray<T>>,
    row: usize,
) -> Option<T::Native> {
    column.filter(|c| c.is_valid(row)).map(|c| c.value(row))
}

/// Hands each exchange of a batch on, with whether it was harvested.
pub(crate) fn each_exchange(
    exchanges: &RecordBatch,
    truth: &RecordBatch,
    mut each: impl FnMut(&Exchange<'_>, bool),
) {
    let columns = Columns(exchanges);
    let [account, organization, credential, conversation] =
        ["account_id", "organization_id", "credential_id", "conversation_id"]
            .map(|name| columns.texts(name));
    let [request_model, response_model, route, system, prompt] =
        ["request_model", "response_model", "route", "system_instructions", "prompt"]
            .map(|name| columns.texts(name));
    let [reasoning, finish, address, network, country, tls, agent] = [
        "request_reasoning",
        "response_finish_reason",
        "client_address",
        "client_network",
        "client_country",
        "tls_fingerprint",
        "user_agent",
    ]
    .map(|name| columns.texts(name));
    let time = columns.numbers::<TimestampMicrosecondType>("time");
    let [turn, choices, logprobs, biases, tools, status] = [
        "turn",
        "request_choice_count",
        "request_top_logprobs",
        "request_logit_bias_count",
        "request_tool_count",
        "status",
    ]
    .map(|name| columns.numbers::<UInt16Type>(name));
    let [max_tokens, input, output, thought, asn] = [
        "request_max_tokens",
        "usage_input_tokens",
        "usage_output_tokens",
        "usage_reasoning_tokens",
        "client_asn",
    ]
    .map(|name| columns.numbers::<UInt32Type>(name));
    let [temperature, top_p] =
        ["request_temperature", "request_top_p"].map(|name| columns.numbers::<Float32Type>(name));
    let seed = columns.numbers::<Int64Type>("request_seed");
    let stream = columns.bools("request_stream");
    let campaign = Columns(truth).texts("campaign");
    for row in 0..exchanges.num_rows() {
        let exchange = Exchange {
            time: Time(number(time, row).unwrap_or_default()),
            account_id: text(account, row).unwrap_or_default(),
            organization_id: text(organization, row),
            credential_id: text(credential, row),
            conversation_id: text(conversation, row),
            turn: number(turn, row),
            request_model: text(request_model, row),
            response_model: text(response_model, row),
            route: text(route, row),
            system_instructions: text(system, row),
            prompt: text(prompt, row),
            request_temperature: number(temperature, row),
            request_top_p: number(top_p, row),
            request_max_tokens: number(max_tokens, row),
            request_choice_count: number(choices, row),
            request_seed: number(seed, row),
            request_stream: stream.filter(|c| c.is_valid(row)).map(|c| c.value(row)),
            request_top_logprobs: number(logprobs, row),
            request_logit_bias_count: number(biases, row),
            request_reasoning: text(reasoning, row),
            request_tool_count: number(tools, row),
            usage_input_tokens: number(input, row),
            usage_output_tokens: number(output, row),
            usage_reasoning_tokens: number(thought, row),
            response_finish_reason: text(finish, row),
            status: number(status, row),
            client_address: text(address, row),
            client_network: text(network, row),
            client_asn: number(asn, row),
            client_country: text(country, row),
            tls_fingerprint: text(tls, row),
            user_agent: text(agent, row),
            ..Exchange::default()
        };
        each(&exchange, text(campaign, row).is_some());
    }
}

/// The accounts of a table.
pub(crate) fn accounts(table: &RecordBatch) -> Vec<Account> {
    let columns = Columns(table);
    let cell = |name: &str, row| text(columns.texts(name), row).map(str::to_owned);
    let moment =
        |name: &str, row| number(columns.numbers::<TimestampMicrosecondType>(name), row).map(Time);
    (0..table.num_rows())
        .map(|row| Account {
            account_id: cell("account_id", row).unwrap_or_default(),
            organization_id: cell("organization_id", row),
            created_at: moment("created_at", row),
            closed_at: moment("closed_at", row),
            closed_reason: cell("closed_reason", row),
            payment_fingerprint: cell("payment_fingerprint", row),
            email_domain: cell("email_domain", row),
            verification: cell("verification", row),
            plan: cell("plan", row),
        })
        .collect()
}

/// The releases of a table.
pub(crate) fn releases(table: &RecordBatch) -> Vec<Release> {
    let columns = Columns(table);
    (0..table.num_rows())
        .filter_map(|row| {
            Some(Release {
                model: text(columns.texts("model"), row)?.to_owned(),
                released_at: Time(number(
                    columns.numbers::<TimestampMicrosecondType>("released_at"),
                    row,
                )?),
            })
        })
        .collect()
}
