//! Long lists, which the runtime gives page by page: it looks at a bounded number of entries for each,
//! whether any of them is asked for or not. No list of the whole chain is read over the wire.

use super::AtBlock;
use crate::{error::CliError, output::Output};
use subxt::{
	dynamic,
	ext::{frame_decode::runtime_apis::IntoEncodableValues, scale_decode::DecodeAsType},
};

/// Most pages of one list that are read. The runtime looks at 4,096 entries for each, so that is four
/// million; a node that says for ever that there are more is not believed.
const PAGES_MAX: usize = 1_024;

/// What was found in a list, and whether the list was too long to be gone through.
#[derive(Debug)]
pub(crate) struct Listed<T> {
	pub(crate) items: Vec<T>,
	pub(crate) truncated: bool,
}

impl<T> Listed<T> {
	/// All that there is, for whom a part of it is not enough.
	pub(crate) fn complete(self, what: &'static str) -> Result<Vec<T>, CliError> {
		match self.truncated {
			false => Ok(self.items),
			true => Err(CliError::TooMany { what }),
		}
	}

	/// What was found; a person is told if it may not be all.
	pub(crate) fn told(self, what: &str, output: Output) -> (Vec<T>, bool) {
		if self.truncated {
			output.warn(format_args!("not all: the chain has more {what} than are looked through"));
		}
		(self.items, self.truncated)
	}
}

/// One page of a list, and behind what the next one begins.
pub(super) type Page<Item, Cursor> = (Vec<Item>, Option<Cursor>);

/// All pages of a list, one after the other.
pub(super) async fn all_pages<Item, Cursor>(
	mut read: impl AsyncFnMut(Option<Cursor>) -> Result<Page<Item, Cursor>, CliError>,
) -> Result<Listed<Item>, CliError> {
	let (mut items, mut after) = (Vec::new(), None);
	for _ in 0..PAGES_MAX {
		let (page, next) = read(after).await?;
		items.extend(page);
		match next {
			None => return Ok(Listed { items, truncated: false }),
			Some(_) => after = next,
		}
	}
	Ok(Listed { items, truncated: true })
}

/// What a function of the runtime API answers, such as a page.
pub(super) async fn ask<Arguments, Answer>(
	at: &AtBlock,
	api: &str,
	function: &str,
	arguments: Arguments,
) -> Result<Answer, CliError>
where
	Arguments: IntoEncodableValues,
	Answer: DecodeAsType,
{
	let call =
		dynamic::runtime_api_call::<_, Answer>(api.to_owned(), function.to_owned(), arguments);
	Ok(at.runtime_apis().call(call).await.map_err(subxt::Error::from)?)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[tokio::test]
	async fn pages_are_put_together_until_no_more_is_named() {
		let mut asked = Vec::new();
		let listed = all_pages(async |after: Option<u32>| {
			asked.push(after);
			Ok(match after {
				None => (vec![1, 2], Some(2)),
				Some(2) => (vec![], Some(9)),
				Some(_) => (vec![10], None),
			})
		});
		let items = listed.await.unwrap().complete("numbers").unwrap();
		assert_eq!((items, asked), (vec![1, 2, 10], vec![None, Some(2), Some(9)]));
	}

	#[tokio::test]
	async fn a_list_that_never_ends_is_left_and_called_incomplete() {
		let mut reads = 0;
		let listed = all_pages(async |_: Option<u32>| {
			reads += 1;
			Ok((vec![reads], Some(1)))
		});
		let listed = listed.await.unwrap();
		assert!(listed.truncated);
		assert_eq!((reads, listed.items.len()), (PAGES_MAX, PAGES_MAX));
		let error = listed.complete("numbers").unwrap_err();
		assert_eq!(error.to_string(), "the chain has more numbers than are looked through");
	}

	#[tokio::test]
	async fn a_page_that_cannot_be_read_is_an_error_and_no_end() {
		let listed = all_pages(async |after: Option<u32>| match after {
			None => Ok((vec![1], Some(1))),
			Some(_) => Err(CliError::NoAccount),
		});
		assert!(matches!(listed.await, Err(CliError::NoAccount)));
	}
}
