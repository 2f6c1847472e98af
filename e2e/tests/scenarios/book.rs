//! The book does what it says: the commands of its pages, typed in their order on a computer of their own,
//! end as the pages say and print what they show. What it quotes of programs is what they say.

use anyhow::{Context, Result, ensure};
use backup_e2e::book::{README, page, page::Page, pages, play};
use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::{
	collections::BTreeSet,
	fs,
	path::{Path, PathBuf},
};

/// Pages whose commands are typed.
const PLAYED: [&str; 7] =
	[README, "quick-start", "operate", "recover", "governance", "cli", "operations"];

/// Most blocks of all these pages that may be left.
const LEFT_MAX: usize = 13;

#[test]
fn who_has_only_the_readme_comes_from_a_clone_to_a_restored_machine() -> Result<()> {
	play(README)
}

#[test]
fn the_quick_start_leads_to_a_disk_that_came_back() -> Result<()> {
	play("quick-start")
}

#[test]
fn an_operator_has_a_day_as_the_page_says() -> Result<()> {
	play("operate")
}

#[test]
fn a_disk_whose_node_is_gone_comes_back_from_two_secrets_and_the_chain() -> Result<()> {
	play("recover")
}

#[test]
fn a_council_decides_as_the_page_on_governance_says() -> Result<()> {
	play("governance")
}

#[test]
fn the_command_does_all_that_its_page_tells_to_type() -> Result<()> {
	play("cli")
}

#[test]
fn an_operator_finds_what_the_reference_tells() -> Result<()> {
	play("operations")
}

#[test]
fn few_commands_of_played_pages_are_left_and_each_says_why() -> Result<()> {
	let mut left = 0;
	for name in PLAYED {
		let page = page(name)?;
		println!("{}", page.summary());
		ensure!(page.left().len() < page.blocks.len(), "{name} is not played at all");
		left += page.left().len();
	}
	ensure!(left <= LEFT_MAX, "{left} blocks are left, {LEFT_MAX} may be");
	Ok(())
}

#[test]
fn no_page_of_the_book_has_commands_that_nobody_types() -> Result<()> {
	for folder in [pages(), pages().join("decisions")] {
		for entry in fs::read_dir(&folder)? {
			let path = entry?.path();
			if path.extension().is_none_or(|ending| ending != "md") {
				continue;
			}
			let name = path.file_stem().unwrap_or_default().to_string_lossy();
			// That of a folder is not the one in front of the book.
			let is_played = folder == pages() && name != README && PLAYED.contains(&&*name);
			let has_commands = !Page::read(&path)?.blocks.is_empty();
			ensure!(is_played || !has_commands, "{} is not played", path.display());
		}
	}
	Ok(())
}

/// A row of a table: the heading above it, and the code in its first cell.
struct Row {
	heading: String,
	quoted: Vec<String>,
}

fn rows(text: &str) -> Vec<Row> {
	let (mut rows, mut heading) = (Vec::<Row>::new(), String::new());
	let (mut is_heading, mut cell) = (false, 0);
	for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
		match event {
			Event::Start(Tag::Heading { level: HeadingLevel::H2, .. }) => {
				is_heading = true;
				heading.clear();
			}
			Event::End(TagEnd::Heading(_)) => is_heading = false,
			Event::Text(words) if is_heading => heading.push_str(&words),
			Event::Start(Tag::TableRow) => {
				cell = 0;
				rows.push(Row { heading: heading.clone(), quoted: Vec::new() });
			}
			Event::End(TagEnd::TableCell) => cell += 1,
			Event::Code(code) if cell == 0 => {
				if let Some(row) = rows.last_mut() {
					row.quoted.push(code.to_string());
				}
			}
			_ => (),
		}
	}
	rows
}

/// All Rust source below a folder, in one text.
fn source(folder: &Path, text: &mut String) -> Result<()> {
	for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
		let path = entry?.path();
		if path.is_dir() {
			source(&path, text)?;
		} else if path.extension().is_some_and(|ending| ending == "rs") {
			text.push_str(&fs::read_to_string(&path)?);
		}
	}
	Ok(())
}

fn repository() -> PathBuf {
	Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

const PALLET_ERRORS: &str = "Errors of the pallet";

#[test]
fn every_message_of_the_page_on_troubleshooting_is_one_that_programs_say() -> Result<()> {
	let mut said = String::new();
	for folder in ["agent/src", "cli/src", "node-support/src", "src"] {
		source(&repository().join(folder), &mut said)?;
	}
	let page = fs::read_to_string(pages().join("troubleshooting.md"))?;
	let mut count = 0;
	for row in rows(&page).iter().filter(|row| row.heading != PALLET_ERRORS) {
		for message in &row.quoted {
			for part in message.split('…').map(str::trim) {
				ensure!(said.contains(part), "nobody says {message:?}: {part:?} is nowhere");
			}
			count += 1;
		}
	}
	ensure!(count > 60, "only {count} messages were found on the page");
	Ok(())
}

#[test]
fn the_page_on_troubleshooting_has_every_error_of_the_pallet() -> Result<()> {
	let pallet = fs::read_to_string(repository().join("src/lib.rs"))?;
	let (_, errors) = pallet.split_once("pub enum Error<T> {").context("there are no errors")?;
	let (errors, _) = errors.split_once("\n\t}").context("the errors have no end")?;
	let errors = errors.lines().map(str::trim).filter(|line| !line.starts_with("//"));
	let errors: BTreeSet<_> =
		errors.filter_map(|line| line.strip_suffix(',')).map(str::to_owned).collect();
	ensure!(errors.len() > 30, "only {errors:?} were found in the pallet");

	let page = fs::read_to_string(pages().join("troubleshooting.md"))?;
	let rows = rows(&page).into_iter().filter(|row| row.heading == PALLET_ERRORS);
	let told: BTreeSet<_> = rows.flat_map(|row| row.quoted).collect();
	let missing: Vec<_> = errors.difference(&told).collect();
	let unknown: Vec<_> = told.difference(&errors).collect();
	ensure!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
	Ok(())
}
