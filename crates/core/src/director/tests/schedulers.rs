//! Sequences against the kernel's recorded ones and against its algorithm.

use alloc::collections::{BTreeMap, BTreeSet};

use evenkeel_datapath::state;
use proptest::prelude::*;

use super::walk::{Client, mapped_host};
use super::*;
use crate::director::RING_SLOTS_MAX;
use crate::model::SchedulerFlags;

/// Clients and the ports of their servers, in the order in which a recording of the
/// kernel shows them. Two recordings are of TCP and have clients of no interest.
pub(super) fn recorded(name: &str) -> Vec<(Client, u16)> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/reference/golden/ipvsadm"
    );
    let text = std::fs::read_to_string(std::format!("{folder}/{name}")).unwrap();
    let lines = text.lines().filter_map(|line| {
        let (client, server) = line.split_once(" -> C0A80101:")?;
        let (port, address) = client.split_once(' ').unwrap_or((client, "0"));
        let client = Client {
            address: u32::from_str_radix(address, 16).unwrap_or_default(),
            port: port.parse().unwrap_or_default(),
            destination: [0; 4],
        };
        Some((client, server.split_whitespace().next()?.parse().ok()?))
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.len() >= 12, "{name}");
    lines
}

fn recorded_ports(name: &str) -> Vec<u16> {
    recorded(name).into_iter().map(|(_, port)| port).collect()
}

/// The service of the recordings.
pub(super) fn recorded_service(scheduler: &str, flags: SchedulerFlags) -> (Rig, ServiceKey) {
    weighted_service(scheduler, flags, [3, 2, 1])
}

fn weighted_service(
    scheduler: &str,
    flags: SchedulerFlags,
    weights: [u32; 3],
) -> (Rig, ServiceKey) {
    let mut rig = Rig::sized(Sizes {
        ring_words: 1 << 16,
        ..Sizes::default()
    });
    let key = ServiceKey::at(Protocol::Udp, [10, 0, 0, 10], 5000);
    rig.apply(add_with(
        key,
        ServiceSettings {
            flags,
            ..ServiceSettings::scheduled_by(scheduler)
        },
    ));
    for (port, weight) in (8081..).zip(weights) {
        rig.apply(add_server(key, server(port), weight));
    }
    (rig, key)
}

fn sequence(scheduler: &str, weights: [u32; 3], count: usize) -> Vec<u16> {
    let (rig, key) = weighted_service(scheduler, SchedulerFlags::default(), weights);
    rig.ports(&key, count)
}

#[test]
fn sequences_are_those_of_the_kernel() {
    for (scheduler, weights, file) in [
        ("rr", [3, 2, 1], "s1-seq-udp-rr.txt"),
        ("wrr", [3, 2, 1], "s1-seq-udp-wrr.txt"),
        ("wrr", [4, 3, 3], "s1-seq-udp-wrr-433.txt"),
    ] {
        let expected = recorded_ports(file);
        assert_eq!(
            sequence(scheduler, weights, expected.len()),
            expected,
            "{file}"
        );
    }
}

#[test]
fn sequences_that_follow_connections_are_those_of_the_kernel() {
    for (scheduler, state, file) in [
        ("lc", state::UDP, "s1-seq-udp-lc.txt"),
        ("wlc", state::UDP, "s1-seq-udp-wlc.txt"),
        ("sed", state::UDP, "s1-seq-udp-sed.txt"),
        ("nq", state::UDP, "s1-seq-udp-nq.txt"),
        ("fo", state::UDP, "s1-seq-udp-fo.txt"),
        ("ovf", state::UDP, "s1-seq-udp-ovf.txt"),
        ("lc", state::ESTABLISHED, "s3-seq-tcp-lc.txt"),
        ("wlc", state::ESTABLISHED, "s3-seq-tcp-wlc.txt"),
        ("nq", state::ESTABLISHED, "s3-seq-tcp-nq.txt"),
        ("fo", state::ESTABLISHED, "s3-seq-tcp-fo.txt"),
    ] {
        let expected = recorded_ports(file);
        let (rig, key) = recorded_service(scheduler, SchedulerFlags::default());
        let opened = rig.opened(&key, state, expected.len());
        assert_eq!(opened, expected, "{file}");
    }
}

#[test]
fn overflow_takes_one_more_than_the_weight_says() {
    let (rig, key) = recorded_service("ovf", SchedulerFlags::default());
    let expected = [8081, 8081, 8081, 8081, 8082, 8082, 8082, 8083, 8083];
    assert_eq!(rig.opened(&key, state::ESTABLISHED, 12), expected);
    assert_eq!(rig.choose(&key, Client::default()), None);
}

