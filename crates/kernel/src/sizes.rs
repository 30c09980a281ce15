//! How large the arrays are.

use std::ops::RangeInclusive;

use evenkeel_datapath::layout::{
    Addresses, Bucket, CLIENT_HOPS, ClientHop, Control, Counters, EndpointBucket, INTERFACES,
    Interface, Load, MarkRules, Reasons, SERVICES_MAX, Server, Service, WAYS, WideBucket,
    WideEndpointBucket,
};
use evenkeel_datapath::word::Word;

use crate::error::{Error, Result};

/// Capacities to be created with. An instance keeps them until it is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Connections, 1,024 to 16,777,216; rounded up to a power of two.
    pub connections: u32,
    /// Connections of IPv6, of firewall marks and of port 0, templates of persistence
    /// and the like, 1,024 to 16,777,216; rounded up to a power of two.
    pub wide_connections: u32,
    /// Services, 1 to 65,536.
    pub services: u32,
    /// Real servers of all services together, 1 to 1,048,576.
    pub servers: u32,
    /// Words for the schedulers' rings, 64 to 16,777,216, rounded up to an even
    /// number. A service takes as many as the sum of its weights, divided by what
    /// they have in common, and two; while it is changed, twice that.
    pub ring_words: u32,
    /// What hashes begin with; none: nobody knows, as it should be where packets come from
    /// anywhere. For tests that go the same way each time.
    pub seed: Option<u64>,
}

impl Default for Settings {
    /// 262,144 connections, 131,072 wide ones, 4,096 services, 16,384 servers: 37 MB, of
    /// which 1 MB for a CPU; 1 MB for each more.
    fn default() -> Self {
        Self {
            connections: 1 << 18,
            wide_connections: 1 << 17,
            services: 1 << 12,
            servers: 1 << 14,
            ring_words: 1 << 20,
            seed: None,
        }
    }
}

/// Words of a ring in one value of its array. Values stand 8 bytes apart at least.
pub(crate) const WORDS_PER_RING_VALUE: u32 = 2;

/// What an instance has been created with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Buckets of the connection table.
    pub buckets: u32,
    /// Buckets of the table of wide entries.
    pub wide_buckets: u32,
    /// Buckets of the endpoint table.
    pub endpoint_buckets: u32,
    /// Buckets of the table of IPv6 endpoints.
    pub wide_endpoint_buckets: u32,
    /// Slots for services.
    pub services: u32,
    /// Slots for servers.
    pub servers: u32,
    /// Words for rings.
    pub ring_words: u32,
    /// CPUs that there can be, and counters for each.
    pub cpus: u32,
}

/// An array map of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArrayShape {
    pub(crate) name: &'static str,
    pub(crate) value_size: u32,
    pub(crate) entries: u32,
}

impl Sizes {
    /// The sizes for these settings on a machine with at most `cpus` CPUs.
    pub fn new(settings: &Settings, cpus: u32) -> Result<Self> {
        let Settings {
            connections,
            wide_connections,
            services,
            servers,
            ring_words,
            seed: _,
        } = *settings;
        check("connections", connections, 1 << 10..=1 << 24)?;
        check("wide_connections", wide_connections, 1 << 10..=1 << 24)?;
        check("services", services, 1..=SERVICES_MAX)?;
        check("servers", servers, 1..=1 << 20)?;
        check("ring_words", ring_words, 64..=1 << 24)?;
        // Every service has an endpoint, every server at most one. A key that finds the
        // few buckets after its home full can not be entered, so there are two buckets
        // for each: at a million endpoints that happens once in 20,000 tables.
        let endpoint_buckets = 2 * (services + servers);
        Ok(Self {
            buckets: connections.next_power_of_two() / WAYS as u32,
            wide_buckets: wide_connections.next_power_of_two() / WAYS as u32,
            endpoint_buckets: endpoint_buckets.next_power_of_two(),
            wide_endpoint_buckets: endpoint_buckets.next_power_of_two(),
            services,
            servers,
            ring_words: ring_words.next_multiple_of(WORDS_PER_RING_VALUE),
            cpus,
        })
    }

    /// The sizes that an instance notes about itself.
    pub(crate) fn of(control: &Control) -> Self {
        Self {
            buckets: control.buckets.get(),
            wide_buckets: control.wide_buckets.get(),
            wide_endpoint_buckets: control.wide_endpoint_buckets.get(),
            endpoint_buckets: control.endpoint_buckets.get(),
            services: control.services.get(),
            servers: control.servers.get(),
            ring_words: control.ring_words.get(),
            cpus: control.cpus.get(),
        }
    }

    /// Notes them.
    pub(crate) fn note(&self, control: &Control) {
        control.buckets.set(self.buckets);
        control.wide_buckets.set(self.wide_buckets);
        control
            .wide_endpoint_buckets
            .set(self.wide_endpoint_buckets);
        control.endpoint_buckets.set(self.endpoint_buckets);
        control.services.set(self.services);
        control.servers.set(self.servers);
        control.ring_words.set(self.ring_words);
        control.cpus.set(self.cpus);
    }

    /// Connections that the table has room for.
    #[must_use]
    pub fn connections(&self) -> u64 {
        u64::from(self.buckets) * WAYS as u64
    }

    /// Values in the array of counters.
    pub(crate) fn counters(&self) -> u32 {
        self.cpus.saturating_mul(self.servers)
    }

