//! What is done to one open file of the simulated disk.

use std::io::{self, IoSlice};
use std::path::Path;

use super::{Disk, eio};
use crate::storage_sim::Operation;

impl Disk {
    pub(in crate::storage_sim) fn len(&mut self, node: u64) -> io::Result<u64> {
        self.alive()?;
        Ok(self.file(node)?.len())
    }

    pub(in crate::storage_sim) fn read_at(
        &mut self,
        node: u64,
        path: &Path,
        buf: &mut [u8],
        offset: u64,
        may_wait: bool,
    ) -> io::Result<usize> {
        self.alive()?;
        if self.faulty(Operation::Read, path) {
            return Err(eio());
        }
        let file = self.file(node)?;
        if !may_wait && !file.warm {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        file.warm = true;
        Ok(file.read(buf, offset))
    }

    pub(in crate::storage_sim) fn write_at(
        &mut self,
        node: u64,
        path: &Path,
        bufs: &[IoSlice<'_>],
        offset: u64,
    ) -> io::Result<()> {
        let fails = self.faulty(Operation::Write, path);
        let fate = self.begin_change()?;
        let mut bytes: Vec<u8> = bufs
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let available = self.capacity_bytes.saturating_sub(self.used_bytes);
        let file = self.file(node)?;
        let before = file.len();
        let fitting = (before + available)
            .saturating_sub(offset)
            .min(bytes.len() as u64);
        let full = fitting < bytes.len() as u64;
        bytes.truncate(fitting as usize);
        if fails {
            bytes.truncate(bytes.len() / 2);
        }
        if !bytes.is_empty() {
            file.write(bytes, offset);
        }
        let grown = file.len() - before;
        self.used_bytes += grown;
        match (fails, full) {
            (true, _) => Err(eio()),
            (_, true) => Err(io::ErrorKind::StorageFull.into()),
            _ => fate.end(()),
        }
    }

    pub(in crate::storage_sim) fn set_len(
        &mut self,
        node: u64,
        path: &Path,
        len: u64,
    ) -> io::Result<()> {
        self.alive()?;
        if self.faulty(Operation::SetLen, path) {
            return Err(eio());
        }
        let fate = self.begin_change()?;
        let file = self.file(node)?;
        let before = file.len();
        file.set_len(len);
        self.used_bytes = (self.used_bytes + len).saturating_sub(before);
        fate.end(())
    }

    pub(in crate::storage_sim) fn sync_data(&mut self, node: u64, path: &Path) -> io::Result<()> {
        self.alive()?;
        let fails = self.faulty(Operation::Sync, path);
        let fate = self.begin_change()?;
        self.syncs.files += 1;
        let takes_place = self.sync_takes_place(&fate);
        let file = self.file(node)?;
        if fails {
            file.forget_pending();
            return Err(eio());
        }
        if takes_place {
            file.sync();
        }
        fate.end(())
    }
}
