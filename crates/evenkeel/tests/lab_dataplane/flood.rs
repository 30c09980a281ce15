//! A flood that fills a table leaves the connections of others alone.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evenkeel_lab::bench::{CLIENT_PORT, SERVERS, VIP};
use evenkeel_lab::host::Host;
use evenkeel_lab::{sandbox, wait};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::world::{SHOW, WEB, World, answer_as, ask, connect, run};

const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 2);
/// The client's side and the director's towards it.
const CLIENT6: [&str; 2] = ["fd10::2", "fd10::1"];
/// So few wide entries that the flood fills them in a moment, but not before a client that
/// is there has answered.
const ENTRIES: u32 = 16_384;
/// SYNs of the flood at a time, and how long it then waits.
const BURST: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// SYNs to a service from ever other clients, which are not there, until it is dropped.
struct Flood {
    is_over: Arc<AtomicBool>,
    sender: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    fn start(from: &Host, to: SocketAddrV4) -> Result<Self> {
        let raw = from.within(|| {
            socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::empty(),
                SockProtocol::Raw,
            )
        })??;
        let is_over = Arc::new(AtomicBool::new(false));
        let sender = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || send_all(&raw, to, &is_over)
        });
        Ok(Self {
            is_over,
            sender: Some(sender),
        })
    }

    /// Ends it; an error if it has ended itself.
    fn end(mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        let sender = self.sender.take().context("it has ended")?;
        sender.join().ok().context("the flood has panicked")?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn send_all(raw: &OwnedFd, to: SocketAddrV4, is_over: &AtomicBool) -> Result<()> {
    let at = SockaddrIn::from(to);
    let mut number = 0_u32;
    while !is_over.load(Ordering::Relaxed) {
        for _ in 0..BURST {
            number = number.wrapping_add(1);
            let packet = syn(number, to);
            sendto(raw.as_raw_fd(), &packet, &at, MsgFlags::empty())
                .context("cannot send a SYN")?;
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A SYN of the client with this number, in 10.64/10.
fn syn(number: u32, to: SocketAddrV4) -> [u8; 40] {
    let mut packet = [0; 40];
    packet[0] = 0x45;
    packet[3] = 40;
    packet[8..10].copy_from_slice(&[64, 6]);
    let source = 10 << 24 | 64 << 16 | number & 0x3f_ffff;
    packet[12..16].copy_from_slice(&source.to_be_bytes());
    packet[16..20].copy_from_slice(&to.ip().octets());
    packet[20..22].copy_from_slice(&(1024 + number as u16 % 60_000).to_be_bytes());
    packet[22..24].copy_from_slice(&to.port().to_be_bytes());
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet[32..36].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    // Over the addresses, the protocol and the length as well; the kernel has the other one.
    let words = packet[12..]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>() + 6 + 20;
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A world with full NAT for the usual service, and one of IPv6.
fn world() -> Result<World> {
    let world = World::start(&format!("[dataplane]\nwide_connections = {ENTRIES}\n"))?;
    let [client6, director6] = CLIENT6;
    for (host, commands) in [
        (
            &world.client,
            vec![
                format!("ip -6 address add {client6}/64 dev {CLIENT_PORT} nodad"),
                format!("ip -6 route add default via {director6}"),
            ],
        ),
        (
            world.director.host(),
            vec![
                format!("ip -6 address add {director6}/64 dev {CLIENT_PORT} nodad"),
                "ip -6 address add fd20::1/64 dev e1 nodad".into(),
                "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding".into(),
            ],
        ),
        (
            &world.servers[0],
            vec![
                format!("ip -6 address add {SERVER6}/64 dev e1 nodad"),
                "ip -6 route add default via fd20::1".into(),
            ],
        ),
    ] {
        for command in commands {
            run(host, &command)?;
        }
    }
    for (identity, (host, address)) in (1..).zip(world.servers.iter().zip(SERVERS)) {
        answer_as(host, address, 8080, identity)?;
    }
    answer_as(&world.servers[0], SERVER6, 8080, 6)?;
    let [first, second] =
        SERVERS.map(|address| format!("ipvsadm -a -t {WEB} -r {address}:8080 --full-nat"));
    world.admin(&[
        &format!("ipvsadm -A -t {WEB} -s rr"),
        &first,
        &second,
        &format!("ipvsadm -A -t [{VIP6}]:80 -s rr"),
        &format!("ipvsadm -a -t [{VIP6}]:80 -r [{SERVER6}]:8080 -m"),
    ])?;
    world.wait_for_hops()?;
    Ok(world)
}

/// Connects so many times, and asks; how many were answered.
fn answered(world: &World, to: SocketAddr, times: u32) -> u32 {
    let mut count = 0;
    for _ in 0..times {
        let asked = connect(&world.client, to).and_then(|mut stream| ask(&mut stream));
        count += u32::from(asked.is_ok());
    }
    count
}

fn go_on(streams: &mut [TcpStream]) -> Result<()> {
    for (number, stream) in streams.iter_mut().enumerate() {
        ask(stream).with_context(|| format!("established connection {number}"))?;
    }
    Ok(())
}

#[test]
fn a_flood_at_full_nat_leaves_room_for_others() {
    const TIMES: u32 = 200;
    sandbox::run_test(|| {
        let world = world()?;
        let mut before = Vec::new();
        for _ in 0..20 {
            before.push(connect(&world.client, WEB)?);
        }
        go_on(&mut before)?;
        let flood = Flood::start(&world.client, SocketAddrV4::new(VIP, 80))?;
        wait::until(SHOW, "the table to be full", || {
            match world.reason("evicted_half_open") {
                Ok(count) if count > 1000 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        go_on(&mut before)?;
        let new = answered(&world, WEB, TIMES);
        let others = answered(&world, SocketAddr::new(IpAddr::V6(VIP6), 80), TIMES);
        go_on(&mut before)?;
        flood.end()?;
        let exhausted = world.reason("source_nat_exhausted")?;
        let full = world.reason("connection_bucket_full")?;
        ensure!(
            new * 100 >= TIMES * 99 && others * 100 >= TIMES * 99,
            "of {TIMES}: {new} by full NAT, {others} of IPv6; {exhausted} without a port, {full} without room"
        );
        ensure!(exhausted == 0 && full == 0, "{exhausted}, {full}");
        Ok(())
    });
}
