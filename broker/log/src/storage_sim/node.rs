//! Files and directories of the simulated disk: what a program sees, what is on the platter, and the changes between.

use std::collections::BTreeMap;

use super::Unsynced;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// A seeded stream of numbers (SplitMix64): small, and the same for ever.
#[derive(Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// One change to a file that is not on the platter yet.
#[derive(Clone, Debug)]
enum Change {
    Write { at: u64, bytes: Vec<u8> },
    SetLen(u64),
}

/// A file's contents.
#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    seen: Vec<u8>,
    platter: Vec<u8>,
    pending: Vec<Change>,
    /// Whether its pages are in the cache, so that a read that must not wait succeeds.
    pub(super) warm: bool,
}

impl FileNode {
    pub(super) fn len(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let Some(rest) = usize::try_from(offset)
            .ok()
            .and_then(|at| self.seen.get(at..))
        else {
            return 0;
        };
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(super) fn write(&mut self, bytes: Vec<u8>, at: u64) {
        write_into(&mut self.seen, &bytes, at);
        self.pending.push(Change::Write { at, bytes });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        set_len(&mut self.seen, len);
        self.pending.push(Change::SetLen(len));
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.platter, &change);
        }
    }

    /// What a failed sync does: the pages are marked clean and never written; programs still see them in the cache.
    pub(super) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    pub(super) fn flip_bit(&mut self, bit: u64) -> bool {
        let Ok(at) = usize::try_from(bit / 8) else {
            return false;
        };
        let mask = 1_u8 << (bit % 8);
        if let Some(byte) = self.platter.get_mut(at) {
            *byte ^= mask;
        }
        match self.seen.get_mut(at) {
            Some(byte) => {
                *byte ^= mask;
                true
            }
            None => false,
        }
    }

    pub(super) fn after_power_cut(&self, unsynced: Unsynced, dice: &mut Dice) -> Self {
        let mut platter = self.platter.clone();
        for change in &self.pending {
            match unsynced {
                Unsynced::Lost => {}
                Unsynced::Kept => apply(&mut platter, change),
                Unsynced::Mixed(_) => apply_by_chance(&mut platter, change, dice),
            }
        }
        Self {
            seen: platter.clone(),
            platter,
            pending: Vec::new(),
            warm: false,
        }
    }
}

fn apply(contents: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => write_into(contents, bytes, *at),
        Change::SetLen(len) => set_len(contents, *len),
    }
}

fn apply_by_chance(contents: &mut Vec<u8>, change: &Change, dice: &mut Dice) {
    match (dice.roll(4), change) {
        (0, _) => {}
        (1, Change::Write { at, bytes }) => {
            let mut from = 0;
            while from < bytes.len() {
                let to_sector_end = SECTOR_BYTES - (at + from as u64) % SECTOR_BYTES;
                let until = bytes.len().min(from + to_sector_end as usize);
                if dice.roll(2) == 0 {
                    write_into(contents, &bytes[from..until], at + from as u64);
                }
                from = until;
            }
        }
        // The length made it, the bytes did not.
        (2, Change::Write { at, bytes }) => {
            let end = at + bytes.len() as u64;
            if end > contents.len() as u64 {
                set_len(contents, end);
            }
        }
        _ => apply(contents, change),
    }
}

fn write_into(contents: &mut Vec<u8>, bytes: &[u8], at: u64) {
    let at = at as usize;
    let end = at + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[at..end].copy_from_slice(bytes);
}

fn set_len(contents: &mut Vec<u8>, len: u64) {
    contents.resize(len as usize, 0);
}

/// What one operation did to one directory; a rename within it takes effect as one.
pub(super) type DirChange = Vec<(String, Option<u64>)>;

/// A directory's entries.
#[derive(Clone, Debug, Default)]
pub(super) struct DirNode {
    pub(super) seen: BTreeMap<String, u64>,
    platter: BTreeMap<String, u64>,
    pending: Vec<DirChange>,
}

impl DirNode {
    pub(super) fn change(&mut self, change: DirChange) {
        apply_dir(&mut self.seen, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply_dir(&mut self.platter, &change);
        }
    }

    /// The nodes that it names now, or may name after a power cut.
    pub(super) fn ever_named(&self) -> impl Iterator<Item = u64> {
        let pending = self.pending.iter().flatten();
        let names = self.seen.values().chain(self.platter.values()).copied();
        names.chain(pending.filter_map(|(_, node)| *node))
    }

    pub(super) fn after_power_cut(&self, unsynced: Unsynced, dice: &mut Dice) -> Self {
        let mut platter = self.platter.clone();
        for change in &self.pending {
            let kept = match unsynced {
                Unsynced::Lost => false,
                Unsynced::Kept => true,
                Unsynced::Mixed(_) => dice.roll(2) == 0,
            };
            if kept {
                apply_dir(&mut platter, change);
            }
        }
        Self {
            seen: platter.clone(),
            platter,
            pending: Vec::new(),
        }
    }
}

fn apply_dir(entries: &mut BTreeMap<String, u64>, change: &DirChange) {
    for (name, node) in change {
        match node {
            Some(node) => {
                entries.insert(name.clone(), *node);
            }
            None => {
                entries.remove(name);
            }
        }
    }
}
