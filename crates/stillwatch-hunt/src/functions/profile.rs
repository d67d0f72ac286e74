//! `profile(seen)`: what was seen of an account's exchanges adds up to its profile.
//!
//! Parts travel in the stored form of [`Profile::write`]. Finished profiles stay where
//! they are, in [`Finished`], and the function's value is a profile's number there:
//! written out and read back, all of them would be in memory three times.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, LargeBinaryArray, LargeBinaryBuilder, UInt64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};
use stillwatch_detect::calendar::Calendar;
use stillwatch_detect::observe::Glance;
use stillwatch_detect::profile::Profile;

/// The function over a period.
pub(crate) fn profile(calendar: Calendar, finished: Finished) -> AggregateUDF {
    AggregateUDF::new_from_impl(ProfileFunction {
        signature: Signature::any(1, Volatility::Immutable),
        calendar,
        finished,
    })
}

/// The profiles that are complete, by the numbers that the function has given out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finished(Arc<Mutex<Vec<Profile>>>);

impl Finished {
    /// Takes all of them.
    pub(crate) fn take(&self) -> Vec<Profile> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts profiles in; gives their numbers.
    fn put(&self, profiles: impl IntoIterator<Item = Profile>) -> std::ops::Range<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = all.len() as u64;
        all.extend(profiles);
        first..all.len() as u64
    }
}

/// Where results go does not make another function.
impl PartialEq for Finished {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Finished {}
impl Hash for Finished {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ProfileFunction {
    signature: Signature,
    calendar: Calendar,
    finished: Finished,
}

impl ProfileFunction {
    fn groups(&self) -> Groups {
        Groups {
            calendar: self.calendar.clone(),
            finished: self.finished.clone(),
            profiles: Vec::new(),
        }
    }
}

impl AggregateUDFImpl for ProfileFunction {
    fn name(&self) -> &str {
        "profile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::UInt64)
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
        Ok(Box::new(One(self.groups())))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.groups()))
    }
}

/// The profiles of many accounts. Its bound is the number of accounts times the bound
/// of a profile.
#[derive(Debug)]
struct Groups {
    calendar: Calendar,
    finished: Finished,
    profiles: Vec<Profile>,
}

/// Rows whose profiles are called for before the first of them is added to.
const AHEAD: usize = 32;
/// The bound of a profile.
const PROFILE_BYTES: usize = 4096;

impl Groups {
    fn written(&mut self, emit_to: EmitTo) -> ArrayRef {
        let mut array = LargeBinaryBuilder::new();
        let mut bytes = Vec::new();
        for profile in emit_to.take_needed(&mut self.profiles) {
            bytes.clear();
            profile.write(&mut bytes);
            array.append_value(&bytes);
        }
        Arc::new(array.finish())
    }
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
        let mismatch = || exec_datafusion_err!("profile takes what was seen");
        let [seen] = values else { return Err(mismatch()) };
        let seen = seen.as_fixed_size_binary_opt().ok_or_else(mismatch)?;
        let glance = |row: usize| {
            Glance::from_bytes(seen.value(row)).map_err(|e| exec_datafusion_err!("profile: {e}"))
        };
        let mut ahead: Vec<Glance> = Vec::with_capacity(AHEAD);
        for (chunk, groups) in group_indices.chunks(AHEAD).enumerate() {
            let first = chunk * AHEAD;
            ahead.clear();
            for row in first..first + groups.len() {
                ahead.push(glance(row)?);
            }
            let touched = groups.iter().zip(&ahead).fold(0, |all, (&group, seen)| {
                all ^ self.profiles[group].touch(seen.time, &self.calendar)
            });
            std::hint::black_box(touched);
            for (row, (&group, seen)) in (first..).zip(groups.iter().zip(&ahead)) {
                if filter.is_some_and(|f| !(f.is_valid(row) && f.value(row))) {
                    continue;
                }
                self.profiles[group].add_seen(seen, &self.calendar);
            }
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
                self.profiles[group].merge(&part);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let numbers = self.finished.put(emit_to.take_needed(&mut self.profiles));
        Ok(Arc::new(UInt64Array::from_iter_values(numbers)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.written(emit_to)])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |a| a.len());
        let mut each = Groups {
            calendar: self.calendar.clone(),
            finished: self.finished.clone(),
            profiles: Vec::new(),
        };
        let own: Vec<usize> = (0..rows).collect();
        each.update_batch(values, &own, filter, rows)?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        // What they may come to: to ask each profile after each batch costs more than
        // there is to learn.
        self.profiles.len() * PROFILE_BYTES
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
        let profile = self.0.profiles.pop();
        Ok(ScalarValue::UInt64(profile.map(|profile| self.0.finished.put([profile]).start)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = Vec::new();
        for profile in &self.0.profiles {
            profile.write(&mut bytes);
        }
        Ok(vec![ScalarValue::LargeBinary((!bytes.is_empty()).then_some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, |a| a.len());
        self.0.merge_batch(states, &vec![0; rows], 1)
    }
}