#[test]
fn clients_find_the_server_that_the_kernel_gives_them() {
    let none = SchedulerFlags::default();
    let port = SchedulerFlags { port: true, ..none };
    let fallback = SchedulerFlags {
        fallback: true,
        ..none
    };
    for (scheduler, flags, drained, file) in [
        ("sh", none, false, "s2-hash-sh.txt"),
        ("sh", port, false, "s2-hash-sh-port.txt"),
        ("sh", none, true, "s2-hash-sh-nofallback-w0.txt"),
        ("mh", none, false, "s2-hash-mh.txt"),
        ("mh", fallback, true, "s2-hash-mh-fallback.txt"),
    ] {
        let (mut rig, key) = recorded_service(scheduler, flags);
        if drained {
            rig.apply(edit_server(key, server(8082), 0));
        }
        for restarted in [false, true] {
            for (client, expected) in recorded(file) {
                let chosen = rig.choose_port(&key, client);
                assert_eq!(chosen, Some(expected), "{file} {client:x?} {restarted}");
            }
            rig.restart();
            assert_eq!(rig.director.repairs(), 0);
        }
    }
}

#[test]
fn clients_of_a_drained_server_are_refused_as_the_kernel_does() {
    let (mut rig, key) = recorded_service("sh", SchedulerFlags::default());
    rig.apply(edit_server(key, server(8082), 0));
    let served = recorded("s2-hash-sh-nofallback-w0.txt");
    let served: BTreeSet<u32> = served.iter().map(|(client, _)| client.address).collect();
    for address in 0x0a00_0064..0x0a00_0084 {
        let client = Client {
            address,
            ..Client::default()
        };
        let chosen = rig.choose(&key, client);
        assert_eq!(chosen.is_some(), served.contains(&address), "{address:x}");
    }
}

#[test]
fn destinations_find_the_server_that_the_kernel_gives_them() {
    let (rig, key) = recorded_service("dh", SchedulerFlags::default());
    for (client, expected) in recorded("s2-hash-dh.txt") {
        let client = Client {
            destination: mapped_host(0x0a00_0000 + u32::from(client.port) - 20_000),
            ..client
        };
        assert_eq!(rig.choose_port(&key, client), Some(expected), "{client:x?}");
    }
}

#[test]
fn two_choices_are_drawn_by_weight() {
    let (mut rig, key) = weighted_service("twos", SchedulerFlags::default(), [6, 0, 2]);
    let share = |rig: &Rig, server: u32| rig.slots(&key).iter().filter(|&&s| s == server).count();
    assert_eq!((share(&rig, 0), share(&rig, 1), share(&rig, 2)), (3, 0, 1));
    rig.apply(edit_server(key, server(8082), 2_000_000_011));
    assert!(rig.slots(&key).len() <= RING_SLOTS_MAX as usize);
    assert!(share(&rig, 0) >= 1 && share(&rig, 1) > 16_000);
}

#[test]
fn an_overloaded_server_is_passed_over() {
    for scheduler in ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf"] {
        let (mut rig, key) = recorded_service(scheduler, SchedulerFlags::default());
        let full = ServerSettings {
            upper_threshold: 2,
            ..ServerSettings::new(ForwardMethod::Masq, 3)
        };
        rig.apply(Edit::EditServer {
            service: key,
            server: server(8081),
            settings: full,
        });
        let opened = rig.opened(&key, state::UDP, 12);
        let first = opened.iter().filter(|&&port| port == 8081).count();
        assert!(first <= 2, "{scheduler}: {opened:?}");
    }
}

#[test]
fn a_period_too_long_is_scaled_and_keeps_proportions() {
    let counts = |weights| {
        let mut counts = BTreeMap::new();
        for port in sequence("wrr", weights, 16_382) {
            *counts.entry(port).or_insert(0u32) += 1;
        }
        counts
    };
    let all = counts([2_000_000_011, 1_000_000_007, 1]);
    assert!(all[&8081].abs_diff(all[&8082] * 2) < 4, "{all:?}");
    assert!(all[&8083] >= 1, "{all:?}");
}

/// `ip_vs_rr.c` and `ip_vs_wrr.c`, step by step.
#[derive(Default)]
struct Kernel {
    weighted: bool,
    /// The list: port and weight.
    list: Vec<(u16, i64)>,
    /// Port used last; nothing: the head.
    cursor: Option<u16>,
    di: i64,
    mw: i64,
    cw: i64,
}

