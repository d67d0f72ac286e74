//! Moments become rows: the tables of the contract and the truth beside them.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int64Builder,
    RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder, UInt16Builder, UInt32Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use stillwatch_exchange::columns::{self, ColumnKind};
use stillwatch_exchange::time::HOUR_US;

use crate::campaigns::Goal;
use crate::clients::Parameters;
use crate::draws::{Draws, mix, scale, unit};
use crate::models::Model;
use crate::population::{Account, Content, OPEN_US, PLANS, ROUTES, VERIFICATIONS};
use crate::timeline::Moment;
use crate::words::System;
use crate::world::World;

/// The schema of `truth_exchanges.parquet`.
pub(crate) fn truth_exchanges_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("exchange_id", DataType::Utf8View, false),
        Field::new("campaign", DataType::Utf8View, true),
    ]))
}

/// The schema of `truth_accounts.parquet`.
pub(crate) fn truth_accounts_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("account_id", DataType::Utf8View, false),
        Field::new("kind", DataType::Utf8View, false),
        Field::new("campaign", DataType::Utf8View, true),
    ]))
}

/// A column under construction.
enum Builder {
    Time(TimestampMicrosecondBuilder),
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Bool(BooleanBuilder),
    U16(UInt16Builder),
    U32(UInt32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
}

impl Builder {
    fn new(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Time => {
                Builder::Time(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            ColumnKind::Text => Builder::Text(StringViewBuilder::with_capacity(rows)),
            ColumnKind::Bytes => Builder::Bytes(BinaryViewBuilder::with_capacity(rows)),
            ColumnKind::Bool => Builder::Bool(BooleanBuilder::with_capacity(rows)),
            ColumnKind::U16 => Builder::U16(UInt16Builder::with_capacity(rows)),
            ColumnKind::U32 => Builder::U32(UInt32Builder::with_capacity(rows)),
            ColumnKind::I64 => Builder::I64(Int64Builder::with_capacity(rows)),
            ColumnKind::F32 => Builder::F32(Float32Builder::with_capacity(rows)),
            ColumnKind::F64 => Builder::F64(Float64Builder::with_capacity(rows)),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Time(b) => Arc::new(b.finish()),
            Builder::Text(b) => Arc::new(b.finish()),
            Builder::Bytes(b) => Arc::new(b.finish()),
            Builder::Bool(b) => Arc::new(b.finish()),
            Builder::U16(b) => Arc::new(b.finish()),
            Builder::U32(b) => Arc::new(b.finish()),
            Builder::I64(b) => Arc::new(b.finish()),
            Builder::F32(b) => Arc::new(b.finish()),
            Builder::F64(b) => Arc::new(b.finish()),
        }
    }
}

/// Writes one row, column after column in the contract's order.
struct Row<'a>(std::slice::IterMut<'a, Builder>);

/// One method for each kind of column; the wrong one for a column is a mistake in
/// this file, which the row's length check shows.
macro_rules! cell {
    ($name:ident, $variant:ident, $value:ty) => {
        fn $name(&mut self, value: Option<$value>) {
            if let Some(Builder::$variant(builder)) = self.0.next() {
                builder.append_option(value);
            }
        }
    };
}

impl Row<'_> {
    cell!(time, Time, i64);
    cell!(text, Text, &str);
    cell!(bytes, Bytes, &[u8]);
    cell!(bool, Bool, bool);
    cell!(u16, U16, u16);
    cell!(u32, U32, u32);
    cell!(i64, I64, i64);
    cell!(f32, F32, f32);
    cell!(f64, F64, f64);
}

/// Rows of exchanges, and of their truth.
pub(crate) struct Rows {
    pub exchanges: RecordBatch,
    pub truth: RecordBatch,
}

#[derive(Default)]
struct Scratch {
    exchange: String,
    account: String,
    organization: String,
    credential: String,
    conversation: String,
    prompt: String,
    address: String,
    prefix: String,
}

