#![no_main]
//! The packet path on frames from outside: it must not panic, and a packet that it
//! sends has changed only where translation changes it.

use evenkeel_core::director::Director;
use evenkeel_core::model::{Edit, ForwardMethod, Protocol, ServerKey, ServiceKey};
use evenkeel_datapath::host::{Hop, Route, RouteAnswer};
use evenkeel_datapath::simulated::{Circumstances, Sizes, Tables, run_tc, run_xdp};
use libfuzzer_sys::fuzz_target;

/// Small tables, so that full buckets and evictions come soon.
fn tables() -> Tables {
    let sizes = Sizes {
        buckets: 2,
        ..Sizes::default()
    };
    let tables = Tables::new(&sizes);
    let memory = tables.memory();
    let mut director = Director::adopt(&memory, 0);
    let mut edits = Vec::new();
    for (protocol, port) in [(Protocol::Tcp, 80), (Protocol::Udp, 53)] {
        let service = ServiceKey {
            protocol,
            address: [10, 9, 0, 1].into(),
            port,
        };
        edits.push(Edit::AddService {
            service,
            scheduler: "rr".into(),
        });
        for host in [11, 12] {
            edits.push(Edit::AddServer {
                service,
                server: ServerKey {
                    address: [10, 2, 0, host].into(),
                    port,
                },
                method: ForwardMethod::Masq,
                weight: 1,
            });
        }
    }
    director.apply(&edits, true, &memory, 0);
    director.write_all(&memory);
    tables
}

fn route(_source: u32, destination: u32, _protocol: u8) -> Route {
    let hop = Hop {
        interface: 2,
        macs: [destination, 1, 2],
        mtu: 1500,
    };
    let answer = if destination & 1 == 0 {
        RouteAnswer::Ready
    } else {
        RouteAnswer::Unresolved
    };
    Route { answer, hop }
}

// The input is a series of frames, each behind its length in a byte.
fuzz_target!(|input: &[u8]| {
    let tables = tables();
    let mut rest = input;
    let mut tick = 0;
    while let Some((&length, after)) = rest.split_first() {
        let (frame, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        tick += u32::from(length);
        let around = Circumstances {
            interface: 1,
            tick,
            cpu: 0,
            routes: &route,
            tagged: false,
            for_us: length & 1 == 0,
        };
        let mut at_xdp = frame.to_vec();
        run_xdp(tables.memory(), &mut at_xdp, around);
        let mut at_tc = frame.to_vec();
        run_tc(tables.memory(), &mut at_tc, around);
        assert_eq!(at_xdp.len(), frame.len());
        assert_eq!(at_tc.len(), frame.len());
    }
});
