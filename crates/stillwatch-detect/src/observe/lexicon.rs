//! Words that tell what a prompt is about and what it asks for.
//!
//! Coarse on purpose: the result names what a campaign harvested in the report and
//! feeds the coverage and demand channels; no accusation stands on it.

use super::text::word_hash;

/// What a prompt is about, in the words of a model card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Capability {
    #[default]
    General = 0,
    Coding = 1,
    Mathematics = 2,
    Reasoning = 3,
    Grading = 4,
    ToolUse = 5,
    Writing = 6,
    Roleplay = 7,
    Translation = 8,
    Medicine = 9,
    LawAndFinance = 10,
    DataGeneration = 11,
}

/// How many capabilities there are.
pub const CAPABILITIES: usize = 12;

impl Capability {
    /// All of them, in the order of their numbers.
    pub const ALL: [Capability; CAPABILITIES] = [
        Capability::General,
        Capability::Coding,
        Capability::Mathematics,
        Capability::Reasoning,
        Capability::Grading,
        Capability::ToolUse,
        Capability::Writing,
        Capability::Roleplay,
        Capability::Translation,
        Capability::Medicine,
        Capability::LawAndFinance,
        Capability::DataGeneration,
    ];

    /// The name in findings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Capability::General => "general knowledge",
            Capability::Coding => "coding",
            Capability::Mathematics => "mathematics",
            Capability::Reasoning => "reasoning",
            Capability::Grading => "grading",
            Capability::ToolUse => "tool use",
            Capability::Writing => "writing",
            Capability::Roleplay => "roleplay",
            Capability::Translation => "translation",
            Capability::Medicine => "medicine",
            Capability::LawAndFinance => "law and finance",
            Capability::DataGeneration => "data generation",
        }
    }

    /// The capability of that number; what is unknown is general.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Capability::ALL.get(number as usize).copied().unwrap_or_default()
    }
}

/// What an answer is asked to contain, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks(pub u8);

impl Asks {
    /// The reasoning is asked for, not just the result.
    pub const REASONING: u8 = 1;
    /// Something is to be graded against criteria.
    pub const GRADING: u8 = 2;
}

/// Words by capability, lower-case ASCII; Han characters stand for themselves.
const WORDS: &[(Capability, &str)] = &[
    (
        Capability::Coding,
        "python javascript java function code program class algorithm sql html css api bug compile \
         code script array string list variable loop rust golang typescript react library module \
         import regex implement debug refactor unittest repository commit pytorch tensorflow model \
         huggingface def return struct pointer thread database query stack 代码 函数 编程",
    ),
    (
        Capability::Mathematics,
        "calculate compute equation solve integral derivative probability sum product triangle \
         percent percentage fraction total many much each cost miles hours minutes dollars twice \
         half theorem proof polynomial matrix algebra geometry integer angle radius remainder 求 解",
    ),
    (
        Capability::Reasoning,
        "step steps reasoning reason rationale logic logical deduce conclude conclusion premise \
         therefore infer thinking thought think puzzle argument justify 推理 思考",
    ),
    (
        Capability::Grading,
        "rubric grade grading score rate rating evaluate evaluation judge criteria criterion \
         assess assessment assistant better worse verdict scale 评分 评价",
    ),
    (
        Capability::ToolUse,
        "tool tools toolformer parameters invoke endpoint search browse terminal shell file files \
         execute command agent task plan action observation workspace calendar weather booking",
    ),
    (
        Capability::Writing,
        "write essay article blog email letter story poem paragraph headline slogan rewrite edit \
         tone draft summarize summary summarise outline copy novel character lyrics speech 写 作文",
    ),
    (
        Capability::Roleplay,
        "roleplay pretend persona character imagine act acting scene dialogue fantasy you are \
         dungeon wizard knight pirate tavern detective",
    ),
    (
        Capability::Translation,
        "translate translation french spanish german chinese japanese english sentence language \
         italian russian portuguese korean 翻译",
    ),
    (
        Capability::Medicine,
        "patient symptom symptoms disease treatment diagnosis doctor medicine medical drug dose \
         cancer liver clinical therapy hospital blood infection surgery 患者 治疗 症状 疾病 病 药",
    ),
    (
        Capability::LawAndFinance,
        "contract law legal court clause liability tax invoice bank account card payment loan \
         stock market investment interest mortgage budget balance transfer insurance refund",
    ),
    (
        Capability::DataGeneration,
        "generate instructions diverse dataset examples instances synthetic samples variations \
         questions tasks requirements instruction output input brainstorm",
    ),
];

const REASONING_WORDS: &str = "step steps reasoning rationale thought thoughts think thinking internal \
                               monologue scratchpad deliberate deliberation justify explain 推理 思考";
const GRADING_WORDS: &str = "rubric grade grading score scores rate rating evaluate judge criteria criterion verdict assess";

