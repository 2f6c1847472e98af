//! Where the blocks of a snapshot are, and what lets its owner in there.
//!
//! A gateway serves everybody, or only those whom the chain knows by the key that they prove to hold.
//! To prove that, its own key is needed, which never comes from itself: it stands behind a `#` in the
//! address that the user names, or on the chain. The chain is asked only for what is not known yet.

use crate::{
	args::{From, GatewayAddress, Global, Unlock, Which},
	chain::{AtBlock, Chain, reads},
	commands::{
		history::{Found, find},
		key::{Identities, recipient_of},
	},
	error::CliError,
	output::Output,
	progress::Bar,
	secret::parse_account,
};
use age::x25519::Identity;
use backup_agent::peers::{
	GatewayClient, PeerError, Reach,
	pass::{AnyReader, Pass},
};
use backup_primitives::{Cid, OpaqueId, Reader, Recipient};
use std::{mem, thread};
use subxt::utils::AccountId32;
use tokio::sync::oneshot;

/// A snapshot, and the gateways that may have it; none where its place is a store or a file.
pub(super) struct Located {
	pub(super) root: Cid,
	pub(super) doors: Vec<Door>,
	/// Which addresses may be connected to.
	pub(super) reach: Reach,
	/// What opens it.
	pub(super) identities: Identities,
}

/// A gateway, with what is shown there.
pub(super) struct Door {
	pub(super) url: String,
	pub(super) pass: Option<Pass>,
}

/// Find a snapshot that is to be opened.
pub(super) async fn locate_sealed(
	unlock: &Unlock,
	global: &Global,
	output: Output,
) -> Result<Located, CliError> {
	let identities = Identities::of(Some(&unlock.identity));
	locate(&unlock.which, &unlock.from, identities, global, output).await
}

/// Find a snapshot, and who lets the holder of these identities in.
pub(super) async fn locate(
	which: &Which,
	from: &From,
	identities: Identities,
	global: &Global,
	output: Output,
) -> Result<Located, CliError> {
	let _bar = Bar::waiting(output, "the chain and the gateways");
	let found = match (which.root, &which.machine) {
		(Some(root), _) => return locate_root(root, from, identities, global, output).await,
		(None, Some(machine)) => find(machine, which.at, global).await?,
		(None, None) => unreachable!("the parser demands one of the two"),
	};
	locate_found(&found, from, identities, global, output).await
}

/// The same of a snapshot that was found on the chain.
pub(super) async fn locate_found(
	found: &Found,
	from: &From,
	identities: Identities,
	global: &Global,
	output: Output,
) -> Result<Located, CliError> {
	let root = found.root();
	if from.is_named() {
		let (named, reach) = (from.gateway.clone(), Reach::All);
		let asked = Asked { root, from, identities, global, output, found: Some(found) };
		return asked.locate(named, reach).await;
	}
	let copies = reads::copies(&found.at, found.request).await?;
	let gateways: Vec<_> = copies.into_iter().flat_map(|copy| copy.addresses()).collect();
	if gateways.is_empty() {
		return Err(CliError::NoHolder { request: found.request });
	}
	let reach = Reach::public_and(from.peer_network.iter().copied())
		.advising("name it with --gateway, or its network with --peer-network");
	let asked = Asked { root, from, identities, global, output, found: Some(found) };
	asked.locate(gateways, reach).await
}

/// The same of a root that is known.
pub(super) async fn locate_root(
	root: Cid,
	from: &From,
	identities: Identities,
	global: &Global,
	output: Output,
) -> Result<Located, CliError> {
	if !from.is_named() {
		return Err(CliError::NoPlace);
	}
	let asked = Asked { root, from, identities, global, output, found: None };
	asked.locate(from.gateway.clone(), Reach::All).await
}

/// What is known before gateways are asked.
struct Asked<'a> {
	root: Cid,
	from: &'a From,
	identities: Identities,
	global: &'a Global,
	output: Output,
	found: Option<&'a Found>,
}

/// Most accounts with one key of which it is asked whether they are let in.
const OWNERS_MAX: usize = 64;

/// Who reads, as the chain knows it, and the secret of its key.
struct Known {
	reader: AnyReader,
	identity: Identity,
}

impl Known {
	/// A gateway with what is shown there. Nothing if its key is not known, or none.
	fn door(&self, gateway: GatewayAddress) -> Option<Door> {
		let pass = Pass::new(&self.reader, &self.identity, &gateway.key?)?;
		Some(Door { url: gateway.url, pass: Some(pass) })
	}

