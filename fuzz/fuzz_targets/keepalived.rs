//! keepalived.conf: whatever stands in it, it is read to its end, and every place that is
//! told of is inside of a file.
#![no_main]

use evenkeel_config::diagnostic::Sources;
use evenkeel_config::files::Memory;
use evenkeel_config::keepalived::read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // What the file includes, if it wants to.
    let mut files = Memory::default();
    files
        .add(
            "/etc/keepalived/other.conf",
            "real_server 10.0.1.9 80 {\n}\n}\n",
        )
        .add("/etc/keepalived/again.conf", "include again.conf\n$A=\\\n");
    let mut sources = Sources::default();
    let inputs = [("/etc/keepalived/keepalived.conf", bytes)];
    let found = read(&inputs, &files, "left", &mut sources);
    for diagnostic in &found.diagnostics {
        assert!(sources.has(&diagnostic.place), "{diagnostic}");
        if let Some((place, _)) = &diagnostic.other {
            assert!(sources.has(place), "{diagnostic}");
        }
    }
    if let Some(first) = found.diagnostics.first() {
        assert!(!sources.render(first, true).is_empty());
    }
    for placed in &found.config.services {
        assert!(sources.has(&placed.place));
        assert!(!placed.service.ends.is_empty());
        assert!(placed.service.quorum.hysteresis < placed.service.quorum.weight);
    }
});
