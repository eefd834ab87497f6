//! Order by key, where messages of one key are handed out one at a time.
//!
//! Owns, for one share-partition, which messages of each key are in the window. What always holds: of each key one message is ready or out, the
//! oldest that is not settled; the next becomes ready when that one is settled, not when it is given back: a message that is tried again
//! keeps those behind it waiting, and those of other keys not at all.
//!
//! Keys are told apart by a hash of 64 bits: two keys that share one only wait for each other. Messages without a key are not offered.
//! Bounded by the share-partition's window.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use weir_wire::Offset;

/// A key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Of a key: FNV-1a, the same on every broker.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash)
    }
}

/// Which message of each key is out, where messages of one key may be in several windows (one for each priority). A key is held by the message that was
/// handed out first, until that one is settled: given back, it still keeps the others waiting. Bounded by what is out or was given back.
#[derive(Clone, Debug, Default)]
pub struct HeldKeys {
    by: BTreeMap<KeyHash, Offset>,
    key_of: BTreeMap<Offset, KeyHash>,
    free: Vec<KeyHash>,
}

impl HeldKeys {
    /// Whether no other message of the key is out.
    #[must_use]
    pub fn may_go(&self, key: KeyHash, offset: Offset) -> bool {
        self.by.get(&key).is_none_or(|holder| *holder == offset)
    }

    /// A message is handed out, which might go.
    pub fn hold(&mut self, key: KeyHash, offset: Offset) {
        self.by.insert(key, offset);
        self.key_of.insert(offset, key);
    }

    /// A message is settled.
    pub fn settled(&mut self, offset: Offset) {
        if let Some(key) = self.key_of.remove(&offset) {
            self.by.remove(&key);
            self.free.push(key);
        }
    }

    /// Everything before `start` is settled, or gone.
    pub fn drop_below(&mut self, start: Offset) {
        let kept = self.key_of.split_off(&start);
        for key in std::mem::replace(&mut self.key_of, kept).into_values() {
            self.by.remove(&key);
            self.free.push(key);
        }
    }

    /// Keys that nobody holds any more, since the last time.
    pub fn take_free(&mut self) -> Vec<KeyHash> {
        std::mem::take(&mut self.free)
    }
}

/// The keys of one share-partition. See the module.
#[derive(Clone, Debug, Default)]
pub struct KeyOrder {
    /// By key, oldest first; never empty.
    keys: BTreeMap<KeyHash, VecDeque<Offset>>,
    key_of: BTreeMap<Offset, KeyHash>,
}

impl KeyOrder {
    /// A message comes into the window; messages come in the order of the log. `true` when it is ready at once.
    pub fn offer(&mut self, key: KeyHash, offset: Offset) -> bool {
        if self.key_of.insert(offset, key).is_some() {
            return self.is_ready(offset);
        }
        let queue = self.keys.entry(key).or_default();
        queue.push_back(offset);
        queue.len() == 1
    }

    /// A message is settled: acknowledged, or given up. The one that is ready now, if one is.
    pub fn settled(&mut self, offset: Offset) -> Option<Offset> {
        let key = self.key_of.remove(&offset)?;
        let queue = self.keys.get_mut(&key)?;
        let at = queue.binary_search(&offset).ok()?;
        queue.remove(at);
        let next = queue.front().copied();
        if next.is_none() {
            self.keys.remove(&key);
        }
        next.filter(|_| at == 0)
    }

    /// The oldest message of a key.
    #[must_use]
    pub fn oldest(&self, key: KeyHash) -> Option<Offset> {
        self.keys.get(&key)?.front().copied()
    }

    /// Whether a message may be handed out. One that was never offered may.
    #[must_use]
    pub fn is_ready(&self, offset: Offset) -> bool {
        let Some(key) = self.key_of.get(&offset) else {
            return true;
        };
        let oldest = self.keys.get(key).and_then(VecDeque::front);
        oldest.is_none_or(|oldest| *oldest == offset)
    }

    /// Everything before `start` is settled, or gone. What is ready now.
    pub fn drop_below(&mut self, start: Offset) -> Vec<Offset> {
        let kept = self.key_of.split_off(&start);
        let gone = std::mem::replace(&mut self.key_of, kept);
        let mut ready = Vec::new();
        for (offset, key) in gone {
            let Some(queue) = self.keys.get_mut(&key) else {
                continue;
            };
            if queue.front() == Some(&offset) {
                queue.pop_front();
                match queue.front() {
                    Some(next) if *next >= start => ready.push(*next),
                    Some(_) => {}
                    None => {
                        self.keys.remove(&key);
                    }
                }
            }
        }
        ready
    }

    /// How many messages are in the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.key_of.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.key_of.is_empty()
    }
}
