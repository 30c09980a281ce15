use super::*;
use crate::commands::realserver::notes::NotedSetting;

const V4: &str = "10.0.0.100";
const V6: &str = "2001:db8::100";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn wanted(vips: &[&str], tunnel: Option<Tunnel>) -> Wanted {
    Wanted {
        vips: vips.iter().map(|vip| address(vip)).collect(),
        tunnel,
    }
}

/// A machine with `lo`, a network card and the devices of these tunnels, as it comes up.
fn machine(tunnels: &[TunnelKind]) -> Seen {
    let mut seen = Seen::default();
    let names = ["lo", "eth0"].into_iter();
    let tunnels = tunnels.iter().map(|kind| kind.device());
    for (index, name) in (1..).zip(names.chain(tunnels)) {
        seen.devices.push(Device {
            name: name.into(),
            index,
            up: !is_tunnel(name),
            is_ethernet: name == "eth0",
        });
    }
    let names: Vec<String> = seen.devices.iter().map(|d| d.name.clone()).collect();
    for name in names.iter().map(String::as_str).chain([ALL]) {
        for knob in Knob::ALL {
            seen.settings.insert(Setting::new(knob, name), 0);
        }
    }
    put(&mut seen, "127.0.0.1", 8, "lo");
    put(&mut seen, "::1", 128, "lo");
    put(&mut seen, "10.0.0.7", 24, "eth0");
    seen
}

fn put(seen: &mut Seen, text: &str, prefix: u8, device: &str) {
    seen.addresses.push(Placed {
        address: address(text),
        prefix,
        device: device.into(),
    });
}

fn set(seen: &mut Seen, knob: Knob, device: &str, value: i32) {
    seen.settings.insert(Setting::new(knob, device), value);
}

/// What the kernel would make of a change.
fn made(seen: &mut Seen, change: &Change) {
    let is = |a: &Placed, address: &IpAddr, device: &str| {
        a.address == *address && a.device == *device && a.is_alone()
    };
    match change {
        Change::Set {
            setting,
            before,
            after,
        } => {
            assert_eq!(seen.setting(setting), Some(*before));
            seen.settings.insert(setting.clone(), *after);
        }
        Change::MakeDevice { kind } => {
            let mut more = machine(&[*kind]);
            seen.devices.push(more.devices.pop().unwrap());
            let settings = more.settings.into_iter();
            seen.settings
                .extend(settings.filter(|(s, _)| s.device == kind.device()));
        }
        Change::SetUp { device } | Change::SetDown { device } => {
            let found = seen.devices.iter_mut().find(|d| d.name == *device);
            found.unwrap().up = matches!(change, Change::SetUp { .. });
        }
        Change::OpenPort(port) => seen.ports.push(*port),
        Change::ClosePort(port) => seen.ports.retain(|other| other != port),
        Change::AddAddress { address, device } => {
            assert!(seen.device(device).unwrap().up, "{device} is down");
            put(seen, &address.to_string(), host_prefix(address), device);
        }
        Change::RemoveAddress { address, device } => {
            seen.addresses.retain(|a| !is(a, address, device));
        }
    }
}

/// Does all that is planned; the lines that are told.
fn bring_up(seen: &mut Seen, wanted: &Wanted, notes: &mut Notes) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..3 {
        for change in up(seen, wanted) {
            notes.note(&change);
            made(seen, &change);
            lines.push(change.to_string());
        }
    }
    assert_eq!(up(seen, wanted), []);
    lines
}

fn take_down(seen: &mut Seen, vips: &[&str], notes: &mut Notes) -> (Vec<String>, Vec<String>) {
    *notes = std::mem::take(notes).still_true(seen);
    let vips: Vec<IpAddr> = vips.iter().map(|vip| address(vip)).collect();
    let Down { changes, kept } = down(seen, &vips, notes);
    for change in &changes {
        notes.note(change);
        made(seen, change);
    }
    (changes.iter().map(ToString::to_string).collect(), kept)
}

#[test]
fn direct_routing_needs_the_address_and_silence_about_it() {
    let (mut seen, mut notes) = (machine(&[]), Notes::default());
    let before = seen.settings.clone();
    let lines = bring_up(&mut seen, &wanted(&[V4], None), &mut notes);
    assert_eq!(
        lines,
        [
            "arp_ignore on all: 0 -> 1",
            "arp_announce on all: 0 -> 2",
            "10.0.0.100 on lo: added"
        ]
    );
    let (lines, kept) = take_down(&mut seen, &[V4], &mut notes);
    assert_eq!(
        lines,
        [
            "10.0.0.100 on lo: removed",
            "arp_ignore on all: 1 -> 0",
            "arp_announce on all: 2 -> 0"
        ]
    );
    assert!(kept.is_empty());
    assert_eq!(seen.settings, before);
    assert_eq!(notes, Notes::default());
    assert_eq!(take_down(&mut seen, &[V4], &mut notes).0, [""; 0]);
}

