//! What each exchange says: the prompt and the system prompt of a moment.

use crate::campaigns::Goal;
use crate::draws::{Draws, mix, scale, unit};
use crate::grammar;
use crate::networks::COUNTRIES;
use crate::population::{Account, Content, Schedule};
use crate::timeline::Moment;
use crate::wording::Wording;
use crate::world::World;

/// Where a system prompt stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum System {
    None,
    /// Index into the population's system prompts.
    Own(u32),
    /// The system prompt of a corpus record.
    Record(u32),
}

impl World {
    /// The corpus records that an account's language offers.
    fn chats(&self, account: &Account, bits: u64) -> &[u32] {
        let language = COUNTRIES[usize::from(account.country) % COUNTRIES.len()].3;
        let chats = &self.prompts.chats;
        let english =
            chats.get("en").or_else(|| chats.values().next()).map_or(&[][..], Vec::as_slice);
        // Many write English whatever their country speaks.
        if language == "en" || bits % 10 < 3 {
            return english;
        }
        chats.get(language).filter(|list| list.len() >= 5).map_or(english, Vec::as_slice)
    }

    fn copied(&self, bits: u64) -> Option<u32> {
        let list = &self.prompts.copied;
        if list.is_empty() || unit(mix(bits, 11, 0)) >= 0.03 {
            return None;
        }
        // The famous few are copied far more often than the rest.
        let rank = (list.len() as f64).powf(unit(mix(bits, 12, 0))) as usize;
        list.get(rank.saturating_sub(1).min(list.len() - 1)).copied()
    }

    fn chat_record(&self, account: &Account, content: Content, bits: u64) -> Option<u32> {
        let pick =
            |list: &[u32]| list.get(scale(mix(bits, 1, 0), list.len() as u64) as usize).copied();
        match content {
            Content::Code { .. } => pick(&self.prompts.code),
            Content::App { domain, .. } | Content::Recipe { domain, .. } => {
                pick(self.prompts.domains.get(usize::from(domain))?)
            }
            Content::Assignment { tasks } => pick(self.population.tasks.get(tasks as usize)?),
            Content::Question | Content::Chat { .. } => {
                self.copied(bits).or_else(|| pick(self.chats(account, bits)))
            }
            _ => None,
        }
    }

    /// How many turns a conversation has.
    pub(crate) fn turn_count(&self, account: &Account, content: Content, bits: u64) -> u32 {
        let more = |mean: f64, max: u32| {
            let draw = unit(mix(bits, 2, 0)).max(1e-12).ln() / (1.0 - 1.0 / mean).ln();
            (draw as u32).min(max)
        };
        match content {
            Content::Agent { .. } => 1 + more(14.0, 110),
            Content::Chat { .. } | Content::Code { .. } => {
                let own = self
                    .chat_record(account, content, bits)
                    .map_or(1, |r| u32::from(self.prompts.turn_count(r)));
                let asks_on = if own > 1 { 0.15 } else { 0.45 };
                own.max(1) + if unit(mix(bits, 3, 0)) < asks_on { 1 + more(2.0, 20) } else { 0 }
            }
            Content::App { .. } => self
                .chat_record(account, content, bits)
                .map_or(1, |r| u32::from(self.prompts.turn_count(r)).clamp(1, 8)),
            Content::Assignment { .. } => 1 + more(2.4, 14),
            _ => 1,
        }
    }

