//! A real daemon whose disk goes bad: `BACKUP_KUBO_REPO` is the folder of that of `BACKUP_KUBO_API`,
//! with blocks in files of their own, as Kubo keeps them unless it is told otherwise.

use super::*;
use data_encoding::BASE32_NOPAD;
use std::path::{Path, PathBuf};

/// The file in which a daemon keeps a block: by its multihash, in a folder by the end of that.
fn file_of(repo: &Path, cid: &Cid) -> PathBuf {
	let name = BASE32_NOPAD.encode(&cid.as_bytes()[2..]);
	let shard = &name[name.len() - 3..name.len() - 1];
	repo.join("blocks").join(shard).join(format!("{name}.data"))
}

#[test]
fn a_block_that_went_bad_at_a_real_daemon_is_told_of_and_replaced_below_its_pin() {
	let Some(kubo) = Kubo::find() else { return };
	let Some(repo) = env::var_os("BACKUP_KUBO_REPO").map(PathBuf::from) else {
		let words =
			"SKIPPED a_block_that_went_bad…: BACKUP_KUBO_REPO names no folder of a daemon\n";
		std::io::stderr().write_all(words.as_bytes()).unwrap();
		return;
	};
	let mut world = kubo.start(2);
	let mut order = world.machine(7, &noise(14, MIB / 4));
	let root = kubo.take(&world, &mut order, 0);
	kubo.wait_for_roots_alone(&root);
	let blocks = blocks_of(&world, &root);
	let chunks: Vec<&Cid> = blocks.iter().filter(|cid| cid.codec() == BlockCodec::Raw).collect();
	world.kill();
	for cid in &chunks {
		let path = file_of(&repo, cid);
		let mut block = fs::read(&path).unwrap();
		block[0] ^= 1;
		fs::write(&path, block).unwrap();
	}
	world.start_agent();
	until("all that it fetches to be sound", || {
		let view = replica(&world);
		let is_mended = view["mended"].as_u64().unwrap() > 0;
		(is_mended && view["state"] == "whole").then_some(())
	});
	assert!(world.log().contains("they are replaced at the next look"), "{}", world.log());
	let is_sound = |cid: &&&Cid| fs::read(file_of(&repo, cid)).unwrap() == world.block(cid).body;
	let sound = chunks.iter().filter(is_sound).count() as u64;
	assert_eq!(replica(&world)["mended"], sound);
	assert!(kubo.is_whole(&root) && kubo.pin(&root).is_some());
	// What no look has met yet must not stay for the next test.
	world.kill();
	for cid in &chunks {
		let path = file_of(&repo, cid);
		if fs::metadata(&path).is_ok() {
			kubo.lose([Cid::dag_cbor(cid.digest())].into_iter());
		}
	}
}
