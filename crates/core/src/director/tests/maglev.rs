//! Maglev tables: who has a slot, and who had it.

use std::string::ToString;

use super::*;

/// Four servers of weight 1.
fn rig() -> (Rig, ServiceKey) {
    Rig::sized(Sizes {
        ring_words: 1 << 16,
        ..Sizes::default()
    })
    .serving("mh", &[1, 2, 3, 4])
}

/// The table and the former owners.
fn tables(rig: &Rig, key: &ServiceKey) -> (Vec<u32>, Vec<u32>) {
    let mut present = rig.slots(key);
    let former = present.split_off(4093);
    (present, former)
}

fn slot_of(rig: &Rig, key: &ServiceKey, port: u16) -> u32 {
    let service = rig.director.live_service(key).unwrap();
    rig.director
        .state
        .server_named(service, &server(port))
        .unwrap()
}

#[test]
fn former_owners_are_those_before_the_last_change() {
    let (mut rig, key) = rig();
    let (before, _) = tables(&rig, &key);
    rig.apply(add_server(key, server(5), 1));
    let (present, former) = tables(&rig, &key);
    assert!(former == before);
    let moved = present.iter().zip(&former).filter(|(a, b)| a != b).count();
    // A fifth goes to the new one; others hardly move.
    assert!((600..1500).contains(&moved), "{moved}");
    // An edit that moves nobody is no change of the servers.
    rig.apply(edit_server(key, server(5), 1));
    assert!(tables(&rig, &key) == (present.clone(), former.clone()));
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
    assert!(tables(&rig, &key) == (present.clone(), former));
    rig.apply(delete_server(key, server(5)));
    assert!(tables(&rig, &key) == (before, present));
}

#[test]
fn a_slot_that_is_given_away_is_nobodys_former_one() {
    let (mut rig, key) = rig();
    let gone = slot_of(&rig, &key, 4);
    rig.apply(delete_server(key, server(4)));
    let (present, former) = tables(&rig, &key);
    assert!(former.contains(&gone) && !present.contains(&gone));
    rig.pass(TRASH_MS);
    let (after, former) = tables(&rig, &key);
    assert!(after == present && !former.contains(&gone));
    rig.apply(add(service(81), "rr"));
    rig.apply(add_server(service(81), server(9), 1));
    assert_eq!(slot_of(&rig, &service(81), 9), gone);
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
}

#[test]
fn a_weight_of_0_keeps_its_slots_with_ipvs_and_gives_them_up_without() {
    let (mut rig, key) = rig();
    let (before, _) = tables(&rig, &key);
    let drained = slot_of(&rig, &key, 2);
    rig.apply(edit_server(key, server(2), 0));
    assert!(tables(&rig, &key).0 == before);
    // Over a restart too.
    rig.restart();
    rig.apply(edit_server(key, server(3), 1));
    assert!(tables(&rig, &key).0 == before);
    assert_eq!(rig.director.repairs(), 0);
    rig.apply(Edit::EditService {
        service: key,
        settings: ServiceSettings {
            compatible: Some(false),
            ..ServiceSettings::scheduled_by("mh")
        },
    });
    // An edit that does not say it leaves it.
    rig.apply(Edit::EditService {
        service: key,
        settings: ServiceSettings::scheduled_by("mh"),
    });
    assert!(!tables(&rig, &key).0.contains(&drained));
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
    rig.apply(edit_server(key, server(2), 1));
    assert!(tables(&rig, &key).0 == before);
}

#[test]
fn one_that_never_had_a_weight_gets_no_slots() {
    let (mut rig, key) = rig();
    rig.apply(add_server(key, server(5), 0));
    assert!(!tables(&rig, &key).0.contains(&slot_of(&rig, &key, 5)));
    // One that comes back without a weight has forgotten the one that it had.
    rig.apply(delete_server(key, server(1)));
    rig.apply(add_server(key, server(1), 0));
    assert!(!tables(&rig, &key).0.contains(&slot_of(&rig, &key, 1)));
    let only = service(81);
    rig.apply(add(only, "mh"));
    rig.apply(add_server(only, server(1), 0));
    assert!(rig.slots(&only).is_empty());
    rig.restart();
    assert_eq!(rig.director.repairs(), 0);
}

#[test]
fn a_table_has_as_many_servers_as_slots_at_most() {
    let (mut rig, key) = Rig::sized(Sizes {
        servers: 5000,
        endpoint_buckets: 8192,
        ring_words: 1 << 16,
        ..Sizes::default()
    })
    .serving("mh", &[]);
    let edits: Vec<Edit> = (1..=4093)
        .map(|port| add_server(key, server(port), 1))
        .collect();
    assert_eq!(rig.try_all(&edits, true), []);
    let (mut present, _) = tables(&rig, &key);
    present.sort_unstable();
    present.dedup();
    assert_eq!(present.len(), 4093);
    let refused = rig.attempt(add_server(key, server(4094), 1)).unwrap_err();
    assert!(
        refused.to_string().contains("servers of a service"),
        "{refused}"
    );
}
