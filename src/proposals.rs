//! Proposals: a node asks for the backup of a machine that it runs.
//!
//! Where the owner's marketplace account wants backups, that is its standing consent, and the
//! backup begins at once. Else the wish is kept until the owner approves it, or its time is over.

use crate::{Compute, Config, Error, Event, Pallet, Proposal, Proposals};
use frame_support::ensure;
use sp_runtime::{DispatchResult, Saturating};

impl<T: Config> Pallet<T> {
	/// Keep the wish of a node. One that is kept already goes on from now.
	pub(crate) fn propose(node_id: T::NodeId, owner: T::AccountId, request_id: T::RequestId) {
		let expires_at = Self::now().saturating_add(Self::settings().proposal_lifetime);
		Proposals::<T>::insert(request_id, Proposal { node: node_id, expires_at });
		Self::deposit_event(Event::BackupProposed { node_id, owner, request_id, expires_at });
	}

	/// Begin the backup that a node proposed.
	pub(crate) fn approve(who: &T::AccountId, request_id: T::RequestId) -> DispatchResult {
		let proposal = Proposals::<T>::get(request_id).ok_or(Error::<T>::ProposalNotFound)?;
		ensure!(proposal.expires_at > Self::now(), Error::<T>::ProposalExpired);
		let request = T::Compute::request(&request_id).ok_or(Error::<T>::RequestNotRunning)?;
		// What the owner approves is what it was shown.
		ensure!(request.node == Some(proposal.node), Error::<T>::ProposalExpired);
		Self::begin_lineage(who, &request_id, None)
	}

	/// Take a proposal away: the owner's account at any time, everyone once it has expired.
	pub(crate) fn reject(who: &T::AccountId, request_id: T::RequestId) -> DispatchResult {
		let proposal = Proposals::<T>::get(request_id).ok_or(Error::<T>::ProposalNotFound)?;
		let is_owner = T::Compute::request(&request_id).is_some_and(|info| info.owner == *who);
		let is_over = proposal.expires_at <= Self::now();
		ensure!(is_owner || is_over, Error::<T>::NotAuthorized);
		Proposals::<T>::remove(request_id);
		Self::deposit_event(Event::ProposalRejected { request_id });
		Ok(())
	}
}
