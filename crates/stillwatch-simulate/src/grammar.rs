//! The built-in words: sentence frames and word lists for every role, so that a
//! world needs no corpus. The same on every machine; a world's seed decides only
//! what is drawn from here.

use crate::draws::{Draws, Purpose};
use crate::prompts::Record;

const SUBJECTS: &[&str] = &[
    "photosynthesis",
    "plate tectonics",
    "the French Revolution",
    "compound interest",
    "machine translation",
    "solar panels",
    "sourdough bread",
    "black holes",
    "the immune system",
    "supply chains",
    "jazz harmony",
    "urban planning",
    "ocean currents",
    "the stock market",
    "gene editing",
    "medieval castles",
    "public transport",
    "volcanoes",
    "contract law",
    "electric motors",
    "game theory",
    "coral reefs",
    "database indexes",
    "typography",
    "beekeeping",
    "glaciers",
    "monetary policy",
    "railway signalling",
    "nutrition labels",
    "bicycle gears",
    "antibiotics",
    "satellite orbits",
    "language acquisition",
    "wine making",
    "carbon capture",
    "chess openings",
    "tax brackets",
    "sleep cycles",
    "opera singing",
    "water treatment",
    "quantum tunnelling",
    "inflation",
    "trade unions",
    "knitting patterns",
    "earthquake engineering",
    "semiconductors",
    "migration of birds",
    "probate",
    "heat pumps",
    "cheese ripening",
    "radio astronomy",
    "hydroponics",
    "bridge design",
    "vaccines",
    "municipal bonds",
    "film editing",
    "soil erosion",
    "lithium batteries",
    "insurance underwriting",
    "glass blowing",
];
const PEOPLE: &[&str] = &[
    "a ten-year-old",
    "my grandmother",
    "a new colleague",
    "a sceptical manager",
    "first-year students",
    "a journalist",
    "a retired engineer",
    "our customers",
    "a committee",
    "someone who hates maths",
    "a patient",
    "an investor",
    "a nurse",
    "a town council",
    "a beginner",
    "teenagers",
    "a visiting delegation",
    "a friend who is a lawyer",
];
const PLACES: &[&str] = &[
    "Lisbon",
    "Nagoya",
    "Recife",
    "Tromsø",
    "Lahore",
    "Ghent",
    "Windhoek",
    "Quito",
    "Tampere",
    "Da Nang",
    "Leeds",
    "Tbilisi",
    "Accra",
    "Split",
    "Valparaíso",
    "Pune",
    "Gdańsk",
    "Hobart",
    "Izmir",
    "Halifax",
    "Cebu",
    "Graz",
];
const THINGS: &[&str] = &[
    "a two-bedroom flat",
    "an old bicycle",
    "a used laptop",
    "a wedding speech",
    "a garden shed",
    "a job interview",
    "my cover letter",
    "a birthday party",
    "a weekly meal plan",
    "a training schedule",
    "a leaking tap",
    "a book club",
    "a weekend trip",
    "a school project",
    "a neighbour's dog",
    "a small bakery",
    "my CV",
    "a podcast episode",
    "a savings plan",
    "a broken dishwasher",
    "a team retreat",
    "a mobile game",
    "a charity run",
    "a vegetable patch",
];
const ADJECTIVES: &[&str] = &[
    "cheap",
    "quiet",
    "honest",
    "formal",
    "friendly",
    "short",
    "detailed",
    "practical",
    "playful",
    "careful",
    "simple",
    "unusual",
    "modern",
    "traditional",
    "sturdy",
    "gentle",
    "bold",
    "plain",
    "thorough",
    "quick",
];
const VERBS: &[&str] = &[
    "explain",
    "summarise",
    "compare",
    "rewrite",
    "plan",
    "improve",
    "check",
    "translate",
    "describe",
    "outline",
    "criticise",
    "shorten",
    "illustrate",
    "defend",
    "question",
    "organise",
    "estimate",
    "simplify",
];
const LANGUAGES: &[&str] = &[
    "Python",
    "Rust",
    "TypeScript",
    "Go",
    "Java",
    "C++",
    "SQL",
    "Kotlin",
    "Swift",
    "Bash",
    "C#",
    "Ruby",
    "Elixir",
];
const CODE_NOUNS: &[&str] = &[
    "priority queue",
    "rate limiter",
    "CSV parser",
    "LRU cache",
    "binary tree",
    "web scraper",
    "retry decorator",
    "matrix class",
    "date range iterator",
    "connection pool",
    "tokenizer",
    "event bus",
    "config loader",
    "bloom filter",
    "state machine",
    "file watcher",
    "log rotator",
    "diff algorithm",
    "union-find",
    "text wrapper",
    "hash ring",
    "job scheduler",
    "trie",
    "pagination helper",
    "JSON validator",
    "password checker",
    "graph search",
    "interval tree",
];
const CODE_ERRORS: &[&str] = &[
    "a null reference when the list is empty",
    "a deadlock under load",
    "an off-by-one in the last page",
    "a type mismatch in the generic bound",
    "wrong results for negative numbers",
    "a timeout on the second request",
    "a memory leak after an hour",
    "a failing test on Windows only",
    "duplicate rows after the join",
    "an encoding error with accents",
    "a stale cache after deploy",
    "a race between two writers",
];
const FUNCTION_VERBS: &[&str] = &[
    "parse", "merge", "load", "flush", "resolve", "count", "split", "encode", "visit", "collect",
    "fetch", "apply",
];
const FUNCTION_NOUNS: &[&str] = &[
    "order", "token", "session", "invoice", "chunk", "header", "batch", "node", "route", "record",
    "window", "buffer", "tenant", "ledger", "segment", "profile",
];
const CONSTRAINTS: &[&str] = &[
    "in at most five sentences",
    "as a numbered list",
    "with two examples",
    "without jargon",
    "as a table",
    "in a friendly tone",
    "with one counterexample",
    "for a slide",
    "as a dialogue",
    "in plain words",
    "with the sources you rely on",
    "in under two hundred words",
    "step by step",
    "with a short summary first",
];

