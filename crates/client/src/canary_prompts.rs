//! What nodes are tried with that serve nobody, by clients' audits and by orchestrators' trials alike.
//!
//! Tasks that look like anybody's: an opening, a request about a subject, a condition, sometimes a system message or an
//! earlier turn. The lists multiply to more than 10^10 conversations, so no answer to them can be kept ready, and lengths
//! and settings vary as those of askers do. Their grammar stands here for everybody to read, though: a worker that looks
//! at its prompts can recognise it. Therefore nodes that serve users are audited by what they answer to users.

use protocol::task::{Generation, Message, Sampling, Task};

/// One such task.
#[derive(Debug, Clone)]
pub struct Canary {
    /// The conversation; what is asked comes last.
    pub messages: Vec<Message>,
    /// Tokens that its answer may have.
    pub max_tokens: u32,
    /// How its tokens are chosen.
    pub sampling: Sampling,
}

impl Canary {
    /// As a chat.
    pub fn chat(&self) -> Task {
        Task::Chat { messages: self.messages.clone(), generation: self.generation() }
    }

    /// As a text to go on with, for a model that does not speak in turns: what was asked last.
    pub fn completion(&self) -> Task {
        let prompt = self.messages.last().map(|message| message.content.clone()).unwrap_or_default();
        Task::Completion { prompt, generation: self.generation() }
    }

    fn generation(&self) -> Generation {
        Generation { max_tokens: Some(self.max_tokens), sampling: self.sampling.clone(), ..Generation::default() }
    }
}

/// Chance, handed in.
pub trait Dice {
    /// A number below `bound`, which is at least 1.
    fn below(&mut self, bound: usize) -> usize;
}

/// The system's random source.
#[derive(Debug, Clone, Copy)]
pub struct SystemDice;

impl Dice for SystemDice {
    fn below(&mut self, bound: usize) -> usize {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system has a random source");
        // 64 random bits over a few hundred choices: the bias is below 10^-16.
        (u64::from_le_bytes(bytes) % bound as u64) as usize
    }
}

fn one<'a>(dice: &mut impl Dice, of: &[&'a str]) -> &'a str {
    of[dice.below(of.len())]
}

/// Draws a task.
pub fn draw(dice: &mut impl Dice) -> Canary {
    let mut messages = Vec::new();
    let mut say = |role: &str, content: String| messages.push(Message { role: role.to_owned(), content });
    if dice.below(3) == 0 {
        say("system", one(dice, SYSTEMS).to_owned());
    }
    if dice.below(4) == 0 {
        say("user", request(dice));
        say("assistant", one(dice, REPLIES).to_owned());
    }
    let mut content = request(dice);
    for _ in 0..dice.below(4) {
        content.push(' ');
        content.push_str(&background(dice));
    }
    say("user", content);
    // Limits as people set them: round numbers, with a few odd ones.
    let max_tokens = [48, 64, 100, 128, 150, 200, 256, 300][dice.below(8)] + [0, 0, 0, dice.below(32)][dice.below(4)];
    let default = Sampling::default();
    let sampling = Sampling {
        temperature: [0.7, 0.8, 1.0, 1.0][dice.below(4)],
        top_p: [0.9, 0.95, 1.0][dice.below(3)],
        seed: Some(u32::try_from(dice.below(1 << 32)).unwrap_or_default()),
        ..default
    };
    Canary { messages, max_tokens: u32::try_from(max_tokens).expect("at most 331"), sampling }
}

fn request(dice: &mut impl Dice) -> String {
    let (opening, verb, form) = (one(dice, OPENINGS), one(dice, VERBS), one(dice, FORMS));
    let (quality, thing, place) = (one(dice, QUALITIES), one(dice, THINGS), one(dice, PLACES));
    let condition = one(dice, CONDITIONS);
    format!("{opening}{verb} {form} about {quality} {thing} {place}{condition}")
}

fn background(dice: &mut impl Dice) -> String {
    let (person, thing, place) = (one(dice, PEOPLE), one(dice, THINGS), one(dice, PLACES));
    match dice.below(4) {
        0 => format!("My {person} once had {thing} {place} and still talks about it."),
        1 => format!("It is for my {person}, who knows little about {thing}."),
        2 => format!("I have {} minutes for it, and {} readers.", 2 + dice.below(40), 1 + dice.below(90)),
        _ => format!("Think of {thing} {place} in {}, not of today.", 1850 + dice.below(170)),
    }
}

const SYSTEMS: &[&str] = &[
    "You are a helpful assistant.",
    "You are a patient teacher. Answer in plain words.",
    "Answer briefly and to the point.",
    "You are an editor with a dry sense of humour.",
    "You help people write better texts.",
    "You are an experienced engineer. Give reasons for what you say.",
    "Be friendly and concrete.",
    "You are a travel guide who likes small places.",
];

const REPLIES: &[&str] = &[
    "Gladly. Is there anything that it should contain?",
    "I can do that. How long should it be?",
    "That depends on who will read it. Tell me a little more.",
    "Sure. Shall I begin with an outline?",
    "Of course. Do you want it formal or relaxed?",
    "Interesting. What have you tried so far?",
];

