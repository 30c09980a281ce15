use alloc::string::ToString;
use alloc::vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::{
    ConfiguredService, Connect, Edit, Ends, ForwardMethod, Notify, Probe, Quorum, Script,
    ServiceSettings, Sorry, Timing,
};

fn service(port: u16) -> ServiceKey {
    ServiceKey::at(Protocol::Tcp, [10, 0, 0, 10], port)
}

fn server(last: u8) -> ServerKey {
    ServerKey {
        address: [192, 168, 1, last].into(),
        port: 80,
    }
}

fn script(name: &str) -> Script {
    Script {
        command: vec![name.into()],
        user: None,
    }
}

fn tcp(last: u8, retries: u32) -> Check {
    Check {
        probe: Probe::Tcp(Connect::to(
            ([192, 168, 1, last], 80).into(),
            Duration::from_secs(3),
        )),
        timing: Timing {
            interval: Duration::from_secs(6),
            warmup: Duration::ZERO,
            retries,
            retry_interval: Duration::from_secs(1),
        },
        starts_down: false,
        log_all_failures: false,
        weight: None,
    }
}

fn real(last: u8, weight: u32, checks: Vec<Check>) -> RealServer {
    RealServer {
        checks,
        notify: Notify {
            up: Some(script("up")),
            down: Some(script("down")),
        },
        mail: true,
        ..RealServer::unwatched(
            server(last),
            ServerSettings::new(ForwardMethod::Masq, weight),
        )
    }
}

fn virtual_server(servers: Vec<RealServer>) -> VirtualServer {
    VirtualServer {
        servers,
        notify: Notify {
            up: Some(script("quorum up")),
            down: Some(script("quorum down")),
        },
        ..VirtualServer::unwatched(ConfiguredService {
            key: service(80),
            settings: ServiceSettings::scheduled_by("rr"),
            servers: Vec::new(),
        })
    }
}

/// A monitor with what it has said.
struct Rig {
    monitor: Monitor,
    now_ms: u64,
    lines: Vec<String>,
    table: HashMap<(ServiceKey, ServerKey), ServerSettings>,
}

impl Rig {
    fn new(config: Vec<VirtualServer>) -> Self {
        let mut rig = Self {
            monitor: Monitor::new(7),
            now_ms: 0,
            lines: Vec::new(),
            table: HashMap::new(),
        };
        rig.configure(config, true);
        rig
    }

    fn configure(&mut self, config: Vec<VirtualServer>, there: bool) {
        let config = config.into_iter().map(Arc::new).collect();
        let next =
            self.monitor
                .reconfigured(config, Surroundings::default(), |_, _| there, self.now_ms);
        let former = core::mem::replace(&mut self.monitor, next);
        self.table = self.whole();
        self.monitor.begin(&former, self.now_ms);
        let before = self.table.clone();
        self.drain();
        assert_eq!(before, self.table, "begin changes nothing of the table");
    }

    /// Does what is to be done; checks that were started.
    fn drain(&mut self) -> Vec<u64> {
        let mut started = Vec::new();
        while let Some(action) = self.monitor.poll() {
            match action {
                Action::Start(id, _) => started.push(id),
                Action::Stop(id) => self.lines.push(format!("stop {id}")),
                Action::Set(wants) => {
                    for (service, server, settings) in wants {
                        match settings {
                            Some(settings) => self.table.insert((service, server), settings),
                            None => self.table.remove(&(service, server)),
                        };
                    }
                }
                Action::Tell(news) => {
                    let script = news.script.map(|script| script.command.join(" "));
                    let mail = news
                        .mail
                        .map(|(subject, text)| format!("{subject}: {text}"));
                    self.lines.push(format!(
                        "{} | {} | {}",
                        script.unwrap_or_default(),
                        news.line,
                        mail.unwrap_or_default()
                    ));
                }
                Action::Log(_) => {}
            }
        }
        started
    }

