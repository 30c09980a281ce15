//! The programs get onto interfaces, stay there without the process, and come off.

mod common;

use std::fs;
use std::path::Path;

use caps::Capability;
use common::{ip, isolated, link, open, run};
use evenkeel_datapath::layout::{INTERFACES, interface_flags};
use evenkeel_kernel::Error;
use evenkeel_kernel::attach::{Hook, TcWay, Wanted, purge};
use evenkeel_kernel::dataplane::Dataplane;
use evenkeel_kernel::network::{Link, links};
use evenkeel_kernel::system::drop_capabilities;

fn veth() {
    ip("link add v0 address 02:00:00:00:00:01 type veth peer name v1");
    ip("link set v0 up");
    ip("link set v1 up");
}

/// How many programs `ip` and `tc` show of an attachment: XDP and a filter, not
/// what is attached through TCX.
fn shown(hook: &str) -> usize {
    usize::from(hook.contains("xdp")) + usize::from(hook.contains("clsact"))
}

/// The numbers of the programs that `ip` and `tc` show on an interface.
fn programs(interface: &str) -> Vec<String> {
    let shown = [
        run("ip", &format!("-d link show dev {interface}")),
        run("tc", &format!("filter show dev {interface} ingress")),
    ]
    .concat();
    let words: Vec<&str> = shown.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| pair[0] == "id")
        .map(|pair| pair[1].to_owned())
        .collect()
}

#[test]
fn auto_takes_tc_on_a_veth_and_says_why() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        let v0 = link("v0");
        let attached = dataplane.attach(&v0, None, Hook::Auto).unwrap();
        assert!(attached.hook.starts_with("tc ("), "{attached:?}");
        assert!(attached.why.contains("veth"), "{attached:?}");
        assert_eq!(dataplane.attached().unwrap(), [v0.index]);

        let slot = &dataplane.memory().interfaces[(v0.index % INTERFACES) as usize];
        assert_eq!(slot.index.get(), v0.index);
        assert_eq!(slot.mac_low.get().to_ne_bytes(), [2, 0, 0, 0]);
        assert_ne!(slot.mac_high.get() & interface_flags::PARTIAL_CHECKSUMS, 0);

        dataplane.detach(v0.index).unwrap();
        assert_eq!(dataplane.attached().unwrap(), [0; 0]);
        assert_eq!(slot.index.get(), 0);
        dataplane.detach(v0.index).unwrap();
    });
}

#[test]
fn forced_xdp_stands_before_tc_and_outlives_the_process() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        let v0 = link("v0");
        let attached = dataplane.attach(&v0, None, Hook::Xdp).unwrap();
        assert!(attached.hook.starts_with("xdp+tc"), "{attached:?}");
        let before = programs("v0");
        assert_eq!(before.len(), shown(&attached.hook), "{before:?}");
        drop(dataplane);
        assert_eq!(programs("v0"), before);

        // Adopting leaves it as it is.
        let dataplane = open(pins);
        assert_eq!(dataplane.attached().unwrap(), [v0.index]);
        assert_eq!(dataplane.attach(&v0, None, Hook::Xdp).unwrap(), attached);
        assert_eq!(programs("v0"), before);
        // And another setting takes it off again.
        let attached = dataplane.attach(&v0, None, Hook::Tc).unwrap();
        assert!(attached.hook.starts_with("tc"), "{attached:?}");
        assert_eq!(programs("v0").len(), shown(&attached.hook));
    });
}

#[test]
fn clsact_is_found_again_and_goes_without_a_trace() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        let v0 = link("v0");
        let attach =
            |dataplane: &Dataplane, way| dataplane.attach_by(&v0, None, Hook::Auto, way).unwrap();
        assert_eq!(attach(&dataplane, TcWay::Clsact).hook, "tc (clsact)");
        let shown = run("tc", "filter show dev v0 ingress");
        assert!(
            shown.contains("evenkeel/test") && shown.contains("direct-action"),
            "{shown}"
        );
        let before = programs("v0");
        drop(dataplane);
        let dataplane = open(pins);
        attach(&dataplane, TcWay::Clsact);
        assert_eq!(programs("v0"), before);
        dataplane.detach(v0.index).unwrap();
        assert!(!run("tc", "qdisc show dev v0").contains("clsact"));
    });
}