    /// Memory of all arrays, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.arrays()
            .iter()
            .map(|a| u64::from(a.value_size) * u64::from(a.entries))
            .sum()
    }

    /// The arrays, by their names in the object.
    pub(crate) fn arrays(&self) -> [ArrayShape; 15] {
        [
            shape::<Bucket>("CONNECTIONS", self.buckets),
            shape::<WideBucket>("WIDE_CONNECTIONS", self.wide_buckets),
            shape::<Addresses>("ADDRESSES", 1),
            shape::<EndpointBucket>("ENDPOINTS", self.endpoint_buckets),
            shape::<WideEndpointBucket>("WIDE_ENDPOINTS", self.wide_endpoint_buckets),
            shape::<Service>("SERVICES", self.services),
            shape::<Server>("SERVERS", self.servers),
            shape::<[Word; WORDS_PER_RING_VALUE as usize]>(
                "RINGS",
                self.ring_words / WORDS_PER_RING_VALUE,
            ),
            shape::<ClientHop>("CLIENT_HOPS", CLIENT_HOPS),
            shape::<Load>("LOADS", self.servers),
            shape::<Counters>("COUNTERS", self.counters()),
            shape::<Reasons>("REASONS", self.cpus),
            shape::<Interface>("INTERFACES", INTERFACES),
            shape::<Control>("CONTROL", 1),
            shape::<MarkRules>("MARK_RULES", 1),
        ]
    }
}

const fn shape<T>(name: &'static str, entries: u32) -> ArrayShape {
    // The kernel puts values at multiples of 8 bytes: other sizes would leave gaps
    // between them, and a mapped array would be no array of `T`.
    const { assert!(size_of::<T>().is_multiple_of(8)) };
    ArrayShape {
        name,
        value_size: size_of::<T>() as u32,
        entries,
    }
}

fn check(name: &'static str, value: u32, range: RangeInclusive<u32>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::Capacity {
        name,
        value,
        least: *range.start(),
        most: *range.end(),
    })
}

#[cfg(test)]
mod tests {
    use evenkeel_datapath::hash;
    use evenkeel_datapath::layout::endpoint_kind::{SERVER, SERVICE};
    use evenkeel_datapath::layout::{ENDPOINT_PROBES, ENDPOINT_WAYS, endpoint_key};

    use super::*;

    /// What [`Settings::default`] says that it takes, on one CPU and for each more.
    const MEGABYTES: u64 = 37;
    const MEGABYTES_PER_CPU: u64 = 1;

    #[test]
    fn connections_become_a_power_of_two() {
        let settings = Settings {
            connections: 100_000,
            ..Settings::default()
        };
        let sizes = Sizes::new(&settings, 2).unwrap();
        assert_eq!(sizes.connections(), 131_072);
        assert_eq!(sizes.buckets, 8192);
    }

    #[test]
    fn every_endpoint_finds_room() {
        let settings = Settings {
            services: 10_000,
            servers: 160_000,
            ..Settings::default()
        };
        let buckets = Sizes::new(&settings, 1).unwrap().endpoint_buckets;
        assert!(buckets.is_power_of_two());
        // Neighbouring addresses, as they are handed out.
        let key = |address: u32, kind| endpoint_key(address.to_be(), 80_u16.to_be(), 6, kind);
        let services = (0..settings.services).map(|i| key(0x0a40_0000 + i, SERVICE));
        let servers = (0..settings.servers).map(|i| key(0x0a80_0000 + i, SERVER));
        let keys: Vec<u64> = services.chain(servers).collect();
        let mut seed = 1_u64;
        for _ in 0..10 {
            seed = seed
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let mut taken = vec![0; buckets as usize];
            for &key in &keys {
                let home = hash::endpoint(key, seed);
                let mut way = (0..ENDPOINT_PROBES as u32)
                    .map(|probe| (home.wrapping_add(probe) & (buckets - 1)) as usize);
                let room = way.find(|&bucket| taken[bucket] < ENDPOINT_WAYS);
                taken[room.expect("a bucket with room")] += 1;
            }
        }
    }

    /// What one more of each takes, as the manual of the configuration says, and what an
    /// instance takes that is made without one.
    #[test]
    fn memory_is_that_of_the_arrays() {
        let default = Settings::default();
        let bytes = |settings: Settings, cpus| Sizes::new(&settings, cpus).unwrap().bytes();
        let all = bytes(default, 1);
        let more = |settings: Settings| bytes(settings, 1) - all;
        let (connections, wide_connections) = (default.connections, default.wide_connections);
        let twice = Settings {
            connections: 2 * connections,
            ..default
        };
        assert_eq!(more(twice), 36 * u64::from(connections));
        let twice = Settings {
            wide_connections: 2 * wide_connections,
            ..default
        };
        assert_eq!(more(twice), 68 * u64::from(wide_connections));
        let twice = Settings {
            ring_words: 2 * default.ring_words,
            ..default
        };
        assert_eq!(more(twice), 4 * u64::from(default.ring_words));
        // Few enough more to need no more buckets for their endpoints.
        let settings = Settings {
            services: default.services + 100,
            ..default
        };
        assert_eq!(more(settings), 100 * 64);
        let settings = Settings {
            servers: default.servers + 100,
            ..default
        };
        assert_eq!(more(settings), 100 * (128 + 16 + 64));
        // One CPU more: one more counter a server, one more list of reasons.
        let a_cpu = bytes(default, 2) - all;
        assert_eq!(a_cpu, 64 * u64::from(default.servers) + 512);
        assert_eq!((all >> 20, a_cpu >> 20), (MEGABYTES, MEGABYTES_PER_CPU));
    }

    #[test]
    fn capacities_out_of_range_are_named() {
        let settings = Settings {
            connections: 1 << 25,
            ..Settings::default()
        };
        let error = Sizes::new(&settings, 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "connections = 33554432 is out of range: allowed are 1024 to 16777216"
        );
    }
}
