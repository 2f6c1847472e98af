//! What a volume holds, told by its first bytes.

use crate::{Area, ReadError};
use std::fmt;

/// What a volume holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
	/// A file system of the ext family, which can be read here.
	Ext,
	/// XFS.
	Xfs,
	/// Btrfs.
	Btrfs,
	/// FAT of any size.
	Fat,
	/// NTFS.
	Ntfs,
	/// ISO 9660.
	Iso9660,
	/// SquashFS.
	SquashFs,
	/// ZFS and other things are not told apart.
	Unknown,
	/// Space to swap to.
	Swap,
	/// An encrypted volume.
	Luks,
	/// A physical volume of LVM2.
	Lvm,
	/// Nothing but zeros, as far as was looked.
	Empty,
}

impl fmt::Display for Content {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.pad(match self {
			Self::Ext => "ext",
			Self::Xfs => "xfs",
			Self::Btrfs => "btrfs",
			Self::Fat => "fat",
			Self::Ntfs => "ntfs",
			Self::Iso9660 => "iso9660",
			Self::SquashFs => "squashfs",
			Self::Unknown => "unknown",
			Self::Swap => "swap",
			Self::Luks => "luks",
			Self::Lvm => "lvm",
			Self::Empty => "empty",
		})
	}
}

/// Where the marks are, and what they are.
const MARKS: [(usize, &[u8], Content); 14] = [
	(0, b"LUKS\xba\xbe", Content::Luks),
	(0, b"XFSB", Content::Xfs),
	(0, b"hsqs", Content::SquashFs),
	(0x10040, b"_BHRfS_M", Content::Btrfs),
	(3, b"NTFS    ", Content::Ntfs),
	(54, b"FAT", Content::Fat),
	(82, b"FAT32", Content::Fat),
	(32769, b"CD001", Content::Iso9660),
	(4086, b"SWAPSPACE2", Content::Swap),
	// With pages of 64 KiB, as on arm64.
	(65526, b"SWAPSPACE2", Content::Swap),
	(512, b"LABELONE", Content::Lvm),
	(0, b"LABELONE", Content::Lvm),
	(1024, b"LABELONE", Content::Lvm),
	// The shortest mark comes last.
	(1024 + 0x38, &[0x53, 0xef], Content::Ext),
];

/// How much of a volume is looked at.
const HEAD_BYTES: usize = 0x10048;

impl Content {
	pub(crate) fn of(area: &Area) -> Result<Self, ReadError> {
		let head = area.peek(0, HEAD_BYTES)?;
		let has = |at: usize, mark: &[u8]| head.get(at..at + mark.len()) == Some(mark);
		let found = MARKS.iter().find(|(at, mark, _)| has(*at, mark));
		Ok(match found {
			Some((_, _, content)) => *content,
			None if head.iter().all(|byte| *byte == 0) => Self::Empty,
			None => Self::Unknown,
		})
	}
}
