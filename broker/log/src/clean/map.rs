//! The last offset of each key of a log's dirty section.
//!
//! Keys are kept as the first 128 bits of their SHA-256. Two different keys that shared them would cost one of them its record;
//! by chance that happens among a thousand million keys once in 10^20 passes, and making such a pair on purpose takes 2^64
//! hashes (with MD5, which Kafka uses, anyone can). 24 bytes for each slot; open addressing, at most three quarters full, grown
//! by doubling up to the bound.

use sha2::{Digest, Sha256};
use weir_wire::Offset;

/// Slots of the smallest map.
const SLOTS_MIN: usize = 1 << 4;

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: [u64; 2],
    /// Negative: free.
    offset: i64,
}

const FREE: Slot = Slot {
    hash: [0; 2],
    offset: -1,
};

/// Keys and their last offsets.
#[derive(Debug)]
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    len: usize,
    slots_max: usize,
    /// Every record below is in the map, if it has a key; none from here on is.
    end: Offset,
}

impl OffsetMap {
    /// Empty; never larger than `bytes_max`, but for the smallest size.
    pub(super) fn new(bytes_max: u64, start: Offset) -> Self {
        let fitting = usize::try_from(bytes_max).unwrap_or(usize::MAX) / size_of::<Slot>();
        let slots_max = match fitting.checked_ilog2() {
            Some(log) => 1_usize << log,
            None => 1,
        };
        Self {
            slots: vec![FREE; SLOTS_MIN],
            len: 0,
            slots_max: slots_max.max(SLOTS_MIN),
            end: start,
        }
    }

    /// Every record below was put, or has no key.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    pub(super) fn set_end(&mut self, end: Offset) {
        self.end = end;
    }

    /// Remembers a record, later ones after earlier ones. `false`: the map is full, and this key is not in it.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = hash_of(key);
        let mut at = self.find(hash);
        if self.slots[at].offset < 0 {
            if (self.len + 1) * 4 > self.slots.len() * 3 {
                if self.slots.len() >= self.slots_max {
                    return false;
                }
                self.grow();
                at = self.find(hash);
            }
            self.len += 1;
        }
        self.slots[at] = Slot {
            hash,
            offset: offset.0,
        };
        true
    }

    /// The key's last offset, when it is in the dirty section.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let offset = self.slots[self.find(hash_of(key))].offset;
        (offset >= 0).then_some(Offset(offset))
    }

    /// The slot of this hash, or the free one where it would go. There always is one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash[0] as usize & mask;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = (at + 1) & mask;
        }
        at
    }

    fn grow(&mut self) {
        let larger = vec![FREE; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.offset >= 0 {
                let at = self.find(slot.hash);
                self.slots[at] = slot;
            }
        }
    }
}

fn hash_of(key: &[u8]) -> [u64; 2] {
    let digest = Sha256::digest(key);
    let part = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&digest[from..from + 8]);
        u64::from_be_bytes(bytes)
    };
    [part(0), part(8)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_map_refuses_new_keys_and_goes_on_with_the_old_ones() {
        let mut map = OffsetMap::new(0, Offset(0));
        let fitting = (0..).take_while(|n: &i64| map.put(&n.to_be_bytes(), Offset(*n)));
        assert_eq!(fitting.count(), SLOTS_MIN * 3 / 4);
        assert!(map.put(&7_i64.to_be_bytes(), Offset(5_000)));
        assert_eq!(map.get(&7_i64.to_be_bytes()), Some(Offset(5_000)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 32, ..ProptestConfig::default() })]

        #[test]
        fn it_is_a_map(puts in proptest::collection::vec(0..5_000_u16, 0..6_000)) {
            let mut map = OffsetMap::new(1 << 20, Offset(0));
            let mut naive = BTreeMap::new();
            for (offset, key) in puts.iter().enumerate() {
                prop_assert!(map.put(&key.to_be_bytes(), Offset(offset as i64)));
                naive.insert(*key, offset as i64);
            }
            for key in 0..5_000_u16 {
                let found = map.get(&key.to_be_bytes()).map(|offset| offset.0);
                prop_assert_eq!(found, naive.get(&key).copied());
            }
        }
    }
}