#[test]
fn a_clsact_that_others_use_stays() {
    isolated(|pins| {
        veth();
        run("tc", "qdisc add dev v0 clsact");
        run(
            "tc",
            "filter add dev v0 ingress prio 7 protocol ip u32 match u32 0 0 flowid 1:1",
        );
        let dataplane = open(pins);
        let v0 = link("v0");
        dataplane
            .attach_by(&v0, None, Hook::Auto, TcWay::Clsact)
            .unwrap();
        dataplane.detach(v0.index).unwrap();
        let shown = run("tc", "filter show dev v0 ingress");
        assert!(
            shown.contains("u32") && !shown.contains("evenkeel"),
            "{shown}"
        );
    });
}

/// What is seen of the instance where packets leave: filters, and links by name.
fn at_egress(pins: &Path, name: &str) -> [usize; 2] {
    let filters = run("tc", &format!("filter show dev {name} egress"));
    let links = fs::read_dir(pins.join("links")).unwrap();
    let names = links.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    [
        filters.matches("evenkeel/").count(),
        names.filter(|name| name.ends_with("-egress")).count(),
    ]
}

#[test]
fn what_leaves_is_looked_at_only_while_it_is_wanted() {
    isolated(|pins| {
        veth();
        let v0 = link("v0");
        for way in [TcWay::Clsact, TcWay::Newest] {
            let dataplane = open(pins);
            let attached = dataplane.attach_by(&v0, None, Hook::Auto, way).unwrap();
            let filters = shown(&attached.hook);
            assert_eq!(at_egress(pins, "v0"), [0, 0]);
            for _ in 0..2 {
                dataplane.set_egress_by(&v0, true, way).unwrap();
                assert_eq!(at_egress(pins, "v0"), [filters, 1]);
            }
            dataplane.set_egress_by(&v0, false, way).unwrap();
            assert_eq!(at_egress(pins, "v0"), [0, 0]);
            assert_eq!(programs("v0").len(), filters, "what comes in goes on");
            dataplane.set_egress_by(&v0, true, way).unwrap();
            dataplane.detach(v0.index).unwrap();
            assert_eq!(at_egress(pins, "v0"), [0, 0]);
            assert!(!run("tc", "qdisc show dev v0").contains("clsact"));
            dataplane.attach_by(&v0, None, Hook::Auto, way).unwrap();
            dataplane.set_egress_by(&v0, true, way).unwrap();
            drop(dataplane);
            assert!(purge(pins).unwrap());
            assert!(!run("tc", "filter show dev v0 egress").contains("evenkeel"));
            assert!(!run("tc", "qdisc show dev v0").contains("clsact"));
        }
    });
}

#[test]
fn the_end_of_a_tunnel_has_tc_alone_unless_it_is_ignored() {
    isolated(|pins| {
        ip("tuntap add dev t0 mode tun");
        // The kernel need not have such devices; their name is all that is asked.
        let t0 = Link {
            kind: Some("ipip".into()),
            ..link("t0")
        };
        assert!(t0.is_bare() && t0.mac.is_none());
        let ignored = Wanted {
            ignores_tunnels: true,
            ..Wanted::default()
        };
        for way in [TcWay::Clsact, TcWay::Newest] {
            let dataplane = open(pins);
            let attached = dataplane.attach_by(&t0, None, Hook::Xdp, way).unwrap();
            assert!(attached.hook.starts_with("tc ("), "{attached:?}");
            assert!(attached.why.contains("ipip"), "{attached:?}");
            dataplane.set_egress_by(&t0, true, way).unwrap();
            let (before, filters) = (programs("t0"), shown(&attached.hook));
            assert_eq!(before.len(), filters);
            assert_eq!(at_egress(pins, "t0"), [filters, 1]);
            drop(dataplane);
            // The next one takes it over as it is.
            let dataplane = open(pins);
            assert_eq!(dataplane.attached().unwrap(), [t0.index]);
            let again = dataplane.attach_by(&t0, None, Hook::Auto, way).unwrap();
            assert_eq!((again, programs("t0")), (attached, before));
            let let_go = dataplane.attach_by(&t0, None, ignored, way).unwrap();
            assert_eq!(let_go.hook, "none");
            assert!(let_go.why.contains("ignore_tunneled"), "{let_go:?}");
            assert_eq!(dataplane.attached().unwrap(), [0; 0]);
            assert_eq!((programs("t0").len(), at_egress(pins, "t0")), (0, [0, 0]));
            assert!(!run("tc", "qdisc show dev t0").contains("clsact"));
        }
        let dataplane = open(pins);
        dataplane.attach(&t0, None, Hook::Auto).unwrap();
        dataplane.set_egress(&t0, true).unwrap();
        drop(dataplane);
        assert!(purge(pins).unwrap());
        assert!(programs("t0").is_empty());
        assert!(!run("tc", "qdisc show dev t0").contains("clsact"));
    });
}