struct Maker(Draws);

impl Maker {
    fn new(stream: u64) -> Self {
        Maker(Draws::new(0x5711_1a7c, Purpose::Prompts, stream, 0))
    }

    fn word(&mut self, words: &'static [&'static str]) -> &'static str {
        self.0.word(words)
    }

    fn number(&mut self, low: usize, high: usize) -> usize {
        self.0.between(low, high)
    }
}

fn record(turns: Vec<String>) -> Record {
    Record { system: None, turns: turns.into_iter().map(String::into_boxed_str).collect() }
}

/// Chats and single questions with their languages.
pub(crate) fn chats() -> Vec<(&'static str, Record)> {
    let mut make = Maker::new(1);
    let mut all = Vec::new();
    for _ in 0..6000 {
        let m = &mut make;
        let (subject, thing) = (m.word(SUBJECTS), m.word(THINGS));
        let opening = match m.number(0, 13) {
            0 => format!("can you {} {subject} for {}?", m.word(VERBS), m.word(PEOPLE)),
            1 => format!(
                "I'm thinking about {thing} in {}. Any {} ideas?",
                m.word(PLACES),
                m.word(ADJECTIVES)
            ),
            2 => format!("what is the difference between {subject} and {}?", m.word(SUBJECTS)),
            3 => format!(
                "help me with {thing}, I have about {} euros and {} days",
                m.number(20, 900),
                m.number(2, 30)
            ),
            4 => format!("why does {subject} matter so much in {} right now", m.word(PLACES)),
            5 => format!(
                "Write a {} message about {thing} to {}.",
                m.word(ADJECTIVES),
                m.word(PEOPLE)
            ),
            6 => format!("hi, quick question on {subject}"),
            7 => format!(
                "I read that {subject} changed a lot since {}. Is that true?",
                m.number(1850, 2024)
            ),
            8 => format!("{} {subject} {}", capital(m.word(VERBS)), m.word(CONSTRAINTS)),
            9 => format!(
                "My friend from {} says {subject} is overrated, what do you think?",
                m.word(PLACES)
            ),
            10 => format!(
                "give me {} names for {thing}, something {}",
                m.number(3, 20),
                m.word(ADJECTIVES)
            ),
            11 => format!(
                "how long would it take to learn about {subject} if I have {} hours a week",
                m.number(1, 15)
            ),
            12 => format!(
                "is it normal that {thing} costs {} in {}?",
                m.number(40, 4000),
                m.word(PLACES)
            ),
            _ => format!(
                "tell me a {} story about {} and {thing}",
                m.word(ADJECTIVES),
                m.word(PEOPLE)
            ),
        };
        let mut turns = vec![opening];
        let more = m.0.geometric(3.0, 14) - 1;
        for _ in 0..more {
            turns.push(match m.number(0, 10) {
                0 => format!("and what about {subject} in {}?", m.word(PLACES)),
                1 => format!("can you make that more {}", m.word(ADJECTIVES)),
                2 => format!("ok but {thing} is really for {}", m.word(PEOPLE)),
                3 => {
                    format!("I don't get the part about {subject}, say it {}", m.word(CONSTRAINTS))
                }
                4 => "thanks! one more thing".to_owned(),
                5 => format!("what would {} say to that?", m.word(PEOPLE)),
                6 => format!("make it about {} words", m.number(5, 60) * 10),
                7 => format!("hm, is there a {} way to do it?", m.word(ADJECTIVES)),
                8 => format!("what if I only have {} left", m.number(10, 500)),
                9 => format!("so {subject} and {} are related?", m.word(SUBJECTS)),
                _ => "go on".to_owned(),
            });
        }
        all.push(("en", record(turns)));
    }
    for (lang, frames, subjects) in FOREIGN {
        for _ in 0..350 {
            let m = &mut make;
            let subject = m.word(subjects);
            let turns = (0..m.0.geometric(2.2, 8))
                .map(|_| {
                    m.word(frames)
                        .replace("{}", subject)
                        .replace("{n}", &m.number(2, 90).to_string())
                })
                .collect();
            all.push((*lang, record(turns)));
        }
    }
    all
}

type Frames = &'static [&'static str];