const SLOT_BITS: u32 = 15;
const SLOTS: usize = 1 << SLOT_BITS;

/// The words, hashed once; bounded by the lists above.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// One bit for the top bits of each word's hash, so that most words of a prompt
    /// cost one look.
    filter: Box<[u64; SLOTS / 64]>,
    table: hashbrown::HashMap<u64, Entry, std::hash::BuildHasherDefault<Identity>>,
}

/// The keys are hashes already.
#[derive(Clone, Default, Debug)]
pub(crate) struct Identity(u64);

impl std::hash::Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(b);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    capabilities: u16,
    reasoning: u32,
    grading: u32,
}

/// Counts while one prompt is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    capabilities: [u16; CAPABILITIES],
    /// One bit for each word of the list that was seen.
    reasoning: u32,
    grading: u32,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let mut tally =
            Tally { filter: Box::new([0; SLOTS / 64]), table: hashbrown::HashMap::default() };
        for (capability, words) in WORDS {
            for word in words.split_whitespace() {
                for hash in hashes(word) {
                    tally.entry(hash).capabilities |= 1 << (*capability as u8);
                }
            }
        }
        for (index, word) in REASONING_WORDS.split_whitespace().enumerate() {
            for hash in hashes(word) {
                tally.entry(hash).reasoning |= 1 << index;
            }
        }
        for (index, word) in GRADING_WORDS.split_whitespace().enumerate() {
            for hash in hashes(word) {
                tally.entry(hash).grading |= 1 << index;
            }
        }
        tally
    }

    fn entry(&mut self, hash: u64) -> &mut Entry {
        let slot = (hash >> (64 - SLOT_BITS)) as usize;
        self.filter[slot / 64] |= 1 << (slot % 64);
        self.table.entry(hash).or_default()
    }

    #[inline(always)]
    pub(crate) fn count(&self, hash: u64, counts: &mut Counts) {
        let slot = (hash >> (64 - SLOT_BITS)) as usize;
        if self.filter[slot / 64] >> (slot % 64) & 1 == 0 {
            return;
        }
        if let Some(entry) = self.table.get(&hash) {
            let mut bits = entry.capabilities;
            while bits != 0 {
                let capability = bits.trailing_zeros() as usize;
                counts.capabilities[capability] = counts.capabilities[capability].saturating_add(1);
                bits &= bits - 1;
            }
            counts.reasoning |= entry.reasoning;
            counts.grading |= entry.grading;
        }
    }
}

/// The hash of an ASCII word, or of a Han word's first character: those are read one
/// by one.
fn hashes(word: &str) -> impl Iterator<Item = u64> {
    let first = word.chars().next().map_or(0, char::len_utf8);
    let bytes = if word.is_ascii() { word.as_bytes() } else { &word.as_bytes()[..first] };
    std::iter::once(if word.is_ascii() { word_hash(bytes) } else { super::text::sign_hash(bytes) })
}

impl Counts {
    /// The capability with the most words, if it has at least two; ties go to the
    /// later, more special one.
    pub(crate) fn capability(&self) -> Capability {
        let mut best = (1u16, Capability::General);
        for capability in Capability::ALL {
            let count = self.capabilities[capability as usize];
            if count > 1 && count >= best.0 {
                best = (count, capability);
            }
        }
        best.1
    }

    pub(crate) fn asks(&self) -> Asks {
        let mut bits = 0;
        if self.reasoning.count_ones() >= 2 {
            bits |= Asks::REASONING;
        }
        if self.grading.count_ones() >= 3 {
            bits |= Asks::GRADING;
        }
        Asks(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::text;

    fn read(prompt: &str) -> (Capability, u8) {
        let traits = text::read(prompt, 0, &Tally::new());
        (traits.capability, traits.asks.0)
    }

    #[test]
    fn plain_cases() {
        let cases = [
            (
                "Write a Python function that reverses a list and add a unittest.",
                Capability::Coding,
                0,
            ),
            ("Translate this sentence into French, then into German.", Capability::Translation, 0),
            (
                "Tom has twice as many apples as Ann. How many apples does each have if the total is 36?",
                Capability::Mathematics,
                0,
            ),
            (
                "Using the rubric below, grade the answer and give a score for each criterion.",
                Capability::Grading,
                Asks::GRADING,
            ),
            ("Hello there", Capability::General, 0),
            ("患者出现症状应该如何治疗", Capability::Medicine, 0),
        ];
        for (prompt, capability, asks) in cases {
            assert_eq!(read(prompt), (capability, asks), "{prompt}");
        }
    }

    #[test]
    fn asking_for_the_reasoning_is_noticed() {
        assert_eq!(
            read("Explain step by step your internal reasoning.").1 & Asks::REASONING,
            Asks::REASONING
        );
        assert_eq!(read("What is the capital of Peru?").1, 0);
    }
}
