//! Which hooks an interface gets, and how that is told.

use std::fmt;
use std::str::FromStr;

use nix::libc;

use crate::network::{Link, LinkLayer};

/// What the configuration wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hook {
    /// XDP on physical interfaces, tc on all.
    #[default]
    Auto,
    /// XDP wherever the driver has it, tc on all.
    Xdp,
    /// tc alone.
    Tc,
}

impl FromStr for Hook {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "xdp" => Ok(Self::Xdp),
            "tc" => Ok(Self::Tc),
            _ => Err(format!("unknown hook {name}: allowed are auto, xdp and tc")),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Xdp => "xdp",
            Self::Tc => "tc",
        })
    }
}

/// What is wanted of all interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By which hook.
    pub hook: Hook,
    /// `net.ipv4.vs.ignore_tunneled`: nothing is attached to the ends of tunnels of IPIP and
    /// GRE.
    pub ignores_tunnels: bool,
}

impl From<Hook> for Wanted {
    fn from(hook: Hook) -> Self {
        Self {
            hook,
            ..Self::default()
        }
    }
}

/// How the dataplane sits on an interface, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `xdp+tc (tcx)`, `xdp+tc (clsact)`, `tc (tcx)`, `tc (clsact)` or `none`.
    pub hook: String,
    /// Why this one.
    pub why: String,
}

/// What is to be done with an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing is attached.
    Skip {
        /// Why.
        why: String,
    },
    /// tc is attached, and XDP is tried.
    Attach {
        /// Try XDP too.
        xdp: bool,
        /// Why, as far as it is known beforehand.
        why: String,
    },
}

/// Kinds of interfaces that take the frames off their members.
const TAKING_MASTERS: [&str; 4] = ["bridge", "bond", "team", "openvswitch"];

/// Kinds of interfaces that are ends of tunnels by the protocols 4, 41 and 47: those that
/// IPVS does not know, and whose contents it leaves alone where `ignore_tunneled` says so.
const TUNNELS: [&str; 9] = [
    "ipip",
    "sit",
    "ip6tnl",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
];

/// Decides by the link, the interface it is a member of, and what is wanted.
pub(super) fn decide(link: &Link, master: Option<&Link>, wanted: Wanted) -> Decision {
    let skip = |why: String| Decision::Skip { why };
    let tc_alone = |why: String| Decision::Attach { xdp: false, why };
    let kind = link.kind.as_deref().unwrap_or("software");
    if wanted.ignores_tunnels && TUNNELS.contains(&kind) {
        return skip(format!(
            "a tunnel's end ({kind}), and net.ipv4.vs.ignore_tunneled is 1"
        ));
    }
    match link.layer {
        LinkLayer::Ethernet => {}
        LinkLayer::Loopback => return tc_alone("clients on this machine itself".into()),
        LinkLayer::Bare => {
            return tc_alone(format!(
                "a tunnel's end or the like ({kind}): its packets have no Ethernet header"
            ));
        }
        LinkLayer::Other => return skip("it carries neither Ethernet nor bare IP".into()),
    }
    if let Some((master, kind)) = taking_master(link, master) {
        return skip(format!(
            "its frames go to the {kind} {master}, which is attached instead"
        ));
    }
    let (xdp, why) = match wanted.hook {
        Hook::Tc => (false, "the configuration says hook = tc".to_owned()),
        Hook::Xdp => (true, forced_xdp(link)),
        Hook::Auto if link.is_physical => (true, "a physical interface with native XDP".into()),
        Hook::Auto => (
            false,
            format!(
                "a virtual interface ({kind}): unfinished checksums and large packets \
                 can be seen at tc only"
            ),
        ),
    };
    Decision::Attach { xdp, why }
}

fn taking_master<'a>(link: &Link, master: Option<&'a Link>) -> Option<(&'a str, &'a str)> {
    let master = master.filter(|master| Some(master.index) == link.master)?;
    let kind = master.kind.as_deref()?;
    TAKING_MASTERS
        .contains(&kind)
        .then_some((master.name.as_str(), kind))
}

fn forced_xdp(link: &Link) -> String {
    let why = "the configuration says hook = xdp";
    match link.kind.as_deref() {
        Some("veth") => format!(
            "{why}; what is redirected into a veth arrives only when its peer has XDP or GRO on \
             (`ethtool -K PEER gro on`)"
        ),
        _ => why.into(),
    }
}

/// How tc was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tc {
    /// By a link, Linux 6.6 and newer.
    Tcx,
    /// By a filter of the clsact queueing discipline.
    Clsact,
}

/// What came of it: `xdp` is the errno when it was tried and refused, none when it
/// was not tried.
pub(super) fn describe(why: String, tc: Tc, xdp: Option<Result<(), i32>>) -> Attachment {
    let tc = match tc {
        Tc::Tcx => "tc (tcx)",
        Tc::Clsact => "tc (clsact)",
    };
    match xdp {
        Some(Ok(())) => Attachment {
            hook: format!("xdp+{tc}"),
            why,
        },
        Some(Err(errno)) => Attachment {
            hook: tc.into(),
            why: refusal(errno),
        },
        None => Attachment {
            hook: tc.into(),
            why,
        },
    }
}

