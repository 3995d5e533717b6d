//! A pristine ext4 file system as the few blocks in which it differs from zeros.
//!
//! A sandbox's `/tmp` is a sparse image of this form. It is written by hand because it has to be cheap: a new image costs a
//! few small writes, and no tool of the host runs with privilege. There is no journal (nothing in it outlives its mount), no
//! checksums, no reserve for root and no `lost+found`; all metadata lies together at the front, so that the rest is a hole.
//!
//! Reference: Linux kernel documentation, "ext4 Data Structures and Algorithms".

use std::io;
use std::os::fd::RawFd;

use crate::sys::fds;

pub const BLOCK: u64 = 4096;
const BLOCKS_PER_GROUP: u64 = 32_768;
const INODE_SIZE: u64 = 256;
const INODES_PER_BLOCK: u64 = BLOCK / INODE_SIZE;
/// Inodes below the first that a file can have (`s_first_ino`).
const RESERVED_INODES: u64 = 10;
const DESCRIPTOR: usize = 32;
/// Groups whose descriptors fit one block: 16 GiB.
const GROUPS_MAX: u64 = BLOCK / DESCRIPTOR as u64;
/// The kernel keeps a fiftieth, at most this many blocks, for its own splitting of extents.
const KERNEL_RESERVE_MAX: u64 = 4096;
/// A last group smaller than this is filled up.
const LEAST_GROUP: u64 = 1024;

/// What `/tmp` offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Bytes that files can hold.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

/// The blocks of one size of file system that are not zero.
pub struct Pristine {
    /// Bytes of the whole image.
    pub length: u64,
    /// (offset, content)
    parts: Vec<(u64, Vec<u8>)>,
}

/// Where things lie, in blocks.
struct Plan {
    blocks: u64,
    groups: u64,
    inodes_per_group: u64,
    /// Blocks of one group's inode table.
    table: u64,
}

impl Plan {
    fn new(size: Size) -> Option<Self> {
        let wanted = size.bytes.div_ceil(BLOCK).max(1);
        // For directories and the nodes of extent trees.
        let slack = wanted / 1024 + 256;
        let mut plan = Self::of(wanted + slack, size.inodes);
        // The metadata grow with the size they make necessary; a few rounds settle it.
        for _ in 0..16 {
            let reserve = (plan.blocks / 50).min(KERNEL_RESERVE_MAX) + 1;
            let mut blocks = wanted + slack + reserve + plan.metadata();
            let last = blocks % BLOCKS_PER_GROUP;
            if last != 0 && last < LEAST_GROUP {
                blocks += LEAST_GROUP - last;
            }
            if blocks <= plan.blocks {
                break;
            }
            plan = Self::of(blocks, size.inodes);
        }
        (plan.groups <= GROUPS_MAX && plan.inodes_per_group < BLOCKS_PER_GROUP).then_some(plan)
    }

    fn of(blocks: u64, inodes: u64) -> Self {
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let inodes_per_group = (inodes + RESERVED_INODES).div_ceil(groups).next_multiple_of(INODES_PER_BLOCK);
        Self { blocks, groups, inodes_per_group, table: inodes_per_group / INODES_PER_BLOCK }
    }

    fn block_bitmap(&self, group: u64) -> u64 {
        2 + group
    }

    fn inode_bitmap(&self, group: u64) -> u64 {
        2 + self.groups + group
    }

    fn inode_table(&self, group: u64) -> u64 {
        2 + 2 * self.groups + group * self.table
    }

    /// The block of the root directory, the last of the metadata.
    fn root(&self) -> u64 {
        self.inode_table(self.groups)
    }

    fn metadata(&self) -> u64 {
        self.root() + 1
    }

    fn blocks_of(&self, group: u64) -> u64 {
        (self.blocks - group * BLOCKS_PER_GROUP).min(BLOCKS_PER_GROUP)
    }

    /// Blocks at the front of a group that the metadata take.
    fn used_of(&self, group: u64) -> u64 {
        self.metadata().saturating_sub(group * BLOCKS_PER_GROUP).min(self.blocks_of(group))
    }
}

