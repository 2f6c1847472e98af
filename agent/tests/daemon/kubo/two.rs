//! Two real daemons at once: that of `BACKUP_KUBO_API`, and that of `BACKUP_KUBO_API_2`, with
//! `BACKUP_KUBO_TOKEN_2` if it wants a token.

use super::*;

/// Both, if the environment names two.
fn find_both() -> Option<[Kubo; 2]> {
	let second = || Kubo::named("BACKUP_KUBO_API_2", "BACKUP_KUBO_TOKEN_2");
	Kubo::find().and_then(|first| Some([first, second()?]))
}

/// An agent with these as replicas.
fn configure(world: &World, kubos: [&Kubo; 2], quorum: u32) {
	let mut more = format!(
		"node_rpc = \"{}\"\nrestore_format = \"raw\"\nquorum = {quorum}\n",
		world.node.url()
	);
	for (number, kubo) in kubos.into_iter().enumerate() {
		more.push_str(&format!("[[kubo]]\nname = \"real-{number}\"\nurl = \"{}\"\n", kubo.url));
		if let Some(token) = &kubo.token {
			let path = world.path(&format!("token-{number}"));
			write_private(&path, token);
			more.push_str(&format!("token_file = {path:?}\n"));
		}
	}
	world.configure(&more);
}

fn views(world: &World) -> [Json; 2] {
	let view = world.get("/v1/replicas").json();
	[view["replicas"][0].clone(), view["replicas"][1].clone()]
}

fn wait_until_whole(world: &World) -> [Json; 2] {
	until("both replicas to be whole", || {
		let views = views(world);
		views.iter().all(|view| view["state"] == "whole").then_some(views)
	})
}

/// The same daemon where nobody is.
fn away(kubo: &Kubo) -> Kubo {
	Kubo {
		url: "http://127.0.0.1:1".to_owned(),
		token: kubo.token.clone(),
		client: kubo.client.clone(),
		roots: RefCell::default(),
	}
}

#[test]
fn a_quorum_of_three_takes_two_real_daemons_of_which_an_emptied_one_is_filled_again() {
	let Some([first, second]) = find_both() else { return };
	let mut world = World::prepare();
	configure(&world, [&first, &second], 3);
	world.start_agent();
	let mut order = world.machine(7, &noise(11, 9 * MIB));
	let root = first.take(&world, &mut order, 0);
	second.roots.borrow_mut().push(root);
	for kubo in [&first, &second] {
		assert!(kubo.is_whole(&root) && kubo.pin(&root).is_some(), "it is told too early");
		assert_eq!(kubo.wait_for_roots_alone(&root), 1);
	}
	let blocks = blocks_of(&world, &root);
	world.kill();
	second.empty(&root, blocks);
	assert!(first.is_whole(&root) && !second.is_whole(&root));
	world.start_agent();
	until("the emptied one to be filled", || second.pin(&root));
	let [of_first, of_second] = wait_until_whole(&world);
	assert!(second.is_whole(&root));
	assert_eq!(of_first["sent_bytes"], 0, "it lacked nothing");
	assert!(of_second["sent_bytes"].as_u64().unwrap() > 9 << 20, "{of_second}");
}

#[test]
fn with_one_of_two_real_daemons_away_a_quorum_of_two_is_told_and_it_is_filled_when_it_is_back() {
	let Some([first, second]) = find_both() else { return };
	let mut world = World::prepare();
	configure(&world, [&away(&first), &second], 3);
	world.start_agent();
	let mut order = world.machine(7, &noise(12, 3 * MIB));
	let wanted = snapshots([order.clone()]);
	// Two of three are too few.
	until("the other one to hold it", || {
		assert!(world.reconcile(&wanted).snapshots.is_empty());
		(views(&world)[1]["held"] == 1).then_some(())
	});
	assert!(world.reconcile(&wanted).snapshots.is_empty());
	world.kill();
	configure(&world, [&away(&first), &second], 2);
	world.start_agent();
	let root = second.take(&world, &mut order, 0);
	let [of_first, of_second] = views(&world);
	assert_eq!((&of_first["held"], &of_second["held"]), (&0.into(), &1.into()), "{of_first}");
	assert!(of_first["error"].as_str().unwrap().contains("it cannot be reached"), "{of_first}");
	assert_eq!(first.pin(&root), None);
	world.kill();
	configure(&world, [&first, &second], 2);
	first.roots.borrow_mut().push(root);
	world.start_agent();
	let [_, of_second] = wait_until_whole(&world);
	assert!(first.is_whole(&root) && second.is_whole(&root));
	assert_eq!(of_second["sent_bytes"], 0, "it lacked nothing");
}

#[test]
fn an_emptied_store_comes_back_from_two_real_daemons_of_which_each_has_lost_something_else() {
	let Some([first, second]) = find_both() else { return };
	let mut world = World::prepare();
	configure(&world, [&first, &second], 3);
	world.start_agent();
	let bytes = noise(13, 9 * MIB);
	let mut order = world.machine(7, &bytes);
	let root = first.take(&world, &mut order, 0);
	second.roots.borrow_mut().push(root);
	for kubo in [&first, &second] {
		kubo.wait_for_roots_alone(&root);
	}
	let chunks = blocks_of(&world, &root).into_iter().filter(|cid| cid.codec() == BlockCodec::Raw);
	let chunks: Vec<Cid> = chunks.collect();
	world.kill();
	let half = chunks.len() / 2;
	// The other CID of a hash, which no pin guards.
	first.lose(chunks[..half].iter().map(|cid| Cid::dag_cbor(cid.digest())));
	second.lose(chunks[half..].iter().map(|cid| Cid::dag_cbor(cid.digest())));
	assert!(!first.is_whole(&root) && !second.is_whole(&root));
	super::empty(&world);
	world.start_agent();
	let folder = world.restore(&restore_of(&order, root, 1)).unwrap();
	assert!(fs::read(folder.join("vda.raw")).unwrap() == bytes, "the disks differ");
}
