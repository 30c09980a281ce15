//! Trees of servers whose connections several CPUs open and end at once.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::Barrier;
use std::{println, thread};

use evenkeel_datapath::tree::Tree;
use evenkeel_datapath::{load, state};

use super::trees::{SCHEDULERS, expected};
use super::walk::Client;
use super::*;
use crate::sweep;

const CPUS: u32 = 4;
const ROUNDS: u32 = 200;
/// What each CPU does in a round.
const STEPS: u32 = 200;
const SERVERS: u16 = 6;

/// The service of each scheduler.
fn keys() -> impl Iterator<Item = (ServiceKey, &'static str)> {
    (80..).map(service).zip(SCHEDULERS)
}

/// Services with servers of several weights, of which one may be overloaded.
fn rig() -> Rig {
    let mut rig = Rig::sized(Sizes {
        ring_words: 1 << 18,
        ..Sizes::default()
    });
    for (key, scheduler) in keys() {
        rig.apply(add(key, scheduler));
        for port in 1..=SERVERS {
            rig.apply(added(key, port));
        }
    }
    rig
}

fn added(service: ServiceKey, port: u16) -> Edit {
    Edit::AddServer {
        service,
        server: server(port),
        settings: ServerSettings {
            upper_threshold: if port == 2 { 9 } else { 0 },
            ..ServerSettings::new(ForwardMethod::Masq, 1 + u32::from(port % 3))
        },
    }
}

/// Who gets no connections, as far as all edits that are done say.
#[derive(Default)]
struct Barred {
    /// A bit for each server.
    servers: AtomicU64,
    /// Odd while an edit is made.
    edits: AtomicU32,
    /// Choices between which and the look at the above nothing was edited.
    checked: AtomicU32,
}

impl Barred {
    /// Whom a service's tree names.
    fn choose(&self, memory: &Memory<'_>, service: u32) -> Option<u32> {
        let before = self.edits.load(Ordering::SeqCst);
        let barred = self.servers.load(Ordering::SeqCst);
        let record = &memory.services[service as usize];
        let tree = Tree::of(record.scheduler.get(), record.ring.get());
        let chosen = tree.best(memory);
        fence(Ordering::SeqCst);
        let is_still = self.edits.load(Ordering::SeqCst) == before && before.is_multiple_of(2);
        if let Some(server) = chosen.filter(|_| is_still) {
            assert_eq!(barred >> server & 1, 0, "server {server}");
            self.checked.fetch_add(1, Ordering::Relaxed);
        }
        chosen
    }

    /// Makes an edit, after which a server gets connections or does not.
    fn edit(
        &self,
        director: &mut Director,
        memory: &Memory<'_>,
        edit: Edit,
        server: u32,
        is_barred: bool,
    ) {
        self.edits.fetch_add(1, Ordering::SeqCst);
        assert_eq!(director.apply(&[edit], false, memory, 0), []);
        director.write_all(memory);
        let bit = 1 << server;
        if is_barred {
            self.servers.fetch_or(bit, Ordering::SeqCst);
        } else {
            self.servers.fetch_and(!bit, Ordering::SeqCst);
        }
        self.edits.fetch_add(1, Ordering::SeqCst);
    }
}

/// A CPU, and the connections that are there by its account: of each server the active and
/// the inactive ones.
struct Cpu {
    random: u32,
    open: Vec<[u32; 2]>,
}

impl Cpu {
    fn draw(&mut self, below: u32) -> u32 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(12_345);
        (self.random >> 16) % below
    }

    /// Opens a connection, ends one, or one moves.
    fn step(&mut self, memory: &Memory<'_>, barred: &Barred, services: &[u32]) {
        const STATES: [u32; 2] = [state::ESTABLISHED, state::UDP];
        let service = services[self.draw(services.len() as u32) as usize];
        let (kind, which) = (self.draw(5), self.draw(2) as usize);
        let Some(server) = barred.choose(memory, service) else {
            return;
        };
        let other = self.draw(self.open.len() as u32);
        match kind {
            0..2 => {
                load::begin(memory, server, STATES[which]);
                self.open[server as usize][which] += 1;
            }
            2 if self.open[server as usize][which] > 0 => {
                load::shift(memory, server, STATES[which], STATES[1 - which]);
                self.open[server as usize][which] -= 1;
                self.open[server as usize][1 - which] += 1;
            }
            _ if self.open[other as usize][which] > 0 => {
                load::end(memory, other, STATES[which]);
                self.open[other as usize][which] -= 1;
            }
            _ => {}
        }
    }
}

