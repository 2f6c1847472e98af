//! The council, and what counts as its decision.

use super::system::RuntimeBlockWeights;
use crate::{AccountId, DAYS, Runtime, RuntimeCall, RuntimeEvent, RuntimeOrigin};
use frame_support::{
	parameter_types,
	traits::{ConstU32, EitherOfDiverse},
	weights::Weight,
};
use frame_system::EnsureRoot;
use pallet_collective::{EnsureProportionAtLeast, EnsureProportionMoreThan, Instance1};
use sp_runtime::Perbill;

/// Decides on policy: root, or a motion that more than half of the council backs.
pub type Governance =
	EitherOfDiverse<EnsureRoot<AccountId>, EnsureProportionMoreThan<AccountId, Instance1, 1, 2>>;

/// Decides on the council itself: root, or two thirds of the council.
pub type GovernanceMajority =
	EitherOfDiverse<EnsureRoot<AccountId>, EnsureProportionAtLeast<AccountId, Instance1, 2, 3>>;

parameter_types! {
	pub const MotionDuration: crate::BlockNumber = 3 * DAYS;
	pub MaxProposalWeight: Weight =
		Perbill::from_percent(50) * RuntimeBlockWeights::get().max_block;
}

impl pallet_collective::Config<Instance1> for Runtime {
	type Consideration = ();
	type DefaultVote = pallet_collective::PrimeDefaultVote;
	type DisapproveOrigin = GovernanceMajority;
	type KillOrigin = GovernanceMajority;
	type MaxMembers = ConstU32<32>;
	type MaxProposalWeight = MaxProposalWeight;
	type MaxProposals = ConstU32<64>;
	type MotionDuration = MotionDuration;
	type Proposal = RuntimeCall;
	type RuntimeEvent = RuntimeEvent;
	type RuntimeOrigin = RuntimeOrigin;
	type SetMembersOrigin = GovernanceMajority;
	type WeightInfo = pallet_collective::weights::SubstrateWeight<Runtime>;
}

#[cfg(test)]
mod tests {
	use super::*;
	use frame_support::traits::EnsureOrigin;
	use pallet_collective::RawOrigin;
	use sp_keyring::Sr25519Keyring;

	fn motion(ayes: u32, members: u32) -> RuntimeOrigin {
		RawOrigin::<AccountId, Instance1>::Members(ayes, members).into()
	}

	#[test]
	fn boundary_of_a_council_decision() {
		assert!(Governance::ensure_origin(motion(1, 1)).is_ok());
		assert!(Governance::ensure_origin(motion(1, 2)).is_err());
		assert!(Governance::ensure_origin(motion(2, 3)).is_ok());
		assert!(GovernanceMajority::ensure_origin(motion(2, 3)).is_ok());
		assert!(GovernanceMajority::ensure_origin(motion(3, 5)).is_err());
	}

	#[test]
	fn fails_for_a_single_account() {
		let member = RuntimeOrigin::signed(Sr25519Keyring::Alice.to_account_id());
		assert!(Governance::ensure_origin(member.clone()).is_err());
		assert!(GovernanceMajority::ensure_origin(member).is_err());
	}

	#[test]
	fn root_decides_on_everything() {
		assert!(Governance::ensure_origin(RuntimeOrigin::root()).is_ok());
		assert!(GovernanceMajority::ensure_origin(RuntimeOrigin::root()).is_ok());
	}
}
