//! Ordered sets over the places of all nodes. Holds numbers and ids, no states.

use super::place::{CLASSES, Class, Place, Placed};
use protocol::ids::{ModelDigest, NodeId};
use std::collections::{BTreeSet, HashMap};

/// Cost in steps, the decision between equals, and the node's number.
pub(super) type ByCost = BTreeSet<(u16, u32, u32)>;
/// How far the reason is from going, and the node.
type ByDistance = BTreeSet<(u8, NodeId)>;

/// Where more than one of so many nodes with a model are ejected, the pool needs them.
pub const NEED_ONE_IN: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Index {
    models: HashMap<ModelDigest, OfModel>,
    // Nodes without any worker, and with some, by their reason against other models.
    elsewhere: [ByDistance; 2],
    deadlines: BTreeSet<(u64, u32)>,
    canaries: BTreeSet<(u64, u32, ModelDigest)>,
    // Models of which so many nodes are ejected that these are needed.
    in_need: BTreeSet<ModelDigest>,
}

#[derive(Debug, Default)]
struct OfModel {
    routable: [ByCost; CLASSES],
    held: ByDistance,
    // Nodes that are there, and those of them that are ejected, by when they are due if they are needed.
    there: usize,
    ejected: BTreeSet<(u64, u32)>,
}

impl Index {
    pub(super) fn routable(&self, model: ModelDigest, class: Class) -> Option<&ByCost> {
        self.models.get(&model).map(|of| &of.routable[class.at()])
    }

    pub(super) fn held(&self, model: ModelDigest) -> impl Iterator<Item = NodeId> {
        self.models.get(&model).into_iter().flat_map(|of| of.held.iter().map(|(_, node)| *node))
    }

    pub(super) fn elsewhere(&self) -> &[ByDistance; 2] {
        &self.elsewhere
    }

    /// A node whose deadline has passed. It has to be placed again, which sets its next.
    pub(super) fn deadline_passed(&self, steady_ms: u64) -> Option<u32> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= steady_ms).map(|(_, at)| *at)
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
        if old.deadline_steady_ms != new.deadline_steady_ms {
            old.deadline_steady_ms.map(|deadline| self.deadlines.remove(&(deadline, at)));
            new.deadline_steady_ms.map(|deadline| self.deadlines.insert((deadline, at)));
        }
        if old.canaries != new.canaries {
            for (due, model) in &old.canaries {
                self.canaries.remove(&(*due, at, *model));
            }
            for (due, model) in &new.canaries {
                self.canaries.insert((*due, at, *model));
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
            if left && self.models.get(model).is_some_and(|of| of.held.is_empty() && of.routable[0].is_empty()) {
                self.models.remove(model);
            }
        }
    }
}

impl OfModel {
    /// Takes a node from its place, as far as the place it gets is another.
    fn unplace(&mut self, at: u32, node: NodeId, tie: u32, place: Place, kept: Option<Place>) {
        match (place, kept) {
            (Place::Routable(costs), Some(Place::Routable(kept))) => {
                for class in 0..CLASSES {
                    if costs[class] != kept[class] {
                        self.routable[class].remove(&(costs[class], tie, at));
                    }
                }
            }
            (Place::Routable(costs), _) => {
                for (set, cost) in self.routable.iter_mut().zip(costs) {
                    set.remove(&(cost, tie, at));
                }
            }
            (Place::Held(distance), kept) if kept != Some(place) => {
                self.held.remove(&(distance, node));
            }
            (Place::Held(_), _) => {}
        }
    }

    /// Puts a node in its place, as far as it was in another.
    fn place(&mut self, at: u32, node: NodeId, tie: u32, place: Place, was: Option<Place>) {
        match (place, was) {
            (Place::Routable(costs), Some(Place::Routable(were))) => {
                for class in 0..CLASSES {
                    if costs[class] != were[class] {
                        self.routable[class].insert((costs[class], tie, at));
                    }
                }
            }
            (Place::Routable(costs), _) => {
                for (set, cost) in self.routable.iter_mut().zip(costs) {
                    set.insert((cost, tie, at));
                }
            }
            (Place::Held(distance), was) if was != Some(place) => {
                self.held.insert((distance, node));
            }
            (Place::Held(_), _) => {}
        }
    }
}
