//! The house rules that a program can check: style is executed, not reviewed.

use std::fs;
use std::path::Path;

use super::Outcome;
use crate::failure::{Failure, on_path};
use crate::workspace::Workspace;

/// Longest file; above it, it has more than one meaning. Most should stay well below.
const LINES_MAX: usize = 500;

/// Modules that would collect whatever has no place.
const DRAWERS: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

/// Marks of unfinished work, each in two halves so that this file does not contain them.
const UNFINISHED: &[(&str, &str)] =
    &[("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("todo", "!("), ("unimplemented", "!("), ("#[ign", "ore")];

pub(super) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let sources = workspace.rust_sources()?;
    let mut faults = Vec::new();
    for path in &sources {
        let shown = workspace.relative(path).display().to_string();
        let text = fs::read_to_string(path).map_err(on_path(path))?;
        faults.extend(faults_of_name(path).map(|fault| format!("{shown}: {fault}")));
        faults.extend(faults_of_text(&text).into_iter().map(|fault| format!("{shown}{fault}")));
    }
    faults.iter().for_each(|fault| println!("{fault}"));
    match faults.len() {
        0 => Ok(Outcome::Passed(format!("{} files", sources.len()))),
        count => Err(Failure::new(format!("{count} faults against the house rules")).hint("CONTRIBUTING.md says them")),
    }
}

fn faults_of_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    if stem == "mod" {
        return Some("`mod.rs`; the module `foo` is `foo.rs` beside `foo/`".to_owned());
    }
    DRAWERS.contains(&stem).then(|| format!("`{stem}` says nothing of what is in it; name it after its meaning"))
}

fn faults_of_text(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!(": {lines} lines, more than {LINES_MAX}; split it by meaning"));
    }
    for (index, line) in text.lines().enumerate() {
        for (first, second) in UNFINISHED {
            let mark = format!("{first}{second}");
            if contains_word(line, &mark) {
                faults.push(format!(":{}: `{mark}`; an issue is the place for what is not done", index + 1));
            }
        }
    }
    faults
}

/// Whether `mark` stands in `line` and is not a part of a longer word.
fn contains_word(line: &str, mark: &str) -> bool {
    let word = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(mark).any(|(start, _)| {
        let end = start + mark.len();
        let continues = mark.ends_with(word) && line[end..].starts_with(word);
        !line[..start].ends_with(word) && !continues
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_marks_are_found_with_their_line() {
        let text = format!("fn f() {{}}\n// {}{}: later\n", "TO", "DO");
        assert!(faults_of_text(&text)[0].starts_with(":2:"));
        let call = format!("    {}{})", "todo", "!(");
        assert_eq!(faults_of_text(&call).len(), 1);
    }

    #[test]
    fn a_mark_inside_a_longer_word_is_no_mark() {
        assert_eq!(faults_of_text("XXXL and METODOS\n"), Vec::<String>::new());
    }

    #[test]
    fn long_files_and_drawers_are_named() {
        assert_eq!(faults_of_text(&"\n".repeat(LINES_MAX)).len(), 0);
        assert_eq!(faults_of_text(&"\n".repeat(LINES_MAX + 1)).len(), 1);
        assert!(faults_of_name(Path::new("crates/a/src/utils.rs")).is_some());
        assert!(faults_of_name(Path::new("crates/a/src/b/mod.rs")).is_some());
        assert!(faults_of_name(Path::new("crates/a/src/sealing.rs")).is_none());
    }
}
