//! Trees against IPVS's way, which compares all servers for each connection.

use evenkeel_datapath::{load, state};
use proptest::prelude::*;

use super::walk::Client;
use super::*;

pub(super) const SCHEDULERS: [&str; 8] = ["lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr"];

/// What `ip_vs_{lc,wlc,sed,nq,fo,ovf}.c` choose from the list, by port.
fn kernels_choice(
    scheduler: &str,
    list: &[ServerView],
    is_full: impl Fn(&ServerView) -> bool,
) -> Option<u16> {
    let usable = |s: &&ServerView| s.settings.weight > 0 && !is_full(s);
    let mut list: Vec<&ServerView> = list.iter().filter(usable).collect();
    let weight = |s: &ServerView| u64::from(s.settings.weight);
    let overhead = |s: &ServerView| (u64::from(s.active) << 8) + u64::from(s.inactive);
    if scheduler == "nq"
        && let Some(idle) = list.iter().find(|s| s.active == 0)
    {
        return Some(idle.key.port);
    }
    if scheduler == "ovf" {
        list.retain(|s| u64::from(s.active) <= weight(s));
    }
    let better = |new: &ServerView, old: &ServerView| match scheduler {
        "lc" => overhead(new) < overhead(old),
        "sed" | "nq" => {
            u64::from(old.active + 1) * weight(new) > u64::from(new.active + 1) * weight(old)
        }
        "fo" | "ovf" => weight(new) > weight(old),
        _ => overhead(old) * weight(new) > overhead(new) * weight(old),
    };
    let best = list
        .into_iter()
        .reduce(|old, new| if better(new, old) { new } else { old });
    best.map(|s| s.key.port)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u16, u32, u32),
    Edit(u16, u32, u32),
    Delete(u16),
    Scheduler(usize),
    Open(u8, bool),
    /// Connections of the chosen server end.
    Close(bool),
    Restart,
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let port = || 1u16..12;
    let weight = || prop_oneof![4 => 0u32..5, 1 => Just(i32::MAX as u32)];
    let upper = || prop_oneof![2 => Just(0u32), 1 => 1u32..6];
    prop_oneof![
        4 => (port(), weight(), upper()).prop_map(|(p, w, u)| Step::Add(p, w, u)),
        2 => (port(), weight(), upper()).prop_map(|(p, w, u)| Step::Edit(p, w, u)),
        1 => port().prop_map(Step::Delete),
        1 => (0..SCHEDULERS.len()).prop_map(Step::Scheduler),
        6 => (1u8..10, any::<bool>()).prop_map(|(count, active)| Step::Open(count, active)),
        2 => any::<bool>().prop_map(Step::Close),
        1 => Just(Step::Restart),
        1 => Just(Step::Pass),
    ]
}

fn settings(weight: u32, upper_threshold: u32) -> ServerSettings {
    ServerSettings {
        upper_threshold,
        ..ServerSettings::new(ForwardMethod::Route, weight)
    }
}

fn is_full(rig: &Rig, key: &ServiceKey, view: &ServerView) -> bool {
    let service = rig.director.live_service(key).unwrap();
    let server = rig.director.state.server_named(service, &view.key).unwrap();
    rig.memory().loads[server as usize].overloaded.get() != 0
}

/// The port of the server that the kernel would choose.
pub(super) fn expected(rig: &Rig, key: &ServiceKey, scheduler: &str) -> Option<u16> {
    kernels_choice(scheduler, &rig.servers(key), |s| is_full(rig, key, s))
}

fn agree(rig: &Rig, key: &ServiceKey, scheduler: &str) -> Result<Option<u32>, TestCaseError> {
    let expected = expected(rig, key, scheduler);
    let chosen = rig.choose(key, Client::default());
    let port = chosen.map(|s| u16::from_be(rig.memory().servers[s as usize].ports.get() as u16));
    prop_assert_eq!(port, expected, "{} {:?}", scheduler, rig.servers(key));
    Ok(chosen)
}

