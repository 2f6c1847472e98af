//! The shape of a transaction, and how the runtime makes one itself.
//!
//! An offchain worker submits *authorized* transactions: without an account and
//! without a fee, judged by the called pallet alone. [`frame_system::AuthorizeCall`]
//! stands first because the extensions after it look at the origin that it sets.

use crate::{Address, Runtime, RuntimeCall, Signature};
use frame_metadata_hash_extension::CheckMetadataHash;
use frame_system::offchain::{
	CreateAuthorizedTransaction, CreateTransaction, CreateTransactionBase,
};
use pallet_transaction_payment::ChargeTransactionPayment;
use sp_runtime::generic::{self, Era};

/// What is checked before and settled after every transaction, in this order.
pub type TxExtension = (
	frame_system::AuthorizeCall<Runtime>,
	frame_system::CheckNonZeroSender<Runtime>,
	frame_system::CheckSpecVersion<Runtime>,
	frame_system::CheckTxVersion<Runtime>,
	frame_system::CheckGenesis<Runtime>,
	frame_system::CheckMortality<Runtime>,
	frame_system::CheckNonce<Runtime>,
	frame_system::CheckWeight<Runtime>,
	ChargeTransactionPayment<Runtime>,
	CheckMetadataHash<Runtime>,
	frame_system::WeightReclaim<Runtime>,
);

/// A transaction as it comes in, its signature not yet checked.
pub type UncheckedExtrinsic =
	generic::UncheckedExtrinsic<Address, RuntimeCall, Signature, TxExtension>;

impl<LocalCall> CreateTransactionBase<LocalCall> for Runtime
where
	RuntimeCall: From<LocalCall>,
{
	type Extrinsic = UncheckedExtrinsic;
	type RuntimeCall = RuntimeCall;
}

impl<LocalCall> CreateTransaction<LocalCall> for Runtime
where
	RuntimeCall: From<LocalCall>,
{
	type Extension = TxExtension;

	fn create_transaction(call: RuntimeCall, extension: TxExtension) -> UncheckedExtrinsic {
		UncheckedExtrinsic::new_transaction(call, extension)
	}
}

impl<LocalCall> CreateAuthorizedTransaction<LocalCall> for Runtime
where
	RuntimeCall: From<LocalCall>,
{
	// Nonce, era and tip belong to an account; an authorized call has none. Its
	// lifetime and its place in a sequence are the called pallet's to decide.
	fn create_extension() -> TxExtension {
		(
			frame_system::AuthorizeCall::new(),
			frame_system::CheckNonZeroSender::new(),
			frame_system::CheckSpecVersion::new(),
			frame_system::CheckTxVersion::new(),
			frame_system::CheckGenesis::new(),
			frame_system::CheckMortality::from(Era::Immortal),
			frame_system::CheckNonce::from(0),
			frame_system::CheckWeight::new(),
			ChargeTransactionPayment::from(0),
			CheckMetadataHash::new(false),
			frame_system::WeightReclaim::new(),
		)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::{Executive, Hash};
	use codec::{Decode, Encode};
	use sp_runtime::{generic::Preamble, transaction_validity::TransactionSource};

	fn authorized_remark() -> UncheckedExtrinsic {
		let call = frame_system::Call::<Runtime>::remark { remark: b"hello".to_vec() };
		<Runtime as CreateAuthorizedTransaction<frame_system::Call<Runtime>>>::create_authorized_transaction(call.into())
	}

	#[test]
	fn authorized_transactions_carry_no_signature_and_survive_encoding() {
		let transaction = authorized_remark();
		assert!(matches!(transaction.preamble, Preamble::General(_)));
		let decoded = UncheckedExtrinsic::decode(&mut &transaction.encode()[..]).unwrap();
		assert_eq!(decoded, transaction);
	}

	#[test]
	fn fails_to_authorize_a_call_whose_pallet_does_not() {
		sp_io::TestExternalities::new_empty().execute_with(|| {
			let verdict = Executive::validate_transaction(
				TransactionSource::External,
				authorized_remark(),
				Hash::default(),
			);
			assert!(verdict.is_err(), "{verdict:?}");
		});
	}
}