#[test]
fn moving_to_tcx_takes_the_filter_off() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        let v0 = link("v0");
        dataplane
            .attach_by(&v0, None, Hook::Auto, TcWay::Clsact)
            .unwrap();
        if dataplane.attach(&v0, None, Hook::Auto).unwrap().hook != "tc (tcx)" {
            println!("skipped: this kernel has no TCX");
            return;
        }
        assert!(!run("tc", "filter show dev v0 ingress").contains("evenkeel"));
    });
}

#[test]
fn new_programs_take_the_place_of_the_old() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        let v0 = link("v0");
        for way in [TcWay::Newest, TcWay::Clsact] {
            dataplane.attach_by(&v0, None, Hook::Xdp, way).unwrap();
        }
        let before = programs("v0");
        assert_eq!(before.len(), 2, "{before:?}");
        // Makes it look like another build's.
        dataplane.memory().control.object_hash.set(1);
        drop(dataplane);
        let dataplane = open(pins);
        assert_eq!(programs("v0"), before);
        dataplane
            .attach_by(&v0, None, Hook::Xdp, TcWay::Clsact)
            .unwrap();
        let after = programs("v0");
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(
            after.iter().all(|id| !before.contains(id)),
            "{before:?} {after:?}"
        );
    });
}

#[test]
fn the_pin_of_an_interface_that_has_gone_is_not_taken_for_its_successors() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        let v0 = link("v0");
        dataplane.attach(&v0, None, Hook::Xdp).unwrap();
        ip("link del v0");
        assert_eq!(dataplane.attached().unwrap(), [v0.index]);
        // The same index, another interface.
        ip(&format!(
            "link add v0 index {} type veth peer name v1",
            v0.index
        ));
        let v0 = link("v0");
        let attached = dataplane.attach(&v0, None, Hook::Xdp).unwrap();
        assert!(attached.hook.starts_with("xdp+tc"), "{attached:?}");
        assert_eq!(programs("v0").len(), shown(&attached.hook));
        ip("link del v0");
        dataplane.detach(v0.index).unwrap();
        assert_eq!(dataplane.attached().unwrap(), [0; 0]);
    });
}

#[test]
fn a_ports_bridge_is_attached_instead() {
    isolated(|pins| {
        veth();
        ip("link add br0 type bridge");
        ip("link set v0 master br0");
        let dataplane = open(pins);
        let (v0, br0) = (link("v0"), link("br0"));
        let attached = dataplane.attach(&v0, Some(&br0), Hook::Auto).unwrap();
        assert_eq!(attached.hook, "none");
        assert!(attached.why.contains("bridge br0"), "{attached:?}");
        assert!(
            dataplane
                .attach(&br0, None, Hook::Auto)
                .unwrap()
                .hook
                .starts_with("tc")
        );
    });
}

#[test]
fn the_loopback_interface_has_tc_alone() {
    isolated(|pins| {
        let setting =
            || std::fs::read_to_string("/proc/sys/net/ipv4/conf/lo/accept_local").unwrap();
        let dataplane = open(pins);
        let lo = link("lo");
        for _ in 0..2 {
            let attached = dataplane.attach(&lo, None, Hook::Xdp).unwrap();
            assert!(attached.hook.starts_with("tc"), "{attached:?}");
            assert_eq!(setting(), "1\n");
        }
        dataplane.detach(lo.index).unwrap();
        assert_eq!(setting(), "0\n");
        assert_eq!(dataplane.attached().unwrap(), [0; 0]);
    });
}