const FOREIGN: &[(&str, Frames, Frames)] = &[
    (
        "zh",
        &[
            "请解释一下{}",
            "{}有什么好处？",
            "我想了解{}，请举{n}个例子",
            "能不能用简单的话说明{}",
            "关于{}，初学者应该怎么开始？",
            "帮我写一段关于{}的介绍，大约{n}0字",
            "{}和以前有什么不同",
        ],
        &[
            "机器学习",
            "春节习俗",
            "投资理财",
            "高铁",
            "中医",
            "健身计划",
            "面试技巧",
            "火锅做法",
            "城市规划",
            "量子力学",
            "唐诗",
            "咖啡冲泡",
        ],
    ),
    (
        "de",
        &[
            "Kannst du mir {} erklären?",
            "Was kostet {} ungefähr pro Monat?",
            "Schreib mir {n} Sätze über {}",
            "Wie fange ich mit {} an?",
            "Was ist der Unterschied zwischen {} und früher?",
            "Danke, und was gilt bei {} in der Schweiz?",
        ],
        &[
            "Wärmepumpen",
            "eine Steuererklärung",
            "Gartenarbeit",
            "ein Bewerbungsschreiben",
            "Brotbacken",
            "Elternzeit",
            "Mietrecht",
            "Radreisen",
            "Fotografie",
            "die Bundesliga",
        ],
    ),
    (
        "es",
        &[
            "¿Puedes explicarme {}?",
            "Necesito ideas sobre {} para {n} personas",
            "Escribe un texto corto sobre {}",
            "¿Cuánto tiempo lleva {}?",
            "¿Y cómo mejoro {}?",
            "Dame {n} consejos sobre {}",
        ],
        &[
            "la declaración de la renta",
            "la cocina mexicana",
            "un viaje a Perú",
            "el cambio climático",
            "mi currículum",
            "la guitarra",
            "una boda",
            "el huerto urbano",
            "la historia de Roma",
        ],
    ),
    (
        "fr",
        &[
            "Peux-tu m'expliquer {} ?",
            "Donne-moi {n} idées pour {}",
            "Rédige un message au sujet de {}",
            "Comment réussir {} ?",
            "Et pour {} en hiver ?",
            "Quels sont les risques de {} ?",
        ],
        &[
            "la pâte feuilletée",
            "un entretien d'embauche",
            "la photosynthèse",
            "un déménagement",
            "le droit du travail",
            "la randonnée",
            "un jardin partagé",
            "la philosophie stoïcienne",
        ],
    ),
    (
        "ru",
        &[
            "Объясни, пожалуйста, {}",
            "Напиши {n} предложений про {}",
            "Чем полезно {}?",
            "С чего начать {}?",
            "А если у меня только {n} дней на {}?",
        ],
        &[
            "программирование",
            "плавание",
            "изучение языка",
            "садоводство",
            "путешествие по Алтаю",
            "выпечку хлеба",
            "основы экономики",
        ],
    ),
    (
        "ja",
        &[
            "{}について教えてください",
            "{}の例を{n}個ください",
            "{}を簡単に説明して",
            "{}を始めるにはどうすればいいですか",
            "{}のメールを書いてください",
        ],
        &["確定申告", "英会話", "京都旅行", "筋トレ", "統計学", "転職", "味噌汁の作り方"],
    ),
    (
        "pt",
        &[
            "Pode me explicar {}?",
            "Quero {n} dicas sobre {}",
            "Escreva um texto sobre {}",
            "Como começo com {}?",
            "E se for {} em casa?",
        ],
        &[
            "investimentos",
            "futebol",
            "um plano de treino",
            "a receita de pão de queijo",
            "energia solar",
            "redação do Enem",
        ],
    ),
];

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn function(m: &mut Maker) -> String {
    format!("{}_{}", m.word(FUNCTION_VERBS), m.word(FUNCTION_NOUNS))
}

/// Programmers' questions, some with pasted code.
pub(crate) fn code_questions() -> Vec<Record> {
    let mut make = Maker::new(2);
    (0..2500)
        .map(|_| {
            let m = &mut make;
            let (language, noun, name) = (m.word(LANGUAGES), m.word(CODE_NOUNS), function(m));
            let opening = match m.number(0, 7) {
                0 => format!("Write a {noun} in {language} with tests."),
                1 => format!("My {language} {noun} has {}. Where should I look?", m.word(CODE_ERRORS)),
                2 => format!("fn {name}(items: &[u{}]) -> usize {{\n    items.iter().filter(|i| **i > {}).count()\n}}\n\nwhy is this slow?", [8, 16, 32, 64][m.number(0, 3)], m.number(1, 999)),
                3 => format!("def {name}(x, limit={}):\n    return [v for v in x if v.{} < limit]\n\nrefactor this, it should handle None", m.number(2, 5000), m.word(FUNCTION_NOUNS)),
                4 => format!("Convert this {noun} from {language} to {}: `{name}({}, {})`", m.word(LANGUAGES), m.number(1, 90), m.number(1, 90)),
                5 => format!("Traceback (most recent call last):\n  File \"{name}.py\", line {}\nValueError: {}\n\nhow do I fix this", m.number(3, 900), m.word(CODE_ERRORS)),
                6 => format!("How do I call {name}() concurrently in {language} without {}?", m.word(CODE_ERRORS)),
                _ => format!("Review: SELECT {}_id, count(*) FROM {}s WHERE {}_at > '20{}-01-01' GROUP BY 1", m.word(FUNCTION_NOUNS), m.word(FUNCTION_NOUNS), m.word(FUNCTION_VERBS), m.number(10, 26)),
            };
            let mut turns = vec![opening];
            for _ in 1..m.0.geometric(2.5, 10) {
                turns.push(match m.number(0, 4) {
                    0 => format!("now it has {}", m.word(CODE_ERRORS)),
                    1 => format!("can you rename {name} and add a docstring"),
                    2 => format!("what about {} in {language}?", m.word(CODE_NOUNS)),
                    3 => format!("test fails: expected {} got {}", m.number(0, 99), m.number(0, 99)),
                    _ => "works, thanks. how would you benchmark it?".to_owned(),
                });
            }
            record(turns)
        })
        .collect()
}

