//! An instance is made whole or not at all, found again, and refused when it is
//! another version's.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use common::{SMALL, isolated, object, open, try_open};
use evenkeel_datapath::layout::{INTERFACES, LAYOUT_VERSION};
use evenkeel_kernel::attach::purge;
use evenkeel_kernel::dataplane::{Dataplane, Opened};
use evenkeel_kernel::sizes::Settings;
use evenkeel_kernel::test_run::TestRun;
use evenkeel_kernel::{Error, Program};

/// `enum xdp_action`.
const XDP_PASS: u32 = 2;

#[test]
fn what_was_written_is_there_after_reopening() {
    isolated(|pins| {
        let (dataplane, opened) = try_open(pins).unwrap();
        assert_eq!(opened, Opened::Created);
        let memory = dataplane.memory();
        assert_eq!(memory.control.layout_version.get(), LAYOUT_VERSION);
        assert_eq!(memory.control.timeout_tcp.get(), 900);
        assert_eq!(memory.connections.len(), 256);
        assert_eq!(memory.servers.len(), 32);
        assert_eq!(memory.rings.len(), 128);
        assert_eq!(memory.interfaces.len(), INTERFACES as usize);
        memory.rings[127].set(0xdead_beef);
        memory.servers[31].address.set(7);
        memory.counters.last().unwrap().out_bytes.set(u64::MAX);
        let seed = memory.control.seed.get();
        drop(dataplane);

        // Other settings: what is there keeps its sizes.
        let (dataplane, opened) =
            Dataplane::open_object(pins, &Settings::default(), &object()).unwrap();
        assert_eq!(opened, Opened::Adopted);
        assert_eq!(dataplane.sizes().connections(), 4096);
        let memory = dataplane.memory();
        assert_eq!(memory.rings[127].get(), 0xdead_beef);
        assert_eq!(memory.servers[31].address.get(), 7);
        assert_eq!(memory.counters.last().unwrap().out_bytes.get(), u64::MAX);
        assert_eq!(memory.control.seed.get(), seed);
    });
}

#[test]
fn the_built_in_object_loads() {
    isolated(|pins| {
        let (dataplane, opened) = Dataplane::open(pins, &SMALL).unwrap();
        assert_eq!(opened, Opened::Created);
        drop(dataplane);
        assert_eq!(Dataplane::open(pins, &SMALL).unwrap().1, Opened::Adopted);
    });
}

#[test]
fn the_pins_are_roots_alone() {
    isolated(|pins| {
        let _dataplane = open(pins);
        for directory in [pins.parent().unwrap(), pins, &pins.join("links")] {
            let mode = fs::metadata(directory).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
        }
    });
}

#[test]
fn another_layout_is_refused_with_what_to_do() {
    isolated(|pins| {
        let dataplane = open(pins);
        dataplane
            .memory()
            .control
            .layout_version
            .set(LAYOUT_VERSION + 1);
        drop(dataplane);
        let error = try_open(pins).unwrap_err();
        let (found, expected) = match error {
            Error::OtherLayout {
                found, expected, ..
            } => (found, expected),
            other => panic!("{other}"),
        };
        assert_eq!((found, expected), (LAYOUT_VERSION + 1, LAYOUT_VERSION));
        assert!(error.to_string().contains("evenkeel purge"), "{error}");
        // Refusing has changed nothing, and purging gets one out of it.
        assert!(purge(pins).unwrap());
        assert_eq!(try_open(pins).unwrap().1, Opened::Created);
    });
}

#[test]
fn only_one_process_has_an_instance() {
    isolated(|pins| {
        let dataplane = open(pins);
        assert!(matches!(try_open(pins), Err(Error::InUse { .. })));
        assert!(matches!(purge(pins), Err(Error::InUse { .. })));
        drop(dataplane);
        assert_eq!(try_open(pins).unwrap().1, Opened::Adopted);
    });
}

#[test]
fn a_process_killed_while_building_leaves_nothing_usable() {
    isolated(|pins| {
        // What is there when it is killed at any point before the renaming: some
        // pins in the directory beside.
        drop(open(pins));
        let beside = pins.with_file_name("test+new");
        fs::rename(pins, &beside).unwrap();
        fs::remove_file(beside.join("SERVERS")).unwrap();
        let (dataplane, opened) = try_open(pins).unwrap();
        assert_eq!(opened, Opened::Created);
        assert!(!beside.exists());
        dataplane.now_tick().unwrap();
        drop(dataplane);
        fs::create_dir(&beside).unwrap();
        assert!(purge(pins).unwrap());
        assert!(!beside.exists() && !pins.exists());
    });
}