fn refusal(errno: i32) -> String {
    match errno {
        libc::EOPNOTSUPP => "its driver has no native XDP".into(),
        libc::EBUSY | libc::EEXIST => "another XDP program is attached".into(),
        libc::EINVAL | libc::ERANGE | libc::EMSGSIZE => {
            "its driver refuses XDP as it is set up (MTU, LRO or number of queues)".into()
        }
        libc::ENOMEM | libc::ENOSPC => "its driver has no queues or memory left for XDP".into(),
        _ => format!(
            "XDP was refused: {}",
            std::io::Error::from_raw_os_error(errno)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kind: Option<&str>) -> Link {
        Link {
            index: 5,
            name: "x0".into(),
            mac: Some([2; 6]),
            mtu: 1500,
            is_up: true,
            layer: LinkLayer::Ethernet,
            is_physical: kind.is_none(),
            kind: kind.map(str::to_owned),
            master: None,
        }
    }

    fn is_xdp_tried(link: &Link, hook: Hook) -> bool {
        match decide(link, None, hook.into()) {
            Decision::Attach { xdp, .. } => xdp,
            Decision::Skip { why } => panic!("skipped: {why}"),
        }
    }

    #[test]
    fn xdp_is_tried_where_it_may_help() {
        let (physical, veth) = (link(None), link(Some("veth")));
        for (hook, on_physical, on_veth) in [
            (Hook::Auto, true, false),
            (Hook::Xdp, true, true),
            (Hook::Tc, false, false),
        ] {
            assert_eq!(is_xdp_tried(&physical, hook), on_physical, "{hook}");
            assert_eq!(is_xdp_tried(&veth, hook), on_veth, "{hook}");
        }
    }

    #[test]
    fn forced_xdp_on_a_veth_warns_of_its_peer() {
        let decision = decide(&link(Some("veth")), None, Hook::Xdp.into());
        let Decision::Attach { why, .. } = decision else {
            panic!("skipped");
        };
        assert!(why.contains("peer has XDP or GRO"));
    }

    #[test]
    fn members_are_left_to_their_master() {
        let mut member = link(None);
        member.master = Some(9);
        for (kind, skipped) in [
            ("bridge", true),
            ("bond", true),
            ("team", true),
            ("vrf", false),
        ] {
            let master = Link {
                index: 9,
                name: "m0".into(),
                ..link(Some(kind))
            };
            let decision = decide(&member, Some(&master), Wanted::default());
            assert_eq!(matches!(decision, Decision::Skip { .. }), skipped, "{kind}");
        }
    }

    #[test]
    fn the_ends_of_tunnels_have_tc_alone() {
        for kind in ["tun", "ipip", "wireguard"] {
            let tunnel = Link {
                layer: LinkLayer::Bare,
                ..link(Some(kind))
            };
            for hook in [Hook::Auto, Hook::Xdp, Hook::Tc] {
                match decide(&tunnel, None, hook.into()) {
                    Decision::Attach { xdp: false, why } => assert!(why.contains(kind), "{why}"),
                    other => panic!("{kind}, {hook}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn tunnels_are_ignored_by_their_protocol() {
        let wanted = Wanted {
            ignores_tunnels: true,
            ..Wanted::default()
        };
        for (kind, layer, ignored) in [
            ("ipip", LinkLayer::Bare, true),
            ("sit", LinkLayer::Bare, true),
            ("ip6tnl", LinkLayer::Bare, true),
            ("ip6gre", LinkLayer::Bare, true),
            ("gretap", LinkLayer::Ethernet, true),
            ("ip6erspan", LinkLayer::Ethernet, true),
            ("tun", LinkLayer::Bare, false),
            ("vti", LinkLayer::Bare, false),
            ("vxlan", LinkLayer::Ethernet, false),
            ("veth", LinkLayer::Ethernet, false),
        ] {
            let link = Link {
                layer,
                ..link(Some(kind))
            };
            match decide(&link, None, wanted) {
                Decision::Skip { why } => {
                    assert!(ignored && why.contains("ignore_tunneled"), "{kind}: {why}");
                }
                Decision::Attach { .. } => assert!(!ignored, "{kind}"),
            }
            let decision = decide(&link, None, Wanted::default());
            assert!(matches!(decision, Decision::Attach { .. }), "{kind}");
        }
    }

    #[test]
    fn what_carries_something_else_is_skipped() {
        let can = Link {
            layer: LinkLayer::Other,
            ..link(Some("vcan"))
        };
        let decision = decide(&can, None, Wanted::default());
        assert!(matches!(decision, Decision::Skip { .. }));
    }

    #[test]
    fn refused_xdp_leaves_tc_and_says_why() {
        let why = "a physical interface with native XDP".to_owned();
        let attached = describe(why.clone(), Tc::Tcx, Some(Err(libc::EOPNOTSUPP)));
        assert_eq!(attached.hook, "tc (tcx)");
        assert_eq!(attached.why, "its driver has no native XDP");
        assert_eq!(
            describe(why.clone(), Tc::Tcx, Some(Ok(()))).hook,
            "xdp+tc (tcx)"
        );
        assert_eq!(describe(why, Tc::Clsact, None).hook, "tc (clsact)");
    }

    #[test]
    fn hooks_by_name() {
        assert_eq!("auto".parse(), Ok(Hook::Auto));
        assert_eq!(
            "generic".parse::<Hook>(),
            Err("unknown hook generic: allowed are auto, xdp and tc".into())
        );
    }
}