/// End users' messages to narrow applications.
pub(crate) fn app_domains() -> Vec<Vec<Record>> {
    const DOMAINS: &[(Frames, Frames)] = &[
        (
            &[
                "my {} hasn't arrived yet",
                "I was charged {n} for {}, why?",
                "how do I cancel {}",
                "where can I see {}",
                "is {} included in my plan",
                "please refund {} from the {n}th",
            ],
            &[
                "card payment",
                "the transfer",
                "my top-up",
                "the monthly fee",
                "a cash withdrawal",
                "the exchange rate",
                "direct debit",
                "my new card",
            ],
        ),
        (
            &[
                "book {} for {n} people",
                "what time does {} open",
                "can I change {} to the {n}th",
                "do you have {} with breakfast",
                "cancel {} please",
                "how far is {} from the station",
            ],
            &[
                "a double room",
                "the spa",
                "a table",
                "the airport shuttle",
                "a late checkout",
                "the conference room",
                "parking",
            ],
        ),
        (
            &[
                "Summarise this ticket: customer reports {} since version {n}",
                "Customer says {} after update {n}, draft a reply",
                "Classify: {} (priority {n})",
                "Is this a duplicate? {}",
            ],
            &[
                "login loops",
                "missing invoices",
                "slow export",
                "wrong time zone",
                "lost settings",
                "a blank dashboard",
                "broken search",
            ],
        ),
        (
            &[
                "Product: {}. Weight {n} g. Write a listing.",
                "Title for {}, {n} left in stock",
                "Translate the listing for {} to German",
                "Five keywords for {}",
                "Why is {} rated {n}?",
            ],
            &[
                "enamel mug",
                "linen shirt",
                "camping stove",
                "desk lamp",
                "wool socks",
                "water filter",
                "phone case",
                "board game",
            ],
        ),
        (
            &[
                "Pupil answer: \"{} because of {n}\". Give a hint.",
                "Next exercise about {} please",
                "Is {n} right for {}?",
                "I don't understand {}",
                "explain {} again",
            ],
            &[
                "fractions",
                "the past tense",
                "photosynthesis",
                "prime numbers",
                "the water cycle",
                "equations",
                "rhymes",
            ],
        ),
        (
            &[
                "Extract parties and dates: agreement on {} effective day {n}",
                "Is the {} clause unusual? Term {n} months",
                "Redline {}: liability capped at {n}%",
                "Summarise {}",
            ],
            &[
                "office lease",
                "supply of steel",
                "software licence",
                "non-disclosure",
                "loan",
                "distribution",
                "employment",
            ],
        ),
    ];
    let mut make = Maker::new(3);
    DOMAINS
        .iter()
        .map(|(frames, things)| {
            (0..600)
                .map(|_| {
                    let m = &mut make;
                    let thing = m.word(things);
                    let turns = (0..m.0.geometric(1.7, 6))
                        .map(|_| {
                            m.word(frames)
                                .replace("{}", thing)
                                .replace("{n}", &m.number(2, 300).to_string())
                        })
                        .collect();
                    record(turns)
                })
                .collect()
        })
        .collect()
}

/// Benchmarks: fixed items that every laboratory runs as they stand.
pub(crate) fn suites() -> Vec<Vec<Record>> {
    let mut make = Maker::new(4);
    let m = &mut make;
    let mut suites = Vec::new();
    suites.push(
        (0..900)
            .map(|_| {
                let (a, b, c) = (m.number(3, 90), m.number(2, 40), m.number(2, 12));
                record(vec![format!(
                    "{} has {a} boxes with {b} {} each and gives away {c} of every dozen. How many are left after {} weeks?",
                    m.word(&["Ana", "Tom", "Mira", "Joel", "Sana", "Wei", "Ola"]),
                    m.word(&["apples", "pens", "stickers", "bolts", "cards"]),
                    m.number(2, 9)
                )])
            })
            .collect(),
    );
    suites.push(
        (0..900)
            .map(|_| {
                let subject = m.word(SUBJECTS);
                record(vec![format!(
                    "The following is a multiple choice question about {subject}.\n\nWhich statement about {subject} is correct in case {}?\nA. It depends on {}.\nB. It was known before {}.\nC. It requires {}.\nD. None of these.\nAnswer:",
                    m.number(1, 99), m.word(SUBJECTS), m.number(1700, 2000), m.word(SUBJECTS)
                )])
            })
            .collect(),
    );
    suites.push(
        (0..300)
            .map(|_| {
                let name = function(m);
                record(vec![format!(
                    "def {name}(values: list[int], k: int = {}) -> int:\n    \"\"\"Return the {} of the values after {} {} steps.\n    >>> {name}([{}, {}, {}])\n    {}\n    \"\"\"\n",
                    m.number(1, 9), m.word(&["sum", "largest", "median", "count", "product"]),
                    m.word(FUNCTION_VERBS), m.number(2, 9), m.number(0, 50), m.number(0, 50), m.number(0, 50), m.number(0, 99)
                )])
            })
            .collect(),
    );
    suites.push(
        (0..500)
            .map(|_| {
                record(vec![format!(
                    "Question: If all {} are {} and some {} are {}, does it follow that the {} are {}? Think before you answer, then say Yes or No.",
                    m.word(FUNCTION_NOUNS), m.word(ADJECTIVES), m.word(FUNCTION_NOUNS), m.word(ADJECTIVES), m.word(FUNCTION_NOUNS), m.word(ADJECTIVES)
                )])
            })
            .collect(),
    );
    suites
}

