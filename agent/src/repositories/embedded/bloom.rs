//! A set of digests that may say yes too often, never no: what it wrongly keeps is garbage that
//! the next collection frees, because each filter draws its own seed.

const BITS_PER_DIGEST: u64 = 15;
const PROBES: u64 = 10;
const WORDS_MIN: u64 = 1024;

/// About one false yes in 1,300 at 15 bits and 10 probes a digest.
#[derive(Debug)]
pub(crate) struct Bloom {
	words: Vec<u64>,
	seed: u64,
}

impl Bloom {
	pub(crate) fn for_digests(count: u64, seed: u64) -> Self {
		let words = (count.saturating_mul(BITS_PER_DIGEST) / 64).max(WORDS_MIN);
		Self { words: vec![0; usize::try_from(words).unwrap_or(usize::MAX)], seed }
	}

	pub(crate) fn insert(&mut self, digest: &[u8; 32]) {
		for bit in self.bits(digest) {
			self.words[bit / 64] |= 1 << (bit % 64);
		}
	}

	pub(crate) fn contains(&self, digest: &[u8; 32]) -> bool {
		self.bits(digest).into_iter().all(|bit| self.words[bit / 64] & 1 << (bit % 64) != 0)
	}

	/// Digests are uniform already; the seed only makes the filters differ.
	fn bits(&self, digest: &[u8; 32]) -> [usize; PROBES as usize] {
		let word = |at: usize| {
			let bytes = digest[at..at + 8].try_into().expect("a slice of 8 bytes");
			u64::from_le_bytes(bytes)
		};
		let mix = |value: u64| {
			let value = (value ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
			value ^ value >> 32
		};
		let (base, step) = (mix(word(0)), mix(word(8)) | 1);
		let bits = self.words.len() as u128 * 64;
		core::array::from_fn(|probe| {
			let hash = base.wrapping_add(step.wrapping_mul(probe as u64));
			usize::try_from((u128::from(hash) * bits) >> 64).expect("below the number of bits")
		})
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn digest(number: u32) -> [u8; 32] {
		*blake3::hash(&number.to_le_bytes()).as_bytes()
	}

	#[test]
	fn nothing_is_forgotten_and_little_is_made_up() {
		let mut bloom = Bloom::for_digests(20_000, 7);
		(0..20_000).for_each(|number| bloom.insert(&digest(number)));
		assert!((0..20_000).all(|number| bloom.contains(&digest(number))));
		let wrong = (20_000..120_000).filter(|number| bloom.contains(&digest(*number))).count();
		assert!(wrong < 300, "{wrong} of 100000");
	}
}
