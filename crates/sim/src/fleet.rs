//! The machines of a scenario: what each can do, who owns it, when it is lent, and what it really is.

use crate::{
    adversary::{Character, LIE, SYBIL_RATES},
    catalogue::{Catalogue, CatalogueError, Network, Rates},
    policy::{Member, NodeIndex},
    presence::{self, Ending, Session},
    random::{Concern, Random, mixed},
    scenario::{HISTORY, Scenario},
    time::{HOUR, MINUTE, Micros, micros},
    workload::Lengths,
};

/// Tasks that wait at a node for each of its slots, as nodes do.
const QUEUE_PER_SLOT: usize = 3;
/// Valid answers that an established node has given before.
const EARNED: u32 = 200;
/// Fake nodes come within this time.
const SYBILS_COME: Micros = 10 * MINUTE;

/// One node.
#[derive(Debug, Clone)]
pub struct NodePlan {
    /// Kind of machine, an index into the catalogue; none for fake nodes.
    pub machine: Option<usize>,
    /// What it really is.
    pub character: Character,
    /// What it can really do.
    pub rates: Rates,
    /// Answers at once.
    pub slots: usize,
    /// Its network.
    pub network: Network,
    /// When it takes work.
    pub sessions: Vec<Session>,
    /// What the orchestrator is told.
    pub member: Member,
}

impl NodePlan {
    /// Tasks it takes before it is full.
    pub fn capacity(&self) -> usize {
        self.slots * (1 + QUEUE_PER_SLOT)
    }
}

/// The fleet of a scenario.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Its nodes; the fake ones come last.
    pub nodes: Vec<NodePlan>,
    /// Answer tokens in a second, with the nodes that are present on average.
    pub capacity: Capacity,
    /// Tokens of an average prompt, and of an average answer.
    pub task_means: (f64, f64),
}

/// What a fleet can physically do: tokens of answers in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Capacity {
    /// One answer at a time, prompts for nothing.
    pub single: f64,
    /// As many answers at a time as there are slots, prompts for nothing.
    pub batched: f64,
    /// The same, with the time that the prompts take on the same machines: nothing can be faster.
    pub with_prompts: f64,
}

impl Fleet {
    /// Builds it.
    pub fn new(catalogue: &Catalogue, scenario: &Scenario) -> Result<Self, CatalogueError> {
        let model = catalogue.model(&scenario.model)?;
        let task_means = Lengths.means(catalogue);
        let until = HISTORY + micros(scenario.hours * 3600.0) + 2 * HOUR;
        let vouched = scenario.sybils == 0;
        let mut nodes = Vec::with_capacity(scenario.nodes + scenario.sybils);
        let kinds = by_share(scenario.nodes, catalogue.machines.iter().map(|machine| machine.share));
        for (index, kind) in kinds.into_iter().enumerate() {
            let machine = &catalogue.machines[kind];
            let mut random = Random::new(scenario.seed, Concern::Machine, index as u64);
            let network = &catalogue.networks[random.weighted(catalogue.networks.iter().map(|network| network.share))];
            let sessions = if scenario.churn {
                let mut random = Random::new(scenario.seed, Concern::Presence, index as u64);
                presence::sessions(&catalogue.presence, catalogue.owner(machine), network, &mut random, until)
            } else {
                presence::always(until)
            };
            let rates = machine.rates(model, scenario.seed_rates);
            nodes.push(plan(index, Some(kind), rates, machine.slots, network, sessions, vouched));
        }
        let lengths = task_means;
        let capacity = capacity(&nodes, scenario, lengths);
        characters(&mut nodes, scenario);
        disturb(&mut nodes, scenario);
        let mut coming = Random::new(scenario.seed, Concern::Presence, u64::MAX);
        for index in scenario.nodes..scenario.nodes + scenario.sybils {
            let rates = Rates::new(SYBIL_RATES.0, SYBIL_RATES.1, &[1.0, 2.0, 4.0, 8.0]);
            let from = HISTORY + micros(coming.unit() * SYBILS_COME as f64 / 1e6);
            let sessions = vec![Session { from, until, ending: Ending::Goodbye }];
            let mut node = plan(index, None, rates, 4, &catalogue.networks[0], sessions, false);
            node.character = Character::Sybil;
            node.member.earned = 0;
            nodes.push(node);
        }
        Ok(Self { nodes, capacity, task_means })
    }
}

fn plan(
    index: NodeIndex,
    machine: Option<usize>,
    rates: Rates,
    slots: usize,
    network: &Network,
    sessions: Vec<Session>,
    vouched: bool,
) -> NodePlan {
    let history = sessions
        .iter()
        .take_while(|session| session.from < HISTORY)
        .map(|session| (session.from, session.until.min(HISTORY), session.until <= HISTORY))
        .collect();
    let member = Member {
        node: index,
        slots: slots as u32,
        capacity: (slots * (1 + QUEUE_PER_SLOT)) as u32,
        claimed: rates.clone(),
        measured: rates.clone(),
        vouched,
        history,
        earned: EARNED,
        rtt_us: (network.rtt_ms * 1000.0) as u32,
        jitter_us: (network.jitter_ms * 1000.0) as u32,
        loss_ppm: network.loss_ppm as u32,
    };
    let character = Character::Honest;
    NodePlan { machine, character, rates, slots, network: network.clone(), sessions, member }
}