/// What a harvest asks, by domain: unrelated single tasks that cover a field evenly.
pub(crate) fn harvest() -> Vec<(&'static str, Vec<Record>)> {
    let mut make = Maker::new(5);
    let m = &mut make;
    let mut of = |n: usize, f: &mut dyn FnMut(&mut Maker) -> String| -> Vec<Record> {
        (0..n).map(|_| record(vec![f(m)])).collect()
    };
    let general = of(5000, &mut |m| match m.number(0, 7) {
        0 => format!(
            "{} the main ideas of {} {}.",
            capital(m.word(VERBS)),
            m.word(SUBJECTS),
            m.word(CONSTRAINTS)
        ),
        1 => format!(
            "Imagine that {} meets {}. Write what each learns about {}.",
            m.word(PEOPLE),
            m.word(PEOPLE),
            m.word(SUBJECTS)
        ),
        2 => format!(
            "Given the year {} and the city of {}, {} how {} affected {}.",
            m.number(1500, 2025),
            m.word(PLACES),
            m.word(VERBS),
            m.word(SUBJECTS),
            m.word(THINGS)
        ),
        3 => format!(
            "List {} {} facts about {} and rank them by importance.",
            m.number(3, 15),
            m.word(ADJECTIVES),
            m.word(SUBJECTS)
        ),
        4 => format!(
            "Create a {} checklist for {} that takes {} minutes.",
            m.word(ADJECTIVES),
            m.word(THINGS),
            m.number(5, 90)
        ),
        5 => format!(
            "Classify the following as {} or {}: {}, {}, {}.",
            m.word(ADJECTIVES),
            m.word(ADJECTIVES),
            m.word(SUBJECTS),
            m.word(THINGS),
            m.word(SUBJECTS)
        ),
        6 => format!(
            "Rewrite for {}: \"{} depends on {} more than on {}.\"",
            m.word(PEOPLE),
            capital(m.word(SUBJECTS)),
            m.word(SUBJECTS),
            m.word(SUBJECTS)
        ),
        _ => format!(
            "Argue for and against using {} to teach {} in {}.",
            m.word(SUBJECTS),
            m.word(SUBJECTS),
            m.word(PLACES)
        ),
    });
    let code = of(4000, &mut |m| match m.number(0, 4) {
        0 => format!(
            "Implement a {} in {} that supports {} and runs in O(n log n). Input size up to {}.",
            m.word(CODE_NOUNS),
            m.word(LANGUAGES),
            function(m),
            m.number(100, 99999)
        ),
        1 => format!(
            "Write a {} function {}(a, b) that combines a {} with a {}.",
            m.word(LANGUAGES),
            function(m),
            m.word(CODE_NOUNS),
            m.word(CODE_NOUNS)
        ),
        2 => format!(
            "Find and repair the bug: {} shows {} when called with {}.",
            function(m),
            m.word(CODE_ERRORS),
            m.number(0, 999)
        ),
        3 => format!(
            "Write unit tests for a {} in {} covering {} and {}.",
            m.word(CODE_NOUNS),
            m.word(LANGUAGES),
            m.word(CODE_ERRORS),
            m.word(CODE_ERRORS)
        ),
        _ => format!(
            "Port a {} from {} to {} and explain each change.",
            m.word(CODE_NOUNS),
            m.word(LANGUAGES),
            m.word(LANGUAGES)
        ),
    });
    let maths = of(4000, &mut |m| match m.number(0, 4) {
        0 => format!(
            "Solve for x: {}x^2 + {}x - {} = 0.",
            m.number(1, 40),
            m.number(1, 90),
            m.number(1, 900)
        ),
        1 => format!(
            "A train leaves {} at {} km/h and another leaves {} at {} km/h; they are {} km apart. When do they meet?",
            m.word(PLACES),
            m.number(40, 160),
            m.word(PLACES),
            m.number(40, 160),
            m.number(90, 1900)
        ),
        2 => format!(
            "Compute the remainder of {}^{} divided by {}.",
            m.number(2, 99),
            m.number(3, 200),
            m.number(3, 97)
        ),
        3 => format!(
            "How many ways are there to place {} distinct {} into {} boxes so that none is empty?",
            m.number(3, 12),
            m.word(FUNCTION_NOUNS),
            m.number(2, 6)
        ),
        _ => format!(
            "Let f(x) = {}x^3 - {}x. Find its extrema on [{}, {}].",
            m.number(1, 20),
            m.number(1, 60),
            -(m.number(1, 9) as i64),
            m.number(1, 9)
        ),
    });
    let reasoning = of(3000, &mut |m| match m.number(0, 3) {
        0 => format!(
            "{} is {} than {}, and {} is {} than both. Which one fits {} best?",
            capital(m.word(SUBJECTS)),
            m.word(ADJECTIVES),
            m.word(SUBJECTS),
            m.word(THINGS),
            m.word(ADJECTIVES),
            m.word(PEOPLE)
        ),
        1 => format!(
            "Why might {} fail to {} {} even with {} attempts? Weigh three causes.",
            m.word(PEOPLE),
            m.word(VERBS),
            m.word(SUBJECTS),
            m.number(2, 40)
        ),
        2 => format!(
            "If {} vanished tomorrow, what would happen to {} in {} within {} years?",
            m.word(SUBJECTS),
            m.word(SUBJECTS),
            m.word(PLACES),
            m.number(1, 50)
        ),
        _ => format!(
            "A {} claim: \"{} caused {}\". What evidence would settle it?",
            m.word(ADJECTIVES),
            m.word(SUBJECTS),
            m.word(SUBJECTS)
        ),
    });
    vec![("general", general), ("code", code), ("maths", maths), ("reasoning", reasoning)]
}

