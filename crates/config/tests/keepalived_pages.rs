//! The pages that are made from the table of keywords. With `EVENKEEL_WRITE_PAGES` in the
//! environment they are written, else compared.

use std::fs;
use std::path::PathBuf;

use evenkeel_config::keepalived::pages::{MARKERS, compatibility, manual};

fn page(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs")).join(name)
}

fn compare(name: &str, expected: &str) {
    let path = page(name);
    if std::env::var_os("EVENKEEL_WRITE_PAGES").is_some() {
        fs::write(&path, expected).expect("the page can be written");
        return;
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/{name} is not as the table of keywords has it: run this test with \
         EVENKEEL_WRITE_PAGES=1 and look at the difference"
    );
}

#[test]
fn the_manual_is_as_the_table_has_it() {
    compare("keepalived.conf.5", &manual());
}

#[test]
fn the_page_on_compatibility_is_as_the_table_has_it() {
    let name = "compatibility.md";
    let text = fs::read_to_string(page(name)).expect("the page");
    let (before, rest) = text.split_once(MARKERS.0).expect("the first marker");
    let (_, after) = rest.split_once(MARKERS.1).expect("the second marker");
    let made = compatibility();
    let whole = format!("{before}{}\n{made}\n{}{after}", MARKERS.0, MARKERS.1);
    compare(name, &whole);
}