    /// Runs what is due at this time; servers whose last octet is in `bad` fail.
    fn run_until(&mut self, end_ms: u64, bad: &[u8]) -> usize {
        let mut runs = 0;
        while let Some(at) = self.monitor.deadline_ms().filter(|at| *at <= end_ms) {
            self.now_ms = at;
            self.monitor.start_due(at);
            for id in self.drain() {
                runs += 1;
                let check = Arc::clone(&self.monitor.checks[&id].check);
                let Probe::Tcp(connect) = &check.probe else {
                    panic!("{check:?}")
                };
                let is_bad = bad
                    .iter()
                    .any(|last| connect.to.ip() == server(*last).address);
                let verdict = if is_bad {
                    Verdict::Failed("connection refused".into())
                } else {
                    Verdict::Passed("connected".into())
                };
                self.monitor.finished(id, &verdict, at);
                self.drain();
            }
        }
        self.now_ms = end_ms;
        runs
    }

    fn weights(&self) -> Vec<(u8, u32)> {
        let last = |server: &ServerKey| match server.address {
            core::net::IpAddr::V4(address) => address.octets()[3],
            core::net::IpAddr::V6(_) => 0,
        };
        let all = self.table.iter();
        let mut all: Vec<(u8, u32)> = all
            .map(|((_, server), settings)| (last(server), settings.weight))
            .collect();
        all.sort_unstable();
        all
    }

    /// The table as the monitor has it as a whole.
    fn whole(&self) -> HashMap<(ServiceKey, ServerKey), ServerSettings> {
        let services = self.monitor.services().into_iter();
        let servers = services.flat_map(|service| {
            let servers = service.servers.into_iter();
            servers.map(move |(server, settings)| ((service.key, server), settings))
        });
        servers.collect()
    }

    /// The table has what was done by hand.
    fn configure_hands(&mut self) {
        self.table = self.whole();
    }

    fn said(&mut self) -> Vec<String> {
        core::mem::take(&mut self.lines)
    }
}

#[test]
fn a_server_dies_and_comes_back() {
    let config = virtual_server(vec![
        real(1, 1, vec![tcp(1, 1)]),
        real(2, 2, vec![tcp(2, 1)]),
    ]);
    let mut rig = Rig::new(vec![config]);
    assert_eq!(rig.weights(), [(1, 1), (2, 2)]);
    assert_eq!(rig.said(), ["quorum up | VS [10.0.0.10]:tcp:80 UP | "]);
    rig.run_until(20_000, &[]);
    assert_eq!(rig.said(), [""; 0]);
    // The first failure is tolerated, the second is not.
    let start = rig.now_ms;
    rig.run_until(start + 7_000, &[2]);
    assert_eq!(rig.weights(), [(1, 1)]);
    let down = "down | RS [192.168.1.2]:tcp:80 [10.0.0.10]:tcp:80 DOWN | Realserver \
                [192.168.1.2]:tcp:80 of virtual server [10.0.0.10]:tcp:80 - DOWN: => TCP CHECK \
                failed on service <=";
    assert_eq!(rig.said(), [down]);
    rig.run_until(start + 14_000, &[]);
    assert_eq!(rig.weights(), [(1, 1), (2, 2)]);
    assert_eq!(
        rig.said(),
        [down
            .replace("DOWN", "UP")
            .replace("down", "up")
            .replace("failed", "succeed")]
    );
}

#[test]
fn one_failure_is_enough_at_first_and_alpha_starts_dead() {
    let mut alpha = tcp(2, 3);
    alpha.starts_down = true;
    let config = virtual_server(vec![real(1, 1, vec![tcp(1, 3)]), real(2, 1, vec![alpha])]);
    let mut rig = Rig::new(vec![config]);
    assert_eq!(rig.weights(), [(1, 1)]);
    rig.run_until(0, &[1]);
    assert_eq!(rig.weights(), [(2, 1)]);
}