    /// Writes the prompt of a moment and says which system prompt goes with it.
    pub(crate) fn write_prompt(
        &self,
        moment: &Moment,
        content: Content,
        bits: u64,
        draws: &mut Draws,
        out: &mut String,
    ) -> System {
        let population = &self.population;
        let origin = &population.accounts[moment.origin as usize];
        let vocabulary = &self.prompts.vocabulary;
        let own_words = Wording { strength: self.settings.rewording, key: bits };
        let system = |index: u32| if index == 0 { System::None } else { System::Own(index) };
        match content {
            Content::Chat { system: index } | Content::Code { system: index } => {
                let record = self.chat_record(origin, content, bits);
                match record.and_then(|r| self.prompts.turn(r, moment.turn)) {
                    Some(text) => {
                        let verbatim = unit(mix(bits, 4, 0)) < self.settings.verbatim_share
                            || self.copied(bits).is_some();
                        vocabulary.write(
                            text,
                            if verbatim { Wording::VERBATIM } else { own_words },
                            out,
                        );
                    }
                    None => out.push_str(draws.word(grammar::FOLLOW_UPS)),
                }
                system(index)
            }
            Content::Question => {
                if let Some(text) =
                    self.chat_record(origin, content, bits).and_then(|r| self.prompts.turn(r, 1))
                {
                    vocabulary.write(text, own_words, out);
                }
                System::None
            }
            Content::Agent { system: index } => {
                grammar::agent_turn(draws, moment.turn, out);
                system(index)
            }
            Content::App { system: index, frame, .. }
            | Content::Recipe { system: index, frame, .. } => {
                let frame = &population.frames[frame as usize];
                out.push_str(&frame.before);
                if let Some(text) = self
                    .chat_record(origin, content, bits)
                    .and_then(|r| self.prompts.turn(r, moment.turn))
                {
                    vocabulary.write(text, own_words, out);
                }
                out.push_str(&frame.after);
                system(index)
            }
            Content::Assignment { .. } => {
                let text = self
                    .chat_record(origin, content, bits)
                    .and_then(|r| self.prompts.turn(r, moment.turn));
                match text {
                    // The task is the same for all; each words it a little for himself.
                    Some(text) => {
                        vocabulary.write(text, Wording { strength: 0.2, key: origin.bits }, out)
                    }
                    None => out.push_str(draws.word(grammar::FOLLOW_UPS)),
                }
                System::None
            }
            Content::Benchmark { suite, offset, frame } => {
                let items =
                    self.prompts.suites.get(usize::from(suite)).map_or(&[][..], Vec::as_slice);
                let at = (u64::from(offset) + u64::from(moment.number)) % items.len().max(1) as u64;
                let frame = &population.frames[frame as usize];
                let record = items.get(at as usize).copied();
                out.push_str(&frame.before);
                out.push_str(record.and_then(|r| self.prompts.turn(r, 1)).unwrap_or("ping"));
                out.push_str(&frame.after);
                self.record_system(record)
            }
            Content::Judging => {
                let items = &self.prompts.judging;
                let record = items.get(moment.number as usize % items.len().max(1)).copied();
                out.push_str(record.and_then(|r| self.prompts.turn(r, 1)).unwrap_or("ping"));
                self.record_system(record)
            }
            Content::Script { frame, domain, stride } => {
                let items = self
                    .prompts
                    .harvest
                    .get(usize::from(domain))
                    .map_or(&[][..], |(_, records)| records);
                let at =
                    u64::from(stride) + u64::from(moment.number) + 7_919 * u64::from(moment.day);
                let frame = &population.frames[frame as usize];
                let owner =
                    if origin.organization == 0 { origin.bits } else { origin.organization };
                out.push_str(&frame.before);
                if let Some(text) = items
                    .get((at % items.len().max(1) as u64) as usize)
                    .and_then(|r| self.prompts.turn(*r, 1))
                {
                    let key = mix(owner, at / items.len().max(1) as u64, 0);
                    vocabulary.write(text, Wording { strength: self.settings.rewording, key }, out);
                }
                out.push_str(&frame.after);
                System::None
            }
            Content::Harvest { campaign } => self.write_harvest(moment, campaign, bits, draws, out),
        }
    }

    fn record_system(&self, record: Option<u32>) -> System {
        match record {
            Some(r) if self.prompts.records[r as usize].system.is_some() => System::Record(r),
            _ => System::None,
        }
    }

    fn write_harvest(
        &self,
        moment: &Moment,
        campaign: u8,
        bits: u64,
        draws: &mut Draws,
        out: &mut String,
    ) -> System {
        let population = &self.population;
        let origin = &population.accounts[moment.origin as usize];
        let run = &population.campaigns[usize::from(campaign)];
        let plan = &run.plan;
        let seat = match origin.activities[usize::from(moment.activity)].schedule {
            Schedule::Quota { seat, .. } => seat,
            _ => 0,
        };
        let system = match run.systems.len() as u64 {
            0 => System::None,
            n => System::Own(run.systems[scale(mix(run.key(), 21, origin.bits), n) as usize]),
        };
        if moment.turn > 1 {
            if plan.goal == Goal::Agentic {
                grammar::agent_turn(draws, moment.turn, out);
            } else {
                out.push_str(draws.word(grammar::HARVEST_FOLLOW_UPS));
            }
            return system;
        }
        let vocabulary = &self.prompts.vocabulary;
        let template = match run.templates.len() as u64 {
            0 => None,
            n => run.templates.get(scale(mix(run.key(), 22, origin.bits), n) as usize),
        };
        let template_words = Wording { strength: plan.rewording, key: origin.bits };
        if let Some((before, _)) = template {
            vocabulary.write(before, template_words, out);
        }
        let write_item = |k: u64, chance: u64, out: &mut String| {
            let (record, round) = run.item(seat, k, chance);
            let words = if round == 0 {
                Wording { strength: plan.task_rewording, key: mix(run.key(), 25, origin.bits) }
            } else {
                Wording { strength: self.settings.rewording, key: mix(run.key(), 23, round) }
            };
            vocabulary.write(self.prompts.turn(record, 1).unwrap_or_default(), words, out);
            if round > 0 {
                grammar::variation(round - 1, out);
            }
        };
        let k = u64::from(moment.number);
        match plan.goal {
            Goal::Grades => {
                out.push_str("[Task]\n");
                write_item(k, bits, out);
                out.push_str("\n\n[Response]\n");
                grammar::answer(draws, out);
            }
            Goal::Tasks => {
                for number in 1..=3u64 {
                    out.push_str(["1. ", "\n2. ", "\n3. "][number as usize - 1]);
                    let other = if number == 1 { k } else { mix(bits, 24, number) >> 32 };
                    write_item(other, mix(bits, number, 0), out);
                }
                out.push_str("\n4.");
            }
            _ => write_item(k, bits, out),
        }
        if let Some((_, after)) = template {
            vocabulary.write(after, template_words, out);
        }
        system
    }
}
