//! What is on the disks of a machine.

use crate::{
	Area, ReadError,
	content::Content,
	lvm,
	table::{PARTITIONS_MAX, Table, TableError},
};

/// A run of bytes that may hold a file system.
#[derive(Clone, Debug)]
pub struct Volume {
	/// A disk's own name; with the number of a partition behind it; or group and volume, `vg/root`.
	pub name: String,
	/// What the partition table calls it; often nothing.
	pub label: String,
	/// What it holds.
	pub content: Content,
	/// Where it is.
	pub area: Area,
}

/// What is on the disks of a machine.
#[derive(Debug, Default)]
pub struct Layout {
	/// Disks without a table, partitions, and logical volumes, in that order.
	pub volumes: Vec<Volume>,
	/// What is there and cannot be used, in words.
	pub problems: Vec<String>,
}

impl Layout {
	/// The volume of a name.
	pub fn volume(&self, name: &str) -> Option<&Volume> {
		self.volumes.iter().find(|volume| volume.name == name)
	}
}

/// Find the volumes on disks, given with their names. All disks of a machine belong in one call:
/// a volume group may lie on several.
///
/// # Errors
/// Fails when a disk cannot be read. What is damaged on one is told in [`Layout::problems`].
pub fn scan(disks: &[(String, Area)]) -> Result<Layout, ReadError> {
	let mut layout = Layout::default();
	for (name, disk) in disks {
		partitions(name, disk, &mut layout)?;
	}
	let holders = layout.volumes.iter().filter(|volume| volume.content == Content::Lvm);
	let logical = lvm::find(&holders.collect::<Vec<_>>(), &mut layout.problems)?;
	layout.volumes.extend(logical);
	Ok(layout)
}

/// The partitions of a disk, or all of it where it has no table.
fn partitions(disk_name: &str, disk: &Area, layout: &mut Layout) -> Result<(), ReadError> {
	let table = match Table::read(disk) {
		Ok(table) => table,
		Err(TableError::Read(error)) => return Err(error),
		Err(error @ TableError::Gpt(_)) => {
			layout.problems.push(format!("disk {disk_name}: {error}"));
			return Ok(());
		}
	};
	let Some(table) = table else {
		let content = Content::of(disk)?;
		let (name, label) = (disk_name.to_owned(), String::new());
		layout.volumes.push(Volume { name, label, content, area: disk.clone() });
		return Ok(());
	};
	let told = table.problems.into_iter().map(|problem| format!("disk {disk_name}: {problem}"));
	layout.problems.extend(told);
	for partition in table.partitions.into_iter().take(PARTITIONS_MAX) {
		let name = partition_name(disk_name, partition.number);
		let content = Content::of(&partition.area)?;
		layout.volumes.push(Volume { name, label: partition.label, content, area: partition.area });
	}
	Ok(())
}

/// As systems name partitions: with a letter between, where the disk's name ends in a digit.
fn partition_name(disk: &str, number: usize) -> String {
	match disk.ends_with(|last: char| last.is_ascii_digit()) {
		true => format!("{disk}p{number}"),
		false => format!("{disk}{number}"),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn partitions_are_named_as_systems_name_them() {
		assert_eq!(partition_name("vda", 2), "vda2");
		assert_eq!(partition_name("nvme0n1", 2), "nvme0n1p2");
	}
}
