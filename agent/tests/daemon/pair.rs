//! Two agents: one has snapshots of a machine, the other holds copies of them.

use crate::{
	http,
	orders::nothing,
	world::{World, noise, until},
};
use backup_primitives::{
	Cid, OpaqueId, RecordedRoot, RootStatus,
	job::{CopyOrder, CopyResult, Desired, SnapshotOrder, Source},
	report::TakenSnapshot,
};
use std::{
	fs,
	net::{TcpListener, TcpStream},
	sync::Arc,
	thread,
};

pub(crate) const MIB: usize = 1 << 20;

/// The number of the node that holds copies. The host has number 1.
pub(crate) const HOLDER: u32 = 2;

/// A host with snapshots of one machine, and a holder that the host's chain knows.
pub(crate) struct Pair {
	pub(crate) host: World,
	pub(crate) at_host: Source,
	pub(crate) holder: World,
	pub(crate) at_holder: Source,
	pub(crate) order: SnapshotOrder,
	pub(crate) taken: Vec<TakenSnapshot>,
}

impl Pair {
	/// A machine with a disk of so many MiB, of which there is one snapshot.
	pub(crate) fn start(mib: usize) -> Self {
		Self::of(|host| host.machine(7, &noise(1, mib * MIB)))
	}

	/// A machine of which there is one snapshot.
	pub(crate) fn of(machine: impl FnOnce(&World) -> SnapshotOrder) -> Self {
		let (host, at_host) = World::start_among_others();
		let (holder, at_holder) = World::start_among_others();
		host.node.state().readers.push((HOLDER, at_holder.recipient));
		let order = machine(&host);
		let mut pair = Self { host, at_host, holder, at_holder, order, taken: Vec::new() };
		pair.take();
		pair
	}

	/// The next snapshot, which both chains record.
	pub(crate) fn take(&mut self) {
		self.order.sequence = self.taken.len() as u64;
		let taken = self.host.take(&self.order).unwrap();
		let root = RecordedRoot {
			lineage: self.order.lineage.clone(),
			sequence: self.order.sequence,
			cid: taken.cid,
		};
		for world in [&self.host, &self.holder] {
			world.node.state().recorded.push(root.clone());
			world.node.say(taken.cid, RootStatus::Retained);
		}
		self.taken.push(taken);
	}

	/// What the chain wants of the holder, with these places to fetch it.
	pub(crate) fn wanted(&self, sources: &[Source]) -> Desired {
		let order = CopyOrder {
			lineage: self.order.lineage.clone(),
			owner: self.order.owner.clone(),
			next: self.taken.len() as u64,
			sources: sources.to_vec().try_into().unwrap(),
		};
		Desired {
			node: OpaqueId::of(&HOLDER).unwrap(),
			copies: vec![order].try_into().unwrap(),
			..nothing()
		}
	}

	/// How much the holder says to have.
	pub(crate) fn held(&self, sources: &[Source]) -> Option<CopyResult> {
		self.holder.reconcile(&self.wanted(sources)).copies.into_iter().next()
	}

	pub(crate) fn wait_until_held(&self, sources: &[Source], to: u64) -> CopyResult {
		// The newest comes first.
		let is_whole = |held: &CopyResult| (held.from, held.to) == (0, to);
		until("a copy to be whole", || self.held(sources).filter(is_whole))
	}

	/// The chain names the holder to the host, which may fetch there.
	pub(crate) fn let_host_fetch(&self) {
		self.host.node.state().sources.push(self.at_holder.clone());
		for world in [&self.host, &self.holder] {
			world.node.state().readers.push((1, self.at_host.recipient));
		}
	}

	/// All blocks and pins of the host are lost.
	pub(crate) fn empty_host(&mut self) {
		self.host.kill();
		fs::remove_dir_all(self.host.path("state/blocks")).unwrap();
		fs::create_dir(self.host.path("state/blocks")).unwrap();
		self.host.start_agent();
	}

	pub(crate) fn fetched_bytes(&self) -> u64 {
		self.holder.get("/v1/copies").json()[0]["fetched_bytes"].as_u64().unwrap()
	}

	pub(crate) fn has_all(&self, world: &World) -> bool {
		let roots = world.roots();
		self.taken.iter().all(|taken| roots.contains(&taken.cid.to_string()))
	}
}

/// Ask a gateway for a block, as somebody who shows nothing.
pub(crate) fn ask(source: &Source, cid: &Cid, query: &str) -> http::Answer {
	let url = String::from_utf8(source.gateway.to_vec()).unwrap();
	let port = url.rsplit_once(':').unwrap().1.parse().unwrap();
	http::ask(port, "GET", &format!("/ipfs/{cid}?{query}"), &[], &[]).unwrap()
}

/// A gateway that does to each connection what it is told.
pub(crate) fn gateway(like: &Source, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Source {
	let listener = TcpListener::bind("127.0.0.1:0").unwrap();
	let url = format!("http://{}", listener.local_addr().unwrap());
	let serve = Arc::new(serve);
	thread::spawn(move || {
		for stream in listener.incoming() {
			let (stream, serve) = (stream.unwrap(), serve.clone());
			thread::spawn(move || serve(stream));
		}
	});
	Source { gateway: url.into_bytes().try_into().unwrap(), recipient: like.recipient }
}
