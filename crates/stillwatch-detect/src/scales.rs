//! Scales: the median and spread that a measure of a group is held against, from the
//! groups of its stratum in one window.
//!
//! Values are put in order once. The scale without some of the groups is then one walk
//! over them, so that many groups can each have a scale without themselves.

use crate::confirm::{Estimate, MEASURE_COUNT, MEASURES, Tail};
use crate::judge::{self, Subject};

/// The median and spread of the groups of a stratum, by measure.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub median: f64,
    pub spread: f64,
    pub groups: usize,
}

/// A scale by measure; `None` where no group has a value.
pub(crate) type Row = [Option<Scale>; MEASURE_COUNT];

/// Scales of all strata in one window, or of one.
#[derive(Clone, Debug, Default)]
pub struct Scales {
    rows: Vec<(&'static str, Row)>,
    /// What groups of other strata are held against: all together.
    rest: Row,
}

/// With fewer groups a stratum's median means little, and all groups serve.
const GROUPS_MIN: usize = 12;

impl Scales {
    /// Works out the scales from all groups of a window.
    #[must_use]
    pub fn of<'a>(subjects: impl IntoIterator<Item = &'a Subject>) -> Self {
        Ordered::new(subjects).scales()
    }

    /// The scale that a measure of a stratum's groups is held against.
    #[must_use]
    pub fn get(&self, stratum: &'static str, measure: usize) -> Option<Scale> {
        self.row(stratum)[measure]
    }

    /// By measure, the scales that a stratum's groups are held against.
    pub(crate) fn row(&self, stratum: &'static str) -> &Row {
        self.rows.iter().find(|row| row.0 == stratum).map_or(&self.rest, |row| &row.1)
    }
}

/// A measure's value of one group.
#[derive(Clone, Copy, Debug)]
struct Valued {
    value: f64,
    mass: f64,
    group: u32,
}

impl Valued {
    fn rising(&self, other: &Self) -> std::cmp::Ordering {
        self.value.total_cmp(&other.value).then(self.mass.total_cmp(&other.mass))
    }

    fn falling(&self, other: &Self) -> std::cmp::Ordering {
        other.value.total_cmp(&self.value).then(self.mass.total_cmp(&other.mass))
    }
}

/// A measure's values, in order and in the order of their distance from any of them.
#[derive(Clone, Debug, Default)]
struct List {
    rising: Vec<Valued>,
    falling: Vec<Valued>,
}

impl List {
    fn close(&mut self) {
        self.rising.sort_unstable_by(Valued::rising);
        self.falling = self.rising.clone();
        self.falling.sort_unstable_by(Valued::falling);
    }

    /// The scale of the groups that are taken. `room` is to work in.
    fn scale(
        &self,
        measure: usize,
        taken: impl Fn(usize) -> bool,
        room: &mut Vec<(f64, f64)>,
    ) -> Option<Scale> {
        let those = |list: &'_ [Valued], into: &mut Vec<(f64, f64)>| {
            into.extend(list.iter().filter(|v| taken(v.group as usize)).map(|v| (v.value, v.mass)));
        };
        room.clear();
        those(&self.rising, room);
        let groups = room.len();
        if groups == 0 {
            return None;
        }
        let median = median(room);
        // By distance: down from the median, and up from it.
        room.clear();
        let up = self.rising.partition_point(|v| v.value.total_cmp(&median).is_le());
        let down = self.falling.partition_point(|v| v.value.total_cmp(&median).is_gt());
        let distance = |v: &Valued| ((v.value - median).abs(), v.mass);
        let is_taken = |v: &&Valued| taken(v.group as usize);
        let mut above = self.rising[up..].iter().filter(is_taken).map(distance).peekable();
        for below in self.falling[down..].iter().filter(is_taken).map(distance) {
            while let Some(next) = above.next_if(|next| by_value(next, &below).is_lt()) {
                room.push(next);
            }
            room.push(below);
        }
        room.extend(above);
        // Distances may be equal where values are not.
        if !room.is_sorted_by(|a, b| by_value(a, b).is_le()) {
            room.sort_unstable_by(by_value);
        }
        let spread = (1.4826 * self::median(room)).max(MEASURES[measure].resolution);
        Some(Scale { median, spread, groups })
    }
}

fn by_value(a: &(f64, f64), b: &(f64, f64)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
}

/// The weighted median of `(value, mass)` in order: the least value with half of the mass
/// at or below it.
fn median(values: &[(f64, f64)]) -> f64 {
    let half = values.iter().map(|v| v.1).sum::<f64>() / 2.0;
    let mut below = 0.0;
    for (value, mass) in values {
        below += mass;
        if below >= half {
            return *value;
        }
    }
    0.0
}

fn enough(scale: Option<Scale>) -> Option<Scale> {
    scale.filter(|s| s.groups >= GROUPS_MIN)
}

