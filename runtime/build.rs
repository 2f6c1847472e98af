//! Builds the runtime for WASM and writes `wasm_binary.rs`, which `lib.rs` includes.

fn main() {
	#[cfg(feature = "std")]
	substrate_wasm_builder::WasmBuilder::build_using_defaults();
}