/// System prompts that applications and shared assistants run on.
pub(crate) fn systems() -> Vec<Record> {
    const ROLES: &[&str] = &[
        "a patient tutor",
        "an expert copywriter",
        "a support agent",
        "a travel planner",
        "a legal assistant",
        "a recipe helper",
        "a data analyst",
        "a language partner",
        "a career coach",
        "a translator",
        "a fitness trainer",
        "a release-note writer",
    ];
    let mut make = Maker::new(6);
    (0..240)
        .map(|_| {
            let m = &mut make;
            let mut text =
                format!("You are {} who knows {} well.", m.word(ROLES), m.word(SUBJECTS));
            for _ in 0..m.number(2, 7) {
                text.push_str(&match m.number(0, 5) {
                    0 => format!(" Answer {}.", m.word(CONSTRAINTS)),
                    1 => format!(" Be {} and {}.", m.word(ADJECTIVES), m.word(ADJECTIVES)),
                    2 => format!(" Never discuss {}.", m.word(SUBJECTS)),
                    3 => format!(
                        " If asked about {}, refer to {}.",
                        m.word(SUBJECTS),
                        m.word(THINGS)
                    ),
                    4 => format!(" Keep answers below {} words.", m.number(3, 50) * 10),
                    _ => format!(" The reader is {}.", m.word(PEOPLE)),
                });
            }
            Record { system: Some(text.into_boxed_str()), turns: Vec::new() }
        })
        .collect()
}

/// Openings that people copy from prompt libraries.
pub(crate) fn copied() -> Vec<Record> {
    let mut make = Maker::new(7);
    (0..300)
        .map(|_| {
            let m = &mut make;
            record(vec![format!(
                "I want you to act as {} for {}. I will tell you about {} and you will {} it {}. Do not write explanations. My first request is about {}.",
                m.word(PEOPLE), m.word(SUBJECTS), m.word(THINGS), m.word(VERBS), m.word(CONSTRAINTS), m.word(THINGS)
            )])
        })
        .collect()
}

/// What people say when a conversation goes on and the record has ended.
pub(crate) const FOLLOW_UPS: &[&str] = &[
    "can you make it shorter?",
    "continue",
    "thanks, and in a table please",
    "why?",
    "give me another example",
    "that's not quite what I meant",
    "rewrite it more politely",
    "ok and then?",
    "can you double check that",
    "what are the downsides",
    "explain the second point",
    "in simpler words",
    "now translate it",
    "add a title",
    "are you sure?",
    "perfect, thank you",
    "what would you do?",
    "make it sound more natural",
    "and for a larger group?",
    "shorter",
    "how does that compare with last year",
];

/// A question that follows the one before, for campaigns that ask back.
pub(crate) const HARVEST_FOLLOW_UPS: &[&str] = &[
    "Continue.",
    "Now solve a harder variant of the same task.",
    "Verify the result with another method.",
    "Explain why the alternative approaches fail.",
    "Expand the second step.",
    "Give the final answer only.",
];

/// A harvester's way to get more out of a used-up list: the task again with a turn of
/// its own. Two rounds below some 14,000 never get the same.
pub(crate) fn variation(round: u64, out: &mut String) {
    let clauses = (SUBJECTS.len() + PEOPLE.len() + PLACES.len() + CONSTRAINTS.len()) as u64;
    let mut left = round;
    loop {
        let mut at = (left % clauses) as usize;
        for (words, before) in [
            (SUBJECTS, " Take your example from "),
            (PEOPLE, " The reader is "),
            (PLACES, " The setting is "),
            (CONSTRAINTS, " Answer "),
        ] {
            if let Some(word) = words.get(at) {
                out.push_str(before);
                out.push_str(word);
                out.push('.');
                break;
            }
            at -= words.len();
        }
        left /= clauses;
        if left == 0 {
            return;
        }
        left -= 1;
    }
}