impl Kernel {
    fn gcd(mut a: i64, mut b: i64) -> i64 {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    fn recompute(&mut self) {
        let positive = self.list.iter().map(|s| s.1).filter(|&w| w > 0);
        self.di = positive.fold(0, Self::gcd).max(1);
        self.mw = self.list.iter().map(|s| s.1).max().unwrap_or(0) - (self.di - 1);
    }

    fn init(&mut self, weighted: bool) {
        self.weighted = weighted;
        self.cursor = None;
        self.recompute();
        self.cw = self.mw;
    }

    fn changed(&mut self) {
        if self.weighted {
            self.cursor = None;
            self.recompute();
            if self.cw > self.mw || self.cw == 0 {
                self.cw = self.mw;
            } else if self.di > 1 {
                self.cw = self.cw / self.di * self.di + 1;
            }
        }
    }

    fn add(&mut self, port: u16, weight: u32) {
        self.list.insert(0, (port, i64::from(weight)));
        self.changed();
    }

    fn edit(&mut self, port: u16, weight: u32) {
        let at = self.list.iter().position(|s| s.0 == port).unwrap();
        self.list[at].1 = i64::from(weight);
        self.changed();
    }

    fn delete(&mut self, port: u16) {
        let at = self.list.iter().position(|s| s.0 == port).unwrap();
        if !self.weighted && self.cursor == Some(port) {
            self.cursor = at.checked_sub(1).map(|before| self.list[before].0);
        }
        self.list.remove(at);
        self.changed();
    }

    fn schedule(&mut self) -> Option<u16> {
        let start = match self.cursor {
            Some(port) => self.list.iter().position(|s| s.0 == port).unwrap() + 1,
            None => 0,
        };
        if !self.weighted {
            let (before, behind) = self.list.split_at(start);
            let found = behind.iter().chain(before).find(|s| s.1 > 0)?.0;
            self.cursor = Some(found);
            return Some(found);
        }
        if self.mw == 0 {
            return None;
        }
        let mut at = start;
        loop {
            if let Some(&(port, _)) = self.list[at..].iter().find(|s| s.1 >= self.cw) {
                self.cursor = Some(port);
                return Some(port);
            }
            at = 0;
            self.cw -= self.di;
            if self.cw <= 0 {
                self.cw = self.mw;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u16, u32),
    Edit(u16, u32),
    Delete(u16),
    Scheduler(bool),
    Serve(u8),
    Restart,
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let weight = prop_oneof![3 => 0u32..6, 1 => Just(600), 1 => Just(400), 1 => 0u32..90];
    prop_oneof![
        3 => (1u16..9, weight.clone()).prop_map(|(port, weight)| Step::Add(port, weight)),
        2 => (1u16..9, weight).prop_map(|(port, weight)| Step::Edit(port, weight)),
        2 => (1u16..9).prop_map(Step::Delete),
        1 => any::<bool>().prop_map(Step::Scheduler),
        4 => (0u8..40).prop_map(Step::Serve),
        1 => Just(Step::Restart),
        1 => Just(Step::Pass),
    ]
}

/// Applies a step to both and compares what they say.
fn follow(rig: &mut Rig, kernel: &mut Kernel, step: &Step) -> Result<(), TestCaseError> {
    let key = service(80);
    let there = |port: u16| kernel.list.iter().any(|s| s.0 == port);
    match *step {
        Step::Add(port, _) if there(port) => {
            let again = rig.attempt(add_server(key, server(port), 1));
            prop_assert_eq!(again, Err(EditError::ServerExists));
        }
        Step::Add(port, weight) => {
            rig.apply(add_server(key, server(port), weight));
            kernel.add(port, weight);
        }
        Step::Edit(port, _) | Step::Delete(port) if !there(port) => {
            let missing = rig.attempt(edit_server(key, server(port), 1));
            prop_assert_eq!(missing, Err(EditError::NoSuchServer));
        }
        Step::Edit(port, weight) => {
            rig.apply(edit_server(key, server(port), weight));
            kernel.edit(port, weight);
        }
        Step::Delete(port) => {
            rig.apply(delete_server(key, server(port)));
            kernel.delete(port);
        }
        Step::Scheduler(weighted) => {
            let scheduler = String::from(if weighted { "wrr" } else { "rr" });
            rig.apply(Edit::EditService {
                service: key,
                settings: ServiceSettings::scheduled_by(scheduler),
            });
            if weighted != kernel.weighted {
                kernel.init(weighted);
            }
        }
        Step::Serve(count) => {
            for _ in 0..count {
                prop_assert_eq!(rig.next_port(&key), kernel.schedule());
            }
        }
        Step::Restart => rig.restart(),
        Step::Pass => rig.pass(GRACE_MS),
    }
    let listed: Vec<(u16, i64)> = rig
        .servers(&key)
        .iter()
        .map(|s| (s.key.port, i64::from(s.settings.weight)))
        .collect();
    prop_assert_eq!(&listed, &kernel.list);
    Ok(())
}

proptest! {
    /// Whatever is edited, and whenever the daemon is replaced: each connection goes
    /// where the kernel would have sent it.
    #[test]
    fn edits_keep_the_kernels_position(steps in prop::collection::vec(step(), 1..60)) {
        let mut rig = Rig::sized(Sizes { ring_words: 1 << 15, ..Sizes::default() });
        let mut kernel = Kernel::default();
        kernel.init(false);
        rig.apply(add(service(80), "rr"));
        for step in &steps {
            follow(&mut rig, &mut kernel, step)?;
        }
        prop_assert_eq!(rig.director.repairs(), 0);
    }
}
