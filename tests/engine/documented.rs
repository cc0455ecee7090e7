//! The capability matrix of docs/engine.md names tests that exist.

use std::path::Path;

/// Names in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Functions of a module of this directory that are tests; `None` where there is no such module.
fn tests_of(module: &str) -> Option<Vec<String>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/engine/{module}.rs"));
    let text = std::fs::read_to_string(file).ok()?;
    let text = text.replace("#[test]", "#[tokio::test]");
    let tests = text.split("#[tokio::test").skip(1).filter_map(|rest| {
        let name = rest.split_once("fn ")?.1;
        Some(name.split_once('(')?.0.to_owned())
    });
    Some(tests.collect())
}

#[test]
fn each_row_of_the_capability_matrix_names_tests_that_exist() {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/engine.md")).unwrap();
    let matrix = docs.split_once("## Capability matrix").unwrap().1;
    let matrix = matrix.split("\n## ").next().unwrap();
    let rows: Vec<&str> = matrix.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 40, "{rows:?}");
    for row in rows {
        let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap();
        let mut names = quoted(cell).peekable();
        assert!(names.peek().is_some(), "no test is named: {row}");
        for name in names.filter(|name| !name.contains('/')) {
            let (module, test) = name.split_once("::").unwrap_or((name, ""));
            let tests = tests_of(module).unwrap_or_else(|| panic!("there is no tests/engine/{module}.rs: {row}"));
            let found = match test.strip_suffix('…') {
                Some(start) => tests.iter().any(|found| found.starts_with(start)),
                None => test.is_empty() || tests.iter().any(|found| found == test),
            };
            assert!(found && !tests.is_empty(), "there is no test {name}: {row}");
        }
    }
}
