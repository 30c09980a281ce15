//! What files come to.

mod language;
mod random;
mod services;

use super::*;
use crate::files::Memory;

/// What a file comes to beside others.
fn read_with(memory: &mut Memory, text: &str) -> (Read, Sources) {
    memory.add("/etc/keepalived/keepalived.conf", text);
    let mut sources = Sources::default();
    let inputs = [("/etc/keepalived/keepalived.conf", text.as_bytes())];
    let read = read(&inputs, memory, "here", &mut sources);
    (read, sources)
}

fn read_one(text: &str) -> Read {
    read_with(&mut Memory::default(), text).0
}

/// Each diagnostic as `LINE:COLUMN: MESSAGE`.
fn told(read: &Read) -> Vec<String> {
    let found = read.diagnostics.iter();
    found
        .map(|found| {
            let place = &found.place;
            format!("{}:{}: {}", place.line, place.column, found.message)
        })
        .collect()
}

/// What a file comes to in which nothing is wrong.
fn good(text: &str) -> Config {
    let read = read_one(text);
    assert_eq!(told(&read), Vec::<String>::new());
    read.config
}
