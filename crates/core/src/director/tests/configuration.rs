//! What stands in the configuration: services beside those of requests, settings,
//! source NAT, rules that mark packets.

use alloc::boxed::Box;
use core::ops::RangeInclusive;

use evenkeel_datapath::layout::{
    MARK_RULES, POOL, POOL_PORTS_DEFAULT, features, mapped, mark_flags, service_flags, settings,
};
use proptest::prelude::*;

use super::*;
use crate::director::records::read_words;
use crate::director::{Origin, Step, source_nat};
use crate::model::{
    ConfiguredService, MarkRule, Prefix, ServiceView, SourceNat, Sysctl, SysctlValue,
};

fn configured(key: ServiceKey, servers: &[(u16, u32)]) -> ConfiguredService {
    let servers = servers.iter().map(|&(port, weight)| {
        let settings = ServerSettings::new(ForwardMethod::Masq, weight);
        (server(port), settings)
    });
    ConfiguredService {
        key,
        settings: ServiceSettings {
            compatible: Some(false),
            ..ServiceSettings::scheduled_by("wlc")
        },
        servers: servers.collect(),
    }
}

/// Brings the table to these services; the steps that it took, or the first that was
/// refused.
fn configure(rig: &mut Rig, wanted: &[ConfiguredService]) -> Result<usize, Box<(Step, EditError)>> {
    let steps = rig.director.steps_to(wanted);
    let edits: Vec<Edit> = steps.iter().map(|step| step.edit.clone()).collect();
    let memory = rig.tables.memory();
    let refused = rig
        .director
        .apply_from(Origin::Configuration, &edits, true, &memory, rig.now_ms);
    rig.director.write_all(&memory);
    match refused.into_iter().next() {
        None => Ok(steps.len()),
        Some((index, error)) => Err(Box::new((steps[index].clone(), error))),
    }
}

fn list(rig: &Rig) -> Vec<ServiceView> {
    let mut list = rig
        .director
        .list(None, AsOf::Now, &rig.memory())
        .expect("all of them");
    list.sort_by_key(|view| view.key);
    list
}