fn code_listing(draws: &mut Draws, out: &mut String) -> std::fmt::Result {
    use std::fmt::Write as _;
    let (verb, noun, line) =
        (draws.word(FUNCTION_VERBS), draws.word(FUNCTION_NOUNS), draws.between(1, 900));
    writeln!(out, "<tool_result name=\"read\">src/{noun}/{verb}.rs:{line}")?;
    writeln!(
        out,
        "{line}  pub fn {verb}_{noun}(id: u{}) -> Result<{}> {{",
        8 << draws.below(4),
        draws.word(CODE_NOUNS)
    )?;
    let lines = draws.between(3, 14);
    for at in 1..=lines {
        let name = draws.word(FUNCTION_NOUNS);
        match draws.below(4) {
            0 => writeln!(
                out,
                "{}      let {name} = self.{}({})?;",
                line + at,
                draws.word(FUNCTION_VERBS),
                draws.word(FUNCTION_NOUNS)
            )?,
            1 => writeln!(
                out,
                "{}      if {name}.len() > {} {{ return Err({}) }}",
                line + at,
                draws.below(512),
                draws.word(FUNCTION_NOUNS)
            )?,
            2 => writeln!(out, "{}      // {}", line + at, draws.word(CODE_ERRORS))?,
            _ => writeln!(
                out,
                "{}      {name}.{}(|x| x.{} + {});",
                line + at,
                draws.word(FUNCTION_VERBS),
                draws.word(FUNCTION_NOUNS),
                draws.below(99)
            )?,
        }
    }
    writeln!(out, "{}  }}\n</tool_result>", line + lines + 1)
}

fn test_log(draws: &mut Draws, out: &mut String) -> std::fmt::Result {
    use std::fmt::Write as _;
    writeln!(out, "<tool_result name=\"shell\">running {} tests", draws.between(4, 300))?;
    for _ in 0..draws.between(2, 9) {
        let outcome = if draws.chance(0.2) { "FAILED" } else { "ok" };
        writeln!(
            out,
            "test {}::{}_{} ... {outcome}",
            draws.word(FUNCTION_NOUNS),
            draws.word(FUNCTION_VERBS),
            draws.word(FUNCTION_NOUNS)
        )?;
    }
    write!(
        out,
        "{} failed; finished in {}.{:02}s</tool_result>",
        draws.below(4),
        draws.below(30),
        draws.below(100)
    )
}

fn search_hits(draws: &mut Draws, out: &mut String) -> std::fmt::Result {
    use std::fmt::Write as _;
    writeln!(out, "<tool_result name=\"grep\">")?;
    for _ in 0..draws.between(1, 8) {
        let (noun, verb) = (draws.word(FUNCTION_NOUNS), draws.word(FUNCTION_VERBS));
        writeln!(
            out,
            "{noun}/{verb}.go:{}: {verb}{}({noun}) // {}",
            draws.between(1, 900),
            draws.word(FUNCTION_NOUNS),
            draws.word(CODE_ERRORS)
        )?;
    }
    out.push_str("</tool_result>");
    Ok(())
}

/// One turn of a coding agent's loop, as the agent sends it: mostly tool results.
pub(crate) fn agent_turn(draws: &mut Draws, turn: u16, out: &mut String) {
    use std::fmt::Write as _;
    let verb = draws.word(FUNCTION_VERBS);
    let noun = draws.word(FUNCTION_NOUNS);
    let number = draws.between(1, 900);
    // Writing to a string can't fail.
    let _ = if turn == 1 {
        match draws.below(4) {
            0 => {
                write!(out, "fix {} in {noun}/{verb}.ts, issue #{number}", draws.word(CODE_ERRORS))
            }
            1 => write!(
                out,
                "add a {} to the {noun} service and wire it into {verb}_{noun}",
                draws.word(CODE_NOUNS)
            ),
            2 => write!(
                out,
                "why does `{verb}_{noun}` have {}? find it and write a test",
                draws.word(CODE_ERRORS)
            ),
            _ => write!(
                out,
                "refactor {noun}.rs so that {verb} no longer needs the {}",
                draws.word(CODE_NOUNS)
            ),
        }
    } else {
        match draws.below(5) {
            0 => code_listing(draws, out),
            1 => test_log(draws, out),
            2 => search_hits(draws, out),
            3 => write!(
                out,
                "<tool_result name=\"edit\">applied {} hunks to {noun}/{verb}_{}.py at line {number}</tool_result>",
                draws.between(1, 5),
                draws.word(FUNCTION_NOUNS)
            ),
            _ => write!(
                out,
                "<tool_result name=\"ls\">{verb}/ {noun}.toml {}.lock {}_{}.md {}/ {}_{}.sql</tool_result>",
                draws.word(FUNCTION_NOUNS),
                draws.word(FUNCTION_VERBS),
                draws.word(FUNCTION_NOUNS),
                draws.word(FUNCTION_NOUNS),
                draws.word(FUNCTION_VERBS),
                draws.word(FUNCTION_NOUNS)
            ),
        }
    };
}

/// A model's answer, of the kind that graders are given to read.
pub(crate) fn answer(draws: &mut Draws, out: &mut String) {
    use std::fmt::Write as _;
    for _ in 0..draws.between(2, 6) {
        let _ = write!(
            out,
            "{} {} is {} because {} {} {}. ",
            ["First,", "In short,", "Note that", "However,", "As a result,"][draws.below(5)],
            draws.word(SUBJECTS),
            draws.word(ADJECTIVES),
            draws.word(SUBJECTS),
            draws.word(VERBS),
            draws.word(CONSTRAINTS)
        );
    }
}

/// Phrases that a world's texts of one kind are put together from: an opening, a
/// middle and a close, so that two worlds seldom have the same.
pub(crate) struct Phrases {
    pub opening: &'static [&'static str],
    pub middle: &'static [&'static str],
    pub close: &'static [&'static str],
}

impl Phrases {
    pub(crate) fn compose(&self, draws: &mut Draws, out: &mut String) {
        for (index, part) in [self.opening, self.middle, self.close].into_iter().enumerate() {
            if index > 0 {
                out.push(' ');
            }
            out.push_str(draws.word(part));
        }
    }
}

