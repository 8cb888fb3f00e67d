//! Things that come and go by the million, with keys that notice when theirs has gone.

/// A place, and which of its tenants is meant.
pub type Key = u64;

/// The storage.
#[derive(Debug, Clone)]
pub struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Puts one in.
    pub fn insert(&mut self, value: T) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            u32::try_from(self.places.len() - 1).expect("memory ends before four thousand million entries")
        });
        let place = &mut self.places[index as usize];
        place.1 = Some(value);
        u64::from(place.0) << 32 | u64::from(index)
    }

    /// The one of this key, if it is still there.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (generation, value) = self.places.get(key as u32 as usize)?;
        value.as_ref().filter(|_| u64::from(*generation) == key >> 32)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, value) = self.places.get_mut(key as u32 as usize)?;
        value.as_mut().filter(|_| u64::from(*generation) == key >> 32)
    }

    /// Takes it out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let place = self.places.get_mut(key as u32 as usize)?;
        if u64::from(place.0) != key >> 32 {
            return None;
        }
        let value = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(key as u32);
        Some(value)
    }

    /// How many are in it.
    pub fn count(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Slab;

    #[test]
    fn a_key_never_opens_the_next_tenants_door() {
        let mut slab = Slab::default();
        let first = slab.insert("first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_ne!(first, second);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.get(second), slab.count()), (Some(&"second"), 1));
        assert_eq!(slab.get(77), None);
    }
}
