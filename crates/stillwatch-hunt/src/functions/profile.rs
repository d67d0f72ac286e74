//! `profile(traits, account_id)`: the traits of an account's exchanges add up to its
//! profile, in the stored form of [`Profile::write`].

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, FixedSizeBinaryArray, LargeBinaryArray,
    LargeBinaryBuilder, StringViewArray,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::observe::Traits;
use stillwatch_detect::profile::Profile;

/// The function over a period.
pub(crate) fn profile(calendar: Calendar) -> AggregateUDF {
    AggregateUDF::new_from_impl(ProfileFunction {
        signature: Signature::any(2, Volatility::Immutable),
        calendar,
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ProfileFunction {
    signature: Signature,
    calendar: Calendar,
}

impl AggregateUDFImpl for ProfileFunction {
    fn name(&self) -> &str {
        "profile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::LargeBinary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            format!("{}[profile]", args.name),
            DataType::LargeBinary,
            true,
        ))])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(Groups::new(self.calendar.clone()))))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Groups::new(self.calendar.clone())))
    }
}

/// The profiles of many accounts. Its bound is the number of accounts times the bound
/// of a profile.
#[derive(Debug)]
struct Groups {
    calendar: Calendar,
    profiles: Vec<Profile>,
    size_bytes: usize,
}

fn account_hash(account_id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(account_id.as_bytes())
}

impl Groups {
    fn new(calendar: Calendar) -> Self {
        Groups { calendar, profiles: Vec::new(), size_bytes: 0 }
    }

    fn change(&mut self, group: usize, change: impl FnOnce(&mut Profile, &Calendar)) {
        let profile = &mut self.profiles[group];
        let before = profile.size_bytes();
        change(profile, &self.calendar);
        self.size_bytes = self.size_bytes + profile.size_bytes() - before;
    }

    fn emit(&mut self, emit_to: EmitTo) -> ArrayRef {
        let profiles = emit_to.take_needed(&mut self.profiles);
        let mut array = LargeBinaryBuilder::new();
        let mut bytes = Vec::new();
        for profile in profiles {
            self.size_bytes = self.size_bytes.saturating_sub(profile.size_bytes());
            bytes.clear();
            profile.write(&mut bytes);
            array.append_value(&bytes);
        }
        Arc::new(array.finish())
    }
}

fn traits_of(values: &[ArrayRef]) -> Result<(&FixedSizeBinaryArray, &StringViewArray)> {
    let mismatch = || exec_datafusion_err!("profile takes observed traits and an account_id");
    let traits = values.first().and_then(|a| a.as_fixed_size_binary_opt()).ok_or_else(mismatch)?;
    let accounts = values.get(1).and_then(|a| a.as_string_view_opt()).ok_or_else(mismatch)?;
    Ok((traits, accounts))
}

fn stored(values: &[ArrayRef]) -> Result<&LargeBinaryArray> {
    values
        .first()
        .and_then(|a| a.as_binary_opt::<i64>())
        .ok_or_else(|| exec_datafusion_err!("profile: a part is not a stored profile"))
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.profiles.resize_with(total_num_groups, Profile::default);
        let (traits, accounts) = traits_of(values)?;
        for (row, &group) in group_indices.iter().enumerate() {
            if filter.is_some_and(|f| !(f.is_valid(row) && f.value(row))) {
                continue;
            }
            let observed = Traits::from_bytes(traits.value(row))
                .map_err(|e| exec_datafusion_err!("profile: {e}"))?;
            let account = account_hash(accounts.value(row));
            self.change(group, |profile, calendar| profile.add(&observed, account, calendar));
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.profiles.resize_with(total_num_groups, Profile::default);
        let parts = stored(values)?;
        for (row, &group) in group_indices.iter().enumerate() {
            if parts.is_valid(row) {
                let part = Profile::read(parts.value(row))
                    .map_err(|e| exec_datafusion_err!("profile: {e}"))?;
                self.change(group, |profile, _| profile.merge(&part));
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(self.emit(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |a| a.len());
        let mut each = Groups::new(self.calendar.clone());
        let own: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &own, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.size_bytes + (self.profiles.capacity() - self.profiles.len()) * size_of::<Profile>()
    }
}

/// The same for a single group.
#[derive(Debug)]
struct One(Groups);

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let rows = values.first().map_or(0, |a| a.len());
        self.0.update_batch(values, &vec![0; rows], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut bytes = Vec::new();
        for profile in &self.0.profiles {
            profile.write(&mut bytes);
        }
        Ok(ScalarValue::LargeBinary((!bytes.is_empty()).then_some(bytes)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |a| a.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }
}