impl Pristine {
    /// None where the size does not fit this form: at most about 16 GiB.
    pub fn new(size: Size, now_s: u32) -> Option<Self> {
        let plan = Plan::new(size)?;
        let block = BLOCK as usize;
        // Super block, descriptors and all bitmaps are neighbours.
        let mut front = vec![0; block * (2 + 2 * plan.groups as usize)];
        super_block(&plan, now_s, &mut front[1024..2048]);
        for group in 0..plan.groups {
            let at = block + group as usize * DESCRIPTOR;
            descriptor(&plan, group, &mut front[at..at + DESCRIPTOR]);
            let at = plan.block_bitmap(group) as usize * block;
            let bitmap = &mut front[at..at + block];
            set_bits(bitmap, 0, plan.used_of(group));
            set_bits(bitmap, plan.blocks_of(group), BLOCKS_PER_GROUP);
            let at = plan.inode_bitmap(group) as usize * block;
            let bitmap = &mut front[at..at + block];
            set_bits(bitmap, 0, if group == 0 { RESERVED_INODES } else { 0 });
            set_bits(bitmap, plan.inodes_per_group, BLOCKS_PER_GROUP);
        }
        let mut table = vec![0; 2 * INODE_SIZE as usize];
        root_inode(&plan, now_s, &mut table[INODE_SIZE as usize..]);
        let parts = vec![(0, front), (plan.inode_table(0) * BLOCK, table), (plan.root() * BLOCK, root_directory())];
        Some(Self { length: plan.blocks * BLOCK, parts })
    }

    /// Makes an empty file into the image.
    pub fn write(&self, file: RawFd) -> io::Result<()> {
        fds::set_length(file, self.length)?;
        for (offset, content) in &self.parts {
            fds::write_all_at(file, content, *offset)?;
        }
        Ok(())
    }
}