#[test]
fn quorum_has_hysteresis_and_a_sorry_server() {
    let sorry = Sorry::Server {
        key: server(9),
        settings: ServerSettings::new(ForwardMethod::Masq, 1),
        inhibit: false,
    };
    let config = VirtualServer {
        quorum: Quorum {
            weight: 3,
            hysteresis: 1,
        },
        sorry: Some(sorry),
        mail: true,
        ..virtual_server(
            (1..=4)
                .map(|last| real(last, 1, vec![tcp(last, 0)]))
                .collect(),
        )
    };
    let mut rig = Rig::new(vec![config]);
    assert_eq!(rig.weights(), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    rig.run_until(6_000, &[1, 2]);
    // 2 = 3 - 1 is enough to keep it.
    assert_eq!(rig.weights(), [(3, 1), (4, 1)]);
    rig.said();
    rig.run_until(12_000, &[1, 2, 3]);
    assert_eq!(rig.weights(), [(9, 1)]);
    let said = rig.said();
    let lost = "quorum down | VS [10.0.0.10]:tcp:80 DOWN | Virtualserver [10.0.0.10]:tcp:80 - \
                DOWN: => Lost quorum 3+1=2 <= 1 <=";
    assert_eq!(said.last().unwrap(), lost);
    // 3 are not enough to get it back, 4 = 3 + 1 are.
    rig.run_until(18_000, &[1]);
    assert_eq!(rig.weights(), [(9, 1)]);
    rig.run_until(24_000, &[]);
    assert_eq!(rig.weights(), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    let gained = "Virtualserver [10.0.0.10]:tcp:80 - UP: => Gained quorum 3+1=4 <= 4 <=";
    assert!(rig.said().last().unwrap().ends_with(gained));
}

#[test]
fn inhibited_servers_stay_without_weight() {
    let mut first = real(1, 5, vec![tcp(1, 0)]);
    first.inhibit = true;
    let mut rig = Rig::new(vec![virtual_server(vec![first, real(2, 1, vec![])])]);
    rig.run_until(0, &[1]);
    assert_eq!(rig.weights(), [(1, 0), (2, 1)]);
    rig.run_until(12_000, &[]);
    assert_eq!(rig.weights(), [(1, 5), (2, 1)]);
}

#[test]
fn weights_are_what_checks_say_and_do_not_add_up() {
    let mut rig = Rig::new(vec![virtual_server(vec![real(1, 5, vec![tcp(1, 0)])])]);
    let mut give = |verdict: Verdict| {
        let now_ms = rig.monitor.deadline_ms().unwrap();
        rig.monitor.start_due(now_ms);
        for id in rig.drain() {
            rig.monitor.finished(id, &verdict, now_ms);
        }
        rig.drain();
        rig.weights()
    };
    assert_eq!(give(Verdict::Weight(40)), [(1, 40)]);
    assert_eq!(give(Verdict::Weight(40)), [(1, 40)]);
    assert_eq!(give(Verdict::Weight(0)), [(1, 0)]);
    assert_eq!(give(Verdict::Change(-2)), [(1, 3)]);
    assert_eq!(give(Verdict::Change(-2)), [(1, 3)]);
    assert_eq!(give(Verdict::Change(i64::MIN)), [(1, 0)]);
    assert_eq!(give(Verdict::Change(i64::MAX)), [(1, i32::MAX as u32)]);
    assert_eq!(give(Verdict::Passed(String::new())), [(1, 5)]);
    assert_eq!(give(Verdict::Failed(String::new())), []);
}

#[test]
fn a_check_with_a_weight_makes_lighter_and_kills_not() {
    let mut check = tcp(1, 0);
    check.weight = Some(-3);
    let mut rig = Rig::new(vec![virtual_server(vec![real(1, 5, vec![check])])]);
    rig.run_until(0, &[1]);
    assert_eq!(rig.weights(), [(1, 2)]);
    rig.run_until(12_000, &[]);
    assert_eq!(rig.weights(), [(1, 5)]);
}

#[test]
fn equal_checks_are_run_once() {
    let second = VirtualServer {
        ends: vec![Ends::of(service(443))],
        ..virtual_server(vec![real(1, 1, vec![tcp(1, 0)])])
    };
    let first = virtual_server(vec![real(1, 1, vec![tcp(1, 0)])]);
    let mut rig = Rig::new(vec![first, second]);
    assert_eq!(rig.run_until(0, &[1]), 1);
    assert_eq!(rig.weights(), []);
    assert_eq!(rig.monitor.view(0)[1].servers[0].checks[0].shared, 2);
}

#[test]
fn checks_are_spread_over_their_interval_and_never_overlap() {
    let servers = (1..=200).map(|last| real(last, 1, vec![tcp(last, 0)]));
    let mut rig = Rig::new(vec![virtual_server(servers.collect())]);
    // All begin at once, since the warm-up is 0; from then on they are spread.
    assert_eq!(rig.run_until(0, &[]), 200);
    rig.run_until(6_000, &[]);
    let each: Vec<usize> = (0..6)
        .map(|second| rig.run_until(6_000 + (second + 1) * 1_000, &[]))
        .collect();
    assert_eq!(each.iter().sum::<usize>(), 200);
    assert!(each.iter().all(|runs| (15..60).contains(runs)), "{each:?}");
    // One that takes longer than its interval is not begun a second time.
    let now_ms = rig.monitor.deadline_ms().unwrap();
    rig.monitor.start_due(now_ms);
    let started = rig.drain();
    rig.monitor.start_due(now_ms + 60_000);
    let others = rig.drain();
    assert!(started.iter().all(|id| !others.contains(id)));
    rig.monitor
        .finished(started[0], &Verdict::Passed(String::new()), now_ms + 60_000);
    assert_eq!(rig.monitor.checks[&started[0]].at_ms, now_ms + 60_000);
}

#[test]
fn a_reload_keeps_what_stays() {
    let two = || {
        virtual_server(vec![
            real(1, 1, vec![tcp(1, 0)]),
            real(2, 1, vec![tcp(2, 0)]),
        ])
    };
    let mut rig = Rig::new(vec![two()]);
    rig.run_until(6_000, &[2]);
    assert_eq!(rig.weights(), [(1, 1)]);
    rig.said();
    let before = rig.monitor.view(rig.now_ms);
    rig.configure(vec![two()], false);
    assert_eq!(rig.monitor.view(rig.now_ms), before);
    assert_eq!(rig.said(), [""; 0]);
    // Other times: the state stays. A new server that is not in the table is checked first.
    let mut slower = two();
    slower.servers[1].checks[0].timing.interval = Duration::from_mins(1);
    slower.servers.push(real(3, 1, vec![tcp(3, 0)]));
    rig.configure(vec![slower.clone()], false);
    assert_eq!(rig.weights(), [(1, 1)]);
    assert_eq!(rig.said(), ["stop 2"]);
    rig.run_until(rig.now_ms, &[2]);
    assert_eq!(rig.weights(), [(1, 1), (3, 1)]);
    rig.said();
    // Without its check the second lives; the first leaves.
    slower.servers[1].checks.clear();
    slower.servers.remove(0);
    rig.configure(vec![slower], false);
    assert_eq!(rig.weights(), [(2, 1), (3, 1)]);
    let said = rig.said().join("\n");
    assert!(
        said.contains(
            "192.168.1.1]:tcp:80 of virtual server [10.0.0.10]:tcp:80 - DOWN: => Removing <="
        ),
        "{said}"
    );
    assert!(
        said.contains("up | RS [192.168.1.2]:tcp:80 [10.0.0.10]:tcp:80 UP"),
        "{said}"
    );
}

#[test]
fn hands_count_until_the_next_reload() {
    let config = || {
        virtual_server(vec![
            real(1, 5, vec![tcp(1, 0)]),
            real(2, 5, vec![tcp(2, 0)]),
        ])
    };
    let mut rig = Rig::new(vec![config()]);
    rig.run_until(6_000, &[]);
    rig.monitor.by_hand(&Edit::EditServer {
        service: service(80),
        server: server(1),
        settings: ServerSettings::new(ForwardMethod::Masq, 0),
    });
    rig.monitor.by_hand(&Edit::DeleteServer {
        service: service(80),
        server: server(2),
    });
    rig.run_until(12_000, &[1, 2]);
    assert_eq!(rig.weights(), []);
    rig.run_until(18_000, &[]);
    assert_eq!(rig.weights(), [(1, 0)]);
    let view = rig.monitor.view(rig.now_ms);
    assert_eq!(view[0].servers[0].why, "weight 0 set by hand");
    assert_eq!(
        (view[0].servers[1].weight, view[0].servers[1].why.as_str()),
        (None, "deleted by hand")
    );
    rig.configure(vec![config()], true);
    assert_eq!(rig.weights(), [(1, 5), (2, 5)]);
}

#[test]
fn a_suspected_server_is_checked_at_once_but_not_again_and_again() {
    let mut rig = Rig::new(vec![virtual_server(vec![real(1, 1, vec![tcp(1, 0)])])]);
    rig.run_until(30_000, &[]);
    let next_ms = rig.monitor.deadline_ms().unwrap();
    assert!(next_ms > 30_000);
    rig.monitor.suspect(&server(1), 30_000);
    let soon_ms = rig.monitor.deadline_ms().unwrap();
    assert!(soon_ms <= next_ms && soon_ms <= 30_500, "{soon_ms}");
    assert_eq!(rig.run_until(soon_ms, &[1]), 1);
    assert_eq!(rig.weights(), []);
    rig.monitor.suspect(&server(1), soon_ms);
    assert!(
        rig.monitor.deadline_ms().unwrap() > soon_ms + 1_000,
        "it is dead already"
    );
}

#[test]
fn checks_rest_while_the_address_is_elsewhere() {
    let config = VirtualServer {
        ha_suspend: true,
        ..virtual_server(vec![real(1, 1, vec![tcp(1, 0)])])
    };
    let mut rig = Rig::new(vec![config]);
    assert_eq!(rig.run_until(60_000, &[1]), 0);
    assert_eq!(rig.weights(), [(1, 1)]);
    rig.monitor.set_addresses(vec![[10, 0, 0, 10].into()]);
    assert!(rig.run_until(120_000, &[1]) > 5);
    assert_eq!(rig.weights(), []);
}

#[test]
fn groups_have_their_servers_in_each_service() {
    let config = VirtualServer {
        group: Some("web".to_string()),
        ends: vec![Ends::of(service(80)), Ends::of(service(443))],
        ..virtual_server(vec![real(1, 1, vec![tcp(1, 0)])])
    };
    let mut rig = Rig::new(vec![config]);
    assert_eq!(rig.table.len(), 2);
    assert_eq!(rig.said(), ["quorum up | VS [web]:0 UP | "]);
    rig.run_until(0, &[1]);
    assert_eq!(rig.table.len(), 0);
}

#[test]
fn the_builtin_sorry_server_has_the_service_s_address() {
    let config = VirtualServer {
        sorry: Some(Sorry::Builtin { directory: None }),
        ..virtual_server(vec![real(1, 1, vec![tcp(1, 0)])])
    };
    let surroundings = Surroundings {
        builtin: vec![(None, 45_000)],
        ..Surroundings::default()
    };
    let empty = Monitor::new(1);
    let mut monitor = empty.reconfigured(vec![Arc::new(config)], surroundings, |_, _| false, 0);
    let services = monitor.services();
    let key = ServerKey {
        address: [10, 0, 0, 10].into(),
        port: 45_000,
    };
    let expected = [(key, ServerSettings::new(ForwardMethod::Masq, 1))];
    assert_eq!(services[0].servers, expected);
    monitor.begin(&empty, 0);
    assert!(monitor.view(0)[0].sorry_active);
}

#[test]
fn omega_tells_of_the_end() {
    let config = VirtualServer {
        omega: true,
        ..virtual_server(vec![real(1, 1, vec![])])
    };
    let rig = Rig::new(vec![config]);
    let news = rig.monitor.farewell();
    let lines: Vec<&str> = news.iter().map(|news| news.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "RS [192.168.1.1]:tcp:80 [10.0.0.10]:tcp:80 DOWN",
            "VS [10.0.0.10]:tcp:80 DOWN"
        ]
    );
    assert_eq!(news[0].mail.as_ref().unwrap().1, "=> Shutting down <=");
}

/// What may happen to a monitor.
#[derive(Clone, Debug)]
enum Event {
    Run(u64, u8),
    Configure(u8),
    Hand(u8, Option<u32>),
    Suspect(u8),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0u64..8_000, any::<u8>()).prop_map(|(ms, bad)| Event::Run(ms, bad)),
        1 => any::<u8>().prop_map(Event::Configure),
        1 => (1u8..5, proptest::option::of(0u32..3)).prop_map(|(last, weight)| Event::Hand(last, weight)),
        1 => (1u8..5).prop_map(Event::Suspect),
    ]
}

