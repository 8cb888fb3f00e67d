//! Ordered sets over the places of all nodes. Holds numbers and ids, no states.

use super::{
    ordered::Ordered,
    place::{CLASSES, Class, Place, Placed, STEP_BITS},
};
use protocol::{
    ids::{ModelDigest, NodeId},
    limits,
};
use std::collections::{BTreeSet, HashMap};

/// Nodes by their cost.
pub(super) type ByCost = Ordered<CostKey>;
/// How far the reason is from going, and the node.
type ByDistance = BTreeSet<(u8, NodeId)>;

/// Cost in steps, the decision between equals, and the node's number, in this order: in one word, because nothing is
/// compared and shifted as often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CostKey(u64);

const TIE_BITS: u32 = 32;
const NUMBER_BITS: u32 = u64::BITS - STEP_BITS - TIE_BITS;
/// Nodes that have a number.
pub(super) const NUMBERS: usize = 1 << NUMBER_BITS;
const _: () = assert!(NUMBERS > 8 * limits::MEMBERS_MAX, "a pool has a number for every node");

impl CostKey {
    pub(super) fn new(step: u16, tie: u32, at: u32) -> Self {
        Self(u64::from(step) << (TIE_BITS + NUMBER_BITS) | u64::from(tie) << NUMBER_BITS | u64::from(at))
    }

    pub(super) fn step(self) -> u16 {
        (self.0 >> (TIE_BITS + NUMBER_BITS)) as u16
    }

    pub(super) fn at(self) -> usize {
        self.0 as usize & (NUMBERS - 1)
    }
}

/// When each of its nodes has moved so often and nobody has asked, an order is forgotten: to make it anew costs whoever
/// asks next about one move of each, and to keep it up would have cost these.
const MOVED_MAX: usize = 16;

/// Where more than one of so many nodes with a model are ejected, the pool needs them.
pub const NEED_ONE_IN: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Index {
    models: HashMap<ModelDigest, OfModel>,
    // Nodes without any worker, and with some, by their reason against other models.
    elsewhere: [ByDistance; 2],
    deadlines: Ordered<(u64, u32)>,
    canaries: BTreeSet<(u64, u32, ModelDigest)>,
    // Models of which so many nodes are ejected that these are needed.
    in_need: BTreeSet<ModelDigest>,
}

#[derive(Debug)]
struct OfModel {
    // `None`: nobody has asked for a task of this class for long, so the order is not kept. The first class always is.
    routable: [Option<Order>; CLASSES],
    held: ByDistance,
    // Nodes that are there, and those of them that are ejected, by when they are due if they are needed.
    there: usize,
    ejected: BTreeSet<(u64, u32)>,
}

/// The order of one class.
#[derive(Debug, Default)]
struct Order {
    nodes: ByCost,
    // Nodes that got another place in it since somebody asked.
    moved: usize,
}

impl Default for OfModel {
    fn default() -> Self {
        let mut routable = [const { None }; CLASSES];
        routable[Class::FIRST.at()] = Some(Order::default());
        Self { routable, held: ByDistance::default(), there: 0, ejected: BTreeSet::new() }
    }
}

impl Index {
    /// The nodes that have a place for this model in the order of this class, if that is kept.
    pub(super) fn routable(&self, model: ModelDigest, class: Class) -> Option<&ByCost> {
        self.models.get(&model)?.routable[class.at()].as_ref().map(|order| &order.nodes)
    }

    /// Somebody asks for a task of this class: keeps its order from now on. `keys` are those of all nodes that have a place
    /// for this model.
    pub(super) fn keep<K: Iterator<Item = CostKey>>(
        &mut self,
        model: ModelDigest,
        class: Class,
        keys: impl FnOnce() -> K,
    ) {
        let Some(of) = self.models.get_mut(&model) else { return };
        let order = of.routable[class.at()].get_or_insert_with(|| {
            let mut nodes = ByCost::default();
            keys().for_each(|key| nodes.insert(key));
            Order { nodes, moved: 0 }
        });
        order.moved = 0;
    }

    pub(super) fn held(&self, model: ModelDigest) -> impl Iterator<Item = NodeId> {
        self.models.get(&model).into_iter().flat_map(|of| of.held.iter().map(|(_, node)| *node))
    }

    pub(super) fn elsewhere(&self) -> &[ByDistance; 2] {
        &self.elsewhere
    }