#[test]
fn names_with_dots_can_be_attached() {
    isolated(|pins| {
        ip("link add a.b type veth peer name c.d");
        let dataplane = open(pins);
        assert!(
            dataplane
                .attach(&link("a.b"), None, Hook::Xdp)
                .unwrap()
                .hook
                .contains("xdp")
        );
    });
}

#[test]
fn another_xdp_program_is_left_alone() {
    isolated(|pins| {
        veth();
        let first = open(pins);
        let second = open(&pins.with_file_name("second"));
        let v0 = link("v0");
        assert!(
            first
                .attach(&v0, None, Hook::Xdp)
                .unwrap()
                .hook
                .contains("xdp")
        );
        let attached = second.attach(&v0, None, Hook::Xdp).unwrap();
        assert!(!attached.hook.contains("xdp"), "{attached:?}");
        assert_eq!(attached.why, "another XDP program is attached");
    });
}

#[test]
fn interfaces_of_one_slot_are_refused() {
    isolated(|pins| {
        ip("link add a0 index 100 type veth peer name b0");
        ip(&format!(
            "link add a1 index {} type veth peer name b1",
            100 + INTERFACES
        ));
        let dataplane = open(pins);
        dataplane.attach(&link("a0"), None, Hook::Auto).unwrap();
        let error = dataplane.attach(&link("a1"), None, Hook::Auto).unwrap_err();
        assert!(
            matches!(error, Error::InterfaceSlot { other: 100, .. }),
            "{error}"
        );
    });
}

#[test]
fn a_running_daemon_needs_no_more_than_it_keeps() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        dataplane.attach(&link("v0"), None, Hook::Xdp).unwrap();
        drop_capabilities().unwrap();
        // The rights of its children, root or not, are as few: those of a dataplane, of checks
        // and of scripts, and none that lead to all others.
        let child = run("grep", "CapBnd /proc/self/status");
        let bounding = child.split_whitespace().nth(1).unwrap();
        let bounding = u64::from_str_radix(bounding, 16).unwrap();
        assert!(bounding.count_ones() <= 9, "{child}");
        for capability in [
            Capability::CAP_SYS_ADMIN,
            Capability::CAP_DAC_OVERRIDE,
            Capability::CAP_SYS_MODULE,
            Capability::CAP_SYS_PTRACE,
            Capability::CAP_SETPCAP,
        ] {
            assert_eq!(bounding & capability.bitmask(), 0, "{capability}: {child}");
        }
        dataplane.now_tick().unwrap();
        dataplane.attach(&link("v0"), None, Hook::Tc).unwrap();
        for way in [TcWay::Clsact, TcWay::Newest] {
            dataplane
                .attach_by(&link("v1"), None, Hook::Xdp, way)
                .unwrap();
        }
        drop(dataplane);
        assert!(purge(pins).unwrap());
    });
}

#[test]
fn purge_removes_everything_and_can_be_repeated() {
    isolated(|pins| {
        veth();
        let dataplane = open(pins);
        dataplane.attach(&link("v0"), None, Hook::Xdp).unwrap();
        dataplane
            .attach_by(&link("v1"), None, Hook::Tc, TcWay::Clsact)
            .unwrap();
        drop(dataplane);
        assert!(purge(pins).unwrap());
        for name in ["v0", "v1"] {
            assert_eq!(programs(name), [""; 0], "{name}");
            assert!(!run("tc", &format!("qdisc show dev {name}")).contains("clsact"));
        }
        assert!(!pins.exists());
        assert!(!purge(pins).unwrap());
        // Others' instances are others' business.
        assert!(
            fs::read_dir(pins.parent().unwrap())
                .unwrap()
                .next()
                .is_none()
        );
    });
}

#[test]
fn links_tell_what_they_are() {
    isolated(|_| {
        veth();
        ip("link set v0 mtu 1400");
        let v0 = link("v0");
        assert!(v0.is_ethernet() && !v0.is_physical && v0.is_up);
        assert_eq!((v0.kind.as_deref(), v0.mtu), (Some("veth"), 1400));
        assert_eq!(v0.mac, Some([2, 0, 0, 0, 0, 1]));
        assert!(link("lo").is_loopback());
        assert_eq!(links().unwrap().len(), 3);
    });
}