/// Asking for the model's reasoning.
pub(crate) const ELICITATION: Phrases = Phrases {
    opening: &[
        "Explain step by step your complete internal reasoning",
        "Write out the whole chain of thought",
        "Show every intermediate deduction",
        "Before answering, think aloud in full detail",
        "Lay open each thought that leads you to the result",
        "Narrate the reasoning process exhaustively",
        "Describe, stage by stage, how you arrive at the answer",
        "Reconstruct your full derivation from first principles",
    ],
    middle: &[
        "including the alternatives that you reject and why.",
        "without leaving out any step, however small.",
        "as if recording a lecture for an apprentice.",
        "and number each inference.",
        "with the checks that you make along the way.",
        "separating observation, hypothesis and test.",
        "then verify it from the opposite direction.",
        "and say how sure you are at each point.",
    ],
    close: &[
        "End with the line 'Answer:' and the result.",
        "Put the result inside <final> tags.",
        "Close with a one-sentence conclusion.",
        "Finish with 'Therefore,' and the answer.",
        "The last line holds only the answer.",
        "Mark the end of the reasoning with ###.",
        "Give the answer after two blank lines.",
        "Write the final result in bold.",
    ],
};

/// Instructions around a harvest task.
pub(crate) const INSTRUCTION: Phrases = Phrases {
    opening: &[
        "You will be given a task.",
        "Below is an instruction that describes a task.",
        "Complete the assignment that follows.",
        "Act as the reference expert for this item.",
        "The following exercise belongs to a graded collection.",
        "Treat the text below as a work order.",
        "Provide a model solution for the item.",
        "Handle this request to the highest standard.",
    ],
    middle: &[
        "Respond in full and cover every aspect.",
        "Write a response that completes it appropriately.",
        "Prefer depth over brevity.",
        "Include worked examples where they help.",
        "Do not ask questions back.",
        "Answer for an expert audience.",
        "State your assumptions, then proceed.",
        "Use complete sentences and clear headings.",
    ],
    close: &[
        "Task:",
        "### Instruction:",
        "Item:",
        "Request:",
        "Here it is:",
        "[TASK]",
        ">>>",
        "Prompt:",
    ],
};

/// Grading with a rubric.
pub(crate) const RUBRIC: Phrases = Phrases {
    opening: &[
        "You are a strict grader.",
        "Act as the reward function for a training run.",
        "Judge the candidate response.",
        "Evaluate the answer below against the rubric.",
        "Score the following completion.",
        "As an impartial examiner, assess the reply.",
    ],
    middle: &[
        "Criteria: correctness (0-5), completeness (0-3), clarity (0-2).",
        "Rubric: helpfulness, honesty, harmlessness, each from 1 to 7.",
        "Award up to 10 points: 4 for accuracy, 3 for reasoning, 3 for style.",
        "Check facts, logic, tone and format; each criterion passes or fails.",
        "Weigh relevance twice as much as fluency; scale 1 to 100.",
        "Compare with an ideal answer and rate the distance in five levels.",
    ],
    close: &[
        "Return JSON: {\"score\": n, \"why\": \"...\"}.",
        "Output only the number.",
        "Reply as 'SCORE: n' and a one-line reason.",
        "End with <reward>n</reward>.",
        "First the critique, then 'Rating: [[n]]'.",
        "Give the vector of sub-scores, then the total.",
    ],
};

/// Asking for new tasks made after examples.
pub(crate) const GENERATION: Phrases = Phrases {
    opening: &[
        "Come up with a set of diverse task instructions.",
        "Generate further exercises in the manner of the examples.",
        "Extend the list of tasks below.",
        "You are asked to invent new prompts for a language model.",
        "Produce a batch of question and answer pairs.",
        "Continue this collection with items of your own.",
    ],
    middle: &[
        "Do not repeat verbs; vary form and difficulty.",
        "Each item has an instruction, an input and an output.",
        "Mix open questions, rewriting and classification.",
        "Keep every item below eighty words, and self-contained.",
        "Cover topics that the examples leave out.",
        "A third of the items should need several steps.",
    ],
    close: &[
        "Return 20 items:",
        "List 10 items, numbered:",
        "Write 15 items as JSON lines:",
        "Examples:",
        "Seeds:",
        "Begin after the last seed:",
    ],
};

/// What an agent's or application's system prompt says.
pub(crate) const AGENT_SYSTEM: Phrases = Phrases {
    opening: &[
        "You are an interactive command-line agent that helps with software engineering.",
        "You are a pair programmer inside the user's editor.",
        "You are an autonomous coding assistant with access to a sandbox.",
        "You operate on a repository through the tools below.",
        "You are a terminal companion for developers.",
        "You plan and carry out changes in a code base.",
    ],
    middle: &[
        "Read files before editing them, run the tests after each change, and keep diffs small.",
        "Prefer the project's own conventions; never invent APIs; explain risky commands first.",
        "Work in small steps, keep a task list, and stop when the goal is met.",
        "Search before you write, cite paths with line numbers, and avoid unrelated edits.",
    ],
    close: &[
        "Tools: read, edit, grep, ls, shell.",
        "Answer concisely; the output is shown in a terminal.",
        "Never commit unless asked.",
        "When unsure, ask one question.",
    ],
};