    /// A node whose deadline has passed. It has to be placed again, which sets its next.
    pub(super) fn deadline_passed(&self, steady_ms: u64) -> Option<u32> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= steady_ms).map(|(_, at)| at)
    }

    pub(super) fn canaries_due(&self, steady_ms: u64) -> impl Iterator<Item = (u32, ModelDigest)> {
        self.canaries.iter().take_while(move |(due, ..)| *due <= steady_ms).map(|(_, at, model)| (*at, *model))
    }

    /// Ejected nodes of models that need them, and that are due because of that.
    pub(super) fn needed_due(&self, steady_ms: u64) -> impl Iterator<Item = (u32, ModelDigest)> {
        self.in_need.iter().flat_map(move |model| {
            let ejected = self.models.get(model).into_iter().flat_map(|of| &of.ejected);
            ejected.take_while(move |(due, _)| *due <= steady_ms).map(|(_, at)| (*at, *model))
        })
    }

    /// Whether so many nodes with a model are ejected that they are needed.
    pub(super) fn is_in_need(&self, model: ModelDigest) -> bool {
        self.in_need.contains(&model)
    }

    pub(super) fn remove(&mut self, at: u32, node: NodeId, placed: &Placed) {
        self.move_to(at, node, placed, &Placed::default());
    }

    /// Moves a node; what has not changed is not touched.
    pub(super) fn move_to(&mut self, at: u32, node: NodeId, old: &Placed, new: &Placed) {
        if old.there != new.there {
            self.count(at, old, new);
        }
        if old.models != new.models {
            for (model, place) in &old.models {
                let kept = new.models.iter().find(|(other, _)| other == model).map(|(_, place)| *place);
                self.models.entry(*model).or_default().unplace(at, node, old.tie, *place, kept);
            }
            for (model, place) in &new.models {
                let was = old.models.iter().find(|(other, _)| other == model).map(|(_, place)| *place);
                self.models.entry(*model).or_default().place(at, node, new.tie, *place, was);
            }
            self.forget_unused(old, new);
        }
        if old.elsewhere != new.elsewhere {
            if let Some((some, distance)) = old.elsewhere {
                self.elsewhere[usize::from(some)].remove(&(distance, node));
            }
            if let Some((some, distance)) = new.elsewhere {
                self.elsewhere[usize::from(some)].insert((distance, node));
            }
        }
        self.move_deadline(at, old.deadline_steady_ms, new.deadline_steady_ms);
        if old.canaries != new.canaries {
            for (due, model) in &old.canaries {
                self.canaries.remove(&(*due, at, *model));
            }
            for (due, model) in &new.canaries {
                self.canaries.insert((*due, at, *model));
            }
        }
    }

    /// What time alone changes about a node comes at another time.
    pub(super) fn move_deadline(&mut self, at: u32, old_steady_ms: Option<u64>, new_steady_ms: Option<u64>) {
        if old_steady_ms != new_steady_ms {
            if let Some(deadline) = old_steady_ms {
                self.deadlines.remove((deadline, at));
            }
            if let Some(deadline) = new_steady_ms {
                self.deadlines.insert((deadline, at));
            }
        }
    }

    /// Counts who is there, and who of them is ejected.
    fn count(&mut self, at: u32, old: &Placed, new: &Placed) {
        for (model, ejected) in &old.there {
            let of = self.models.entry(*model).or_default();
            of.there -= 1;
            ejected.map(|due| of.ejected.remove(&(due, at)));
        }
        for (model, ejected) in &new.there {
            let of = self.models.entry(*model).or_default();
            of.there += 1;
            ejected.map(|due| of.ejected.insert((due, at)));
        }
        for (model, _) in old.there.iter().chain(&new.there) {
            if self.models.get(model).is_some_and(|of| of.ejected.len() * NEED_ONE_IN > of.there) {
                self.in_need.insert(*model);
            } else {
                self.in_need.remove(model);
            }
        }
    }

    /// Forgets models that their last node has left.
    fn forget_unused(&mut self, old: &Placed, new: &Placed) {
        for (model, _) in &old.models {
            let left = !new.models.iter().any(|(other, _)| other == model);
            if left && self.models.get(model).is_some_and(|of| of.held.is_empty() && of.has_no_place()) {
                self.models.remove(model);
            }
        }
    }
}

impl OfModel {
    fn has_no_place(&self) -> bool {
        self.routable[Class::FIRST.at()].as_ref().is_none_or(|order| order.nodes.is_empty())
    }

    /// Takes a node from its place, as far as the place it gets is another.
    fn unplace(&mut self, at: u32, node: NodeId, tie: u32, place: Place, kept: Option<Place>) {
        match place {
            Place::Routable(costs) => {
                for (class, order) in self.routable.iter_mut().enumerate() {
                    if let Some(order) = order
                        && !stays(kept, class, costs[class])
                    {
                        order.nodes.remove(CostKey::new(costs[class], tie, at));
                    }
                }
            }
            Place::Held(distance) if kept != Some(place) => {
                self.held.remove(&(distance, node));
            }
            Place::Held(_) => {}
        }
    }

    /// Puts a node in its place, as far as it was in another.
    fn place(&mut self, at: u32, node: NodeId, tie: u32, place: Place, was: Option<Place>) {
        match place {
            Place::Routable(costs) => {
                for (class, kept) in self.routable.iter_mut().enumerate() {
                    if let Some(order) = kept
                        && !stays(was, class, costs[class])
                    {
                        order.nodes.insert(CostKey::new(costs[class], tie, at));
                        order.moved += 1;
                        if class != Class::FIRST.at() && order.moved > MOVED_MAX * order.nodes.len() {
                            *kept = None;
                        }
                    }
                }
            }
            Place::Held(distance) if was != Some(place) => {
                self.held.insert((distance, node));
            }
            Place::Held(_) => {}
        }
    }
}

/// Whether this place too is in the order of a class, at the same cost.
fn stays(other: Option<Place>, class: usize, cost: u16) -> bool {
    matches!(other, Some(Place::Routable(costs)) if costs[class] == cost)
}
