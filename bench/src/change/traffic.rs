//! Packets of connections whose services nobody touches, through the packet path that a
//! daemon has pinned.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use evenkeel_api::paths;
use evenkeel_kernel::Program;
use evenkeel_kernel::test_run::{PinnedProgram, TestRun};
use evenkeel_lab::host::Host;

use crate::load::service_address;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// XDP's verdicts for a packet that is sent on.
const SENT: [u32; 2] = [3, 4];
/// Bytes of a frame: Ethernet, IPv4, TCP, padding.
const FRAME: usize = 60;
/// Where the destination's address stands in a frame.
const DESTINATION: Range<usize> = 30..34;
/// Connections that packets belong to.
const FLOWS: u32 = 4096;

/// What is sent.
#[derive(Clone, Debug)]
pub(super) struct Traffic {
    services: Range<u32>,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Connections.
    pub(super) flows: u64,
    /// Their packets.
    pub(super) packets: u64,
    /// Packets that were not sent on.
    pub(super) lost: u64,
    /// Packets that went to another server than the first one of their connection.
    pub(super) moved: u64,
}

/// A connection: its packets, and the server that it has.
struct Flow {
    frame: [u8; FRAME],
    server: Ipv4Addr,
}

impl Traffic {
    /// To services with these numbers.
    pub(super) fn to(services: Range<u32>) -> Self {
        Self { services }
    }

    /// Opens connections, and sends their packets on and on while `work` is done. The
    /// instance's interfaces are those of `host`.
    pub(super) fn during<T>(
        &self,
        host: &Host,
        instance: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Seen)> {
        let is_over = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let sender = scope.spawn(|| {
                host.within(|| {
                    let path = PinnedProgram::open(&paths::pins(instance), Program::Xdp)?;
                    let flows = self.open(&path)?;
                    // Nobody waits any more where the work could not begin.
                    let _ = tell.send(());
                    drop(tell);
                    send(&path, &flows, &is_over)
                })?
            });
            let worked = match told.recv() {
                Ok(()) => work(),
                Err(_) => Err(anyhow!("no connection could be opened")),
            };
            is_over.store(true, Ordering::Relaxed);
            let seen = sender
                .join()
                .map_err(|_| anyhow!("the thread that sends packets panicked"))??;
            Ok((worked?, seen))
        })
    }

    fn open(&self, path: &PinnedProgram) -> Result<Vec<Flow>> {
        let count = self.services.end - self.services.start;
        let service = |flow: u32| self.services.start + flow % count;
        (0..FLOWS)
            .map(|flow| {
                let first = server_of(path, &frame(flow, service(flow), SYN))?;
                let frame = frame(flow, service(flow), ACK);
                let next = server_of(path, &frame)?;
                match (first, next) {
                    (Some(server), Some(next)) if server == next => Ok(Flow { frame, server }),
                    other => Err(anyhow!("connection {flow} went to {other:?}")),
                }
            })
            .collect()
    }
}

fn send(path: &PinnedProgram, flows: &[Flow], is_over: &AtomicBool) -> Result<Seen> {
    let mut seen = Seen {
        flows: flows.len() as u64,
        ..Seen::default()
    };
    while !is_over.load(Ordering::Relaxed) {
        for flow in flows {
            seen.packets += 1;
            match server_of(path, &flow.frame)? {
                Some(server) if server == flow.server => {}
                Some(_) => seen.moved += 1,
                None => seen.lost += 1,
            }
        }
    }
    ensure!(
        seen.packets > 0,
        "the work was over before the first packet"
    );
    Ok(seen)
}

/// The server that a packet goes to; nothing if it is not sent on.
fn server_of(path: &PinnedProgram, frame: &[u8]) -> Result<Option<Ipv4Addr>> {
    let result = path.test_run(&TestRun::new(frame))?;
    let is_sent = SENT.contains(&result.verdict);
    let server = result.frame.get(DESTINATION).filter(|_| is_sent);
    let server = server.and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    Ok(server.map(Ipv4Addr::from))
}

/// A client's packet of this connection.
fn frame(flow: u32, service: u32, flags: u8) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(6, &[2, 9, 9, 9, 9, 9]);
    put(12, &[8, 0, 0x45, 0, 0, (FRAME - 14) as u8]);
    put(22, &[64, 6]);
    let client = Ipv4Addr::new(10, 7, (flow >> 4 & 0xff) as u8, (flow >> 12) as u8);
    put(26, &client.octets());
    put(30, &service_address(service).octets());
    put(34, &(1024 + (flow & 15) as u16).to_be_bytes());
    put(36, &80_u16.to_be_bytes());
    put(46, &[0x50, flags]);
    frame
}
