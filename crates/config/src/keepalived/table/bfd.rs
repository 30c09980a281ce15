//! `bfd_instance`.

use super::{Block, Takes, later};

/// `bfd_instance`
pub(super) static BFD: Block = Block {
    name: "bfd_instance",
    keywords: &[&[
        later(
            "neighbor_ip",
            Takes::Address,
            "The other end of the session.",
        ),
        later(
            "neighbour_ip",
            Takes::Address,
            "The other end of the session.",
        )
        .old("neighbor_ip"),
        later("source_ip", Takes::Address, "Our end of the session."),
        later(
            "min_rx",
            MILLISECONDS,
            "Milliseconds between packets that we can take.",
        )
        .or("10"),
        later(
            "min_tx",
            MILLISECONDS,
            "Milliseconds between packets that we want to send.",
        )
        .or("10"),
        later(
            "idle_tx",
            MILLISECONDS,
            "Milliseconds between our packets while the session is down.",
        )
        .or("1000"),
        later(
            "multiplier",
            Takes::Number(1, 255),
            "So many packets may be lost before the session is down.",
        )
        .or("5"),
        later(
            "passive",
            Takes::Nothing,
            "We wait for the other end's first packet.",
        ),
        later(
            "ttl",
            Takes::Number(1, 255),
            "Time to live of our IPv4 packets.",
        )
        .or("255"),
        later(
            "hoplimit",
            Takes::Number(1, 255),
            "Hop limit of our IPv6 packets.",
        )
        .or("64"),
        later(
            "max_hops",
            Takes::Number(0, 255),
            "Most routers between both ends.",
        )
        .or("0"),
        later(
            "weight",
            Takes::Signed(-253, 253, &["reverse"]),
            "Priority that VRRP instances lose while the session is down.",
        )
        .or("0"),
        later("vrrp", Takes::Nothing, "Only VRRP is told of the session."),
        later(
            "checker",
            Takes::Nothing,
            "Only checks are told of the session.",
        ),
        later(
            "multihop",
            Takes::Switch,
            "The session leads over routers, and uses their port.",
        )
        .since("2.3.0"),
    ]],
};

const MILLISECONDS: Takes = Takes::Number(1, 4_294_967);
