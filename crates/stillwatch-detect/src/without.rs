//! Without: what would be found if a channel were not there.

use crate::confirm::{ConfirmChannel, MEASURES, Measured};
use crate::link::LinkChannel;

/// Channels that are left out, to see what each is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// A bit for each.
    links: u32,
    confirms: u32,
}

impl Without {
    /// All channels are there.
    pub const NOTHING: Without = Without { links: 0, confirms: 0 };

    /// The names of all channels, links first. Two of the same name, of which one links and
    /// the other confirms, would be left out together.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let links = LinkChannel::ALL.into_iter().map(LinkChannel::name);
        links.chain(ConfirmChannel::ALL.into_iter().map(|c| c.channel().name))
    }

    /// Leaves out the channels of that name too; `None` where there is none.
    #[must_use]
    pub fn and(self, name: &str) -> Option<Self> {
        let links = bits(LinkChannel::ALL.iter().map(|c| c.name() == name));
        let confirms = bits(ConfirmChannel::ALL.iter().map(|c| c.channel().name == name));
        (links | confirms != 0)
            .then_some(Without { links: self.links | links, confirms: self.confirms | confirms })
    }

    /// The link channels that are there, of some.
    pub(crate) fn links(self, of: &[LinkChannel]) -> Vec<LinkChannel> {
        of.iter().copied().filter(|&c| self.links >> c as u32 & 1 == 0).collect()
    }

    /// What the confirm channels that are there have measured.
    pub(crate) fn measured(self, mut measured: Measured) -> Measured {
        for (value, measure) in measured.iter_mut().zip(&MEASURES) {
            if self.confirms >> measure.id.channel() as u32 & 1 == 1 {
                *value = None;
            }
        }
        measured
    }
}

fn bits(set: impl Iterator<Item = bool>) -> u32 {
    set.enumerate().fold(0, |bits, (at, is)| bits | u32::from(is) << at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confirm::{Estimate, M, MEASURE_COUNT};

    #[test]
    fn a_channel_is_left_out_by_its_name() {
        assert_eq!(Without::NOTHING.and("rumour"), None);
        for name in Without::names() {
            assert!(Without::NOTHING.and(name).is_some_and(|w| w != Without::NOTHING), "{name}");
        }
        let all = [Some(Estimate::default()); MEASURE_COUNT];
        let without = Without::NOTHING.and("balance").and_then(|w| w.and("birth")).unwrap();
        let left = without.measured(all);
        let of = |m: M| left[m as usize].is_some();
        assert!(!of(M::Spread) && !of(M::Drift) && of(M::Quiet) && of(M::Repeats));
        let links = without.links(&LinkChannel::ALL);
        assert_eq!(links.len(), LinkChannel::ALL.len() - 1);
        assert!(!links.contains(&LinkChannel::Birth));
        assert_eq!(Without::NOTHING.measured(all), all);
    }
}