fn ports(view: &ServiceView) -> Vec<(u16, u32)> {
    let servers = view.servers.iter();
    let mut ports: Vec<_> = servers.map(|s| (s.key.port, s.settings.weight)).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn services_of_the_configuration_live_beside_others() {
    let mut rig = Rig::new();
    rig.apply(add(service(80), "rr"));
    rig.apply(add_server(service(80), server(1), 1));
    let wanted = [configured(service(81), &[(1, 1), (2, 5)])];
    assert_eq!(configure(&mut rig, &wanted), Ok(3));
    assert_eq!(configure(&mut rig, &wanted), Ok(0));
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
    assert_eq!(configure(&mut rig, &wanted), Ok(0));
    let views = list(&rig);
    let about = |view: &ServiceView| (view.key.port(), view.compatible, view.configured);
    assert_eq!(about(&views[0]), (80, true, false));
    assert_eq!(about(&views[1]), (81, false, true));
    assert_eq!(ports(&views[1]), [(1, 1), (2, 5)]);

    // What was done by hand to configured ones is put back, and what stands there no more
    // goes; a server that was added stays.
    rig.apply(edit_server(service(81), server(2), 0));
    rig.apply(add_server(service(81), server(3), 1));
    rig.apply(Edit::EditService {
        service: service(81),
        settings: ServiceSettings::scheduled_by("rr"),
    });
    let view = &list(&rig)[1];
    assert!(view.configured && !view.compatible);
    let wanted = [configured(service(81), &[(2, 5)])];
    assert_eq!(configure(&mut rig, &wanted), Ok(3));
    let views = list(&rig);
    assert_eq!(ports(&views[1]), [(2, 5), (3, 1)]);
    assert_eq!(views[1].settings.scheduler, "wlc");
    rig.restart();
    assert_eq!(configure(&mut rig, &wanted), Ok(0));
    // Once it stands in the configuration it goes with that.
    let with_it = [configured(service(81), &[(2, 5), (3, 1)])];
    assert_eq!(configure(&mut rig, &with_it), Ok(1));
    assert_eq!(configure(&mut rig, &wanted), Ok(1));
    assert_eq!(ports(&list(&rig)[1]), [(2, 5)]);
    assert_eq!(configure(&mut rig, &[]), Ok(1));
    assert_eq!(list(&rig), views[..1]);
}

#[test]
fn a_service_that_was_made_by_hand_is_taken_over() {
    let mut rig = Rig::new();
    rig.apply(add(service(80), "wlc"));
    rig.apply(add_server(service(80), server(1), 1));
    let slot = rig.index(&service(80));
    let mut wanted = configured(service(80), &[(1, 1)]);
    assert_eq!(configure(&mut rig, core::slice::from_ref(&wanted)), Ok(2));
    assert_eq!(rig.index(&service(80)), slot);
    let flags = || rig.memory().services[slot].flags.get();
    assert_ne!(flags() & service_flags::CONFIGURED, 0);
    assert_eq!(flags() & service_flags::COMPATIBLE, 0);
    wanted.settings.compatible = Some(true);
    assert_eq!(configure(&mut rig, &[wanted]), Ok(1));
    let view = list(&rig).remove(0);
    assert!(view.compatible && view.configured);
    // Deleted and added by hand, it is of the configuration no more.
    rig.apply(Edit::DeleteService {
        service: service(80),
    });
    rig.apply(add(service(80), "wlc"));
    assert!(!list(&rig)[0].configured);
}

#[test]
fn a_configuration_is_applied_as_a_whole() {
    let mut rig = Rig::new();
    let first = [configured(service(80), &[(1, 1)])];
    assert_eq!(configure(&mut rig, &first), Ok(2));
    let before = list(&rig);
    let mut second = [
        configured(service(81), &[(1, 1)]),
        configured(service(82), &[(1, 1), (2, 1)]),
    ];
    second[1].servers[1].0.address = [224, 0, 0, 1].into();
    let (step, error) = *configure(&mut rig, &second).unwrap_err();
    assert_eq!(error, EditError::Invalid);
    assert_eq!((step.service, step.server), (Some(1), Some(1)));
    assert_eq!(list(&rig), before);
    second[1].settings.scheduler = "none".into();
    let (step, error) = *configure(&mut rig, &second).unwrap_err();
    assert_eq!(error, EditError::SchedulerNotFound);
    assert_eq!((step.service, step.server), (Some(1), None));
    assert_eq!(list(&rig), before);
}

proptest! {
    /// Whatever there was, the configuration is there afterwards, and it takes no second
    /// time.
    #[test]
    fn the_configuration_is_reached_from_any_table(
        former in proptest::collection::vec((80u16..84, 0u16..8, 0u32..3), 0..12),
        wanted in proptest::collection::vec((80u16..84, 0u16..8, 0u32..3), 0..12),
        other in 80u16..84,
    ) {
        let services = |rows: &[(u16, u16, u32)]| -> Vec<ConfiguredService> {
            let mut all: Vec<ConfiguredService> = Vec::new();
            for &(port, target, weight) in rows {
                let key = service(port);
                if all.iter().all(|service| service.key != key) {
                    all.push(configured(key, &[]));
                }
                let found = all.iter_mut().find(|service| service.key == key).unwrap();
                if found.servers.iter().all(|(key, _)| *key != server(target)) {
                    let settings = ServerSettings::new(ForwardMethod::Masq, weight);
                    found.servers.push((server(target), settings));
                }
            }
            all
        };
        let mut rig = Rig::new();
        rig.apply(add(service(other), "rr"));
        let (former, wanted) = (services(&former), services(&wanted));
        prop_assert!(configure(&mut rig, &former).is_ok());
        rig.restart();
        prop_assert!(configure(&mut rig, &wanted).is_ok());
        prop_assert_eq!(configure(&mut rig, &wanted), Ok(0));
        for view in list(&rig) {
            let found = wanted.iter().find(|service| service.key == view.key);
            prop_assert_eq!(found.is_some(), view.configured);
            if let Some(found) = found {
                let mut servers: Vec<_> =
                    found.servers.iter().map(|(key, s)| (key.port, s.weight)).collect();
                servers.sort_unstable();
                prop_assert_eq!(ports(&view), servers);
            }
        }
    }
}

fn set(setting: Sysctl, number: u32) -> Edit {
    let value = SysctlValue::Number(number);
    Edit::Set { setting, value }
}

#[test]
fn settings_reach_the_packet_path_and_outlive_the_daemon() {
    let mut rig = Rig::new();
    let word = |rig: &Rig| rig.memory().control.settings.get();
    assert_eq!(word(&rig), settings::DEFAULT);
    rig.apply(set(Sysctl::ExpireNodestConn, 1));
    rig.apply(set(Sysctl::ConnReuseMode, 2));
    rig.apply(set(Sysctl::PmtuDisc, 0));
    let expected = settings::EXPIRE_NODEST_CONN | 2 << settings::CONN_REUSE_MODE_SHIFT;
    assert_eq!(word(&rig), expected);
    rig.restart();
    assert_eq!(word(&rig), expected);
    let present = rig.director.sysctls();
    assert!(present.is_set(Sysctl::ExpireNodestConn));
    assert_eq!(present.get(Sysctl::ConnReuseMode).number(), 2);
    assert!(!present.is_set(Sysctl::PmtuDisc) && present.is_set(Sysctl::RunEstimation));
    let refused = rig.attempt(set(Sysctl::SloppyTcp, 2));
    assert_eq!(refused, Err(EditError::OutOfRange));
    // As a whole or not at all.
    let edits = [set(Sysctl::SloppyTcp, 1), set(Sysctl::DropEntry, 4)];
    assert_eq!(rig.try_all(&edits, true), [(1, EditError::OutOfRange)]);
    assert_eq!(word(&rig), expected);
    assert_eq!(rig.director.sysctls(), present);
}

#[test]
fn without_estimation_nothing_is_sampled() {
    let mut rig = Rig::new();
    rig.apply(add(service(80), "rr"));
    rig.apply(add_server(service(80), server(1), 1));
    let shown = |rig: &mut Rig| {
        let memory = rig.tables.memory();
        rig.director.sample(&memory);
        let list = rig.director.list(None, AsOf::LastSample, &memory);
        list.unwrap()[0].stats.connections
    };
    assert_eq!(shown(&mut rig), 0);
    rig.memory().counters[0].connections.set(5);
    rig.apply(set(Sysctl::RunEstimation, 0));
    assert_eq!(shown(&mut rig), 0);
    rig.apply(set(Sysctl::RunEstimation, 1));
    assert_eq!(shown(&mut rig), 5);
}

fn pool(addresses: &[&str], ports: RangeInclusive<u16>) -> SourceNat {
    let addresses = addresses.iter().map(|text| text.parse().unwrap());
    SourceNat {
        addresses: addresses.collect(),
        ports,
    }
}

#[test]
fn the_pool_of_source_nat_has_ipv4_first() {
    let mut rig = Rig::new();
    let memory = rig.tables.memory();
    assert_eq!(source_nat(&memory), SourceNat::default());
    assert_eq!(
        rig.director.set_source_nat(&SourceNat::default(), &memory),
        Ok(())
    );
    assert_eq!(rig.director.poll_write(), None);
    let wanted = pool(&["fd02::7", "10.2.0.7", "10.2.0.8"], 20_000..=20_999);
    assert_eq!(rig.director.set_source_nat(&wanted, &memory), Ok(()));
    rig.director.write_all(&memory);
    let control = memory.control;
    assert_eq!(control.pool_count.get(), (1 << 16) + 2);
    assert_eq!(control.pool_ports.get(), 20_000 + (1000 << 16));
    let first = mapped(u32::from_ne_bytes([10, 2, 0, 7]));
    assert_eq!(read_words(&control.pool[0]), first);
    let last: IpAddr = "fd02::7".parse().unwrap();
    let last = crate::director::records::words(last);
    assert_eq!(read_words(&control.pool[POOL - 1]), last);
    let read = pool(&["10.2.0.7", "10.2.0.8", "fd02::7"], 20_000..=20_999);
    assert_eq!(source_nat(&memory), read);
    // One more of IPv4 moves none of IPv6.
    let more = pool(
        &["10.2.0.7", "10.2.0.8", "10.2.0.9", "fd02::7", "fd02::8"],
        20_000..=20_999,
    );
    assert_eq!(rig.director.set_source_nat(&more, &memory), Ok(()));
    rig.director.write_all(&memory);
    assert_eq!(read_words(&control.pool[POOL - 1]), last);
    assert_eq!(source_nat(&memory), more);
    assert_eq!(rig.director.set_source_nat(&read, &memory), Ok(()));
    rig.director.write_all(&memory);
    rig.restart();
    let memory = rig.tables.memory();
    assert_eq!(rig.director.set_source_nat(&read, &memory), Ok(()));
    assert_eq!(rig.director.poll_write(), None);
    assert_eq!(
        rig.director.set_source_nat(&SourceNat::default(), &memory),
        Ok(())
    );
    rig.director.write_all(&memory);
    assert_eq!(control_words(&rig), (0, POOL_PORTS_DEFAULT));
    let all = pool(&["10.0.0.1"; SourceNat::ADDRESSES_MAX], 1..=u16::MAX);
    assert_eq!(
        rig.director.set_source_nat(&all, &rig.tables.memory()),
        Ok(())
    );
    rig.director.write_all(&rig.tables.memory());
    assert_eq!(control_words(&rig), (32, 0xffff << 16 | 1));
    assert_eq!(source_nat(&rig.memory()), all);
    #[allow(clippy::reversed_empty_ranges, reason = "one that is refused")]
    let wrong = [
        pool(&["10.0.0.1"; SourceNat::ADDRESSES_MAX + 1], 1..=1),
        pool(&[], 0..=5),
        pool(&[], 7..=5),
    ];
    for wrong in wrong {
        let refused = rig.director.set_source_nat(&wrong, &rig.tables.memory());
        assert_eq!(refused, Err(EditError::OutOfRange));
    }
}

fn control_words(rig: &Rig) -> (u32, u32) {
    let control = rig.memory().control;
    (control.pool_count.get(), control.pool_ports.get())
}

fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    Prefix {
        address: address.parse().unwrap(),
        bits: bits.parse().unwrap(),
    }
}