impl World {
    /// Makes the rows of some moments.
    pub(crate) fn rows(&self, moments: &[Moment]) -> Result<Rows, ArrowError> {
        let schema = columns::schema(columns::EXCHANGES);
        let mut builders: Vec<Builder> =
            columns::EXCHANGES.iter().map(|c| Builder::new(c.kind, moments.len())).collect();
        let mut truth_ids = StringViewBuilder::with_capacity(moments.len());
        let mut truth_campaigns = StringViewBuilder::with_capacity(moments.len());
        let mut scratch = Scratch::default();
        for moment in moments {
            let campaign = self.write_row(moment, Row(builders.iter_mut()), &mut scratch);
            truth_ids.append_value(&scratch.exchange);
            truth_campaigns.append_option(campaign);
        }
        let exchanges =
            RecordBatch::try_new(schema, builders.iter_mut().map(Builder::finish).collect())?;
        let truth = RecordBatch::try_new(
            truth_exchanges_schema(),
            vec![Arc::new(truth_ids.finish()), Arc::new(truth_campaigns.finish())],
        )?;
        Ok(Rows { exchanges, truth })
    }

    /// Writes a row; gives the campaign that the exchange was harvested for.
    fn write_row<'a>(
        &'a self,
        moment: &Moment,
        mut row: Row<'_>,
        scratch: &mut Scratch,
    ) -> Option<&'a str> {
        let population = &self.population;
        let account = &population.accounts[moment.account as usize];
        let origin = &population.accounts[moment.origin as usize];
        let activity = &origin.activities[usize::from(moment.activity)];
        let content = activity.content;
        let parameters = &population.parameters[activity.parameters as usize];
        let bits =
            self.conversation_bits(moment.origin, moment.activity, moment.day, moment.number);
        let mut draws = self.conversation_draws(bits, moment.turn);
        let d = &mut draws;
        let campaign = match content {
            Content::Harvest { campaign } => population.campaigns.get(usize::from(campaign)),
            _ => None,
        };

        scratch.prompt.clear();
        let system = self.write_prompt(moment, content, bits, d, &mut scratch.prompt);
        let system_text = match system {
            System::None => None,
            System::Own(index) => Some(population.systems[index as usize].as_str()),
            System::Record(record) => self.prompts.records[record as usize].system.as_deref(),
        };
        let model = self.choose_model(moment, account, content, d);
        let usage = self.use_tokens(
            moment,
            content,
            parameters,
            system_text.unwrap_or(""),
            &scratch.prompt,
            d,
        );
        let status = self.choose_status(content, d);
        let answered = status == 200;

        let seed = population.seed;
        fresh(&mut scratch.exchange, "exc_", mix(seed ^ 0xe1, bits, u64::from(moment.turn)), 16);
        let more = mix(seed ^ 0xe2, bits, u64::from(moment.turn)) >> 48;
        // Writing to a string can't fail.
        let _ = write!(scratch.exchange, "{more:04x}");
        fresh(&mut scratch.account, "acct_", account.bits, 16);
        fresh(
            &mut scratch.organization,
            "org_",
            mix(seed ^ 0xe3, account.organization, 0) >> 16,
            12,
        );
        let credential = scale(mix(bits, 31, 0), u64::from(account.credentials.max(1)));
        fresh(&mut scratch.credential, "key_", mix(account.bits, 0xe4, credential) >> 16, 12);
        fresh(&mut scratch.conversation, "conv_", mix(seed ^ 0xe5, bits, 0), 16);
        let has_conversation = match content {
            Content::Chat { .. }
            | Content::Code { .. }
            | Content::Agent { .. }
            | Content::Assignment { .. } => true,
            Content::Harvest { .. } => campaign.is_some_and(|c| c.plan.conversation_ids),
            _ => origin.bits % 100 < 35,
        };

        row.text(Some(&scratch.exchange));
        row.time(Some(moment.time_us));
        row.text(Some(&scratch.account));
        row.text((account.organization != 0).then_some(&scratch.organization));
        row.text(Some(&scratch.credential));
        row.text(has_conversation.then_some(&scratch.conversation));
        row.u16(Some(moment.turn));
        row.text(Some(population.models.provider));
        row.text(Some("chat"));
        row.text(Some(&model.name));
        row.text(answered.then_some(&model.response_name));
        row.text(Some(ROUTES[usize::from(account.route) % ROUTES.len()]));
        row.text(system_text);
        row.text(Some(&scratch.prompt));
        row.bytes(None);
        row.f32(parameters.temperature);
        row.f32(parameters.top_p);
        row.u32(parameters.max_tokens);
        row.u16(parameters.choices);
        row.i64(parameters.seed);
        row.bool(parameters.stream);
        row.u16(parameters.top_logprobs);
        row.u16(parameters.logit_bias.map(|most| 1 + d.below(usize::from(most)) as u16));
        row.text(parameters.reasoning);
        row.u16(parameters.tools);
        row.u32(Some(usage.input));
        row.u32(answered.then_some(usage.output));
        row.u32((answered && usage.reasoning > 0).then_some(usage.reasoning));
        row.text(answered.then_some(usage.finish));
        let mut digest = [0u8; 32];
        let same_answer = parameters.temperature == Some(0.0);
        let answer = if same_answer {
            xxhash_rust::xxh3::xxh3_64(scratch.prompt.as_bytes())
        } else {
            d.bits()
        };
        for (place, part) in digest.chunks_exact_mut(8).enumerate() {
            part.copy_from_slice(&mix(answer, u64::from(model.tier), place as u64).to_le_bytes());
        }
        row.bytes(answered.then_some(&digest[..]));
        row.u16(Some(status));

        let weights = &account.networks;
        let mut at =
            unit(mix(bits, 41, 0)) * weights.iter().map(|(w, _)| f64::from(*w)).sum::<f64>();
        let usage_of_network = weights.iter().find(|(w, _)| {
            at -= f64::from(*w);
            at < 0.0
        });
        let exchange_bits = mix(bits, 42, u64::from(moment.turn));
        let day = u32::from(moment.day);
        scratch.address.clear();
        scratch.prefix.clear();
        let place = usage_of_network.or(weights.last()).map(|(_, usage)| {
            population.networks.place(*usage, account.bits, day, bits, exchange_bits)
        });
        if let Some(place) = place {
            population.networks.write(place, &mut scratch.address, &mut scratch.prefix);
        }
        let network = place.map(|p| population.networks.network(p));
        row.text(place.map(|_| scratch.address.as_str()));
        row.text(place.map(|_| scratch.prefix.as_str()));
        row.u32(network.map(|n| n.number));
        row.text(network.map(|n| crate::networks::COUNTRIES[usize::from(n.country)].0));

        let client = if moment.time_us >= account.client_change_us {
            account.client_later
        } else {
            account.client
        };
        let client = &population.clients.all[client as usize];
        row.text(Some(&client.ja4));
        row.text(Some(&client.user_agent));
        let (input_price, output_price) = model.price;
        let output = if answered { f64::from(usage.output) } else { 0.0 };
        let cost = (f64::from(usage.input) * input_price + output * output_price) / 1e6;
        row.f64(Some(if answered { (cost * 1e8).round() / 1e8 } else { 0.0 }));
        debug_assert!(row.0.next().is_none(), "a column of the contract was not written");
        campaign.map(|c| c.plan.name.as_str())
    }

    fn choose_model(
        &self,
        moment: &Moment,
        account: &Account,
        content: Content,
        d: &mut Draws,
    ) -> &Model {
        let models = &self.population.models;
        let of = |index: u8| &models.all[usize::from(index)];
        let standing = of(models.standing[usize::from(account.tier) % 3]);
        if let Content::Benchmark { .. } | Content::Judging = content {
            // Laboratories measure what has just come out, against what stood before.
            let newest =
                models.fresh.iter().rev().map(|m| of(*m)).find(|m| m.released_us <= moment.time_us);
            return newest.filter(|_| d.chance(0.85)).unwrap_or(standing);
        }
        if let Content::Harvest { campaign } = content {
            let plan = &self.population.campaigns[usize::from(campaign)].plan;
            if let (true, Some(fresh)) = (plan.pivot_share > 0.0, models.fresh.first()) {
                let lag = unit(mix(account.bits, 51, 0)) * plan.pivot_hours * HOUR_US as f64;
                let moved = moment.time_us >= of(*fresh).released_us + lag as i64;
                return if moved && d.chance(plan.pivot_share) { of(*fresh) } else { standing };
            }
        }
        for fresh in models.fresh.iter().rev() {
            let model = of(*fresh);
            let interested =
                model.tier == account.tier || unit(mix(account.bits, 52, u64::from(*fresh))) < 0.25;
            let adopted_us =
                model.released_us as f64 + f64::from(account.adoption_days) * 24.0 * HOUR_US as f64;
            if interested && moment.time_us as f64 >= adopted_us && d.chance(0.88) {
                return model;
            }
        }
        // Some stay on the generation before.
        if unit(mix(account.bits, 53, 0)) < 0.1 {
            &models.all[usize::from(account.tier) % 3]
        } else {
            standing
        }
    }

    fn choose_status(&self, content: Content, d: &mut Draws) -> u16 {
        let busy = match content {
            Content::Harvest { .. } | Content::Agent { .. } => 1.6,
            Content::Script { .. } | Content::Benchmark { .. } => 2.0,
            _ => 0.8,
        };
        let draw = d.unit();
        let limited = self.settings.limited_share * busy;
        if draw < limited {
            429
        } else if draw < limited + self.settings.failed_share {
            *d.pick(&[400, 400, 500, 529])
        } else {
            200
        }
    }

    fn use_tokens(
        &self,
        moment: &Moment,
        content: Content,
        parameters: &Parameters,
        system: &str,
        prompt: &str,
        d: &mut Draws,
    ) -> Usage {
        let (median, sigma, context) = match content {
            Content::Chat { .. } => (260.0, 0.9, 420),
            Content::Question => (200.0, 0.9, 0),
            Content::Code { .. } => (420.0, 0.8, 700),
            Content::Agent { .. } => (170.0, 0.9, 1_900),
            Content::App { .. } => (110.0, 0.7, 260),
            Content::Recipe { .. } => (140.0, 0.6, 0),
            Content::Assignment { .. } => (330.0, 0.7, 450),
            Content::Benchmark { .. } => (190.0, 0.8, 0),
            Content::Judging => (380.0, 0.4, 0),
            Content::Script { .. } => (380.0, 0.7, 0),
            Content::Harvest { campaign } => {
                match self.population.campaigns[usize::from(campaign)].plan.goal {
                    Goal::Answers => (520.0, 0.6, 600),
                    Goal::Reasoning => (950.0, 0.5, 900),
                    Goal::Grades => (60.0, 0.8, 200),
                    Goal::Agentic => (300.0, 0.8, 1_700),
                    Goal::Tasks => (1_500.0, 0.4, 1_500),
                    Goal::Probabilities => (3.0, 0.3, 10),
                }
            }
        };
        let words = (system.len() + prompt.len()) as f64 / 4.1;
        let tools = f64::from(parameters.tools.unwrap_or(0)) * 95.0;
        let input = (words + tools) as u32 + 4 + u32::from(moment.turn - 1) * context;
        let reasoning = match parameters.reasoning {
            Some("minimal") => d.lognormal(40.0, 0.5),
            Some("low") => d.lognormal(220.0, 0.7),
            Some("medium") => d.lognormal(700.0, 0.8),
            Some(_) => d.lognormal(1_900.0, 0.8),
            None => 0.0,
        } as u32;
        let wanted = reasoning + d.lognormal(median, sigma).clamp(1.0, 60_000.0) as u32;
        let limit = parameters.max_tokens.unwrap_or(64_000);
        let output = wanted.min(limit);
        let streams = parameters.stream == Some(true);
        let finish = if wanted > limit {
            "length"
        } else if matches!(content, Content::Agent { .. }) && d.chance(0.72)
            || parameters.tools.is_some_and(|t| t > 0) && d.chance(0.5)
        {
            "tool_calls"
        } else if d.chance(0.002) {
            "content_filter"
        } else if streams && d.chance(0.012) {
            "aborted"
        } else {
            "stop"
        };
        Usage { input, output, reasoning: reasoning.min(output), finish }
    }

    /// The accounts table, by id.
    pub(crate) fn accounts_batch(&self, listed: &[u32]) -> Result<RecordBatch, ArrowError> {
        let mut builders: Vec<Builder> =
            columns::ACCOUNTS.iter().map(|c| Builder::new(c.kind, listed.len())).collect();
        let mut text = String::new();
        for index in listed {
            let account = &self.population.accounts[*index as usize];
            let mut row = Row(builders.iter_mut());
            fresh(&mut text, "acct_", account.bits, 16);
            row.text(Some(&text));
            fresh(
                &mut text,
                "org_",
                mix(self.population.seed ^ 0xe3, account.organization, 0) >> 16,
                12,
            );
            row.text((account.organization != 0).then_some(&text));
            row.time(Some(account.created_us));
            // What happens after the world has ended is not known in it.
            let closed =
                account.closed_us != OPEN_US && account.closed_us < self.population.end_us();
            row.time(closed.then_some(account.closed_us));
            row.text(closed.then_some(account.closed_reason));
            fresh(&mut text, "pay_", mix(self.population.seed ^ 0xe6, account.payment, 0), 16);
            row.text((account.payment != 0).then_some(&text));
            row.text(
                self.population.domains.get(account.email_domain as usize).map(String::as_str),
            );
            row.text(Some(VERIFICATIONS[usize::from(account.verification) % VERIFICATIONS.len()]));
            row.text(Some(PLANS[usize::from(account.plan) % PLANS.len()]));
        }
        let arrays = builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(columns::schema(columns::ACCOUNTS), arrays)
    }

    /// The truth about the accounts, by id.
    pub(crate) fn truth_accounts_batch(&self, listed: &[u32]) -> Result<RecordBatch, ArrowError> {
        let mut ids = StringViewBuilder::with_capacity(listed.len());
        let mut kinds = StringViewBuilder::with_capacity(listed.len());
        let mut campaigns = StringViewBuilder::with_capacity(listed.len());
        let mut text = String::new();
        for index in listed {
            let account = &self.population.accounts[*index as usize];
            fresh(&mut text, "acct_", account.bits, 16);
            ids.append_value(&text);
            kinds.append_value(World::kind_name(account.kind));
            let campaign =
                account.campaign.and_then(|c| self.population.campaigns.get(usize::from(c)));
            campaigns.append_option(campaign.map(|c| c.plan.name.as_str()));
        }
        let arrays: Vec<ArrayRef> =
            vec![Arc::new(ids.finish()), Arc::new(kinds.finish()), Arc::new(campaigns.finish())];
        RecordBatch::try_new(truth_accounts_schema(), arrays)
    }

    /// The releases table, in order of time.
    pub(crate) fn releases_batch(&self) -> Result<RecordBatch, ArrowError> {
        let mut models: Vec<&Model> = self.population.models.all.iter().collect();
        models.sort_by(|a, b| a.released_us.cmp(&b.released_us).then(a.name.cmp(&b.name)));
        let mut builders: Vec<Builder> =
            columns::RELEASES.iter().map(|c| Builder::new(c.kind, models.len())).collect();
        for model in models {
            let mut row = Row(builders.iter_mut());
            row.text(Some(&model.name));
            row.time(Some(model.released_us));
        }
        let arrays = builders.iter_mut().map(Builder::finish).collect();
        RecordBatch::try_new(columns::schema(columns::RELEASES), arrays)
    }
}

struct Usage {
    input: u32,
    output: u32,
    reasoning: u32,
    finish: &'static str,
}

/// Replaces `text` by a prefix and the low digits of a hash.
fn fresh(text: &mut String, prefix: &str, bits: u64, digits: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    text.clear();
    text.push_str(prefix);
    for place in (0..digits).rev() {
        text.push(char::from(DIGITS[(bits >> (4 * place)) as usize & 15]));
    }
}