fn follow(
    rig: &mut Rig,
    key: ServiceKey,
    scheduler: &mut &'static str,
    step: Step,
) -> Result<(), TestCaseError> {
    let state_of = |active| {
        if active {
            state::ESTABLISHED
        } else {
            state::UDP
        }
    };
    match step {
        Step::Add(port, weight, upper) => {
            let _ = rig.attempt(Edit::AddServer {
                service: key,
                server: server(port),
                settings: settings(weight, upper),
            });
        }
        Step::Edit(port, weight, upper) => {
            let _ = rig.attempt(Edit::EditServer {
                service: key,
                server: server(port),
                settings: settings(weight, upper),
            });
        }
        Step::Delete(port) => {
            let _ = rig.attempt(delete_server(key, server(port)));
        }
        Step::Scheduler(number) => {
            *scheduler = SCHEDULERS[number];
            rig.apply(Edit::EditService {
                service: key,
                settings: ServiceSettings::scheduled_by(*scheduler),
            });
        }
        Step::Open(count, active) => {
            for _ in 0..count {
                let Some(server) = agree(rig, &key, scheduler)? else {
                    break;
                };
                load::begin(&rig.memory(), server, state_of(active));
            }
        }
        Step::Close(active) => {
            if let Some(server) = agree(rig, &key, scheduler)? {
                let counts = &rig.memory().loads[server as usize];
                let counter = if active {
                    &counts.active
                } else {
                    &counts.inactive
                };
                if counter.get() > 0 {
                    load::end(&rig.memory(), server, state_of(active));
                }
            }
        }
        Step::Restart => rig.restart(),
        Step::Pass => rig.pass(GRACE_MS),
    }
    agree(rig, &key, scheduler)?;
    Ok(())
}

proptest! {
    #[test]
    fn the_top_of_the_tree_is_the_kernels_choice(
        first in 0..SCHEDULERS.len(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut rig = Rig::new();
        let key = service(80);
        let mut scheduler = SCHEDULERS[first];
        rig.apply(add(key, scheduler));
        for step in steps {
            follow(&mut rig, key, &mut scheduler, step)?;
        }
        prop_assert_eq!(rig.director.repairs(), 0);
    }
}

#[test]
fn a_tree_has_room_for_1024_servers() {
    let (mut rig, key) = Rig::sized(Sizes {
        servers: 2048,
        endpoint_buckets: 2048,
        ring_words: 1 << 16,
        ..Sizes::default()
    })
    .serving("wlc", &[]);
    let edits: Vec<Edit> = (1..=1024)
        .map(|port| add_server(key, server(port), 1))
        .collect();
    assert_eq!(rig.try_all(&edits, true), []);
    let full = EditError::Full("servers of a service".into());
    assert_eq!(
        rig.attempt(add_server(key, server(1025), 1)),
        Err(full.clone())
    );
    // One without a weight takes no part.
    rig.apply(add_server(key, server(1025), 0));
    assert_eq!(
        rig.attempt(edit_server(key, server(1025), 1)),
        Err(full.clone())
    );
    let to = |scheduler| Edit::EditService {
        service: key,
        settings: ServiceSettings::scheduled_by(scheduler),
    };
    rig.apply(to("rr"));
    rig.apply(edit_server(key, server(1025), 1));
    assert_eq!(rig.attempt(to("wlc")), Err(full));
    assert_eq!(rig.ports(&key, 1025).len(), 1025);
}

#[test]
fn a_restart_finds_what_has_changed_meanwhile() {
    let (mut rig, key) = Rig::new().serving("lc", &[1, 2]);
    // Nobody has told the tree.
    let best = rig.choose(&key, Client::default()).unwrap();
    rig.memory().loads[best as usize].active.set(5);
    rig.memory().servers[best as usize].leaf.set(7);
    rig.restart();
    assert_ne!(rig.choose(&key, Client::default()), Some(best));
    assert_eq!(rig.named(&key).len(), 2);
}