#[test]
fn a_damaged_set_is_named() {
    isolated(|pins| {
        drop(open(pins));
        fs::remove_file(pins.join("LOADS")).unwrap();
        let error = try_open(pins).unwrap_err().to_string();
        assert!(
            error.contains("LOADS") && error.contains("evenkeel purge"),
            "{error}"
        );
    });
}

#[test]
fn programs_of_another_build_are_replaced() {
    isolated(|pins| {
        let dataplane = open(pins);
        dataplane.memory().rings[0].set(5);
        let hash = dataplane.memory().control.object_hash.get();
        drop(dataplane);
        // Behind the end of what the ELF header speaks of: another hash, no more.
        let object = [object(), vec![0; 8]].concat();
        let (dataplane, opened) = Dataplane::open_object(pins, &SMALL, &object).unwrap();
        assert_eq!(opened, Opened::Adopted);
        assert_ne!(dataplane.memory().control.object_hash.get(), hash);
        assert_eq!(dataplane.memory().rings[0].get(), 5);
        dataplane.now_tick().unwrap();
    });
}

#[test]
fn an_instance_belongs_to_its_network_namespace() {
    isolated(|pins| {
        drop(open(pins));
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let error = try_open(pins).unwrap_err();
        assert!(matches!(error, Error::OtherNamespace { .. }), "{error}");
    });
}

#[test]
fn the_clock_runs_at_the_rate_it_says() {
    isolated(|pins| {
        let dataplane = open(pins);
        let rate = dataplane.ticks_per_second();
        assert!((1.0..100.0).contains(&rate), "{rate}");
        // The times around the two readings bound what is between them, however long
        // the readings themselves are held up.
        let before_first = Instant::now();
        let first = dataplane.now_tick().unwrap();
        let after_first = Instant::now();
        let (mut ticks, mut before_last) = (0, after_first);
        common::wait_for("four ticks", || {
            before_last = Instant::now();
            ticks = dataplane.now_tick().unwrap().wrapping_sub(first);
            ticks >= 4
        });
        let most = before_first.elapsed().as_secs_f64() * rate + 1.0;
        let least = before_last.duration_since(after_first).as_secs_f64() * rate - 1.0;
        let ticks = f64::from(ticks);
        assert!(
            (least..=most).contains(&ticks),
            "{least} <= {ticks} <= {most} at {rate}/s"
        );
    });
}

#[test]
fn a_packet_that_is_nobodys_passes_untouched() {
    isolated(|pins| {
        let dataplane = open(pins);
        let mut frame = vec![0; 60];
        // Ethernet type of LLDP.
        frame[12..14].copy_from_slice(&[0x88, 0xcc]);
        let run = TestRun {
            repeat: 10,
            ..TestRun::new(&frame)
        };
        let result = dataplane.test_run(Program::Xdp, &run).unwrap();
        assert_eq!((result.verdict, &result.frame), (XDP_PASS, &frame));
        // TCX_NEXT, which leaves it to the next program, and to the stack.
        let result = dataplane.test_run(Program::Tc, &run).unwrap();
        assert_eq!((result.verdict, &result.frame), (u32::MAX, &frame));
    });
}

#[test]
fn a_process_killed_while_replacing_programs_is_made_good() {
    isolated(|pins| {
        let dataplane = open(pins);
        dataplane.memory().rings[0].set(5);
        // Another version's, and the new one's pin not yet renamed.
        dataplane.memory().control.object_hash.set(1);
        drop(dataplane);
        let beside = pins.join("evenkeel_tc+new");
        fs::hard_link(pins.join("evenkeel_tc"), &beside).unwrap();
        let (dataplane, opened) = try_open(pins).unwrap();
        assert_eq!(opened, Opened::Adopted);
        assert_eq!(dataplane.memory().rings[0].get(), 5);
        assert_ne!(dataplane.memory().control.object_hash.get(), 1);
        assert!(!beside.exists());
    });
}

#[test]
fn a_refused_object_leaves_nothing_behind() {
    isolated(|pins| {
        let error = Dataplane::open_object(pins, &SMALL, b"no object at all").unwrap_err();
        assert!(matches!(error, Error::Load { .. }), "{error}");
        let parent = pins.parent().unwrap();
        assert!(fs::read_dir(parent).unwrap().next().is_none());
    });
}