/// A stratum's own scale of a measure, or that of the rest where it has none. Of a measure
/// whose large deviations say much it is no narrower than the rest's: a dozen large groups
/// that are alike by chance don't show how different groups can be.
fn no_narrower(
    measure: usize,
    own: Option<Scale>,
    rest: impl FnOnce() -> Option<Scale>,
) -> Option<Scale> {
    let Some(own) = own else { return rest() };
    if MEASURES[measure].tail == Tail::Heavy {
        return Some(own);
    }
    let spread = rest().map_or(own.spread, |rest| rest.spread.max(own.spread));
    Some(Scale { spread, ..own })
}

/// The groups of a window, their values in order.
#[derive(Debug)]
pub(crate) struct Ordered<'a> {
    subjects: Vec<&'a Subject>,
    strata: Vec<Stratum>,
    /// The values of all strata.
    all: [List; MEASURE_COUNT],
    /// Which groups something explains, each beside all others.
    is_explained: Vec<bool>,
}

#[derive(Debug)]
struct Stratum {
    name: &'static str,
    groups: Vec<u32>,
    lists: [List; MEASURE_COUNT],
}

/// What [`Ordered::without`] works with; one for each thread.
#[derive(Debug, Default)]
pub(crate) struct Work {
    is_left_out: Vec<bool>,
    is_explained: Vec<bool>,
    room: Vec<(f64, f64)>,
}

impl<'a> Ordered<'a> {
    pub(crate) fn new(subjects: impl IntoIterator<Item = &'a Subject>) -> Self {
        let subjects: Vec<&Subject> = subjects.into_iter().collect();
        let mut strata: Vec<Stratum> = Vec::new();
        let mut all: [List; MEASURE_COUNT] = Default::default();
        for (group, subject) in (0u32..).zip(&subjects) {
            let place =
                strata.iter().position(|s| s.name == subject.stratum).unwrap_or_else(|| {
                    let lists = Default::default();
                    strata.push(Stratum { name: subject.stratum, groups: Vec::new(), lists });
                    strata.len() - 1
                });
            let stratum = &mut strata[place];
            stratum.groups.push(group);
            let lists = stratum.lists.iter_mut().zip(&mut all);
            for ((own, all), value) in lists.zip(&subject.measured) {
                if let Some(Estimate { value, .. }) = *value {
                    let valued = Valued { value, mass: subject.mass, group };
                    own.rising.push(valued);
                    all.rising.push(valued);
                }
            }
        }
        strata.iter_mut().flat_map(|s| &mut s.lists).chain(&mut all).for_each(List::close);
        let mut ordered = Ordered { subjects, strata, all, is_explained: Vec::new() };
        ordered.is_explained = vec![false; ordered.subjects.len()];
        let mut room = Vec::new();
        let all = ordered.together(|_| true, &mut room);
        for stratum in &ordered.strata {
            let own = stratum.row(|_| true, &mut room);
            let row = std::array::from_fn(|m| enough(own[m]).or(all[m]));
            for &group in &stratum.groups {
                ordered.is_explained[group as usize] =
                    judge::is_explained(ordered.subjects[group as usize], &row);
            }
        }
        ordered
    }

    /// The scales of all strata together.
    fn together(&self, taken: impl Fn(usize) -> bool, room: &mut Vec<(f64, f64)>) -> Row {
        std::array::from_fn(|m| self.all[m].scale(m, &taken, room))
    }

    /// The scales from all groups. They come from those that nothing explains (where half
    /// of those who share a network are automations that keep to the clock, a group that
    /// does not is held against the other half), or from all where these are too few.
    pub(crate) fn scales(&self) -> Scales {
        let mut room = Vec::new();
        let unexplained = |g: usize| !self.is_explained[g];
        let all = self.together(|_| true, &mut room);
        let all_unexplained = self.together(unexplained, &mut room);
        let rest = std::array::from_fn(|m| enough(all_unexplained[m]).or(all[m]));
        let rows = self
            .strata
            .iter()
            .map(|stratum| {
                let own = stratum.row(|_| true, &mut room);
                let own_unexplained = stratum.row(unexplained, &mut room);
                let row = std::array::from_fn(|m| {
                    let own = enough(own_unexplained[m]).or(enough(own[m]));
                    no_narrower(m, own, || rest[m])
                });
                (stratum.name, row)
            })
            .collect();
        Scales { rows, rest }
    }