	/// An owner, by its account.
	fn owner(account: &AccountId32, identity: &Identity) -> Self {
		let id = OpaqueId::of(&account.0).expect("an account has as many bytes as an id may have");
		Self { reader: Reader::Owner(id), identity: identity.clone() }
	}

	/// Whom the owner of a request has let in.
	fn grantee(request: u64, identity: &Identity) -> Self {
		let id = OpaqueId::of(&request).expect("a number has fewer bytes than an id may have");
		Self { reader: Reader::Grantee(id), identity: identity.clone() }
	}
}

impl Asked<'_> {
	/// Those of the gateways that are of use.
	async fn locate(
		self,
		gateways: Vec<GatewayAddress>,
		reach: Reach,
	) -> Result<Located, CliError> {
		let mut doors = Vec::new();
		if !gateways.is_empty() {
			let has_identity = !self.identities.get()?.is_empty();
			let (keyed, plain): (Vec<_>, Vec<_>) =
				gateways.into_iter().partition(|gateway| gateway.key.is_some() && has_identity);
			let (open, closed) = self.knock(plain, &reach).await;
			doors.extend(open.into_iter().map(|url| Door { url, pass: None }));
			let wanted = [keyed, closed].concat();
			if !wanted.is_empty() {
				self.enter(wanted, &reach, &mut doors).await?;
			}
		}
		Ok(Located { root: self.root, doors, reach, identities: self.identities })
	}

	/// Ask gateways without showing anything. Gives those that may serve us, and those that do not.
	async fn knock(
		&self,
		gateways: Vec<GatewayAddress>,
		reach: &Reach,
	) -> (Vec<String>, Vec<GatewayAddress>) {
		let asked: Vec<_> = gateways
			.into_iter()
			.map(|gateway| (is_closed(&gateway.url, None, reach, self.root), gateway))
			.collect();
		let (mut open, mut closed) = (Vec::new(), Vec::new());
		for (answer, gateway) in asked {
			match answer.await {
				Ok(true) => closed.push(gateway),
				// What else may be wrong with it is told when it is of no use.
				Ok(false) | Err(_) => open.push(gateway.url),
			}
		}
		(open, closed)
	}

	/// Make passes for gateways that do not serve everybody. An error if nobody at all is left to ask.
	async fn enter(
		&self,
		gateways: Vec<GatewayAddress>,
		reach: &Reach,
		doors: &mut Vec<Door>,
	) -> Result<(), CliError> {
		match self.passes(&gateways, reach).await {
			Ok(found) => doors.extend(found),
			Err(error) => {
				// One with a key may serve everybody all the same.
				let keyed = gateways.into_iter().filter(|gateway| gateway.key.is_some()).collect();
				let (open, _) = self.knock(keyed, reach).await;
				doors.extend(open.into_iter().map(|url| Door { url, pass: None }));
				if doors.is_empty() {
					return Err(error);
				}
				self.output.warn(format_args!("left out: {error}"));
			}
		}
		Ok(())
	}

	async fn passes(
		&self,
		gateways: &[GatewayAddress],
		reach: &Reach,
	) -> Result<Vec<Door>, CliError> {
		let closed = |reason: &str| CliError::GatewayClosed {
			urls: gateways
				.iter()
				.map(|gateway| gateway.url.as_str())
				.collect::<Vec<_>>()
				.join(", "),
			reason: reason.to_owned(),
		};
		let identities = self.identities.get()?;
		if identities.is_empty() {
			return Err(closed("no --identity was given that could be shown there"));
		}
		let named = self.from.owner.as_deref().map(parse_account).transpose()?;
		let are_keys_known = gateways.iter().all(|gateway| gateway.key.is_some());
		let doors = match named {
			Some(account) if are_keys_known => {
				self.try_all(&account, identities, gateways.to_vec(), reach).await
			}
			named => {
				let at = self.at().await?;
				let known = self.known(&at, named, identities).await?.ok_or_else(|| {
					closed(
						"the chain knows none of these keys as an owner's, or as one's that an owner has let in",
					)
				})?;
				with_keys(&at, gateways).await?.into_iter().filter_map(|g| known.door(g)).collect()
			}
		};
		match doors.is_empty() {
			false => Ok(doors),
			true => Err(closed("no node on the chain has this address")),
		}
	}

	/// As whom the chain knows one of the identities: as the account that is named; or as the owner
	/// of the machine, as whom that one has let in, or as anybody who is let in.
	async fn known(
		&self,
		at: &AtBlock,
		named: Option<AccountId32>,
		identities: &[Identity],
	) -> Result<Option<Known>, CliError> {
		let recipients: Vec<Recipient> = identities.iter().map(recipient_of).collect();
		if let Some(account) = named {
			let place = registered(at, &account, &recipients).await?;
			return Ok(place.map(|place| Known::owner(&account, &identities[place])));
		}
		if let Some(Found { owner, request, .. }) = self.found {
			if let Some(place) = registered(at, owner, &recipients).await? {
				return Ok(Some(Known::owner(owner, &identities[place])));
			}
			let grants = reads::grants(at, *request).await?;
			let is_let_in = |key: &Recipient| grants.iter().any(|grant| grant.is_for(key));
			if let Some(place) = recipients.iter().position(is_let_in) {
				return Ok(Some(Known::grantee(*request, &identities[place])));
			}
		}
		let owners = reads::owners_of_key(at, &recipients).await?;
		for (account, place) in owners.iter().take(OWNERS_MAX) {
			if reads::is_reader(at, account, &recipients[*place]).await? {
				return Ok(Some(Known::owner(account, &identities[*place])));
			}
		}
		// The gateways may know more.
		Ok(owners.first().map(|(account, place)| Known::owner(account, &identities[*place])))
	}

	/// Passes for gateways whose keys are known. Without a chain nobody but the gateway can say which of
	/// the identities is registered, so each is shown there until one is let in. The last is shown with what
	/// is asked for.
	async fn try_all(
		&self,
		account: &AccountId32,
		identities: &[Identity],
		mut gateways: Vec<GatewayAddress>,
		reach: &Reach,
	) -> Vec<Door> {
		let mut doors = Vec::new();
		for (index, identity) in identities.iter().enumerate() {
			let known = Known::owner(account, identity);
			let is_last = index + 1 == identities.len();
			let shown = mem::take(&mut gateways).into_iter().filter_map(|gateway| {
				let door = known.door(gateway.clone())?;
				let pass = door.pass.clone();
				let answer = (!is_last).then(|| is_closed(&door.url, pass, reach, self.root));
				Some((gateway, door, answer))
			});
			// All are asked before the first is waited for.
			for (gateway, door, answer) in shown.collect::<Vec<_>>() {
				let is_closed = match answer {
					Some(answer) => answer.await.unwrap_or(true),
					None => false,
				};
				match is_closed {
					true => gateways.push(gateway),
					false => doors.push(door),
				}
			}
		}
		doors
	}

	async fn at(&self) -> Result<AtBlock, CliError> {
		match self.found {
			Some(found) => Ok(found.at.clone()),
			None => Chain::connect(self.global).await?.best().await,
		}
	}
}