fn rule(mark: u32) -> MarkRule {
    MarkRule {
        mark,
        protocol: None,
        source: None,
        destination: None,
        ports: vec![],
        interface: None,
    }
}

#[test]
fn rules_that_mark_packets_are_where_packets_look() {
    let mut rig = Rig::new();
    let narrow = MarkRule {
        protocol: Some(Protocol::Tcp),
        source: Some(prefix("10.0.0.0/8")),
        destination: Some(prefix("192.0.2.128/25")),
        ports: vec![80..=80, 8000..=8999],
        ..rule(7)
    };
    let wide = MarkRule {
        destination: Some(prefix("2001:db8::/33")),
        ..rule(8)
    };
    let memory = rig.tables.memory();
    let rules = memory.mark_rules;
    let wanted = [(&narrow, 0), (&wide, 3), (&rule(9), 0)];
    assert_eq!(rig.director.set_mark_rules(wanted, &memory), Ok(()));
    let order: Vec<_> = core::iter::from_fn(|| {
        let write = rig.director.poll_write()?;
        write::apply(&memory, &write);
        Some(matches!(write, Write::Features(_)))
    })
    .collect();
    assert_eq!(order, [true, false], "the feature first");
    assert_eq!(rules.active.get(), 3 | 1 << 16);
    let first = &rules.rules[1][0];
    let flags = mark_flags::IPV4 | 6 << mark_flags::PROTOCOL_SHIFT | 2 << mark_flags::PORTS_SHIFT;
    assert_eq!((first.flags.get(), first.mark.get()), (flags, 7));
    assert_eq!(
        read_words(&first.source),
        mapped(u32::from_ne_bytes([10, 0, 0, 0]))
    );
    let mask = |bytes| u32::from_ne_bytes(bytes);
    assert_eq!(
        read_words(&first.destination_mask),
        [u32::MAX, u32::MAX, u32::MAX, mask([255, 255, 255, 128])]
    );
    let ports = [0, 1, 2].map(|at: usize| first.ports[at].get());
    let range = |low: u32, high: u32| low + (high << 16);
    assert_eq!(ports, [range(80, 80), range(8000, 8999), 0]);
    let second = &rules.rules[1][1];
    assert_eq!(
        (second.flags.get(), second.interface.get()),
        (mark_flags::IPV6, 3)
    );
    assert_eq!(
        read_words(&second.destination_mask),
        [u32::MAX, mask([128, 0, 0, 0]), 0, 0]
    );
    let third = &rules.rules[1][2];
    assert_eq!(third.flags.get(), mark_flags::IPV4 | mark_flags::IPV6);
    assert_eq!(read_words(&third.source_mask), [0; 4]);

    // The same again is nothing; over a restart they stay.
    rig.restart();
    let memory = rig.tables.memory();
    assert_eq!(memory.control.features.get(), features::MARK_RULES);
    assert_eq!(rig.director.set_mark_rules(wanted, &memory), Ok(()));
    assert_eq!(rig.director.poll_write(), None);
    // Others go where packets do not look.
    assert_eq!(rig.director.set_mark_rules([(&wide, 4)], &memory), Ok(()));
    rig.director.write_all(&memory);
    assert_eq!(memory.mark_rules.active.get(), 1);
    assert_eq!(rig.director.set_mark_rules([], &memory), Ok(()));
    rig.director.write_all(&memory);
    assert_eq!(memory.mark_rules.active.get(), 1 << 16);
    assert_eq!(memory.control.features.get(), 0);
}