#[test]
fn ipv6_is_not_answered_for_on_lo_and_needs_no_setting() {
    let mut seen = machine(&[]);
    assert_eq!(
        bring_up(&mut seen, &wanted(&[V6], None), &mut Notes::default()),
        ["2001:db8::100 on lo: added"]
    );
    let mut seen = machine(&[]);
    set(&mut seen, Knob::DisableIpv6, "lo", 1);
    let mut notes = Notes::default();
    assert_eq!(
        bring_up(&mut seen, &wanted(&[V6], None), &mut notes),
        ["disable_ipv6 on lo: 1 -> 0", "2001:db8::100 on lo: added"]
    );
    assert_eq!(
        take_down(&mut seen, &[V6], &mut notes).0,
        ["2001:db8::100 on lo: removed", "disable_ipv6 on lo: 0 -> 1"]
    );
}

#[test]
fn settings_that_do_as_well_stay() {
    for (ignore, announce) in [(1, 2), (2, 2), (8, 2)] {
        let mut seen = machine(&[]);
        set(&mut seen, Knob::ArpIgnore, ALL, ignore);
        set(&mut seen, Knob::ArpAnnounce, ALL, announce);
        let changes = up(&seen, &wanted(&[V4], None));
        assert_eq!(changes.len(), 1, "{changes:?}");
    }
    // 3 leaves unanswered only what has the scope of this host.
    let mut seen = machine(&[]);
    set(&mut seen, Knob::ArpIgnore, ALL, 2);
    set(&mut seen, Knob::ArpIgnore, "eth0", 3);
    set(&mut seen, Knob::ArpAnnounce, ALL, 1);
    let lines = bring_up(&mut seen, &wanted(&[V4], None), &mut Notes::default());
    assert_eq!(
        lines[..2],
        ["arp_ignore on eth0: 3 -> 1", "arp_announce on all: 1 -> 2"]
    );
}

#[test]
fn a_tunnel_needs_its_device_and_no_reverse_path_filter() {
    let (mut seen, mut notes) = (machine(&[]), Notes::default());
    set(&mut seen, Knob::RpFilter, ALL, 1);
    let wanted = wanted(&[V4, V6], Some(Tunnel::Gue(6080)));
    assert_eq!(
        bring_up(&mut seen, &wanted, &mut notes),
        [
            "tunl0: made",
            "ip6tnl0: made",
            "GUE port 6080 over IPv4: opened",
            "GUE port 6080 over IPv6: opened",
            "arp_ignore on all: 0 -> 1",
            "arp_announce on all: 0 -> 2",
            "rp_filter on all: 1 -> 0",
            "tunl0: down -> up",
            "ip6tnl0: down -> up",
            "10.0.0.100 on tunl0: added",
            "2001:db8::100 on ip6tnl0: added",
        ]
    );
    let (lines, kept) = take_down(&mut seen, &[V4], &mut notes);
    assert_eq!(
        lines,
        [
            "10.0.0.100 on tunl0: removed",
            "arp_ignore on all: 1 -> 0",
            "arp_announce on all: 2 -> 0",
            "rp_filter on all: 0 -> 1",
            "GUE port 6080 over IPv4: closed",
            "tunl0: up -> down",
        ]
    );
    assert_eq!(
        kept,
        [
            "GUE port 6080 over IPv6: kept for 2001:db8::100 on ip6tnl0",
            "ip6tnl0: kept for 2001:db8::100 on ip6tnl0",
        ]
    );
    assert_eq!(
        take_down(&mut seen, &[V6], &mut notes).0,
        [
            "2001:db8::100 on ip6tnl0: removed",
            "GUE port 6080 over IPv6: closed",
            "ip6tnl0: up -> down",
        ]
    );
}

#[test]
fn only_the_strict_reverse_path_filter_is_in_the_way() {
    for (all, own, expected) in [
        (1, 1, &[(ALL, 1), ("gre0", 1)][..]),
        (0, 1, &[("gre0", 1)]),
        // Loose in effect.
        (1, 2, &[]),
        (2, 1, &[]),
        (0, 0, &[]),
    ] {
        let mut seen = machine(&[TunnelKind::Gre]);
        set(&mut seen, Knob::RpFilter, ALL, all);
        set(&mut seen, Knob::RpFilter, "gre0", own);
        let changes = up(&seen, &wanted(&[V4], Some(Tunnel::Gre)));
        let filters: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Set {
                    setting, before, ..
                } if setting.name == Knob::RpFilter => Some((setting.device.as_str(), *before)),
                _ => None,
            })
            .collect();
        assert_eq!(filters, expected, "{all} {own}");
    }
}

