//! What the operator's own program is told.

use crate::{
	orders::nothing,
	world::{World, noise, until},
};
use backup_primitives::{
	FailureReason,
	job::{Copied, Desired, LineagePlace, SnapshotOrder},
};
use std::{
	fs,
	io::{BufRead, BufReader, Read, Write},
	net::TcpListener,
	sync::mpsc::{self, Receiver},
	thread,
};

/// A program that takes POSTs in, and answers each with the next of these statuses.
pub(crate) fn listen(statuses: &'static [u16]) -> (String, Receiver<serde_json::Value>) {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}/hook?token=s3cret", listener.local_addr().unwrap());
	let (send, received) = mpsc::channel();
	thread::spawn(move || {
		for status in statuses {
			let (mut stream, _) = listener.accept().unwrap();
			let mut reader = BufReader::new(stream.try_clone().unwrap());
			let mut length = 0;
			loop {
				let mut line = String::new();
				reader.read_line(&mut line).unwrap();
				let line = line.to_ascii_lowercase();
				if let Some(value) = line.strip_prefix("content-length:") {
					length = value.trim().parse().unwrap();
				}
				if line.trim().is_empty() {
					break;
				}
			}
			let mut body = vec![0; length];
			reader.read_exact(&mut body).unwrap();
			let head =
				format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
			stream.write_all(head.as_bytes()).unwrap();
			send.send(serde_json::from_slice(&body).unwrap()).unwrap();
		}
	});
	(url, received)
}

#[test]
fn a_failed_backup_is_told_again_until_somebody_takes_it_in() {
	let (url, received) = listen(&[500, 204]);
	let world = failed_backup(&url);
	let told = [(); 2].map(|()| until("the news", || received.try_recv().ok()));
	assert_eq!(told[0], told[1]);
	assert_eq!((&told[0]["event"], &told[0]["vm"]), (&"backup-failed".into(), &"vm-7".into()));
	assert_eq!(told[0]["reason"], "image-unreadable");
	assert_eq!(told[0]["node"], world.recipient().to_string());
	let words =
		format!("{}{}", world.log(), String::from_utf8_lossy(&world.run("check-config").stdout));
	assert!(!words.contains("s3cret"), "{words}");
	assert!(!told[0].to_string().contains(&hex::encode(world.secret())));
}

/// A world with an agent that tells of backups there, and has failed to take one.
fn failed_backup(url: &str) -> World {
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nwebhook_url = \"{url}\"\n"));
	world.start_agent();
	let order = world.machine(7, &noise(1, 1 << 20));
	fs::rename(world.image(7), world.path("away")).unwrap();
	assert_eq!(world.take(&order), Err(FailureReason::ImageUnreadable));
	world
}

#[test]
fn what_nobody_took_in_before_the_agent_ended_is_told_by_the_next() {
	let (url, received) = listen(&[500, 204]);
	let mut world = failed_backup(&url);
	let first = until("the news", || received.try_recv().ok());
	world.kill();
	world.start_agent();
	let second = until("the news again", || received.try_recv().ok());
	assert_eq!(second, first);
}

#[test]
fn what_an_address_did_not_take_in_goes_to_the_one_that_is_set_then() {
	let (url, received) = listen(&[500]);
	let world = failed_backup(&url);
	let first = until("the news", || received.try_recv().ok());
	let (url, received) = listen(&[204]);
	let node_rpc = world.node.url();
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nwebhook_url = \"{url}\"\n"));
	world.hang_up();
	assert_eq!(until("the news", || received.try_recv().ok()), first);
}

/// What the chain tells of the machine's history.
fn told_of(order: &SnapshotOrder, copied: Copied) -> Desired {
	let place = LineagePlace {
		lineage: order.lineage.clone(),
		next: 1,
		cadence: Some(100),
		copied: Some(copied),
	};
	Desired { lineages: vec![place].try_into().unwrap(), ..nothing() }
}

#[test]
fn a_backup_that_no_other_node_confirms_in_time_is_told() {
	let (url, received) = listen(&[204]);
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nwebhook_url = \"{url}\"\n"));
	world.start_agent();
	let order = world.machine(7, &noise(1, 1 << 20));
	world.take(&order).unwrap();
	world.reconcile(&told_of(&order, Copied { is_late: true, ..Copied::default() }));
	let told = until("the news", || received.try_recv().ok());
	assert_eq!((&told["event"], &told["vm"]), (&"backup-late".into(), &"vm-7".into()));
	assert_eq!((&told["request"], &told["reason"]), (&"7".into(), &serde_json::Value::Null));
	assert!(told["detail"].as_str().unwrap().contains("no other node"), "{told}");
	assert!(told["last_taken_at_ms"].is_u64() && told["last_confirmed_at_ms"].is_null(), "{told}");
	assert_eq!(world.get("/v1/machines").json()[0]["age"], "late");
}

/// No copies are wanted, and no backup is ordered any more.
#[test]
fn a_backup_that_is_not_taken_for_longer_than_usual_is_told() {
	let (url, received) = listen(&[204]);
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	world.configure(&format!("node_rpc = \"{node_rpc}\"\nwebhook_url = \"{url}\"\n"));
	world.start_agent();
	let first = world.machine(7, &noise(1, 1 << 20));
	let taken = world.take(&first).unwrap();
	let parent = Some(taken.cid);
	world.take(&SnapshotOrder { sequence: 1, slot: 1, parent, ..first }).unwrap();
	let told = until("the news, a minute after the usual interval", || received.try_recv().ok());
	assert_eq!((&told["event"], &told["vm"]), (&"backup-late".into(), &"vm-7".into()));
	assert!(told["detail"].as_str().unwrap().contains("has been taken in time"), "{told}");
	assert!(told["last_taken_at_ms"].as_u64() < told["at_ms"].as_u64(), "{told}");
}

/// Nobody listens: orders are answered all the same.
#[test]
fn a_webhook_that_is_not_there_holds_nothing_up() {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let port = listener.local_addr().unwrap().port();
	drop(listener);
	let mut world = World::prepare();
	let node_rpc = world.node.url();
	world.configure(&format!(
		"node_rpc = \"{node_rpc}\"\nwebhook_url = \"http://127.0.0.1:{port}/\"\n"
	));
	world.start_agent();
	world.reconcile(&nothing());
	let order = world.machine(7, &noise(1, 1 << 20));
	world.take(&order).unwrap();
	assert!(world.terminate().success());
}

#[test]
fn a_webhook_that_is_no_address_is_named() {
	let world = World::prepare();
	world.configure("webhook_url = \"hooks.example/s3cret\"\n");
	let words = world.refused_start();
	assert!(words.contains("webhook_url") && words.contains("https://"), "{words}");
	assert!(!words.contains("s3cret"), "{words}");
}