    /// The scales for groups of one stratum, as if some of its groups were not there.
    pub(crate) fn without(
        &self,
        stratum: &'static str,
        left_out: &[u32],
        work: &mut Work,
    ) -> Scales {
        let Some(own) = self.strata.iter().find(|s| s.name == stratum) else {
            return Scales::default();
        };
        let Work { is_left_out, is_explained, room } = work;
        is_left_out.clear();
        is_left_out.resize(self.subjects.len(), false);
        left_out.iter().for_each(|&g| is_left_out[g as usize] = true);
        is_explained.clone_from(&self.is_explained);

        let stays = |g: usize| !is_left_out[g];
        let mut together: [Option<Option<Scale>>; MEASURE_COUNT] = [None; MEASURE_COUNT];
        let mut together = |m: usize, room: &mut _| {
            *together[m].get_or_insert_with(|| self.all[m].scale(m, stays, room))
        };
        let of_own = own.row(stays, room);
        let mut first: Row = [None; MEASURE_COUNT];
        for m in (0..MEASURE_COUNT).filter(|&m| judge::may_explain(m)) {
            first[m] = enough(of_own[m]).or_else(|| together(m, room));
        }
        for &group in own.groups.iter().filter(|g| stays(**g as usize)) {
            is_explained[group as usize] =
                judge::is_explained(self.subjects[group as usize], &first);
        }
        let unexplained = |is_explained: &[bool], g: usize| stays(g) && !is_explained[g];
        let of_unexplained = own.row(|g| unexplained(is_explained, g), room);
        let mut row: Row = std::array::from_fn(|m| enough(of_unexplained[m]).or(enough(of_own[m])));
        // Where a stratum's own are too few, its groups are beside all of the others.
        for other in self.strata.iter().filter(|s| s.name != stratum) {
            let few = |m: usize| (1..GROUPS_MIN).contains(&other.lists[m].rising.len());
            let explaining = (0..MEASURE_COUNT).filter(|&m| judge::may_explain(m));
            if !explaining.clone().any(few) {
                continue;
            }
            let mut first: Row = [None; MEASURE_COUNT];
            for m in explaining {
                let own = other.lists[m].scale(m, stays, room);
                first[m] = enough(own).or_else(|| together(m, room));
            }
            for &group in &other.groups {
                is_explained[group as usize] =
                    judge::is_explained(self.subjects[group as usize], &first);
            }
        }
        for (m, scale) in row.iter_mut().enumerate() {
            *scale = no_narrower(m, *scale, || {
                let rest = self.all[m].scale(m, |g| unexplained(is_explained, g), room);
                enough(rest).or_else(|| together(m, room))
            });
        }
        Scales { rows: Vec::new(), rest: row }
    }
}

impl Stratum {
    fn row(&self, taken: impl Fn(usize) -> bool, room: &mut Vec<(f64, f64)>) -> Row {
        std::array::from_fn(|m| self.lists[m].scale(m, &taken, room))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confirm::M;

    /// Groups of three strata, one of them small, whose values are often equal.
    fn groups() -> Vec<Subject> {
        let mut random = 7u64;
        let mut draw = |most: u64| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (random >> 33) % most
        };
        (0..150)
            .map(|g| {
                let measured = std::array::from_fn(|m| {
                    let few = m == M::Successors as usize || m == M::Repeats as usize;
                    (draw(if few { 20 } else { 2 }) == 0)
                        .then(|| Estimate { value: draw(9) as f64 / 10.0, ..Estimate::default() })
                });
                Subject {
                    stratum: ["client", "network", "pool"][if g % 15 == 0 { 2 } else { g % 2 }],
                    mass: draw(30) as f64 / 7.0,
                    active: 30,
                    is_known_customers: false,
                    links: Vec::new(),
                    measured,
                }
            })
            .collect()
    }

    #[test]
    fn without_some_is_as_if_they_were_not_there() {
        let groups = groups();
        let ordered = Ordered::new(&groups);
        let mut work = Work::default();
        for stratum in ["client", "network", "pool"] {
            let of: Vec<u32> =
                (0u32..).zip(&groups).filter(|g| g.1.stratum == stratum).map(|g| g.0).collect();
            for left_out in of.chunks(9) {
                let others: Vec<&Subject> = (0u32..)
                    .zip(&groups)
                    .filter(|g| !left_out.contains(&g.0))
                    .map(|g| g.1)
                    .collect();
                let told = |scales: &Scales| {
                    let row = scales.row(stratum).map(|scale| {
                        scale.map(|s| (s.median.to_bits(), s.spread.to_bits(), s.groups))
                    });
                    assert!(row.iter().any(Option::is_some));
                    row
                };
                let scales = ordered.without(stratum, left_out, &mut work);
                assert_eq!(told(&scales), told(&Scales::of(others)));
            }
        }
    }

    #[test]
    fn a_stratum_of_like_groups_is_no_finer_a_scale_for_volumes() {
        let mut groups = groups();
        for (g, group) in groups.iter_mut().enumerate() {
            group.stratum = if g < 20 { "client" } else { "network" };
            group.mass = 1.0;
            for measure in [M::Spread, M::Moved] {
                let value = if g < 20 { 0.4 } else { g as f64 / 50.0 };
                group.measured[measure as usize] = Some(Estimate { value, ..Estimate::default() });
            }
        }
        let scales = Scales::of(&groups);
        let spread = |stratum, m: M| scales.get(stratum, m as usize).unwrap().spread;
        assert_eq!(spread("client", M::Spread), spread("none of these", M::Spread));
        assert!(spread("client", M::Moved) < spread("none of these", M::Moved));
    }
}