/// Configurations that differ in all that matters here, by the bits of a number.
fn variant(bits: u8) -> Vec<VirtualServer> {
    let is = |bit: u8| bits & 1 << bit != 0;
    let mut servers: Vec<RealServer> = (1..=3)
        .map(|last| {
            let mut server = real(last, u32::from(last), vec![tcp(last, u32::from(is(0)))]);
            server.inhibit = is(1);
            server.checks[0].starts_down = is(2);
            server
        })
        .collect();
    servers.truncate(if is(3) { 2 } else { 3 });
    let sorry = Sorry::Server {
        // One of the servers is the sorry server, too.
        key: server(if is(4) { 1 } else { 9 }),
        settings: ServerSettings::new(ForwardMethod::Masq, 7),
        inhibit: is(1),
    };
    let first = VirtualServer {
        quorum: Quorum {
            weight: 3,
            hysteresis: u32::from(is(5)),
        },
        sorry: is(6).then_some(sorry),
        ..virtual_server(servers)
    };
    let second = VirtualServer {
        group: Some("second".to_string()),
        ends: vec![Ends::of(service(443)), Ends::of(service(444))],
        ..virtual_server(vec![real(1, 1, vec![tcp(1, 0)])])
    };
    if is(7) {
        vec![first, second]
    } else {
        vec![first]
    }
}

