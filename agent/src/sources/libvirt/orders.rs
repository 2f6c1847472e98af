//! What is ordered of libvirt, in its own words: a backup, and a checkpoint that begins with it.

use super::{checkpoints, definition::Target};
use crate::sources::Checkpoint;
use std::{fmt::Write, path::Path};

/// What an export calls the record of what was written.
pub(super) const RECORD: &str = "written";

/// A disk that is backed up.
#[derive(Debug)]
pub(super) struct Ordered<'a> {
	/// The target's name, which is that of its export, too.
	pub(super) name: &'a str,
	/// An image for what the guest overwrites.
	pub(super) scratch: &'a Path,
	/// Whether what was written since the base is asked for.
	pub(super) is_recorded: bool,
	/// Whether the checkpoint is to record it.
	pub(super) is_recordable: bool,
}

/// A backup of these disks, served on a socket. Those that are recorded tell what was written since
/// the base.
pub(super) fn backup(
	socket: &Path,
	disks: &[Ordered<'_>],
	all: &[Target],
	base: Option<Checkpoint>,
) -> String {
	let mut xml = String::from("<domainbackup mode='pull'>");
	if let Some(base) = base {
		push(&mut xml, format_args!("<incremental>{}</incremental>", checkpoints::name(base)));
	}
	let socket = escape(&socket.to_string_lossy());
	push(&mut xml, format_args!("<server transport='unix' socket='{socket}'/><disks>"));
	for disk in disks {
		let mode = match base.filter(|_| disk.is_recorded) {
			Some(base) => format!(
				"backupmode='incremental' incremental='{}' exportbitmap='{RECORD}'",
				checkpoints::name(base)
			),
			None => "backupmode='full'".to_owned(),
		};
		let (name, scratch) = (escape(disk.name), escape(&disk.scratch.to_string_lossy()));
		push(
			&mut xml,
			format_args!(
				"<disk name='{name}' backup='yes' type='file' {mode} exportname='{name}'>\
				<driver type='qcow2'/><scratch file='{scratch}'/></disk>"
			),
		);
	}
	for target in others(disks, all) {
		push(&mut xml, format_args!("<disk name='{}' backup='no'/>", escape(&target.name)));
	}
	xml.push_str("</disks></domainbackup>");
	xml
}

/// A checkpoint from which on libvirt records what is written to those disks that can be recorded.
pub(super) fn checkpoint(new: Checkpoint, disks: &[Ordered<'_>], all: &[Target]) -> String {
	let mut xml = format!("<domaincheckpoint><name>{}</name><disks>", checkpoints::name(new));
	for disk in disks {
		let kind = if disk.is_recordable { "bitmap" } else { "no" };
		let name = escape(disk.name);
		push(&mut xml, format_args!("<disk name='{name}' checkpoint='{kind}'/>"));
	}
	for target in others(disks, all) {
		push(&mut xml, format_args!("<disk name='{}' checkpoint='no'/>", escape(&target.name)));
	}
	xml.push_str("</disks></domaincheckpoint>");
	xml
}

/// Those that are not backed up. What is not named would be up to libvirt.
fn others<'a>(
	disks: &'a [Ordered<'_>],
	all: &'a [Target],
) -> impl Iterator<Item = &'a Target> + use<'a> {
	all.iter().filter(|target| disks.iter().all(|disk| disk.name != target.name))
}

fn push(xml: &mut String, text: std::fmt::Arguments<'_>) {
	xml.write_fmt(text).expect("a string takes all that is written to it");
}

fn escape(text: &str) -> String {
	let mut escaped = String::with_capacity(text.len());
	for letter in text.chars() {
		match letter {
			'&' => escaped.push_str("&amp;"),
			'<' => escaped.push_str("&lt;"),
			'>' => escaped.push_str("&gt;"),
			'\'' => escaped.push_str("&apos;"),
			'"' => escaped.push_str("&quot;"),
			// Unescaped, an attribute would have a space for them.
			'\t' | '\n' | '\r' => push(&mut escaped, format_args!("&#{};", u32::from(letter))),
			letter => escaped.push(letter),
		}
	}
	escaped
}

#[cfg(test)]
mod tests {
	use super::*;
	use roxmltree::Document;

	fn target(name: &str) -> Target {
		Target {
			name: name.into(),
			source: None,
			is_disk: true,
			is_read_only: false,
			format: "qcow2".into(),
			is_qcow2: true,
			is_recordable: true,
			is_on_thread: false,
		}
	}

	#[test]
	fn a_path_says_the_same_however_odd_it_is() {
		let socket = "/s/<&'\">\n\t/nbd";
		let xml = backup(Path::new(socket), &[], &[], None);
		let document = Document::parse(&xml).unwrap();
		let server = document.root_element().first_child().unwrap();
		assert_eq!(server.attribute("socket"), Some(socket));
	}

	#[test]
	fn every_disk_of_the_domain_is_named() {
		let ordered = |name, is_recorded| Ordered {
			name,
			scratch: Path::new("/s/scratch"),
			is_recorded,
			is_recordable: is_recorded,
		};
		let disks = [ordered("vda", true), ordered("vdb", false)];
		let all = ["vda", "vdb", "sda"].map(target);
		let [base, new] = [Checkpoint::new(), Checkpoint::new()];
		let xml = backup(Path::new("/s/nbd"), &disks, &all, Some(base));
		let mode = format!("backupmode='incremental' incremental='pbk-{base}'");
		assert!(
			xml.contains(&format!("<disk name='vda' backup='yes' type='file' {mode}")),
			"{xml}"
		);
		assert!(
			xml.contains("<disk name='vdb' backup='yes' type='file' backupmode='full'"),
			"{xml}"
		);
		assert!(xml.contains("<disk name='sda' backup='no'/>"), "{xml}");
		let full = backup(Path::new("/s/nbd"), &disks, &all, None);
		assert!(!full.contains("incremental"), "{full}");
		let xml = checkpoint(new, &disks, &all);
		for (name, kind) in [("vda", "bitmap"), ("vdb", "no"), ("sda", "no")] {
			assert!(xml.contains(&format!("<disk name='{name}' checkpoint='{kind}'/>")), "{xml}");
		}
	}
}
