//! The state of a simulated disk, and its faults.

mod bytes;

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::node::{Dice, DirChange, DirNode, FileNode};
use super::{Operation, Syncs, Unsynced};
use crate::storage::{OpenMode, Space};

const ROOT: u64 = 0;

/// What Linux says when a disk fails.
const EIO: i32 = 5;

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Debug)]
struct Fault {
    operation: Operation,
    path_part: String,
    times: u32,
}

/// A disk.
#[derive(Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    capacity_bytes: u64,
    /// The capacity that programs are told, when it is not the true one.
    promised_bytes: Option<u64>,
    used_bytes: u64,
    faults: Vec<Fault>,
    changes: u64,
    /// The number of the last change that happens.
    dies_at: Option<u64>,
    dead: bool,
    syncs: Syncs,
    dice: Dice,
}

/// Whether a change takes place as asked, or is the last one before the disk dies.
enum Fate {
    Normal,
    Last,
}

impl Disk {
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Dir(DirNode::default()))]);
        Self::with_nodes(nodes, 1, u64::MAX / 4)
    }

    fn with_nodes(nodes: BTreeMap<u64, Node>, next_node: u64, capacity_bytes: u64) -> Self {
        let mut disk = Self {
            nodes,
            next_node,
            capacity_bytes,
            promised_bytes: None,
            used_bytes: 0,
            faults: Vec::new(),
            changes: 0,
            dies_at: None,
            dead: false,
            syncs: Syncs::default(),
            dice: Dice::new(next_node),
        };
        disk.drop_unlinked();
        disk.used_bytes = disk.files().map(|file| file.len()).sum();
        disk
    }

    fn files(&self) -> impl Iterator<Item = &FileNode> {
        self.nodes.values().filter_map(|node| match node {
            Node::File(file) => Some(file),
            Node::Dir(_) => None,
        })
    }

    fn drop_unlinked(&mut self) {
        let mut reached = vec![ROOT];
        let mut next = 0;
        while let Some(node) = reached.get(next) {
            if let Some(Node::Dir(dir)) = self.nodes.get(node) {
                reached.extend(dir.ever_named());
            }
            next += 1;
        }
        self.nodes.retain(|node, _| reached.contains(node));
    }

    pub(super) fn after_power_cut(&self, unsynced: Unsynced) -> Self {
        let mut dice = Dice::new(match unsynced {
            Unsynced::Mixed(seed) => seed,
            Unsynced::Lost | Unsynced::Kept => 0,
        });
        let nodes = self
            .nodes
            .iter()
            .map(|(id, node)| {
                let node = match node {
                    Node::File(file) => Node::File(file.after_power_cut(unsynced, &mut dice)),
                    Node::Dir(dir) => Node::Dir(dir.after_power_cut(unsynced, &mut dice)),
                };
                (*id, node)
            })
            .collect();
        Self::with_nodes(nodes, self.next_node, self.capacity_bytes)
    }

    pub(super) fn take_over(&self) -> Self {
        Self::with_nodes(self.nodes.clone(), self.next_node, self.capacity_bytes)
    }

    pub(super) fn die(&mut self) {
        self.dead = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(super) fn die_after(&mut self, changes: u64) {
        self.dies_at = Some(self.changes + changes);
        self.dead = changes == 0;
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn syncs(&self) -> Syncs {
        self.syncs
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
        self.promised_bytes = None;
    }

    pub(super) fn fill_up_after(&mut self, bytes: u64) {
        self.promised_bytes = Some(self.capacity_bytes);
        self.capacity_bytes = self.used_bytes + bytes;
    }

    pub(super) fn fail_next(&mut self, operation: Operation, path_part: &str, times: u32) {
        self.faults.push(Fault {
            operation,
            path_part: path_part.to_owned(),
            times,
        });
    }

    pub(super) fn evict_page_cache(&mut self) {
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.warm = false;
            }
        }
    }

    pub(super) fn flip_bit(&mut self, path: &Path, bit: u64) -> bool {
        match self
            .find(path)
            .ok()
            .and_then(|node| self.nodes.get_mut(&node))
        {
            Some(Node::File(file)) => file.flip_bit(bit),
            _ => false,
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(eio()) } else { Ok(()) }
    }

    fn begin_change(&mut self) -> io::Result<Fate> {
        self.alive()?;
        self.changes += 1;
        if self.dies_at == Some(self.changes) {
            self.dead = true;
            return Ok(Fate::Last);
        }
        Ok(Fate::Normal)
    }

    fn faulty(&mut self, operation: Operation, path: &Path) -> bool {
        let path = path.to_string_lossy();
        let hit = self.faults.iter_mut().find(|fault| {
            fault.operation == operation && fault.times > 0 && path.contains(&fault.path_part)
        });
        hit.map(|fault| fault.times -= 1).is_some()
    }

    fn file(&mut self, node: u64) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn dir(&mut self, node: u64) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn find(&mut self, path: &Path) -> io::Result<u64> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self
                .dir(at)?
                .seen
                .get(&name)
                .ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn parent(&mut self, path: &Path) -> io::Result<(u64, String)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut at = ROOT;
        for name in names {
            at = *self
                .dir(at)?
                .seen
                .get(&name)
                .ok_or(io::ErrorKind::NotFound)?;
        }
        self.dir(at)?;
        Ok((at, name))
    }

    fn add(&mut self, parent: u64, name: String, node: Node) -> io::Result<u64> {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        self.dir(parent)?.change(vec![(name, Some(id))]);
        Ok(id)
    }

    fn change_dir(&mut self, dir: u64, change: DirChange) -> io::Result<()> {
        self.dir(dir)?.change(change);
        Ok(())
    }

    pub(super) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        self.alive()?;
        match self.find(path) {
            Ok(node) => {
                self.file(node)?;
                Ok(node)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && mode == OpenMode::Create => {
                let (parent, name) = self.parent(path)?;
                let fate = self.begin_change()?;
                let mut file = FileNode::default();
                file.warm = true;
                let node = self.add(parent, name, Node::File(file))?;
                fate.end(node)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let mut at = ROOT;
        for name in names(path)? {
            at = match self.dir(at)?.seen.get(&name) {
                Some(node) => *node,
                None => {
                    let fate = self.begin_change()?;
                    let node = self.add(at, name, Node::Dir(DirNode::default()))?;
                    fate.end(node)?
                }
            };
            self.dir(at)?;
        }
        Ok(())
    }

    pub(super) fn list(&mut self, path: &Path) -> io::Result<Vec<String>> {
        self.alive()?;
        let node = self.find(path)?;
        Ok(self.dir(node)?.seen.keys().cloned().collect())
    }

    pub(super) fn exists(&mut self, path: &Path) -> io::Result<bool> {
        self.alive()?;
        match self.find(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?;
        let node = self.find(from)?;
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let replaced = self.dir(to_dir)?.seen.get(&to_name).copied();
        if let Some(replaced) = replaced.filter(|replaced| *replaced != node) {
            match (self.nodes.get(&node), self.nodes.get(&replaced)) {
                (Some(Node::File(_)), Some(Node::File(file))) => {
                    self.used_bytes = self.used_bytes.saturating_sub(file.len())
                }
                _ => return Err(io::ErrorKind::AlreadyExists.into()),
            }
        }
        if self.faulty(Operation::Rename, from) {
            return Err(eio());
        }
        let fate = self.begin_change()?;
        if from_dir == to_dir {
            self.change_dir(from_dir, vec![(from_name, None), (to_name, Some(node))])?;
        } else {
            self.change_dir(to_dir, vec![(to_name, Some(node))])?;
            self.change_dir(from_dir, vec![(from_name, None)])?;
        }
        fate.end(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let node = self.find(path)?;
        let len = self.file(node)?.len();
        let (parent, name) = self.parent(path)?;
        let fate = self.begin_change()?;
        self.used_bytes = self.used_bytes.saturating_sub(len);
        self.change_dir(parent, vec![(name, None)])?;
        fate.end(())
    }

    /// Entry by entry, deepest first, as a program does it: a power cut may come in between.
    pub(super) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let node = self.find(path)?;
        let children: Vec<String> = self.dir(node)?.seen.keys().cloned().collect();
        for child in children {
            let child_path = path.join(child);
            let child = self.find(&child_path)?;
            match self.nodes.get(&child) {
                Some(Node::Dir(_)) => self.remove_dir_all(&child_path)?,
                _ => self.remove_file(&child_path)?,
            }
        }
        let (parent, name) = self.parent(path)?;
        let fate = self.begin_change()?;
        self.change_dir(parent, vec![(name, None)])?;
        fate.end(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let node = self.find(path)?;
        if self.faulty(Operation::SyncDir, path) {
            return Err(eio());
        }
        let fate = self.begin_change()?;
        self.syncs.directories += 1;
        if self.sync_takes_place(&fate) {
            self.dir(node)?.sync();
        }
        fate.end(())
    }

    pub(super) fn sync_file_system(&mut self, path: &Path) -> io::Result<()> {
        self.alive()?;
        let fails = self.faulty(Operation::Sync, path);
        let fate = self.begin_change()?;
        self.syncs.file_systems += 1;
        let takes_place = self.sync_takes_place(&fate);
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) if fails => file.forget_pending(),
                Node::File(file) if takes_place => file.sync(),
                Node::Dir(dir) if takes_place && !fails => dir.sync(),
                _ => {}
            }
        }
        if fails { Err(eio()) } else { fate.end(()) }
    }

    /// A sync during which the disk dies may have been in time or not.
    fn sync_takes_place(&mut self, fate: &Fate) -> bool {
        match fate {
            Fate::Normal => true,
            Fate::Last => self.dice.roll(2) == 0,
        }
    }

    pub(super) fn space(&mut self, path: &Path) -> io::Result<Space> {
        self.alive()?;
        self.find(path)?;
        let capacity = self.promised_bytes.unwrap_or(self.capacity_bytes);
        Ok(Space {
            available_bytes: capacity.saturating_sub(self.used_bytes),
            total_bytes: capacity,
        })
    }
}

impl Fate {
    fn end<T>(self, value: T) -> io::Result<T> {
        match self {
            Self::Normal => Ok(value),
            Self::Last => Err(eio()),
        }
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

fn names(path: &Path) -> io::Result<Vec<String>> {
    path.components()
        .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
        .map(|component| match component {
            Component::Normal(name) => name
                .to_str()
                .map(str::to_owned)
                .ok_or_else(|| io::ErrorKind::InvalidInput.into()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        })
        .collect()
}