fn put16(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

fn put32(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
}

/// Sets the bits from `first` up to `end`, which is not included.
fn set_bits(bitmap: &mut [u8], first: u64, end: u64) {
    for bit in first..end {
        bitmap[bit as usize / 8] |= 1 << (bit % 8);
    }
}

/// `struct ext4_super_block`
fn super_block(plan: &Plan, now_s: u32, out: &mut [u8]) {
    const COMPAT: u64 = 0x20 | 0x200; // dir_index, sparse_super2 without backups
    const INCOMPAT: u64 = 0x2 | 0x40 | 0x200; // filetype, extents, flex_bg
    const RO_COMPAT: u64 = 0x2 | 0x8 | 0x20 | 0x40; // large_file, huge_file, dir_nlink, extra_isize
    let inodes = plan.groups * plan.inodes_per_group;
    put32(out, 0x00, inodes);
    put32(out, 0x04, plan.blocks);
    put32(out, 0x0C, plan.blocks - plan.metadata());
    put32(out, 0x10, inodes - RESERVED_INODES);
    put32(out, 0x18, 2); // log2(block size / 1024)
    put32(out, 0x1C, 2);
    put32(out, 0x20, BLOCKS_PER_GROUP);
    put32(out, 0x24, BLOCKS_PER_GROUP);
    put32(out, 0x28, plan.inodes_per_group);
    put16(out, 0x36, 0xFFFF); // mounts until a check: never
    put16(out, 0x38, 0xEF53);
    put16(out, 0x3A, 1); // clean
    put16(out, 0x3C, 1); // errors: continue
    put32(out, 0x40, now_s.into());
    put32(out, 0x4C, 1); // revision with dynamic inode sizes
    put32(out, 0x54, RESERVED_INODES + 1);
    put16(out, 0x58, INODE_SIZE);
    put32(out, 0x5C, COMPAT);
    put32(out, 0x60, INCOMPAT);
    put32(out, 0x64, RO_COMPAT);
    // One identity for all: nothing looks them up by it.
    out[0x68..0x78].copy_from_slice(b"flint-sandbox-fs");
    out[0xEC..0xFC].copy_from_slice(b"flint-hash-seed.");
    out[0xFC] = 1; // directory hash: half MD4
    put32(out, 0x108, now_s.into());
    put16(out, 0x15C, 32); // extra inode bytes
    put16(out, 0x15E, 32);
    put32(out, 0x160, 1); // the hash is signed
    out[0x174] = 7; // log2 of the groups whose metadata lie together
}

/// `struct ext4_group_desc` in its 32-byte form
fn descriptor(plan: &Plan, group: u64, out: &mut [u8]) {
    put32(out, 0x0, plan.block_bitmap(group));
    put32(out, 0x4, plan.inode_bitmap(group));
    put32(out, 0x8, plan.inode_table(group));
    put16(out, 0xC, plan.blocks_of(group) - plan.used_of(group));
    put16(out, 0xE, plan.inodes_per_group - if group == 0 { RESERVED_INODES } else { 0 });
    put16(out, 0x10, u64::from(group == 0));
}

/// `struct ext4_inode` of inode 2
fn root_inode(plan: &Plan, now_s: u32, out: &mut [u8]) {
    put16(out, 0x0, 0o041_777);
    put32(out, 0x4, BLOCK);
    for at in [0x8, 0xC, 0x10] {
        put32(out, at, now_s.into());
    }
    put16(out, 0x1A, 2); // links
    put32(out, 0x1C, BLOCK / 512);
    put32(out, 0x20, 0x8_0000); // its blocks are extents
    put16(out, 0x28, 0xF30A); // header: one of at most four extents, no deeper tree
    put16(out, 0x2A, 1);
    put16(out, 0x2C, 4);
    put16(out, 0x38, 1); // the extent: one block
    put32(out, 0x3C, plan.root());
    put16(out, 0x80, 32);
}

fn root_directory() -> Vec<u8> {
    let mut out = vec![0; BLOCK as usize];
    // inode, length of the entry, length of the name, kind 2: a directory
    put32(&mut out, 0, 2);
    put16(&mut out, 4, 12);
    out[6..9].copy_from_slice(&[1, 2, b'.']);
    put32(&mut out, 12, 2);
    put16(&mut out, 16, BLOCK - 12);
    out[18..22].copy_from_slice(&[2, 2, b'.', b'.']);
    out
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::process::Command;

    use super::*;

    /// The distribution's checker finds nothing but the missing `lost+found`, which it would make.
    #[test]
    fn the_checker_of_e2fsprogs_accepts_every_size() {
        let dir = tempfile::tempdir().unwrap();
        for (mib, inodes) in [(1, 16), (64, 4096), (512, 32_768), (513, 32_768), (1024, 65_536), (10_240, 655_360)] {
            let pristine = Pristine::new(Size { bytes: mib << 20, inodes }, 1_700_000_000).expect("fits");
            let path = dir.path().join("image");
            let file = std::fs::File::create(&path).unwrap();
            pristine.write(file.as_raw_fd()).unwrap();
            let checked = Command::new("/usr/sbin/e2fsck").args(["-f", "-n"]).arg(&path).output().expect("e2fsck");
            let text = String::from_utf8_lossy(&checked.stdout).into_owned();
            let complaints: Vec<_> = text
                .lines()
                .filter(|l| !l.starts_with("Pass ") && !l.is_empty() && !l.contains("WARNING: Filesystem still"))
                .filter(|l| !l.contains("/lost+found not found") && !l.contains(" files ("))
                .collect();
            assert!(complaints.is_empty(), "{mib} MiB: {text}{}", String::from_utf8_lossy(&checked.stderr));
            assert!(text.contains("0.0% non-contiguous"), "it ran to the end: {text}");
        }
    }

    #[test]
    fn what_it_offers_is_at_least_what_was_asked_for() {
        for mib in [1, 127, 128, 512, 4096, 10_240] {
            let size = Size { bytes: mib << 20, inodes: mib * 64 };
            let plan = Plan::new(size).expect("fits");
            let free = plan.blocks - plan.metadata() - (plan.blocks / 50).min(KERNEL_RESERVE_MAX);
            assert!(free * BLOCK >= size.bytes, "{mib} MiB");
            // Not much more: two MiB and a thousandth, and a last group that was filled up.
            assert!(free * BLOCK <= size.bytes + size.bytes / 1000 + (6 << 20), "{mib} MiB: {free} blocks");
            assert!(plan.groups * plan.inodes_per_group - RESERVED_INODES >= size.inodes);
        }
        assert!(Plan::new(Size { bytes: 17 << 30, inodes: 1000 }).is_none());
    }
}