#[test]
fn what_another_address_needs_stays() {
    let (mut seen, mut notes) = (machine(&[]), Notes::default());
    let other = "10.0.0.101";
    bring_up(&mut seen, &wanted(&[V4, other], None), &mut notes);
    let (lines, kept) = take_down(&mut seen, &[V4], &mut notes);
    assert_eq!(lines, ["10.0.0.100 on lo: removed"]);
    assert_eq!(kept[0], "arp_ignore on all: kept for 10.0.0.101 on lo");
    // Nobody else's IPv4 address: that of IPv6 needs none of it.
    bring_up(&mut seen, &wanted(&[V6], None), &mut notes);
    let (lines, _) = take_down(&mut seen, &[other], &mut notes);
    assert_eq!(lines.len(), 3, "{lines:?}");
}

#[test]
fn what_others_have_changed_since_is_left_alone() {
    let (mut seen, mut notes) = (machine(&[]), Notes::default());
    bring_up(&mut seen, &wanted(&[V4], None), &mut notes);
    set(&mut seen, Knob::ArpIgnore, ALL, 2);
    let (lines, _) = take_down(&mut seen, &[V4], &mut notes);
    assert_eq!(
        lines,
        ["10.0.0.100 on lo: removed", "arp_announce on all: 2 -> 0"]
    );
}

#[test]
fn settings_without_notes_stay() {
    let mut seen = machine(&[]);
    set(&mut seen, Knob::ArpIgnore, ALL, 1);
    put(&mut seen, V4, 32, "lo");
    let (lines, _) = take_down(&mut seen, &[V4], &mut Notes::default());
    assert_eq!(lines, ["10.0.0.100 on lo: removed"]);
}

#[test]
fn an_address_by_a_tunnel_serves_direct_routing_as_well() {
    let (mut seen, mut notes) = (machine(&[]), Notes::default());
    bring_up(&mut seen, &wanted(&[V4], Some(Tunnel::Ipip)), &mut notes);
    assert_eq!(up(&seen, &wanted(&[V4], None)), []);
    assert_eq!(problems(&seen, &wanted(&[V4], None)), []);
}

#[test]
fn addresses_in_the_wrong_place_are_told() {
    let mut seen = machine(&[]);
    put(&mut seen, V4, 24, "lo");
    let wanted = wanted(&["10.0.0.7", V4], None);
    let told = problems(&seen, &wanted);
    let remedies: Vec<_> = told.iter().map(|p| p.remedy.as_str()).collect();
    assert_eq!(
        remedies,
        [
            "ip address del 10.0.0.7/24 dev eth0",
            "ip address del 10.0.0.100/24 dev lo"
        ]
    );
    assert!(told[0].problem.contains("answers ARP requests"));
    // A network on `lo` is not what is asked for.
    assert!(
        up(&seen, &wanted)
            .iter()
            .any(|c| c.to_string() == "10.0.0.100 on lo: added")
    );
}

#[test]
fn each_change_is_a_problem_with_a_remedy() {
    let mut seen = machine(&[TunnelKind::Ipip]);
    seen.devices[1].name = "eth0.5".into();
    set(&mut seen, Knob::ArpIgnore, "eth0.5", 4);
    set(&mut seen, Knob::RpFilter, "tunl0", 1);
    let changes = up(&seen, &wanted(&[V4], Some(Tunnel::Gue(7))));
    let remedies: Vec<String> = changes.iter().map(|c| problem_of(c).remedy).collect();
    assert_eq!(
        remedies,
        [
            "ip fou add port 7 gue",
            "sysctl -w net.ipv4.conf.all.arp_ignore=1",
            "sysctl -w net/ipv4/conf/eth0.5/arp_ignore=1",
            "sysctl -w net.ipv4.conf.all.arp_announce=2",
            "sysctl -w net.ipv4.conf.tunl0.rp_filter=0",
            "ip link set tunl0 up",
            "ip address add 10.0.0.100/32 dev tunl0",
        ]
    );
}

#[test]
fn notes_are_true_only_as_long_as_it_is_so() {
    let mut seen = machine(&[TunnelKind::Gre]);
    let notes = Notes {
        settings: vec![NotedSetting {
            setting: Setting::new(Knob::ArpIgnore, ALL),
            before: 0,
            after: 1,
        }],
        up: vec!["gre0".into()],
        ports: vec![Port {
            ipv6: false,
            port: 1,
        }],
    };
    assert_eq!(notes.clone().still_true(&seen), Notes::default());
    set(&mut seen, Knob::ArpIgnore, ALL, 1);
    seen.devices[2].up = true;
    seen.ports = notes.ports.clone();
    assert_eq!(notes.clone().still_true(&seen), notes);
}