/// XDP leaves packets for marks that it can not see to tc; those that rules give it sees.
#[test]
fn marks_that_no_rule_gives_are_somebody_elses() {
    let foreign = features::MARKS | features::FOREIGN_MARKS;
    let own = features::MARKS | features::MARK_RULES;
    let mut rig = Rig::new();
    let set = |rig: &mut Rig, marks: &[u32]| {
        let rules: Vec<MarkRule> = marks.iter().map(|&mark| rule(mark)).collect();
        let memory = rig.tables.memory();
        let wanted = rules.iter().map(|rule| (rule, 0));
        assert_eq!(rig.director.set_mark_rules(wanted, &memory), Ok(()));
        let steps = core::iter::from_fn(|| {
            let write = rig.director.poll_write()?;
            write::apply(&memory, &write);
            match write {
                Write::Features(features) => Some(Some(features)),
                _ => Some(None),
            }
        });
        steps.collect::<Vec<_>>()
    };
    rig.apply(add(mark(1, Family::V4), "rr"));
    assert_eq!(rig.memory().control.features.get(), foreign);
    let steps = [Some(foreign | own), None, Some(own)];
    assert_eq!(set(&mut rig, &[7, 1]), steps, "the rules between");
    rig.restart();
    assert_eq!(rig.memory().control.features.get(), own);
    rig.apply(add(mark(2, Family::V4), "rr"));
    assert_eq!(rig.memory().control.features.get(), own | foreign);
    rig.apply(Edit::DeleteService {
        service: mark(2, Family::V4),
    });
    assert_eq!(rig.memory().control.features.get(), own);
    let steps = [Some(foreign | own), None];
    assert_eq!(set(&mut rig, &[7]), steps);
    let steps = [None, Some(foreign)];
    assert_eq!(set(&mut rig, &[]), steps);
}