/// The kind of each of `count` nodes, spread evenly: shares are exact, not drawn.
fn by_share(count: usize, shares: impl Iterator<Item = f64>) -> Vec<usize> {
    let shares: Vec<f64> = shares.collect();
    let total: f64 = shares.iter().sum();
    let mut given = vec![0.0; shares.len()];
    let next = |at: usize| {
        // The kind that is furthest behind its share.
        let behind = |kind: usize| shares[kind] / total * (at + 1) as f64 - given[kind];
        let most = (0..shares.len()).max_by(|one, two| behind(*one).total_cmp(&behind(*two)).then(two.cmp(one)));
        let kind = most.expect("checked: there are machines");
        given[kind] += 1.0;
        kind
    };
    (0..count).map(next).collect()
}

fn capacity(nodes: &[NodePlan], scenario: &Scenario, (prompt, answer): (f64, f64)) -> Capacity {
    let (from, until) = (HISTORY, scenario.window().1);
    let mut capacity = Capacity::default();
    for node in nodes {
        let share = presence::share(&node.sessions, from, until);
        capacity.single += share * node.rates.decode(1);
        capacity.batched += share * node.rates.decode(node.slots);
        capacity.with_prompts += share * node.rates.sustained(node.slots, prompt, answer);
    }
    capacity
}

/// Honest nodes that are none; chosen by hash, so that each kind of machine is among them.
fn characters(nodes: &mut [NodePlan], scenario: &Scenario) {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|index| mixed(scenario.seed ^ mixed(*index as u64)));
    let mut order = order.into_iter();
    for number in 0..scenario.black_holes.of(nodes.len()) {
        let Some(index) = order.next() else { return };
        nodes[index].character = if number % 2 == 0 { Character::BlackHole } else { Character::Mute };
    }
    for index in order.take(scenario.liars.of(nodes.len())) {
        let node = &mut nodes[index];
        node.character = Character::Liar;
        node.member.claimed = node.rates.slowed(LIE);
    }
}

/// The office that goes home, and the partition.
fn disturb(nodes: &mut [NodePlan], scenario: &Scenario) {
    let half = HISTORY + micros(scenario.hours * 1800.0);
    let count = nodes.len() as f64;
    let (office, partition) =
        ((scenario.office * count).round() as usize, (scenario.partition * count).round() as usize);
    for (index, node) in nodes.iter_mut().enumerate() {
        // Spread over the kinds of machines, which repeat in the order of the nodes.
        let place = (mixed(scenario.seed ^ (index as u64) << 20) % nodes_max()) as f64 / nodes_max() as f64;
        if place < office as f64 / count {
            let leaves = half + mixed(index as u64) % (5 * MINUTE);
            presence::away_between(&mut node.sessions, leaves, Micros::MAX, Ending::Silent);
        }
        if place >= 1.0 - partition as f64 / count {
            presence::away_between(&mut node.sessions, half, half + 10 * MINUTE, Ending::Silent);
        }
    }
}

const fn nodes_max() -> u64 {
    1 << 20
}

#[cfg(test)]
mod tests {
    use super::{Fleet, by_share};
    use crate::{
        adversary::Character,
        catalogue::Catalogue,
        presence::share,
        scenario::{Amount, HISTORY, Scenario},
    };

    fn fleet(change: impl Fn(&mut Scenario)) -> Fleet {
        let mut scenario = Scenario::default();
        change(&mut scenario);
        Fleet::new(&Catalogue::built_in(), &scenario).unwrap()
    }

    #[test]
    fn shares_are_exact_for_every_size() {
        let count = |kinds: &[usize], kind| kinds.iter().filter(|one| **one == kind).count();
        for nodes in [10, 100, 1000] {
            let kinds = by_share(nodes, [0.6, 0.3, 0.1].into_iter());
            assert_eq!(
                (count(&kinds, 0), count(&kinds, 1), count(&kinds, 2)),
                (nodes * 6 / 10, nodes * 3 / 10, nodes / 10)
            );
        }
    }

    #[test]
    fn the_seed_table_is_sixty_per_cent_m_series() {
        let fleet = fleet(|s| (s.churn, s.seed_rates, s.model) = (false, true, "phi-3-mini".into()));
        // 600 at 1/45 ms and 400 at 1/120 ms; 1.9 and 2.2 times that with four answers at once.
        assert!((fleet.capacity.single - 16_666.7).abs() < 0.1, "{:?}", fleet.capacity);
        assert!((fleet.capacity.batched - (13_333.33 * 1.9 + 3_333.33 * 2.2)).abs() < 0.1);
        assert!(fleet.capacity.with_prompts < fleet.capacity.batched);
    }

    #[test]
    fn characters_are_as_many_as_asked_for() {
        let fleet = fleet(|s| (s.black_holes, s.liars, s.sybils) = (Amount::Share(0.05), Amount::Nodes(20), 300));
        let count = |character| fleet.nodes.iter().filter(|node| node.character == character).count();
        let counts = Character::ALL.map(count);
        assert_eq!(counts, [930, 300, 25, 25, 20]);
        assert!(fleet.nodes.iter().all(|node| !node.member.vouched), "where anybody may come, nobody is vouched for");
    }

    #[test]
    fn an_office_goes_home_at_half_time() {
        let quiet = fleet(|s| s.churn = false);
        let office = fleet(|s| (s.churn, s.office, s.partition) = (false, 0.4, 0.2));
        let half = HISTORY + 3600 * 1_000_000 / 2;
        let present =
            |fleet: &Fleet, at: u64| fleet.nodes.iter().filter(|node| share(&node.sessions, at, at + 1) > 0.5).count();
        let minutes = |count: u64| half + count * 60_000_000;
        assert_eq!(present(&quiet, minutes(6)), 1000);
        assert!((340..=460).contains(&present(&office, minutes(6))), "{}", present(&office, minutes(6)));
        assert!((540..=660).contains(&present(&office, minutes(12))));
    }
}