/// All CPUs work, one does nothing but choose; servers come and go meanwhile if `edited` names
/// one.
fn round(rig: &mut Rig, cpus: &mut [Cpu], barred: &Barred, edited: Option<(ServiceKey, u16)>) {
    let services: Vec<u32> = keys().map(|(key, _)| rig.index(&key) as u32).collect();
    let server_index = edited.map(|(key, port)| {
        let service = rig.director.live_service(&key).unwrap();
        let index = rig.director.state.server_named(service, &server(port));
        (key, port, index.unwrap())
    });
    let Rig {
        tables, director, ..
    } = rig;
    let memory = &tables.memory();
    let start = &Barrier::new(cpus.len() + 2);
    let services = &services;
    thread::scope(|scope| {
        for cpu in cpus {
            scope.spawn(move || {
                start.wait();
                for _ in 0..STEPS {
                    cpu.step(memory, barred, services);
                }
            });
        }
        scope.spawn(move || {
            start.wait();
            for _ in 0..STEPS {
                for &service in services {
                    barred.choose(memory, service);
                }
            }
        });
        start.wait();
        if let Some((key, port, index)) = server_index {
            let at = server(port);
            for (edit, is_barred) in [
                (edit_server(key, at, 0), true),
                (edit_server(key, at, 3), false),
                (delete_server(key, at), true),
                (added(key, port), false),
            ] {
                barred.edit(director, memory, edit, index, is_barred);
                thread::yield_now();
            }
        }
    });
}

/// The services whose tree does not name the server that the kernel would choose.
fn wrong(rig: &Rig) -> Vec<ServiceKey> {
    let wrong = keys().filter(|(key, scheduler)| {
        rig.choose_port(key, Client::default()) != expected(rig, key, scheduler)
    });
    wrong.map(|(key, _)| key).collect()
}

/// Rounds after each of which the connections are those of all accounts, and the daemon's
/// look at the trees leaves none that is not right.
fn rounds(is_edited: bool) {
    let mut rig = rig();
    let barred = Barred::default();
    let mut cpus: Vec<Cpu> = (1..=CPUS)
        .map(|cpu| Cpu {
            random: cpu * 77_777,
            open: vec![[0; 2]; SCHEDULERS.len() * usize::from(SERVERS)],
        })
        .collect();
    let mut late = 0;
    for number in 0..ROUNDS {
        let key = service(80 + number as u16 % SCHEDULERS.len() as u16);
        let edited = is_edited.then_some((key, 1 + number as u16 / 8 % SERVERS));
        round(&mut rig, &mut cpus, &barred, edited);
        for (server, load) in rig.memory().loads[..cpus[0].open.len()].iter().enumerate() {
            let sum = |which: usize| cpus.iter().map(|cpu| cpu.open[server][which]).sum::<u32>();
            let counted = [load.active.get(), load.inactive.get()];
            assert_eq!(counted, [sum(0), sum(1)], "round {number}, server {server}");
        }
        late += wrong(&rig).len();
        sweep::settle(&rig.memory());
        assert_eq!(wrong(&rig), [], "round {number}");
    }
    assert!(barred.checked.load(Ordering::Relaxed) > ROUNDS);
    println!(
        "{late} of {} trees were put right by the daemon",
        ROUNDS * SCHEDULERS.len() as u32
    );
}

#[test]
fn what_cpus_do_at_once_is_counted_and_compared() {
    rounds(false);
}

#[test]
fn nobody_chooses_who_is_gone_or_quiesced() {
    rounds(true);
}