/// Whether a gateway does not serve whoever shows this, or nothing. It is asked by a thread of its own, for which nobody
/// waits who has been told to end.
fn is_closed(url: &str, pass: Option<Pass>, reach: &Reach, root: Cid) -> oneshot::Receiver<bool> {
	let (sender, receiver) = oneshot::channel();
	let (url, reach) = (url.to_owned(), reach.clone());
	thread::spawn(move || {
		let gateway = GatewayClient::new(reach).ok().and_then(|all| all.gateway(&url, pass).ok());
		let answer = gateway.map(|gateway| gateway.block(&root));
		// Whoever asked may have gone.
		let _ = sender.send(matches!(answer, Some(Err(PeerError::Refused(_)))));
	});
	receiver
}

/// Which of these keys an account registered.
async fn registered(
	at: &AtBlock,
	account: &AccountId32,
	recipients: &[Recipient],
) -> Result<Option<usize>, CliError> {
	let keys = reads::owner_keys(at, account).await?;
	let is_registered = |recipient: &Recipient| keys.iter().any(|key| key.is(recipient));
	Ok(recipients.iter().position(is_registered))
}

/// The gateways with the keys that nodes have on the chain. One that several nodes name is there once
/// for each.
async fn with_keys(
	at: &AtBlock,
	gateways: &[GatewayAddress],
) -> Result<Vec<GatewayAddress>, CliError> {
	let (mut known, unknown): (Vec<_>, Vec<_>) =
		gateways.iter().cloned().partition(|gateway| gateway.key.is_some());
	if unknown.is_empty() {
		return Ok(known);
	}
	for registered in reads::gateways(at).await? {
		if unknown.iter().any(|gateway| gateway.is_at(&registered.url)) {
			known.push(registered);
		}
	}
	Ok(known)
}