proptest! {
    /// What is told step by step is what the table has as a whole, quorum and sorry server
    /// fit together, and nothing is run twice at a time or put off for ever.
    #[test]
    fn the_table_is_always_whole(
        first in any::<u8>(),
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let mut rig = Rig::new(variant(first));
        for event in events {
            match event {
                Event::Run(ms, bad) => {
                    let bad: Vec<u8> = (1..=4).filter(|last| bad & 1 << last != 0).collect();
                    rig.run_until(rig.now_ms + ms, &bad);
                }
                Event::Configure(bits) => rig.configure(variant(bits), bits & 1 == 0),
                Event::Hand(last, weight) => {
                    let key = (service(80), server(last));
                    if rig.table.contains_key(&key) {
                        let settings = weight.map(|it| ServerSettings::new(ForwardMethod::Masq, it));
                        let edit = match settings {
                            Some(settings) => Edit::EditServer { service: key.0, server: key.1, settings },
                            None => Edit::DeleteServer { service: key.0, server: key.1 },
                        };
                        rig.monitor.by_hand(&edit);
                        // Until its health changes the next time it is as it was made.
                        rig.configure_hands();
                    }
                }
                Event::Suspect(last) => rig.monitor.suspect(&server(last), rig.now_ms),
            }
            prop_assert_eq!(&rig.table, &rig.whole());
            for view in rig.monitor.view(rig.now_ms) {
                let living: u32 = view.servers.iter().filter(|it| it.alive).count() as u32;
                prop_assert!(!view.quorum_up || living > 0);
                prop_assert_eq!(view.sorry_active, view.sorry.is_some() && !view.quorum_up);
            }
            let deadline = rig.monitor.deadline_ms();
            prop_assert!(deadline.is_some_and(|at| at <= rig.now_ms + 6_000));
        }
    }
}