const OPENINGS: &[&str] = &[
    "",
    "",
    "Please ",
    "Could you ",
    "Hi, can you ",
    "I need help: ",
    "Quick question: can you ",
    "For tomorrow: ",
    "Hello! ",
    "Now ",
];

const VERBS: &[&str] =
    &["write", "draft", "sketch", "give me", "come up with", "prepare", "compose", "put together", "outline", "invent"];

const FORMS: &[&str] = &[
    "a short story",
    "a letter",
    "three paragraphs",
    "a dialogue",
    "a list of ideas",
    "a short speech",
    "an introduction",
    "a summary",
    "a plan",
    "some notes",
    "an explanation",
    "a poem without rhymes",
    "a set of questions",
    "a product text",
    "an email",
    "a checklist",
    "a comparison",
    "an anecdote",
    "a lesson",
    "a critical comment",
];

const QUALITIES: &[&str] = &[
    "a broken",
    "an old",
    "a very expensive",
    "a forgotten",
    "a noisy",
    "a surprisingly small",
    "a borrowed",
    "a blue",
    "an unfinished",
    "a famous",
    "a cheap",
    "a stubborn",
    "a hand-made",
    "a heavy",
    "a lost",
    "a well-kept",
    "a misleading",
    "a second-hand",
    "an ordinary",
    "a dangerous",
    "a slow",
    "a beautiful",
    "a useless",
    "an experimental",
];

const THINGS: &[&str] = &[
    "bicycle",
    "kettle",
    "map",
    "piano",
    "greenhouse",
    "sailing boat",
    "recipe",
    "spreadsheet",
    "telescope",
    "winter coat",
    "garden wall",
    "tram line",
    "chess set",
    "sewing machine",
    "radio",
    "library",
    "bridge",
    "notebook",
    "wheelbarrow",
    "coffee grinder",
    "compass",
    "database",
    "lighthouse",
    "violin",
    "bakery",
    "footpath",
    "printer",
    "clock",
    "tent",
    "water pump",
    "bus timetable",
    "umbrella",
    "orchard",
    "camera",
    "workbench",
    "dictionary",
    "ladder",
    "aquarium",
    "wood stove",
    "calendar",
];

const PLACES: &[&str] = &[
    "in a small town",
    "by the sea",
    "in the mountains",
    "on a farm",
    "in a hospital",
    "at a railway station",
    "in Lisbon",
    "in a school",
    "on an island",
    "in an office",
    "near the border",
    "in a museum",
    "at a market",
    "in a courtyard",
    "in Toronto",
    "on a night train",
    "in a laboratory",
    "in a valley",
    "at a harbour",
    "in Nairobi",
    "in a basement",
    "under a roof",
    "in a village in Norway",
    "at the end of a street",
    "in a theatre",
    "in Osaka",
    "on a roof terrace",
    "in a waiting room",
    "at a university",
    "in a forest",
];

const CONDITIONS: &[&str] = &[
    ".",
    ".",
    ". Keep it under 150 words.",
    ". Use simple words.",
    ", with a surprising end.",
    ". No clichés, please.",
    ", as seen by a child.",
    ". Begin with a question.",
    ", and say what it costs.",
    ". Mention the weather.",
    ", in the past tense.",
    ". Give one example.",
    " and explain why it matters.",
    ". End with advice.",
    ", in two parts.",
    ". Avoid the word \"very\".",
];

const PEOPLE: &[&str] = &[
    "neighbour",
    "sister",
    "uncle",
    "class",
    "team",
    "boss",
    "daughter",
    "grandfather",
    "colleague",
    "friend",
    "landlord",
    "nephew",
    "choir",
    "club",
    "aunt",
    "flatmate",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// SplitMix64.
    struct Seeded(u64);

    impl Dice for Seeded {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % bound as u64) as usize
        }
    }

    #[test]
    fn the_space_is_large() {
        let lists = [OPENINGS, VERBS, FORMS, QUALITIES, THINGS, PLACES, CONDITIONS];
        let shortest: f64 = lists.iter().map(|list| list.iter().collect::<HashSet<_>>().len() as f64).product();
        assert!(shortest > 5e8, "{shortest:e} requests of the shortest kind");
    }

    #[test]
    fn tasks_are_valid_and_differ_in_content_length_and_settings() {
        let mut dice = Seeded(1);
        let (mut texts, mut lengths, mut limits, mut turns) =
            (HashSet::new(), HashSet::new(), HashSet::new(), HashSet::new());
        for _ in 0..2_000 {
            let canary = draw(&mut dice);
            let text: Vec<String> = canary.messages.iter().map(|message| message.content.clone()).collect();
            lengths.insert(text.concat().len());
            turns.insert(text.len());
            limits.insert(canary.max_tokens);
            texts.insert(text);
            assert_eq!(canary.messages.last().map(|message| message.role.as_str()), Some("user"));
            canary.chat().check().unwrap();
            canary.completion().check().unwrap();
        }
        assert!(texts.len() > 1_990, "{} of 2000 differ", texts.len());
        assert!(lengths.len() > 200 && limits.len() > 50 && turns.len() == 4, "{lengths:?} {limits:?} {turns:?}");
    }
}