#[test]
fn rules_that_can_not_be_are_refused() {
    let mut rig = Rig::new();
    let both = MarkRule {
        source: Some(prefix("10.0.0.0/8")),
        destination: Some(prefix("2001:db8::/32")),
        ..rule(1)
    };
    #[allow(clippy::reversed_empty_ranges, reason = "one that is refused")]
    let backwards = MarkRule {
        ports: vec![9..=8],
        ..rule(1)
    };
    let many = MarkRule {
        ports: vec![1..=1; MarkRule::PORTS_MAX + 1],
        ..rule(1)
    };
    for (wrong, error) in [
        (rule(0), EditError::OutOfRange),
        (both, EditError::Invalid),
        (backwards, EditError::OutOfRange),
        (many, EditError::OutOfRange),
    ] {
        let memory = rig.tables.memory();
        let refused = rig.director.set_mark_rules([(&wrong, 0)], &memory);
        assert_eq!(refused, Err(error));
    }
    let one = rule(1);
    let memory = rig.tables.memory();
    let refused = rig
        .director
        .set_mark_rules([(&one, 0); MARK_RULES + 1], &memory);
    assert_eq!(refused, Err(EditError::OutOfRange));
    assert_eq!(rig.director.poll_write(), None);
    let most = [(&one, 0); MARK_RULES];
    assert_eq!(rig.director.set_mark_rules(most, &memory), Ok(()));
}

#[test]
fn edits_lead_to_what_is_wanted_of_servers() {
    let mut rig = Rig::new();
    let wanted = [configured(service(80), &[(1, 1), (2, 5)])];
    assert_eq!(configure(&mut rig, &wanted), Ok(3));
    let settings = |weight| Some(ServerSettings::new(ForwardMethod::Masq, weight));
    let wants = [
        (service(80), server(1), settings(1)),
        (service(80), server(2), settings(0)),
        (service(80), server(3), settings(2)),
        (service(80), server(4), None),
        (service(99), server(1), settings(1)),
    ];
    let edits = rig.director.edits_to(&wants);
    assert_eq!(
        edits,
        [
            edit_server(service(80), server(2), 0),
            add_server(service(80), server(3), 2)
        ]
    );
    for edit in edits {
        rig.apply(edit);
    }
    assert_eq!(rig.director.edits_to(&wants), []);
    let gone = [(service(80), server(3), None)];
    let delete = Edit::DeleteServer {
        service: service(80),
        server: server(3),
    };
    assert_eq!(rig.director.edits_to(&gone), [delete]);
    assert!(rig.director.is_configured(&service(80)));
    assert_eq!(
        rig.director.server_settings(&service(80), &server(2)),
        settings(0)
    );
}
