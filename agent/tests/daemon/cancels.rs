//! Backups of a machine that runs, each ended at another moment because the chain does not want it any
//! more: nothing of them is left, in the machine or beside it.

use crate::{
	machine::{Machine, pattern},
	orders::{nothing, restore_of, snapshots},
	running::last_reading,
	world::{World, until},
};
use backup_agent::sources::{Hooks, ImageFormat, Vm};
use backup_primitives::{
	Cid,
	job::{Desired, LineagePlace, SnapshotOrder},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, thread, time::Duration};

const MIB: usize = 1 << 20;

/// When a backup is ended.
#[derive(Clone, Copy, Debug)]
enum Moment {
	/// While the hook before it runs.
	InHook,
	/// So many milliseconds after it was ordered.
	After(u64),
	/// When a part of the disk is read.
	InMiddle,
}

const MOMENTS: [Moment; 8] = [
	Moment::InHook,
	Moment::After(0),
	Moment::After(5),
	Moment::After(15),
	Moment::After(40),
	Moment::After(100),
	Moment::After(250),
	Moment::InMiddle,
];

/// The chain has recorded this place by another hand.
fn past(order: &SnapshotOrder) -> Desired {
	let place = LineagePlace {
		lineage: order.lineage.clone(),
		next: order.sequence + 1,
		cadence: None,
		copied: None,
	};
	Desired { lineages: vec![place].try_into().unwrap(), ..nothing() }
}

/// The place after it.
fn next(order: &SnapshotOrder, parent: Option<Cid>) -> SnapshotOrder {
	let (sequence, slot) = (order.sequence + 1, order.slot + 1);
	SnapshotOrder { sequence, slot, parent, ..order.clone() }
}

/// A machine whose backups are ended early, its disk as it should be, and the next order.
struct Story<'w> {
	world: &'w World,
	machine: Machine,
	disk: Vec<u8>,
	order: SnapshotOrder,
	/// What backups were at when they were ended.
	stages: BTreeSet<String>,
}

impl Story<'_> {
	/// Order a backup, end it at a moment, and find nothing of it.
	fn cancel(&mut self, moment: Moment, turn: usize) {
		let Self { world, machine, disk, order, .. } = self;
		machine.write(turn as u8 | 1, (turn * MIB) as u64, 4096);
		disk[turn * MIB..turn * MIB + 4096].fill(turn as u8 | 1);
		let entered = world.path(&format!("entered-{turn}"));
		let go = world.path(&format!("go-{turn}"));
		let script = format!("touch {entered:?}; while [ ! -e {go:?} ]; do sleep 0.01; done");
		let hooks = matches!(moment, Moment::InHook).then(|| Hooks {
			before: ["/bin/sh", "-c", &script].map(str::to_owned).into(),
			after: Vec::new(),
			seconds: 100,
		});
		let vm = Vm { hooks, ..machine.vm() };
		fs::write(world.path("state/vms/vm-7.toml"), vm.describe()).unwrap();

		world.reconcile(&snapshots([order.clone()]));
		match moment {
			Moment::InHook => until("the hook to run", || entered.exists().then_some(())),
			Moment::After(millis) => thread::sleep(Duration::from_millis(millis)),
			Moment::InMiddle => world.wait_for_progress(),
		}
		let job = world.running_job().expect("a backup takes seconds");
		self.stages.extend(job["stage"].as_str().map(str::to_owned));
		world.reconcile(&past(order));
		fs::write(go, "").unwrap();
		until("the backup to end", || world.running_job().is_none().then_some(()));
		*order = next(order, order.parent);
		self.assert_nothing_is_left(moment);
	}

	fn assert_nothing_is_left(&self, moment: Moment) {
		let Self { world, machine, order, .. } = self;
		assert!(machine.is_running(), "{moment:?}");
		assert_eq!(machine.leftovers(), [""; 0], "{moment:?}");
		let exports = machine.monitor().run("query-block-exports", json!({})).unwrap();
		assert_eq!(exports, json!([]), "{moment:?}");
		let scratch = fs::read_dir(world.path("state/scratch")).unwrap().count();
		assert_eq!(scratch, 0, "{moment:?}");
		// That of the last backup that is there, with its witness, records on.
		let blocks = machine.monitor().run("query-block", json!({})).unwrap();
		let bitmaps = blocks[0]["inserted"]["dirty-bitmaps"].as_array().cloned();
		let bitmaps = bitmaps.unwrap_or_default();
		assert_eq!(bitmaps.len(), if order.parent.is_some() { 2 } else { 0 }, "{bitmaps:?}");
		let recording = bitmaps.iter().filter(|bitmap| bitmap["recording"] == true).count();
		assert_eq!(recording, bitmaps.len() / 2, "{moment:?}");
		assert!(bitmaps.iter().all(|bitmap| bitmap["busy"] != Value::Bool(true)), "{moment:?}");
	}

	/// Let a backup come to its end.
	fn take(&mut self, restore: u64) -> Cid {
		let taken = self.world.take(&self.order).unwrap().cid;
		let folder = self.world.restore(&restore_of(&self.order, taken, restore)).unwrap();
		let found = fs::read(folder.join("disk0.raw")).unwrap();
		assert!(found == self.disk, "the disks differ");
		self.order = next(&self.order, Some(taken));
		taken
	}
}

#[test]
fn a_backup_that_is_cancelled_at_any_moment_leaves_nothing() {
	let mut world = World::prepare();
	// Slow, so that it has a middle.
	world.configure("read_bytes_per_second = 8388608\nthreads = 1\nrestore_format = \"raw\"\n");
	world.start_agent();
	let machine = Machine::start(ImageFormat::Qcow2);
	let order = world.running_machine(7, &machine.vm());
	let stages = BTreeSet::new();
	let mut story = Story { world: &world, machine, disk: pattern(0), order, stages };
	for (turn, moment) in MOMENTS.into_iter().enumerate() {
		story.cancel(moment, turn);
	}
	story.take(1);
	assert!(!last_reading(&world).1, "all is read: no backup had ended well");
	for (turn, moment) in MOMENTS.into_iter().enumerate() {
		story.cancel(moment, MOMENTS.len() + turn);
	}
	story.take(2);
	let (read_bytes, is_recorded) = last_reading(&world);
	assert!(is_recorded && read_bytes < 24 << 20, "{read_bytes} bytes");
	let stages = &story.stages;
	assert!(stages.contains("hooks") && stages.contains("read"), "{stages:?}");
	assert_eq!(world.roots().len(), 2);
}
